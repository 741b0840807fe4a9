//! What the codes are said to be: parameters, distances, and memory circuits whose detectors and observables are
//! deterministic.

use qmk_abi::image::{Clifford1, Clifford2, Pauli, Qubit};
use qmk_hal::{Device, Inline, SpaceSpec};
use qmk_qec::Circuit;
use qmk_qec::circuit::{Gate, Step};
use qmk_qec::codes::{Code, Honeycomb, PauliProduct, Subsystem, by_name};
use qmk_qec::gf2::Matrix;
use qmk_sim::{SimConfig, SimDevice};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

const BASES: [Pauli; 2] = [Pauli::X, Pauli::Z];

fn anticommute(a: &PauliProduct, b: &PauliProduct) -> bool {
    let clash = |(p, q): &(Pauli, Qubit)| b.iter().any(|(r, s)| q == s && p != r);
    a.iter().filter(|f| clash(f)).count() % 2 == 1
}

/// Rows of X parts, then Z parts.
fn symplectic<'a>(data: usize, products: impl IntoIterator<Item = &'a PauliProduct>) -> Matrix {
    let ones = |product: &PauliProduct| {
        let part = |&(p, q): &(Pauli, Qubit)| {
            let (x, z) = (q as usize, q as usize + data);
            match p {
                Pauli::X => vec![x],
                Pauli::Y => vec![x, z],
                Pauli::Z => vec![z],
            }
        };
        product.iter().flat_map(part).collect::<Vec<_>>()
    };
    Matrix::from_ones(2 * data, products.into_iter().map(ones))
}

/// Checks the algebra of a code and returns the numbers of its data, logical and gauge qubits.
fn parameters(code: &dyn Code, bare: bool) -> [usize; 3] {
    let checks = code.checks();
    let n = checks.data.len();
    assert!(checks.data.iter().zip(0..).all(|(&q, i)| q == i));
    for product in checks.stabilizers.iter().chain(&checks.gauges).chain(checks.logicals.iter().flatten()) {
        assert!(product.windows(2).all(|w| w[0].1 < w[1].1), "ascending: {product:?}");
        assert!(product.iter().all(|(_, q)| (*q as usize) < n));
    }
    let logicals: Vec<&PauliProduct> = checks.logicals.iter().flatten().collect();
    for stabilizer in &checks.stabilizers {
        assert!(checks.stabilizers.iter().all(|s| !anticommute(s, stabilizer)));
        assert!(logicals.iter().all(|l| !anticommute(l, stabilizer)));
        assert!(!bare || checks.gauges.iter().all(|g| !anticommute(g, stabilizer)));
    }
    assert!(!bare || logicals.iter().all(|l| checks.gauges.iter().all(|g| !anticommute(l, g))));
    for (i, a) in logicals.iter().enumerate() {
        for (j, b) in logicals.iter().enumerate() {
            assert_eq!(anticommute(a, b), i ^ j == 1, "logical operators {i} and {j}");
        }
    }
    let stabilizers = symplectic(n, &checks.stabilizers).rank();
    let gauges = symplectic(n, checks.gauges.iter().chain(&checks.stabilizers)).rank();
    // Of a Floquet code, checks of one colour only are in the group at a time: there are no gauge qubits.
    let gauge_qubits = if bare {
        assert_eq!(symplectic(n, &checks.gauges).rank(), gauges, "stabilizers are products of gauges");
        (gauges - stabilizers) / 2
    } else {
        0
    };
    [n, n - stabilizers - gauge_qubits, gauge_qubits]
}

fn weights(products: &[PauliProduct]) -> (usize, usize) {
    let lengths = || products.iter().map(Vec::len);
    (lengths().min().expect("some"), lengths().max().expect("some"))
}

#[test]
fn bacon_shor_codes() {
    for d in [3u32, 4, 5, 11] {
        let code = Subsystem::bacon_shor(d).expect("in range");
        let n = d as usize;
        assert_eq!(parameters(&code, true), [n * n, 1, (n - 1) * (n - 1)]);
        assert_eq!((code.distance(), code.physical_qubits()), (d, d * d + 2 * d * (d - 1)));
        let checks = code.checks();
        assert_eq!((weights(&checks.gauges), weights(&checks.stabilizers)), ((2, 2), (2 * n, 2 * n)));
        assert_eq!((checks.gauges.len(), checks.stabilizers.len()), (2 * n * (n - 1), 2 * (n - 1)));
        assert_eq!(checks.logicals[0].each_ref().map(Vec::len), [n, n]);
    }
}

