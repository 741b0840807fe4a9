//! Limits per user: open connections, and bytes in flight in each direction.

use crate::limits::Limits;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Messages of full length that may be on their direction from one user, and from all of them together.
const USER_MESSAGES: usize = 4;
const ALL_MESSAGES: usize = 16;

#[derive(Clone, Copy, Default)]
struct Taken {
    connections: usize,
    bytes_in: usize,
    bytes_out: usize,
}

#[derive(Default)]
struct Ledger {
    users: BTreeMap<u32, Taken>,
    all: Taken,
}

/// The account of all users.
#[derive(Clone)]
pub(crate) struct UserLimits {
    ledger: Arc<Mutex<Ledger>>,
    limits: Limits,
}

/// Direction of bytes in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
}

impl Direction {
    fn of(self, own: &mut Taken) -> &mut usize {
        match self {
            Direction::In => &mut own.bytes_in,
            Direction::Out => &mut own.bytes_out,
        }
    }
}

/// A connection of a user. Its share of the limits is given back on drop.
pub(crate) struct ConnectionGuard {
    users: UserLimits,
    uid: u32,
    taken: Mutex<[usize; 2]>,
}

fn owner(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

impl UserLimits {
    pub(crate) fn new(limits: Limits) -> Self {
        UserLimits { ledger: Arc::default(), limits }
    }

    /// Opens a connection, or says why it may not be.
    pub(crate) fn connect(&self, uid: u32) -> Result<ConnectionGuard, String> {
        self.connect_as(uid, owner(uid))
    }

    #[cfg(test)]
    pub(crate) fn bytes_in(&self) -> usize {
        self.ledger.lock().all.bytes_in
    }

    fn connect_as(&self, uid: u32, owner: bool) -> Result<ConnectionGuard, String> {
        let mut ledger = self.ledger.lock();
        let own = ledger.users.get(&uid).map_or(0, |own| own.connections);
        let (most, each) = (self.limits.connections, self.limits.user_connections());
        // One eighth is reserved for the owner, to look into a server that is full.
        let open = if owner { most } else { most - most / 8 };
        if ledger.all.connections >= open {
            return Err("too many connections".into());
        }
        if !owner && own >= each {
            return Err(format!("too many connections of user {uid}; {each} may be open"));
        }
        ledger.all.connections += 1;
        ledger.users.entry(uid).or_default().connections += 1;
        Ok(ConnectionGuard { users: self.clone(), uid, taken: Mutex::default() })
    }
}

impl ConnectionGuard {
    /// Sets how many bytes are on their direction; false if there is no room for more.
    pub(crate) fn set(&self, direction: Direction, bytes: usize) -> bool {
        let mut taken = self.taken.lock();
        let had = taken[direction as usize];
        if bytes == had {
            return true;
        }
        let ledger = &mut *self.users.ledger.lock();
        let own = ledger.users.entry(self.uid).or_default();
        let message = self.users.limits.message_bytes;
        let (own, all) = (direction.of(own), direction.of(&mut ledger.all));
        if bytes > had {
            let more = bytes - had;
            // The only message of a user is bounded elsewhere, and the only reply must go out.
            let alone = *own == had && *all == had;
            let full = *own + more > USER_MESSAGES.saturating_mul(message)
                || *all + more > ALL_MESSAGES.saturating_mul(message);
            if full && !alone {
                return false;
            }
        }
        *own = *own - had + bytes;
        *all = *all - had + bytes;
        taken[direction as usize] = bytes;
        true
    }

    /// Sets how many bytes are on their direction, if there are fewer.
    pub(crate) fn at_least(&self, direction: Direction, bytes: usize) -> bool {
        let had = self.taken.lock()[direction as usize];
        self.set(direction, had.max(bytes))
    }

    /// Adds to the bytes that are on their direction.
    pub(crate) fn add(&self, direction: Direction, bytes: usize) -> bool {
        let had = self.taken.lock()[direction as usize];
        self.set(direction, had.saturating_add(bytes))
    }
}

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.set(Direction::In, 0);
        self.set(Direction::Out, 0);
        let ledger = &mut *self.users.ledger.lock();
        ledger.all.connections -= 1;
        if let Some(own) = ledger.users.get_mut(&self.uid) {
            own.connections -= 1;
            if own.connections == 0 {
                ledger.users.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Direction, UserLimits};
    use crate::limits::Limits;

    #[test]
    fn no_user_takes_all_connections_and_some_are_the_owners() {
        let users = UserLimits::new(Limits { connections: 16, ..Limits::default() });
        let of = |uid, n: usize| (0..n).map(|_| users.connect_as(uid, uid == 0)).collect::<Vec<_>>();
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
        assert_eq!(users.ledger.lock().all.connections, 0);
        assert!(users.ledger.lock().users.is_empty());
    }

    #[test]
    fn bytes_of_a_user_and_of_all_are_bounded_and_given_back() {
        let users = UserLimits::new(Limits { message_bytes: 10, ..Limits::default() });
        let guard = |uid| users.connect_as(uid, true).ok().unwrap();
        let (a, b) = (guard(1), guard(1));
        assert!(a.set(Direction::In, 30) && b.set(Direction::In, 10) && !b.set(Direction::In, 11));
        // The ways have nothing to do with each other.
        assert!(b.set(Direction::Out, 40) && !a.add(Direction::Out, 1));
        let others: Vec<_> = (2..5).map(guard).collect();
        assert!(others.iter().all(|c| c.set(Direction::In, 40)));
        assert!(!guard(9).set(Direction::In, 1));
        drop(a);
        assert!(b.set(Direction::In, 20) && b.set(Direction::In, 5));
        drop((b, others));
        let alone = guard(3);
        assert!(alone.set(Direction::Out, 1000));
        drop(alone);
        let ledger = users.ledger.lock();
        assert_eq!((ledger.all.bytes_in, ledger.all.bytes_out), (0, 0));
    }
}
