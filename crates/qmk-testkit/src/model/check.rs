//! What must hold after every step.

use super::object::{Object, Of, Strand, kind};
use super::state::Model;
use qmk_kernel::DomainId;
use qmk_kernel::abi::syscall::{StrandState, StrandStatus};
use qmk_kernel::abi::{Reply, Syscall};
use qmk_kernel::hal::Device;
use std::collections::BTreeMap;

impl<D: Device> Model<D> {
    /// What must hold after every step.
    ///
    /// # Panics
    /// If it does not.
    pub fn check(&mut self) {
        self.kernel.audit().unwrap();
        let mut held = 0;
        let mut issued: BTreeMap<DomainId, u64> = BTreeMap::new();
        let strands = self.live_strands();
        for (o, owner, strand) in &strands {
            let s = self.status(*o);
            self.check_strand(strand, &s);
            self.costs.insert(*o, s.magic_states);
            *issued.entry(*owner).or_default() += s.magic_states;
        }
        self.note_checkpoints();
        for (d, quota) in self.quotas.clone() {
            let used = self.used(d);
            let reply = self.kernel.syscall(d, Syscall::Usage);
            assert_eq!(reply, Ok(Reply::Usage { used, quota }), "{d:?}");
            held += used.qubits;
            let within = used.qubits <= quota.qubits
                && used.physical_qubits <= quota.physical_qubits
                && used.strands <= quota.strands
                && used.instructions <= quota.instructions
                && used.slots <= quota.slots
                && used.channels <= quota.channels
                && used.checkpoints <= quota.checkpoints
                && used.magic <= quota.magic
                // A window's last epoch is for all strands of the domain.
                && used.epochs < quota.epochs.saturating_add(quota.strands as u64);
            assert!(within, "{d:?} {used:?} {quota:?}");
            assert!(used.total_magic >= self.accounts[&d].magic, "{d:?} has less magic than before");
            self.account(d).magic = used.total_magic;
            let account = &self.accounts[&d];
            let told = account.told + issued.get(&d).copied().unwrap_or(0);
            assert!(account.inexact || told == used.total_magic, "{d:?} took {told} magic states: {used:?}");
            let mut listed = self.kernel.capabilities(d);
            listed.sort_by_key(|(h, ..)| *h);
            let mut ours: Vec<_> = self.capabilities.values().filter(|c| c.domain == d).collect();
            ours.sort_by_key(|c| c.handle);
            let ours: Vec<_> = ours.iter().map(|c| (c.handle, kind(self.object(c.object)), c.rights)).collect();
            assert_eq!(listed, ours, "{d:?}");
        }
        assert_eq!(held + self.kernel.free_qubits(), self.machine_size, "qubits are conserved");
        let magic: u64 = self.accounts.values().map(|a| a.magic).sum();
        assert!(magic <= self.kernel.epoch() * self.magic_rate, "more magic states than the machine made");
        for c in self.capabilities.values() {
            if let Some(p) = c.parent {
                let parent = self.capabilities.get(&p).expect("a parent outlives its children");
                let made = kind(self.object(parent.object)) != kind(self.object(c.object));
                let far = matches!(self.object(c.object), Object::Endpoint { .. }) && parent.object != c.object;
                assert!(
                    made || far || parent.rights.contains(c.rights),
                    "rights grew from {:?} to {:?}",
                    parent.rights,
                    c.rights
                );
            }
        }
    }

    /// Remembers what strands had cost when they came to a fence. They issue nothing before the next epoch.
    fn note_checkpoints(&mut self) {
        for o in self.live.clone() {
            let Object::Checkpoint(Of::Strand(strand)) = *self.object(o) else { continue };
            let (domain, checkpoint) = self.reader(o);
            let reply = self.kernel.syscall(domain, Syscall::CheckpointStatus { checkpoint });
            if !self.marks.contains_key(&o) && matches!(reply, Ok(Reply::Checkpoint(Some(_)))) {
                let cost = (self.costs[&strand], self.undone.get(&strand).copied().unwrap_or(0));
                self.marks.insert(o, cost);
            }
        }
    }

    fn check_strand(&self, strand: &Strand, s: &StrandStatus) {
        assert!(s.shots_done <= s.shots && s.issued <= s.instructions, "{s:?}");
        assert_eq!((s.shots, s.instructions as usize), (strand.run.shots, strand.image.code.len()));
        assert_eq!(s.fault.is_some(), s.state == StrandState::Faulted, "{s:?}");
        if s.state == StrandState::Done {
            assert_eq!((s.shots_done, s.issued), (s.shots, s.instructions), "{s:?}");
        }
        if let Some(deadline) = strand.run.deadline {
            assert!(s.state != StrandState::Waiting && s.epochs <= deadline / strand.run.shots, "late: {s:?}");
        }
    }

    /// Every handle ever freed is still refused.
    ///
    /// # Panics
    /// If one is not.
    pub fn check_stale(&mut self) {
        for (domain, target) in self.freed.clone() {
            assert!(
                self.kernel.syscall(domain, Syscall::Inspect { target }).is_err(),
                "{domain:?} {target} works again"
            );
        }
    }
}
