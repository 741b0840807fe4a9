//! The data of an epoch's turns: its view of the strands of a region, and the turns of their contexts.

use crate::ids::ContextId;
use crate::limits::AGE;
use crate::time::Epoch;
use core::ops::Range;

/// A strand as the epoch found it, by its place among the region's running strands. Nothing that is not ready becomes
/// ready within the epoch, so this is read instead of the strand.
#[derive(Debug)]
pub(crate) struct StrandView {
    /// Epoch of its last issue, if it could issue now were there the resources.
    pub(crate) ready_since: Option<Epoch>,
    /// Cycles of its longest remaining path.
    pub(crate) remaining_path: u32,
}

/// A context's next turn to issue. Turns are ordered by their first two fields, as no two are of one context.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Turn {
    /// Virtual time by which turns go, the least first.
    pub(crate) time: u64,
    pub(crate) context: ContextId,
    /// A strand that has waited too long and goes before all others of the context.
    pub(crate) oldest: Option<usize>,
    /// Place of the context's first strand, ready or not.
    pub(crate) first: usize,
    /// Place of the strand whose turn it is. The context has none left if that is `end`.
    pub(crate) next: usize,
    /// Place after the context's last strand.
    pub(crate) end: usize,
}

/// The strand of a range that has been ready longest without issuing, if that is more than [`AGE`] epochs.
pub(crate) fn neglected(views: &[StrandView], range: Range<usize>, now: Epoch) -> Option<usize> {
    let since = range.filter_map(|at| Some((at, views.get(at)?.ready_since?)));
    let (at, last) = since.min_by_key(|&(_, last)| last)?;
    (now.since(last) > AGE).then_some(at)
}

/// The first ready strand of a range, its end if there is none.
pub(crate) fn first_ready(views: &[StrandView], mut range: Range<usize>) -> usize {
    range.find(|&at| views.get(at).is_none_or(|s| s.ready_since.is_some())).unwrap_or(range.end)
}
