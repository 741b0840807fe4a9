//! Weighted fair queueing of the machine's resources, by virtual times.
//!
//! Each context has two virtual times, in epochs of the whole region over the context's weight. The patch time counts
//! the patches that its strands have held. The issue time counts the routes or the magic states that they have taken,
//! whichever are more. When patches come free, the context of the least patch time starts a strand; within an epoch,
//! the one of the least issue time issues (Ghodsi et al., "Dominant resource fairness", NSDI 2011, and "Multi-resource
//! fair queueing for packet processing", SIGCOMM 2012). The two are kept apart because patches are held and not
//! consumed: a context that holds many would otherwise get no magic states, and never be done with them.
//!
//! An idle context saves nothing up, and a busy one lags behind by at most a credit. The strand with the longest
//! remaining path may run ahead of its context's time by [`LEAD`], so that it need not wait for what others of its
//! context have just taken (list scheduling by critical path: Graham, SIAM J. Appl. Math. 17 (1969) 416).

use crate::holding::Holding;
use crate::time::Epoch;

/// Virtual time of one epoch of all of a resource, at weight 1.
const WHOLE: u64 = 1 << 24;
/// Epochs of the whole region that a busy context may lag behind the foremost in issue time.
pub(crate) const CREDIT: u64 = 16;
/// The same in patch time, which passes as long as patches are held.
const PATCH_CREDIT: u64 = 1024;
/// Epochs for which a context is taken to keep the patches that it holds. Otherwise one that has just started a strand
/// would look as poor as before and start the next one too.
const HOLD: u64 = 64;
/// Epochs of the whole region by which the longest path may run ahead of its context in issue time.
pub(crate) const LEAD: u64 = 16;
/// The same in patch time.
const PATCH_LEAD: u64 = 128;
/// Virtual time at boot. It exceeds all credits and leads, so that taking them off never meets zero.
const ORIGIN: u64 = (PATCH_CREDIT + PATCH_LEAD) * WHOLE;

/// Resources that are shared, by their place in `SchedContext::used`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource {
    Patches,
    Routes,
    Magic,
}

/// The two virtual times of a context, in parts of an epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct VirtualTimes {
    pub(crate) issue: u64,
    pub(crate) patches: u64,
}

impl VirtualTimes {
    pub(crate) fn max(self, other: VirtualTimes) -> VirtualTimes {
        VirtualTimes { issue: self.issue.max(other.issue), patches: self.patches.max(other.patches) }
    }

    /// The start of a context that was idle, when this is the foremost: level with the contexts whose longest paths run
    /// ahead.
    pub(crate) fn minus_lead(self) -> VirtualTimes {
        VirtualTimes {
            issue: self.issue.saturating_sub(LEAD * WHOLE),
            patches: self.patches.saturating_sub(PATCH_LEAD * WHOLE),
        }
    }

    /// The furthest that a busy context may lag behind when this is the foremost.
    fn minus_credit(self) -> VirtualTimes {
        VirtualTimes {
            issue: self.issue.saturating_sub(CREDIT * WHOLE),
            patches: self.patches.saturating_sub(PATCH_CREDIT * WHOLE),
        }
    }
}

/// How far a strand with `path` cycles to go stands behind the one with `longest`, which runs ahead by the whole lead.
#[inline]
pub(crate) fn behind(path: u32, longest: u32) -> VirtualTimes {
    let part = |lead: u64| lead * WHOLE * longest.saturating_sub(path) as u64 / longest.max(1) as u64;
    VirtualTimes { issue: part(LEAD), patches: part(PATCH_LEAD) }
}

/// A share of the machine: the strands that compete as one, with their weight.
#[derive(Clone, Debug)]
pub(crate) struct SchedContext {
    /// At least 1.
    weight: u32,
    /// Epochs in a window in which its strands may issue, each strand counted.
    quota: u64,
    window: u64,
    window_number: u64,
    used_epochs: u64,
    /// Virtual times at which it last became busy, less its use until then.
    base: VirtualTimes,
    /// Use of each [`Resource`], in parts of an epoch and not divided by the weight.
    used: [u64; 3],
    /// Strands that have not ended, and the qubits of those that run.
    pub(crate) held: Holding,
    /// Epoch in which it last had a strand started.
    pub(crate) last_start: Epoch,
    /// Epoch in which it last had a strand started out of turn, because it had waited too long.
    pub(crate) last_aged_start: Epoch,
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
            held: Holding::default(),
            last_start: Epoch::BOOT,
            last_aged_start: Epoch::BOOT,
        }
    }

    pub(crate) fn times(&self) -> VirtualTimes {
        let [patches, routes, magic] = self.used.map(|u| u / self.weight as u64);
        VirtualTimes {
            issue: self.base.issue.saturating_add(routes.max(magic)),
            patches: self.base.patches.saturating_add(patches),
        }
    }

    /// Its patch time once it has kept its patches, out of `whole`, for [`HOLD`] epochs.
    pub(crate) fn projected_patch_time(&self, whole: u32) -> u64 {
        let held = (self.held.qubits() as u64).saturating_mul(HOLD * WHOLE) / whole.max(1) as u64;
        self.times().patches.saturating_add(held / self.weight as u64)
    }

    /// Charges `amount` of `whole` units per epoch.
    pub(crate) fn charge(&mut self, resource: Resource, amount: u64, whole: u32) {
        if amount == 0 {
            return;
        }
        // The price of one unit is rounded instead of the product, so that charging in parts comes to the same.
        let price = (WHOLE / whole.max(1) as u64).max(1);
        let [patches, routes, magic] = &mut self.used;
        let used = match resource {
            Resource::Patches => patches,
            Resource::Routes => routes,
            Resource::Magic => magic,
        };
        *used = used.saturating_add(amount.saturating_mul(price));
    }

    /// Forgets how far it lags behind the foremost, beyond its credit.
    pub(crate) fn limit_credit(&mut self, others: VirtualTimes) {
        self.catch_up(others.minus_credit());
    }

    /// Forgets how far it lags behind.
    pub(crate) fn catch_up(&mut self, others: VirtualTimes) {
        let times = self.times();
        self.base.issue += others.issue.saturating_sub(times.issue);
        self.base.patches += others.patches.saturating_sub(times.patches);
    }

    /// Epochs in which its strands issued in the window that `now` lies in.
    pub(crate) fn epochs_used(&mut self, now: Epoch) -> u64 {
        let number = now.window(self.window);
        if number != self.window_number {
            (self.window_number, self.used_epochs) = (number, 0);
        }
        self.used_epochs
    }

    /// Whether no quota counts its epochs, so that they can be passed without looking at each.
    pub(crate) fn is_unlimited(&self) -> bool {
        (self.quota, self.window) == (u64::MAX, 0)
    }

    /// Whether its window has epochs left.
    pub(crate) fn may_issue(&mut self, now: Epoch) -> bool {
        self.epochs_used(now) < self.quota
    }

    pub(crate) fn charge_epochs(&mut self, epochs: u64) {
        self.used_epochs = self.used_epochs.saturating_add(epochs);
    }
}
