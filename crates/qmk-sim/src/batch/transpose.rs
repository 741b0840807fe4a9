//! Turns rows of events, a bit per shot, into the packed outcomes of each shot.

/// Packs rows of events, one bit per lane, to lanes of events: `stride` bytes for each lane.
pub(super) fn transpose(rows: &[u64], width: usize, events: usize, lanes: usize, stride: usize, out: &mut [u8]) {
    for base in (0..events).step_by(64) {
        let height = (events - base).min(64);
        let bytes = (stride - base / 8).min(8);
        for w in 0..width {
            let mut block = [0u64; 64];
            for (i, b) in block[..height].iter_mut().enumerate() {
                *b = rows[(base + i) * width + w];
            }
            transpose_block(&mut block);
            let first = 64 * w;
            for (i, b) in block[..64.min(lanes - first)].iter().enumerate() {
                out[(first + i) * stride + base / 8..][..bytes].copy_from_slice(&b.to_le_bytes()[..bytes]);
            }
        }
    }
}

/// Transposes 64 words of 64 bits (Warren, "Hacker's Delight", 7-3).
fn transpose_block(block: &mut [u64; 64]) {
    let mut width = 32;
    let mut mask = u64::MAX >> 32;
    while width > 0 {
        for pair in block.chunks_exact_mut(2 * width) {
            let (low, high) = pair.split_at_mut(width);
            for (a, b) in low.iter_mut().zip(high) {
                let t = (*a >> width ^ *b) & mask;
                *a ^= t << width;
                *b ^= t;
            }
        }
        width /= 2;
        mask ^= mask << width.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::philox2x64;

    #[test]
    fn blocks_transpose() {
        let original: [u64; 64] = std::array::from_fn(|i| philox2x64([i as u64, 1], 9)[0]);
        let mut block = original;
        transpose_block(&mut block);
        for (i, row) in block.iter().enumerate() {
            for (j, column) in original.iter().enumerate() {
                assert_eq!(row >> j & 1, column >> i & 1);
            }
        }
    }
}
