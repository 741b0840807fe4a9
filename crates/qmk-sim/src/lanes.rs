//! Runs a plan for many shots at once, one bit of a word to a shot (a *lane*).
//!
//! Lanes with equal registers form a *group* that keeps one copy. Groups part where lanes differ: at a measurement with
//! both outcomes, or a rotation with both signs. So the work until the first measurement is done once, and
//! a measured register halves as its groups double.

use crate::noise::{BLOCK, draw, given, total};
use crate::plan::{Action, Plan, RowId, Sign};
use crate::register::Register;
use crate::rng::{Random, Site};
use crate::state::probability_of_one;
use qmk_abi::image::{CondTerm, Image};
use qmk_hal::Channel;
use std::sync::Arc;

/// Bytes that the tables of one chunk may take, without and with registers.
const TABLE_BYTES: usize = 4 << 20;
const WIDE_TABLE_BYTES: usize = 64 << 20;
/// Bytes that the registers of one chunk may take, unless one shot needs more.
const REGISTER_BYTES: f64 = (1u64 << 29) as f64;
const MAX_LANES: usize = 1 << 16;
/// Most qubits of a register that is made before the first shot.
const MAX_SHARED: u32 = 20;

/// A plan, and what all shots share.
#[derive(Debug)]
pub(crate) struct Sampler {
    plan: Plan,
    random: Random,
    /// Registers before the first action that differs between shots, and the number of that action.
    shared: Vec<(Arc<Register>, usize)>,
    /// Most lanes of one chunk.
    lanes: usize,
    /// Elementary steps of 64 lanes, and those of the registers.
    steps: u64,
    magic_steps: u64,
}

/// A register and the lanes of its groups.
#[derive(Debug)]
struct Bank {
    register: Arc<Register>,
    groups: Groups,
    lanes: usize,
}

/// Which lanes are of which group.
#[derive(Debug)]
enum Groups {
    /// A bit per lane for each group: while they are few.
    Masks(Vec<Vec<u64>>),
    /// The group of each lane.
    Lanes(Vec<u32>),
}

/// Most groups that are kept as masks.
const MAX_MASKS: usize = 64;

/// Shots under way.
#[derive(Debug)]
pub(crate) struct Chunk {
    sampler: Arc<Sampler>,
    image: Arc<Image>,
    /// Next action.
    next: usize,
    first: u64,
    count: usize,
    /// Words of a row.
    width: usize,
    rows: Vec<u64>,
    symbols: Vec<u64>,
    banks: Vec<Bank>,
}

impl Action {
    /// The register it acts on, and whether it does the same in all shots.
    fn register(&self) -> Option<(u32, bool)> {
        match self {
            Action::Row(_) | Action::Condition { .. } => None,
            Action::Rotate { register, .. } | Action::Push { register, cond: None, .. } => Some((*register, true)),
            Action::RotateEach { register, .. } | Action::Push { register, .. } | Action::Collapse { register, .. } => {
                Some((*register, false))
            }
        }
    }
}

impl Sampler {
    /// For chunks of which `threads` run at once.
    pub(crate) fn new(plan: Plan, seed: u64, threads: usize) -> Self {
        let mut shared: Vec<(Register, usize)> =
            (0..plan.registers).map(|_| (Register::new(), plan.actions.len())).collect();
        for (i, action) in plan.actions.iter().enumerate() {
            let Some((r, same)) = action.register() else { continue };
            let (register, end) = &mut shared[r as usize];
            if i >= *end {
                continue;
            }
            // A large register is better made in steps: few shots share it.
            if !same || matches!(action, Action::Push { .. }) && register.qubits() >= MAX_SHARED {
                *end = i;
                continue;
            }
            match action {
                Action::Rotate { rotations, .. } => register.rotate_many(rotations),
                Action::Push { theta, .. } => register.push(*theta),
                _ => {}
            }
        }
        let lanes = lanes(&plan, &shared, threads);
        let rows = plan.rows.iter().flatten().map(|r| 1 + r.symbols.len() as u64).sum::<u64>();
        let registers = plan.actions.iter().filter(|a| a.register().is_some()).count() as u64;
        // A lane's outcomes are written as bytes, and its registers' groups looked up.
        let noise: f64 = plan.noise.iter().map(|n| 1.0 + 64.0 * total(&n.channel)).sum();
        let steps = 1 + rows + 8 * plan.rows.len() as u64 + 64 * registers + noise as u64;
        let magic_steps = if registers == 0 { 0 } else { registers << plan.peak_active };
        let shared = shared.into_iter().map(|(register, end)| (Arc::new(register), end)).collect();
        Sampler { plan, random: Random { seed }, shared, lanes, steps, magic_steps }
    }

