//! Spaces and saved states.

use crate::noise::Noise;
use alloc::sync::Arc;
use qmk_abi::image::Image;
use qmk_abi::syscall::{NoiseSpec, Patch};

/// Names a space of a device. Devices may reuse ids after [`Device::close`](crate::Device::close).
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
    /// Errors of such qubits, beside `noise`. Not for interactive use.
    pub errors: NoiseSpec,
    /// Number of shots; 1 for interactive use.
    pub shots: u64,
    /// Seed of all randomness in the space.
    pub seed: u64,
    /// Largest number of qubits that may carry live magic at once.
    pub max_active: u32,
}

/// How far the device is with a space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceStatus {
    /// Shots whose outcomes are final.
    pub shots_done: u64,
    /// Largest number of active qubits so far.
    pub peak_active: u32,
    /// How much is done of what must be done for all shots before the first is run, in millionths. 0 if there is no such thing.
    pub prepared: u32,
    /// Elementary steps that the call took: more than its budget where the last of them was a long one.
    pub steps: u64,
}
