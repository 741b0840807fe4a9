//! Lowering of a graph to a program image: names become register numbers, guards become postfix conditions, and
//! rotations by whole quarter turns become Clifford gates.

use crate::facts::{angle, bell_events, endpoints, mask};
use crate::graph::{Graph, Guard, Node};
use crate::opcode::{Kind, quarter_turns};
use crate::profile::Profile;
use crate::verify::check;
use foldhash::{HashMap, HashMapExt};
use qmk_abi::Image;
use qmk_abi::image::{Clifford1, Clifford2, Cond, CondTerm, Instr, Op, Pauli};
use qmk_abi::rpc::{Finding, Severity};

/// An event of a graph and the event registers that hold it: one, or two for a Bell index, high bit first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBits {
    /// Name of the event.
    pub name: String,
    /// Numbers of its registers.
    pub bits: Vec<u32>,
}

/// A lowered graph: the image, and the names that its numbers stand for.
#[derive(Clone, Debug)]
pub struct Lowered {
    /// The image.
    pub image: Image,
    /// Index of the node of each instruction. Final frees have that of the last node.
    pub node_of: Vec<u32>,
    /// Events in the order of their declaration.
    pub events: Vec<EventBits>,
    /// Profile of the first allocation that names one.
    pub profile: Option<Profile>,
    /// Messages of the verifier's warnings.
    pub warnings: Vec<String>,
    /// Name of each qubit register.
    pub qubits: Vec<String>,
}

/// Lowers a graph. Qubits still live at the end are freed there.
///
/// # Errors
/// The verifier's findings, if any is an error.
pub fn lower(graph: &Graph) -> Result<Lowered, Vec<Finding>> {
    let (findings, order) = check(graph, None);
    if findings.iter().any(|f| f.severity == Severity::Error) {
        return Err(findings);
    }
    let bell = bell_events(graph);
    let mut events = Vec::new();
    let mut next = 0u32;
    for name in &graph.resources.events {
        let width = 1 + bell.contains(name.as_str()) as u32;
        events.push(EventBits { name: name.clone(), bits: (next..next + width).collect() });
        next += width;
    }
    let mut l = Lowerer {
        qubits: HashMap::new(),
        events: events.iter().map(|e| (e.name.as_str(), e.bits.as_slice())).collect(),
        endpoints: endpoints(graph),
        image: Image { events: next, ..Image::default() },
        node_of: Vec::new(),
        node: 0,
        cond: None,
    };
    for index in order {
        l.node = index as u32;
        l.lower_node(&graph.nodes[index]);
    }
    // An image must free what it allocates.
    let mut live = vec![false; l.image.qubits as usize];
    for i in &l.image.code {
        match i.op {
            Op::Alloc(q) => live[q as usize] = true,
            Op::Free(q) => live[q as usize] = false,
            _ => {}
        }
    }
    l.cond = None;
    for (q, _) in live.iter().enumerate().filter(|(_, live)| **live) {
        l.push(Op::Free(q as u32));
    }
    let allocations = graph.nodes.iter().filter(|n| n.op.kind() == Kind::Alloc);
    let profile = allocations.filter_map(|n| n.args.get("profile")?.as_str()).find_map(|p| Profile::parse(p).ok());
    let mut names: Vec<(u32, &str)> = l.qubits.iter().map(|(&name, &register)| (register, name)).collect();
    names.sort_unstable();
    let qubits = names.into_iter().map(|(_, name)| name.to_string()).collect();
    let (image, node_of) = (l.image, l.node_of);
    let warnings = findings.into_iter().map(|f| f.message).collect();
    Ok(Lowered { image, node_of, events, profile, warnings, qubits })
}

struct Lowerer<'a> {
    qubits: HashMap<&'a str, u32>,
    events: HashMap<&'a str, &'a [u32]>,
    endpoints: Vec<&'a [String]>,
    image: Image,
    node_of: Vec<u32>,
    /// Index of the current node.
    node: u32,
    /// Condition of the current node.
    cond: Option<Cond>,
}

impl<'a> Lowerer<'a> {
    fn push(&mut self, op: Op) {
        self.image.code.push(Instr { op, cond: self.cond });
        self.node_of.push(self.node);
    }

    fn qubit(&mut self, id: &'a str) -> u32 {
        let next = self.image.qubits;
        *self.qubits.entry(id).or_insert_with(|| {
            self.image.qubits += 1;
            next
        })
    }

    fn guard(&mut self, g: &Guard) {
        let terms = &mut self.image.terms;
        match g {
            Guard::Equals(e, value) => match self.events[e.as_str()] {
                [bit] => {
                    terms.push(CondTerm::Event(*bit));
                    if *value == 0 {
                        terms.push(CondTerm::Not);
                    }
                }
                // A Bell index has two bits; it equals 0 or 1 if the high bit is 0 and the low bit is the value.
                bits => {
                    terms.extend([CondTerm::Event(bits[0]), CondTerm::Not, CondTerm::Event(bits[1])]);
                    if *value == 0 {
                        terms.push(CondTerm::Not);
                    }
                    terms.push(CondTerm::And(2));
                }
            },
            Guard::And(parts) | Guard::Or(parts) => {
                parts.iter().for_each(|p| self.guard(p));
                let n = parts.len() as u32;
                self.image.terms.push(if matches!(g, Guard::And(_)) { CondTerm::And(n) } else { CondTerm::Or(n) });
            }
        }
    }