#[test]
fn shyps_codes() {
    for (r, d) in [(3u32, 4), (4, 8), (5, 16)] {
        let code = Subsystem::shyps(r).expect("in range");
        let (n, k) = ((1 << r) - 1, r as usize);
        // H has rank n - r. X gauges alone: n (n - r), stabilizers r (n - r), so gauge qubits (n - r)^2.
        assert_eq!(parameters(&code, true), [n * n, k * k, (n - k) * (n - k)]);
        assert_eq!((code.distance(), code.physical_qubits()), (d, (3 * n * n) as u32));
        let checks = code.checks();
        assert_eq!(weights(&checks.gauges), (3, 3));
        assert_eq!(weights(&checks.stabilizers), (3 * d as usize, 3 * d as usize));
        assert!(checks.logicals.iter().flatten().all(|l| l.len() == d as usize));
    }
}

#[test]
fn honeycomb_codes() {
    for d in [3, 4, 5, 8] {
        for code in [Honeycomb::pairs(d), Honeycomb::ancillas(d)] {
            let code = code.expect("in range");
            let [n, k, _] = parameters(&code, false);
            assert_eq!(k, 2);
            let checks = code.checks();
            assert_eq!((checks.gauges.len(), weights(&checks.gauges)), (3 * n / 2, (2, 2)));
            let of_weight = |w| checks.stabilizers.iter().filter(|s| s.len() == w).count();
            assert_eq!((of_weight(6), of_weight(2)), (n / 2, n / 2));
            let hexagons = || checks.stabilizers.iter().filter(|s| s.len() == 6);
            assert!(hexagons().all(|h| checks.gauges.iter().all(|g| !anticommute(h, g))));
            // Each qubit is on one edge and one hexagon of each colour, and the colour is the letter.
            for letter in [Pauli::X, Pauli::Y, Pauli::Z] {
                for products in [checks.gauges.clone(), hexagons().cloned().collect()] {
                    let all: Vec<Qubit> = products.concat().iter().filter(|f| f.0 == letter).map(|f| f.1).collect();
                    assert_eq!((all.len(), all.iter().collect::<HashSet<_>>().len()), (n, n));
                }
            }
        }
    }
}

/// Least weight up to `most` of a product of `letter` that commutes with the stabilizers but is no product of gauges.
fn dressed_distance(code: &dyn Code, letter: Pauli, most: usize) -> Option<usize> {
    let checks = code.checks();
    let other: Vec<&PauliProduct> = checks.stabilizers.iter().filter(|s| s[0].0 != letter).collect();
    let syndrome = |q: &Qubit| {
        other.iter().enumerate().filter(|(_, s)| s.iter().any(|f| f.1 == *q)).fold(0u64, |b, (i, _)| b | 1 << i)
    };
    let syndromes: Vec<u64> = checks.data.iter().map(syndrome).collect();
    let gauges: Vec<PauliProduct> = checks.gauges.iter().filter(|g| g[0].0 == letter).cloned().collect();
    let rank = symplectic(syndromes.len(), &gauges).rank();
    let is_logical = |qubits: &[usize]| {
        let product: PauliProduct = qubits.iter().map(|&q| (letter, q as Qubit)).collect();
        symplectic(syndromes.len(), gauges.iter().chain([&product])).rank() > rank
    };
    fn any(
        from: usize,
        left: usize,
        sum: u64,
        on: &mut Vec<usize>,
        syndromes: &[u64],
        found: &dyn Fn(&[usize]) -> bool,
    ) -> bool {
        if left == 0 {
            return sum == 0 && found(on);
        }
        (from..syndromes.len()).any(|q| {
            on.push(q);
            let hit = any(q + 1, left - 1, sum ^ syndromes[q], on, syndromes, found);
            on.pop();
            hit
        })
    }
    (1..=most).find(|&w| any(0, w, 0, &mut Vec::new(), &syndromes, &is_logical))
}

