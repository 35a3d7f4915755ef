//! The order of light curves' rows, as `dgl_broker.surveys.history` defines it.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use std::cmp::Ordering;

/// Columns of all rows; those of one light curve stand together, its trigger first.
struct Rows<'a> {
    mjd: &'a [f64],
    flux: &'a [f64],
    err: &'a [f64],
    band: &'a [i64],
    kind: &'a [i64],
    exposure: &'a [i64],
    detector: &'a [i64],
}

/// Rows of each light curve without repetitions of an exposure, sorted by time.
///
/// `numbers` float64 (5, n) and `labels` int64 (4, n) as `Rows` has them in Python, `ends` int64: where each light curve ends.
/// Gives the rows in their order, and where each light curve ends then, as int64.
#[pyfunction]
pub fn light_curve_order<'py>(
    py: Python<'py>,
    numbers: PyBuffer<f64>,
    labels: PyBuffer<i64>,
    ends: PyBuffer<i64>,
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let (numbers, labels, ends) = (numbers.to_vec(py)?, labels.to_vec(py)?, ends.to_vec(py)?);
    let n = labels.len() / 4;
    let fits = numbers.len() == 5 * n && labels.len() == 4 * n && ends.last().is_none_or(|&last| last as usize == n);
    if !fits || !ends.is_sorted() || ends.first().is_some_and(|&first| first < 0) {
        return Err(PyValueError::new_err("columns of different lengths"));
    }
    let number = |row: usize| &numbers[row * n..(row + 1) * n];
    let label = |row: usize| &labels[row * n..(row + 1) * n];
    let rows = Rows {
        mjd: number(0),
        flux: number(1),
        err: number(2),
        band: label(0),
        kind: label(1),
        exposure: label(2),
        detector: label(3),
    };
    let (mut order, mut new_ends, mut start) = (Vec::with_capacity(n), Vec::with_capacity(ends.len()), 0);
    for end in ends.into_iter().map(|end| end as usize) {
        rows.append(start..end, &mut order);
        new_ends.push(order.len() as u64);
        start = end;
    }
    Ok((as_bytes(py, &order)?, as_bytes(py, &new_ends)?))
}

impl Rows<'_> {
    fn append(&self, which: std::ops::Range<usize>, order: &mut Vec<u64>) {
        let trigger = which.start;
        let mut rows: Vec<usize> = which.collect();
        rows.sort_by(|&a, &b| self.exposure_of(a).cmp(&self.exposure_of(b)).then_with(|| self.better(a, b, trigger)));
        rows.dedup_by_key(|row| self.exposure_of(*row));
        rows.sort_by(|&a, &b| self.earlier(a, b, trigger));
        order.extend(rows.into_iter().map(|row| row as u64));
    }

    fn exposure_of(&self, row: usize) -> (i64, i64) {
        (self.exposure[row], self.detector[row])
    }

    /// Of rows of one exposure the trigger wins, then by kind, then the more significant.
    fn better(&self, a: usize, b: usize, trigger: usize) -> Ordering {
        let significance = |row: usize| -self.flux[row].abs() / self.err[row];
        (a != trigger)
            .cmp(&(b != trigger))
            .then_with(|| self.kind[a].cmp(&self.kind[b]))
            .then_with(|| compare(significance(a), significance(b)))
            .then_with(|| compare(self.flux[a], self.flux[b]))
    }

    /// By time; the trigger is the last of its time, and rows at one time keep one order, however they came.
    fn earlier(&self, a: usize, b: usize, trigger: usize) -> Ordering {
        compare(self.mjd[a], self.mjd[b])
            .then_with(|| (a == trigger).cmp(&(b == trigger)))
            .then_with(|| self.kind[a].cmp(&self.kind[b]))
            .then_with(|| self.band[a].cmp(&self.band[b]))
            .then_with(|| compare(self.flux[a], self.flux[b]))
    }
}

/// Numbers in their order, whatever they are: 0 and -0 are the same.
fn compare(a: f64, b: f64) -> Ordering {
    (a + 0.0).total_cmp(&(b + 0.0))
}

fn as_bytes<'py>(py: Python<'py>, values: &[u64]) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, values.len() * 8, |out| {
        for (to, from) in out.as_chunks_mut::<8>().0.iter_mut().zip(values) {
            *to = from.to_ne_bytes();
        }
        Ok(())
    })
}
