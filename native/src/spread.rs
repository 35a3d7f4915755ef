//! Median and median absolute deviation of float32 pixels, as `dgl_broker.stamp_quality` takes them.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

const EDGE: usize = 2; // px
const FEW: usize = 16;

/// (median, median of the distances from it) of finite values; of an even number the mean of the two in the middle.
#[pyfunction]
pub fn level_and_spread(py: Python<'_>, values: PyBuffer<f32>) -> PyResult<(f32, f32)> {
    of(values.to_vec(py)?)
}

/// The same of a stamp's outermost two pixels that are valid, or of all valid ones where those are fewer than 16.
#[pyfunction]
pub fn ring_level_and_spread(py: Python<'_>, pixels: PyBuffer<f32>, valid: PyBuffer<u8>) -> PyResult<(f32, f32)> {
    let &[height, width] = pixels.shape() else { return Err(PyValueError::new_err("a stamp has two axes")) };
    let (pixels, valid) = (pixels.to_vec(py)?, valid.to_vec(py)?);
    if valid.len() != pixels.len() {
        return Err(PyValueError::new_err("arrays of different shapes"));
    }
    let mut ring = Vec::with_capacity(4 * (height + width));
    let mut add = |which: std::ops::Range<usize>| {
        ring.extend(pixels[which.clone()].iter().zip(&valid[which]).filter(|(_, valid)| **valid != 0).map(|(pixel, _)| *pixel));
    };
    for row in 0..height {
        let (from, to) = (row * width, (row + 1) * width);
        if row < EDGE || row + EDGE >= height || width <= 2 * EDGE {
            add(from..to);
        } else {
            add(from..from + EDGE);
            add(to - EDGE..to);
        }
    }
    if ring.len() < FEW {
        ring.clear();
        ring.extend(pixels.iter().zip(&valid).filter(|(_, valid)| **valid != 0).map(|(pixel, _)| *pixel));
    }
    of(ring)
}

fn of(values: Vec<f32>) -> PyResult<(f32, f32)> {
    if values.is_empty() {
        return Err(PyValueError::new_err("no values"));
    }
    let mut keys: Vec<i32> = values.iter().map(|value| key(*value)).collect();
    let level = median(&mut keys);
    for (key_of, value) in keys.iter_mut().zip(&values) {
        *key_of = key((*value - level).abs());
    }
    Ok((level, median(&mut keys)))
}

/// A number's bits as a whole number of the same order, which is twice as fast to compare; twice it is the bits again.
fn key(value: f32) -> i32 {
    turned(value.to_bits() as i32)
}

fn turned(bits: i32) -> i32 {
    bits ^ ((bits >> 31) as u32 >> 1) as i32
}

fn median(keys: &mut [i32]) -> f32 {
    let number = |key: i32| f32::from_bits(turned(key) as u32);
    let (count, middle) = (keys.len(), keys.len() / 2);
    let (lower, &mut above, _) = keys.select_nth_unstable(middle);
    if count % 2 == 1 {
        return number(above) + 0.0; // -0 as 0, which one of several zeros it is being chance
    }
    let below = lower.iter().copied().max().unwrap_or(above);
    (number(below) + number(above)) / 2.0 + 0.0
}
