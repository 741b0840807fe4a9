//! Budgets of machine capabilities.

use crate::errors::Result;
use crate::object::{Entry, Object};
use crate::state::Kernel;
use alloc::vec::Vec;
use qmk_abi::KernelError;
use qmk_abi::syscall::Limit;
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    /// Whether the budgets that a machine object is part of have this left.
    pub(crate) fn check_budget(&self, machine: u32, strands: u32, qubits: u32, magic: u64) -> Result<()> {
        for id in self.budgets(machine) {
            let Object::Machine(m) = self.object(id) else { continue };
            let Some(b) = &m.budget else { continue };
            let over = |limit| Err(KernelError::Budget(limit));
            if m.strands.checked_add(strands).is_none_or(|s| s > b.strands) {
                return over(Limit::Strands);
            }
            if m.qubits.checked_add(qubits).is_none_or(|q| q > b.qubits) {
                return over(Limit::Qubits);
            }
            if m.magic.saturating_add(magic) > b.magic {
                return over(Limit::Magic);
            }
        }
        Ok(())
    }

    pub(crate) fn charge_budget(&mut self, machine: u32, strands: u32, qubits: u32, magic: u64) {
        for id in self.budgets(machine) {
            if let Some(Entry { object: Object::Machine(m), .. }) = self.objects.get_mut(id) {
                m.strands += strands;
                m.qubits += qubits;
                m.magic = m.magic.saturating_add(magic);
            }
        }
    }

    /// Gives back what counts only while it exists.
    pub(crate) fn refund_budget(&mut self, machine: u32, strands: u32, qubits: u32) {
        for id in self.budgets(machine) {
            if let Some(Entry { object: Object::Machine(m), .. }) = self.objects.get_mut(id) {
                m.strands -= strands;
                m.qubits -= qubits;
            }
        }
    }

    /// Machine objects with a budget, from `machine` up.
    fn budgets(&self, machine: u32) -> Vec<u32> {
        let mut chain = Vec::new();
        let mut next = Some(machine);
        while let Some(id) = next {
            let Object::Machine(m) = self.object(id) else { break };
            if m.budget.is_some() {
                chain.push(id);
            }
            next = m.parent;
        }
        chain
    }
}
