//! What the kernel holds, for those who watch it.

use crate::limits::PATCH;
use crate::object::Object;
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
    /// Those that no one holds.
    pub qubits_free: u32,
    /// Two-qubit operations that can be routed at once.
    pub routes: u32,
    /// Those under way.
    pub routes_taken: u32,
    /// Magic states in stock.
    pub magic_stock: u32,
    /// Magic states that can be kept.
    pub magic_buffer: u32,
    /// Patches and epochs that are not decoded yet.
    pub decoder_backlog: u64,
    /// Strands that have not started.
    pub strands_waiting: u32,
    /// Strands that issue, or are held at a fence.
    pub strands_running: u32,
    /// Strands whose shots the device finishes.
    pub strands_draining: u32,
}

impl<D: Device> Kernel<D> {
    /// Figures for inspection; changes nothing. Takes time with the regions, domains and strands that have started.
    pub fn stats(&self) -> KernelStats {
        let regions = self.regions.iter().map(|(_, r)| {
            let drains = |id: u32| matches!(self.object(id), Object::Strand(s) if s.state == StrandState::Draining);
            let draining = r.running.iter().filter(|r| drains(r.id)).count() as u32;
            RegionStats {
                qubits: r.qubits,
                qubits_free: r.free_qubits,
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
            epoch: self.epoch,
            domains: self.domains.iter().flatten().count() as u32,
            pairs_due: self.pairs_due,
            regions: regions.collect(),
        }
    }
}
