//! Bytes that are read or passed over, never beyond their end.
//!
//! Everything here gives `None` on bytes that are not plainly what the schema says. That is no verdict: the record is then
//! decoded in Python, whose outcome counts. What is accepted here must be accepted there with the same value, never more.

/// A writer puts the longest number into ten bytes.
const LONGEST_NUMBER: usize = 10;

pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(data: &'a [u8]) -> Self {
        Cursor { rest: data }
    }

    /// How many bytes are left.
    pub fn left(&self) -> usize {
        self.rest.len()
    }

    #[inline(always)]
    pub fn take(&mut self, size: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(size)?;
        self.rest = rest;
        Some(taken)
    }

    #[inline(always)]
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    #[inline(always)]
    pub fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(byte)
    }

    #[inline(always)]
    pub fn float(&mut self) -> Option<f32> {
        self.array().map(f32::from_le_bytes)
    }

    #[inline(always)]
    pub fn double(&mut self) -> Option<f64> {
        self.array().map(f64::from_le_bytes)
    }

    /// A truth value; bytes other than 0 and 1 are in doubt.
    #[inline(always)]
    pub fn boolean(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    /// A zigzag base-128 number of at most 64 bits.
    #[inline(always)]
    pub fn long(&mut self) -> Option<i64> {
        let first = self.byte()?;
        let mut value = u64::from(first & 0x7f);
        if first >= 0x80 {
            value = self.rest_of_long(value)?;
        }
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    fn rest_of_long(&mut self, mut value: u64) -> Option<u64> {
        for place in 1..LONGEST_NUMBER {
            let byte = self.byte()?;
            if place == LONGEST_NUMBER - 1 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 0x7f) << (7 * place);
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// Bytes behind their own length; a negative length is in doubt.
    #[inline(always)]
    pub fn sized(&mut self) -> Option<&'a [u8]> {
        let size = usize::try_from(self.long()?).ok()?;
        self.take(size)
    }

    /// Pass over `count` unions of null with a value of `size` bytes.
    #[inline(always)]
    pub fn pass_nullable(&mut self, null_tag: u8, size: usize, count: u32) -> Option<()> {
        let mut rest = self.rest;
        for _ in 0..count {
            let (&tag, tail) = rest.split_first()?;
            rest = if tag == null_tag {
                tail
            } else if tag == 2 - null_tag {
                tail.get(size..)?
            } else {
                return None;
            };
        }
        self.rest = rest;
        Some(())
    }

    /// Whether a union of null with one other type holds the other; its tag is read.
    #[inline(always)]
    pub fn holds_value(&mut self, null_tag: u8) -> Option<bool> {
        match self.byte()? {
            tag if tag == null_tag => Some(false),
            tag if tag == 2 - null_tag => Some(true),
            _ => None,
        }
    }
}
