//! Lists of Pauli rotations.

use crate::register::Mask;

/// Adds a rotation to a list, or its angle to one about the same string that it can be moved next to.
pub(crate) fn merge(rotations: &mut Vec<(Mask, f64)>, mask: Mask, theta: f64) {
    let anticommute = |a: &Mask| ((a.x & mask.z).count_ones() + (a.z & mask.x).count_ones()) & 1 == 1;
    for (earlier, angle) in rotations.iter_mut().rev().take(64) {
        if (earlier.x, earlier.z) == (mask.x, mask.z) {
            *angle += if earlier.negative == mask.negative { theta } else { -theta };
            return;
        }
        if anticommute(earlier) {
            break;
        }
    }
    rotations.push((mask, theta));
}
