//! Purification and swapping of entangled pairs: how many raw pairs a channel of a given fidelity takes. Pure
//! functions; the calls are in `calls/channels.rs`.
//!
//! Pairs are Bell-diagonal, so a pair is given by the weights of the Pauli errors on one half of the wanted Bell state.

/// Weights of the wanted Bell state and of it with an X, Y, Z on one half (Φ+, Ψ+, Ψ-, Φ-), as in
/// [`qmk_hal::LinkSpec::raw`].
pub(crate) type BellWeights = [f64; 4];

/// The cost and the quality of a purified pair.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Purified {
    /// Rounds of purification.
    pub(crate) rounds: u32,
    /// Raw pairs consumed on average, rounded up.
    pub(crate) pairs: u64,
    /// The pair.
    pub(crate) weights: BellWeights,
    /// Its fidelity.
    pub(crate) fidelity: f64,
}

/// Most rounds. The error about squares in a round, so a pair that needs more has a fidelity of next to 1/2.
const ROUNDS: u32 = 32;

/// Purifies until the fidelity is at least `target`.
///
/// Rounds are of DEJMPS: it keeps the errors apart where BBPSSW smears them into a Werner state, and so needs far
/// fewer rounds.
///
/// # Errors
/// The best fidelity that can be reached, which is less than `target`; 0 if `raw` is no mixture of Bell states.
pub(crate) fn purify(raw: BellWeights, target: f64) -> Result<Purified, f64> {
    let sum: f64 = raw.iter().sum();
    // Written so that NaN fails.
    if !(raw.iter().all(|w| (0.0..=1.0).contains(w)) && (-1e-9..=1e-9).contains(&(sum - 1.0))) {
        return Err(0.0);
    }
    // Rounding must not make a pair perfect that is not.
    let most = if raw == [1.0, 0.0, 0.0, 0.0] { 1.0 } else { 1.0 - f64::EPSILON / 2.0 };
    let (mut weights, mut pairs, mut rounds) = (raw, 1.0, 0);
    let mut fidelity = raw[0].min(most);
    loop {
        if fidelity >= target {
            return Ok(Purified { rounds, pairs: ceil(pairs), weights, fidelity });
        }
        if fidelity <= 0.5 || rounds == ROUNDS {
            return Err(fidelity);
        }
        let (kept, next) = dejmps(least_to_y(weights));
        let better = next[0].min(most);
        if better <= fidelity {
            return Err(fidelity);
        }
        (weights, fidelity) = (next, better);
        // A round turns two pairs into one and keeps it with probability `kept`, so one pair takes 2 / kept on average.
        pairs *= 2.0 / kept;
        rounds += 1;
    }
}

/// Exchanges the least likely error with Y, as a rotation of both halves does.
///
/// This makes every round gain, which DEJMPS as published does not: with fidelity I and error y in Y's place the new
/// fidelity is I + g(y)/N, N >= 1/2 and g(y) = I² + y² - I((I+y)² + (1-I-y)²). For I > 1/2, g falls and N rises with
/// y, so the least y is the best; it is at most (1-I)/3, where g = (1-I)(2I-1)(4I-1)/9 > 0.
fn least_to_y([i, x, y, z]: BellWeights) -> BellWeights {
    if x < y && x <= z {
        [i, y, x, z]
    } else if z < y {
        [i, x, z, y]
    } else {
        [i, x, y, z]
    }
}

/// A round of DEJMPS on two equal pairs: the probability to keep one, and what is kept. Deutsch et al., PRL 77, 2818
/// (1996), whose A, B, C, D are the weights of Φ+, Ψ-, Ψ+, Φ-.
fn dejmps([i, x, y, z]: BellWeights) -> (f64, BellWeights) {
    let kept = (i + y) * (i + y) + (x + z) * (x + z);
    (kept, [(i * i + y * y) / kept, (x * x + z * z) / kept, 2.0 * x * z / kept, 2.0 * i * y / kept])
}

/// The pair between the far ends of two pairs after a Bell measurement of the near ends and its Pauli correction: the
/// errors of the two multiply.
pub(crate) fn swap(&[i, x, y, z]: &BellWeights, &[j, u, v, w]: &BellWeights) -> BellWeights {
    [
        i * j + x * u + y * v + z * w,
        i * u + x * j + y * w + z * v,
        i * v + y * j + x * w + z * u,
        i * w + z * j + x * v + y * u,
    ]
}

