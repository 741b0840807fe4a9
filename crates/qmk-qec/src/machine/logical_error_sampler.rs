//! The contract of a sampler of logical errors.

/// Samples the logical errors of a patch that is decoded while it lives.
pub trait LogicalErrorSampler: Send + Sync {
    /// Appends, for each of `cycles` logical cycles, whether the decoder left a logical X error and whether it left a
    /// logical Z error, to be applied at the end of the cycle. A pure function of its arguments, so that shots can be
    /// sampled in any order and replayed. `stream` numbers the patches of one shot.
    fn sample(&self, seed: u64, shot: u64, stream: u32, cycles: u32, out: &mut Vec<[bool; 2]>);
}
