//! The steps of a program over slots.

use crate::engine::backend::Frame;
use crate::engine::frame_state::FrameState;
use crate::engine::tableau::tableau_bytes;
use qmk_abi::image::{Cond, Op};
use qmk_hal::{Channel, Column};
use std::sync::Arc;

/// An operation over the slots of one component.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) op: Op,
    pub(crate) cond: Option<Cond>,
    /// Index in the image.
    pub(crate) at: u32,
    pub(crate) component: u32,
    /// For each operand, how its slot is used afterwards.
    pub(crate) last_use: [LastUse; 3],
}

/// How a slot is used after a step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LastUse {
    /// By any operation.
    #[default]
    Live,
    /// By measurements in Z only.
    MeasuredZ,
    /// Not at all.
    Dead,
}

/// A noise channel over slots, after the step with index `after` or one before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoiseStep {
    /// Index in the image of the instruction before it.
    pub(crate) after: u32,
    pub(crate) channel: Channel,
    pub(crate) component: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
    pub(crate) noise: Vec<NoiseStep>,
    /// The Paulis of the given channels.
    pub(crate) columns: Arc<[Column]>,
    /// Slots of each component.
    pub(crate) components: Vec<u32>,
    /// Components of at least this many slots defer rotations. In smaller ones the register is cheaper than the search
    /// for needed rotations.
    pub(crate) defers_from: u32,
}

impl Program {
    /// The state of each component, all slots in |0>.
    pub(crate) fn frame_states<F: Frame + Default>(&self, max_active: u32) -> Vec<FrameState<F>> {
        self.components.iter().map(|&n| FrameState::new(n as usize, max_active, n >= self.defers_from)).collect()
    }

    /// Bytes of the tableaus of all components.
    pub(crate) fn tableau_bytes(&self) -> u64 {
        self.components.iter().map(|&n| tableau_bytes(n as usize)).sum()
    }

    /// Whether an operation other than a Pauli depends on an outcome.
    pub(crate) fn is_conditional(&self) -> bool {
        self.steps.iter().any(|s| s.cond.is_some() && !matches!(s.op, Op::Pauli(..)))
    }
}

pub(super) fn registers(channel: &Channel) -> ([u32; 2], usize) {
    match *channel {
        Channel::Pauli1 { qubit, .. } | Channel::Given { qubit, .. } => ([qubit, 0], 1),
        Channel::Pauli2 { qubits, .. } => (qubits, 2),
        Channel::Flip { .. } => ([0; 2], 0),
    }
}
