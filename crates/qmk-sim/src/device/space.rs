//! Spaces, and states that were saved of them.

use super::program::{ProgramRun, stride};
use super::shared_state::SharedState;
use crate::ledger::Charge;
use qmk_abi::image::{Image, Qubit};
use qmk_hal::{DeviceError, SpaceStatus};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Debug)]
pub(super) enum Space {
    Program(ProgramSpace),
    Interactive(InteractiveSpace),
}

/// A space that runs a program.
#[derive(Debug)]
pub(super) struct ProgramSpace {
    pub(super) image: Arc<Image>,
    /// Instructions issued. Shots are run from the whole program, so the order of issue cannot matter.
    pub(super) issued: usize,
    /// Outcomes of finished shots, packed.
    pub(super) outcomes: Vec<u8>,
    /// What the outcomes of all shots are charged.
    #[expect(dead_code, reason = "it is given back when the space is closed")]
    pub(super) charge: Charge,
    pub(super) status: SpaceStatus,
    /// Why the work failed, if it did.
    pub(super) fault: Option<DeviceError>,
    /// `None` while work is out.
    pub(super) run: Option<Box<ProgramRun>>,
}

impl ProgramSpace {
    /// The run, if no work is out.
    pub(super) fn run(&mut self) -> Result<&mut ProgramRun, DeviceError> {
        self.run.as_deref_mut().ok_or(DeviceError::Busy)
    }

    /// Forgets all shots and what went wrong: they are run again.
    pub(super) fn rewind(&mut self) -> Result<(), DeviceError> {
        self.run()?.rewind();
        self.status.shots_done = 0;
        self.outcomes.clear();
        self.fault = None;
        Ok(())
    }

    /// The bytes of the outcomes of shots, those that are done.
    pub(super) fn packed(&self, first: u64, count: u64) -> &[u8] {
        let stride = stride(&self.image) as u64;
        let byte = |shot: u64| (shot.saturating_mul(stride) as usize).min(self.outcomes.len());
        &self.outcomes[byte(first)..byte(first.saturating_add(count))]
    }
}

/// An interactive space.
#[derive(Debug)]
pub(super) struct InteractiveSpace {
    /// Number of the state that its qubits are part of.
    pub(super) state: u32,
    pub(super) seed: u64,
    pub(super) memory: Memory,
    /// Number of the next instruction.
    pub(super) at: u32,
    pub(super) peak_active: u32,
}

impl InteractiveSpace {
    /// Number of the instruction after the next.
    pub(super) fn following(&self) -> Result<u32, DeviceError> {
        self.at.checked_add(1).ok_or_else(|| DeviceError::Refused("the space has had 2^32 instructions".into()))
    }

    pub(super) fn status(&self) -> SpaceStatus {
        SpaceStatus { peak_active: self.peak_active, steps: 1, ..SpaceStatus::default() }
    }
}

/// What an interactive space names.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    /// Qubits of the state, by register.
    pub(super) registers: BTreeMap<Qubit, usize>,
    pub(super) events: Vec<bool>,
}

/// A saved state of a space; `None` until the work that saves it is back.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) space: u32,
    pub(super) saved: Option<Arc<Saved>>,
}

#[derive(Debug)]
pub(super) enum Saved {
    Program { issued: usize, shots: u64, outcomes: Vec<u8> },
    Interactive(Box<SharedState>, Memory),
}
