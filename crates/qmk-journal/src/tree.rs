//! The Merkle tree of RFC 9162, section 2.1: hashes, proofs, and their verification.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;

/// A SHA-256 hash of a leaf or node. Displayed and serialized in base64, as in checkpoints and by Go's `tlog`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hash(#[serde(with = "base64_bytes")] pub [u8; 32]);

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode(self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes as base64 in serialized form.
pub(crate) mod base64_bytes {
    use super::{Engine, STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(bytes: impl AsRef<[u8]>, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: TryFrom<Vec<u8>>>(d: D) -> Result<T, D::Error> {
        let bytes = STANDARD.decode(String::deserialize(d)?).map_err(D::Error::custom)?;
        let length = bytes.len();
        bytes.try_into().map_err(|_| D::Error::invalid_length(length, &"another number of bytes"))
    }
}

/// The root of the tree without entries: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Hash(Sha256::digest([]).into())
}

/// SHA-256(0x00 || entry).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Hash(Sha256::new().chain_update([0]).chain_update(entry).finalize().into())
}

/// SHA-256(0x01 || left || right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut bytes = [1; 65];
    bytes[1..33].copy_from_slice(&left.0);
    bytes[33..].copy_from_slice(&right.0);
    Hash(Sha256::digest(bytes).into())
}

/// Hashes that the tree of `size` entries stores: one for each leaf and each complete subtree.
pub(crate) fn stored_count(size: u64) -> u64 {
    2 * size - u64::from(size.count_ones())
}

/// Where node `n` of `level` is stored: each leaf is followed by the subtrees that it completes, the small ones first.
/// The `StoredHashIndex` of Go's `tlog`.
pub(crate) fn stored_index(level: u32, n: u64) -> u64 {
    stored_count(((n + 1) << level) - 1) + u64::from(level)
}

/// The largest power of two below `n`, which is at least 2.
fn split(n: u64) -> u64 {
    1 << (63 - (n - 1).leading_zeros())
}

/// The roots of the complete subtrees at the right edge, the large ones first: all that appending needs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peaks {
    pub(crate) size: u64,
    hashes: Vec<Hash>,
}

impl Peaks {
    pub(crate) fn read<E>(size: u64, node: impl Fn(u32, u64) -> Result<Hash, E>) -> Result<Peaks, E> {
        let levels = (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1);
        let hashes = levels.map(|level| node(level, (size >> level) - 1)).collect::<Result<_, E>>()?;
        Ok(Peaks { size, hashes })
    }

    /// Adds a leaf and passes the hashes to be stored, in order.
    pub(crate) fn push(&mut self, leaf: Hash, mut store: impl FnMut(Hash)) {
        store(leaf);
        let mut hash = leaf;
        for _ in 0..self.size.trailing_ones() {
            let Some(left) = self.hashes.pop() else { break };
            hash = node_hash(&left, &hash);
            store(hash);
        }
        self.hashes.push(hash);
        self.size += 1;
    }

    pub(crate) fn root(&self) -> Hash {
        self.hashes.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }
}

/// The root of the entries `start..end`, where `start` is a multiple of a power of two that is at least their number.
pub(crate) fn subtree<E>(start: u64, mut end: u64, node: &impl Fn(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    let mut root = None;
    while end > start {
        let level = (end - start).trailing_zeros();
        end -= 1 << level;
        let left = node(level, end >> level)?;
        root = Some(root.map_or(left, |right| node_hash(&left, &right)));
    }
    Ok(root.unwrap_or_else(empty_root))
}

/// PATH of section 2.1.3.1, for `index < size`. At most one of its subtrees is ragged, so that it reads O(log n) nodes.
pub(crate) fn inclusion<E>(index: u64, size: u64, node: &impl Fn(u32, u64) -> Result<Hash, E>) -> Result<Vec<Hash>, E> {
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(subtree(middle, end, node)?);
            end = middle;
        } else {
            path.push(subtree(start, middle, node)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// PROOF of section 2.1.4.1, for `old <= new`.
pub(crate) fn consistency<E>(old: u64, new: u64, node: &impl Fn(u32, u64) -> Result<Hash, E>) -> Result<Vec<Hash>, E> {
    let (mut start, mut end) = (0, new);
    let mut path = Vec::new();
    while old != 0 && old != end {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(subtree(middle, end, node)?);
            end = middle;
        } else {
            path.push(subtree(start, middle, node)?);
            start = middle;
        }
    }
    // A verifier knows the old root, but not that of a part of the old tree.
    if start != 0 {
        path.push(subtree(start, end, node)?);
    }
    path.reverse();
    Ok(path)
}

/// Whether `path` proves that the tree of `size` entries with this root has `leaf` at `index` (section 2.1.3.2).
pub fn verify_inclusion(index: u64, size: u64, leaf: &Hash, path: &[Hash], root: &Hash) -> bool {
    if index >= size {
        return false;
    }
    let mut at = Edge { first: index, last: size - 1 };
    let mut hash = *leaf;
    for sibling in path {
        if at.last == 0 {
            return false;
        }
        hash = if at.step() { node_hash(sibling, &hash) } else { node_hash(&hash, sibling) };
    }
    at.last == 0 && hash == *root
}

/// Whether `path` proves that the tree of `new` entries continues that of `old` entries (section 2.1.4.2). Every tree
/// continues the empty one, and equal trees need no proof: the path is empty then.
pub fn verify_consistency(old: u64, new: u64, old_root: &Hash, new_root: &Hash, path: &[Hash]) -> bool {
    if old == 0 {
        return path.is_empty() && *old_root == empty_root() && (new > 0 || new_root == old_root);
    }
    if old >= new {
        return old == new && path.is_empty() && old_root == new_root;
    }
    let (seed, path) = match path.split_first() {
        None => return false,
        // A complete old tree is a subtree of the new one, and its root is where the path begins.
        Some(_) if old.is_power_of_two() => (old_root, path),
        Some((seed, rest)) => (seed, rest),
    };
    let mut at = Edge { first: old - 1, last: new - 1 };
    at.shift((old - 1).trailing_ones());
    let (mut before, mut after) = (*seed, *seed);
    for sibling in path {
        if at.last == 0 {
            return false;
        }
        if at.step() {
            before = node_hash(sibling, &before);
            after = node_hash(sibling, &after);
        } else {
            after = node_hash(&after, sibling);
        }
    }
    at.last == 0 && before == *old_root && after == *new_root
}

/// The RFC's `fn` and `sn`: a node, and the last node, of the level that a verification has reached.
struct Edge {
    first: u64,
    last: u64,
}

impl Edge {
    fn shift(&mut self, levels: u32) {
        self.first = self.first.checked_shr(levels).unwrap_or(0);
        self.last = self.last.checked_shr(levels).unwrap_or(0);
    }

    /// Whether the sibling is on the left; goes up to the parent.
    fn step(&mut self) -> bool {
        let left = self.first & 1 == 1 || self.first == self.last;
        if left && self.first & 1 == 0 {
            // Without a right sibling a node is its own parent, up to where it is a right child.
            self.shift(self.first.trailing_zeros());
        }
        self.shift(1);
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The formula of Go's `tlog`, as published.
    #[test]
    fn nodes_are_stored_where_tlog_has_them() {
        for level in 0..12 {
            for n in 0..300u64 {
                let mut leaf = n;
                (0..level).for_each(|_| leaf = 2 * leaf + 1);
                let before: u64 = (0..64).map(|shift| leaf >> shift).sum();
                assert_eq!(stored_index(level, n), before + u64::from(level));
            }
        }
    }
}
