//! The hardware contract: what a logical-qubit machine offers the kernel.
//!
//! The kernel is generic over [`Device`] and knows nothing of how qubits are made. A device holds *spaces*: joint
//! quantum states that never touch each other. A space runs one program image, once per shot, or takes
//! instructions one at a time. The kernel *issues* instructions as its schedule allows; the device performs
//! them so that the outcomes of a shot depend on the program, the seed and the shot number only, never on the
//! order in which independent instructions were issued.
//!
//! The contract has three parts. [`Device`] runs programs; every machine has it. [`Interactive`] operates qubits one
//! instruction at a time, and [`Snapshots`] saves states; a machine may lack both. What takes time is [`Work`], a value
//! that the device hands out and takes back; [`Inline`] steps it in line. [`forward_device!`] writes the methods that a
//! wrapper does not change.
//!
//! # A device
//!
//! This one runs programs on classical bits: X flips, CNOT copies, every measurement reads Z. It has the methods
//! without which there is no device, and the kernel runs a program on it.
//!
//! ```
//! use qmk_abi::image::{Clifford2, Image, Instr, Op, Pauli};
//! use qmk_abi::syscall::{Patch, Quota, Run};
//! use qmk_abi::{Reply, Syscall};
//! use qmk_hal::{Cost, Device, DeviceError, Features, LinkSpec, MachineSpec, Progress};
//! use qmk_hal::{SpaceId, SpaceSpec, SpaceStatus, Work};
//! use qmk_kernel::Kernel;
//! use std::collections::HashMap;
//!
//! /// A program, and the outcomes of the shots that are done, each event a byte.
//! struct Shots {
//!     space: SpaceId,
//!     spec: SpaceSpec,
//!     done: Vec<Vec<u8>>,
//! }
//!
//! impl Work for Shots {
//!     fn space(&self) -> SpaceId {
//!         self.space
//!     }
//!
//!     fn step(&mut self, budget: u64) -> Progress {
//!         let image = &self.spec.image;
//!         // One instruction of one shot is a step.
//!         for _ in 0..(budget / image.code.len().max(1) as u64).max(1) {
//!             if self.done.len() as u64 == self.spec.shots {
//!                 return Progress::Done;
//!             }
//!             let mut bits = vec![0; image.qubits as usize];
//!             let mut events = vec![0; image.events as usize];
//!             for instr in &image.code {
//!                 match instr.op {
//!                     Op::Alloc(q) | Op::Reset(q) => bits[q as usize] = 0,
//!                     Op::Pauli(Pauli::X, q) => bits[q as usize] ^= 1,
//!                     Op::Clifford2(Clifford2::Cnot, a, b) => bits[b as usize] ^= bits[a as usize],
//!                     Op::Measure(_, q, event) => events[event as usize] = bits[q as usize],
//!                     _ => {}
//!                 }
//!             }
//!             self.done.push(events);
//!         }
//!         Progress::More
//!     }
//! }
//!
//! struct Bits {
//!     spec: MachineSpec,
//!     /// The shots of each space; `None` while its work is out.
//!     spaces: HashMap<SpaceId, Option<Shots>>,
//!     opened: u32,
//! }
//!
//! impl Device for Bits {
//!     type Work = Shots;
//!
//!     fn spec(&self) -> &MachineSpec {
//!         &self.spec
//!     }
//!     fn cost(&self, _: &Op, _: Patch) -> Cost {
//!         Cost { cycles: 1, ..Cost::default() }
//!     }
//!     fn physical_qubits(&self, _: Patch) -> Option<u32> {
//!         Some(1)
//!     }
//!     fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
//!         self.opened += 1;
//!         let space = SpaceId(self.opened);
//!         self.spaces.insert(space, Some(Shots { space, spec, done: Vec::new() }));
//!         Ok(space)
//!     }
//!     fn issue(&mut self, _: SpaceId, _: u32) -> Result<(), DeviceError> {
//!         Ok(())
//!     }
//!     fn begin_work(&mut self, space: SpaceId) -> Result<Shots, DeviceError> {
//!         let slot = self.spaces.get_mut(&space).ok_or(DeviceError::Refused("no such space".into()))?;
//!         slot.take().ok_or(DeviceError::Busy)
//!     }
//!     fn finish(&mut self, shots: Shots) -> Result<SpaceStatus, DeviceError> {
//!         let status = SpaceStatus { shots_done: shots.done.len() as u64, ..SpaceStatus::default() };
//!         self.spaces.insert(shots.space, Some(shots));
//!         Ok(status)
//!     }
//!     fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>) {
//!         let Some(Some(shots)) = self.spaces.get(&space) else { return };
//!         for events in shots.done.iter().skip(first as usize).take(count as usize) {
//!             out.extend(events.chunks(8).map(|c| c.iter().rev().fold(0, |byte, bit| byte << 1 | bit)));
//!         }
//!     }
//!     fn begin_close(&mut self, space: SpaceId) -> Option<Shots> {
//!         self.spaces.remove(&space);
//!         None
//!     }
//! }
//!
//! let spec = MachineSpec {
//!     logical_qubits: 4,
//!     routes_per_epoch: 1,
//!     magic_per_epoch: 0,
//!     magic_buffer: 0,
//!     decoded_per_epoch: 4,
//!     link: LinkSpec { raw: [1.0, 0.0, 0.0, 0.0], pairs_per_epoch: 0 },
//!     features: Features::default(),
//! };
//! let device = Bits { spec, spaces: HashMap::new(), opened: 0 };
//! let (mut kernel, root, machine) = Kernel::boot(device, 1, Quota::UNLIMITED);
//!
//! let code = [
//!     Op::Alloc(0),
//!     Op::Alloc(1),
//!     Op::Pauli(Pauli::X, 0),
//!     Op::Clifford2(Clifford2::Cnot, 0, 1),
//!     Op::Measure(Pauli::Z, 1, 0),
//!     Op::Free(0),
//!     Op::Free(1),
//! ];
//! let code = code.map(|op| Instr { op, cond: None }).to_vec();
//! let image = Image { qubits: 2, events: 1, code, terms: Vec::new() };
//! let Ok(Reply::Handle(image)) = kernel.syscall(root, Syscall::Admit { machine, image }) else { panic!() };
//! let run = Run { shots: 3, ..Run::default() };
//! let Ok(Reply::Handle(strand)) = kernel.syscall(root, Syscall::Spawn { machine, image, run }) else { panic!() };
//! while kernel.advance().busy {}
//! let read = Syscall::Outcomes { strand, first: 0, count: 3 };
//! let Ok(Reply::Outcomes(bytes)) = kernel.syscall(root, read) else { panic!() };
//! assert_eq!(bytes, [1, 1, 1]);
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cost;
mod device;
mod error;
mod forward;
mod inline;
mod interactive;
mod noise;
mod snapshot;
mod space;
mod spec;
mod work;

pub use cost::Cost;
pub use device::Device;
pub use error::{Ability, DeviceError};
pub use inline::Inline;
pub use interactive::{Interactive, Place};
pub use noise::{Channel, Column, Errors, Noise};
pub use snapshot::Snapshots;
pub use space::{SnapshotId, SpaceId, SpaceSpec, SpaceStatus};
pub use spec::{Features, LinkSpec, MachineSpec};
pub use work::{Finished, Progress, Work};

/// Names that [`forward_device!`] needs where it is used.
#[doc(hidden)]
pub mod __private {
    pub use alloc::{string::String, sync::Arc, vec::Vec};
    pub use qmk_abi::image::{Image, Op};
    pub use qmk_abi::syscall::{NoiseSpec, Patch};
}
