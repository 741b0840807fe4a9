//! Random numbers for tests.

use crate::rng::philox2x64;

pub(crate) struct Dice(pub(crate) u64, pub(crate) u64);

impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.1 += 1;
        philox2x64([self.1, 77], self.0)[0] % n
    }

    pub(crate) fn unit(&mut self) -> f64 {
        self.below(1 << 40) as f64 / (1u64 << 40) as f64
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}
