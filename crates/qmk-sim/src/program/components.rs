//! Components of qubits that never meet, and the slots that the registers of each component share.

use super::steps::{LastUse, NoiseStep, Program, Step, registers};
use crate::sets::find;
use qmk_abi::image::{Image, Op};
use qmk_hal::{Channel, Noise};

const NONE: u32 = u32::MAX;

fn unite(parent: &mut [u32], mut wires: impl Iterator<Item = u32>) {
    if let Some(first) = wires.next() {
        for other in wires {
            let (a, b) = (find(parent, first), find(parent, other));
            // Wires are numbered in order: the trees stay shallow.
            parent[a.max(b) as usize] = a.min(b);
        }
    }
}

/// Joins the wires that meet in an operation or a noise channel. A wire is one life of a register, numbered in order of
/// allocation. Returns the parent of each.
fn connect(image: &Image, noise: &[Noise]) -> Vec<u32> {
    let mut wire = vec![NONE; image.qubits as usize];
    let mut parent: Vec<u32> = Vec::new();
    let mut channels = noise.iter().peekable();
    for (at, instr) in image.code.iter().enumerate() {
        match instr.op {
            Op::Alloc(q) => {
                wire[q as usize] = parent.len() as u32;
                parent.push(parent.len() as u32);
            }
            Op::Clifford2(_, a, b) | Op::TeleportCnot(a, b) | Op::MeasureBell(a, b, ..) => {
                let (a, b) = (wire[a as usize], wire[b as usize]);
                // Most pairs have met before.
                if parent[a as usize] != parent[b as usize] {
                    unite(&mut parent, [a, b].into_iter());
                }
            }
            Op::Ccz(a, b, c) | Op::Toffoli(a, b, c) => {
                unite(&mut parent, [a, b, c].into_iter().map(|q| wire[q as usize]));
            }
            _ => {}
        }
        while let Some(n) = channels.next_if(|n| n.after as usize <= at) {
            let (q, count) = registers(&n.channel);
            unite(&mut parent, q[..count].iter().map(|&q| wire[q as usize]));
        }
    }
    parent
}

/// The slots of the components, and which register is in which.
struct Slots {
    parent: Vec<u32>,
    /// Wires so far.
    wires: u32,
    /// Component of each wire that is a root.
    number: Vec<u32>,
    /// Slots of each component.
    components: Vec<u32>,
    /// Free slots of each component, each with the step that freed it.
    free: Vec<Vec<(u32, u32)>>,
    /// Component and slot of each register.
    place: Vec<(u32, u32)>,
}

impl Slots {
    /// Gives a register the slot that was freed last in its component, or a new one.
    fn allocate(&mut self, q: u32, steps: &mut [Step]) {
        let root = find(&mut self.parent, self.wires) as usize;
        self.wires += 1;
        if self.number[root] == NONE {
            self.number[root] = self.components.len() as u32;
            self.components.push(0);
            self.free.push(Vec::new());
        }
        let c = self.number[root];
        let slot = match self.free[c as usize].pop() {
            Some((slot, freed_by)) => {
                // The next user of the slot needs |0>.
                steps[freed_by as usize].op = Op::Reset(slot);
                slot
            }
            None => {
                self.components[c as usize] += 1;
                self.components[c as usize] - 1
            }
        };
        self.place[q as usize] = (c, slot);
    }

    /// A channel after instruction `at`, over slots.
    fn noise(&self, channel: Channel, at: u32) -> NoiseStep {
        let (q, _) = registers(&channel);
        let slot = |q: u32| self.place[q as usize].1;
        let channel = match channel {
            Channel::Pauli1 { qubit, p } => Channel::Pauli1 { qubit: slot(qubit), p },
            Channel::Pauli2 { qubits, p } => Channel::Pauli2 { qubits: qubits.map(slot), p },
            Channel::Given { qubit, column } => Channel::Given { qubit: slot(qubit), column },
            flip => flip,
        };
        let component = if matches!(channel, Channel::Flip { .. }) { 0 } else { self.place[q[0] as usize].0 };
        NoiseStep { after: at, channel, component }
    }
}

impl Program {
    /// Cuts a program into components, and renames registers to the fewest slots of each.
    pub(super) fn rename(image: &Image, noise: &[Noise]) -> Program {
        let parent = connect(image, noise);
        let mut slots = Slots {
            number: vec![NONE; parent.len()],
            parent,
            wires: 0,
            components: Vec::new(),
            free: Vec::new(),
            place: vec![(0, 0); image.qubits as usize],
        };
        let mut program = Program { steps: Vec::with_capacity(image.code.len()), ..Program::default() };
        let mut channels = noise.iter().peekable();
        for (at, instr) in (0..).zip(&image.code) {
            let place = |q: u32| slots.place[q as usize];
            let step = |op, component| Step { op, cond: instr.cond, at, component, last_use: [LastUse::Live; 3] };
            match instr.op {
                Op::Alloc(q) => slots.allocate(q, &mut program.steps),
                Op::Fence => {}
                Op::Clifford1(g, q) => {
                    let (component, slot) = place(q);
                    program.steps.push(step(Op::Clifford1(g, slot), component));
                }
                Op::Clifford2(g, a, b) => {
                    let (component, slot) = place(a);
                    program.steps.push(step(Op::Clifford2(g, slot, place(b).1), component));
                }
                op => {
                    let component = op.qubits().next().map_or(0, |q| place(q).0);
                    let renamed = op.map_qubits(|q| place(q).1);
                    if let Op::Free(q) = op {
                        let freed = (place(q).1, program.steps.len() as u32);
                        slots.free[component as usize].push(freed);
                    }
                    program.steps.push(step(renamed, component));
                }
            }
            while let Some(n) = channels.next_if(|n| n.after <= at) {
                program.noise.push(slots.noise(n.channel, at));
            }
        }
        program.components = slots.components;
        program
    }
}
