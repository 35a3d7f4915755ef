//! The part of a stamp that a grid uses, with room around it, so that every sample of every pixel is there.

use crate::taps::sample_before;

/// Most of a stamp that a grid may use, with what is repeated beyond its edges: more than `dgl_broker.stamps` admits.
pub const MOST_SAMPLES: usize = 1 << 17;
pub type Samples = [f32; MOST_SAMPLES + 4];

/// The samples that a grid uses of a stamp: from row `top` and column `left`, which may lie three before the first.
#[derive(Default)]
pub struct Window {
    pub top: i32,
    pub left: i32,
    pub rows: usize,
    pub columns: usize,
}

impl Window {
    /// The window of a grid that reaches so far [arcsec] from its centre, of stamps of a shape (height, width).
    ///
    /// Places grow or fall steadily over the grid, also as they are rounded, so that its corners have the extremes.
    pub fn of(reach: f64, (height, width): (usize, usize), geometry: &[f64; 7]) -> Window {
        let ends = |a: f64, b: f64, origin: f64, size: usize| {
            let (mut low, mut high) = (size as i32, -2);
            for (east, north) in [(-1.0, -1.0), (-1.0, 1.0), (1.0, -1.0), (1.0, 1.0)] {
                let first = sample_before(a * (east * reach) + b * (north * reach) + origin, size);
                (low, high) = (low.min(first), high.max(first));
            }
            (low - 1, (high - low + 4) as usize)
        };
        let (left, columns) = ends(geometry[0], geometry[1], geometry[4], width);
        let (top, rows) = ends(geometry[2], geometry[3], geometry[5], height);
        Window { top, left, rows, columns }
    }
}

/// What a plane's pixels become before they are placed.
pub struct Scaling {
    pub level: f64,
    pub unit: f64,
    pub most: f64,
}

/// The window of one plane of a stamp; beyond the stamp its outermost pixels again, which have no weight there.
pub struct Plane {
    pub pixels: Box<Samples>,
    /// 1 where a pixel is valid, else 0; only where not all are.
    pub present: Box<Samples>,
    pub whole: bool,
}

impl Plane {
    pub fn new() -> Plane {
        Plane { pixels: samples(), present: samples(), whole: true }
    }

    /// The window of a stamp's pixels of a shape (height, width), scaled; an empty `valid` is of a stamp without masked pixels.
    pub fn fill(&mut self, pixels: &[f32], valid: &[u8], (height, width): (usize, usize), window: &Window, scaling: &Scaling) {
        // Which way a plane takes depends on its own mask alone: company must not change a bit.
        self.whole = valid.iter().fold(true, |all, &valid| all & (valid != 0));
        let last = (window.left + window.columns as i32).clamp(1, width as i32) as usize;
        let first = window.left.clamp(0, last as i32 - 1) as usize;
        let shift = (first as i32 - window.left) as usize;
        let rows = self.pixels.chunks_exact_mut(window.columns).zip(self.present.chunks_exact_mut(window.columns));
        for (number, (to, present)) in rows.take(window.rows).enumerate() {
            let row = (window.top + number as i32).clamp(0, height as i32 - 1) as usize * width;
            let which = row + first..row + last;
            let inner = shift..shift + last - first;
            scaling.apply(&pixels[which.clone()], &mut to[inner.clone()]);
            if !self.whole {
                let masked = present[inner.clone()].iter_mut().zip(&mut to[inner.clone()]);
                for ((present, pixel), valid) in masked.zip(&valid[which]) {
                    (*present, *pixel) = if *valid != 0 { (1.0, *pixel) } else { (0.0, 0.0) };
                }
                repeat_ends(present, inner.clone());
            }
            repeat_ends(to, inner);
        }
    }
}

fn samples() -> Box<Samples> {
    vec![0.0; MOST_SAMPLES + 4].into_boxed_slice().try_into().expect("as many as stated")
}

/// Before and behind the inner values of a row the outermost of them.
fn repeat_ends(values: &mut [f32], inner: std::ops::Range<usize>) {
    let (first, last) = (values[inner.start], values[inner.end - 1]);
    values[..inner.start].fill(first);
    values[inner.end..].fill(last);
}

impl Scaling {
    #[inline(always)]
    fn apply(&self, pixels: &[f32], to: &mut [f32]) {
        if self.level == 0.0 && self.most == f64::INFINITY {
            let unit = self.unit as f32;
            to.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = pixel / unit);
        } else {
            let scaled = |pixel: f32| ((f64::from(pixel) - self.level) / self.unit).clamp(-self.most, self.most);
            to.iter_mut().zip(pixels).for_each(|(to, pixel)| *to = scaled(*pixel) as f32);
        }
    }
}
