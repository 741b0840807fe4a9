//! A program image made ready for simulation.
//!
//! [`components`] cuts it into parts that never meet, and renames the registers of each to the fewest slots.
//! [`last_use`] marks where each slot is used for the last time. [`steps`] is the result, which [`perform`] performs
//! step by step on a state.

pub(crate) mod check;
mod components;
mod last_use;
pub(crate) mod perform;
pub(crate) mod steps;

use qmk_abi::image::Image;
use qmk_hal::Noise;
use steps::Program;

impl Program {
    /// Prepares a program. The image must be admitted, and the noise [checked](check::check_noise) against it.
    pub(crate) fn new(image: &Image, noise: &[Noise]) -> Program {
        let mut program = Program::rename(image, noise);
        program.defers_from = 13;
        program.mark();
        program
    }
}

#[cfg(test)]
mod tests {
    use super::steps::{LastUse, Program};
    use qmk_abi::image::{Clifford2, Image, Instr, Op, Pauli};

    fn image(qubits: u32, code: &[Op]) -> Image {
        let code: Vec<_> = code.iter().map(|&op| Instr { op, cond: None }).collect();
        Image { qubits, events: 8, code, terms: Vec::new() }
    }

    #[test]
    fn qubits_that_never_meet_are_components_of_their_own() {
        let cnot = |a, b| Op::Clifford2(Clifford2::Cnot, a, b);
        let code = [Op::Alloc(0), Op::Alloc(1), Op::Alloc(2), Op::Alloc(3), cnot(0, 2), cnot(1, 3)];
        let p = Program::new(&image(4, &code), &[]);
        assert_eq!(p.components, [2, 2]);
        assert_eq!(p.steps.iter().map(|s| s.component).collect::<Vec<_>>(), [0, 1]);
    }

    #[test]
    fn a_freed_slot_is_reset_only_for_its_next_user() {
        let measure = |e| Op::Measure(Pauli::Z, 0, e);
        let code = [Op::Alloc(0), measure(0), Op::Free(0), Op::Alloc(0), measure(1), Op::Free(0)];
        let p = Program::new(&image(1, &code), &[]);
        // Two lives that never meet: two components, no reset at all.
        assert_eq!(p.components, [1, 1]);
        assert_eq!(p.steps.iter().map(|s| s.op).collect::<Vec<_>>(), [measure(0), measure(1)]);
        assert!(p.steps.iter().all(|s| s.last_use[0] == LastUse::Dead));
        let cnot = Op::Clifford2(Clifford2::Cnot, 0, 1);
        let code = [Op::Alloc(0), Op::Alloc(1), cnot, Op::Free(1), Op::Alloc(1), cnot, measure(0), Op::Free(1)];
        let p = Program::new(&image(2, &code), &[]);
        assert_eq!(p.components, [2]);
        assert_eq!(p.steps.iter().map(|s| s.op).collect::<Vec<_>>(), [cnot, Op::Reset(1), cnot, measure(0)]);
        assert_eq!(p.steps[2].last_use, [LastUse::MeasuredZ, LastUse::Dead, LastUse::Live]);
    }
}
