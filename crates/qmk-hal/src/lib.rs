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

use alloc::vec::Vec;
use alloc::{string::String, sync::Arc};
use core::ops::Range;
use qmk_abi::image::{Event, Image, Instr, Op, Qubit};
use qmk_abi::syscall::{Level, NoiseSpec, Patch};

/// Names a space of a device. Devices may reuse ids after [`Device::close`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpaceId(pub u32);

/// Names a saved state of a space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SnapshotId(pub u32);

/// Static description of a machine.
#[derive(Clone, Debug, PartialEq)]
pub struct MachineSpec {
    /// Logical qubits (patches) available to programs.
    pub logical_qubits: u32,
    /// Two-qubit operations that can be routed in one epoch.
    pub routes_per_epoch: u32,
    /// Magic states the factories deliver per epoch.
    pub magic_per_epoch: u32,
    /// Magic states that can be kept in stock.
    pub magic_buffer: u32,
    /// Patches whose syndrome of one epoch the decoders work off in one epoch. What is left is backlog.
    pub decoded_per_epoch: u32,
    /// Links between spaces.
    pub link: LinkSpec,
    /// What the machine can do beyond the contract.
    pub features: Features,
}

/// How raw entangled pairs come.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSpec {
    /// Weights of the Bell states that a raw pair is a mixture of: the wanted one, and that with an X, Y or Z on one half.
    /// They add up to 1; the first is the fidelity.
    pub raw: [f64; 4],
    /// Raw pairs per epoch.
    pub pairs_per_epoch: u32,
}

/// Optional abilities of a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Quantum states can be copied, as only a simulator can.
    pub snapshot: bool,
}

/// Cost of one operation in the machine's own units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Logical cycles from issue until the operands are free again, at most [`Cost::MAX_CYCLES`]. 0: tracked in software.
    pub cycles: u32,
    /// Magic states consumed.
    pub magic: u32,
    /// Routing channels occupied while it runs.
    pub routes: u32,
}

impl Cost {
    /// Longest operation.
    pub const MAX_CYCLES: u32 = 255;
}

/// A Pauli error channel that acts right after an instruction, whether or not its condition held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Noise {
    /// Index of the instruction.
    pub after: u32,
    /// What may happen.
    pub channel: Channel,
}

/// What a noise channel does, and how likely. Probabilities of one channel add up to at most 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Channel {
    /// X, Y or Z on one register, with these probabilities.
    Pauli1 {
        /// Register, allocated at that point.
        qubit: Qubit,
        /// Probabilities of X, Y, Z.
        p: [f64; 3],
    },
    /// One of the fifteen products of two Paulis. Product `(a, b)` with I, X, Y, Z numbered 0 to 3 has probability
    /// `p[4a + b - 1]`.
    Pauli2 {
        /// Distinct registers, allocated at that point.
        qubits: [Qubit; 2],
        /// Probabilities of IX, IY, IZ, XI, XX and so on.
        p: [f64; 15],
    },
    /// The recorded value of an event is wrong. The state is what the true outcome made it.
    Flip {
        /// Event written by the instruction.
        event: Event,
        /// Probability.
        p: f64,
    },
    /// What a column of [`Device::give`] says, shot by shot.
    Given {
        /// Register, allocated at that point.
        qubit: Qubit,
        /// Number of the column.
        column: u32,
    },
}

/// Paulis on one register that are known for each shot: bit `i % 64` of word `i / 64` is that of shot `i`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Whether it has an X part.
    pub x: Vec<u64>,
    /// Whether it has a Z part.
    pub z: Vec<u64>,
}

impl Channel {
    /// Uniform depolarizing of one register: each Pauli with probability p/3.
    pub fn depolarize1(qubit: Qubit, p: f64) -> Self {
        Channel::Pauli1 { qubit, p: [p / 3.0; 3] }
    }

    /// Uniform depolarizing of two registers: each product with probability p/15.
    pub fn depolarize2(a: Qubit, b: Qubit, p: f64) -> Self {
        Channel::Pauli2 { qubits: [a, b], p: [p / 15.0; 15] }
    }
}

/// What errors mean for patches of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors {
    /// Share of an epoch for which the syndrome that one patch gives in an epoch keeps one of
    /// [`MachineSpec::decoded_per_epoch`] busy, in thousandths.
    pub decoding: u32,
    /// What whoever runs a program with them should know.
    pub warning: Option<String>,
}

impl Default for Errors {
    fn default() -> Self {
        Errors { decoding: 1000, warning: None }
    }
}

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

/// Why a device refused work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// The operation would make more qubits active than the space may have.
    #[error(
        "instruction {at} would make the number of qubits that carry live magic at once {needed}, the limit is {limit}; \
         raise the limit or measure magic qubits earlier"
    )]
    TooMuchMagic {
        /// Instruction index.
        at: u32,
        /// Active qubits it would need.
        needed: u32,
        /// The limit.
        limit: u32,
    },
    /// There is no memory for the register that the operation needs.
    #[error(
        "instruction {at} makes {active} qubits carry live magic at once, for which there is not enough memory; \
         measure magic qubits earlier"
    )]
    OutOfMemory {
        /// Instruction index.
        at: u32,
        /// Active qubits it needs.
        active: u32,
    },
    /// No such space, or the space does not support the call.
    #[error("{0}")]
    Refused(String),
}

