//! Time as the kernel counts it: in epochs, each one logical cycle of the machine. The kernel has no other clock, which
//! is why a recorded run replays to the same replies.

/// Number of an epoch since boot. A point in time; a `u64` of epochs is a length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Epoch(u64);

impl Epoch {
    /// Boot, before the first call of `advance`.
    pub(crate) const BOOT: Epoch = Epoch(0);

    /// The number, for replies and reports.
    #[inline]
    pub(crate) const fn number(self) -> u64 {
        self.0
    }

    /// Epochs from `earlier` to this one, 0 if `earlier` lies ahead: a strand with a deadline counts as started one
    /// epoch before it is.
    #[inline]
    pub(crate) const fn since(self, earlier: Epoch) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The epoch that is this many later.
    #[inline]
    pub(crate) const fn plus(self, epochs: u64) -> Epoch {
        Epoch(self.0.saturating_add(epochs))
    }

    /// The epoch that is this many earlier, at most boot.
    #[inline]
    pub(crate) const fn minus(self, epochs: u64) -> Epoch {
        Epoch(self.0.saturating_sub(epochs))
    }

    /// Number of the accounting window of this length that the epoch lies in. A length of 0 is one window without end.
    pub(crate) fn window(self, length: u64) -> u64 {
        self.0.checked_div(length).unwrap_or(0)
    }
}
