//! Sets of numbers: sums of sorted lists, and union-find.

/// Removes equal neighbours from a sorted list in pairs: numbers that occur an odd number of times stay, once.
pub fn drop_pairs(list: &mut Vec<u32>) {
    let mut kept = 0;
    for k in 0..list.len() {
        if kept > 0 && list[kept - 1] == list[k] {
            kept -= 1;
        } else {
            list[kept] = list[k];
            kept += 1;
        }
    }
    list.truncate(kept);
}

/// The root of the set that an element is in, given the parent of each element; a root is its own parent. Halves the
/// path on the way (path halving, Tarjan & van Leeuwen, J. ACM 31, 1984).
#[inline]
pub fn find(parent: &mut [u32], mut a: u32) -> u32 {
    while parent[a as usize] != a {
        parent[a as usize] = parent[parent[a as usize] as usize];
        a = parent[a as usize];
    }
    a
}