    pub(crate) fn peak_active(&self) -> u32 {
        self.plan.peak_active
    }

    /// Shots of the largest chunk that the budget allows, but enough for its fixed part to pay.
    pub(crate) fn lanes_for(&self, budget: u64) -> u64 {
        let most = self.lanes as u64;
        if self.magic_steps > 0 {
            return most;
        }
        let lanes = (budget / self.steps.max(1)).saturating_mul(64);
        lanes.clamp(1, most).next_power_of_two().clamp(BLOCK.min(most), most)
    }
}

/// As many lanes as keep the tables in the cache and the registers in bounds, if every part that can happen does.
fn lanes(plan: &Plan, shared: &[(Register, usize)], threads: usize) -> usize {
    let rows = (plan.rows.len() + plan.symbols as usize).max(1);
    let magic = shared.iter().any(|(r, end)| r.qubits() > 0 || *end < plan.actions.len());
    let bytes = if magic { WIDE_TABLE_BYTES } else { TABLE_BYTES };
    let mut lanes = MAX_LANES;
    while lanes > 64 && rows * lanes / 8 > bytes / threads {
        lanes /= 2;
    }
    let single = register_bytes(plan, shared, 1.0);
    while lanes > 1 && register_bytes(plan, shared, lanes as f64) > (REGISTER_BYTES / threads as f64).max(single) {
        lanes /= 2;
    }
    lanes
}

fn register_bytes(plan: &Plan, shared: &[(Register, usize)], lanes: f64) -> f64 {
    let mut state: Vec<(f64, i32)> = shared.iter().map(|(r, _)| (1.0, r.qubits() as i32)).collect();
    let size = |(groups, k): (f64, i32)| groups * 16.0 * f64::from(k).exp2();
    let mut now: f64 = state.iter().copied().map(size).sum();
    let mut peak = now;
    for (i, action) in plan.actions.iter().enumerate() {
        let Some((r, _)) = action.register() else { continue };
        let s = &mut state[r as usize];
        if i < shared[r as usize].1 {
            continue;
        }
        now -= size(*s);
        match action {
            Action::RotateEach { .. } => s.0 = (2.0 * s.0).min(lanes),
            Action::Push { cond, .. } => {
                s.1 += 1;
                s.0 = if cond.is_some() { (2.0 * s.0).min(lanes) } else { s.0 };
            }
            Action::Collapse { .. } => {
                s.1 -= 1;
                s.0 = (2.0 * s.0).min(lanes);
            }
            _ => {}
        }
        now += size(*s);
        peak = peak.max(now);
    }
    peak
}

impl Chunk {
    /// Shots `first..first + count`.
    pub(crate) fn new(sampler: &Arc<Sampler>, image: &Arc<Image>, first: u64, count: usize) -> Self {
        let width = count.div_ceil(64);
        let mut chunk = Chunk {
            sampler: sampler.clone(),
            image: image.clone(),
            next: 0,
            first,
            count,
            width,
            rows: vec![0; sampler.plan.rows.len() * width],
            symbols: vec![0; sampler.plan.symbols as usize * width],
            banks: sampler.shared.iter().map(|(register, _)| Bank::new(register.clone(), count)).collect(),
        };
        chunk.noise(sampler);
        chunk.coins(sampler);
        chunk
    }

