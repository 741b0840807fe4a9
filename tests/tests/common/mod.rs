//! Random operations and what they do to the dense reference.

use num_complex::Complex64;
use qmk_abi::image::{Clifford1, Clifford2, Op, Pauli};
use qmk_sim::rng::{DrawSite, Random, philox2x64};
use qmk_testkit::dense::{Dense, gates};
use std::f64::consts::{FRAC_PI_2, PI};

/// Numbers as if at random: seed and count.
pub(crate) struct Dice(pub(crate) u64, pub(crate) u64);
impl Dice {
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.1 += 1;
        philox2x64([self.1, 7], self.0)[0] % n
    }
    pub(crate) fn angle(&mut self) -> f64 {
        self.below(1 << 40) as f64 / (1u64 << 40) as f64 * 4.0 * PI - 2.0 * PI
    }
    pub(crate) fn distinct(&mut self, n: u64, k: usize) -> Vec<u32> {
        let mut qs = Vec::new();
        while qs.len() < k {
            let q = self.below(n) as u32;
            if !qs.contains(&q) {
                qs.push(q);
            }
        }
        qs
    }
}

/// Any operation on registers `0..n`, with events 0 and 1.
pub(crate) fn random_op(dice: &mut Dice, n: u64) -> Op {
    let pauli = [Pauli::X, Pauli::Y, Pauli::Z][dice.below(3) as usize];
    let q = dice.below(n) as u32;
    let pair = |dice: &mut Dice| {
        let v = dice.distinct(n, 2);
        (v[0], v[1])
    };
    loop {
        return match dice.below(24) {
            0 => Op::Pauli(pauli, q),
            1..=6 => {
                use Clifford1::*;
                Op::Clifford1([H, S, Sdg, Sx, Sxdg, H][dice.below(6) as usize], q)
            }
            7..=12 if n >= 2 => {
                let (a, b) = pair(dice);
                match dice.below(4) {
                    0 => Op::Clifford2(Clifford2::Cz, a, b),
                    1 => Op::Clifford2(Clifford2::Swap, a, b),
                    2 => Op::TeleportCnot(a, b),
                    _ => Op::Clifford2(Clifford2::Cnot, a, b),
                }
            }
            13 => Op::T(q),
            14 => Op::Tdg(q),
            15 => Op::Rotate(pauli, q, dice.angle()),
            16 if n >= 3 => {
                let v = dice.distinct(n, 3);
                if dice.below(2) == 0 { Op::Ccz(v[0], v[1], v[2]) } else { Op::Toffoli(v[0], v[1], v[2]) }
            }
            17 => Op::Reset(q),
            18 | 19 => Op::Measure(pauli, q, 0),
            20 => Op::MeasureAngle(dice.angle(), q, 0),
            21 if n >= 2 => {
                let (a, b) = pair(dice);
                Op::MeasureBell(a, b, 0, 1)
            }
            22 => Op::InjectT(q),
            23 => Op::Free(q),
            _ => continue,
        };
    }
}

/// Bias of the observed outcomes, in bins of the reference's probability.
#[derive(Default)]
pub(crate) struct Calibration {
    expected: [f64; 20],
    variance: [f64; 20],
    ones: [f64; 20],
}

impl Calibration {
    /// Follows an outcome the machine gave: it must be the one that the draw and its probability dictate, and is
    /// counted against the latter.
    fn follow(&mut self, dense: &mut Dense, q: usize, outcome: bool, (random, site, shot): (Random, DrawSite, u64)) {
        let p = dense.probability_of_one(q);
        let draw = random.uniform(site, shot, random.coin(site, shot));
        assert!((draw - p).abs() < 1e-9 || (draw < p) == outcome, "outcome {outcome} of draw {draw} at p(1) = {p}");
        assert!(if outcome { p > 1e-9 } else { p < 1.0 - 1e-9 }, "impossible outcome {outcome} at p(1) = {p}");
        let bin = ((p * 20.0) as usize).min(19);
        self.expected[bin] += p;
        self.variance[bin] += p * (1.0 - p);
        self.ones[bin] += outcome as u8 as f64;
        dense.project(q, outcome);
    }
}

impl Calibration {
    /// Each bin is a sum of independent centred variables: 20 z-tests at 1e-7 each, 2e-6 together (|z| < 5.33). The
    /// variance of all must be at least `least`.
    pub(crate) fn check(&self, least: f64) {
        for bin in 0..20 {
            if self.variance[bin] > 10.0 {
                let z = (self.ones[bin] - self.expected[bin]) / self.variance[bin].sqrt();
                assert!(z.abs() < 5.33, "outcomes with p(1) near {}: z = {z}", bin as f64 / 20.0);
            }
        }
        let variance: f64 = self.variance.iter().sum();
        assert!(variance > least, "too few random outcomes to judge: variance {variance}");
    }
}

