//! Interactive spaces.

use qmk_abi::image::{Instr, Qubit};
use qmk_hal::DeviceError;
use std::collections::BTreeMap;

/// Events of one interactive space.
const MAX_EVENTS: u32 = 1 << 14;

/// An interactive space.
#[derive(Debug)]
pub(super) struct Interactive {
    /// The state that its qubits are part of.
    pub(super) state: u32,
    pub(super) memory: Memory,
    /// Number of the next instruction.
    pub(super) at: u32,
}

/// What an interactive space names.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Qubits of the state, by register.
    pub(super) registers: BTreeMap<Qubit, usize>,
    pub(super) events: Vec<bool>,
}

impl Interactive {
    /// Number of the instruction after the next.
    pub(super) fn following(&self) -> Result<u32, DeviceError> {
        self.at.checked_add(1).ok_or_else(|| DeviceError::Refused("the space has had 2^32 instructions".into()))
    }
}

/// Refuses what would not be admitted as part of a program.
pub(super) fn check(instr: &Instr) -> Result<(), DeviceError> {
    let refuse = |why: &str| Err(DeviceError::Refused(why.into()));
    if instr.cond.is_some() {
        return refuse("a condition is for programs; let the caller decide");
    }
    if instr.op.angle().is_some_and(|a| !a.is_finite()) {
        return refuse("the angle is not finite");
    }
    let qubits = instr.op.qubits().enumerate();
    if qubits.clone().any(|(i, q)| instr.op.qubits().take(i).any(|other| other == q)) {
        return refuse("an operation acts on different registers");
    }
    if instr.op.writes().any(|e| e >= MAX_EVENTS) {
        return Err(DeviceError::Refused(format!("an interactive space holds {MAX_EVENTS} events")));
    }
    Ok(())
}
