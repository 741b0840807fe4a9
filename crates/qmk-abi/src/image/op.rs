//! Operations on registers.

use crate::caps::Rights;
use serde::{Deserialize, Serialize};

/// Index of a qubit register of an image.
pub type Qubit = u32;
/// Index of a one-bit event register of an image.
pub type Event = u32;

/// A Pauli letter; also names a measurement basis or rotation axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Pauli {
    /// Bit flip.
    X,
    /// `iXZ`.
    Y,
    /// Phase flip.
    Z,
}

/// One-qubit Clifford gates that are not Paulis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Clifford1 {
    /// Hadamard.
    H,
    /// `diag(1, i)`.
    S,
    /// `diag(1, -i)`.
    Sdg,
    /// `exp(-iπX/4)` up to phase.
    Sx,
    /// `exp(+iπX/4)` up to phase.
    Sxdg,
}

/// Two-qubit Clifford gates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Clifford2 {
    /// Controlled X: first operand is the control.
    Cnot,
    /// Controlled Z.
    Cz,
    /// Exchange.
    Swap,
}

/// An operation on registers. Angles are radians.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Op {
    /// Takes a register into use, in |0>. A register may be allocated again after it was freed.
    Alloc(Qubit),
    /// Ends the use of a register, discarding its state.
    Free(Qubit),
    /// Everything before it happens before everything after it.
    Fence,
    /// A Pauli gate.
    Pauli(Pauli, Qubit),
    /// A one-qubit Clifford gate.
    Clifford1(Clifford1, Qubit),
    /// A two-qubit Clifford gate on distinct registers.
    Clifford2(Clifford2, Qubit, Qubit),
    /// The same unitary as CNOT (control, target), performed by gate teleportation over an entangled pair.
    TeleportCnot(Qubit, Qubit),
    /// `diag(1, e^{iπ/4})`.
    T(Qubit),
    /// `diag(1, e^{-iπ/4})`.
    Tdg(Qubit),
    /// `exp(-i θ/2 P)`.
    Rotate(Pauli, Qubit, f64),
    /// Doubly controlled Z on distinct registers.
    Ccz(Qubit, Qubit, Qubit),
    /// Doubly controlled X: two controls, then the target.
    Toffoli(Qubit, Qubit, Qubit),
    /// Returns a register to |0>.
    Reset(Qubit),
    /// Projective measurement of a Pauli; event 0 for eigenvalue +1.
    Measure(Pauli, Qubit, Event),
    /// Projects on `cos(a/2)|0> + sin(a/2)|1>` (event 0) or its orthogonal complement (event 1).
    MeasureAngle(f64, Qubit, Event),
    /// Projects on the Bell basis: first event is the outcome of XX, second that of ZZ (0 for +1).
    MeasureBell(Qubit, Qubit, Event, Event),
    /// Resets the register and prepares `T|+>` from a magic state.
    InjectT(Qubit),
}

impl Op {
    /// Registers the operation names, in operand order.
    #[inline]
    pub fn qubits(&self) -> impl Iterator<Item = Qubit> + Clone + use<> {
        let (q, n) = self.operands();
        q.into_iter().take(n)
    }

    /// Registers the operation names, in operand order, and how many they are; the others are 0.
    #[inline]
    pub fn operands(&self) -> ([Qubit; 3], usize) {
        use Op::*;
        match *self {
            Fence => ([0; 3], 0),
            Alloc(q)
            | Free(q)
            | Pauli(_, q)
            | Clifford1(_, q)
            | T(q)
            | Tdg(q)
            | Rotate(_, q, _)
            | Reset(q)
            | Measure(_, q, _)
            | MeasureAngle(_, q, _)
            | InjectT(q) => ([q, 0, 0], 1),
            Clifford2(_, a, b) | TeleportCnot(a, b) | MeasureBell(a, b, _, _) => ([a, b, 0], 2),
            Ccz(a, b, c) | Toffoli(a, b, c) => ([a, b, c], 3),
        }
    }

    /// The same operation with every register renamed.
    pub fn map_qubits(&self, f: impl Fn(Qubit) -> Qubit) -> Op {
        use Op::*;
        match *self {
            Alloc(q) => Alloc(f(q)),
            Free(q) => Free(f(q)),
            Fence => Fence,
            Pauli(p, q) => Pauli(p, f(q)),
            Clifford1(g, q) => Clifford1(g, f(q)),
            Clifford2(g, a, b) => Clifford2(g, f(a), f(b)),
            TeleportCnot(a, b) => TeleportCnot(f(a), f(b)),
            T(q) => T(f(q)),
            Tdg(q) => Tdg(f(q)),
            Rotate(p, q, t) => Rotate(p, f(q), t),
            Ccz(a, b, c) => Ccz(f(a), f(b), f(c)),
            Toffoli(a, b, c) => Toffoli(f(a), f(b), f(c)),
            Reset(q) => Reset(f(q)),
            Measure(p, q, e) => Measure(p, f(q), e),
            MeasureAngle(t, q, e) => MeasureAngle(t, f(q), e),
            MeasureBell(a, b, e0, e1) => MeasureBell(f(a), f(b), e0, e1),
            InjectT(q) => InjectT(f(q)),
        }
    }

    /// Events the operation writes, in order.
    #[inline]
    pub fn writes(&self) -> impl Iterator<Item = Event> + Clone + use<> {
        let (e, n) = self.results();
        e.into_iter().take(n)
    }

    /// Events the operation writes, and how many they are; the others are 0.
    #[inline]
    pub fn results(&self) -> ([Event; 2], usize) {
        match *self {
            Op::Measure(_, _, e) | Op::MeasureAngle(_, _, e) => ([e, 0], 1),
            Op::MeasureBell(_, _, a, b) => ([a, b], 2),
            _ => ([0; 2], 0),
        }
    }

    /// The instruction class needed to admit the operation, as machine-capability rights. Lowering
    /// turns rotations by Clifford angles into Clifford gates, so every `Rotate` needs `MAGIC`.
    #[inline]
    pub fn class(&self) -> Rights {
        use Op::*;
        match self {
            Alloc(_) => Rights::ALLOC,
            Free(_) | Fence => Rights::empty(),
            Pauli(..) | Clifford1(..) | Clifford2(..) | Reset(_) => Rights::COMPUTE,
            TeleportCnot(..) => Rights::TELEPORT,
            T(_) | Tdg(_) | Rotate(..) | Ccz(..) | Toffoli(..) => Rights::COMPUTE.union(Rights::MAGIC),
            InjectT(_) => Rights::MAGIC,
            Measure(..) | MeasureBell(..) => Rights::MEASURE,
            MeasureAngle(..) => Rights::MEASURE.union(Rights::MAGIC),
        }
    }

    /// The angle argument, if the operation has one.
    #[inline]
    pub fn angle(&self) -> Option<f64> {
        match *self {
            Op::Rotate(_, _, a) | Op::MeasureAngle(a, _, _) => Some(a),
            _ => None,
        }
    }
}
