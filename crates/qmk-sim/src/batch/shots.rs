//! Runs a plan for many shots at once, one bit of a word to a shot (a *lane*).
//!
//! Lanes with equal registers form a *group* that keeps one copy. A group splits where its lanes differ: at a
//! measurement with both outcomes, or a rotation with both signs. So the work before the first measurement is done
//! once, and a measured register halves as its groups double.

use super::bank::{Groups, RegisterBank, each};
use super::plan::{Action, Collapse, RowId, Sign};
use super::sampler::Sampler;
use super::transpose::transpose;
use crate::engine::shot::probability_of_one;
use crate::noise::{BLOCK, draw, given};
use crate::rng::{DrawSite, Random};
use qmk_abi::image::{CondTerm, Image};
use qmk_hal::Channel;
use std::sync::Arc;

/// A batch of shots under way.
#[derive(Debug)]
pub(crate) struct ShotBatch {
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
    banks: Vec<RegisterBank>,
}

impl ShotBatch {
    /// Shots `first..first + count`.
    pub(crate) fn new(sampler: &Arc<Sampler>, image: &Arc<Image>, first: u64, count: usize) -> Self {
        let width = count.div_ceil(64);
        let mut batch = ShotBatch {
            sampler: sampler.clone(),
            image: image.clone(),
            next: 0,
            first,
            count,
            width,
            rows: vec![0; sampler.plan.rows.len() * width],
            symbols: vec![0; sampler.plan.symbols as usize * width],
            banks: sampler.shared.iter().map(|(register, _)| RegisterBank::new(register.clone(), count)).collect(),
        };
        batch.noise(sampler);
        batch.coins(sampler);
        batch
    }

    pub(crate) fn is_done(&self) -> bool {
        self.next == self.sampler.plan.actions.len()
    }

    pub(crate) fn shots(&self) -> usize {
        self.count
    }

    /// Acts until all actions are done or the budget of elementary steps is spent. A word of a row, an amplitude and
    /// eight bytes of outcomes are a step each. Returns whether all actions are done.
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
                // After the action, so that a call gets on however small its budget is.
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

    /// Draws the errors, and flips the rows that they flip.
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
    fn coin_word(&self, site: DrawSite, w: usize) -> u64 {
        let shot = self.first + 64 * w as u64;
        // A batch of less than 64 lanes begins inside a word of coins.
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
            Action::Collapse(ref collapse) => self.collapse(sampler.random, collapse),
        }
    }

    /// Measures a register, and projects its groups on their outcomes.
    fn collapse(&mut self, random: Random, c: &Collapse) {
        let mut expectation = Vec::new();
        self.banks[c.register as usize].register.expectation(c.mask, &mut expectation);
        let p: Vec<[f64; 2]> = expectation.iter().map(|&e| [probability_of_one(e), probability_of_one(-e)]).collect();
        let mut outcomes: Vec<u64> = (0..self.width).map(|w| self.draw_word(random, c, &p, w)).collect();
        let at = c.symbol as usize * self.width;
        self.symbols[at..at + self.width].copy_from_slice(&outcomes);
        // Eigenvalues of the mask without its sign.
        for (w, outcome) in outcomes.iter_mut().enumerate() {
            *outcome ^= self.sign(c.sign, w);
        }
        self.banks[c.register as usize].project(c.mask, c.bit, &outcomes);
    }

    /// The outcomes of lanes `64 w..64 w + 64`, given for each group the probability of 1 with either sign.
    fn draw_word(&self, random: Random, c: &Collapse, p: &[[f64; 2]], w: usize) -> u64 {
        let coins = self.coin_word(c.site, w);
        let minus = self.sign(c.sign, w);
        let draw = |i: usize, p: f64| {
            let lane = (64 * w + i) as u64;
            (random.uniform(c.site, self.first + lane, coins >> i & 1 == 1) < p) as u64
        };
        let mut outcome = 0;
        match &self.banks[c.register as usize].groups {
            Groups::Masks(masks) => {
                for (mask, p) in masks.iter().zip(p) {
                    for (p, lanes) in [(p[0], mask[w] & !minus), (p[1], mask[w] & minus)] {
                        match p {
                            0.0 => {}
                            1.0 => outcome |= lanes,
                            0.5 => outcome |= lanes & coins,
                            _ => each(lanes, |i| outcome |= draw(i, p) << i),
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
                    outcome |= one << i;
                }
            }
        }
        outcome
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

    /// Splits the groups of a register so that each has one sign and one value of the condition. Returns these for each
    /// group: the condition as bit 0 (set if there is none), the sign as bit 1.
    fn part(&mut self, register: u32, sign: Sign, cond: Option<RowId>) -> Vec<u8> {
        let cond: Vec<u64> = cond.map_or_else(|| vec![!0; self.width], |c| self.row(c).to_vec());
        // Lanes where the condition does not hold need not be split by sign.
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
