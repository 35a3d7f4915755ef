//! A writer's schema compiled: which fields are passed over and which become Python values or columns.

use crate::cursor::Cursor;
use crate::history::History;
use crate::pass::{self, Pass};
use crate::tree::Type;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyString};

/// A field that is read.
enum Value {
    Null,
    Boolean,
    Whole,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<Py<PyString>>),
    Nullable(u8, Box<Value>),
    Struct(Fields),
    History(History),
}

struct Fields {
    kept: Vec<Field>,
    after: Vec<Pass>,
}

struct Field {
    before: Vec<Pass>,
    name: Py<PyString>,
    value: Value,
}

/// One schema, or the leading part of one, with the fields that are read of it.
#[pyclass(frozen, module = "dgl_broker._native")]
pub struct Program {
    fields: Fields,
}

/// Upper bounds on what one record unpacks to; beyond one it is in doubt.
struct Limits {
    rows: usize,
    text: usize,
}

#[pymethods]
impl Program {
    /// The program of a writer's tree of which `kept` names the fields that are read; None where it is not plain enough.
    #[staticmethod]
    fn compile(tree: &Bound<'_, PyAny>, kept: &Bound<'_, PyAny>, history: &Bound<'_, PyAny>) -> PyResult<Option<Program>> {
        // Odd schemas (names that are no UTF-8, sizes beyond the machine's) are left to Python, which takes them as they are.
        let (Ok(tree), Ok(Type::Record(kept))) = (Type::from_python(tree), Type::from_python(kept)) else { return Ok(None) };
        Ok(Fields::compile(&tree, &kept, history)?.map(|fields| Program { fields }))
    }

    /// (record, position behind it) of bytes from `start` to `stop`; None where the bytes are in doubt.
    ///
    /// A history has at most `rows` rows and a text at most `text` bytes.
    fn read<'py>(
        &self,
        py: Python<'py>,
        data: &Bound<'py, PyBytes>,
        start: usize,
        stop: usize,
        rows: usize,
        text: usize,
    ) -> PyResult<Option<(Bound<'py, PyDict>, usize)>> {
        let Some(bytes) = data.as_bytes().get(start..stop) else { return Ok(None) };
        let mut cursor = Cursor::new(bytes);
        let record = self.fields.read(py, &mut cursor, &Limits { rows, text })?;
        Ok(record.map(|record| (record, stop - cursor.left())))
    }
}

impl Fields {
    fn compile(tree: &Type, kept: &[(String, Type)], history: &Bound<'_, PyAny>) -> PyResult<Option<Fields>> {
        let Type::Record(fields) = tree else { return Ok(None) };
        let mut found = Fields { kept: Vec::new(), after: Vec::new() };
        for (name, field) in fields {
            let Some((_, wanted)) = kept.iter().find(|(wanted, _)| wanted == name) else {
                pass::append(&mut found.after, field);
                continue;
            };
            let Some(value) = Value::compile(field, wanted, history)? else { return Ok(None) };
            let name = PyString::intern(history.py(), name).unbind();
            found.kept.push(Field { before: std::mem::take(&mut found.after), name, value });
        }
        Ok(Some(found))
    }
}

impl Value {
    fn compile(kind: &Type, kept: &Type, history: &Bound<'_, PyAny>) -> PyResult<Option<Value>> {
        Ok(Some(match (kind, kept) {
            (Type::Null, Type::Null) => Value::Null,
            (Type::Boolean, Type::Boolean) => Value::Boolean,
            (Type::Int, Type::Int) => Value::Whole,
            (Type::Float, Type::Float) => Value::Float,
            (Type::Double, Type::Double) => Value::Double,
            (Type::Bytes, Type::Bytes) => Value::Bytes,
            (Type::Text, Type::Text) => Value::Text,
            (Type::Fixed(size), Type::Fixed(_)) => Value::Fixed(*size),
            (Type::Enum(symbols), Type::Enum(_)) => {
                Value::Enum(symbols.iter().map(|symbol| PyString::intern(history.py(), symbol).unbind()).collect())
            }
            (Type::Record(_), Type::Record(kept)) => match Fields::compile(kind, kept, history)? {
                Some(fields) => Value::Struct(fields),
                None => return Ok(None),
            },
            (Type::Array(items), Type::Array(kept)) => match History::compile(items, kept, history)? {
                Some(found) => Value::History(found),
                None => return Ok(None),
            },
            (Type::Union(_), Type::Union(_)) => match (kind.nullable(), kept.nullable()) {
                (Some((tag, other)), Some((_, kept))) => match Value::compile(other, kept, history)? {
                    Some(value) => Value::Nullable(tag, Box::new(value)),
                    None => return Ok(None),
                },
                _ => return Ok(None),
            },
            _ => return Ok(None),
        }))
    }
}

impl Fields {
    fn read<'py>(&self, py: Python<'py>, cursor: &mut Cursor<'_>, limits: &Limits) -> PyResult<Option<Bound<'py, PyDict>>> {
        let record = PyDict::new(py);
        for field in &self.kept {
            if pass::over(&field.before, cursor).is_none() {
                return Ok(None);
            }
            let Some(value) = field.value.read(py, cursor, limits)? else { return Ok(None) };
            record.set_item(field.name.bind(py), value)?;
        }
        Ok(pass::over(&self.after, cursor).map(|()| record))
    }
}

impl Value {
    fn read<'py>(&self, py: Python<'py>, cursor: &mut Cursor<'_>, limits: &Limits) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(match self {
            Value::Struct(fields) => fields.read(py, cursor, limits)?.map(Bound::into_any),
            Value::History(history) => history.read(py, cursor, limits.rows)?,
            Value::Nullable(tag, other) => match cursor.holds_value(*tag) {
                Some(true) => other.read(py, cursor, limits)?,
                Some(false) => Some(py.None().into_bound(py)),
                None => None,
            },
            Value::Null => Some(py.None().into_bound(py)),
            Value::Boolean => cursor.boolean().map(|truth| PyBool::new(py, truth).to_owned().into_any()),
            Value::Whole => cursor.long().map(|number| PyInt::new(py, number).into_any()),
            Value::Float => cursor.float().map(|number| PyFloat::new(py, number.into()).into_any()),
            Value::Double => cursor.double().map(|number| PyFloat::new(py, number).into_any()),
            Value::Bytes => cursor.sized().map(|bytes| PyBytes::new(py, bytes).into_any()),
            Value::Fixed(size) => cursor.take(*size).map(|bytes| PyBytes::new(py, bytes).into_any()),
            Value::Text => text(cursor, limits.text).map(|text| PyString::new(py, text).into_any()),
            Value::Enum(symbols) => symbol(symbols, cursor).map(|text| text.bind(py).clone().into_any()),
        })
    }
}

fn text<'a>(cursor: &mut Cursor<'a>, most: usize) -> Option<&'a str> {
    let bytes = cursor.sized()?;
    if bytes.len() > most { None } else { std::str::from_utf8(bytes).ok() }
}

fn symbol<'a>(symbols: &'a [Py<PyString>], cursor: &mut Cursor<'_>) -> Option<&'a Py<PyString>> {
    symbols.get(usize::try_from(cursor.long()?).ok()?)
}
