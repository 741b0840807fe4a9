//! What a register is charged.

use super::refusal::Refusal;
use crate::ledger::Charge;

/// Registers of at least this many qubits are tried for memory before they are made.
pub(super) const LARGE: u32 = 24;
/// From how many qubits on a register is charged.
const CHARGED: u32 = 12;

/// Bytes of a register: 16 an amplitude, and half as much again for the register that a measurement leaves.
pub(super) fn register_bytes(active: u32) -> u64 {
    if active < CHARGED { 0 } else { 24u64.checked_shl(active).unwrap_or(u64::MAX) }
}

/// Charges for a register of so many qubits, and tries whether there is memory for it. `at` is the instruction to
/// report.
pub(super) fn charge_register(charge: &mut Charge, active: u32, at: u32) -> Result<(), Refusal> {
    let bytes = register_bytes(active);
    charge.raise(bytes).map_err(|shortage| Refusal::StateBytes { shortage, at })?;
    if active >= LARGE && Vec::<u8>::new().try_reserve_exact(bytes as usize).is_err() {
        return Err(Refusal::OutOfMemory { active, at });
    }
    Ok(())
}
