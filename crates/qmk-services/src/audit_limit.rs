//! Refusals in the audit log. Each is recorded, up to a rate per user and tenant, so that refused requests cannot fill
//! the disk; those beyond are counted.

use crate::model::refusee::Refusee;
use crate::store::handle::Store;
use parking_lot::Mutex;
use qmk_abi::rpc::{ErrorCode, RpcError};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Maximum entries per second of a user, or of a tenant by that user. Further refusals are counted.
const ENTRIES: u64 = 10;
const WINDOW: Duration = Duration::from_secs(1);
/// Users and tenants whose refusals are counted at one time.
const COUNTED: usize = 4096;
/// Characters of a name that was claimed.
const CLAIM: usize = 64;

struct Count {
    since: Instant,
    written: u64,
    left_out: u64,
}

#[derive(Default)]
pub(crate) struct AuditLimit(Mutex<BTreeMap<Refusee, Count>>);

impl AuditLimit {
    /// Whether a refusal is to have an entry of its own; then the numbers of those that had none are due, too.
    fn count(&self, who: &Refusee, alone: bool, now: Instant) -> (bool, Vec<(Refusee, u64)>) {
        let mut counts = self.0.lock();
        let due = Self::take_due(&mut counts, |count| now.saturating_duration_since(count.since) >= WINDOW);
        let full = counts.len() >= COUNTED;
        let own = match counts.get_mut(who) {
            Some(count) if alone && count.written < ENTRIES => {
                count.written += 1;
                true
            }
            Some(count) => {
                count.left_out += 1;
                false
            }
            None if full => false,
            None => {
                let (written, left_out) = (alone as u64, !alone as u64);
                counts.insert(who.clone(), Count { since: now, written, left_out });
                alone
            }
        };
        (own, due)
    }

    fn take_due(counts: &mut BTreeMap<Refusee, Count>, due: impl Fn(&Count) -> bool) -> Vec<(Refusee, u64)> {
        let mut taken = Vec::new();
        counts.retain(|who, count| {
            let due = due(count);
            if due && count.left_out > 0 {
                taken.push((who.clone(), count.left_out));
            }
            !due
        });
        taken
    }

    /// Records a refusal.
    pub(crate) fn record(
        &self,
        store: &Store,
        who: &Refusee,
        claimed: Option<&str>,
        (method, session): (&str, Option<u64>),
        e: &RpcError,
    ) {
        use ErrorCode::*;
        let refusals = [InsufficientCaps, AuthFailed, TenantSuspended, QuotaExceeded, ResourceExhausted, AccessDenied];
        if !store.keeps() || !refusals.contains(&e.code) {
            return;
        }
        // Requests beyond the rate limit are counted only.
        let (own, due) = self.count(who, e.retry_after_ms.is_none(), Instant::now());
        for (who, count) in due {
            store.left_out(&who, count);
        }
        if own {
            let claimed = claimed.map(|name| match name.char_indices().nth(CLAIM) {
                Some((end, _)) => &name[..end],
                None => name,
            });
            store.refused(who, claimed, session, method, e.code);
        }
    }

    /// Records what is still only counted.
    pub(crate) fn flush(&self, store: &Store) {
        for (who, count) in Self::take_due(&mut self.0.lock(), |_| true) {
            store.left_out(&who, count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AuditLimit, COUNTED, ENTRIES, Refusee, WINDOW};
    use std::time::Instant;

    #[test]
    fn a_second_has_some_entries_and_the_next_one_the_number_of_the_others() {
        let (refusals, start) = (AuditLimit::default(), Instant::now());
        let who = |uid| Refusee { uid: Some(uid), tenant: None };
        let written = (0..1000).filter(|_| refusals.count(&who(1), true, start).0).count() as u64;
        assert_eq!(written, ENTRIES);
        // Of others, and of the same user for a tenant, there are as many.
        assert!(refusals.count(&who(2), true, start).0);
        assert!(refusals.count(&Refusee { tenant: Some("a".into()), ..who(1) }, true, start).0);
        assert!(!refusals.count(&who(2), false, start).0);
        let (own, due) = refusals.count(&who(3), true, start + WINDOW);
        assert_eq!((own, due), (true, vec![(who(1), 1000 - ENTRIES), (who(2), 1)]));
        assert!(refusals.count(&who(1), true, start + WINDOW).0);
        for uid in 0..2 * COUNTED as u32 {
            refusals.count(&who(uid), true, start + WINDOW);
        }
        assert_eq!(refusals.0.lock().len(), COUNTED);
    }
}
