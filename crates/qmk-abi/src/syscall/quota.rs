//! Limits of domains and of machine capabilities.

use serde::{Deserialize, Serialize};

/// Limits of a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quota {
    /// Logical qubits live at once.
    pub qubits: u32,
    /// Physical qubits of those, at once.
    pub physical_qubits: u64,
    /// Strands not yet destroyed.
    pub strands: u32,
    /// Size of all admitted images together: instructions, registers, and condition terms as often as they are read.
    pub instructions: u32,
    /// Occupied capability slots.
    pub slots: u32,
    /// Channels offered, to it or by it, and not yet closed.
    pub channels: u32,
    /// Checkpoints not yet destroyed.
    pub checkpoints: u32,
    /// Qubits carrying live magic at once in a strand: the cost of simulating them is exponential in it.
    pub active: u32,
    /// The same of the qubits held one by one, whose operations are performed while the caller waits.
    pub held_active: u32,
    /// Magic states in one window; of strands, those of one shot each.
    pub magic: u64,
    /// Epochs in one window in which strands of the domain issue something, counted per strand.
    pub epochs: u64,
    /// Epochs of one window; 0 is one window without end.
    pub window: u64,
    /// Share of contended resources, relative to other domains'; at least 1.
    pub weight: u32,
}

impl Quota {
    /// No limit but that on live magic, and weight 1.
    pub const UNLIMITED: Quota = Quota {
        qubits: u32::MAX,
        physical_qubits: u64::MAX,
        strands: u32::MAX,
        instructions: u32::MAX,
        slots: u32::MAX,
        channels: u32::MAX,
        checkpoints: u32::MAX,
        active: 26,
        held_active: 26,
        magic: u64::MAX,
        epochs: u64::MAX,
        window: 0,
        weight: 1,
    };
}

/// What a domain uses of its [`Quota`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DomainUsage {
    /// Logical qubits.
    pub qubits: u32,
    /// Physical qubits.
    pub physical_qubits: u64,
    /// Strands.
    pub strands: u32,
    /// Size of admitted images.
    pub instructions: u32,
    /// Slots.
    pub slots: u32,
    /// Channels.
    pub channels: u32,
    /// Checkpoints.
    pub checkpoints: u32,
    /// Magic states in the current window.
    pub magic: u64,
    /// Epochs in the current window.
    pub epochs: u64,
    /// Magic states since the domain was made.
    pub total_magic: u64,
    /// Raw entangled pairs that went into its channels since the domain was made.
    pub total_pairs: u64,
}

/// What may be done through a machine capability that was derived with a budget, and through all that derive from
/// it. Strands and qubits count while they exist, magic states for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Strands not yet destroyed.
    pub strands: u32,
    /// Logical qubits: held, and those of strands not yet destroyed.
    pub qubits: u32,
    /// Magic states, those of all shots.
    pub magic: u64,
}