    /// Appends the terms of a node's guard and inputs; both must hold.
    fn condition(&mut self, node: &'a Node) -> Option<Cond> {
        let start = self.image.terms.len() as u32;
        if let Some(g) = &node.guard {
            self.guard(g);
        }
        for e in &node.inputs {
            self.image.terms.push(CondTerm::Event(self.events[e.as_str()][0]));
        }
        if !node.inputs.is_empty() {
            self.image.terms.push(CondTerm::Xor(node.inputs.len() as u32));
            if node.guard.is_some() {
                self.image.terms.push(CondTerm::And(2));
            }
        }
        let end = self.image.terms.len() as u32;
        (end > start).then_some(Cond { start, end })
    }

    fn lower_node(&mut self, node: &'a Node) {
        self.cond = self.condition(node);
        let mut q: Vec<u32> = node.vqs.iter().map(|v| self.qubit(v)).collect();
        if node.op.kind() == Kind::UseChan {
            let ends = self.endpoints[self.node as usize];
            q = ends.iter().map(|v| self.qubit(v)).collect();
        }
        let out: Vec<u32> = node.produces.iter().flat_map(|e| self.events[e.as_str()].iter().copied()).collect();
        match node.op.kind() {
            Kind::Alloc => q.into_iter().for_each(|q| self.push(Op::Alloc(q))),
            Kind::Free => q.into_iter().for_each(|q| self.push(Op::Free(q))),
            Kind::Fence => self.push(Op::Fence),
            Kind::BarRegion | Kind::SetPolicy | Kind::CloseChan => {}
            Kind::Pauli(p) => self.push(Op::Pauli(p, q[0])),
            Kind::Clifford1(g) => self.push(Op::Clifford1(g, q[0])),
            Kind::T => self.push(Op::T(q[0])),
            Kind::Tdg => self.push(Op::Tdg(q[0])),
            Kind::Rotate(axis) => self.rotate(axis, q[0], angle(node).unwrap_or(0.0)),
            Kind::Clifford2(g) => self.push(Op::Clifford2(g, q[0], q[1])),
            Kind::TeleportCnot => self.push(Op::TeleportCnot(q[0], q[1])),
            Kind::Toffoli => self.push(Op::Toffoli(q[0], q[1], q[2])),
            Kind::Ccz => self.push(Op::Ccz(q[0], q[1], q[2])),
            Kind::Reset => self.push(Op::Reset(q[0])),
            Kind::InjectT => self.push(Op::InjectT(q[0])),
            Kind::Measure(p) => self.push(Op::Measure(p, q[0], out[0])),
            Kind::MeasureBell => self.push(Op::MeasureBell(q[0], q[1], out[0], out[1])),
            Kind::MeasureAngle => {
                let a = angle(node).unwrap_or(0.0);
                // At 0, 1, 2 and 3 quarter turns, outcome 0 projects on |0>, |+>, |1> and |->.
                let flipped = |l: &mut Self, flip, basis| {
                    l.push(Op::Pauli(flip, q[0]));
                    l.push(Op::Measure(basis, q[0], out[0]));
                    l.push(Op::Pauli(flip, q[0]));
                };
                match quarter_turns(a) {
                    Some(0) => self.push(Op::Measure(Pauli::Z, q[0], out[0])),
                    Some(1) => self.push(Op::Measure(Pauli::X, q[0], out[0])),
                    Some(2) => flipped(self, Pauli::X, Pauli::Z),
                    Some(_) => flipped(self, Pauli::Z, Pauli::X),
                    None => self.push(Op::MeasureAngle(a, q[0], out[0])),
                }
            }
            Kind::CondPauli => {
                for (letter, &q) in mask(node).unwrap_or("").chars().zip(&q) {
                    let p = match letter {
                        'X' => Pauli::X,
                        'Y' => Pauli::Y,
                        'Z' => Pauli::Z,
                        _ => continue,
                    };
                    self.push(Op::Pauli(p, q));
                }
            }
            Kind::OpenChan => {
                self.push(Op::Reset(q[0]));
                self.push(Op::Reset(q[1]));
                self.push(Op::Clifford1(Clifford1::H, q[0]));
                self.push(Op::Clifford2(Clifford2::Cnot, q[0], q[1]));
            }
            Kind::UseChan => {
                if node.args.get("semantic").and_then(|s| s.as_str()) == Some("teleport") {
                    self.push(Op::Reset(q[1]));
                }
                self.push(Op::Clifford2(Clifford2::Swap, q[0], q[1]));
            }
        }
    }

    /// Rotations by whole quarter turns are Clifford gates, up to a global phase.
    fn rotate(&mut self, axis: Pauli, q: u32, theta: f64) {
        use Clifford1::*;
        match (quarter_turns(theta), axis) {
            (None, _) => self.push(Op::Rotate(axis, q, theta)),
            (Some(0), _) => {}
            (Some(2), _) => self.push(Op::Pauli(axis, q)),
            (Some(1), Pauli::Z) => self.push(Op::Clifford1(S, q)),
            (Some(_), Pauli::Z) => self.push(Op::Clifford1(Sdg, q)),
            (Some(1), Pauli::X) => self.push(Op::Clifford1(Sx, q)),
            (Some(_), Pauli::X) => self.push(Op::Clifford1(Sxdg, q)),
            // Ry(π/2) = H Z, first Z; its inverse is Z H.
            (Some(1), Pauli::Y) => {
                self.push(Op::Pauli(Pauli::Z, q));
                self.push(Op::Clifford1(H, q));
            }
            (Some(_), Pauli::Y) => {
                self.push(Op::Clifford1(H, q));
                self.push(Op::Pauli(Pauli::Z, q));
            }
        }
    }
}
