//! Who issues next: weighted dominant-resource fairness.
//!
//! Each context counts what it has used of patches, routes and magic states, in epochs of the whole region. Its largest count
//! over its weight is its virtual time, and the context of the least virtual time goes first (Ghodsi et al., "Dominant resource
//! fairness", NSDI 2011, and "Multi-resource fair queueing", SIGCOMM 2012). What an idle context did not use it may not save up.

/// One epoch of all of a resource.
const WHOLE: u64 = 1 << 24;
/// Epochs of the whole region that a context may lag behind, at weight 1.
const CREDIT: u64 = 16 * WHOLE;

/// Resources that are shared.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Resource {
    Patches = 0,
    Routes = 1,
    Magic = 2,
}

/// A share of the machine.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    weight: u32,
    /// Epochs of strands in a window.
    quota: u64,
    window: u64,
    window_number: u64,
    used_epochs: u64,
    /// Virtual time at which it last became busy, less what it had used by then.
    base: u64,
    used: [u64; 3],
    /// Logical qubits its strands hold, and strands that hold them.
    pub(crate) qubits: u32,
    pub(crate) strands: u32,
}

impl Context {
    pub(crate) fn new(weight: u32, quota: u64, window: u64) -> Self {
        Context {
            weight: weight.max(1),
            quota,
            window,
            window_number: 0,
            used_epochs: 0,
            base: 0,
            used: [0; 3],
            qubits: 0,
            strands: 0,
        }
    }

    pub(crate) fn time(&self) -> u64 {
        let dominant = self.used.iter().fold(0, |m, &u| m.max(u));
        self.base.saturating_add(dominant / self.weight as u64)
    }

    /// Qubits held for its weight, for comparison.
    pub(crate) fn density(&self) -> u64 {
        ((self.qubits as u64) << 20) / self.weight as u64
    }

    /// Charges `amount` of `whole` units per epoch.
    pub(crate) fn charge(&mut self, resource: Resource, amount: u64, whole: u32) {
        if amount == 0 {
            return;
        }
        let Some(used) = self.used.get_mut(resource as usize) else { return };
        *used = used.saturating_add(amount.saturating_mul(WHOLE) / whole.max(1) as u64);
    }

    /// Forgets what it lags behind `time` beyond its credit.
    pub(crate) fn catch_up(&mut self, time: u64, credit: bool) {
        let floor = time.saturating_sub(if credit { CREDIT } else { 0 });
        self.base += floor.saturating_sub(self.time());
    }

    pub(crate) fn epochs(&mut self, now: u64) -> u64 {
        let number = now.checked_div(self.window).unwrap_or(0);
        if number != self.window_number {
            (self.window_number, self.used_epochs) = (number, 0);
        }
        self.used_epochs
    }

    /// Whether its window has epochs left.
    pub(crate) fn may_issue(&mut self, now: u64) -> bool {
        self.epochs(now) < self.quota
    }

    pub(crate) fn charge_epochs(&mut self, epochs: u64) {
        self.used_epochs = self.used_epochs.saturating_add(epochs);
    }
}
