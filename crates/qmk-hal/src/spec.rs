//! What a machine is.

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
