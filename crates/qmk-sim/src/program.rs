//! A program image made ready for simulation: cut into components that never meet, registers renamed to the fewest
//! slots of each, and the last use of each slot marked.

use crate::noise::is_valid;
use crate::sets::find;
use crate::structure::{Frame, Structure};
use qmk_abi::image::{Cond, Image, Op, Pauli};
use qmk_hal::{Channel, Column, Noise};
use std::sync::Arc;

/// An operation over the slots of one component.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub(crate) op: Op,
    pub(crate) cond: Option<Cond>,
    /// Index in the image.
    pub(crate) at: u32,
    pub(crate) component: u32,
    /// What happens to each operand's slot afterwards.
    pub(crate) fate: [Fate; 3],
}

/// What still happens to a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Anything.
    #[default]
    Used,
    /// At most measurements in Z.
    MeasuredZ,
    /// Nothing.
    Done,
}

/// A noise channel over slots, after the step with index `after` or one before it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NoiseStep {
    /// Index in the image of the instruction before it.
    pub(crate) after: u32,
    pub(crate) channel: Channel,
    pub(crate) component: u32,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Program {
    pub(crate) steps: Vec<Step>,
    pub(crate) noise: Vec<NoiseStep>,
    /// What the given channels do.
    pub(crate) columns: Arc<[Column]>,
    /// Slots of each component.
    pub(crate) components: Vec<u32>,
    /// Slots of a component above which rotations wait: below, the register is cheaper than the waiting.
    pub(crate) patient_from: u32,
}

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

fn registers(channel: &Channel) -> ([u32; 2], usize) {
    match *channel {
        Channel::Pauli1 { qubit, .. } | Channel::Given { qubit, .. } => ([qubit, 0], 1),
        Channel::Pauli2 { qubits, .. } => (qubits, 2),
        Channel::Flip { .. } => ([0; 2], 0),
    }
}

/// Checks noise against an admitted image.
///
/// # Errors
/// Which channel is wrong, and how.
pub(crate) fn check_noise(image: &Image, noise: &[Noise]) -> Result<(), String> {
    if noise.is_empty() {
        return Ok(());
    }
    let mut live = vec![false; image.qubits as usize];
    let mut channels = noise.iter().enumerate().peekable();
    for (at, instr) in image.code.iter().enumerate() {
        match instr.op {
            Op::Alloc(q) => live[q as usize] = true,
            Op::Free(q) => live[q as usize] = false,
            _ => {}
        }
        while let Some((i, n)) = channels.next_if(|(_, n)| n.after as usize == at) {
            let bad = |what: &str| Err(format!("noise channel {i}, after instruction {at}: {what}"));
            let (q, count) = registers(&n.channel);
            if q[..count].iter().any(|&q| !live.get(q as usize).is_some_and(|&l| l)) {
                return bad("the register is not allocated");
            }
            if count == 2 && q[0] == q[1] {
                return bad("the registers are the same");
            }
            if matches!(n.channel, Channel::Flip { event, .. } if !instr.op.writes().any(|e| e == event)) {
                return bad("the instruction does not write the event");
            }
            if !is_valid(&n.channel) {
                return bad("probabilities must not be negative and add up to at most 1");
            }
        }
    }
    match channels.next() {
        Some((i, n)) => Err(format!(
            "noise channel {i}, after instruction {}: not in order, or beyond the image's {} instructions",
            n.after,
            image.code.len()
        )),
        None => Ok(()),
    }
}

impl Program {
    /// The image must be admitted, and the noise checked against it.
    pub(crate) fn new(image: &Image, noise: &[Noise]) -> Program {
        let mut program = Program::rename(image, noise);
        program.patient_from = 13;
        program.mark();
        program
    }

    /// The state at first, by component.
    pub(crate) fn structures<F: Frame + Default>(&self, max_active: u32) -> Vec<Structure<F>> {
        self.components.iter().map(|&n| Structure::new(n as usize, max_active, n >= self.patient_from)).collect()
    }

