//! Calls on regions: `CreateRegion`, and the end of a region.
//!
//! Architecture invariant: regions partition the machine. The part of a region was taken out of the shared one, and
//! goes back to it.

use crate::errors::{Checked, Result, refuse};
use crate::ids::{DomainId, RegionId};
use crate::object::{Object, wrong_kind};
use crate::sched::region::Region;
use crate::state::Kernel;
use alloc::string::ToString;
use qmk_abi::syscall::{BadArgument, NotYet, ObjectKind};
use qmk_abi::{Handle, KernelError, Reply, Rights};
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    /// The region behind a handle, the shared one without a handle.
    pub(crate) fn region_of(&self, caller: DomainId, region: Option<Handle>) -> Result<RegionId> {
        let Some(handle) = region else { return Ok(RegionId::SHARED) };
        let (object, _) = self.require(caller, handle, ObjectKind::Region, Rights::USE)?;
        match self.object(object)? {
            Object::Region(region) => Ok(*region),
            _ => Err(wrong_kind().into()),
        }
    }

    /// Sets a part of the shared region aside, with the buffer and the decoders that belong to it. Returns
    /// [`Reply::Handle`].
    ///
    /// # Errors
    /// The shared region has not so much, operations or deadlines need it for now, or a strand would never fit
    /// into the rest.
    pub(crate) fn create_region(
        &mut self,
        caller: DomainId,
        machine: Handle,
        qubits: u32,
        routes: u32,
        magic: u32,
    ) -> Result<Reply> {
        self.require(caller, machine, ObjectKind::Machine, Rights::ADMIN)?;
        self.check_slots(caller)?;
        let shared = self.regions.get(RegionId::SHARED)?;
        if qubits == 0 {
            return refuse(BadArgument::EmptyRegion);
        }
        if qubits > shared.free_qubits() {
            return Err(KernelError::Capacity { requested: qubits, available: shared.free_qubits() });
        }
        if routes > shared.routes || magic > shared.magic_rate {
            return refuse(BadArgument::RegionShare);
        }
        if routes > shared.routes - shared.routes_in_use {
            return refuse(NotYet::RoutesInUse);
        }
        // A reservation was worked out with all of the shared region, so none of it may go.
        if !shared.reservations.is_empty() {
            return refuse(NotYet::RegionPromises);
        }
        // Buffer and decoders go with the part of the machine that they serve.
        let part = |whole: u32, of: u32, all: u32| (whole as u64 * of as u64 / all.max(1) as u64) as u32;
        let buffer = part(shared.magic_buffer, magic, shared.magic_rate);
        let decoders = part(shared.decoder_rate, qubits, shared.qubits);
        let left = (shared.qubits - qubits, shared.routes - routes, shared.magic_buffer - buffer);
        if self.is_needed(RegionId::SHARED, left.0, left.1, left.2)? {
            return refuse(NotYet::ShareNeeded);
        }
        let region = Region::new(qubits, routes, magic, buffer, decoders);
        self.regions.get_mut(RegionId::SHARED)?.split_off(&region);
        let region = self.regions.insert(region);
        Ok(Reply::Handle(self.create_object(caller, Object::Region(region), ObjectKind::Region, machine)?.1))
    }

    /// Whether a strand of a region needs more qubits, or more routes or magic states at once, than these.
    fn is_needed(&mut self, region: RegionId, qubits: u32, routes: u32, buffer: u32) -> Checked<bool> {
        for id in self.regions.get(region)?.strands() {
            let strand = self.objects.strand(id)?;
            let (image, patch, peak) = (strand.image_object, strand.run.patch, strand.image.peak_qubits);
            if peak > qubits || self.profile(image, patch)?.unaffordable(routes, buffer).is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes a region back. Its strands fault, and its part of the machine is the shared region's again.
    pub(crate) fn end_region(&mut self, id: RegionId) -> Checked {
        // Their objects live on, so that their owners can ask for their status and outcomes.
        for id in self.regions.get(id)?.strands() {
            let strand = self.objects.strand_mut(id)?;
            let holdings = strand.take_holdings(self.epoch);
            strand.fault(0, "its region was taken back".to_string());
            self.release_holdings(id, holdings)?;
        }
        // Strands on their way to it stay where they are, and no longer stop at their fence.
        for (_, entry) in self.objects.iter_mut() {
            if let Object::Strand(strand) = &mut entry.object
                && strand.migrate_to == Some(id)
            {
                strand.migrate_to = None;
                strand.update_hold();
            }
        }
        let region = self.regions.remove(id)?;
        self.regions.get_mut(RegionId::SHARED)?.merge(&region)
    }
}
