//! The static description of a machine.

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
    /// Patches whose syndrome of one epoch the decoders decode in one epoch. The rest is backlog.
    pub decoded_per_epoch: u32,
    /// Links between spaces.
    pub link: LinkSpec,
    /// Abilities that the kernel and its callers may rely on.
    pub features: Features,
}

/// The rate and the quality of raw entangled pairs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LinkSpec {
    /// A raw pair is a mixture of the four Bell states with these weights: (|00> + |11>)/√2, and the same with an X, Y
    /// or Z on one half. They add up to 1; the first is the fidelity.
    pub raw: [f64; 4],
    /// Raw pairs per epoch.
    pub pairs_per_epoch: u32,
}

/// Optional abilities of a device, as its description states them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Features {
    /// Quantum states can be copied: the device has [`Snapshots`](crate::Snapshots). Only a simulator can.
    pub snapshot: bool,
}
