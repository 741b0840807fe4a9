//! Valid programs, built from choices.

use proptest::prelude::*;
use qmk_qvm::{Graph, Guard, Node, Opcode};
use serde_json::{Value, json};

/// Choices from which [`circuit`] builds a valid program.
pub(crate) type Choices = Vec<(u8, [u16; 3], u8)>;

pub(crate) fn choices(most: usize) -> impl Strategy<Value = Choices> {
    prop::collection::vec((any::<u8>(), any::<[u16; 3]>(), any::<u8>()), 0..most)
}

/// A program in which each choice is an operation on qubits, events and channels that exist at that point.
#[derive(Default)]
struct Circuit {
    graph: Graph,
    live: Vec<String>,
    /// Events so far, and those that are bits.
    events: Vec<String>,
    bits: Vec<String>,
    open: Vec<String>,
    qubits: usize,
}

impl Circuit {
    fn push(&mut self, op: Opcode, vqs: &[String], args: Value) -> &mut Node {
        let id = format!("n{}", self.graph.nodes.len());
        let Value::Object(args) = args else { panic!("arguments are an object") };
        let lists = || (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (chs, inputs, produces, caps) = lists();
        self.graph.nodes.push(Node {
            id,
            op,
            args,
            vqs: vqs.to_vec(),
            chs,
            inputs,
            produces,
            caps,
            guard: None,
            line: None,
        });
        self.graph.nodes.last_mut().unwrap()
    }

    fn alloc(&mut self, n: usize) {
        let new: Vec<String> = (0..n).map(|i| format!("q{}", self.qubits + i)).collect();
        self.qubits += n;
        self.push(Opcode::AllocLq, &new, json!({"n": n}));
        self.live.extend(new.iter().cloned());
        self.graph.resources.vqs.extend(new);
    }

    fn event(&mut self, bit: bool) -> String {
        let e = format!("e{}", self.events.len());
        self.events.push(e.clone());
        if bit {
            self.bits.push(e.clone());
        }
        self.graph.resources.events.push(e.clone());
        e
    }

    fn guard(&self, choice: u8, pick: [u16; 3], depth: usize) -> Guard {
        let event = |p: u16| self.events[p as usize % self.events.len()].clone();
        let next = |g: u8| self.guard(g, [pick[1].wrapping_mul(31), pick[2], pick[0].wrapping_add(7)], depth + 1);
        match choice % 4 {
            1 if depth < 3 => Guard::And(vec![next(choice / 4), next(choice / 7)]),
            2 if depth < 3 => Guard::Or(vec![next(choice / 4), next(choice / 5), next(choice / 3)]),
            3 if depth < 3 => Guard::And(vec![next(choice / 4)]),
            _ => Guard::Equals(event(pick[0]), (pick[1] % 2) as u8),
        }
    }

    /// An operation, and whether and by which events it is guarded: an event does not depend on itself.
    fn step(&mut self, (choice, pick, guard): (u8, [u16; 3], u8)) {
        // Three different qubits, as far as there are.
        let mut pool = self.live.clone();
        let mut q = Vec::new();
        for p in pick {
            if !pool.is_empty() {
                q.push(pool.swap_remove(p as usize % pool.len()));
            }
        }
        let before = self.events.len();
        let guarded = match (choice % 12, q.len()) {
            (0..=4, 1..) => self.on_one_qubit(&q[0], pick),
            (5, 2..) => {
                let ops = [Opcode::Cnot, Opcode::Cz, Opcode::Swap, Opcode::TeleportCnot];
                self.push(ops[pick[2] as usize % 4], &q[..2], json!({}));
                true
            }
            (6, 3) => {
                self.push(if pick[2] % 2 == 0 { Opcode::Toffoli } else { Opcode::Ccz }, &q, json!({}));
                true
            }
            (7, 2..) => self.measure_bell(&q[..2], pick),
            (8, 1..) if !self.bits.is_empty() => self.conditional_pauli(&q, pick),
            (9, 2..) => self.on_a_channel(&q[..2], pick),
            (10, 1..) if self.open.is_empty() => {
                self.push(Opcode::Reset, &q[..1], json!({}));
                self.push(Opcode::InjectT, &q[..1], json!({}));
                self.push(Opcode::FreeLq, &q[..1], json!({}));
                self.live.retain(|l| *l != q[0]);
                self.alloc(1 + pick[2] as usize % 2);
                false
            }
            _ => {
                self.push(Opcode::FenceEpoch, &[], json!({}));
                self.push(Opcode::BarRegion, &[], json!({"tag": "t"}));
                self.push(Opcode::SetPolicy, &[], json!({"k": [1, {"v": null}]}));
                false
            }
        };
        if guarded {
            self.add_guard(guard, pick, before);
        }
    }

    /// This and those below return whether the operation may be guarded.
    fn on_one_qubit(&mut self, q: &String, pick: [u16; 3]) -> bool {
        use Opcode::*;
        const OPS: [Opcode; 19] =
            [H, S, Sdg, X, Y, Z, Sx, Sxdg, T, Tdg, Rx, Ry, Rz, P, Reset, MeasureZ, MeasureX, MeasureY, MeasureAngle];
        let angle = [0.0, 0.1, 1e300, -2.5].into_iter().chain((-8..9).map(|k| k as f64 * std::f64::consts::FRAC_PI_2));
        let angle = angle.collect::<Vec<_>>()[pick[2] as usize % 21];
        let op = OPS[pick[1] as usize % OPS.len()];
        let args = match op {
            Rx | Ry | Rz | P => json!({"theta": angle}),
            MeasureAngle => json!({"angle": angle}),
            _ => json!({}),
        };
        let measures = op.name().starts_with("MEASURE");
        self.push(op, std::slice::from_ref(q), args);
        if measures {
            let e = self.event(true);
            self.graph.nodes.last_mut().unwrap().produces.push(e);
        }
        true
    }

    /// Into an event for both bits or into one for each.
    fn measure_bell(&mut self, q: &[String], pick: [u16; 3]) -> bool {
        self.push(Opcode::MeasureBell, q, json!({}));
        let outputs =
            if pick[2].is_multiple_of(2) { vec![self.event(false)] } else { vec![self.event(true), self.event(true)] };
        self.graph.nodes.last_mut().unwrap().produces = outputs;
        true
    }

    fn conditional_pauli(&mut self, q: &[String], pick: [u16; 3]) -> bool {
        let mask: String = (0..q.len()).map(|i| "IXYZ".as_bytes()[(pick[2] as usize >> (2 * i)) % 4] as char).collect();
        let inputs = self.bits.iter().rev().take(1 + pick[1] as usize % 3).cloned().collect();
        self.push(Opcode::CondPauli, q, json!({"mask": mask})).inputs = inputs;
        true
    }

    /// Opens a channel, or uses or closes the one that is open.
    fn on_a_channel(&mut self, q: &[String], pick: [u16; 3]) -> bool {
        match self.open.pop() {
            None => {
                self.push(Opcode::OpenChan, q, json!({"fidelity": 0.5})).chs.push("k".into());
                self.open.push("k".into());
                false
            }
            Some(ch) if pick[2].is_multiple_of(3) => {
                self.push(Opcode::CloseChan, &[], json!({})).chs.push(ch);
                false
            }
            Some(ch) => {
                let semantic = ["swap", "teleport"][pick[2] as usize % 2];
                self.push(Opcode::UseChan, &[], json!({"semantic": semantic})).chs.push(ch.clone());
                self.open.push(ch);
                true
            }
        }
    }

    /// Guards the last node by events that were there before it.
    fn add_guard(&mut self, guard: u8, pick: [u16; 3], before: usize) {
        if guard.is_multiple_of(3) && before > 0 {
            let later = self.events.split_off(before);
            let guard = self.guard(guard / 3, pick, 0);
            self.graph.nodes.last_mut().unwrap().guard = Some(guard);
            self.events.extend(later);
        }
    }
}

pub(crate) fn circuit(choices: &Choices) -> Graph {
    let mut c = Circuit::default();
    c.graph.resources.chs.push("k".into());
    c.alloc(3);
    for &choice in choices {
        c.step(choice);
    }
    if c.open.pop().is_some() {
        c.push(Opcode::CloseChan, &[], json!({})).chs.push("k".into());
    }
    c.graph
}
