//! Components of qubits that never meet, and the slots of each.

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

impl Program {
    pub(super) fn rename(image: &Image, noise: &[Noise]) -> Program {
        // A wire is one life of a register.
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
        let mut number = vec![NONE; parent.len()];
        let mut components: Vec<u32> = Vec::new();
        let mut free: Vec<Vec<(u32, u32)>> = Vec::new();
        // Component and slot of each register.
        let mut place = vec![(0u32, 0u32); image.qubits as usize];
        let mut program = Program { steps: Vec::with_capacity(image.code.len()), ..Program::default() };
        let (mut wires, mut channels) = (0, noise.iter().peekable());
        for (at, instr) in image.code.iter().enumerate() {
            let at = at as u32;
            match instr.op {
                Op::Alloc(q) => {
                    let root = find(&mut parent, wires) as usize;
                    wires += 1;
                    if number[root] == NONE {
                        number[root] = components.len() as u32;
                        components.push(0);
                        free.push(Vec::new());
                    }
                    let c = number[root];
                    let slot = match free[c as usize].pop() {
                        Some((slot, freed_by)) => {
                            // Whoever comes next needs |0>.
                            program.steps[freed_by as usize].op = Op::Reset(slot);
                            slot
                        }
                        None => {
                            components[c as usize] += 1;
                            components[c as usize] - 1
                        }
                    };
                    place[q as usize] = (c, slot);
                }
                Op::Fence => {}
                Op::Clifford1(g, q) => {
                    let (component, slot) = place[q as usize];
                    let op = Op::Clifford1(g, slot);
                    program.steps.push(Step { op, cond: instr.cond, at, component, last_use: [LastUse::Live; 3] });
                }
                Op::Clifford2(g, a, b) => {
                    let (component, slot) = place[a as usize];
                    let op = Op::Clifford2(g, slot, place[b as usize].1);
                    program.steps.push(Step { op, cond: instr.cond, at, component, last_use: [LastUse::Live; 3] });
                }
                op => {
                    let component = op.qubits().next().map_or(0, |q| place[q as usize].0);
                    let renamed = op.map_qubits(|q| place[q as usize].1);
                    if let Op::Free(q) = op {
                        free[component as usize].push((place[q as usize].1, program.steps.len() as u32));
                    }
                    program.steps.push(Step {
                        op: renamed,
                        cond: instr.cond,
                        at,
                        component,
                        last_use: [LastUse::Live; 3],
                    });
                }
            }
            while let Some(n) = channels.next_if(|n| n.after <= at) {
                let (q, _) = registers(&n.channel);
                let slot = |q: u32| place[q as usize].1;
                let channel = match n.channel {
                    Channel::Pauli1 { qubit, p } => Channel::Pauli1 { qubit: slot(qubit), p },
                    Channel::Pauli2 { qubits, p } => Channel::Pauli2 { qubits: qubits.map(slot), p },
                    Channel::Given { qubit, column } => Channel::Given { qubit: slot(qubit), column },
                    flip => flip,
                };
                let component = if matches!(channel, Channel::Flip { .. }) { 0 } else { place[q[0] as usize].0 };
                program.noise.push(NoiseStep { after: at, channel, component });
            }
        }
        program.components = components;
        program
    }
}
