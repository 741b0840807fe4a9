//! Images, and the strands that run them.

use crate::judge::{admissible, peak};
use crate::model::object::{Object, Part, Strand, issues, size};
use crate::model::state::Model;
use crate::model::verdict::{Caller, Effect, Expected, always, certain_if, handle};
use qmk_kernel::DomainId;
use qmk_kernel::abi::image::{Image, Op};
use qmk_kernel::abi::syscall::{ObjectKind, Patch, Run};
use qmk_kernel::abi::{Handle, Reply, Rights, Syscall};
use qmk_kernel::hal::Device;

impl<D: Device> Model<D> {
    pub(super) fn expect_admit(&self, caller: &Caller, machine: Handle, image: &Image) -> Expected {
        let (parent, _, rights) = self.allowed(caller.domain, machine, ObjectKind::Machine, Rights::USE)?;
        let fits = caller.used.instructions as u64 + size(image) <= caller.quota.instructions as u64;
        (caller.has_slot() && fits && admissible(image, rights)).then_some(())?;
        always(Effect::New(parent, Object::Image(image.clone())))
    }

    pub(super) fn expect_spawn(&self, caller: &Caller, machine: Handle, image: Handle, run: Run) -> Expected {
        let d = caller.domain;
        let (parent, machine, rights) = self.allowed(d, machine, ObjectKind::Machine, Rights::USE)?;
        let (_, image_object, _) = self.allowed(d, image, ObjectKind::Image, Rights::USE)?;
        let Object::Image(image) = self.object(image_object).clone() else { return None };
        let region = self.region_of(d, run.region)?;
        if let Some(context) = run.context {
            self.allowed(d, context, ObjectKind::Context, Rights::USE)?;
        }
        let classes = image.code.iter().all(|i| rights.contains(i.op.class()));
        let magic: u64 = image.code.iter().map(|i| self.magic(&i.op, run.patch)).sum();
        let total = magic.saturating_mul(run.shots);
        let within = self.fits_spawn(caller, &image, &run, region)?
            && (run.deadline.is_none() || self.starts_now(caller, &image, &run)?)
            && self.within_budget(machine, 1, peak(&image), total);
        (run.shots > 0 && caller.has_slot() && classes && within).then_some(())?;
        let spawned = self.kernel.epoch();
        let strand = Strand { image, image_object, run, machine, region, spawned };
        certain_if(run.deadline.is_none(), Effect::Spawned(parent, Box::new(strand), total))
    }

    /// Whether an image alone fits the caller's quota and its region; `None` if the device has no such patch.
    fn fits_spawn(&self, caller: &Caller, image: &Image, run: &Run, region: Option<usize>) -> Option<bool> {
        let (peak, part, quota) = (peak(image), self.part(region), &caller.quota);
        let physical = self.kernel.device().physical_qubits(run.patch)? as u64 * peak as u64;
        let most = image.code.iter().map(|i| self.magic(&i.op, run.patch)).max().unwrap_or(0);
        Some(
            peak <= quota.qubits.min(part.qubits)
                && physical <= quota.physical_qubits
                && caller.used.strands < quota.strands
                && most <= quota.magic
                && self.affords(part, image, run.patch),
        )
    }

    /// Whether a strand with a deadline may have its qubits at once, and is not limited by a window.
    fn starts_now(&self, caller: &Caller, image: &Image, run: &Run) -> Option<bool> {
        let (peak, quota, used) = (peak(image), &caller.quota, &caller.used);
        let physical = self.kernel.device().physical_qubits(run.patch)? as u64 * peak as u64;
        let unlimited = (quota.magic, quota.epochs) == (u64::MAX, u64::MAX) && run.context.is_none();
        let now = used.qubits.saturating_add(peak) <= quota.qubits
            && used.physical_qubits.saturating_add(physical) <= quota.physical_qubits
            && peak <= self.kernel.free_qubits();
        Some(unlimited && now)
    }

    pub(super) fn apply_spawn(&mut self, d: DomainId, parent: usize, strand: Strand, magic: u64, reply: &Reply) {
        self.charge(strand.machine, magic);
        let object = self.add(Object::Strand(Box::new(strand)), d);
        self.insert(d, handle(reply), object, Rights::OBJECT, 0, parent);
    }

