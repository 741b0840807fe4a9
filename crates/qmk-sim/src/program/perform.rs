//! One step of a program, performed on the state of its component.

use super::steps::LastUse;
use crate::engine::backend::{Backend, Bit};
use crate::engine::frame_state::FrameState;
use crate::engine::refusal::Refusal;
use crate::rng::DrawSite;
use qmk_abi::image::{Op, Pauli};

/// Performs one step and lets its qubits go where it is their last.
pub(crate) fn perform_step<B: Backend>(
    frame_state: &mut FrameState<B::Frame>,
    op: &Op,
    at: u32,
    last_use: [LastUse; 3],
    cond: Option<&Bit<B>>,
    backend: &mut B,
    mut record: impl FnMut(Bit<B>),
) -> Result<(), Refusal>
where
    B::Frame: Default,
{
    match *op {
        Op::Measure(Pauli::Z, q, _) if cond.is_none() && last_use[0] != LastUse::Live => {
            let keep = last_use[0] == LastUse::MeasuredZ;
            record(frame_state.measure_last(q as usize, keep, DrawSite { at, draw: 0 }, backend)?);
        }
        // The qubit is measured, so that the qubits that it was entangled with collapse.
        Op::Free(q) => {
            if frame_state.is_random(q as usize) {
                frame_state.measure_last(
                    q as usize,
                    last_use[0] == LastUse::MeasuredZ,
                    DrawSite { at, draw: 0 },
                    backend,
                )?;
            }
        }
        _ => {
            frame_state.perform(op, at, cond, backend, record)?;
            for (q, last_use) in op.qubits().zip(last_use) {
                if last_use != LastUse::Live {
                    frame_state.retire(q as usize, last_use == LastUse::MeasuredZ);
                }
            }
        }
    }
    Ok(())
}
