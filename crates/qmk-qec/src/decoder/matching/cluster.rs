//! The detectors that fired in one shot, in clusters that are matched apart from each other.
//!
//! Two nodes that are nearer to the boundary (together) than to each other need not be paired: pairing both with the
//! boundary costs no more. So only nodes that are linked, directly or through others, can influence each other's
//! partners.

use super::prepare::Prepared;
use super::search::Search;
use crate::decoder::blossom::{BOUNDARY, Blossom, UNMATCHED, UNREACHABLE};
use qmk_sim::sets::find;

/// A set of linked nodes.
#[derive(Clone, Copy, Default)]
struct Cluster {
    size: u32,
    /// Where its matrix of distances begins in [`Workspace::weight`]. A cluster of one node has none.
    matrix: u32,
    /// Where its nodes begin in [`Workspace::members`].
    first: u32,
}

/// Work space of one decoder, kept from shot to shot.
#[derive(Clone, Default)]
pub(super) struct Workspace {
    pub(super) search: Search,
    blossom: Blossom,
    /// Nodes of the detectors that fired, ascending. The lists below name a node by its place here.
    nodes: Vec<u32>,
    /// Pairs of places that are nearer to each other than to the boundary, with their distance.
    links: Vec<(u32, u32, i32)>,
    /// Disjoint sets of linked places.
    root: Vec<u32>,
    /// Cluster of each place, and its number in the cluster.
    cluster: Vec<(u32, u32)>,
    clusters: Vec<Cluster>,
    /// Nodes, cluster by cluster.
    members: Vec<u32>,
    /// Distance of each member to the boundary.
    to_boundary: Vec<i32>,
    /// Distances within each cluster, row by row.
    weight: Vec<i32>,
    /// The matching: two nodes, or a node and the boundary.
    pub(super) pairs: Vec<(u32, u32)>,
}

impl Workspace {
    /// Matches the nodes of the detectors that fired; the result is in `pairs`.
    pub(super) fn match_nodes(&mut self, p: &Prepared, fired: &[u32]) {
        self.pairs.clear();
        self.nodes.clear();
        self.nodes.extend(fired.iter().filter_map(|d| p.node.get(*d as usize)));
        self.nodes.sort_unstable();
        self.link(p);
        self.number_clusters();
        self.fill_matrices(p);
        self.match_clusters();
    }

    /// Links the nodes that are nearer to each other than to the boundary, by the table or by a search.
    fn link(&mut self, p: &Prepared) {
        let Self { search, nodes, links, root, .. } = self;
        links.clear();
        root.clear();
        root.extend(0..nodes.len() as u32);
        for (i, &u) in nodes.iter().enumerate() {
            let mut link = |j: usize, w: i32| {
                links.push((i as u32, j as u32, w));
                let (a, b) = (find(root, i as u32), find(root, j as u32));
                root[b as usize] = a;
            };
            let later = nodes.iter().enumerate().skip(i + 1);
            if let Some(row) = p.rows.get(u as usize) {
                let table = &p.distance[row.at..][..(row.end - row.first) as usize];
                for (j, &v) in later {
                    if v >= row.end {
                        break;
                    }
                    let w = table[(v - row.first) as usize];
                    if w < UNREACHABLE {
                        link(j, w);
                    }
                }
            } else {
                let (own, radius) = p.reach(u);
                search.run(&p.adjacency, u, radius, BOUNDARY);
                for (j, &v) in later {
                    let w = search.distance[v as usize];
                    if w < UNREACHABLE && w < own + p.boundary[v as usize].distance {
                        link(j, w);
                    }
                }
            }
        }
    }

    /// Numbers the clusters by their first nodes, and the nodes in each.
    fn number_clusters(&mut self) {
        self.clusters.clear();
        self.cluster.clear();
        self.cluster.resize(self.nodes.len(), (u32::MAX, 0));
        for i in 0..self.nodes.len() {
            let r = find(&mut self.root, i as u32) as usize;
            if self.cluster[r].0 == u32::MAX {
                self.cluster[r].0 = self.clusters.len() as u32;
                self.clusters.push(Cluster::default());
            }
            let c = self.cluster[r].0;
            let size = &mut self.clusters[c as usize].size;
            self.cluster[i] = (c, *size);
            *size += 1;
        }
    }

    /// Writes the matrix of distances of each cluster.
    fn fill_matrices(&mut self, p: &Prepared) {
        let (mut cells, mut members) = (0, 0);
        for c in &mut self.clusters {
            (c.matrix, c.first) = (cells, members);
            cells += if c.size > 1 { c.size * c.size } else { 0 };
            members += c.size;
        }
        self.weight.clear();
        self.weight.resize(cells as usize, UNREACHABLE);
        self.members.resize(self.nodes.len(), 0);
        self.to_boundary.resize(self.nodes.len(), 0);
        for (&v, &(c, k)) in self.nodes.iter().zip(&self.cluster) {
            let at = (self.clusters[c as usize].first + k) as usize;
            self.members[at] = v;
            self.to_boundary[at] = p.boundary[v as usize].distance;
        }
        for &(i, j, w) in &self.links {
            let ((c, i), (_, j)) = (self.cluster[i as usize], self.cluster[j as usize]);
            let Cluster { size, matrix, .. } = self.clusters[c as usize];
            self.weight[(matrix + i * size + j) as usize] = w;
            self.weight[(matrix + j * size + i) as usize] = w;
        }
    }

    /// Matches each cluster: small ones directly, larger ones by the blossom algorithm.
    fn match_clusters(&mut self) {
        let pairs = &mut self.pairs;
        for &Cluster { size, matrix, first } in &self.clusters {
            let n = size as usize;
            let members = &self.members[first as usize..][..n];
            let to_boundary = &self.to_boundary[first as usize..][..n];
            let weight = &self.weight[matrix as usize..][..if n > 1 { n * n } else { 0 }];
            let mut leave = |k: usize| {
                if to_boundary[k] < UNREACHABLE {
                    pairs.push((members[k], BOUNDARY));
                }
            };
            match n {
                1 => leave(0),
                // Linked pairs are nearer to each other than to the boundary.
                2 => pairs.push((members[0], members[1])),
                3 => {
                    let total = |k: usize| weight[(k + 1) % 3 * 3 + (k + 2) % 3].saturating_add(to_boundary[k]);
                    let k = (0..3).min_by_key(|k| total(*k)).unwrap_or(0);
                    leave(k);
                    let (a, b) = ((k + 1) % 3, (k + 2) % 3);
                    pairs.push((members[a.min(b)], members[a.max(b)]));
                }
                _ => {
                    for (k, &mate) in self.blossom.solve(weight, to_boundary).iter().enumerate() {
                        if mate == BOUNDARY {
                            pairs.push((members[k], BOUNDARY));
                        } else if mate != UNMATCHED && mate as usize > k {
                            pairs.push((members[k], members[mate as usize]));
                        }
                    }
                }
            }
        }
    }
}
