//! Budgets: the bounds of a session, which a machine capability carries.
//!
//! A budget is part of the budget that its machine capability was derived from, and of all above that. Whatever is done
//! through one counts against each of them.

use crate::errors::{Checked, Result};
use crate::holding::Holding;
use crate::ids::ObjectId;
use crate::state::Kernel;
use alloc::vec::Vec;
use qmk_abi::KernelError;
use qmk_abi::syscall::Limit;
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    /// # Errors
    /// One of the budgets that `machine` is part of has less left than `part` and `magic` states.
    pub(crate) fn check_budget(&self, machine: ObjectId, part: Holding, magic: u64) -> Result<()> {
        for id in self.budgets(machine)? {
            let machine = self.objects.machine(id)?;
            let Some(budget) = &machine.budget else { continue };
            // The order in which limits are checked is part of the reply.
            let over = |limit| Err(KernelError::Budget(limit));
            let held = &machine.held;
            if held.strands().checked_add(part.strands()).is_none_or(|strands| strands > budget.strands) {
                return over(Limit::Strands);
            }
            if held.qubits().checked_add(part.qubits()).is_none_or(|qubits| qubits > budget.qubits) {
                return over(Limit::Qubits);
            }
            if machine.magic.saturating_add(magic) > budget.magic {
                return over(Limit::Magic);
            }
        }
        Ok(())
    }

    /// Counts strands, qubits and magic states against all budgets that `machine` is part of.
    pub(crate) fn charge_budget(&mut self, machine: ObjectId, part: Holding, magic: u64) -> Checked {
        for id in self.budgets(machine)? {
            let machine = self.objects.machine_mut(id)?;
            machine.held.take(part)?;
            machine.magic = machine.magic.saturating_add(magic);
        }
        Ok(())
    }

    /// Gives strands and qubits back. Magic states stay spent.
    pub(crate) fn refund_budget(&mut self, machine: ObjectId, part: Holding) -> Checked {
        for id in self.budgets(machine)? {
            self.objects.machine_mut(id)?.held.give_back(part)?;
        }
        Ok(())
    }

    /// Machine objects with a budget, from `machine` up, at most [`MAX_BUDGET_DEPTH`](crate::limits::MAX_BUDGET_DEPTH)
    /// of them. They are collected first, so that the accounts can be changed while they are walked.
    fn budgets(&self, machine: ObjectId) -> Checked<Vec<ObjectId>> {
        let mut chain = Vec::new();
        let mut next = Some(machine);
        while let Some(id) = next {
            let machine = self.objects.machine(id)?;
            if machine.budget.is_some() {
                chain.push(id);
            }
            next = machine.parent;
        }
        Ok(chain)
    }
}
