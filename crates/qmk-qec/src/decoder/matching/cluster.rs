//! The detectors that fired, in clusters that are matched apart from each other.

use super::search::Search;
use crate::decoder::blossom::Blossom;

#[derive(Clone, Default)]
pub(super) struct Workspace {
    pub(super) search: Search,
    pub(super) blossom: Blossom,
    pub(super) nodes: Vec<u32>,
    pub(super) near: Vec<(u32, u32, i32)>,
    /// Union of linked nodes, then cluster and place in it.
    pub(super) root: Vec<u32>,
    pub(super) cluster: Vec<(u32, u32)>,
    /// Size, place of the matrix, place of the members.
    pub(super) clusters: Vec<(u32, u32, u32)>,
    pub(super) members: Vec<u32>,
    pub(super) weight: Vec<i32>,
    pub(super) far: Vec<i32>,
    pub(super) pairs: Vec<(u32, u32)>,
}
