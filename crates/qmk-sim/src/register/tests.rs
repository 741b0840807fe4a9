use super::dense::Register;
use super::mask::Mask;
use super::{passes, scalar};
use crate::simd::at_each_level;
use num_complex::Complex64;
use qmk_testkit::Rng;

struct Draw(Rng);

impl Draw {
    fn new(seed: u64) -> Self {
        Draw(Rng::new(seed))
    }

    fn next(&mut self) -> u64 {
        self.0.next()
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn angle(&mut self) -> f64 {
        self.next() as f64 / u64::MAX as f64 * 8.0 - 4.0
    }

    /// A string over k bits, diagonal or sparse more often than chance would have it.
    fn mask(&mut self, k: u32) -> Mask {
        let bits = (1 << k) - 1;
        let mut m = Mask { x: self.next() & bits, z: self.next() & bits, negative: self.below(2) == 1 };
        match self.below(8) {
            0 | 1 => m.x = 0,
            2 => m.z = 0,
            3 => m.x &= 7,
            4 => (m.x, m.z) = (m.x & 7, m.z & 7),
            5 => m.x &= !7,
            _ => {}
        }
        m
    }

    /// A string and a bit that a projection on it may remove.
    fn measured(&mut self, k: u32) -> (Mask, u32) {
        let mut m = self.mask(k);
        if m.x | m.z == 0 {
            m.z = 1 << self.below(k as u64);
        }
        let support = if m.x != 0 { m.x } else { m.z };
        loop {
            let bit = self.below(k as u64) as u32;
            if support >> bit & 1 == 1 {
                return (m, bit);
            }
        }
    }
}

/// Random states, once as groups of a register and once each by the twin.
fn random(draw: &mut Draw, k: u32, groups: usize) -> (Register, Vec<scalar::Register>) {
    let mut fast = Register::new().select(&vec![0; groups]);
    let mut slow = vec![scalar::Register::default(); groups];
    for _ in 0..k {
        let theta: Vec<f64> = (0..groups).map(|_| draw.angle()).collect();
        fast.push_each(&theta);
        slow.iter_mut().zip(&theta).for_each(|(s, &t)| s.push(t));
    }
    for _ in 0..2 * k {
        let p = draw.mask(k);
        let mut theta: Vec<f64> = (0..groups).map(|_| draw.angle()).collect();
        theta[0] = 0.0;
        fast.rotate_each(p, &theta);
        slow.iter_mut().zip(&theta).for_each(|(s, &t)| s.rotate(p, t));
        let (p, t) = (draw.mask(k), draw.angle());
        fast.rotate(p, t);
        slow.iter_mut().for_each(|s| s.rotate(p, t));
    }
    (fast, slow)
}

fn assert_close(a: &[Complex64], b: &[Complex64]) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).norm() < 1e-12, "{a} is not {b}");
    }
}

fn assert_same(fast: &Register, slow: &[scalar::Register]) {
    assert_eq!(fast.groups(), slow.len());
    for (g, s) in slow.iter().enumerate() {
        assert_close(&fast.amplitudes(g), &s.amps);
    }
    // The padding stays zero.
    let used = fast.groups() << fast.qubits();
    assert!((used..fast.re.len() * 8).all(|i| fast.at(i) == Complex64::default()));
}

fn bits(r: &Register) -> Vec<u64> {
    r.re.iter().chain(&r.im).flat_map(|c| c.0.map(f64::to_bits)).collect()
}

/// Runs `f` for all sizes that matter, at each level, and checks that levels agree to the bit.
fn at_all_sizes(max: u32, mut f: impl FnMut(&mut Draw, u32, usize) -> Vec<u64>) {
    for k in 0..=max {
        for groups in [1, 2, 3, 5, 9] {
            let mut expected: Option<Vec<u64>> = None;
            at_each_level(|level| {
                let mut draw = Draw::new((k as u64) << 8 | groups as u64);
                let got = f(&mut draw, k, groups);
                match &expected {
                    Some(e) => assert!(*e == got, "{level:?} differs at k = {k}, groups = {groups}"),
                    None => expected = Some(got),
                }
            });
        }
    }
}

#[test]
fn rotations_and_expectations_are_the_twins() {
    at_all_sizes(11, |draw, k, groups| {
        let (fast, slow) = random(draw, k, groups);
        assert_same(&fast, &slow);
        let mut all = bits(&fast);
        let mut out = Vec::new();
        for _ in 0..20 {
            let p = draw.mask(k);
            fast.expectation(p, &mut out);
            for (o, s) in out.iter().zip(&slow) {
                assert!((o - s.expectation(p)).abs() < 1e-12, "{p:?}");
            }
            all.extend(out.iter().map(|v| v.to_bits()));
        }
        all
    });
}

