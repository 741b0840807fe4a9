//! Numbered entries, whose numbers are used again.

use crate::errors::{Broken, Checked};
use crate::ids::{Id, Kind};
use alloc::vec::Vec;

/// Entries of type `T` under numbers of kind `K`.
///
/// A number is in `free` exactly if its entry is `None`. Holders of a number keep its entry alive, so a number that
/// names nothing is a broken invariant; [`Slab::find`] is for the few that may outlive their entry.
#[derive(Debug)]
pub(crate) struct Slab<K, T> {
    entries: Vec<Option<T>>,
    free: Vec<Id<K>>,
}

impl<K: Kind, T> Slab<K, T> {
    pub(crate) const fn new() -> Self {
        Slab { entries: Vec::new(), free: Vec::new() }
    }

    /// Adds an entry under a number that was freed, the one freed last first, or else a new one.
    pub(crate) fn insert(&mut self, value: T) -> Id<K> {
        if let Some(id) = self.free.pop()
            && let Some(entry) = self.entries.get_mut(id.index() as usize)
        {
            *entry = Some(value);
            return id;
        }
        self.entries.push(Some(value));
        Id::new(self.entries.len() as u32 - 1)
    }

    /// The entry of a number, if there still is one.
    #[inline]
    pub(crate) fn find(&self, id: Id<K>) -> Option<&T> {
        self.entries.get(id.index() as usize)?.as_ref()
    }

    /// As [`Slab::find`].
    #[inline]
    pub(crate) fn find_mut(&mut self, id: Id<K>) -> Option<&mut T> {
        self.entries.get_mut(id.index() as usize)?.as_mut()
    }

    /// # Errors
    /// The number names nothing.
    #[inline]
    pub(crate) fn get(&self, id: Id<K>) -> Checked<&T> {
        self.find(id).ok_or_else(|| missing(id))
    }

    /// # Errors
    /// The number names nothing.
    #[inline]
    pub(crate) fn get_mut(&mut self, id: Id<K>) -> Checked<&mut T> {
        self.find_mut(id).ok_or_else(|| missing(id))
    }

    /// # Errors
    /// The number names nothing.
    pub(crate) fn remove(&mut self, id: Id<K>) -> Checked<T> {
        let entry = self.entries.get_mut(id.index() as usize).and_then(Option::take).ok_or_else(|| missing(id))?;
        self.free.push(id);
        Ok(entry)
    }

    /// Numbers that are in use or free, in order.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Id<K>> + use<K, T> {
        (0..self.entries.len() as u32).map(Id::new)
    }

    /// Entries in order of their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id<K>, &T)> {
        self.entries.iter().enumerate().filter_map(|(i, e)| Some((Id::new(i as u32), e.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Id<K>, &mut T)> {
        self.entries.iter_mut().enumerate().filter_map(|(i, e)| Some((Id::new(i as u32), e.as_mut()?)))
    }
}

/// For the audit and its test.
#[cfg(any(test, feature = "audit"))]
impl<K: Kind, T> Slab<K, T> {
    /// Whether exactly the numbers without an entry are free, each once.
    pub(crate) fn is_well_formed(&self) -> bool {
        let unused = self.entries.iter().filter(|e| e.is_none()).count();
        let mut free: Vec<usize> = self.free.iter().map(|id| id.index() as usize).collect();
        free.sort_unstable();
        free.dedup();
        let all_unused = free.iter().all(|&i| self.entries.get(i).is_some_and(Option::is_none));
        (free.len(), self.free.len()) == (unused, unused) && all_unused
    }

    /// Breaks the invariant, for the test of the audit.
    #[cfg(test)]
    pub(crate) fn corrupt(&mut self) {
        self.free.push(Id::new(0));
    }
}

#[cold]
fn missing<K: Kind>(id: Id<K>) -> Broken {
    Broken::met(K::MISSING, Some(id.index()))
}