    pub(super) fn expect_status(&self, d: DomainId, strand: Handle) -> Expected {
        self.allowed(d, strand, ObjectKind::Strand, Rights::READ)?;
        always(Effect::Nothing)
    }

    pub(super) fn expect_outcomes(&mut self, d: DomainId, strand: Handle, first: u64) -> Expected {
        let (_, o, _) = self.allowed(d, strand, ObjectKind::Strand, Rights::READ)?;
        (first < self.status(o).shots_done).then_some(())?;
        always(Effect::Nothing)
    }

    /// A strand that may be held, moved and taken back.
    pub(super) fn movable(&mut self, d: DomainId, handle: Handle) -> Option<(usize, Strand)> {
        let (_, o, _) = self.allowed(d, handle, ObjectKind::Strand, Rights::CONTROL)?;
        let Object::Strand(s) = self.object(o) else { return None };
        let strand = (**s).clone();
        (issues(self.status(o).state) && strand.run.deadline.is_none()).then_some((o, strand))
    }

    pub(super) fn expect_migrate(&mut self, d: DomainId, strand: Handle, region: Option<Handle>) -> Expected {
        let (_, strand) = self.movable(d, strand)?;
        let part = self.part(self.region_of(d, region)?);
        let fits = peak(&strand.image) <= part.qubits && self.affords(part, &strand.image, strand.run.patch);
        fits.then_some(())?;
        always(Effect::Nothing)
    }

    pub(super) fn expect_rollback(&mut self, d: DomainId, machine: Handle, strand: Option<Handle>) -> Expected {
        let need = Rights::USE | Rights::COMPUTE;
        let (_, machine, rights) = self.allowed(d, machine, ObjectKind::Machine, need)?;
        match strand {
            Some(strand) => {
                let (o, strand) = self.movable(d, strand)?;
                // What is undone is done again; how much that is, only the kernel knows.
                let all: u64 = strand.image.code.iter().map(|i| self.magic(&i.op, strand.run.patch)).sum();
                let most = all.saturating_mul(2).saturating_mul(strand.run.shots);
                let fits = self.within_budget(strand.machine, 0, 0, most);
                certain_if(fits && rights.contains(Rights::CLASSES), Effect::TakenBack(o, rights))
            }
            None if self.live_qubits().any(|(q, _)| self.owner(q) == d) => {
                certain_if(false, Effect::Spent { machine, magic: None })
            }
            None => always(Effect::Exactly(Reply::RolledBack(0))),
        }
    }

    pub(super) fn apply_rollback(&mut self, strand: usize, rights: Rights, call: &Syscall) {
        let undone = self.status(strand).magic_states - self.costs[&strand];
        let Object::Strand(s) = self.object(strand) else { panic!("not a strand") };
        let (machine, again) = (s.machine, undone.saturating_mul(2).saturating_mul(s.run.shots));
        assert!(undone == 0 || rights.contains(Rights::MAGIC), "{call:?} undid what it may not do");
        assert!(undone == 0 || self.within_budget(machine, 0, 0, again), "{call:?} exceeds a budget");
        self.charge(machine, again);
        *self.undone.entry(strand).or_default() += undone;
        self.account_of(strand).inexact = true;
    }

    fn part(&self, region: Option<usize>) -> Part {
        match region.map(|r| self.object(r)) {
            Some(Object::Region(part)) => *part,
            _ => self.shared,
        }
    }

    /// Region behind an optional handle, if it may be used.
    fn region_of(&self, d: DomainId, region: Option<Handle>) -> Option<Option<usize>> {
        match region {
            None => Some(None),
            Some(h) => self.allowed(d, h, ObjectKind::Region, Rights::USE).map(|(_, r, _)| Some(r)),
        }
    }

    /// Whether a region ever has what instructions of an image need at once.
    fn affords(&self, part: Part, image: &Image, patch: Patch) -> bool {
        let cost = |op: &Op| self.kernel.device().cost(op, patch);
        image.code.iter().all(|i| cost(&i.op).magic <= part.buffer && cost(&i.op).routes <= part.routes)
    }
}
