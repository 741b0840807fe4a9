//! Counter-based randomness: every draw is a function of (seed, instruction, draw, shot), so outcomes depend neither on
//! the order of execution nor on the number of threads.
//!
//! The outcome of a measurement is 1 iff its uniform draw lies below the probability of 1 given the shot's history. How
//! the state is represented does not enter, so engines that share a seed agree shot by shot.
//!
//! The generator is Philox-2x64-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC'11).

/// One block of Philox-2x64 with ten rounds.
#[inline]
pub fn philox2x64(counter: [u64; 2], key: u64) -> [u64; 2] {
    let [mut a, mut b] = counter;
    let mut k = key;
    for _ in 0..10 {
        let p = a as u128 * 0xD2B7_4407_B1CE_6E93;
        a = (p >> 64) as u64 ^ k ^ b;
        b = p as u64;
        k = k.wrapping_add(0x9E37_79B9_7F4A_7C15);
    }
    [a, b]
}

/// Where in a program a draw happens. `draw` numbers the draws of one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrawSite {
    /// Instruction index.
    pub at: u32,
    /// Draw within the instruction.
    pub draw: u32,
}

/// Kinds of draw at one site.
const COINS: u64 = 0;
const UNIFORM: u64 = 1;
const NOISE: u64 = 2;

/// Source of the draws of one space.
#[derive(Clone, Copy, Debug)]
pub struct Random {
    /// Seed of the space.
    pub seed: u64,
}

/// Uniform in [0, 1) from 64 bits, of which 53 count.
pub fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

impl Random {
    #[inline]
    fn block(self, site: DrawSite, kind: u64, index: u64) -> [u64; 2] {
        philox2x64([index, (site.at as u64) << 32 | (site.draw as u64) << 2 | kind], self.seed)
    }

    /// Fair coins of shots `128 * block .. 128 * block + 128`, lowest bit first: what a measurement reads when both
    /// outcomes are equally likely.
    #[inline]
    pub fn coins(self, site: DrawSite, block: u64) -> [u64; 2] {
        self.block(site, COINS, block)
    }

    /// Fair coin of one shot.
    pub fn coin(self, site: DrawSite, shot: u64) -> bool {
        self.coins(site, shot / 128)[(shot / 64) as usize % 2] >> (shot % 64) & 1 == 1
    }

    /// Uniform in [0, 1) with 53 bits, below 1/2 iff the coin is 1.
    pub fn uniform(self, site: DrawSite, shot: u64, coin: bool) -> f64 {
        let rest = self.block(site, UNIFORM, shot / 2)[(shot % 2) as usize] >> 1;
        unit((!coin as u64) << 63 | rest)
    }

    /// Two uniforms for the noise channel at a site: number `index` of a block of shots.
    pub(crate) fn noise(self, site: DrawSite, block: u64, index: u32) -> [f64; 2] {
        self.block(site, NOISE, block << 20 | index as u64).map(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with Random123 (kat_vectors).
    #[test]
    fn known_answers() {
        assert_eq!(philox2x64([0, 0], 0), [0xca00a0459843d731, 0x66c24222c9a845b5]);
        assert_eq!(philox2x64([!0, !0], !0), [0x65b021d60cd8310f, 0x4d02f3222f86df20]);
    }
}