    pub(crate) fn is_done(&self) -> bool {
        self.next == self.sampler.plan.actions.len()
    }

    pub(crate) fn shots(&self) -> usize {
        self.count
    }

    /// Acts until all is done or the budget of elementary steps spent: a word of a row, an amplitude, or eight bytes of outcomes
    /// each. Returns whether all is done.
    pub(crate) fn advance(&mut self, budget: &mut i64) -> bool {
        let sampler = self.sampler.clone();
        if self.next == 0 {
            *budget = budget.saturating_sub((sampler.steps * self.width as u64) as i64);
        }
        while let Some(action) = sampler.plan.actions.get(self.next) {
            self.act(&sampler, self.next, action);
            self.next += 1;
            if let Some((r, _)) = action.register() {
                let register = &self.banks[r as usize].register;
                let passes = if let Action::Rotate { rotations, .. } = action { rotations.len() as u64 } else { 4 };
                *budget =
                    budget.saturating_sub((passes * ((register.groups() as u64) << register.qubits()) / 4) as i64);
                // Once a call, however small the budget, something is done.
                if *budget <= 0 {
                    break;
                }
            }
        }
        self.is_done()
    }

    /// Writes the outcomes, packed: `stride` bytes for each shot.
    pub(crate) fn write(&self, stride: usize, out: &mut [u8]) {
        transpose(&self.rows, self.width, self.image.events as usize, self.count, stride, out);
    }

    fn row(&self, row: RowId) -> &[u64] {
        &self.rows[row as usize * self.width..][..self.width]
    }

    /// Flips the rows of every error that strikes a lane.
    fn noise(&mut self, sampler: &Sampler) {
        let (first, last) = (self.first, self.first + self.count as u64);
        for (index, n) in sampler.plan.noise.iter().enumerate() {
            if n.flips.iter().all(Vec::is_empty) {
                continue;
            }
            if let Channel::Given { column, .. } = n.channel {
                for w in 0..self.width {
                    let parts = given(&sampler.plan.columns, column, first + 64 * w as u64);
                    for (part, rows) in parts.into_iter().zip(&n.flips).filter(|(part, _)| *part != 0) {
                        rows.iter().for_each(|&row| self.rows[row as usize * self.width + w] ^= part);
                    }
                }
                continue;
            }
            for block in first / BLOCK..last.div_ceil(BLOCK) {
                draw(sampler.random, index as u32, &n.channel, block, |shot, error| {
                    let shot = block * BLOCK + shot;
                    if !(first..last).contains(&shot) {
                        return;
                    }
                    let lane = (shot - first) as usize;
                    for (part, rows) in n.flips.iter().enumerate() {
                        if error >> part & 1 == 1 {
                            for &row in rows {
                                self.rows[row as usize * self.width + lane / 64] ^= 1 << (lane % 64);
                            }
                        }
                    }
                });
            }
        }
    }

    /// Coins of lanes `64 w..64 w + 64`.
    fn coin_word(&self, site: Site, w: usize) -> u64 {
        let shot = self.first + 64 * w as u64;
        // Chunks of less than 64 lanes begin inside a word.
        self.sampler.random.coins(site, shot / 128)[(shot / 64) as usize % 2] >> (shot % 64)
    }

    fn coins(&mut self, sampler: &Sampler) {
        for &(site, symbol) in &sampler.plan.coins {
            let at = symbol as usize * self.width;
            if self.first.is_multiple_of(128) {
                for (i, pair) in self.symbols[at..at + self.width].chunks_mut(2).enumerate() {
                    let coins = sampler.random.coins(site, self.first / 128 + i as u64);
                    pair.copy_from_slice(&coins[..pair.len()]);
                }
            } else {
                for w in 0..self.width {
                    self.symbols[at + w] = self.coin_word(site, w);
                }
            }
        }
    }

