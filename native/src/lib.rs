//! The compiled decoder of dgl_broker: Avro records and FITS stamps, read with limits on everything.
//!
//! It answers only where it is sure. In doubt it gives None, and the decoder in Python judges: so both give the same
//! outcome for every packet, and only Python needs to know how to name what is wrong.

mod cursor;
mod history;
mod pass;
mod program;
mod stamp;
mod tree;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    /// Goes up with every change of what is offered here, so that `dgl_broker.native` leaves out an older build.
    #[pymodule_export]
    const INTERFACE: u32 = 1;

    #[pymodule_export]
    use crate::program::Program;
    #[pymodule_export]
    use crate::stamp::{gunzip, stamp};
}
