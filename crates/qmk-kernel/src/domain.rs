//! Domains: tenants, and what they hold.

use crate::cap::space::Space;
use crate::interactive::register::Interactive;
use qmk_abi::syscall::{DomainUsage, Quota};

#[derive(Debug)]
pub(crate) struct Domain {
    pub(crate) capabilities: Space,
    pub(crate) quota: Quota,
    pub(crate) used: DomainUsage,
    pub(crate) window_number: u64,
    /// Its own scheduling context.
    pub(crate) context: u32,
    /// Its interactive qubits, if it has any.
    pub(crate) interactive: Option<Interactive>,
    /// Epoch in which the last of its pairs is ready.
    pub(crate) link_until: u64,
    /// Counts changes of which interactive qubits there are.
    pub(crate) qubits_version: u64,
    /// Turns at the device that its strands have had.
    pub(crate) device_turns: usize,
    /// Steps of the device that it has had for its weight, or that it stands at since it came back for some.
    pub(crate) device_vtime: u64,
    /// Its space is being emptied.
    pub(crate) dead: bool,
}

impl Domain {
    /// Magic states left in the window.
    pub(crate) fn magic_left(&mut self, now: u64) -> u64 {
        let number = now.checked_div(self.quota.window).unwrap_or(0);
        if number != self.window_number {
            (self.window_number, self.used.magic) = (number, 0);
        }
        self.quota.magic.saturating_sub(self.used.magic)
    }

    pub(crate) fn charge_magic(&mut self, magic: u64) {
        self.used.magic = self.used.magic.saturating_add(magic);
        self.used.total_magic = self.used.total_magic.saturating_add(magic);
    }
}
