//! What happens to one patch while a program runs.

/// Samples the errors of a patch that is decoded while it lives.
pub trait LogicalErrorSampler: Send + Sync {
    /// Appends, for each of `cycles` logical cycles, whether what the decoder got wrong is an X and whether it is a Z on the logical
    /// qubit, to be applied at the end of the cycle. A pure function of its arguments: `stream` tells apart the patches of one shot.
    fn sample(&self, seed: u64, shot: u64, stream: u32, cycles: u32, out: &mut Vec<[bool; 2]>);
}
