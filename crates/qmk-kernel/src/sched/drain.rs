//! The device's work on shots.

use crate::limits::{STEPS, TURNS};
use crate::object::Object;
use crate::state::{Clock, Kernel};
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use qmk_abi::syscall::StrandState;
use qmk_hal::Device;

impl<D: Device> Kernel<D> {
    /// Lets the device finish shots; returns the turns, and whether all strands still issue. Free-running, tenants that have issued
    /// all of a program share the device by the steps it takes for them and their weights (start-time fair queueing: Goyal, Vin
    /// & Cheng, SIGCOMM '96), and turns go around the strands of a tenant, so that an epoch takes the same time however many
    /// there are.
    pub(crate) fn drain(&mut self) -> (u32, bool) {
        let mut draining: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        let (mut issuing, mut ended) = (false, false);
        for (_, region) in self.regions.iter() {
            for r in &region.running {
                let Some(Object::Strand(s)) = self.objects.get(r.id).map(|e| &e.object) else { continue };
                match s.state {
                    StrandState::Draining => draining.entry(s.owner).or_default().push(r.id),
                    StrandState::Running | StrandState::Held => issuing = true,
                    _ => ended = true,
                }
            }
        }
        if draining.is_empty() {
            return (0, !ended);
        }
        let pace = match self.clock {
            Clock::FreeRunning { pace } => pace.max(1),
            Clock::Lockstep => {
                let mut turns = 0;
                for id in draining.into_values().flatten() {
                    while let Some(strand) = self.objects.strand_mut(id)
                        && strand.state == StrandState::Draining
                    {
                        strand.drain(&mut self.device, Self::PACE);
                        turns += 1;
                    }
                }
                return (turns, false);
            }
        };
        // A strand that still issues gets on by one epoch at a time, and must not wait long for the shots of others.
        let turns = (pace / STEPS).clamp(1, TURNS);
        let steps = (pace / turns).max(1);
        let most = if issuing { 1 } else { turns as u32 };
        for turn in 0..most {
            // The tenant that has had the least goes first. One that comes back stands where the last that went first stood.
            let steps_of = |owner: u32| match self.domains.get(owner as usize) {
                Some(Some(domain)) => domain.device_vtime.max(self.device_vtime),
                _ => u64::MAX,
            };
            let Some((had, owner)) = draining.keys().map(|&owner| (steps_of(owner), owner)).min() else {
                return (turn, false);
            };
            self.device_vtime = had;
            let (Some(Some(domain)), Some(strands)) = (self.domains.get_mut(owner as usize), draining.get_mut(&owner))
            else {
                break;
            };
            domain.device_turns = domain.device_turns.wrapping_add(1);
            let next = domain.device_turns % strands.len();
            let Some(strand) = strands.get(next).and_then(|&id| self.objects.strand_mut(id)) else { break };
            let took = strand.drain(&mut self.device, steps).max(1);
            domain.device_vtime = had.saturating_add(took.div_ceil(domain.quota.weight.max(1) as u64));
            if strand.state != StrandState::Draining {
                strands.remove(next);
                if strands.is_empty() {
                    draining.remove(&owner);
                }
            }
        }
        (most, false)
    }
}
