//! A program: instructions, and the terms of their conditions.

use super::condition::{Cond, CondTerm};
use super::op::Op;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

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