/// Rounds up; `f64::ceil` is not in core.
fn ceil(x: f64) -> u64 {
    let n = x as u64;
    if (n as f64) < x { n.saturating_add(1) } else { n }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use qmk_abi::Op;
    use qmk_abi::image::{Clifford1, Clifford2::Cnot, Pauli};
    use qmk_testkit::Rng;
    use qmk_testkit::dense::Dense;
    use std::f64::consts::FRAC_PI_2;

    const PAULIS: [Option<Pauli>; 4] = [None, Some(Pauli::X), Some(Pauli::Y), Some(Pauli::Z)];

    fn close(a: &[f64], b: &[f64]) -> bool {
        a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12)
    }

    fn werner(f: f64) -> BellWeights {
        let e = (1.0 - f) / 3.0;
        [f, e, e, e]
    }

    fn total(w: &BellWeights) -> f64 {
        w.iter().sum()
    }

    /// Fidelity at least `least`, the rest at random.
    fn random(dice: &mut Rng, least: f64) -> BellWeights {
        let f = least + (1.0 - least) * dice.unit();
        let e = [dice.unit(), dice.unit(), dice.unit() * dice.unit()];
        let scale = (1.0 - f) / (e[0] + e[1] + e[2]);
        [f, e[0] * scale, e[1] * scale, e[2] * scale]
    }

    /// A round of BBPSSW. Bennett et al., PRL 76, 722 (1996).
    fn bbpssw(w: BellWeights) -> (f64, BellWeights) {
        let (f, e) = (w[0], (1.0 - w[0]) / 3.0);
        let kept = f * f + 2.0 * f * e + 5.0 * e * e;
        (kept, werner((f * f + e * e) / kept))
    }

    /// Prepares (2k, 2k + 1) in Φ+ with a Pauli on the second half.
    fn bell(d: &mut Dense, pair: u32, error: Option<Pauli>) {
        let (a, b) = (2 * pair, 2 * pair + 1);
        d.unitary(&Op::Clifford1(Clifford1::H, a));
        d.unitary(&Op::Clifford2(Cnot, a, b));
        if let Some(p) = error {
            d.unitary(&Op::Pauli(p, b));
        }
    }

    /// The protocol itself on state vectors: pair 0 is kept if the halves of pair 1 are measured alike.
    fn protocol(w: &BellWeights, rotate: bool) -> (f64, BellWeights) {
        let (mut kept, mut out) = (0.0, [0.0; 4]);
        for (wi, i) in w.iter().zip(PAULIS) {
            for (wj, j) in w.iter().zip(PAULIS) {
                let mut d = Dense::new(4);
                bell(&mut d, 0, i);
                bell(&mut d, 1, j);
                for q in 0..4 {
                    let turn = if q % 2 == 0 { FRAC_PI_2 } else { -FRAC_PI_2 };
                    if rotate {
                        d.unitary(&Op::Rotate(Pauli::X, q, turn));
                    }
                }
                d.unitary(&Op::Clifford2(Cnot, 0, 2));
                d.unitary(&Op::Clifford2(Cnot, 1, 3));
                for m in [false, true] {
                    let mut d = d.clone();
                    let p = d.project(2, m) * d.project(3, m);
                    if p < 1e-12 {
                        continue;
                    }
                    kept += wi * wj * p;
                    for (o, k) in out.iter_mut().zip(PAULIS) {
                        let mut want = Dense::new(4);
                        bell(&mut want, 0, k);
                        for q in [2, 3] {
                            if m {
                                want.unitary(&Op::Pauli(Pauli::X, q));
                            }
                        }
                        *o += wi * wj * p * d.fidelity(&want.amps);
                    }
                }
            }
        }
        (kept, out.map(|o| o / kept))
    }

    #[test]
    fn a_round_is_what_the_protocol_does() {
        let mut dice = Rng::new(1);
        for _ in 0..20 {
            let w = random(&mut dice, 0.0);
            let ((p, a), (q, b)) = (dejmps(w), protocol(&w, true));
            assert!((p - q).abs() < 1e-12 && close(&a, &b), "{w:?}: {a:?} {b:?}");
            let w = werner(w[0]);
            let ((p, a), (q, b)) = (bbpssw(w), protocol(&w, false));
            assert!((p - q).abs() < 1e-12 && (a[0] - b[0]).abs() < 1e-12);
        }
    }

    #[test]
    fn swapping_is_what_the_protocol_does() {
        for (i, error) in PAULIS.iter().enumerate() {
            for (j, other) in PAULIS.iter().enumerate() {
                let unit = |i| core::array::from_fn(|k| f64::from(u8::from(k == i)));
                let want = swap(&unit(i), &unit(j));
                let mut d = Dense::new(4);
                bell(&mut d, 0, *error);
                bell(&mut d, 1, *other);
                d.unitary(&Op::Clifford2(Cnot, 1, 2));
                d.unitary(&Op::Clifford1(Clifford1::H, 1));
                for (mx, mz) in [(false, false), (false, true), (true, false), (true, true)] {
                    let mut d = d.clone();
                    let p = d.project(1, mx) * d.project(2, mz);
                    assert!((p - 0.25).abs() < 1e-12);
                    for (m, q, p) in [(mz, 2, Pauli::X), (mz, 3, Pauli::X), (mx, 1, Pauli::X), (mx, 3, Pauli::Z)] {
                        if m {
                            d.unitary(&Op::Pauli(p, q));
                        }
                    }
                    let got = PAULIS.map(|k| {
                        let mut bell = Dense::new(4);
                        bell.unitary(&Op::Clifford1(Clifford1::H, 0));
                        bell.unitary(&Op::Clifford2(Cnot, 0, 3));
                        if let Some(p) = k {
                            bell.unitary(&Op::Pauli(p, 3));
                        }
                        d.fidelity(&bell.amps)
                    });
                    assert!(close(&got, &want), "{error:?} {other:?}: {got:?} {want:?}");
                }
            }
        }
    }

    #[test]
    fn swapping_is_an_average_over_errors() {
        let mut dice = Rng::new(2);
        for _ in 0..100 {
            let (a, b, c) = (random(&mut dice, 0.0), random(&mut dice, 0.0), random(&mut dice, 0.0));
            assert!((total(&swap(&a, &b)) - 1.0).abs() < 1e-12);
            assert!(close(&swap(&a, &b), &swap(&b, &a)));
            assert!(close(&swap(&swap(&a, &b), &c), &swap(&a, &swap(&b, &c))));
            assert!(close(&swap(&a, &[1.0, 0.0, 0.0, 0.0]), &a));
            assert!(close(&swap(&a, &[0.25; 4]), &[0.25; 4]));
        }
        // Werner states: F = F1 F2 + (1 - F1)(1 - F2) / 3.
        assert!((swap(&werner(0.9), &werner(0.8))[0] - (0.72 + 0.02 / 3.0)).abs() < 1e-12);
    }

    #[test]
    fn known_values() {
        // By hand: 13/18 and 41/52 for both protocols.
        for (p, w) in [bbpssw(werner(0.75)), dejmps(werner(0.75))] {
            assert!((p - 13.0 / 18.0).abs() < 1e-12 && (w[0] - 41.0 / 52.0).abs() < 1e-12);
        }
        assert!(close(&dejmps(werner(0.75)).1, &[41.0 / 52.0, 1.0 / 52.0, 1.0 / 52.0, 9.0 / 52.0]));
        // Dephasing only: F² / (F² + (1-F)²).
        let once = purify([0.8, 0.0, 0.0, 0.2], 0.9).unwrap();
        assert!((once.fidelity - 0.64 / 0.68).abs() < 1e-12);
        assert_eq!((once.rounds, once.pairs), (1, 3)); // 2 / 0.68 = 2.94
        // Two rounds multiply.
        let twice = purify(werner(0.9), 0.96).unwrap();
        let (p, w) = dejmps(werner(0.9));
        let (q, w) = dejmps(w);
        assert_eq!((twice.rounds, twice.pairs), (2, (4.0 / p / q).ceil() as u64));
        assert!(close(&twice.weights, &w));
    }

    #[test]
    fn every_round_gains_and_adds_up() {
        let mut dice = Rng::new(3);
        for _ in 0..20_000 {
            let mut w = random(&mut dice, 0.5);
            for _ in 0..8 {
                if w[0] <= 0.5 + 1e-9 || w[0] > 1.0 - 1e-9 {
                    break;
                }
                let (p, next) = dejmps(least_to_y(w));
                assert!(next[0] > w[0], "{w:?} {next:?}");
                assert!((0.5 - 1e-12..=1.0 + 1e-12).contains(&p) && (total(&next) - 1.0).abs() < 1e-12);
                // The least error in Y's place is the best choice.
                let [i, x, y, z] = w;
                for other in [[i, x, y, z], [i, y, x, z], [i, x, z, y]] {
                    assert!(dejmps(other).1[0] <= next[0] + 1e-15);
                }
                w = next;
            }
        }
        // As published, a round may lose.
        assert!(dejmps([0.7, 0.0, 0.3, 0.0]).1[0] < 0.7);
        assert!(purify([0.7, 0.0, 0.3, 0.0], 0.999).is_ok());
    }

    #[test]
    fn more_is_asked_more_is_paid() {
        for f in [0.51, 0.55, 0.75, 0.9, 0.99] {
            let (mut rounds, mut pairs) = (0, 1);
            for target in [0.5, 0.6, 0.8, 0.95, 0.999, 1.0 - 1e-9, 1.0 - 1e-15] {
                let p = purify(werner(f), target).unwrap();
                assert!(p.fidelity >= target && p.fidelity < 1.0 && (total(&p.weights) - 1.0).abs() < 1e-12);
                assert!(p.rounds >= rounds && p.pairs >= pairs && p.pairs >= 1 << p.rounds);
                (rounds, pairs) = (p.rounds, p.pairs);
            }
        }
    }

    #[test]
    fn dejmps_needs_fewer_rounds_than_bbpssw() {
        let (mut w, mut rounds) = (werner(0.75), 0);
        while w[0] < 0.99 {
            (_, w) = bbpssw(w);
            rounds += 1;
        }
        assert!(purify(werner(0.75), 0.99).unwrap().rounds * 2 < rounds);
    }

    #[test]
    fn what_cannot_be_reached() {
        let perfect = [1.0, 0.0, 0.0, 0.0];
        assert_eq!(purify(perfect, 1.0), Ok(Purified { rounds: 0, pairs: 1, weights: perfect, fidelity: 1.0 }));
        assert_eq!(purify(perfect, 1.1), Err(1.0));
        // Perfection is a limit.
        for raw in [werner(0.9), werner(1.0 - 1e-15), [1.0, 1e-10, 0.0, 0.0], [1.0 - 1e-10, 0.0, 0.0, 0.0]] {
            let best = purify(raw, 1.0).unwrap_err();
            assert!(best < 1.0 && best > 1.0 - 1e-12, "{best}");
        }
        // 1/2 and the totally mixed pair are fixpoints; what is good enough as it comes is not purified.
        assert!((dejmps([0.25; 4]).1).iter().all(|w| *w == 0.25) && dejmps([0.5, 0.5, 0.0, 0.0]).1[0] == 0.5);
        assert_eq!(dejmps(perfect), (1.0, perfect));
        assert_eq!(purify([0.5, 0.5, 0.0, 0.0], 0.6), Err(0.5));
        assert_eq!(purify(werner(0.4), 0.6), Err(0.4));
        assert_eq!(purify(werner(0.4), 0.3).unwrap().rounds, 0);
        assert_eq!(purify([0.9, 0.05, 0.03, 0.02], 0.9).unwrap().rounds, 0);
        assert!(purify(werner(0.9), f64::NAN).is_err());
        let slow = purify(werner(0.5 + 1e-14), 0.99);
        assert!(slow.is_err_and(|best| (0.5..0.99).contains(&best)), "{slow:?}");
        for bad in [
            [f64::NAN, 0.0, 0.0, 0.0],
            [f64::INFINITY, 0.0, 0.0, 0.0],
            [0.9, 0.2, -0.1, 0.0],
            [0.9, 0.05, 0.0, 0.0],
            [1.1, 0.0, 0.0, 0.0],
        ] {
            assert_eq!(purify(bad, 0.3), Err(0.0));
        }
    }

    #[test]
    fn rounding_up() {
        assert_eq!([1.0, 1.5, 2.0, 1e30].map(ceil), [1, 2, 2, u64::MAX]);
    }
}