    fn act(&mut self, sampler: &Sampler, index: usize, action: &Action) {
        if action.register().is_some_and(|(r, _)| index < sampler.shared[r as usize].1) {
            return;
        }
        match *action {
            Action::Row(row) => self.fill(sampler, row),
            Action::Condition { cond, symbol } => {
                let image = self.image.clone();
                self.condition(image.cond_terms(cond), symbol);
            }
            Action::Rotate { register, ref rotations } => {
                Arc::make_mut(&mut self.banks[register as usize].register).rotate_many(rotations);
            }
            Action::Push { register, theta, cond: None } => {
                Arc::make_mut(&mut self.banks[register as usize].register).push(theta);
            }
            Action::Push { register, theta, cond: Some(cond) } => {
                let class = self.part(register, Sign::Plus, Some(cond));
                let angles: Vec<f64> = class.iter().map(|&c| [0.0, theta][c as usize]).collect();
                Arc::make_mut(&mut self.banks[register as usize].register).push_each(&angles);
            }
            Action::RotateEach { register, mask, theta, sign, cond } => {
                let class = self.part(register, sign, cond);
                let angles: Vec<f64> = class.iter().map(|&c| [0.0, theta, 0.0, -theta][c as usize]).collect();
                Arc::make_mut(&mut self.banks[register as usize].register).rotate_each(mask, &angles);
            }
            Action::Collapse { register, mask, bit, sign, site, symbol } => {
                let mut expectation = Vec::new();
                self.banks[register as usize].register.expectation(mask, &mut expectation);
                let p: Vec<[f64; 2]> =
                    expectation.iter().map(|&e| [probability_of_one(e), probability_of_one(-e)]).collect();
                let random = sampler.random;
                let at = symbol as usize * self.width;
                let mut outcomes = vec![0u64; self.width];
                for (w, outcome) in outcomes.iter_mut().enumerate() {
                    let coins = self.coin_word(site, w);
                    let minus = self.sign(sign, w);
                    let draw = |i: usize, p: f64| {
                        let lane = (64 * w + i) as u64;
                        (random.uniform(site, self.first + lane, coins >> i & 1 == 1) < p) as u64
                    };
                    match &self.banks[register as usize].groups {
                        Groups::Masks(masks) => {
                            for (mask, p) in masks.iter().zip(&p) {
                                for (p, lanes) in [(p[0], mask[w] & !minus), (p[1], mask[w] & minus)] {
                                    match p {
                                        0.0 => {}
                                        1.0 => *outcome |= lanes,
                                        0.5 => *outcome |= lanes & coins,
                                        _ => each(lanes, |i| *outcome |= draw(i, p) << i),
                                    }
                                }
                            }
                        }
                        Groups::Lanes(group) => {
                            for i in 0..64.min(self.count - 64 * w) {
                                let one = match p[group[64 * w + i] as usize][(minus >> i & 1) as usize] {
                                    0.0 => 0,
                                    1.0 => 1,
                                    0.5 => coins >> i & 1,
                                    p => draw(i, p),
                                };
                                *outcome |= one << i;
                            }
                        }
                    }
                }
                self.symbols[at..at + self.width].copy_from_slice(&outcomes);
                for (w, outcome) in outcomes.iter_mut().enumerate() {
                    *outcome ^= self.sign(sign, w);
                }
                let bank = &mut self.banks[register as usize];
                // By now these are eigenvalues of the mask without its sign.
                let targets = bank.part(&[&outcomes]);
                let in_order =
                    targets.len() == bank.register.groups() && targets.iter().zip(0..).all(|(t, g)| t.0 == g);
                match Arc::get_mut(&mut bank.register) {
                    Some(register) if in_order => {
                        let outcomes: Vec<bool> = targets.iter().map(|t| t.1 == 1).collect();
                        register.project_in_place(mask, bit, &outcomes);
                    }
                    _ => {
                        let targets: Vec<(u32, bool)> = targets.iter().map(|t| (t.0, t.1 == 1)).collect();
                        bank.register = Arc::new(bank.register.project(mask, bit, &targets));
                    }
                }
            }
        }
    }

