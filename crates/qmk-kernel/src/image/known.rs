//! What is known of a qubit without looking.

use qmk_abi::Op;
use qmk_abi::image::{Clifford1, Clifford2, Pauli};

/// What is known of a qubit without looking. Of two possibilities, as under a condition, the lesser is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Known {
    /// Nothing.
    #[default]
    Unknown,
    /// Measured in another basis than that of Z, and nothing but Paulis since.
    Measured,
    /// It is in a state of the computational basis.
    Basis,
}

impl Known {
    /// Nothing is lost by freeing it: its state is known to who has the outcomes.
    pub(crate) fn clean(self) -> bool {
        self != Known::Unknown
    }
}

/// What is known of the operands after an operation, in operand order. Surplus entries stay.
#[inline(always)]
pub(crate) fn after(op: &Op, before: &[Known; 3]) -> [Known; 3] {
    use Known::{Basis, Measured, Unknown};
    let [a, b, c] = *before;
    let kept = |k: Known| if k == Basis { Basis } else { Unknown };
    match *op {
        Op::Fence | Op::Pauli(..) => [a, b, c],
        Op::Alloc(_) | Op::Reset(_) | Op::Measure(Pauli::Z, ..) => [Basis, b, c],
        Op::Measure(..) | Op::MeasureAngle(..) => [Measured, b, c],
        Op::MeasureBell(..) => [Measured, Measured, c],
        Op::Clifford1(Clifford1::S | Clifford1::Sdg, _) | Op::T(_) | Op::Tdg(_) | Op::Rotate(Pauli::Z, ..) => {
            [kept(a), b, c]
        }
        Op::Free(_) | Op::InjectT(_) | Op::Clifford1(..) | Op::Rotate(..) => [Unknown, b, c],
        Op::Clifford2(Clifford2::Swap, ..) => [b, a, c],
        Op::Clifford2(Clifford2::Cz, ..) => [kept(a), kept(b), c],
        Op::Clifford2(Clifford2::Cnot, ..) | Op::TeleportCnot(..) => [kept(a), kept(a.min(b)), c],
        Op::Ccz(..) => [kept(a), kept(b), kept(c)],
        Op::Toffoli(..) => [kept(a), kept(b), kept(a.min(b).min(c))],
    }
}