#[test]
fn no_lighter_logical_operator() {
    for letter in BASES {
        assert_eq!(dressed_distance(&Subsystem::shyps(3).expect("in range"), letter, 4), Some(4));
        for d in [3, 4] {
            let code = Subsystem::bacon_shor(d).expect("in range");
            assert_eq!(dressed_distance(&code, letter, d as usize), Some(d as usize));
        }
    }
}

/// Outcomes of the circuit on the simulated device: a row of bits for each shot.
fn records(circuit: &Circuit, shots: u64) -> Vec<Vec<u8>> {
    let (image, noise) = circuit.lower();
    let mut device = SimDevice::new(SimConfig { logical_qubits: 10_000, ..SimConfig::default() });
    let instructions = image.code.len() as u32;
    let spec = SpaceSpec {
        image: Arc::new(image),
        noise: noise.into(),
        shots,
        seed: 3,
        max_active: 26,
        ..SpaceSpec::default()
    };
    let space = device.open(spec).expect("it fits");
    (0..instructions).for_each(|i| device.issue(space, i).expect("in range"));
    while device.work(space, u64::MAX).expect("no fault").shots_done < shots {}
    let mut out = Vec::new();
    device.outcomes(space, 0, shots as u32, &mut out);
    let row = out.len() / shots as usize;
    out.chunks(row).map(<[u8]>::to_vec).collect()
}

#[test]
fn detectors_and_observables_are_deterministic() {
    let cases = [("bacon_shor", 3, 3), ("bacon_shor", 4, 1), ("bacon_shor", 7, 4), ("shyps", 4, 1), ("shyps", 4, 3)];
    let honeycombs = (1..=7).flat_map(|r| [("honeycomb", 3, r), ("honeycomb_ancillas", 3, r)]);
    for (name, distance, rounds) in cases.into_iter().chain(honeycombs).chain([("shyps", 8, 1)]) {
        let code = by_name(name, distance).expect("known");
        for basis in BASES {
            let circuit = code.memory(basis, rounds);
            assert!(circuit.qubits() <= code.physical_qubits());
            assert_eq!(circuit.observables() as usize, code.checks().logicals.len());
            let shots = records(&circuit, 256);
            let parity = |records: &[u32], shot: &[u8]| {
                records.iter().filter(|&&r| shot[r as usize / 8] >> (r % 8) & 1 == 1).count() % 2
            };
            let sets = [circuit.detector_records(), circuit.observable_records()].concat();
            for (i, set) in sets.iter().enumerate() {
                // A random parity would be even in all 256 shots with probability 2^-256.
                assert!(shots.iter().all(|s| parity(set, s) == 0), "{name} {distance} {basis:?} {rounds}: parity {i}");
            }
            // The gauges are random: a test that looked at zeros only would not fail.
            let seen: HashSet<&Vec<u8>> = shots.iter().collect();
            assert!(seen.len() > 200);
        }
    }
}

/// What an error flips: detectors, then observables after them.
type Flips = Vec<u32>;

fn sum(a: &Flips, b: &Flips) -> Flips {
    let mut all = [a.as_slice(), b].concat();
    all.sort_unstable();
    all.chunk_by(|a, b| a == b).filter(|same| same.len() % 2 == 1).map(|same| same[0]).collect()
}

