//! Capability handles and rights.

use alloc::{string::String, vec::Vec};
use core::fmt;
use serde::{Deserialize, Serialize};

/// Names a slot of the caller's capability space. A handle is valid only while its generation equals
/// the slot's; the kernel bumps the generation whenever a slot is emptied, so a stale handle never
/// names a newer object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Handle {
    /// Slot index in the caller's capability space.
    pub slot: u32,
    /// Generation of the slot when the handle was given out; never 0 for a valid handle.
    pub generation: u32,
}

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

bitflags::bitflags! {
    /// What the holder of a capability may do. The low half are rights over any object; the high half
    /// are the instruction classes that a machine capability may admit ([QVM capability names]).
    ///
    /// [QVM capability names]: Rights::CLASS_NAMES
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
    pub struct Rights: u32 {
        /// Read the object's status, outcomes, usage.
        const READ = 1 << 0;
        /// Use the object: admit and spawn (machine), spawn (image, context, region), apply (qubit), accept and use
        /// (channel endpoint), restore (checkpoint).
        const USE = 1 << 1;
        /// Place derived capabilities in another domain's space.
        const GRANT = 1 << 2;
        /// Place capabilities in the space (domain); pause, migrate, roll back, checkpoint (strand); free (qubit);
        /// close (channel endpoint).
        const CONTROL = 1 << 3;
        /// Offer channels to the domain.
        const OFFER = 1 << 4;

        /// `CAP_ALLOC`: allocate logical qubits.
        const ALLOC = 1 << 16;
        /// `CAP_COMPUTE`: apply unitaries.
        const COMPUTE = 1 << 17;
        /// `CAP_MEASURE`: measure.
        const MEASURE = 1 << 18;
        /// `CAP_TELEPORT`: teleported two-qubit gates.
        const TELEPORT = 1 << 19;
        /// `CAP_MAGIC`: anything that consumes magic states.
        const MAGIC = 1 << 20;
        /// `CAP_LINK`: offer, accept and use entanglement channels.
        const LINK = 1 << 21;
        /// `CAP_CHECKPOINT`: take and restore checkpoints.
        const CHECKPOINT = 1 << 22;
        /// `CAP_DEBUG`: inspect amplitudes and traces.
        const DEBUG = 1 << 23;
        /// `CAP_ADMIN`: create domains, scheduling contexts and regions.
        const ADMIN = 1 << 24;
    }
}

impl fmt::Display for Rights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        bitflags::parser::to_writer(self, f)
    }
}

impl Rights {
    /// Every instruction class, in the order of [`Rights::CLASS_NAMES`].
    pub const CLASSES: Rights = Rights::from_bits_truncate(0x01ff_0000);
    /// The rights over an object, without instruction classes.
    pub const OBJECT: Rights = Rights::from_bits_truncate(0x0000_ffff);
    /// QVM names of the instruction classes, lowest bit first.
    pub const CLASS_NAMES: [(&'static str, Rights); 9] = [
        ("CAP_ALLOC", Rights::ALLOC),
        ("CAP_COMPUTE", Rights::COMPUTE),
        ("CAP_MEASURE", Rights::MEASURE),
        ("CAP_TELEPORT", Rights::TELEPORT),
        ("CAP_MAGIC", Rights::MAGIC),
        ("CAP_LINK", Rights::LINK),
        ("CAP_CHECKPOINT", Rights::CHECKPOINT),
        ("CAP_DEBUG", Rights::DEBUG),
        ("CAP_ADMIN", Rights::ADMIN),
    ];

    /// The class a QVM capability name stands for.
    pub fn from_class_name(name: &str) -> Option<Rights> {
        Self::CLASS_NAMES.iter().find(|(n, _)| *n == name).map(|&(_, r)| r)
    }

    /// QVM names of the classes in `self`.
    pub fn class_names(self) -> Vec<String> {
        Self::CLASS_NAMES.iter().filter(|(_, r)| self.contains(*r)).map(|(n, _)| String::from(*n)).collect()
    }
}
