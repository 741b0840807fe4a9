//! Bounds of the kernel's work and memory, and the scheduler's times.

/// Capabilities that one call deletes at most.
pub(crate) const STEP: u32 = 1024;
/// Deletions under way that derivations help along.
pub(crate) const MAX_DELETIONS: usize = 256;
/// Budgets within budgets.
pub(crate) const MAX_BUDGET_DEPTH: u32 = 16;
/// Largest reply to `Outcomes`.
pub(crate) const OUTCOME_BYTES: u64 = 1 << 20;
/// Raw pairs that one channel may take.
pub(crate) const MAX_PAIRS: u64 = 1 << 16;
/// Instructions that can be taken back.
pub(crate) const MAX_REVERSIBLE: usize = 1 << 16;
/// Epochs for which promises are made.
pub(crate) const HORIZON: u64 = 1 << 16;
/// Instructions that a region issues in an epoch, and one strand by its plan.
pub(crate) const MAX_ISSUES: u32 = 1 << 16;
/// Decoding that one patch without errors of its own gives the decoders in an epoch.
pub(crate) const PATCH: u64 = 1000;
/// Instructions of the strands that start in one epoch, after which no more do.
pub(crate) const MAX_STARTED: usize = 1 << 20;
/// Epochs after which a strand that waits to start goes before those of higher priority in its context, and a context that
/// has had none started goes before all others.
pub(crate) const PATIENCE: u64 = 1024;
/// Epochs after which a strand that is ready and issues nothing goes before all others of its context.
pub(crate) const AGE: u64 = 64;
/// Most turns of one epoch at the device, all strands together.
pub(crate) const TURNS: u64 = 8;
/// Device steps of a turn that are worth having more turns in an epoch.
pub(crate) const STEPS: u64 = 1 << 11;
