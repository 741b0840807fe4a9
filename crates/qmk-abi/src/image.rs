//! Program images: what the kernel admits and the machine executes.
//!
//! An image is a flat list of instructions over qubit registers `0..qubits` and one-bit event registers
//! `0..events`. Program order is list order. Each instruction may carry a condition over events
//! already written; an instruction whose condition is false does nothing, and an event that is never
//! written reads 0.

use crate::caps::Rights;
use alloc::collections::VecDeque;
use alloc::vec::Vec;
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

/// One term of a condition in postfix order: operands first, then the operator that joins them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CondTerm {
    /// Pushes an event's value.
    Event(Event),
    /// Negates the top of the stack.
    Not,
    /// Replaces the top `n >= 1` values by their conjunction.
    And(u32),
    /// Replaces the top `n >= 1` values by their disjunction.
    Or(u32),
    /// Replaces the top `n >= 1` values by their parity.
    Xor(u32),
}

/// A range `start..end` of [`Image::terms`] in postfix order; leaves exactly one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cond {
    /// First term.
    pub start: u32,
    /// One past the last term.
    pub end: u32,
}

/// An operation and the condition under which it acts.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Instr {
    /// What to do.
    pub op: Op,
    /// When to do it; `None` is always.
    pub cond: Option<Cond>,
}

/// A program image. Untrusted until the kernel admits it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Image {
    /// Number of qubit registers.
    pub qubits: u32,
    /// Number of one-bit event registers.
    pub events: u32,
    /// Instructions in program order.
    pub code: Vec<Instr>,
    /// Condition terms shared by all instructions.
    pub terms: Vec<CondTerm>,
}

impl Image {
    /// Most registers that are allocated at once, in program order: the patches that a program holds.
    pub fn peak_qubits(&self) -> u32 {
        let (mut now, mut most) = (0u32, 0);
        for instr in &self.code {
            match instr.op {
                Op::Alloc(_) => now = now.saturating_add(1),
                Op::Free(_) => now = now.saturating_sub(1),
                _ => {}
            }
            most = most.max(now);
        }
        most
    }

    /// Terms of a condition; empty if the range is out of bounds.
    #[inline]
    pub fn cond_terms(&self, cond: Cond) -> &[CondTerm] {
        self.terms.get(cond.start as usize..cond.end as usize).unwrap_or(&[])
    }
}

/// The patches that a program holds, while one goes through its instructions in their order. An allocation takes a patch that
/// was never used, while there are such, and then the one that was freed first, for which it waits. So no more are in use at
/// once than the program holds.
#[derive(Clone, Debug)]
pub struct Patches<T> {
    unused: u32,
    freed: VecDeque<T>,
}

impl<T> Patches<T> {
    /// So many, none in use.
    pub fn new(patches: u32) -> Self {
        Patches { unused: patches, freed: VecDeque::new() }
    }

    /// A patch is freed; `by` tells by what, or when.
    pub fn give(&mut self, by: T) {
        self.freed.push_back(by);
    }

    /// Takes a patch. Returns what was told when it was freed, if it was in use before.
    pub fn take(&mut self) -> Option<T> {
        match self.unused.checked_sub(1) {
            Some(left) => {
                self.unused = left;
                None
            }
            None => self.freed.pop_front(),
        }
    }
}

/// Why an image was not admitted. `at` is the index of the offending instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("instruction {at}: {kind}")]
pub struct ImageError {
    /// Instruction index.
    pub at: u32,
    /// What is wrong with it.
    pub kind: ImageErrorKind,
}

/// Kinds of [`ImageError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ImageErrorKind {
    /// Too many instructions, registers, events or condition terms.
    #[error("image exceeds the size limit")]
    TooLarge,
    /// A register index is not below `qubits`.
    #[error("qubit register out of range")]
    QubitRange,
    /// An event index is not below `events`.
    #[error("event register out of range")]
    EventRange,
    /// Two operands name one register, or two outputs one event.
    #[error("operand named twice")]
    Duplicate,
    /// A register is used before it is allocated or after it was freed.
    #[error("qubit register is not allocated")]
    NotAllocated,
    /// A register is allocated twice.
    #[error("qubit register is already allocated")]
    AlreadyAllocated,
    /// A condition reads an event that no earlier instruction writes.
    #[error("event is read before it is written")]
    ReadBeforeWrite,
    /// An event is written twice.
    #[error("event is written twice")]
    WrittenTwice,
    /// A condition is malformed: bad range, stack underflow, or not exactly one value left.
    #[error("malformed condition")]
    BadCondition,
    /// Alloc, Free and Fence cannot be conditional.
    #[error("operation cannot be conditional")]
    CannotBeConditional,
    /// An angle is NaN or infinite.
    #[error("angle is not finite")]
    BadAngle,
    /// The machine capability lacks the instruction's class.
    #[error("capability class missing")]
    Class,
    /// The instruction needs more than the machine ever has at once.
    #[error("the machine never has what the operation needs at once")]
    Unaffordable,
}
