//! The compiled decoder of dgl_broker: Avro records and FITS stamps, read with limits on everything, and stamps put north up.
//!
//! It answers only where it is sure. In doubt it gives None, and the decoder in Python judges: so both give the same
//! outcome for every packet, and only Python needs to know how to name what is wrong.

mod cursor;
mod history;
mod north_up;
mod numbers;
mod order;
mod pass;
mod program;
mod spread;
mod stamp;
mod taps;
mod tree;
mod window;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    /// Goes up with every change of what is offered here, so that `dgl_broker.native` leaves out an older build.
    #[pymodule_export]
    const INTERFACE: u32 = 4;

    #[pymodule_export]
    use crate::north_up::place_north_up;
    #[pymodule_export]
    use crate::numbers::numbers;
    #[pymodule_export]
    use crate::order::light_curve_order;
    #[pymodule_export]
    use crate::program::Program;
    #[pymodule_export]
    use crate::spread::{level_and_spread, ring_level_and_spread};
    #[pymodule_export]
    use crate::stamp::{gunzip, stamp};
}
