//! Calls on regions.

use crate::errors::{Result, argument, not_now, not_ready};
use crate::object::Object;
use crate::sched::region::Region;
use crate::state::Kernel;
use alloc::string::ToString;
use qmk_abi::syscall::ObjectKind;
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    /// The region behind an optional handle.
    pub(crate) fn region_of(&self, d: u32, region: Option<Handle>) -> Result<u32> {
        let Some(handle) = region else { return Ok(0) };
        let (object, _) = self.require(d, handle, ObjectKind::Region, Rights::USE)?;
        match self.object(object) {
            Object::Region(r) => Ok(*r),
            _ => not_now("the region is gone"),
        }
    }

    pub(crate) fn create_region(
        &mut self,
        d: u32,
        machine: Handle,
        qubits: u32,
        routes: u32,
        magic: u32,
    ) -> Result<Reply> {
        self.require(d, machine, ObjectKind::Machine, Rights::ADMIN)?;
        self.check_slots(d)?;
        let Some(shared) = self.regions.get_mut(0) else { return not_now("there is no shared region") };
        if qubits == 0 {
            return argument("a region needs at least one qubit");
        }
        if qubits > shared.free_qubits {
            return Err(KernelError::Capacity { requested: qubits, available: shared.free_qubits });
        }
        if routes > shared.routes || magic > shared.magic_rate {
            return argument("the shared region has fewer routes or magic states than that");
        }
        if routes > shared.routes - shared.routes_in_use {
            return not_ready("operations under way use the routes");
        }
        if !shared.reservations.is_empty() {
            return not_ready("the shared region has deadlines to keep");
        }
        // Buffer and decoders go with the part of the machine that they serve.
        let part = |whole: u32, of: u32, all: u32| (whole as u64 * of as u64 / all.max(1) as u64) as u32;
        let buffer = part(shared.magic_buffer, magic, shared.magic_rate);
        let decoded = part(shared.decoder_rate, qubits, shared.qubits);
        let left = (shared.qubits - qubits, shared.routes - routes, shared.magic_buffer - buffer);
        if self.is_needed(0, left.0, left.1, left.2) {
            return not_ready("a strand of the shared region needs what would be taken from it");
        }
        let Some(shared) = self.regions.get_mut(0) else { return not_now("there is no shared region") };
        shared.qubits -= qubits;
        shared.free_qubits -= qubits;
        shared.routes -= routes;
        shared.magic_rate -= magic;
        shared.magic_buffer -= buffer;
        shared.magic_stock = shared.magic_stock.min(shared.magic_buffer);
        shared.decoder_rate -= decoded;
        let region = self.regions.insert(Region::new(qubits, routes, magic, buffer, decoded));
        Ok(Reply::Handle(self.create_object(d, Object::Region(region), ObjectKind::Region, machine)?.1))
    }

    /// Whether a strand of a region needs more than this.
    pub(crate) fn is_needed(&mut self, region: u32, qubits: u32, routes: u32, buffer: u32) -> bool {
        let Some(place) = self.regions.get(region) else { return false };
        place.strands().into_iter().any(|id| {
            let Object::Strand(strand) = self.object(id) else { return false };
            let (image, patch, peak) = (strand.image_object, strand.run.patch, strand.image.peak_qubits);
            let profile = self.profile(image, patch);
            peak > qubits || profile.is_ok_and(|n| n.unaffordable(routes, buffer).is_some())
        })
    }

    /// Ends a strand with a fault.
    pub(crate) fn stop_strand(&mut self, id: u32, why: &str) {
        let now = self.epoch;
        let Some(strand) = self.strand_mut(id) else { return };
        let held = strand.holdings(now);
        strand.fault(0, why.to_string());
        self.release_holdings(id, held);
    }

    pub(crate) fn end_region(&mut self, id: u32) {
        let Some(region) = self.regions.get(id) else { return };
        for strand in region.strands() {
            self.stop_strand(strand, "its region was taken back");
        }
        for (_, entry) in self.objects.iter_mut() {
            if let Object::Strand(strand) = &mut entry.object
                && strand.migrate_to == Some(id)
            {
                strand.migrate_to = None;
                strand.update_hold();
            }
        }
        let Some(region) = self.regions.remove(id) else { return };
        if let Some(shared) = self.regions.get_mut(0) {
            shared.qubits += region.qubits;
            shared.free_qubits += region.qubits;
            shared.routes += region.routes;
            shared.magic_rate += region.magic_rate;
            shared.magic_buffer += region.magic_buffer;
            shared.decoder_rate += region.decoder_rate;
            shared.decoder_backlog += region.decoder_backlog;
            // Operations under way keep their routes to their end.
            shared.routes_in_use += region.routes_in_use;
            if shared.route_releases.len() < region.route_releases.len() {
                shared.route_releases.resize(region.route_releases.len(), 0);
            }
            shared.route_releases.iter_mut().zip(&region.route_releases).for_each(|(all, one)| *all += one);
            shared.recheck_waiting = true;
        }
    }
}
