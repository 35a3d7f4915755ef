//! Stamps onto a north-up grid, with the arithmetic of `dgl_broker.north_up` step by step, so that every bit is the same.

use crate::taps::{BLOCK, Block, Taps};
use crate::window::{MOST_SAMPLES, Plane, Samples, Scaling, Window};
use pyo3::buffer::PyBuffer;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::PyByteArray;
use std::cell::RefCell;

const NO_WEIGHT: f32 = 1e-6;
/// Pixels whose sums grow side by side: enough that none waits for another's.
const LANES: usize = 8;

thread_local! {
    static ROOM: RefCell<Room> = RefCell::new(Room::default());
}

/// What is used again from batch to batch, since new memory costs more than what is done in it.
#[derive(Default)]
struct Room {
    image: Vec<f32>,
    mask: Vec<u8>,
    planes: Vec<Plane>,
    blocks: Vec<Pixels>,
}

/// Resample stamps of one shape: see `dgl_broker.north_up.place_scaled`.
///
/// `pixels` float32 (height, width) each, those of one place one after the other; `valid` uint8 of each, None where all are.
/// `scaling` float64 (n, 3): a plane's pixels become (pixel - level) / unit, of at most that size. `geometry` float64 (places, 7):
/// the inverse matrix row by row, the origin, the ratio of pixel areas. Gives planes and where they are valid, (n, side * side).
#[pyfunction]
pub fn place_north_up<'py>(
    py: Python<'py>,
    pixels: Vec<PyBuffer<f32>>,
    valid: Vec<Option<PyBuffer<u8>>>,
    scaling: PyBuffer<f64>,
    geometry: PyBuffer<f64>,
    side: usize,
    pixel_scale_arcsec: f64,
) -> PyResult<(Bound<'py, PyByteArray>, Bound<'py, PyByteArray>)> {
    let (scaling, geometry) = (scaling.to_vec(py)?, geometry.to_vec(py)?);
    let (scaling, geometry) = (scaling.as_chunks::<3>().0, geometry.as_chunks::<7>().0);
    let Some(&[height, width]) = pixels.first().map(|first| first.shape()) else { return Err(other_shapes()) };
    let (n, n_places) = (pixels.len(), geometry.len().max(1));
    let alike = pixels.iter().all(|plane| plane.shape() == [height, width])
        && valid.iter().flatten().all(|plane| plane.shape() == [height, width]);
    if !alike || height * width == 0 || valid.len() != n || scaling.len() != n || n % n_places != 0 {
        return Err(other_shapes());
    }
    let grid = Grid::new(side, pixel_scale_arcsec, height, width);
    let stamps = Stamps { pixels, valid, scaling, together: n / n_places };
    ROOM.with_borrow_mut(|room| {
        room.image.resize(height * width, 0.0);
        room.mask.resize(height * width, 0);
        room.planes.resize_with(stamps.together.max(room.planes.len()), Plane::new);
        room.blocks.resize_with(grid.east.len().max(room.blocks.len()), Pixels::new);
        let mut sound = None;
        let placed = PyByteArray::new_with(py, n * grid.size * 4, |placed| {
            sound = Some(PyByteArray::new_with(py, n * grid.size, |sound| {
                grid.place(py, &stamps, geometry, room, placed.as_chunks_mut::<4>().0, sound)
            })?);
            Ok(())
        })?;
        Ok((placed, sound.ok_or_else(other_shapes)?))
    })
}

fn other_shapes() -> PyErr {
    PyValueError::new_err("arrays of other shapes than stated")
}

struct Stamps<'a> {
    pixels: Vec<PyBuffer<f32>>,
    valid: Vec<Option<PyBuffer<u8>>>,
    scaling: &'a [[f64; 3]],
    /// How many are of one place.
    together: usize,
}

/// The grid of a batch, pixel by pixel and in whole blocks, and the stamps' shape. Rows grow north, columns west.
struct Grid {
    east: Vec<Block<f64>>,
    north: Vec<Block<f64>>,
    size: usize,
    reach: f64,
    height: usize,
    width: usize,
}