/// Resets leave no record: the machine's branch is found by what the reference allows, comparing both.
fn reset(dense: &mut Dense, q: usize, machine: &[Complex64]) {
    let branches = [false, true].map(|v| {
        let p1 = dense.probability_of_one(q);
        let possible = if v { p1 > 1e-9 } else { p1 < 1.0 - 1e-9 };
        possible.then(|| {
            let mut d = dense.clone();
            d.project(q, v);
            if v {
                d.apply(&gates::X, &[], q);
            }
            d
        })
    });
    let best = branches.into_iter().flatten().max_by(|a, b| a.fidelity(machine).total_cmp(&b.fidelity(machine)));
    *dense = best.expect("one branch is possible");
}

/// Where the draws of an operation come from, by number.
pub(crate) type Draws<'a> = &'a dyn Fn(u32) -> (Random, DrawSite, u64);

/// Applies an operation that the machine has performed with these outcomes and draws, and that left it with these
/// amplitudes.
pub(crate) fn apply(
    dense: &mut Dense,
    op: &Op,
    outcomes: &[bool],
    machine: &dyn Fn() -> Vec<Complex64>,
    seen: &mut Calibration,
    draws: Draws<'_>,
) {
    let u = |q: u32| q as usize;
    let quarter = |k: f64| k * FRAC_PI_2;
    match *op {
        Op::Alloc(_) | Op::Fence => {}
        Op::Pauli(p, q) => dense.apply([&gates::X, &gates::Y, &gates::Z][p as usize], &[], u(q)),
        Op::Clifford1(g, q) => {
            let m = match g {
                Clifford1::H => gates::H,
                Clifford1::S => gates::phase(quarter(1.0)),
                Clifford1::Sdg => gates::phase(quarter(-1.0)),
                Clifford1::Sx => gates::rx(quarter(1.0)),
                Clifford1::Sxdg => gates::rx(quarter(-1.0)),
            };
            dense.apply(&m, &[], u(q));
        }
        Op::Clifford2(Clifford2::Cnot, a, b) | Op::TeleportCnot(a, b) => dense.apply(&gates::X, &[u(a)], u(b)),
        Op::Clifford2(Clifford2::Cz, a, b) => dense.apply(&gates::Z, &[u(a)], u(b)),
        Op::Clifford2(Clifford2::Swap, a, b) => dense.swap(u(a), u(b)),
        Op::T(q) => dense.apply(&gates::phase(PI / 4.0), &[], u(q)),
        Op::Tdg(q) => dense.apply(&gates::phase(-PI / 4.0), &[], u(q)),
        Op::Rotate(p, q, t) => dense.apply(&[gates::rx, gates::ry, gates::rz][p as usize](t), &[], u(q)),
        Op::Ccz(a, b, t) => dense.apply(&gates::Z, &[u(a), u(b)], u(t)),
        Op::Toffoli(a, b, t) => dense.apply(&gates::X, &[u(a), u(b)], u(t)),
        Op::Reset(q) | Op::Free(q) => reset(dense, u(q), &machine()),
        Op::InjectT(q) => {
            // Undo the preparation on the machine's side to compare the reset branches.
            let mut machine = Dense { amps: machine() };
            machine.apply(&gates::phase(-PI / 4.0), &[], u(q));
            machine.apply(&gates::H, &[], u(q));
            reset(dense, u(q), &machine.amps);
            dense.apply(&gates::H, &[], u(q));
            dense.apply(&gates::phase(PI / 4.0), &[], u(q));
        }
        Op::Measure(p, q, _) => {
            // Rotate the basis to Z and back.
            let (to, back) = match p {
                Pauli::Z => (gates::rz(0.0), gates::rz(0.0)),
                Pauli::X => (gates::H, gates::H),
                Pauli::Y => (gates::rx(quarter(1.0)), gates::rx(quarter(-1.0))),
            };
            dense.apply(&to, &[], u(q));
            seen.follow(dense, u(q), outcomes[0], draws(0));
            dense.apply(&back, &[], u(q));
        }
        Op::MeasureAngle(a, q, _) => {
            dense.apply(&gates::ry(-a), &[], u(q));
            seen.follow(dense, u(q), outcomes[0], draws(0));
            dense.apply(&gates::ry(a), &[], u(q));
        }
        Op::MeasureBell(a, b, ..) => {
            dense.apply(&gates::X, &[u(a)], u(b));
            dense.apply(&gates::H, &[], u(a));
            seen.follow(dense, u(a), outcomes[0], draws(0));
            seen.follow(dense, u(b), outcomes[1], draws(1));
            dense.apply(&gates::H, &[], u(a));
            dense.apply(&gates::X, &[u(a)], u(b));
        }
    }
}