#[test]
fn projections_are_the_twins() {
    at_all_sizes(10, |draw, k, groups| {
        if k == 0 {
            return Vec::new();
        }
        let (fast, slow) = random(draw, k, groups);
        let mut all = Vec::new();
        for _ in 0..8 {
            let (p, bit) = draw.measured(k);
            let targets: Vec<(u32, bool)> =
                (0..draw.below(20)).map(|_| (draw.below(groups as u64) as u32, draw.below(2) == 1)).collect();
            let projected = fast.project(p, bit, &targets);
            let expected: Vec<scalar::Register> = targets
                .iter()
                .map(|&(source, outcome)| {
                    let mut s = slow[source as usize].clone();
                    s.project(p, outcome, bit);
                    s
                })
                .collect();
            assert_same(&projected, &expected);
            let (sources, outcomes): (Vec<u32>, Vec<bool>) = targets.iter().copied().unzip();
            let mut in_place = fast.select(&sources);
            in_place.project_in_place(p, bit, &outcomes);
            assert_eq!(bits(&in_place), bits(&projected));
            all.extend(bits(&projected));
        }
        all
    });
}

#[test]
fn a_register_outlives_its_qubits() {
    at_all_sizes(6, |draw, k, groups| {
        let (mut fast, mut slow) = random(draw, k, groups);
        for _ in 0..40 {
            if fast.qubits() > 0 && (fast.qubits() > 6 || draw.below(2) == 1) {
                let (p, bit) = draw.measured(fast.qubits());
                let outcomes: Vec<bool> = (0..groups).map(|_| draw.below(2) == 1).collect();
                fast.project_in_place(p, bit, &outcomes);
                slow.iter_mut().zip(&outcomes).for_each(|(s, &o)| s.project(p, o, bit));
            } else {
                let theta = draw.angle();
                fast.push(theta);
                slow.iter_mut().for_each(|s| s.push(theta));
            }
            let (p, theta) = (draw.mask(fast.qubits()), draw.angle());
            fast.rotate(p, theta);
            slow.iter_mut().for_each(|s| s.rotate(p, theta));
            assert_same(&fast, &slow);
        }
        bits(&fast)
    });
}

#[test]
fn a_zero_angle_touches_nothing() {
    for k in 0..6 {
        let groups = 7;
        let mut r = Register::new().select(&vec![0; groups]);
        (0..k).for_each(|_| r.push(-0.0));
        for c in r.re.iter_mut().chain(&mut r.im) {
            c.0 = c.0.map(|v| if v == 0.0 { -0.0 } else { v });
        }
        let theta: Vec<f64> = (0..groups).map(|g| if g % 3 == 1 { 1.0 } else { 0.0 }).collect();
        let mut draw = Draw::new(k as u64);
        for _ in 0..20 {
            let mut turned = r.clone();
            turned.rotate_each(draw.mask(k), &theta);
            for g in (0..groups).filter(|g| g % 3 != 1) {
                for i in g << k..(g + 1) << k {
                    assert_eq!(turned.at(i).re.to_bits(), r.at(i).re.to_bits());
                    assert_eq!(turned.at(i).im.to_bits(), r.at(i).im.to_bits());
                }
            }
        }
    }
}

#[test]
fn many_rotations_are_one_after_another() {
    for (k, groups) in [(0, 2100), (1, 129), (2, 301), (3, 77), (5, 9), (8, 3), (11, 3), (13, 2), (14, 1)] {
        let mut expected: Option<Vec<u64>> = None;
        at_each_level(|level| {
            let mut draw = Draw::new(k as u64);
            let mut start = Register::new().select(&vec![0; groups]);
            for _ in 0..k {
                let theta: Vec<f64> = (0..groups).map(|_| draw.angle()).collect();
                start.push_each(&theta);
            }
            let mut all = Vec::new();
            for kind in 0..15 {
                // Strings at large, few local ones over and over, pairs of qubits, diagonal ones, and a mixture.
                let pool: Vec<Mask> = (0..6).map(|_| draw.mask(k)).collect();
                let mut pair = 0;
                let ops: Vec<(Mask, f64)> = (0..60)
                    .map(|i| {
                        if i % 10 == 0 && k > 0 {
                            pair = 1 << draw.below(k as u64) | 1 << draw.below(k as u64);
                        }
                        let p = draw.mask(k);
                        let local = Mask { x: p.x & pair, z: p.z & pair, ..p };
                        let p = match kind % 5 {
                            0 => p,
                            1 => pool[draw.below(6) as usize],
                            2 => local,
                            3 => Mask { x: 0, ..p },
                            _ => [p, local, pool[0]][draw.below(3) as usize],
                        };
                        (p, draw.angle())
                    })
                    .collect();
                let (mut many, mut single) = (start.clone(), start.clone());
                match kind {
                    0..5 => many.rotate_many(&ops),
                    5..10 => many.apply(&passes::passes(k, &ops, 1)),
                    _ => many.apply(&passes::passes(k, &ops, usize::MAX)),
                }
                ops.iter().for_each(|&(p, theta)| single.rotate(p, theta));
                for g in 0..groups {
                    assert_close(&many.amplitudes(g), &single.amplitudes(g));
                }
                all.extend(bits(&many));
            }
            match &expected {
                Some(e) => assert!(*e == all, "{level:?} differs at k = {k}"),
                None => expected = Some(all),
            }
        });
    }
}
