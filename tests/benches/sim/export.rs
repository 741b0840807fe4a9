//! Workloads as text for the peers.

use crate::workloads::{Native, Workload};
use num_complex::Complex64;
use qmk_abi::image::{Clifford1, Clifford2, CondTerm, Event, Op, Pauli};
use qmk_hal::Channel;
use qmk_testkit::dense::{Dense, gates};
use std::collections::{BTreeMap, BTreeSet};
use std::f64::consts::PI;
use std::fmt::Write;

/// Lines of a Stim circuit. Neighbours with the same name become one line.
#[derive(Default)]
struct Lines {
    text: String,
    last: String,
}

impl Lines {
    fn push(&mut self, name: &str, targets: &[String]) {
        if self.last != name {
            self.text.push_str(if self.text.is_empty() { "" } else { "\n" });
            self.text.push_str(name);
            self.last = name.into();
        }
        for t in targets {
            self.text.push(' ');
            self.text.push_str(t);
        }
    }
}

/// The circuit in Stim's language, with T and rotations as Clifft and SymFT spell them (angles in half turns).
pub(crate) fn stim(w: &Workload) -> String {
    let mut lines = Lines::default();
    let mut record: BTreeMap<Event, usize> = BTreeMap::new();
    let mut used = BTreeSet::new();
    let mut noise = w.noise.iter().peekable();
    for (at, instr) in w.image.code.iter().enumerate() {
        let targets: Vec<String> = instr.op.qubits().map(|q| q.to_string()).collect();
        if let Some(cond) = instr.cond {
            let name = match instr.op {
                Op::Pauli(Pauli::X, _) => "CX",
                Op::Pauli(Pauli::Y, _) => "CY",
                Op::Pauli(Pauli::Z, _) => "CZ",
                _ => unreachable!("only Paulis are conditional"),
            };
            for term in w.image.cond_terms(cond) {
                match term {
                    CondTerm::Event(e) => {
                        lines.push(name, &[format!("rec[-{}]", record.len() - record[e]), targets[0].clone()]);
                    }
                    CondTerm::Xor(_) => {}
                    _ => unreachable!("conditions are parities"),
                }
            }
        } else if let Some(name) = stim_name(&instr.op) {
            // A register's first use is in |0> already.
            if !matches!(instr.op, Op::Alloc(q) if used.insert(q)) {
                lines.push(&name, &targets);
            }
        }
        for event in instr.op.writes() {
            record.insert(event, record.len());
        }
        while let Some(n) = noise.next_if(|n| n.after as usize == at) {
            let (name, targets) = channel(&n.channel);
            lines.push(&name, &targets);
        }
    }
    lines.text + "\n"
}

fn letter(p: Pauli) -> char {
    match p {
        Pauli::X => 'X',
        Pauli::Y => 'Y',
        Pauli::Z => 'Z',
    }
}

fn stim_name(op: &Op) -> Option<String> {
    let name = match *op {
        Op::Free(_) | Op::Fence => return None,
        Op::Alloc(_) | Op::Reset(_) => "R",
        Op::Pauli(p, _) => return Some(letter(p).into()),
        Op::Clifford1(Clifford1::H, _) => "H",
        Op::Clifford1(Clifford1::S, _) => "S",
        Op::Clifford1(Clifford1::Sdg, _) => "S_DAG",
        Op::Clifford1(Clifford1::Sx, _) => "SQRT_X",
        Op::Clifford1(Clifford1::Sxdg, _) => "SQRT_X_DAG",
        Op::Clifford2(Clifford2::Cnot, ..) => "CX",
        Op::Clifford2(Clifford2::Cz, ..) => "CZ",
        Op::Clifford2(Clifford2::Swap, ..) => "SWAP",
        Op::T(_) => "T",
        Op::Tdg(_) => "T_DAG",
        Op::Rotate(p, _, angle) => return Some(format!("R_{}({})", letter(p), angle / PI)),
        Op::Measure(Pauli::Z, ..) => "M",
        Op::Measure(p, ..) => return Some(format!("M{}", letter(p))),
        _ => unreachable!("no workload uses it"),
    };
    Some(name.into())
}

fn channel(c: &Channel) -> (String, Vec<String>) {
    match c {
        Channel::Pauli1 { qubit, p: [x, y, z] } => {
            let name = match (x, y, z) {
                (p, 0.0, 0.0) => format!("X_ERROR({p})"),
                (0.0, 0.0, p) => format!("Z_ERROR({p})"),
                _ if x == y && y == z => format!("DEPOLARIZE1({})", 3.0 * x),
                _ => format!("PAULI_CHANNEL_1({x},{y},{z})"),
            };
            (name, vec![qubit.to_string()])
        }
        Channel::Pauli2 { qubits, p } => {
            assert!(p.iter().all(|x| *x == p[0]), "no workload uses another");
            (format!("DEPOLARIZE2({})", 15.0 * p[0]), qubits.map(|q| q.to_string()).into())
        }
        Channel::Flip { .. } | Channel::Given { .. } => unreachable!("no workload uses it"),
    }
}

/// The gates of a state-vector simulator, one a line; every qubit is measured at the end. Empty if the workload has
/// none.
pub(crate) fn native(w: &Workload) -> String {
    let mut text = format!("qubits {}\n", w.image.qubits);
    if w.native.is_empty() {
        return String::new();
    }
    for gate in &w.native {
        match gate {
            Native::H(q) => _ = writeln!(text, "h {q}"),
            Native::Ry(q, angle) => _ = writeln!(text, "ry {q} {angle}"),
            Native::Phase(a, b, angle) => _ = writeln!(text, "cp {a} {b} {angle}"),
            Native::Block(a, b, range) => {
                _ = write!(text, "u4 {a} {b}");
                let ops = || w.image.code[range.clone()].iter().map(|i| i.op.map_qubits(|q| (q == *b) as u32));
                let columns = [0, 1, 2, 3].map(|basis| column(basis, ops()));
                for row in 0..4 {
                    for c in &columns {
                        _ = write!(text, " {} {}", c[row].re, c[row].im);
                    }
                }
                text.push('\n');
            }
        }
    }
    text
}

/// What gates on two qubits make of a basis state.
fn column(basis: usize, ops: impl Iterator<Item = Op>) -> Vec<Complex64> {
    let mut state = Dense::new(2);
    state.amps.swap(0, basis);
    ops.for_each(|op| apply(&mut state, &op));
    state.amps
}

/// A gate on the dense reference; the operations it cannot do leave the state alone.
pub(crate) fn apply(state: &mut Dense, op: &Op) {
    match *op {
        Op::Rotate(Pauli::X, q, t) => state.apply(&gates::rx(t), &[], q as usize),
        Op::Rotate(Pauli::Y, q, t) => state.apply(&gates::ry(t), &[], q as usize),
        Op::Rotate(Pauli::Z, q, t) => state.apply(&gates::rz(t), &[], q as usize),
        Op::Clifford2(Clifford2::Cnot, a, b) => state.apply(&gates::X, &[a as usize], b as usize),
        _ => {}
    }
}
