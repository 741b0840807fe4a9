//! Figures of the whole machine, for the metrics of an embedding. No call returns them, so no domain sees them.

use crate::limits::PATCH;
use crate::state::Kernel;
use alloc::vec::Vec;
use qmk_abi::syscall::StrandState;
use qmk_hal::Device;

/// The machine between two epochs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelStats {
    /// Current epoch.
    pub epoch: u64,
    /// Domains, the root included.
    pub domains: u32,
    /// Objects of all kinds, which capabilities name or other objects need.
    pub objects: u32,
    /// Raw pairs that the link still has to make.
    pub pairs_due: u64,
    /// The shared region first.
    pub regions: Vec<RegionStats>,
}

/// A region between two epochs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RegionStats {
    /// Logical qubits.
    pub qubits: u32,
    /// Logical qubits that no one holds.
    pub qubits_free: u32,
    /// Two-qubit operations that can be routed at once.
    pub routes: u32,
    /// Routes of operations under way.
    pub routes_taken: u32,
    /// Magic states in stock.
    pub magic_stock: u32,
    /// Most magic states in stock.
    pub magic_buffer: u32,
    /// Syndromes that are not decoded yet, in patches times epochs.
    pub decoder_backlog: u64,
    /// Strands that have not started.
    pub strands_waiting: u32,
    /// Strands that issue or are held at a fence.
    pub strands_running: u32,
    /// Strands that have issued everything, whose shots the device finishes.
    pub strands_draining: u32,
}

impl<D: Device> Kernel<D> {
    /// Figures for inspection; changes nothing. Takes time with the regions, domains and strands that have started.
    pub fn stats(&self) -> KernelStats {
        let regions = self.regions.iter().map(|(_, r)| {
            // The kernel cannot stop here, so a strand that is missing counts as running.
            let drains = |id| self.objects.strand(id).is_ok_and(|s| s.state == StrandState::Draining);
            let draining = r.running.iter().filter(|r| drains(r.id)).count() as u32;
            RegionStats {
                qubits: r.qubits,
                qubits_free: r.free_qubits(),
                routes: r.routes,
                routes_taken: r.routes_in_use,
                magic_stock: r.magic_stock,
                magic_buffer: r.magic_buffer,
                decoder_backlog: r.decoder_backlog.div_ceil(PATCH),
                strands_waiting: r.waiting.len() as u32,
                strands_running: r.running.len() as u32 - draining,
                strands_draining: draining,
            }
        });
        KernelStats {
            epoch: self.epoch.number(),
            domains: self.domains.iter().count() as u32,
            objects: self.objects.iter().count() as u32,
            pairs_due: self.pairs_due,
            regions: regions.collect(),
        }
    }
}
