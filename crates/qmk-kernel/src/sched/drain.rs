//! The device's work on shots. A strand that has issued all its instructions drains until the device has finished its
//! shots.
//!
//! A strand's epochs are those of one shot on the modelled machine; the other shots repeat its schedule. How long a
//! simulator takes for them is no matter of the machine, so it is shared here, apart from the fair queueing of the
//! machine's resources.

use crate::errors::{Checked, broken};
use crate::ids::{DomainId, StrandId};
use crate::limits::{STEPS, TURNS};
use crate::state::{Clock, Kernel};
use alloc::{collections::BTreeMap, vec::Vec};
use qmk_abi::syscall::StrandState;
use qmk_hal::Device;

/// Strands that drain, by the domain that they belong to.
type Draining = BTreeMap<DomainId, Vec<StrandId>>;

impl<D: Device> Kernel<D> {
    /// Lets the device finish shots, as the clock says. Returns the turns that strands had, and whether no strand can
    /// have ended.
    pub(crate) fn drain(&mut self) -> Checked<(u32, bool)> {
        let mut draining = Draining::new();
        let (mut issuing, mut ended) = (false, false);
        for (_, region) in self.regions.iter() {
            for r in &region.running {
                let strand = self.objects.strand(r.id)?;
                match strand.state {
                    StrandState::Draining => draining.entry(strand.owner).or_default().push(r.id),
                    StrandState::Running | StrandState::Held => issuing = true,
                    _ => ended = true,
                }
            }
        }
        if draining.is_empty() {
            return Ok((0, !ended));
        }
        let turns = match self.clock {
            Clock::Lockstep => self.drain_all(draining)?,
            Clock::FreeRunning { pace } => self.drain_in_turns(draining, pace.max(1), issuing)?,
        };
        Ok((turns, false))
    }

    /// Finishes all shots, however long that takes, so that a run depends on its calls alone.
    fn drain_all(&mut self, draining: Draining) -> Checked<u32> {
        let mut turns = 0;
        for id in draining.into_values().flatten() {
            let strand = self.objects.strand_mut(id)?;
            while strand.state == StrandState::Draining {
                strand.drain(&mut self.device, Self::PACE)?;
                turns += 1;
            }
        }
        Ok(turns)
    }

    /// Gives the device `pace` steps, in turns. Domains share it by the steps done for them and their weights
    /// (start-time fair queueing: Goyal, Vin & Cheng, SIGCOMM '96), and the turns of a domain go around its strands. So
    /// an epoch takes the same time however many strands there are.
    fn drain_in_turns(&mut self, mut draining: Draining, pace: u64, issuing: bool) -> Checked<u32> {
        let turns = (pace / STEPS).clamp(1, TURNS);
        let steps = (pace / turns).max(1);
        // A strand that still issues gets on by one epoch at a time, and must not wait long for the shots of others.
        let most = if issuing { 1 } else { turns as u32 };
        for turn in 0..most {
            // The domain of the least virtual time goes first. A returning domain resumes from the one served last.
            let mut first: Option<(u64, DomainId)> = None;
            for &owner in draining.keys() {
                let bid = (self.domains.get(owner)?.device_vtime.max(self.device_vtime), owner);
                first = Some(first.map_or(bid, |first| first.min(bid)));
            }
            let Some((vtime, owner)) = first else { return Ok(turn) };
            self.device_vtime = vtime;
            let domain = self.domains.get_mut(owner)?;
            let strands = draining.get_mut(&owner).ok_or_else(|| broken("a domain drains without strands"))?;
            domain.device_turns = domain.device_turns.wrapping_add(1);
            let next = domain.device_turns % strands.len();
            let id = *strands.get(next).ok_or_else(|| broken("a domain drains without strands"))?;
            let strand = self.objects.strand_mut(id)?;
            // A turn that took no steps still counts as one, or a strand of empty shots would be served for ever.
            let took = strand.drain(&mut self.device, steps)?.max(1);
            domain.device_vtime = vtime.saturating_add(took.div_ceil(domain.quota.weight.max(1) as u64));
            if strand.state != StrandState::Draining {
                strands.remove(next);
                if strands.is_empty() {
                    draining.remove(&owner);
                }
            }
        }
        Ok(most)
    }
}
