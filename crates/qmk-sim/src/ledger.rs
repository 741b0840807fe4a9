//! The account of the bytes that states take: amplitudes, tableaus, saved states, outcomes. They are charged before
//! they are taken, so that a machine that is full says so instead of dying.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of all states of one machine, against a limit for all and a limit for each owner.
#[derive(Debug)]
pub(crate) struct Ledger {
    limit: u64,
    owner_limit: u64,
    taken: Mutex<Taken>,
}

/// What is charged. `by_owner` sums up to `all`, and has no zeros.
#[derive(Debug, Default)]
struct Taken {
    all: u64,
    /// Of these, what comes back without anyone's doing: that of programs under way.
    passing: u64,
    by_owner: BTreeMap<u32, u64>,
}

/// Bytes that were asked for and are not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes asked for, beyond those held.
    pub needed: u64,
    /// Bytes that were left.
    pub left: u64,
    /// Bytes of which these are left.
    pub limit: u64,
    /// Whether the limit is that of all owners together.
    pub of_machine: bool,
}

impl Ledger {
    pub(crate) fn new(limit: u64, owner_limit: u64) -> Arc<Ledger> {
        Arc::new(Ledger { limit, owner_limit, taken: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        // Nothing below panics between two changes.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that are charged to all owners.
    pub(crate) fn taken(&self) -> u64 {
        self.lock().all
    }

    fn take(&self, owner: u32, bytes: u64, passing: bool) -> Result<(), Shortage> {
        let mut taken = self.lock();
        let own = taken.by_owner.get(&owner).copied().unwrap_or(0);
        for (limit, held, of_machine) in [(self.owner_limit, own, false), (self.limit, taken.all, true)] {
            let left = limit.saturating_sub(held);
            if bytes > left {
                return Err(Shortage { needed: bytes, left, limit, of_machine });
            }
        }
        taken.all += bytes;
        taken.passing += if passing { bytes } else { 0 };
        taken.by_owner.insert(owner, own + bytes);
        Ok(())
    }

    fn give_back(&self, owner: u32, bytes: u64, passing: bool) {
        let mut taken = self.lock();
        taken.all -= bytes;
        taken.passing -= if passing { bytes } else { 0 };
        let own = taken.by_owner.remove(&owner).unwrap_or(0) - bytes;
        if own > 0 {
            taken.by_owner.insert(owner, own);
        }
    }
}

/// What one state, saved state or result is charged. Its bytes are given back when it is dropped; a clone is charged
/// nothing until it is told to.
#[derive(Debug, Default)]
pub(crate) struct Charge {
    /// `None` counts nothing: states outside of a machine.
    ledger: Option<Arc<Ledger>>,
    owner: u32,
    passing: bool,
    bytes: u64,
}

impl Charge {
    /// Of an owner, without bytes.
    pub(crate) fn new(ledger: &Arc<Ledger>, owner: u32) -> Self {
        Charge { ledger: Some(ledger.clone()), owner, passing: false, bytes: 0 }
    }

    /// One of the same owner, for what comes back without anyone's doing.
    pub(crate) fn passing(&self) -> Self {
        let mut charge = self.clone();
        charge.passing = true;
        charge
    }

    /// Whether bytes that are missing may come back without anyone's doing.
    pub(crate) fn may_come_back(&self) -> bool {
        self.ledger.as_ref().is_some_and(|ledger| ledger.lock().passing > self.bytes)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Makes the charge at least so many bytes.
    ///
    /// # Errors
    /// There are not as many. The charge is then what it was.
    pub(crate) fn raise(&mut self, bytes: u64) -> Result<(), Shortage> {
        let more = bytes.saturating_sub(self.bytes);
        if let Some(ledger) = self.ledger.as_ref().filter(|_| more > 0) {
            ledger.take(self.owner, more, self.passing)?;
            self.bytes = bytes;
        }
        Ok(())
    }

    /// Gives back what is beyond so many bytes.
    pub(crate) fn lower(&mut self, bytes: u64) {
        let less = self.bytes.saturating_sub(bytes);
        if let Some(ledger) = self.ledger.as_ref().filter(|_| less > 0) {
            ledger.give_back(self.owner, less, self.passing);
            self.bytes = bytes;
        }
    }
}

impl Clone for Charge {
    fn clone(&self) -> Self {
        Charge { ledger: self.ledger.clone(), owner: self.owner, passing: self.passing, bytes: 0 }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.lower(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_are_bounded_by_owner_and_in_all_and_come_back() {
        let ledger = Ledger::new(100, 60);
        let mut a = Charge::new(&ledger, 1);
        a.raise(50).expect("there is room");
        let mut second = a.clone();
        assert_eq!((second.bytes(), ledger.taken()), (0, 50));
        assert_eq!(second.raise(11), Err(Shortage { needed: 11, left: 10, limit: 60, of_machine: false }));
        let mut b = Charge::new(&ledger, 2);
        assert_eq!(b.raise(60), Err(Shortage { needed: 60, left: 50, limit: 100, of_machine: true }));
        b.raise(50).expect("there is room");
        a.raise(20).expect("it is less than is held");
        assert_eq!(a.bytes(), 50);
        a.lower(20);
        second.raise(30).expect("there is room");
        assert_eq!(ledger.taken(), 100);
        drop((a, b, second));
        let taken = ledger.lock();
        assert_eq!((taken.all, taken.by_owner.len()), (0, 0));
    }

    #[test]
    fn a_charge_without_a_ledger_counts_nothing() {
        let mut free = Charge::default();
        free.raise(u64::MAX).expect("nothing is counted");
        assert_eq!(free.bytes(), 0);
    }
}
