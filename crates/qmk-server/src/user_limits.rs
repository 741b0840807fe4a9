//! What each user has of the server: connections, and bytes on their way in and out.

use crate::limits::Limits;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Messages of full length that may be on their way from one user, and from all of them together.
const USER_MESSAGES: usize = 4;
const ALL_MESSAGES: usize = 16;

#[derive(Clone, Copy, Default)]
struct Share {
    connections: usize,
    bytes_in: usize,
    bytes_out: usize,
}

#[derive(Default)]
struct Ledger {
    users: BTreeMap<u32, Share>,
    all: Share,
}

/// The account of all users.
#[derive(Clone)]
pub(crate) struct Shares {
    ledger: Arc<Mutex<Ledger>>,
    limits: Limits,
}

/// Which bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    In,
    Out,
}

impl Way {
    fn of(self, share: &mut Share) -> &mut usize {
        match self {
            Way::In => &mut share.bytes_in,
            Way::Out => &mut share.bytes_out,
        }
    }
}

/// A connection of a user. What it took is given back when it is dropped.
pub(crate) struct Slot {
    shares: Shares,
    uid: u32,
    taken: Mutex<[usize; 2]>,
}

fn owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

impl Shares {
    pub(crate) fn new(limits: Limits) -> Self {
        Shares { ledger: Arc::default(), limits }
    }

    /// Opens a connection, or says why it may not be.
    pub(crate) fn connect(&self, uid: u32) -> Result<Slot, String> {
        self.connect_as(uid, owner(uid))
    }

    #[cfg(test)]
    pub(crate) fn bytes_in(&self) -> usize {
        self.ledger.lock().all.bytes_in
    }

    fn connect_as(&self, uid: u32, owner: bool) -> Result<Slot, String> {
        let mut ledger = self.ledger.lock();
        let own = ledger.users.get(&uid).map_or(0, |share| share.connections);
        let (most, each) = (self.limits.connections, self.limits.user_connections());
        // Some are for the owner, who may have to look what is going on.
        let open = if owner { most } else { most - most / 8 };
        if ledger.all.connections >= open {
            return Err("too many connections".into());
        }
        if !owner && own >= each {
            return Err(format!("too many connections of user {uid}; {each} may be open"));
        }
        ledger.all.connections += 1;
        ledger.users.entry(uid).or_default().connections += 1;
        Ok(Slot { shares: self.clone(), uid, taken: Mutex::default() })
    }
}

impl Slot {
    /// Sets how many bytes are on their way; false if there is no room for more.
    pub(crate) fn set(&self, way: Way, bytes: usize) -> bool {
        let mut taken = self.taken.lock();
        let had = taken[way as usize];
        if bytes == had {
            return true;
        }
        let ledger = &mut *self.shares.ledger.lock();
        let share = ledger.users.entry(self.uid).or_default();
        let message = self.shares.limits.message_bytes;
        let (own, all) = (way.of(share), way.of(&mut ledger.all));
        if bytes > had {
            let more = bytes - had;
            // What a connection sends alone is bounded elsewhere, and a reply alone has to go some day.
            let alone = *own == had && *all == had;
            let full = *own + more > USER_MESSAGES.saturating_mul(message)
                || *all + more > ALL_MESSAGES.saturating_mul(message);
            if full && !alone {
                return false;
            }
        }
        *own = *own - had + bytes;
        *all = *all - had + bytes;
        taken[way as usize] = bytes;
        true
    }

    /// Sets how many bytes are on their way, if there are fewer.
    pub(crate) fn at_least(&self, way: Way, bytes: usize) -> bool {
        let had = self.taken.lock()[way as usize];
        self.set(way, had.max(bytes))
    }

    /// Adds to the bytes that are on their way.
    pub(crate) fn add(&self, way: Way, bytes: usize) -> bool {
        let had = self.taken.lock()[way as usize];
        self.set(way, had.saturating_add(bytes))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.set(Way::In, 0);
        self.set(Way::Out, 0);
        let ledger = &mut *self.shares.ledger.lock();
        ledger.all.connections -= 1;
        if let Some(share) = ledger.users.get_mut(&self.uid) {
            share.connections -= 1;
            if share.connections == 0 {
                ledger.users.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Shares, Way};
    use crate::limits::Limits;

    #[test]
    fn no_user_takes_all_connections_and_some_are_the_owners() {
        let shares = Shares::new(Limits { connections: 16, ..Limits::default() });
        let of = |uid, n: usize| (0..n).map(|_| shares.connect_as(uid, uid == 0)).collect::<Vec<_>>();
        let mut first = of(1, 10);
        assert_eq!(first.iter().filter(|c| c.is_ok()).count(), 4);
        let others: Vec<_> = (2..6).flat_map(|uid| of(uid, 4)).collect();
        assert_eq!(others.iter().filter(|c| c.is_ok()).count(), 10);
        let own = of(0, 10);
        assert_eq!(own.iter().filter(|c| c.is_ok()).count(), 2);
        first.clear();
        // Twelve are open, and fourteen are for users other than the owner.
        assert_eq!(of(7, 5).iter().filter(|c| c.is_ok()).count(), 2);
        drop((others, own));
        assert_eq!(shares.ledger.lock().all.connections, 0);
        assert!(shares.ledger.lock().users.is_empty());
    }

    #[test]
    fn bytes_of_a_user_and_of_all_are_bounded_and_given_back() {
        let shares = Shares::new(Limits { message_bytes: 10, ..Limits::default() });
        let slot = |uid| shares.connect_as(uid, true).ok().unwrap();
        let (a, b) = (slot(1), slot(1));
        assert!(a.set(Way::In, 30) && b.set(Way::In, 10) && !b.set(Way::In, 11));
        // The ways have nothing to do with each other.
        assert!(b.set(Way::Out, 40) && !a.add(Way::Out, 1));
        let others: Vec<_> = (2..5).map(slot).collect();
        assert!(others.iter().all(|c| c.set(Way::In, 40)));
        assert!(!slot(9).set(Way::In, 1));
        drop(a);
        assert!(b.set(Way::In, 20) && b.set(Way::In, 5));
        drop((b, others));
        let alone = slot(3);
        assert!(alone.set(Way::Out, 1000));
        drop(alone);
        let ledger = shares.ledger.lock();
        assert_eq!((ledger.all.bytes_in, ledger.all.bytes_out), (0, 0));
    }
}
