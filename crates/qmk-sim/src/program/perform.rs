//! One step of a program.

use super::steps::Fate;
use crate::engine::backend::{Backend, Bit};
use crate::engine::frame_state::Structure;
use crate::engine::refusal::Refusal;
use crate::rng::Site;
use qmk_abi::image::{Op, Pauli};

/// Performs one step and lets its qubits go where it is their last.
pub(crate) fn step_once<B: Backend>(
    structure: &mut Structure<B::Frame>,
    op: &Op,
    at: u32,
    fate: [Fate; 3],
    cond: Option<&Bit<B>>,
    backend: &mut B,
    mut record: impl FnMut(Bit<B>),
) -> Result<(), Refusal>
where
    B::Frame: Default,
{
    match *op {
        Op::Measure(Pauli::Z, q, _) if cond.is_none() && fate[0] != Fate::Used => {
            let keep = fate[0] == Fate::MeasuredZ;
            record(structure.measure_last(q as usize, keep, Site { at, draw: 0 }, backend)?);
        }
        // Measured, so that what it was entangled with is as if someone had looked.
        Op::Free(q) => {
            if structure.is_random(q as usize) {
                structure.measure_last(q as usize, fate[0] == Fate::MeasuredZ, Site { at, draw: 0 }, backend)?;
            }
        }
        _ => {
            structure.perform(op, at, cond, backend, record)?;
            for (q, fate) in op.qubits().zip(fate) {
                if fate != Fate::Used {
                    structure.retire(q as usize, fate == Fate::MeasuredZ);
                }
            }
        }
    }
    Ok(())
}
