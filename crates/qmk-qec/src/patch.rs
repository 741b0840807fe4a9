//! What happens to one patch while a program runs.

use qmk_abi::syscall::Code;
use std::sync::Arc;

/// Samples the errors of a patch that is decoded while it lives.
pub trait History: Send + Sync {
    /// Appends, for each of `cycles` logical cycles, whether what the decoder got wrong is an X and whether it is a Z on the logical
    /// qubit, to be applied at the end of the cycle. A pure function of its arguments: `stream` tells apart the patches of one shot.
    fn run(&self, seed: u64, shot: u64, stream: u32, cycles: u32, out: &mut Vec<[bool; 2]>);
}

/// The history of patches of a code, distance and physical error rate.
///
/// # Errors
/// What is not sampled, and what is.
pub fn history(code: Code, _distance: u32, _p: f64) -> Result<Arc<dyn History>, String> {
    Err(format!("the syndrome of {code:?} patches is not sampled; use \"logical\" for their measured rates"))
}