/// What errors after a step flip: parts (X or Z on one qubit or on two, or a wrong record); any Paulis. The circuit is
/// gone through backwards with what an X and a Z on each qubit would flip.
fn errors(circuit: &Circuit) -> [HashSet<Flips>; 2] {
    let mut record = vec![Flips::new(); circuit.records() as usize];
    for (i, set) in (0..).zip([circuit.detector_records(), circuit.observable_records()].concat()) {
        set.iter().for_each(|&r| record[r as usize].push(i));
    }
    let mut next = record.len();
    let [mut parts, mut products] = [HashSet::new(), HashSet::new()];
    let mut x = vec![Flips::new(); circuit.qubits() as usize];
    let mut z = x.clone();
    for step in circuit.steps().iter().rev() {
        let touched: &[Qubit] = match step {
            Step::Gate(_, q) | Step::Reset(_, q) | Step::Measure(_, q, _) => &[*q],
            Step::Gate2(_, q) | Step::MeasurePair(_, q, _) => q,
            _ => continue,
        };
        let q = touched.iter().map(|&q| q as usize).collect::<Vec<_>>();
        for part in [&x, &z] {
            parts.extend(q.iter().map(|&q| part[q].clone()));
            if let [a, b] = q[..] {
                parts.insert(sum(&part[a], &part[b]));
            }
        }
        let all = |q: usize| [Flips::new(), x[q].clone(), sum(&x[q], &z[q]), z[q].clone()];
        match q[..] {
            [a, b] => products.extend(all(a).iter().flat_map(|e| all(b).map(|f| sum(e, &f)))),
            _ => products.extend(all(q[0])),
        }
        match step {
            Step::Gate(Gate::Clifford(Clifford1::S | Clifford1::Sdg), _) => x[q[0]] = sum(&x[q[0]], &z[q[0]]),
            Step::Gate2(Clifford2::Cnot, _) => {
                x[q[0]] = sum(&x[q[0]], &x[q[1]]);
                z[q[1]] = sum(&z[q[1]], &z[q[0]]);
            }
            Step::Reset(..) => [&mut x, &mut z].iter_mut().for_each(|part| part[q[0]].clear()),
            Step::Measure(p, ..) | Step::MeasurePair(p, ..) => {
                next -= 1;
                parts.insert(record[next].clone());
                for &q in &q {
                    if *p != Pauli::X {
                        x[q] = sum(&x[q], &record[next]);
                    }
                    if *p != Pauli::Z {
                        z[q] = sum(&z[q], &record[next]);
                    }
                }
            }
            step => panic!("no memory has {step:?}"),
        }
    }
    [parts, products]
}

/// Least number of errors, of those that flip at most two detectors, that flip an observable and no detector: a
/// shortest cycle.
fn graphlike_distance(circuit: &Circuit, errors: &HashSet<Flips>) -> Option<usize> {
    let boundary = circuit.detectors();
    let split = |e: &Flips| {
        let (detectors, observables): (Flips, Flips) = e.iter().partition(|&&f| f < boundary);
        (detectors, observables.iter().fold(0u64, |b, o| b | 1 << (o - boundary)))
    };
    let mut edges = vec![Vec::new(); boundary as usize + 1];
    for (ends, observables) in errors.iter().map(split).filter(|(d, _)| d.len() <= 2) {
        let [a, b] = [0, 1].map(|i| ends.get(i).copied().unwrap_or(boundary));
        edges[a as usize].push((b, observables));
        edges[b as usize].push((a, observables));
    }
    let from = |(start, observable): (u32, u32)| {
        let mut far = vec![[None; 2]; edges.len()];
        far[start as usize][0] = Some(0);
        let mut queue = VecDeque::from([(start, 0)]);
        while let Some((at, odd)) = queue.pop_front() {
            for &(to, observables) in &edges[at as usize] {
                let odd_there = odd ^ (observables >> observable & 1) as usize;
                if far[to as usize][odd_there].is_none() {
                    far[to as usize][odd_there] = far[at as usize][odd].map(|f: usize| f + 1);
                    queue.push_back((to, odd_there));
                }
            }
        }
        far[start as usize][1]
    };
    (0..=boundary).flat_map(|s| (0..circuit.observables()).map(move |o| (s, o))).filter_map(from).min()
}

/// Whether an error is the sum of at most so many edges, given those of each detector.
fn is_sum(error: &Flips, edges: &[Vec<Flips>], most: usize) -> bool {
    let Some(first) = error.first() else { return true };
    let touching = edges.get(*first as usize).into_iter().flatten();
    most > 0 && touching.into_iter().any(|edge| is_sum(&sum(error, edge), edges, most - 1))
}

