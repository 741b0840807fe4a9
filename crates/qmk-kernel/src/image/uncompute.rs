//! Undoing: what can be undone, and which qubits need not be.

#[cfg(test)]
mod tests;

use super::known::{Known, after};
use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use qmk_abi::Op;
use qmk_abi::image::{Clifford1, Clifford2, Pauli, Qubit};

/// Whether an operation has an inverse.
#[inline]
pub(crate) fn is_reversible(op: &Op) -> bool {
    inverse(op).is_some()
}

/// The operation that undoes a unitary one; `None` if `op` is irreversible.
#[inline]
pub(crate) fn inverse(op: &Op) -> Option<Op> {
    use Op::*;
    Some(match *op {
        Fence | Pauli(..) | Clifford2(..) | TeleportCnot(..) | Ccz(..) | Toffoli(..) => *op,
        Clifford1(g, q) => {
            use qmk_abi::image::Clifford1::*;
            let g = match g {
                H => H,
                S => Sdg,
                Sdg => S,
                Sx => Sxdg,
                Sxdg => Sx,
            };
            Clifford1(g, q)
        }
        T(q) => Tdg(q),
        Tdg(q) => T(q),
        Rotate(p, q, angle) => Rotate(p, q, -angle),
        Alloc(_) | Free(_) | Reset(_) | Measure(..) | MeasureAngle(..) | MeasureBell(..) | InjectT(_) => return None,
    })
}

/// Whether an operation commutes with Z on its operand `q`. It then is a choice, by the value of `q`, of what to do to
/// the other operands, so that any two such operations commute if they share no other operands.
fn diagonal(op: &Op, q: Qubit) -> bool {
    match *op {
        Op::Pauli(p, _) | Op::Rotate(p, ..) | Op::Measure(p, ..) => p == Pauli::Z,
        Op::Clifford1(g, _) => matches!(g, Clifford1::S | Clifford1::Sdg),
        Op::T(_) | Op::Tdg(_) | Op::Clifford2(Clifford2::Cz, ..) | Op::Ccz(..) => true,
        Op::Clifford2(Clifford2::Cnot, _, t) | Op::TeleportCnot(_, t) | Op::Toffoli(_, _, t) => q != t,
        _ => false,
    }
}

/// Whether a unitary operation takes a basis state of its operand `q` to one, by values of the other operands.
fn classical(op: &Op, q: Qubit) -> bool {
    diagonal(op, q)
        || matches!(op, Op::Pauli(..) | Op::Clifford2(Clifford2::Cnot, ..) | Op::TeleportCnot(..) | Op::Toffoli(..))
}

/// What was done to a space: the segment of unitary operations since the last irreversible one, which can be undone as
/// a whole, and what came before it, which tells which single qubits can be brought back.
#[derive(Clone, Debug, Default)]
pub(crate) struct Segment {
    history: Vec<Op>,
    /// Where in `history` the segment begins.
    start: usize,
}

impl Segment {
    /// Most operations remembered. When they are more, the older half is forgotten.
    pub(crate) const MAX: usize = 1 << 16;

    /// Records an operation that was performed. An irreversible one begins a new segment.
    pub(crate) fn push(&mut self, op: Op) {
        if self.history.len() >= Self::MAX {
            self.history.drain(..Self::MAX / 2);
            self.start = self.start.saturating_sub(Self::MAX / 2);
        }
        self.history.push(op);
        if !is_reversible(&op) {
            self.start = self.history.len();
        }
    }

    /// Forgets everything: the state of the space was changed in a way that is no operation.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Forgets the segment: it was undone.
    pub(crate) fn undone(&mut self) {
        self.history.truncate(self.start);
    }

    /// Operations of the segment.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.history.len().saturating_sub(self.start)
    }

    /// Nothing can be undone.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What undoes the segment, in the order of application.
    pub(crate) fn inverses(&self) -> impl Iterator<Item = Op> + '_ {
        self.history.get(self.start..).unwrap_or_default().iter().rev().filter_map(inverse)
    }

    /// Operations after the last irreversible one on `q`, newest first.
    fn since(&self, q: Qubit) -> impl Iterator<Item = &Op> {
        self.history.iter().rev().take_while(move |op| is_reversible(op) || op.qubits().all(|r| r != q))
    }

    /// What is known of `q` at its origin, the state that [`Segment::uncompute`] brings it back to: that after the last
    /// irreversible operation on it, or at the beginning of the history.
    pub(crate) fn origin(&self, q: Qubit) -> Known {
        let last = self.history.iter().rev().find(|op| !is_reversible(op) && op.qubits().any(|r| r == q));
        // Operands of an irreversible operation all fare alike, whatever they were.
        last.map_or(Known::Unknown, |op| after(op, &[Known::Unknown; 3])[0])
    }

    /// Operations that bring `q` back to its origin, in the order of application; `None` if that cannot be done by
    /// acting on `q` alone, controlled by other qubits in their present state.
    ///
    /// *A value is erased.* If the origin is a basis state and `q` was only flipped, by values of other qubits, it
    /// holds a function of these values ("qfree", Bichsel et al., Silq, PLDI 2020; Paradis et al., Unqomp, PLDI 2021).
    /// The flips are undone, and what `q` was used for stays: copies of it and phases that depend on it. A flip reads
    /// the same values again, as nothing that is not diagonal was done to its controls since, so amplitudes stay as
    /// they are, with the value of `q` at its origin in every term.
    ///
    /// *Or it never happened.* Else all operations Q on `q` are undone, and the other qubits are as they would be
    /// without them. Let N be the other operations since. It suffices that each operation of Q commutes with all
    /// later ones of N: then all of Q can be moved behind N in its order, where its inverse cancels it. The operands
    /// that they share are not `q`, and both are diagonal on each of them. So they commute: for fixed values of what
    /// they share they act on different qubits. This holds for projections on Z of other qubits as well.
    pub(crate) fn uncompute(&self, q: Qubit) -> Option<Vec<Op>> {
        let names = |op: &Op| op.qubits().any(|r| r == q);
        let erase = self.origin(q) == Known::Basis && self.since(q).all(|op| !names(op) || classical(op, q));
        let mut undo = Vec::new();
        // Qubits that something not diagonal is done to later.
        let mut changed = BTreeSet::new();
        for op in self.since(q) {
            if !names(op) || erase && diagonal(op, q) {
                changed.extend(op.qubits().filter(|&r| !diagonal(op, r)));
            } else if op.qubits().any(|r| r != q && (!diagonal(op, r) || changed.contains(&r))) {
                return None;
            } else {
                undo.push(match *op {
                    // Y is a flip and a phase, and the phase stays.
                    Op::Pauli(Pauli::Y, q) if erase => Op::Pauli(Pauli::X, q),
                    _ => inverse(op)?,
                });
            }
        }
        Some(undo)
    }
}
