//! Lists of Pauli rotations, merged as they grow.

use super::mask::Mask;

/// How many rotations a new one is moved across at most.
const REACH: usize = 64;

/// Whether two strings commute.
pub(crate) fn commute(a: Mask, b: Mask) -> bool {
    ((a.x & b.z).count_ones() + (a.z & b.x).count_ones()) & 1 == 0
}

/// Adds a rotation to a list, or its angle to a rotation about the same string that it can be moved next to. With
/// `sort` it goes right behind the last rotation that it does not commute with.
pub(crate) fn merge(rotations: &mut Vec<(Mask, f64)>, mask: Mask, theta: f64, sort: bool) {
    let earlier = rotations.iter().enumerate().rev().take(REACH);
    let same = |q: Mask| (mask.x, mask.z) == (q.x, q.z);
    match earlier.map(|(i, &(q, _))| (i, q)).find(|&(_, q)| same(q) || !commute(mask, q)) {
        Some((i, q)) if same(q) => rotations[i].1 += if mask.negative == q.negative { theta } else { -theta },
        Some((i, _)) if sort => rotations.insert(i + 1, (mask, theta)),
        _ => rotations.push((mask, theta)),
    }
}
