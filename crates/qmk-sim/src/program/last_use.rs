//! The last use of each slot, found in one pass from the end.

use super::steps::{LastUse, Program, registers};
use qmk_abi::image::{Op, Pauli};

impl Program {
    /// Marks for each operand whether its slot is used again. Frees that no draw depends on are dropped.
    pub(super) fn mark(&mut self) {
        let mut base = Vec::with_capacity(self.components.len());
        let mut total = 0;
        for &n in &self.components {
            base.push(total);
            total += n as usize;
        }
        let mut last_use = vec![LastUse::Dead; total];
        let mut draws = vec![false; self.components.len()];
        let mut noise = self.noise.iter().rev().peekable();
        for step in self.steps.iter_mut().rev() {
            let base_of = |c: u32| base[c as usize];
            let first = base_of(step.component);
            while let Some(n) = noise.next_if(|n| n.after >= step.at) {
                let (q, count) = registers(&n.channel);
                q[..count].iter().for_each(|&q| last_use[base_of(n.component) + q as usize] = LastUse::Live);
            }
            let slot = |q: u32| first + q as usize;
            match step.op {
                Op::Clifford1(_, q) => {
                    step.last_use[0] = std::mem::replace(&mut last_use[slot(q)], LastUse::Live);
                    continue;
                }
                Op::Clifford2(_, a, b) => {
                    step.last_use[0] = std::mem::replace(&mut last_use[slot(a)], LastUse::Live);
                    step.last_use[1] = std::mem::replace(&mut last_use[slot(b)], LastUse::Live);
                    continue;
                }
                _ => {}
            }
            for (q, f) in step.op.qubits().zip(&mut step.last_use) {
                *f = last_use[slot(q)];
            }
            match step.op {
                // Freeing measures a qubit, and nothing reads the outcome. It matters only if draws follow it.
                Op::Free(_) if !draws[step.component as usize] => step.op = Op::Fence,
                Op::Free(q) | Op::Measure(Pauli::Z, q, _) if step.cond.is_none() => {
                    draws[step.component as usize] = true;
                    let f = &mut last_use[slot(q)];
                    if *f == LastUse::Dead {
                        *f = LastUse::MeasuredZ;
                    }
                }
                op => {
                    draws[step.component as usize] |= op.writes().next().is_some();
                    op.qubits().for_each(|q| last_use[slot(q)] = LastUse::Live);
                }
            }
        }
        self.steps.retain(|s| s.op != Op::Fence);
    }
}
