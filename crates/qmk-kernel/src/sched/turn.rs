//! Turns of contexts in an epoch.

use crate::limits::AGE;
use core::ops::Range;

/// A strand as an epoch finds it.
#[derive(Debug)]
pub(crate) struct StrandView {
    /// When it last issued something, if it could now.
    pub(crate) ready_since: Option<u64>,
    /// Cycles that it still has to go.
    pub(crate) remaining_path: u32,
}

/// A context's turn. The rest of its strands are those of `range`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Turn {
    pub(crate) time: u64,
    pub(crate) context: u32,
    pub(crate) oldest: Option<usize>,
    /// Its first strand, ready or not.
    pub(crate) first: usize,
    pub(crate) range: Range<usize>,
}

impl Ord for Turn {
    fn cmp(&self, other: &Self) -> core::cmp::Ordering {
        (self.time, self.context).cmp(&(other.time, other.context))
    }
}

impl PartialOrd for Turn {
    fn partial_cmp(&self, other: &Self) -> Option<core::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The strand, of some that run, that has been ready longest without issuing anything, if that is too long.
pub(crate) fn neglected(views: &[StrandView], range: Range<usize>, now: u64) -> Option<usize> {
    let since = range.filter_map(|at| Some((at, views.get(at)?.ready_since?)));
    let (at, last) = since.min_by_key(|&(_, last)| last)?;
    (now - last > AGE).then_some(at)
}

/// Those of some strands from the first that is ready on; what is not does not become so within the epoch.
pub(crate) fn skip_unready(views: &[StrandView], mut range: Range<usize>) -> Range<usize> {
    while !range.is_empty() && views.get(range.start).is_some_and(|s| s.ready_since.is_none()) {
        range.start += 1;
    }
    range
}
