//! Sets of numbers: their sums, and disjoint ones that are joined.

/// Removes equal neighbours from a sorted list two by two.
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

/// The root of the set that an element is in, given the parent of each: a root is its own. Halves the paths that it goes.
#[inline]
pub fn find(parent: &mut [u32], mut a: u32) -> u32 {
    while parent[a as usize] != a {
        parent[a as usize] = parent[parent[a as usize] as usize];
        a = parent[a as usize];
    }
    a
}