#[test]
fn circuits_have_the_distance_of_their_code() {
    let cases = [("bacon_shor", 3, 3, 3), ("bacon_shor", 4, 4, 3), ("bacon_shor", 5, 5, 4)];
    let honeycombs = [("honeycomb", 3, 3, 4), ("honeycomb", 4, 4, 3), ("honeycomb_ancillas", 3, 3, 4)];
    let wider = [("honeycomb_ancillas", 4, 4, 3), ("honeycomb_ancillas", 5, 6, 4)];
    for (name, distance, least, rounds) in cases.into_iter().chain(honeycombs).chain(wider) {
        let code = by_name(name, distance).expect("known");
        assert!(code.is_matchable());
        for basis in BASES {
            let circuit = code.memory(basis, rounds);
            let [parts, products] = errors(&circuit);
            let seen = |e: &Flips| e.iter().filter(|&&f| f < circuit.detectors()).count();
            let all: HashSet<Flips> = parts.union(&products).cloned().collect();
            let mut edges = vec![Vec::new(); circuit.detectors() as usize];
            for edge in all.iter().filter(|e| !e.is_empty() && seen(e) <= 2) {
                edge[..seen(edge)].iter().for_each(|&d| edges[d as usize].push(edge.clone()));
            }
            let most = if name.starts_with("honeycomb") { 3 } else { 1 };
            assert!(parts.iter().all(|e| is_sum(e, &edges, most)), "{name} {distance} {basis:?}");
            assert_eq!(graphlike_distance(&circuit, &all), Some(least), "{name} {distance} {basis:?}");
        }
    }
}

#[test]
fn no_single_error_of_shyps_goes_unseen() {
    let code = Subsystem::shyps(3).expect("in range");
    for basis in BASES {
        let circuit = code.memory(basis, 3);
        let all: HashSet<Flips> = errors(&circuit).into_iter().flatten().collect();
        let silent = |e: &&Flips| !e.is_empty() && e.iter().all(|&f| f >= circuit.detectors());
        assert_eq!(all.iter().find(silent), None);
        // Some errors flip observables, so there was something to find.
        assert!(all.iter().any(|e| e.iter().any(|&f| f >= circuit.detectors())));
    }
}

#[test]
fn layers_share_no_qubit() {
    for (name, distance, layers) in
        [("bacon_shor", 5, 4), ("shyps", 4, 6), ("shyps", 8, 6), ("honeycomb", 4, 3), ("honeycomb_ancillas", 4, 6)]
    {
        let code = by_name(name, distance).expect("known");
        let count = |rounds| {
            let circuit = code.memory(Pauli::Z, rounds);
            let mut busy = HashSet::new();
            for step in circuit.steps() {
                match step {
                    Step::Tick => busy.clear(),
                    Step::Gate(_, q) | Step::Reset(_, q) | Step::Measure(_, q, _) => assert!(busy.insert(*q), "{name}"),
                    Step::Gate2(_, q) | Step::MeasurePair(_, q, _) => {
                        q.iter().for_each(|&q| assert!(busy.insert(q), "{name}"))
                    }
                    _ => {}
                }
            }
            circuit.steps().iter().filter(|s| matches!(s, Step::Tick)).count()
        };
        assert_eq!(count(5) - count(4), layers, "{name}");
    }
}

#[test]
fn names_and_distances() {
    let error = |name, distance| by_name(name, distance).err().expect("out of range").to_string();
    for (name, distance, said) in [
        ("bacon_shor", 2, "3 to 51, not 2"),
        ("bacon_shor", 52, "3 to 51, not 52"),
        ("honeycomb", u32::MAX, "3 to 31, not 4294967295"),
        ("honeycomb_ancillas", 2, "3 to 31, not 2"),
        ("shyps", 5, "4, 8 or 16, not 5"),
        ("toric", 3, "known: surface_code, bacon_shor, honeycomb, honeycomb_ancillas, shyps"),
    ] {
        assert!(error(name, distance).contains(said), "{}", error(name, distance));
    }
    for (name, distance) in
        [("surface_code", 51), ("bacon_shor", 51), ("honeycomb", 31), ("honeycomb_ancillas", 31), ("shyps", 16)]
    {
        let code = by_name(name, distance).expect("in range");
        assert_eq!((code.name(), code.distance()), (name, distance));
        let circuit = code.memory(Pauli::Z, 1);
        assert_eq!(circuit.qubits(), code.physical_qubits());
        let places: HashSet<String> = circuit.coordinates.iter().map(|(_, at)| format!("{at:?}")).collect();
        assert_eq!(places.len() as u32, code.physical_qubits());
        assert!(circuit.coordinates.iter().zip(0..).all(|((q, _), i)| *q == i));
    }
    assert!(Subsystem::shyps(6).is_err());
}
