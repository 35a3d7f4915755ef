//! A history: an array of rows whose fields become columns.

use crate::cursor::Cursor;
use crate::pass::{self, Pass};
use crate::tree::Type;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

/// Different texts of a column; bands and signs are a handful. More are left to Python.
const MOST_TEXTS: usize = 64;

#[derive(Clone, Copy, PartialEq)]
pub enum Kind {
    Boolean,
    Whole,
    Float,
    Double,
    Text,
}

struct Column {
    kind: Kind,
    null_tag: Option<u8>,
    /// What stands before the field.
    before: Vec<Pass>,
}

pub struct History {
    /// Where a row itself may be null: the tag of null.
    null_row_tag: Option<u8>,
    columns: Vec<Column>,
    after: Vec<Pass>,
    /// What Python makes of the columns: called with (n, words, nulls, texts, places).
    make: Py<PyAny>,
}

/// Columns of a history as they are filled: `rows` words a column, column by column.
struct Filled<'a> {
    words: Vec<u8>,
    nulls: Vec<u8>,
    texts: Vec<Vec<&'a str>>,
    rows: usize,
}

impl History {
    /// The plan of an array type of which `kept` names the fields that are read; None where rows are not plain enough.
    ///
    /// `maker` is called with the names and kinds of the columns and gives what is called with the columns of a packet.
    pub fn compile(items: &Type, kept: &Type, maker: &Bound<'_, PyAny>) -> PyResult<Option<History>> {
        let (null_row_tag, row, kept) = match (items.nullable(), kept.nullable()) {
            (Some((tag, row)), Some((_, kept))) => (Some(tag), row, kept),
            (None, None) => (None, items, kept),
            _ => return Ok(None),
        };
        let (Type::Record(fields), Type::Record(kept)) = (row, kept) else { return Ok(None) };
        let (mut columns, mut names, mut before) = (Vec::new(), Vec::new(), Vec::new());
        for (name, field) in fields {
            if !kept.iter().any(|(wanted, _)| wanted == name) {
                pass::append(&mut before, field);
                continue;
            }
            let (null_tag, plain) = field.nullable().map_or((None, field), |(tag, other)| (Some(tag), other));
            let (kind, code) = match plain {
                Type::Boolean => (Kind::Boolean, "boolean"),
                Type::Int => (Kind::Whole, "whole"),
                Type::Float => (Kind::Float, "number"),
                Type::Double => (Kind::Double, "number"),
                Type::Text => (Kind::Text, "text"),
                _ => return Ok(None),
            };
            names.push((name.as_str(), code));
            columns.push(Column { kind, null_tag, before: std::mem::take(&mut before) });
        }
        let make = maker.call1((PyTuple::new(maker.py(), names)?,))?.unbind();
        Ok(Some(History { null_row_tag, columns, after: before, make }))
    }

    /// One history; `Ok(None)` where its bytes are in doubt, or it has more than `most_rows`.
    pub fn read<'py>(&self, py: Python<'py>, cursor: &mut Cursor<'_>, most_rows: usize) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some((filled, places)) = self.fill(cursor, most_rows) else { return Ok(None) };
        let texts = PyTuple::new(py, filled.texts.iter().map(|found| shared_texts(py, found)).collect::<PyResult<Vec<_>>>()?)?;
        let words = PyBytes::new(py, &filled.words);
        let nulls = PyBytes::new(py, &filled.nulls);
        let places = places.map(|places| PyBytes::new(py, &places));
        self.make.bind(py).call1((filled.rows, words, nulls, texts, places)).map(Some)
    }

    fn fill<'a>(&self, cursor: &mut Cursor<'a>, most_rows: usize) -> Option<(Filled<'a>, Option<Vec<u8>>)> {
        let n_texts = self.columns.iter().filter(|column| column.kind == Kind::Text).count();
        let declared = usize::try_from(cursor.long()?).ok()?;
        if declared > most_rows || declared > cursor.left() {
            return None;
        }
        let n_columns = self.columns.len();
        let mut filled = Filled {
            words: vec![0; declared * n_columns * 8],
            nulls: vec![0; declared * n_columns],
            texts: vec![Vec::new(); n_texts],
            rows: declared,
        };
        if declared == 0 {
            return Some((filled, None));
        }
        let mut places = self.null_row_tag.map(|_| vec![0u8; declared]);
        let mut row = 0;
        for place in 0..declared {
            if let (Some(tag), Some(places)) = (self.null_row_tag, places.as_mut()) {
                if !cursor.holds_value(tag)? {
                    continue;
                }
                places[place] = 1;
            }
            self.row(cursor, &mut filled, row)?;
            row += 1;
        }
        if cursor.long()? != 0 {
            return None; // a second block: no survey writes one
        }
        if row < declared {
            filled = filled.cut(row, n_columns);
        } else {
            places = None;
        }
        Some((filled, places))
    }

    #[inline]
    fn row<'a>(&self, cursor: &mut Cursor<'a>, filled: &mut Filled<'a>, row: usize) -> Option<()> {
        let mut slot = row;
        let mut text = 0;
        for column in &self.columns {
            pass::over(&column.before, cursor)?;
            let there = match column.null_tag {
                Some(tag) => cursor.holds_value(tag)?,
                None => true,
            };
            if there {
                let word = match column.kind {
                    Kind::Float => f64::from(cursor.float()?).to_bits(),
                    Kind::Double => cursor.double()?.to_bits(),
                    Kind::Whole => cursor.long()? as u64,
                    Kind::Boolean => u64::from(cursor.boolean()?),
                    Kind::Text => text_code(&mut filled.texts[text], cursor.sized()?)?,
                };
                filled.words[slot * 8..slot * 8 + 8].copy_from_slice(&word.to_ne_bytes());
            } else {
                filled.nulls[slot] = 1;
                if matches!(column.kind, Kind::Float | Kind::Double) {
                    filled.words[slot * 8..slot * 8 + 8].copy_from_slice(&f64::NAN.to_bits().to_ne_bytes());
                }
            }
            text += usize::from(column.kind == Kind::Text);
            slot += filled.rows;
        }
        pass::over(&self.after, cursor)
    }
}

impl Filled<'_> {
    /// The first `rows` of each column: fewer rows are there than places.
    fn cut(mut self, rows: usize, n_columns: usize) -> Self {
        let by_column = |values: &[u8], width: usize| -> Vec<u8> {
            let (from, to) = (self.rows * width, rows * width);
            (0..n_columns).flat_map(|column| values[column * from..column * from + to].to_vec()).collect()
        };
        self.words = by_column(&self.words, 8);
        self.nulls = by_column(&self.nulls, 1);
        self.rows = rows;
        self
    }
}

/// The number of a text in its column's list, which it joins where it is new.
#[inline]
fn text_code<'a>(texts: &mut Vec<&'a str>, bytes: &'a [u8]) -> Option<u64> {
    if let Some(known) = texts.iter().position(|text| text.as_bytes() == bytes) {
        return Some(known as u64);
    }
    if texts.len() == MOST_TEXTS {
        return None;
    }
    texts.push(std::str::from_utf8(bytes).ok()?);
    Some(texts.len() as u64 - 1)
}

fn shared_texts<'py>(py: Python<'py>, texts: &[&str]) -> PyResult<Bound<'py, PyTuple>> {
    PyTuple::new(py, texts.iter().map(|text| PyString::new(py, text)))
}
