//! Columns of a history as float64, as `dgl_broker.wire.histories` has them.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes};

/// Columns of `rows` numbers one after the other, NaN for null.
///
/// `words` and `nulls` are the columns of all fields; `plan` says of each wanted column where it stands (-1: nowhere, NaN
/// throughout) and whether it is of whole numbers. Numbers nearer to zero than `least` become 0, those beyond `greatest` NaN.
#[pyfunction]
pub fn numbers<'py>(
    py: Python<'py>,
    words: &Bound<'py, PyBytes>,
    nulls: &Bound<'py, PyBytes>,
    rows: usize,
    plan: Vec<(isize, bool)>,
    least: f64,
    greatest: f64,
) -> PyResult<Bound<'py, PyByteArray>> {
    let (words, nulls) = (words.as_bytes().as_chunks::<8>().0, nulls.as_bytes());
    let other = || PyValueError::new_err("columns of different lengths");
    let size = plan.len().checked_mul(rows).and_then(|count| count.checked_mul(8)).ok_or_else(other)?;
    PyByteArray::new_with(py, size, |out| {
        let out = out.as_chunks_mut::<8>().0;
        for (to, &(place, whole)) in out.chunks_exact_mut(rows.max(1)).zip(&plan) {
            let Ok(place) = usize::try_from(place) else {
                to.fill(f64::NAN.to_ne_bytes());
                continue;
            };
            let start = place.checked_mul(rows).ok_or_else(other)?;
            let words = words.get(start..start.saturating_add(rows)).ok_or_else(other)?;
            let nulls = nulls.get(start..start.saturating_add(rows)).ok_or_else(other)?;
            for ((to, word), null) in to.iter_mut().zip(words).zip(nulls) {
                let value = match (whole, *null != 0) {
                    (false, _) => f64::from_ne_bytes(*word), // NaN where null
                    (true, false) => i64::from_ne_bytes(*word) as f64,
                    (true, true) => f64::NAN,
                };
                let size = value.abs();
                *to = if size > greatest {
                    f64::NAN
                } else if size < least {
                    0.0
                } else {
                    value
                }
                .to_ne_bytes();
            }
        }
        Ok(())
    })
}
