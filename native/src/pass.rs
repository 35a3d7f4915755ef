//! What is passed over: the fields of a writer's schema that nobody asks for, as steps, equal neighbours joined.

use crate::cursor::Cursor;
use crate::tree::Type;

pub enum Pass {
    Bytes(usize),
    Numbers(u32),
    Sized,
    NullableBytes { null_tag: u8, size: usize, count: u32 },
    NullableNumber { null_tag: u8 },
    NullableSized { null_tag: u8 },
    Enum(usize),
    Array(Vec<Pass>),
    Map(Vec<Pass>),
    Union(Vec<Vec<Pass>>),
}

/// Add the steps of a type to those before it.
pub fn append(steps: &mut Vec<Pass>, kind: &Type) {
    match kind {
        Type::Null => {}
        Type::Record(fields) => fields.iter().for_each(|(_, field)| append(steps, field)),
        _ => join(steps, step(kind)),
    }
}

fn steps_of(kind: &Type) -> Vec<Pass> {
    let mut steps = Vec::new();
    append(&mut steps, kind);
    steps
}

/// Bytes of a value, where they are always as many.
fn fixed_size(kind: &Type) -> Option<usize> {
    match kind {
        Type::Null => Some(0),
        Type::Boolean => Some(1),
        Type::Float => Some(4),
        Type::Double => Some(8),
        Type::Fixed(size) => Some(*size),
        Type::Record(fields) => fields.iter().map(|(_, field)| fixed_size(field)).sum(),
        _ => None,
    }
}

fn step(kind: &Type) -> Pass {
    if let Some(size) = fixed_size(kind) {
        return Pass::Bytes(size);
    }
    if let Some((null_tag, other)) = kind.nullable() {
        if let Some(size) = fixed_size(other) {
            return Pass::NullableBytes { null_tag, size, count: 1 };
        }
        match other {
            Type::Int => return Pass::NullableNumber { null_tag },
            Type::Bytes | Type::Text => return Pass::NullableSized { null_tag },
            _ => {}
        }
    }
    match kind {
        Type::Int => Pass::Numbers(1),
        Type::Enum(symbols) => Pass::Enum(symbols.len()),
        Type::Array(items) => Pass::Array(steps_of(items)),
        Type::Map(values) => Pass::Map(steps_of(values)),
        Type::Union(branches) => Pass::Union(branches.iter().map(steps_of).collect()),
        _ => Pass::Sized, // bytes and text; all others were answered above
    }
}

fn join(steps: &mut Vec<Pass>, next: Pass) {
    match (steps.last_mut(), &next) {
        (Some(Pass::Bytes(size)), Pass::Bytes(more)) => *size = size.saturating_add(*more),
        (Some(Pass::Numbers(count)), Pass::Numbers(more)) => *count += more,
        (Some(Pass::NullableBytes { null_tag, size, count }), Pass::NullableBytes { null_tag: tag, size: same, .. })
            if null_tag == tag && size == same =>
        {
            *count += 1
        }
        _ => steps.push(next),
    }
}

/// Pass over what the steps stand for.
#[inline]
pub fn over(steps: &[Pass], cursor: &mut Cursor<'_>) -> Option<()> {
    for step in steps {
        match step {
            Pass::NullableBytes { null_tag, size, count } => match size {
                // The sizes that surveys use, so that the compiler knows them.
                4 => cursor.pass_nullable(*null_tag, 4, *count)?,
                8 => cursor.pass_nullable(*null_tag, 8, *count)?,
                1 => cursor.pass_nullable(*null_tag, 1, *count)?,
                size => cursor.pass_nullable(*null_tag, *size, *count)?,
            },
            Pass::NullableNumber { null_tag } => {
                if cursor.holds_value(*null_tag)? {
                    cursor.long()?;
                }
            }
            Pass::NullableSized { null_tag } => {
                if cursor.holds_value(*null_tag)? {
                    cursor.sized()?;
                }
            }
            Pass::Bytes(size) => {
                cursor.take(*size)?;
            }
            Pass::Numbers(count) => {
                for _ in 0..*count {
                    cursor.long()?;
                }
            }
            Pass::Sized => {
                cursor.sized()?;
            }
            rare => over_rare(rare, cursor)?,
        }
    }
    Some(())
}

fn over_rare(step: &Pass, cursor: &mut Cursor<'_>) -> Option<()> {
    match step {
        Pass::Enum(symbols) => {
            let symbol = usize::try_from(cursor.long()?).ok()?;
            (symbol < *symbols).then_some(())
        }
        Pass::Union(branches) => {
            let branch = usize::try_from(cursor.long()?).ok()?;
            over(branches.get(branch)?, cursor)
        }
        Pass::Array(items) => over_blocks(cursor, |cursor| over(items, cursor)),
        Pass::Map(values) => over_blocks(cursor, |cursor| {
            cursor.sized()?;
            over(values, cursor)
        }),
        _ => None, // the common ones are in `over`
    }
}

/// Blocks of an array or map. Ones that state their size in bytes (a negative count) are in doubt: the size may be a lie.
fn over_blocks<'a>(cursor: &mut Cursor<'a>, one: impl Fn(&mut Cursor<'a>) -> Option<()>) -> Option<()> {
    loop {
        let count = usize::try_from(cursor.long()?).ok()?;
        if count == 0 {
            return Some(());
        }
        // Items that take no bytes were refused with the schema (`schema_tree`), so the bytes end before the count does.
        for _ in 0..count {
            one(cursor)?;
        }
    }
}
