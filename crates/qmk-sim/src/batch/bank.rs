//! The registers of a batch: lanes (shots) with equal registers form a group, which keeps one copy.

use crate::register::Register;
use crate::register::mask::Mask;
use std::sync::Arc;

/// One register of a batch, by groups of lanes.
#[derive(Debug)]
pub(super) struct RegisterBank {
    pub(super) register: Arc<Register>,
    pub(super) groups: Groups,
    pub(super) lanes: usize,
}

/// The lanes of each group.
#[derive(Debug)]
pub(super) enum Groups {
    /// For each group a bit per lane, while there are few groups.
    Masks(Vec<Vec<u64>>),
    /// The group of each lane.
    Lanes(Vec<u32>),
}

/// Most groups that are kept as masks.
const MAX_MASKS: usize = 64;

/// Calls `f` with the number of each bit set.
#[inline]
pub(super) fn each(mut bits: u64, mut f: impl FnMut(usize)) {
    while bits != 0 {
        f(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

impl RegisterBank {
    /// One group of all lanes.
    pub(super) fn new(register: Arc<Register>, lanes: usize) -> Self {
        let mut all = vec![u64::MAX; lanes.div_ceil(64)];
        if let (Some(last), rest @ 1..) = (all.last_mut(), lanes % 64) {
            *last >>= 64 - rest;
        }
        RegisterBank { register, groups: Groups::Masks(vec![all]), lanes }
    }

    /// Splits the groups by class, the bits of a lane in each of `classes`, of which there are one or two. Returns the
    /// old group and the class of each new group, in ascending order.
    pub(super) fn part(&mut self, classes: &[&[u64]]) -> Vec<(u32, u8)> {
        let mut parts = Vec::new();
        match &mut self.groups {
            Groups::Masks(masks) => {
                let mut parted: Vec<Vec<u64>> = Vec::new();
                for (g, mask) in masks.iter().enumerate() {
                    for class in 0..1u8 << classes.len() {
                        let mut part = mask.clone();
                        for (i, bits) in classes.iter().enumerate() {
                            let flip = if class >> i & 1 == 1 { 0 } else { u64::MAX };
                            part.iter_mut().zip(*bits).for_each(|(p, b)| *p &= b ^ flip);
                        }
                        if part.iter().any(|&w| w != 0) {
                            parts.push((g as u32, class));
                            parted.push(part);
                        }
                    }
                }
                if parted.len() > MAX_MASKS {
                    let mut group = vec![0; self.lanes];
                    for (g, mask) in parted.iter().enumerate() {
                        for (w, &bits) in mask.iter().enumerate() {
                            each(bits, |i| group[64 * w + i] = g as u32);
                        }
                    }
                    self.groups = Groups::Lanes(group);
                } else {
                    *masks = parted;
                }
            }
            Groups::Lanes(group) => {
                const ABSENT: u32 = u32::MAX;
                let width = 1 << classes.len();
                let class = |lane: usize| {
                    let bit = |(i, bits): (usize, &&[u64])| (bits[lane / 64] >> (lane % 64) & 1) << i;
                    classes.iter().enumerate().map(bit).sum::<u64>() as usize
                };
                let mut number = vec![ABSENT; self.register.groups() * width];
                for (lane, g) in group.iter().enumerate() {
                    number[*g as usize * width + class(lane)] = 0;
                }
                for (i, n) in number.iter_mut().enumerate().filter(|(_, n)| **n != ABSENT) {
                    *n = parts.len() as u32;
                    parts.push(((i / width) as u32, (i % width) as u8));
                }
                for (lane, g) in group.iter_mut().enumerate() {
                    *g = number[*g as usize * width + class(lane)];
                }
            }
        }
        parts
    }

    /// Splits the groups by outcome, projects each on its outcome, and removes `bit`.
    pub(super) fn project(&mut self, mask: Mask, bit: u32, outcomes: &[u64]) {
        let targets = self.part(&[outcomes]);
        let in_order = targets.len() == self.register.groups() && targets.iter().zip(0..).all(|(t, g)| t.0 == g);
        match Arc::get_mut(&mut self.register) {
            Some(register) if in_order => {
                let outcomes: Vec<bool> = targets.iter().map(|t| t.1 == 1).collect();
                register.project_in_place(mask, bit, &outcomes);
            }
            _ => {
                let targets: Vec<(u32, bool)> = targets.iter().map(|t| (t.0, t.1 == 1)).collect();
                self.register = Arc::new(self.register.project(mask, bit, &targets));
            }
        }
    }
}
