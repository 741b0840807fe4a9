//! Pauli noise, drawn sparsely: each draw goes from one shot that errs straight to the next.

use crate::rng::{DrawSite, Random};
use qmk_hal::{Channel, Column};

/// I, X, Y, Z as X and Z bits.
const LETTER: [u8; 4] = [0, 1, 3, 2];

/// Shots that share the draws of one channel.
pub(crate) const BLOCK: u64 = 1024;

/// Total probability of a channel's errors.
pub(crate) fn total(channel: &Channel) -> f64 {
    let sum = |p: &[f64]| p.iter().sum::<f64>();
    match channel {
        Channel::Pauli1 { p, .. } => sum(p),
        Channel::Pauli2 { p, .. } => sum(p),
        Channel::Flip { p, .. } => *p,
        Channel::Given { .. } => 0.0,
    }
}

/// Whether the probabilities of a channel are at least 0 and add up to at most 1.
pub(crate) fn is_valid(channel: &Channel) -> bool {
    let each: &[f64] = match channel {
        Channel::Pauli1 { p, .. } => p,
        Channel::Pauli2 { p, .. } => p,
        Channel::Flip { p, .. } => std::slice::from_ref(p),
        Channel::Given { .. } => &[],
    };
    each.iter().all(|p| *p >= 0.0) && total(channel) <= 1.0 + 1e-9
}

/// Whether a column has an X and a Z part in 64 shots from `shot` on, or up to the next multiple of 64.
pub(crate) fn given(columns: &[Column], column: u32, shot: u64) -> [u64; 2] {
    let word = |bits: &[u64]| bits.get((shot / 64) as usize).map_or(0, |w| w >> (shot % 64));
    columns.get(column as usize).map_or([0; 2], |c| [word(&c.x), word(&c.z)])
}

/// Calls `hit(shot in the block, error)` for each shot of a block in which channel number `index` errs. The bits of
/// `error` are the X and Z parts on the first register, then on the second; bit 0 for a flip.
pub(crate) fn draw(random: Random, index: u32, channel: &Channel, block: u64, mut hit: impl FnMut(u64, u8)) {
    let p = total(channel);
    if p <= 0.0 {
        return;
    }
    // The gap to the next hit is geometric: floor(ln u / ln(1 - p)), u uniform in (0, 1].
    let scale = libm::log1p(-p.min(1.0)).recip();
    let (mut shot, mut number) = (0u64, 0);
    loop {
        let [gap, which] = random.noise(DrawSite { at: index, draw: 0 }, block, number);
        number += 1;
        let gap = libm::log1p(-gap) * scale;
        if gap >= (BLOCK - shot) as f64 {
            return;
        }
        shot += gap as u64;
        if shot >= BLOCK {
            return;
        }
        hit(shot, error(channel, which * p));
        shot += 1;
    }
}

/// The error whose share of the channel's probability holds `at`.
fn error(channel: &Channel, mut at: f64) -> u8 {
    let mut pick = |p: &[f64]| {
        let last = p.iter().rposition(|p| *p > 0.0).unwrap_or(0);
        let found = p.iter().position(|p| {
            at -= p;
            at < 0.0
        });
        found.unwrap_or(last) + 1
    };
    match channel {
        Channel::Flip { .. } => 1,
        Channel::Given { .. } => 0,
        Channel::Pauli1 { p, .. } => LETTER[pick(p)],
        Channel::Pauli2 { p, .. } => pair_error(pick(p)),
    }
}

/// The error of product number `4a + b` of a [`Channel::Pauli2`].
fn pair_error(pair: usize) -> u8 {
    LETTER[pair / 4] | LETTER[pair % 4] << 2
}

/// The errors of a channel and their probabilities, numbered from 1: by the bits of the X part (1) and Z part (2) on
/// the first register and, times 4, on the second; a flip is 1. Given Paulis have none.
pub fn channel_errors(channel: &Channel) -> impl Iterator<Item = (u8, f64)> + Clone + use<> {
    let mut all = [(0, 0.0); 15];
    let count = match channel {
        Channel::Flip { p, .. } => {
            all[0] = (1, *p);
            1
        }
        Channel::Pauli1 { p, .. } => {
            (1..).zip(p).for_each(|(i, &p)| all[i - 1] = (LETTER[i], p));
            3
        }
        Channel::Pauli2 { p, .. } => {
            (1..).zip(p).for_each(|(i, &p)| all[i - 1] = (pair_error(i), p));
            15
        }
        Channel::Given { .. } => 0,
    };
    all.into_iter().take(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_come_with_their_probabilities() {
        let mut p = [0.0; 15];
        (p[0], p[6], p[14]) = (0.01, 0.2, 0.05);
        let channel = Channel::Pauli2 { qubits: [0, 1], p };
        let mut seen = [0u64; 16];
        let blocks = 200;
        for block in 0..blocks {
            let mut last = None;
            draw(Random { seed: 5 }, 3, &channel, block, |shot, e| {
                assert!(shot < BLOCK && last.is_none_or(|l| l < shot));
                last = Some(shot);
                seen[e as usize] += 1;
            });
        }
        let n = (blocks * BLOCK) as f64;
        // IX, XZ and ZZ; three z-tests at 1e-6 each (|z| < 4.9).
        for (error, p) in [(0b0100, 0.01), (0b1001, 0.2), (0b1010, 0.05)] {
            let z = (seen[error] as f64 - n * p) / (n * p * (1.0 - p)).sqrt();
            assert!(z.abs() < 4.9, "error {error:04b}: z = {z}");
        }
        assert_eq!(seen.iter().filter(|&&c| c > 0).count(), 3);
    }
}
