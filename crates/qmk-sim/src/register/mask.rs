//! Pauli strings over register bits.

use num_complex::Complex64;

/// A signed Hermitian Pauli string over register bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask {
    /// Bits with X or Y.
    pub x: u64,
    /// Bits with Z or Y.
    pub z: u64,
    /// True for a minus sign.
    pub negative: bool,
}

impl Mask {
    /// The scalar c with `P|b> = c |b ^ x>`.
    #[inline]
    pub(crate) fn phase(self, b: u64) -> Complex64 {
        let k = (self.x & self.z).count_ones() + 2 * ((b & self.z).count_ones() + self.negative as u32);
        match k & 3 {
            0 => Complex64::new(1.0, 0.0),
            1 => Complex64::new(0.0, 1.0),
            2 => Complex64::new(-1.0, 0.0),
            _ => Complex64::new(0.0, -1.0),
        }
    }
}