impl DeviceError {
    /// Instruction the error is about, if it is about one.
    pub fn instruction(&self) -> Option<u32> {
        match self {
            DeviceError::TooMuchMagic { at, .. } | DeviceError::OutOfMemory { at, .. } => Some(*at),
            DeviceError::Refused(_) => None,
        }
    }
}

/// A logical-qubit machine.
pub trait Device {
    /// What the machine is.
    fn spec(&self) -> &MachineSpec;

    /// What an operation costs on patches of this kind.
    fn cost(&self, op: &Op, patch: Patch) -> Cost;

    /// Physical qubits of one logical qubit with its ancillas; `None` if the machine has no such patches.
    fn physical_qubits(&self, patch: Patch) -> Option<u32>;

    /// What errors mean for patches of this kind.
    ///
    /// # Errors
    /// Why the machine has no model of them: what is out of range, and the range.
    fn errors(&self, _patch: Patch, noise: NoiseSpec) -> Result<Errors, String> {
        match noise.level {
            Level::Ideal => Ok(Errors::default()),
            _ => Err("this machine has no model of errors; the noise level that it offers is \"ideal\"".into()),
        }
    }

    /// Probability that a shot of an admitted program meets an error, which need not change an outcome. An estimate where errors
    /// are sampled; 0 where there is no model.
    fn failure(&self, _image: &Image, _patch: Patch, _noise: NoiseSpec) -> f64 {
        0.0
    }

    /// Opens a space. The image must have been admitted: registers and events in range, allocated before
    /// use, events written before they are read.
    fn open(&mut self, spec: SpaceSpec) -> Result<SpaceId, DeviceError>;

    /// Allows the device to perform instruction `index` of the space's image. Each index is issued exactly once,
    /// after every instruction it depends on.
    fn issue(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError>;

    /// [`Device::issue`] for each of these instructions, in this order.
    ///
    /// # Errors
    /// The first refusal; what comes after it is not issued.
    fn issue_range(&mut self, space: SpaceId, indices: Range<u32>) -> Result<(), DeviceError> {
        indices.into_iter().try_for_each(|index| self.issue(space, index))
    }

    /// Takes back an issued unitary instruction by performing its inverse, in a space whose work has not begun or is
    /// thrown away by it. All that depends on the instruction has been taken back before. It may be issued again.
    fn undo(&mut self, space: SpaceId, index: u32) -> Result<(), DeviceError>;

    /// Says what all [`Channel::Given`] of a space do, before its work begins.
    ///
    /// # Errors
    /// If the space has no such columns, or its work has begun.
    fn give(&mut self, _space: SpaceId, _columns: Arc<[Column]>) -> Result<(), DeviceError> {
        Err(DeviceError::Refused("the machine takes no Paulis".into()))
    }

    /// Works on issued instructions and remaining shots for at most about `budget` elementary steps (one
    /// instruction of one shot is at least one), so that a caller can stay responsive. With a budget of at least 1
    /// it gets on.
    fn work(&mut self, space: SpaceId, budget: u64) -> Result<SpaceStatus, DeviceError>;

    /// Value of an event in a finished shot; false if it was never written.
    fn outcome(&self, space: SpaceId, shot: u64, event: u32) -> bool;

    /// Appends the outcomes of finished shots, packed: for each shot `ceil(events/8)` bytes, event 0 in the lowest bit. The
    /// caller asks for shots that are done only.
    fn outcomes(&self, space: SpaceId, first: u64, count: u32, out: &mut Vec<u8>);

    /// Performs one instruction at once in an interactive space, growing registers and events as named. Outcomes
    /// are read with [`Device::outcome`] for shot 0. An instruction that is refused changes nothing.
    /// Pauli operations, `Reset` and `Free` are not refused for what the state is: they are how the kernel takes a qubit out of a
    /// pair.
    fn perform(&mut self, space: SpaceId, instr: Instr) -> Result<(), DeviceError>;

    /// Makes an entangled pair of a qubit of one interactive space and one of another: puts both, which must be in use, in
    /// |0>, then in (|00> + |11>)/√2, then applies X, Y or Z to the second with these probabilities. The two spaces are one
    /// state from then on, but operations still name qubits by space and register. A
    /// refusal changes nothing.
    fn link(&mut self, a: (SpaceId, Qubit), b: (SpaceId, Qubit), errors: [f64; 3]) -> Result<(), DeviceError>;

    /// Saves the state of a space, if [`Features::snapshot`]. A space that shares a state with another cannot be saved.
    fn snapshot(&mut self, space: SpaceId) -> Result<SnapshotId, DeviceError>;

    /// Brings a space back to a saved state, unless it was linked since. The draws of later measurements of interactive spaces are new ones.
    fn restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<(), DeviceError>;

    /// Forgets a saved state. Unknown ids are ignored.
    fn forget(&mut self, snapshot: SnapshotId);

    /// Forgets a space and its outcomes. Unknown ids are ignored. Qubits of other spaces that were entangled with its
    /// qubits are left as if those had been measured and the outcomes lost.
    fn close(&mut self, space: SpaceId);
}
