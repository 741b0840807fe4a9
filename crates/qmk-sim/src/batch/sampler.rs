//! A plan made ready to run: the registers that all shots share, and the number of shots of a batch.

use super::plan::{Action, Plan};
use crate::noise::{BLOCK, total};
use crate::register::Register;
use crate::rng::Random;
use std::sync::Arc;

/// Bytes that the tables of one batch may take, without and with registers.
const TABLE_BYTES: usize = 4 << 20;
const WIDE_TABLE_BYTES: usize = 64 << 20;
/// Bytes that the registers of one batch may take, unless one shot needs more.
const REGISTER_BYTES: f64 = (1u64 << 29) as f64;
const MAX_LANES: usize = 1 << 16;
/// Most qubits of a register that is made before the first shot.
const MAX_SHARED: u32 = 20;

/// A plan, and the parts of it that all shots share.
#[derive(Debug)]
pub(crate) struct Sampler {
    pub(super) plan: Plan,
    pub(super) random: Random,
    /// Registers before the first action that differs between shots, and the number of that action.
    pub(super) shared: Vec<(Arc<Register>, usize)>,
    /// Most lanes of one batch.
    pub(super) lanes: usize,
    /// Elementary steps of 64 lanes: without registers, and those of the registers.
    pub(super) steps: u64,
    pub(super) magic_steps: u64,
}

impl Sampler {
    /// A sampler for batches of which `threads` run at once.
    pub(crate) fn new(plan: Plan, seed: u64, threads: usize) -> Self {
        let mut shared: Vec<(Register, usize)> =
            (0..plan.registers).map(|_| (Register::new(), plan.actions.len())).collect();
        for (i, action) in plan.actions.iter().enumerate() {
            let Some((r, same)) = action.register() else { continue };
            let (register, end) = &mut shared[r as usize];
            if i >= *end {
                continue;
            }
            // A large register is made within the work of a batch, which can pause; few shots share it.
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
        // Outcomes are written as bytes, 8 steps a row; groups of registers are looked up lane by lane.
        let noise: f64 = plan.noise.iter().map(|n| 1.0 + 64.0 * total(&n.channel)).sum();
        let steps = 1 + rows + 8 * plan.rows.len() as u64 + 64 * registers + noise as u64;
        let magic_steps = if registers == 0 { 0 } else { registers << plan.peak_active };
        let shared = shared.into_iter().map(|(register, end)| (Arc::new(register), end)).collect();
        Sampler { plan, random: Random { seed }, shared, lanes, steps, magic_steps }
    }

    pub(crate) fn peak_active(&self) -> u32 {
        self.plan.peak_active
    }

    /// Bytes of a batch of so many shots: its registers, with half as much again for those that a measurement leaves,
    /// and its tables.
    pub(crate) fn batch_bytes(&self, lanes: u64) -> u64 {
        let shared: Vec<(u32, usize)> = self.shared.iter().map(|(r, end)| (r.qubits(), *end)).collect();
        let tables = (self.plan.rows.len() as u64 + self.plan.symbols as u64) * lanes.div_ceil(64) * 8;
        (1.5 * register_bytes(&self.plan, &shared, lanes as f64)) as u64 + tables
    }

    /// Shots of the largest batch that the budget allows, but no fewer than share the draws of a noise channel.
    pub(crate) fn lanes_for(&self, budget: u64) -> u64 {
        let most = self.lanes as u64;
        if self.magic_steps > 0 {
            return most;
        }
        let lanes = (budget / self.steps.max(1)).saturating_mul(64);
        lanes.clamp(1, most).next_power_of_two().clamp(BLOCK.min(most), most)
    }
}

/// The most lanes that keep the tables in the cache and the registers in bounds, if every split of groups that can
/// happen does.
fn lanes(plan: &Plan, shared: &[(Register, usize)], threads: usize) -> usize {
    let rows = (plan.rows.len() + plan.symbols as usize).max(1);
    let magic = shared.iter().any(|(r, end)| r.qubits() > 0 || *end < plan.actions.len());
    let bytes = if magic { WIDE_TABLE_BYTES } else { TABLE_BYTES };
    let mut lanes = MAX_LANES;
    while lanes > 64 && rows * lanes / 8 > bytes / threads {
        lanes /= 2;
    }
    let shared: Vec<(u32, usize)> = shared.iter().map(|(r, end)| (r.qubits(), *end)).collect();
    let single = register_bytes(plan, &shared, 1.0);
    while lanes > 1 && register_bytes(plan, &shared, lanes as f64) > (REGISTER_BYTES / threads as f64).max(single) {
        lanes /= 2;
    }
    lanes
}

/// Bytes of the registers of so many lanes, if every split of groups that can happen does. `shared` has the qubits that
/// each register has before the first action that differs between shots, and the number of that action.
fn register_bytes(plan: &Plan, shared: &[(u32, usize)], lanes: f64) -> f64 {
    let mut state: Vec<(f64, i32)> = shared.iter().map(|&(qubits, _)| (1.0, qubits as i32)).collect();
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
            Action::Collapse(_) => {
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