impl Grid {
    fn new(side: usize, pixel_scale_arcsec: f64, height: usize, width: usize) -> Grid {
        let middle = (side as f64 - 1.0) / 2.0;
        let offset = |i: usize| (i as f64 - middle) * pixel_scale_arcsec;
        let size = side * side;
        let blocks = |offset_of: &dyn Fn(usize) -> f64| {
            let block = |from: usize| std::array::from_fn(|k| offset_of((from * BLOCK + k).min(size.saturating_sub(1))));
            (0..size.div_ceil(BLOCK)).map(block).collect()
        };
        let east = blocks(&|pixel| -offset(pixel % side));
        let north = blocks(&|pixel| offset(pixel / side));
        Grid { east, north, size, reach: middle * pixel_scale_arcsec, height, width }
    }

    fn place(
        &self,
        py: Python<'_>,
        stamps: &Stamps<'_>,
        geometries: &[[f64; 7]],
        room: &mut Room,
        placed: &mut [[u8; 4]],
        sound: &mut [u8],
    ) -> PyResult<()> {
        let mut window = Window::default();
        for (place, geometry) in geometries.iter().enumerate() {
            let alike = |other: Option<&[f64; 7]>| other.is_some_and(|other| other[..6] == geometry[..6]);
            let (known, again) = (place > 0 && alike(geometries.get(place - 1)), alike(geometries.get(place + 1)));
            if !known {
                window = Window::of(self.reach, (self.height, self.width), geometry);
                if window.rows * window.columns > MOST_SAMPLES {
                    return Err(PyValueError::new_err("a stamp of more pixels than are put north up"));
                }
            }
            let which = place * stamps.together..(place + 1) * stamps.together;
            for (plane, n) in room.planes.iter_mut().zip(which.clone()) {
                stamps.pixels[n].copy_to_slice(py, &mut room.image)?;
                let valid = match &stamps.valid[n] {
                    Some(valid) => valid.copy_to_slice(py, &mut room.mask).map(|()| room.mask.as_slice())?,
                    None => &[],
                };
                let [level, unit, most] = stamps.scaling[n];
                plane.fill(&room.image, valid, (self.height, self.width), &window, &Scaling { level, unit, most });
            }
            for (number, start) in (0..self.size).step_by(BLOCK).enumerate() {
                // What is not used again stays in the nearest cache.
                let block = &mut room.blocks[if known || again { number } else { 0 }];
                if !known {
                    self.find(number, geometry, &window, block);
                }
                let count = BLOCK.min(self.size - start);
                for (plane, n) in room.planes.iter().zip(which.clone()) {
                    let to = n * self.size + start..n * self.size + start + count;
                    block.place(plane, geometry[6] as f32, &mut placed[to.clone()], &mut sound[to]);
                }
            }
        }
        Ok(())
    }

    /// What the pixels of a block need of stamps of one geometry.
    #[inline(never)]
    fn find(&self, number: usize, geometry: &[f64; 7], window: &Window, found: &mut Pixels) {
        let (east, north) = (&self.east[number], &self.north[number]);
        found.x.find(&along(geometry[0], geometry[1], geometry[4], east, north), self.width);
        found.y.find(&along(geometry[2], geometry[3], geometry[5], east, north), self.height);
        found.x.end(self.width);
        found.y.end(self.height);
        found.join(window);
    }
}

#[inline(always)]
fn along(a: f64, b: f64, origin: f64, east: &Block<f64>, north: &Block<f64>) -> Block<f64> {
    let mut places = [0.0; BLOCK];
    for k in 0..BLOCK {
        places[k] = a * east[k] + b * north[k] + origin;
    }
    places
}

/// The pixels of a block: where their samples stand in a window, and with which weights.
#[derive(Clone)]
struct Pixels {
    at: Block<u32>,
    columns: u32,
    x: Taps,
    y: Taps,
    sum: Block<f32>,
    inside: Block<bool>,
}

