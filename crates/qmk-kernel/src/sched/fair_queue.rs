//! Who starts and who issues next: weighted fair sharing, by virtual times.
//!
//! Each context has two virtual times. One counts the patches that its strands have held, the other the routes or the magic
//! states that they have taken, whichever are more, in epochs of the whole region and over its weight. When patches become
//! free, the context of the least patch time goes first; in an epoch, the one of the least issue time (Ghodsi et al., "Dominant
//! resource fairness", NSDI 2011, and "Multi-resource fair queueing for packet processing", SIGCOMM 2012). Patches are counted
//! apart because they are held and not consumed: who holds many would otherwise not get the magic states to be done with them.
//!
//! What an idle context did not use it may not save up, and one that is busy may not lag behind by more than a credit.
//! The strand with the longest way to go may run ahead of its context's time by [`LEAD`], so that it does not wait for what
//! others of its context have just taken (list scheduling by critical path: Graham, SIAM J. Appl. Math. 17 (1969) 416).

/// One epoch of all of a resource.
const WHOLE: u64 = 1 << 24;
/// Epochs of the whole region that a context may lag behind in issuing, at weight 1.
pub(crate) const CREDIT: u64 = 16;
/// The same of holding patches.
const PATCH_CREDIT: u64 = 1024;
/// Epochs for which a context is taken to keep the patches that it holds, when it is decided who gets the next ones.
const HOLD: u64 = 64;
/// Epochs of the whole region by which the longest path may run ahead of its context in issuing.
pub(crate) const LEAD: u64 = 16;
/// The same of holding patches.
const PATCH_LEAD: u64 = 128;
/// First virtual time, so that what is taken off never meets zero.
const ORIGIN: u64 = (PATCH_CREDIT + PATCH_LEAD) * WHOLE;

/// Resources that are shared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource {
    Patches = 0,
    Routes = 1,
    Magic = 2,
}

/// Virtual times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VirtualTimes {
    pub(crate) issue: u64,
    pub(crate) patches: u64,
}

impl VirtualTimes {
    pub(crate) fn max(self, other: VirtualTimes) -> VirtualTimes {
        VirtualTimes { issue: self.issue.max(other.issue), patches: self.patches.max(other.patches) }
    }

    /// From where a context that was idle starts when this is the foremost: with those that others may run ahead of.
    pub(crate) fn minus_lead(self) -> VirtualTimes {
        VirtualTimes {
            issue: self.issue.saturating_sub(LEAD * WHOLE),
            patches: self.patches.saturating_sub(PATCH_LEAD * WHOLE),
        }
    }

    /// What may be saved up taken off.
    fn minus_credit(self) -> VirtualTimes {
        VirtualTimes {
            issue: self.issue.saturating_sub(CREDIT * WHOLE),
            patches: self.patches.saturating_sub(PATCH_CREDIT * WHOLE),
        }
    }
}

/// Virtual times by which a strand with `path` cycles to go stands behind the one with `longest`.
#[inline]
pub(crate) fn behind(path: u32, longest: u32) -> VirtualTimes {
    let part = |lead: u64| lead * WHOLE * longest.saturating_sub(path) as u64 / longest.max(1) as u64;
    VirtualTimes { issue: part(LEAD), patches: part(PATCH_LEAD) }
}

/// A share of the machine.
#[derive(Clone, Debug)]
pub(crate) struct SchedContext {
    weight: u32,
    /// Epochs of strands in a window.
    quota: u64,
    window: u64,
    window_number: u64,
    used_epochs: u64,
    /// Virtual times at which it last became busy, less what it had used by then.
    base: VirtualTimes,
    used: [u64; 3],
    /// Logical qubits its strands hold.
    pub(crate) qubits: u32,
    /// Its strands that have not ended.
    pub(crate) strands: u32,
    /// Epoch in which it last had a strand started, and one that had waited too long before others of its own.
    pub(crate) last_start: u64,
    pub(crate) last_aged_start: u64,
}

impl SchedContext {
    pub(crate) fn new(weight: u32, quota: u64, window: u64) -> Self {
        SchedContext {
            weight: weight.max(1),
            quota,
            window,
            window_number: 0,
            used_epochs: 0,
            base: VirtualTimes { issue: ORIGIN, patches: ORIGIN },
            used: [0; 3],
            qubits: 0,
            strands: 0,
            last_start: 0,
            last_aged_start: 0,
        }
    }

    pub(crate) fn times(&self) -> VirtualTimes {
        let [patches, routes, magic] = self.used.map(|u| u / self.weight as u64);
        VirtualTimes {
            issue: self.base.issue.saturating_add(routes.max(magic)),
            patches: self.base.patches.saturating_add(patches),
        }
    }

    /// Its patch time once it has kept what it holds of `whole` patches for [`HOLD`] epochs.
    pub(crate) fn projected_patch_time(&self, whole: u32) -> u64 {
        let held = (self.qubits as u64).saturating_mul(HOLD * WHOLE) / whole.max(1) as u64;
        self.times().patches.saturating_add(held / self.weight as u64)
    }

    /// Charges `amount` of `whole` units per epoch.
    pub(crate) fn charge(&mut self, resource: Resource, amount: u64, whole: u32) {
        if amount == 0 {
            return;
        }
        let Some(used) = self.used.get_mut(resource as usize) else { return };
        // The price of one is rounded, so that it does not matter how much is charged at once.
        let price = (WHOLE / whole.max(1) as u64).max(1);
        *used = used.saturating_add(amount.saturating_mul(price));
    }

    /// Forgets what it lags behind others that are busy, beyond its credit.
    pub(crate) fn limit_credit(&mut self, others: VirtualTimes) {
        self.catch_up(others.minus_credit());
    }

    /// Forgets what it lags behind.
    pub(crate) fn catch_up(&mut self, others: VirtualTimes) {
        let times = self.times();
        self.base.issue += others.issue.saturating_sub(times.issue);
        self.base.patches += others.patches.saturating_sub(times.patches);
    }

    pub(crate) fn epochs_used(&mut self, now: u64) -> u64 {
        let number = now.checked_div(self.window).unwrap_or(0);
        if number != self.window_number {
            (self.window_number, self.used_epochs) = (number, 0);
        }
        self.used_epochs
    }

    /// Whether it may issue in all epochs, which need not be told apart.
    pub(crate) fn is_unlimited(&self) -> bool {
        (self.quota, self.window) == (u64::MAX, 0)
    }

    /// Whether its window has epochs left.
    pub(crate) fn may_issue(&mut self, now: u64) -> bool {
        self.epochs_used(now) < self.quota
    }

    pub(crate) fn charge_epochs(&mut self, epochs: u64) {
        self.used_epochs = self.used_epochs.saturating_add(epochs);
    }
}
