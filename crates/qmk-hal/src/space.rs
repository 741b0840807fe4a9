//! Spaces and saved states: their names, how a space is opened, and how far its work is.

use crate::noise::Noise;
use alloc::sync::Arc;
use qmk_abi::image::Image;
use qmk_abi::syscall::{NoiseSpec, Patch};

/// Names a space of a device. A device may use the id again once the space is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpaceId(pub u32);

/// Names a saved state of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(pub u32);

/// How to open a space.
#[derive(Clone, Debug, Default)]
pub struct SpaceSpec {
    /// Program to run; the empty image for interactive use.
    pub image: Arc<Image>,
    /// Noise on its instructions, in order of [`Noise::after`].
    pub noise: Arc<[Noise]>,
    /// Encoding of its qubits.
    pub patch: Patch,
    /// Errors of qubits so encoded, in addition to `noise`. Not for interactive use.
    pub errors: NoiseSpec,
    /// Number of shots; 1 for interactive use.
    pub shots: u64,
    /// Seed of all randomness in the space.
    pub seed: u64,
    /// Largest number of qubits that may carry live magic at once.
    pub max_active: u32,
    /// Who answers for the bytes that it takes.
    pub owner: u32,
}

/// How far the work of a space is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceStatus {
    /// Shots whose outcomes are final.
    pub shots_done: u64,
    /// Largest number of qubits that carried live magic at once, so far.
    pub peak_active: u32,
    /// Millionths of the preparation that is done, where all shots need one before the first is run. 0 where they need
    /// none.
    pub prepared: u32,
    /// Elementary steps of the work that was given back. They exceed its budget where the last one was long.
    pub steps: u64,
}
