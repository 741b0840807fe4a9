//! The hardware contract: what a logical-qubit machine offers the kernel.
//!
//! The kernel is generic over [`Device`] and knows nothing of how qubits are made. A device holds *spaces*: joint
//! quantum states that never touch each other. A space runs one program image, once per shot, or takes
//! instructions one at a time. The kernel *issues* instructions as its schedule allows; the device performs
//! them so that the outcomes of a shot depend on the program, the seed and the shot number only, never on the
//! order in which independent instructions were issued.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cost;
mod device;
mod error;
mod noise;
mod space;
mod spec;

pub use cost::Cost;
pub use device::Device;
pub use error::DeviceError;
pub use noise::{Channel, Column, Errors, Noise};
pub use space::{SnapshotId, SpaceId, SpaceSpec, SpaceStatus};
pub use spec::{Features, LinkSpec, MachineSpec};
