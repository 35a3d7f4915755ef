//! Where pixels of a grid fall along one axis of a stamp: the four samples around each, and their weights.
//!
//! Pixels are treated a block at a time, in plain loops over arrays of one length, which the compiler turns into vectors.

const KEYS_A: f64 = -0.5; // cubic convolution, Keys 1981
const SOUND: f32 = 0.1;
/// Added to a number of moderate size and taken away again, it leaves it rounded to a whole one; its lowest bits are that.
const WHOLE: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52

/// Pixels of a block.
pub const BLOCK: usize = 32;
pub type Block<T> = [T; BLOCK];

/// What a block's pixels need along one axis.
#[derive(Clone)]
pub struct Taps {
    /// The sample before each pixel, -2 to `size`.
    pub first: Block<i32>,
    /// Of the samples from the one before `first` on; 0 outside the stamp.
    pub weight: [Block<f32>; 4],
    pub sum: Block<f32>,
    pub inside: Block<bool>,
}

impl Taps {
    pub fn new() -> Taps {
        let nothing = [0.0; BLOCK];
        Taps { first: [0; BLOCK], weight: [nothing; 4], sum: nothing, inside: [false; BLOCK] }
    }

    /// The taps of places along an axis of `size` samples, as if it had no end.
    #[inline(always)]
    pub fn find(&mut self, places: &Block<f64>, size: usize) {
        let a = KEYS_A;
        let [w0, w1, w2, w3] = &mut self.weight;
        for k in 0..BLOCK {
            let place = bounded(places[k], size);
            let first = before(place);
            let t = if place > first { place - first } else { 0.0 };
            let s = 1.0 - t;
            w0[k] = (a * t * s * s) as f32;
            w1[k] = (1.0 + t * t * ((a + 2.0) * t - (a + 3.0))) as f32;
            w2[k] = (1.0 + s * s * ((a + 2.0) * s - (a + 3.0))) as f32;
            w3[k] = (a * s * t * t) as f32;
            self.first[k] = whole_number(first);
        }
    }

    /// Take away the weight of what lies outside. Not at once: what was stored in halves is not yet there to be read whole.
    #[inline(always)]
    pub fn end(&mut self, size: usize) {
        let count = size as i32;
        let [w0, w1, w2, w3] = &mut self.weight;
        for k in 0..BLOCK {
            let first = self.first[k];
            w0[k] = or_nothing(w0[k], first > 0);
            w1[k] = or_nothing(w1[k], (first > -1) & (first < count));
            w2[k] = or_nothing(w2[k], (first > -2) & (first < count.wrapping_sub(1)));
            w3[k] = or_nothing(w3[k], first < count.wrapping_sub(2));
            self.sum[k] = w0[k] + w1[k] + w2[k] + w3[k];
        }
        for k in 0..BLOCK {
            self.inside[k] = (self.sum[k] - 1.0).abs() < SOUND;
        }
    }
}

/// The sample before a place, as `Taps` has it.
pub fn sample_before(place: f64, size: usize) -> i32 {
    whole_number(before(bounded(place, size)))
}

/// A place, or where one so far from the stamp has no sample but the outermost one, of little weight; NaN is there too.
#[inline(always)]
fn bounded(place: f64, size: usize) -> f64 {
    let most = size as f64 + 0.5;
    let place = if place > -1.5 { place } else { -1.5 };
    if place < most { place } else { most }
}

/// The greatest whole number not above a place; `f64::floor` is a call on older processors.
#[inline(always)]
fn before(place: f64) -> f64 {
    let place = place + 1e-6; // a grid that coincides with the stamp's must not lose pixels to rounding
    let near = (place + WHOLE) - WHOLE;
    near - if near > place { 1.0 } else { 0.0 }
}

#[inline(always)]
fn whole_number(value: f64) -> i32 {
    (value + WHOLE).to_bits() as i32
}

/// A weight, or 0; written without a branch, which the compiler would not make vectors of.
#[inline(always)]
fn or_nothing(weight: f32, there: bool) -> f32 {
    f32::from_bits(weight.to_bits() & 0u32.wrapping_sub(u32::from(there)))
}