    /// Whether anything but a Pauli depends on an outcome.
    pub(crate) fn is_conditional(&self) -> bool {
        self.steps.iter().any(|s| s.cond.is_some() && !matches!(s.op, Op::Pauli(..)))
    }

    fn rename(image: &Image, noise: &[Noise]) -> Program {
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
                    program.steps.push(Step { op, cond: instr.cond, at, component, fate: [Fate::Used; 3] });
                }
                Op::Clifford2(g, a, b) => {
                    let (component, slot) = place[a as usize];
                    let op = Op::Clifford2(g, slot, place[b as usize].1);
                    program.steps.push(Step { op, cond: instr.cond, at, component, fate: [Fate::Used; 3] });
                }
                op => {
                    let component = op.qubits().next().map_or(0, |q| place[q as usize].0);
                    let renamed = op.map_qubits(|q| place[q as usize].1);
                    if let Op::Free(q) = op {
                        free[component as usize].push((place[q as usize].1, program.steps.len() as u32));
                    }
                    program.steps.push(Step { op: renamed, cond: instr.cond, at, component, fate: [Fate::Used; 3] });
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

    /// One pass from the end: what still happens to each slot, and which frees no one can notice.
    fn mark(&mut self) {
        let mut base = Vec::with_capacity(self.components.len());
        let mut total = 0;
        for &n in &self.components {
            base.push(total);
            total += n as usize;
        }
        let mut fate = vec![Fate::Done; total];
        let mut draws = vec![false; self.components.len()];
        let mut noise = self.noise.iter().rev().peekable();
        for step in self.steps.iter_mut().rev() {
            let base_of = |c: u32| base[c as usize];
            let first = base_of(step.component);
            while let Some(n) = noise.next_if(|n| n.after >= step.at) {
                let (q, count) = registers(&n.channel);
                q[..count].iter().for_each(|&q| fate[base_of(n.component) + q as usize] = Fate::Used);
            }
            let slot = |q: u32| first + q as usize;
            match step.op {
                Op::Clifford1(_, q) => {
                    step.fate[0] = std::mem::replace(&mut fate[slot(q)], Fate::Used);
                    continue;
                }
                Op::Clifford2(_, a, b) => {
                    step.fate[0] = std::mem::replace(&mut fate[slot(a)], Fate::Used);
                    step.fate[1] = std::mem::replace(&mut fate[slot(b)], Fate::Used);
                    continue;
                }
                _ => {}
            }
            for (q, f) in step.op.qubits().zip(&mut step.fate) {
                *f = fate[slot(q)];
            }
            match step.op {
                // Freeing ends a qubit by a measurement that no one reads; it matters for the draws that follow only.
                Op::Free(_) if !draws[step.component as usize] => step.op = Op::Fence,
                Op::Free(q) | Op::Measure(Pauli::Z, q, _) if step.cond.is_none() => {
                    draws[step.component as usize] = true;
                    let f = &mut fate[slot(q)];
                    if *f == Fate::Done {
                        *f = Fate::MeasuredZ;
                    }
                }
                op => {
                    draws[step.component as usize] |= op.writes().next().is_some();
                    op.qubits().for_each(|q| fate[slot(q)] = Fate::Used);
                }
            }
        }
        self.steps.retain(|s| s.op != Op::Fence);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qmk_abi::image::{Clifford2, Instr};

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
        assert!(p.steps.iter().all(|s| s.fate[0] == Fate::Done));
        let cnot = Op::Clifford2(Clifford2::Cnot, 0, 1);
        let code = [Op::Alloc(0), Op::Alloc(1), cnot, Op::Free(1), Op::Alloc(1), cnot, measure(0), Op::Free(1)];
        let p = Program::new(&image(2, &code), &[]);
        assert_eq!(p.components, [2]);
        assert_eq!(p.steps.iter().map(|s| s.op).collect::<Vec<_>>(), [cnot, Op::Reset(1), cnot, measure(0)]);
        assert_eq!(p.steps[2].fate, [Fate::MeasuredZ, Fate::Done, Fate::Used]);
    }
}
