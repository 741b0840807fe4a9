//! Which patch an allocation takes.

use alloc::collections::VecDeque;

/// The patches that a program holds, while one goes through its instructions in their order. An allocation takes a
/// patch that was never used, while there are such, and then the one that was freed first, for which it waits. So no
/// more are in use at once than the program holds.
#[derive(Clone, Debug)]
pub struct Patches<T> {
    unused: u32,
    freed: VecDeque<T>,
}

impl<T> Patches<T> {
    /// So many, none in use.
    pub fn new(patches: u32) -> Self {
        Patches { unused: patches, freed: VecDeque::new() }
    }

    /// A patch is freed; `by` tells by what, or when.
    pub fn give(&mut self, by: T) {
        self.freed.push_back(by);
    }

    /// Takes a patch. Returns what was told when it was freed, if it was in use before.
    pub fn take(&mut self) -> Option<T> {
        match self.unused.checked_sub(1) {
            Some(left) => {
                self.unused = left;
                None
            }
            None => self.freed.pop_front(),
        }
    }
}
