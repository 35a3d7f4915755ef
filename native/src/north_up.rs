//! Stamps onto a north-up grid, with the arithmetic of `dgl_broker.north_up` step by step, so that every bit is the same.

use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;

const KEYS_A: f64 = -0.5; // cubic convolution, Keys 1981
const SOUND: f32 = 0.1;
const NO_WEIGHT: f32 = 1e-6;

/// Where a grid pixel falls along one axis of a stamp: its four samples there.
#[derive(Clone, Copy, Default)]
struct Taps {
    at: [u32; 4],
    weight: [f32; 4],
    sum: f32,
    inside: bool,
}

impl Taps {
    #[inline(always)]
    fn of(place: f64, size: usize) -> Taps {
        let first = floor(place + 1e-6); // a grid that coincides with the stamp's must not lose pixels to rounding
        let t = (place - first).clamp(0.0, 1.0);
        let s = 1.0 - t;
        let a = KEYS_A;
        let mut weight = [
            (a * t * s * s) as f32,
            (1.0 + t * t * ((a + 2.0) * t - (a + 3.0))) as f32,
            (1.0 + s * s * ((a + 2.0) * s - (a + 3.0))) as f32,
            (a * s * t * t) as f32,
        ];
        let mut at = [0; 4];
        let last = size as i32 - 1;
        for tap in 0..4 {
            let sample = first as i32 + tap as i32 - 1;
            if sample < 0 || sample > last {
                weight[tap] = 0.0;
            }
            at[tap] = sample.clamp(0, last) as u32;
        }
        let sum = weight[0] + weight[1] + weight[2] + weight[3];
        Taps { at, weight, sum, inside: (sum - 1.0).abs() < SOUND }
    }
}

/// The greatest whole number not above a number of moderate size; `f64::floor` is a call on older processors.
#[inline(always)]
fn floor(value: f64) -> f64 {
    let whole = f64::from(value as i32);
    if whole > value { whole - 1.0 } else { whole }
}

/// One plane of a stamp.
struct Plane<'a> {
    pixels: &'a [f32],
    valid: &'a [u8],
    width: usize,
}

/// The grid of a batch, and the stamps' shape.
struct Grid {
    offsets: Vec<f64>,
    height: usize,
    width: usize,
}

/// Resample stamps of one shape: see `dgl_broker.north_up.place_north_up`.
///
/// `pixels` float32 and `valid` uint8 of shape (n, planes, height, width); `geometry` float64 (n, 7): the inverse matrix row by
/// row, the origin, the ratio of pixel areas. Gives the planes and where they are valid, (n, planes, side * side).
#[pyfunction]
pub fn place_north_up<'py>(
    py: Python<'py>,
    pixels: PyBuffer<f32>,
    valid: PyBuffer<u8>,
    geometry: PyBuffer<f64>,
    shape: (usize, usize, usize, usize),
    side: usize,
    pixel_scale_arcsec: f64,
) -> PyResult<(Bound<'py, PyByteArray>, Bound<'py, PyByteArray>)> {
    let (n, planes, height, width) = shape;
    let size = height * width;
    let (pixels, valid, geometry) = (pixels.to_vec(py)?, valid.to_vec(py)?, geometry.to_vec(py)?);
    if pixels.len() != n * planes * size || valid.len() != pixels.len() || geometry.len() != n * 7 || size == 0 {
        return Err(PyValueError::new_err("arrays of other shapes than stated"));
    }
    let middle = (side as f64 - 1.0) / 2.0;
    let grid = Grid { offsets: (0..side).map(|i| (i as f64 - middle) * pixel_scale_arcsec).collect(), height, width };
    let mut placed = vec![0.0f32; n * planes * side * side];
    let mut sound = vec![0u8; placed.len()];
    let mut taps = vec![(Taps::default(), Taps::default()); side * side];
    for stamp in 0..n {
        let place = &geometry[stamp * 7..stamp * 7 + 7];
        grid.find_taps(place, &mut taps);
        for plane in stamp * planes..(stamp + 1) * planes {
            let from = Plane { pixels: &pixels[plane * size..][..size], valid: &valid[plane * size..][..size], width };
            let to = plane * side * side..(plane + 1) * side * side;
            from.place(&taps, place[6] as f32, &mut placed[to.clone()], &mut sound[to]);
        }
    }
    Ok((as_bytes(py, &placed)?, PyByteArray::new(py, &sound)))
}

fn as_bytes<'py>(py: Python<'py>, values: &[f32]) -> PyResult<Bound<'py, PyByteArray>> {
    PyByteArray::new_with(py, values.len() * 4, |out| {
        for (to, from) in out.as_chunks_mut::<4>().0.iter_mut().zip(values) {
            *to = from.to_ne_bytes();
        }
        Ok(())
    })
}

impl Grid {
    /// Rows of the grid grow north, columns west.
    fn find_taps(&self, place: &[f64], taps: &mut [(Taps, Taps)]) {
        let mut pixel = taps.iter_mut();
        for north in &self.offsets {
            for west in &self.offsets {
                let east = -west;
                let x = place[0] * east + place[1] * north + place[4];
                let y = place[2] * east + place[3] * north + place[5];
                if let Some(pixel) = pixel.next() {
                    *pixel = (Taps::of(x, self.width), Taps::of(y, self.height));
                }
            }
        }
    }
}

impl Plane<'_> {
    fn place(&self, taps: &[(Taps, Taps)], area: f32, placed: &mut [f32], sound: &mut [u8]) {
        // Which way a plane takes depends on its own mask alone: company must not change a bit.
        let whole = self.valid.iter().all(|&valid| valid != 0);
        for ((taps, placed), sound) in taps.iter().zip(placed).zip(sound) {
            let (x, y) = taps;
            let found = if whole { self.whole(x, y) } else { self.masked(x, y) };
            if let Some(value) = found {
                *placed = value * area;
                *sound = 1;
            }
        }
    }

    /// Without masked pixels: what lies inside is separable in x and y.
    #[inline(always)]
    fn whole(&self, x: &Taps, y: &Taps) -> Option<f32> {
        if !(x.inside && y.inside) {
            return None;
        }
        let mut total = 0.0f32;
        for j in 0..4 {
            let row = &self.pixels[y.at[j] as usize * self.width..][..self.width];
            for i in 0..4 {
                total += row[x.at[i] as usize] * (x.weight[i] * y.weight[j]);
            }
        }
        Some(total / (x.sum * y.sum))
    }

    /// With masked pixels: weights are summed pixel by pixel.
    fn masked(&self, x: &Taps, y: &Taps) -> Option<f32> {
        let (mut total, mut weight) = (0.0f32, 0.0f32);
        let mut sound = x.inside && y.inside;
        for j in 0..4 {
            for i in 0..4 {
                let at = y.at[j] as usize * self.width + x.at[i] as usize;
                let w = x.weight[i] * y.weight[j];
                let present = self.valid[at] != 0;
                total += if present { self.pixels[at] } else { 0.0 } * w;
                weight += if present { w } else { 0.0 };
                if (1..3).contains(&i) && (1..3).contains(&j) {
                    sound &= present || w.abs() < NO_WEIGHT;
                }
            }
        }
        (sound && weight > 0.5).then(|| total / weight)
    }
}
