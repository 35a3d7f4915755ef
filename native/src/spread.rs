//! Median and median absolute deviation of float32 pixels, as `dgl_broker.stamp_quality` takes them.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

/// (median, median of the distances from it) of finite values; of an even number the mean of the two in the middle.
#[pyfunction]
pub fn level_and_spread(py: Python<'_>, values: PyBuffer<f32>) -> PyResult<(f32, f32)> {
    let mut values = values.to_vec(py)?;
    if values.is_empty() {
        return Err(PyValueError::new_err("no values"));
    }
    let level = median(&mut values);
    values.iter_mut().for_each(|value| *value = (*value - level).abs());
    Ok((level, median(&mut values)))
}

fn median(values: &mut [f32]) -> f32 {
    let (count, middle) = (values.len(), values.len() / 2);
    let (lower, &mut above, _) = values.select_nth_unstable_by(middle, f32::total_cmp);
    if count % 2 == 1 {
        return above + 0.0; // -0 as 0, which one of several zeros it is being chance
    }
    let below = lower.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    (below + above) / 2.0 + 0.0
}
