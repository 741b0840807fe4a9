//! Bounds of the kernel's work and memory, and the times of the scheduler. Constants of one formula stand beside it.

/// Capabilities that one call or one epoch deletes at most, so that a large subtree does not hold other callers up.
pub(crate) const STEP: u32 = 1024;
/// Deletions under way that are remembered. A call that begins another one must be repeated until it is done.
pub(crate) const MAX_DELETIONS: usize = 256;
/// Budgets from the machine down to the innermost, each of which a spawn walks.
pub(crate) const MAX_BUDGET_DEPTH: u32 = 16;
/// Bytes of the largest reply to `Outcomes`. It has at least one shot, whatever that takes.
pub(crate) const OUTCOME_BYTES: u64 = 1 << 20;
/// Raw pairs that one channel may take. It also bounds the pairs a domain may have ordered, so that it cannot keep
/// others from the link.
pub(crate) const MAX_PAIRS: u64 = 1 << 16;
/// Instructions of a strand that a rollback can undo. When there are more, the older half is forgotten.
pub(crate) const MAX_REVERSIBLE: usize = 1 << 16;
/// Epochs that a plan may take for one shot. A region may have reservations so far ahead.
pub(crate) const HORIZON: u64 = 1 << 16;
/// Instructions that a region issues in an epoch, and one strand by its plan.
pub(crate) const MAX_ISSUES: u32 = 1 << 16;
/// Decoder load of one patch in an epoch, whose errors are those of the machine itself. Loads are counted in parts of
/// it.
pub(crate) const PATCH: u64 = 1000;
/// Instructions of the strands that start in one epoch, after which no more do.
pub(crate) const MAX_STARTED: usize = 1 << 20;
/// Epochs after which a strand that waits to start goes before those of higher priority in its context, and a context
/// that has had none started goes before all others.
pub(crate) const PATIENCE: u64 = 1024;
/// Epochs after which a strand that is ready and issues nothing goes before all others of its context.
pub(crate) const AGE: u64 = 64;
/// Turns of one epoch at the device, all strands together.
pub(crate) const TURNS: u64 = 8;
/// Device steps below which a turn is not worth its overhead.
pub(crate) const STEPS: u64 = 1 << 11;
