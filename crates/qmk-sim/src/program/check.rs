//! The check of noise against the program that it is for.

use super::steps::registers;
use crate::noise::is_valid;
use qmk_abi::image::{Image, Op};
use qmk_hal::{Channel, Noise};

/// Checks that noise channels come in order, act on registers and events in use there, and have probabilities.
///
/// # Errors
/// Which channel is wrong, and how.
pub(crate) fn check_noise(image: &Image, noise: &[Noise]) -> Result<(), String> {
    if noise.is_empty() {
        return Ok(());
    }
    let mut live = vec![false; image.qubits as usize];
    let mut channels = noise.iter().enumerate().peekable();
    for (at, instr) in image.code.iter().enumerate() {
        match instr.op {
            Op::Alloc(q) => live[q as usize] = true,
            Op::Free(q) => live[q as usize] = false,
            _ => {}
        }
        while let Some((i, n)) = channels.next_if(|(_, n)| n.after as usize == at) {
            let bad = |what: &str| Err(format!("noise channel {i}, after instruction {at}: {what}"));
            let (q, count) = registers(&n.channel);
            if q[..count].iter().any(|&q| !live.get(q as usize).is_some_and(|&l| l)) {
                return bad("the register is not allocated");
            }
            if count == 2 && q[0] == q[1] {
                return bad("the registers are the same");
            }
            if matches!(n.channel, Channel::Flip { event, .. } if !instr.op.writes().any(|e| e == event)) {
                return bad("the instruction does not write the event");
            }
            if !is_valid(&n.channel) {
                return bad("probabilities must not be negative and add up to at most 1");
            }
        }
    }
    match channels.next() {
        Some((i, n)) => Err(format!(
            "noise channel {i}, after instruction {}: not in order, or beyond the image's {} instructions",
            n.after,
            image.code.len()
        )),
        None => Ok(()),
    }
}