    fn sign(&self, sign: Sign, w: usize) -> u64 {
        match sign {
            Sign::Plus => 0,
            Sign::Row(row) => self.row(row)[w],
        }
    }

    /// Adds the symbols of a row to what noise has put there.
    fn fill(&mut self, sampler: &Sampler, id: RowId) {
        let at = id as usize * self.width;
        let out = &mut self.rows[at..at + self.width];
        let Some(row) = &sampler.plan.rows[id as usize] else { return };
        for &s in &row.symbols {
            let from = &self.symbols[s as usize * self.width..][..self.width];
            out.iter_mut().zip(from).for_each(|(o, s)| *o ^= s);
        }
        if row.constant {
            out.iter_mut().for_each(|o| *o = !*o);
        }
    }

    fn condition(&mut self, terms: &[CondTerm], symbol: u32) {
        let mut stack: Vec<Vec<u64>> = Vec::new();
        for term in terms {
            match *term {
                CondTerm::Event(e) => stack.push(self.row(e).to_vec()),
                CondTerm::Not => stack.last_mut().into_iter().flatten().for_each(|w| *w = !*w),
                CondTerm::And(n) | CondTerm::Or(n) | CondTerm::Xor(n) => {
                    for _ in 1..n {
                        let (Some(top), Some(into)) = (stack.pop(), stack.last_mut()) else { break };
                        for (a, b) in into.iter_mut().zip(top) {
                            match term {
                                CondTerm::And(_) => *a &= b,
                                CondTerm::Or(_) => *a |= b,
                                _ => *a ^= b,
                            }
                        }
                    }
                }
            }
        }
        if let Some(value) = stack.pop() {
            self.symbols[symbol as usize * self.width..][..self.width].copy_from_slice(&value);
        }
    }

    /// Parts the groups of a register so that each has one sign and one condition. Returns these for each group, the
    /// condition as bit 0 (set if there is none) and the sign as bit 1.
    fn part(&mut self, register: u32, sign: Sign, cond: Option<RowId>) -> Vec<u8> {
        let cond: Vec<u64> = cond.map_or_else(|| vec![!0; self.width], |c| self.row(c).to_vec());
        // What does not turn has no sign.
        let sign: Vec<u64> = cond.iter().enumerate().map(|(w, cond)| self.sign(sign, w) & cond).collect();
        let bank = &mut self.banks[register as usize];
        let groups = bank.part(&[&cond, &sign]);
        if groups.len() > bank.register.groups() {
            let sources: Vec<u32> = groups.iter().map(|g| g.0).collect();
            bank.register = Arc::new(bank.register.select(&sources));
        }
        groups.into_iter().map(|g| g.1).collect()
    }
}

/// Calls `f` with the number of each bit set.
#[inline]
fn each(mut bits: u64, mut f: impl FnMut(usize)) {
    while bits != 0 {
        f(bits.trailing_zeros() as usize);
        bits &= bits - 1;
    }
}

impl Bank {
    /// One group of all lanes.
    fn new(register: Arc<Register>, lanes: usize) -> Self {
        let mut all = vec![u64::MAX; lanes.div_ceil(64)];
        if let (Some(last), rest @ 1..) = (all.last_mut(), lanes % 64) {
            *last >>= 64 - rest;
        }
        Bank { register, groups: Groups::Masks(vec![all]), lanes }
    }

    /// Renumbers the groups so that each holds lanes of one class, a class being the bits of a lane in each of `classes`, at most
    /// two. Returns `(old group, class)` of each, in ascending order.
    fn part(&mut self, classes: &[&[u64]]) -> Vec<(u32, u8)> {
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
}

/// Packs rows of events, one bit per lane, to lanes of events: `stride` bytes for each lane.
fn transpose(rows: &[u64], width: usize, events: usize, lanes: usize, stride: usize, out: &mut [u8]) {
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