impl Pixels {
    fn new() -> Pixels {
        Pixels { at: [0; BLOCK], columns: 0, x: Taps::new(), y: Taps::new(), sum: [0.0; BLOCK], inside: [false; BLOCK] }
    }

    #[inline(always)]
    fn join(&mut self, window: &Window) {
        let (x, y, columns) = (&self.x, &self.y, window.columns as i32);
        let start = (window.top + 1).wrapping_mul(columns).wrapping_add(window.left + 1);
        for k in 0..BLOCK {
            self.at[k] = y.first[k].wrapping_mul(columns).wrapping_add(x.first[k]).wrapping_sub(start) as u32;
        }
        for k in 0..BLOCK {
            self.sum[k] = x.sum[k] * y.sum[k];
        }
        for k in 0..BLOCK {
            self.inside[k] = x.inside[k] & y.inside[k];
        }
        self.columns = window.columns as u32;
    }

    #[inline(never)]
    fn place(&self, plane: &Plane, area: f32, placed: &mut [[u8; 4]], sound: &mut [u8]) {
        let (mut values, inside) = if plane.whole { self.whole(plane) } else { self.masked(plane) };
        for (value, inside) in values.iter_mut().zip(&inside) {
            *value = if *inside { *value * area } else { 0.0 };
        }
        for (placed, value) in placed.iter_mut().zip(&values) {
            *placed = value.to_ne_bytes();
        }
        for (sound, inside) in sound.iter_mut().zip(&inside) {
            *sound = u8::from(*inside);
        }
    }

    /// Some pixels' samples of one row of taps, side by side.
    #[inline(always)]
    fn samples<'a>(&self, of: &'a Samples, from: usize, j: usize) -> [&'a [f32; 4]; LANES] {
        std::array::from_fn(|k| {
            let at = (self.at[from + k].wrapping_add((j as u32).wrapping_mul(self.columns))) as usize % MOST_SAMPLES;
            of[at..at + 4].try_into().unwrap_or(&[0.0; 4])
        })
    }

    /// Without masked pixels: what lies inside is separable in x and y.
    #[inline(always)]
    fn whole(&self, plane: &Plane) -> (Block<f32>, Block<bool>) {
        let mut values = [0.0; BLOCK];
        for from in (0..BLOCK).step_by(LANES) {
            let mut total = [0.0f32; LANES];
            for j in 0..4 {
                let pixels = self.samples(&plane.pixels, from, j);
                for i in 0..4 {
                    for k in 0..LANES {
                        total[k] += pixels[k][i] * (self.x.weight[i][from + k] * self.y.weight[j][from + k]);
                    }
                }
            }
            for k in 0..LANES {
                values[from + k] = total[k] / self.sum[from + k];
            }
        }
        (values, self.inside)
    }

    /// With masked pixels: weights are summed pixel by pixel.
    #[inline(never)]
    fn masked(&self, plane: &Plane) -> (Block<f32>, Block<bool>) {
        let (mut values, mut sound) = ([0.0; BLOCK], self.inside);
        for from in (0..BLOCK).step_by(LANES) {
            let (mut total, mut weight, mut lost) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
            for j in 0..4 {
                let pixels = self.samples(&plane.pixels, from, j);
                let present = self.samples(&plane.present, from, j);
                for i in 0..4 {
                    for k in 0..LANES {
                        let w = self.x.weight[i][from + k] * self.y.weight[j][from + k];
                        total[k] += pixels[k][i] * w;
                        weight[k] += present[k][i] * w;
                        if (1..3).contains(&i) && (1..3).contains(&j) {
                            let without = if present[k][i] != 0.0 { 0.0 } else { w.abs() };
                            lost[k] = if without > lost[k] { without } else { lost[k] };
                        }
                    }
                }
            }
            for k in 0..LANES {
                values[from + k] = total[k] / weight[k];
                sound[from + k] &= (weight[k] > 0.5) & (lost[k] < NO_WEIGHT);
            }
        }
        (values, sound)
    }
}
