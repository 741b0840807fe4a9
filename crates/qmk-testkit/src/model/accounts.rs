//! What domains use of their quotas and sessions of their budgets, added up anew each time.

use super::object::{Object, Strand, size};
use super::state::Model;
use crate::judge::peak;
use qmk_kernel::DomainId;
use qmk_kernel::abi::image::Op;
use qmk_kernel::abi::syscall::{DomainUsage, Patch, StrandState};
use qmk_kernel::abi::{Reply, Syscall};
use qmk_kernel::hal::Device;
use std::collections::BTreeSet;

impl<D: Device> Model<D> {
    pub(super) fn physical(&self, patch: Patch) -> u64 {
        self.kernel.device().physical_qubits(patch).unwrap_or(1) as u64
    }

    pub(super) fn magic(&self, op: &Op, patch: Patch) -> u64 {
        self.kernel.device().cost(op, patch).magic as u64
    }

    /// What a domain holds. The kernel decides when strands run and when they issue, so that is read from it.
    pub(super) fn used(&mut self, domain: DomainId) -> DomainUsage {
        let told = match self.kernel.syscall(domain, Syscall::Usage) {
            Ok(Reply::Usage { used, .. }) => used,
            other => panic!("{domain:?}: {other:?}"),
        };
        let mut used = DomainUsage {
            magic: told.magic,
            epochs: told.epochs,
            total_magic: told.total_magic,
            total_pairs: self.accounts[&domain].pairs,
            slots: self.capabilities.values().filter(|c| c.domain == domain).count() as u32,
            ..DomainUsage::default()
        };
        let open = self.channels.iter().filter(|c| c.is_open());
        used.channels = open.flat_map(|c| c.ends).filter(|e| e.domain == domain).count() as u32;
        let kept: BTreeSet<usize> = self.live_strands().iter().map(|(_, _, s)| s.image_object).collect();
        for &o in self.live.union(&kept) {
            if let (Object::Image(image), true) = (self.object(o), self.owner(o) == domain) {
                used.instructions += size(image) as u32;
            }
        }
        let each = self.physical(Patch::default());
        for o in self.live.clone() {
            let (object, owner) = &self.objects[o];
            if *owner != domain {
                continue;
            }
            match object {
                Object::Checkpoint(_) => used.checkpoints += 1,
                Object::Qubit { .. } => {
                    used.qubits += 1;
                    used.physical_qubits += each;
                }
                Object::Strand(strand) => {
                    let strand = strand.clone();
                    used.strands += 1;
                    if self.holds(o, &strand) {
                        let peak = peak(&strand.image);
                        used.qubits += peak;
                        used.physical_qubits += peak as u64 * self.physical(strand.run.patch);
                    }
                }
                _ => {}
            }
        }
        used
    }

    /// Whether a strand holds its qubits.
    fn holds(&mut self, object: usize, strand: &Strand) -> bool {
        match self.status(object).state {
            StrandState::Running | StrandState::Held | StrandState::Draining => true,
            // What starts at once and fails at that gives back its qubits in the next epoch, or with its region.
            StrandState::Faulted => {
                let place = strand.region.is_none_or(|r| self.live.contains(&r));
                strand.run.deadline.is_some() && strand.spawned == self.kernel.epoch() && place
            }
            StrandState::Waiting | StrandState::Done => false,
        }
    }

    /// Whether budgets that a machine object is part of have this left.
    pub(super) fn within_budget(&self, machine: usize, strands: u32, qubits: u32, more: u64) -> bool {
        let mut chain = Some(machine);
        while let Some(o) = chain {
            let Object::Machine { parent, budget, magic, .. } = self.object(o) else { return false };
            if let Some(b) = budget {
                let all = self.live_strands();
                let part: Vec<_> = all.iter().filter(|(_, _, s)| self.part_of(s.machine, o)).collect();
                let held = self.live_qubits().filter(|(_, m)| self.part_of(*m, o)).count() as u32;
                let peaks: u32 = part.iter().map(|(_, _, s)| peak(&s.image)).sum();
                let fits = part.len() as u32 + strands <= b.strands
                    && held.saturating_add(peaks).saturating_add(qubits) <= b.qubits
                    && magic.saturating_add(more) <= b.magic;
                if !fits {
                    return false;
                }
            }
            chain = *parent;
        }
        true
    }

    /// Whether a machine object is that budget or a part of it.
    fn part_of(&self, mut machine: usize, budget: usize) -> bool {
        while machine != budget {
            match self.object(machine) {
                Object::Machine { parent: Some(p), .. } => machine = *p,
                _ => return false,
            }
        }
        true
    }

    pub(super) fn charge(&mut self, machine: usize, more: u64) {
        let mut chain = Some(machine);
        while let Some(o) = chain {
            let Object::Machine { parent, magic, .. } = &mut self.objects[o].0 else { return };
            *magic = magic.saturating_add(more);
            chain = *parent;
        }
    }

    /// Magic states that interactive qubits took: as many as the model says, or else as the kernel tells.
    pub(super) fn spend(&mut self, d: DomainId, machine: usize, magic: Option<u64>, call: &Syscall) {
        let total = self.used(d).total_magic;
        let spent = total - self.accounts[&d].magic;
        assert!(magic.is_none_or(|m| m == spent), "{call:?} took {spent} magic states");
        let quota = self.quotas[&d].magic;
        assert!(spent == 0 || self.used(d).magic <= quota, "{call:?} exceeds the quota");
        assert!(spent == 0 || self.within_budget(machine, 0, 0, spent), "{call:?} exceeds a budget");
        self.charge(machine, spent);
        let account = self.account(d);
        account.told += spent;
        account.magic = total;
    }
}
