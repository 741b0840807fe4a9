//! What the model expects of a call: a verdict, and the effect that a success has.

use super::object::{Object, Of, Strand};
use qmk_kernel::DomainId;
use qmk_kernel::abi::syscall::{Budget, DomainUsage, Quota};
use qmk_kernel::abi::{Handle, Reply, Rights};

/// Whether a call must be refused, may succeed, or must.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It must be refused.
    Never,
    /// It depends on the schedule.
    Maybe,
    /// It must succeed.
    Always,
}

#[derive(Clone, Debug)]
pub(super) enum Effect {
    Nothing,
    /// The reply is known to the last bit.
    Exactly(Reply),
    /// A capability to a new object, derived from this one.
    New(usize, Object),
    Spawned(usize, Box<Strand>, u64),
    NewDomain(usize, Quota),
    Derived(Derivation),
    Delete(usize, bool),
    /// A strand takes back what it did, through a machine capability with these rights.
    TakenBack(usize, Rights),
    /// A strand goes back to a checkpoint, at the cost of so many magic states.
    Restored(usize, usize, u64),
    /// Magic states through a machine object, in a number that is known or not.
    Spent {
        machine: usize,
        magic: Option<u64>,
    },
    Freed(usize, Option<usize>),
    Taken(Of),
    Offered(usize, DomainId, usize, f64),
    Accepted(usize, usize),
    Teleported(usize),
    /// Channels with the sides that end at the caller.
    Swapped((usize, usize), (usize, usize)),
    Closed(usize),
    Channel(usize),
}

/// A capability that was derived: its source, its domain and what it allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Derivation {
    pub(super) parent: usize,
    pub(super) target: DomainId,
    pub(super) rights: Rights,
    pub(super) badge: u64,
    pub(super) budget: Option<Budget>,
}

/// What must come of a call: `None` if it must be refused.
pub(super) type Expected = Option<(Verdict, Effect)>;

pub(super) fn always(effect: Effect) -> Expected {
    Some((Verdict::Always, effect))
}

/// The call succeeds for certain if the condition holds, and else as the schedule has it.
pub(super) fn certain_if(condition: bool, effect: Effect) -> Expected {
    Some((if condition { Verdict::Always } else { Verdict::Maybe }, effect))
}

/// A caller, with its quota and what it uses of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) domain: DomainId,
    pub(super) quota: Quota,
    pub(super) used: DomainUsage,
}

impl Caller {
    pub(super) fn has_slot(&self) -> bool {
        self.used.slots < self.quota.slots
    }
}

/// The handle that a call returned.
pub(super) fn handle(reply: &Reply) -> Handle {
    match reply {
        Reply::Handle(handle) => *handle,
        other => panic!("{other:?} is not a handle"),
    }
}
