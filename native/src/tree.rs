//! A writer's schema as `dgl_broker.wire.schema_tree` makes it plain: named types written out, recursion refused.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyString};

pub enum Type {
    Null,
    Boolean,
    Int,
    Float,
    Double,
    Bytes,
    Text,
    Fixed(usize),
    Enum(Vec<String>),
    Array(Box<Type>),
    Map(Box<Type>),
    Union(Vec<Type>),
    Record(Vec<(String, Type)>),
}

impl Type {
    /// The type that a tree of Python objects stands for.
    pub fn from_python(tree: &Bound<'_, PyAny>) -> PyResult<Type> {
        if let Ok(branches) = tree.cast::<PyList>() {
            return Ok(Type::Union(many(branches)?));
        }
        if let Ok(name) = tree.cast::<PyString>() {
            return primitive(&name.to_cow()?);
        }
        let tree = tree.cast::<PyDict>()?;
        let kind: String = item(tree, "type")?.extract()?;
        match kind.as_str() {
            "record" => record(item(tree, "fields")?.cast::<PyList>()?),
            "array" => Ok(Type::Array(Box::new(Type::from_python(&item(tree, "items")?)?))),
            "map" => Ok(Type::Map(Box::new(Type::from_python(&item(tree, "values")?)?))),
            "enum" => Ok(Type::Enum(item(tree, "symbols")?.extract()?)),
            "fixed" => Ok(Type::Fixed(item(tree, "size")?.extract()?)),
            _ => primitive(&kind),
        }
    }

    /// Of a union of null with one other type: the tag of null as it stands in the bytes, and the other type.
    pub fn nullable(&self) -> Option<(u8, &Type)> {
        match self {
            Type::Union(branches) => match branches.as_slice() {
                [Type::Null, other] if !matches!(other, Type::Null) => Some((0, other)),
                [other, Type::Null] if !matches!(other, Type::Null) => Some((2, other)),
                _ => None,
            },
            _ => None,
        }
    }
}

fn primitive(name: &str) -> PyResult<Type> {
    Ok(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" | "long" => Type::Int,
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes,
        "string" => Type::Text,
        _ => return Err(PyValueError::new_err(format!("type {name:?}"))),
    })
}

fn many(branches: &Bound<'_, PyList>) -> PyResult<Vec<Type>> {
    branches.iter().map(|branch| Type::from_python(&branch)).collect()
}

fn record(fields: &Bound<'_, PyList>) -> PyResult<Type> {
    let of_field = |field: Bound<'_, PyAny>| {
        let field = field.cast_into::<PyDict>()?;
        Ok((item(&field, "name")?.extract()?, Type::from_python(&item(&field, "type")?)?))
    };
    fields.iter().map(of_field).collect::<PyResult<_>>().map(Type::Record)
}

fn item<'py>(tree: &Bound<'py, PyDict>, key: &str) -> PyResult<Bound<'py, PyAny>> {
    tree.get_item(key)?.ok_or_else(|| PyValueError::new_err(format!("no {key}")))
}
