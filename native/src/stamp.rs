//! FITS bytes of a cutout to pixels, as `dgl_broker.stamps` reads them.

use libdeflater::Decompressor;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict};
use std::cell::RefCell;

const CARD: usize = 80;
const BLOCK: usize = 2880;
const MOST_HEADER: usize = 8 * BLOCK;
const GZIP_LEAST: usize = 18;

thread_local! {
    static INFLATER: RefCell<(Decompressor, Vec<u8>)> = RefCell::new((Decompressor::new(), Vec::new()));
}

/// What of a primary header matters here.
#[derive(Default)]
struct Header {
    bitpix: Option<f64>,
    axes: [Option<f64>; 3],
    scale: Option<f64>,
    zero: Option<f64>,
    /// Keywords of the world coordinates, in the order of `PLACE`.
    place: [Option<f64>; PLACE.len()],
    start: usize,
}

const PLACE: [&str; 12] = [
    "CRPIX1", "CRPIX2", "PC1_1", "PC1_2", "PC2_1", "PC2_2", "CD1_1", "CD1_2", "CD2_1", "CD2_2", "CDELT1", "CDELT2",
];

/// Pixels, mask, shape and geometry of a cutout; None where it is not a plain float32 image of sound size.
///
/// Gives (pixels, valid or None where all are, height, width, whether any pixel is not 0, {keyword: number}). Valid are pixels
/// below `max_pixel` in size; others are 0. All are multiplied by `scale`.
#[pyfunction]
pub fn stamp<'py>(
    py: Python<'py>,
    data: &Bound<'py, PyBytes>,
    max_bytes: usize,
    max_side: usize,
    max_pixel: f32,
    scale: f32,
) -> PyResult<Option<Found<'py>>> {
    let bytes = data.as_bytes();
    let units = Units { max_side, max_pixel, scale };
    if !bytes.starts_with(b"\x1f\x8b") {
        return if bytes.len() > max_bytes { Ok(None) } else { image(py, bytes, &units) };
    }
    INFLATER.with_borrow_mut(|(inflater, buffer)| match inflate(inflater, buffer, bytes, max_bytes) {
        Some(inflated) => image(py, inflated, &units),
        None => Ok(None),
    })
}

/// What pixels may be and become.
struct Units {
    max_side: usize,
    max_pixel: f32,
    scale: f32,
}

type Found<'py> = (Bound<'py, PyByteArray>, Option<Bound<'py, PyByteArray>>, usize, usize, bool, Bound<'py, PyDict>);

/// The content of one gzip member that states its size rightly, at most `max_bytes`; None for all else.
#[pyfunction]
pub fn gunzip<'py>(py: Python<'py>, data: &Bound<'py, PyBytes>, max_bytes: usize) -> Option<Bound<'py, PyBytes>> {
    INFLATER.with_borrow_mut(|(inflater, buffer)| {
        inflate(inflater, buffer, data.as_bytes(), max_bytes).map(|inflated| PyBytes::new(py, inflated))
    })
}

fn inflate<'a>(inflater: &mut Decompressor, buffer: &'a mut Vec<u8>, data: &[u8], max_bytes: usize) -> Option<&'a [u8]> {
    if data.len() < GZIP_LEAST {
        return None;
    }
    let size = u32::from_le_bytes(*data.last_chunk()?) as usize; // ISIZE, RFC 1952: a claim, held by the buffer's length
    if size == 0 || size > max_bytes {
        return None;
    }
    if buffer.len() < size {
        buffer.resize(size, 0);
    }
    let room = &mut buffer[..size];
    let written = inflater.gzip_decompress(data, room).ok()?;
    (written == size).then_some(&*room)
}

fn image<'py>(py: Python<'py>, data: &[u8], units: &Units) -> PyResult<Option<Found<'py>>> {
    let Some((header, width, height)) = plain_header(data, units.max_side) else { return Ok(None) };
    let Some(raw) = data.get(header.start..header.start + width * height * 4) else { return Ok(None) };
    let (mut sound, mut any) = (true, false);
    let pixels = PyByteArray::new_with(py, raw.len(), |out| {
        for (to, from) in out.as_chunks_mut::<4>().0.iter_mut().zip(raw.as_chunks::<4>().0) {
            let mut value = f32::from_be_bytes(*from);
            if !units.admits(value) {
                value = 0.0;
                sound = false;
            }
            any |= value != 0.0;
            *to = (value * units.scale).to_ne_bytes();
        }
        Ok(())
    })?;
    let valid = if sound { None } else { Some(mask(py, raw, units)?) };
    let place = PyDict::new(py);
    for (name, value) in PLACE.iter().zip(header.place) {
        if let Some(value) = value {
            place.set_item(name, value)?;
        }
    }
    Ok(Some((pixels, valid, height, width, any, place)))
}

impl Units {
    /// Whether a pixel is a measurement; NaN is none.
    #[inline(always)]
    fn admits(&self, value: f32) -> bool {
        value.abs() < self.max_pixel
    }
}

fn mask<'py>(py: Python<'py>, raw: &[u8], units: &Units) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, raw.len() / 4, |out| {
        for (to, from) in out.iter_mut().zip(raw.as_chunks::<4>().0) {
            *to = u8::from(units.admits(f32::from_be_bytes(*from)));
        }
        Ok(())
    })
}

/// The header of a float32 image without scaling, with its width and height; None for any other.
fn plain_header(data: &[u8], max_side: usize) -> Option<(Header, usize, usize)> {
    let header = read_header(data)?;
    let [axes, width, height] = header.axes;
    let plain = header.bitpix == Some(-32.0)
        && axes == Some(2.0)
        && header.scale.is_none_or(|scale| scale == 1.0)
        && header.zero.is_none_or(|zero| zero == 0.0);
    if !plain {
        return None;
    }
    Some((header, side(width?, max_side)?, side(height?, max_side)?))
}

fn side(value: f64, max_side: usize) -> Option<usize> {
    (value.fract() == 0.0 && value >= 1.0 && value <= max_side as f64).then_some(value as usize)
}

fn read_header(data: &[u8]) -> Option<Header> {
    if !data.starts_with(b"SIMPLE") {
        return None;
    }
    let mut header = Header::default();
    for (number, card) in data[..data.len().min(MOST_HEADER)].chunks_exact(CARD).enumerate() {
        let key = &card[..8];
        if key == b"END     " {
            header.start = (number * CARD / BLOCK + 1) * BLOCK;
            return Some(header);
        }
        if card[8] != b'=' {
            continue;
        }
        let slot = match key {
            b"BITPIX  " => &mut header.bitpix,
            b"NAXIS   " => &mut header.axes[0],
            b"NAXIS1  " => &mut header.axes[1],
            b"NAXIS2  " => &mut header.axes[2],
            b"BSCALE  " => &mut header.scale,
            b"BZERO   " => &mut header.zero,
            _ => match place_slot(key) {
                Some(place) => &mut header.place[place],
                None => continue,
            },
        };
        *slot = Some(number_of(&card[9..])?);
    }
    None
}

fn place_slot(key: &[u8]) -> Option<usize> {
    if key[0] != b'C' && key[0] != b'P' {
        return None;
    }
    let name = key.trim_ascii_end();
    PLACE.iter().position(|place| place.as_bytes() == name)
}

/// A number in plain free format (FITS standard 4.0, 4.2.4); other spellings are in doubt.
fn number_of(card: &[u8]) -> Option<f64> {
    let text = card.split(|&byte| byte == b'/').next()?.trim_ascii();
    if text.is_empty() || !text.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'E' | b'e')) {
        return None;
    }
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}
