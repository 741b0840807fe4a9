//! Every program of `examples/` on the embedded machine, against the exact distribution of the dense reference.

use qmk_client::{Client, Policy, Program, Session};
use qmk_qvm::{Graph, ParseOptions};
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimDevice;
use qmk_testkit::statistics::chi_square_p;
use qmk_tests::exact::distribution;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// False-alarm rate of each chi-square test, 3e-5 for all examples together; seeds are fixed, so a failure is no
/// accident to be run again.
const ALPHA: f64 = 1e-6;

fn examples() -> Vec<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut files: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    files
}

fn read(path: &Path, params: &[(&str, &str)]) -> Graph {
    let text = std::fs::read_to_string(path).unwrap();
    let params = params.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    let options = ParseOptions { params, ..ParseOptions::default() };
    let format = qmk_qvm::detect_format(&path.to_string_lossy(), &text);
    qmk_qvm::parse(&text, format, &options).unwrap_or_else(|e| panic!("{}: {e:?}", path.display()))
}

fn example(name: &str, params: &[(&str, &str)]) -> Graph {
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name), params)
}

fn with_session<T>(f: impl FnOnce(&Session) -> T) -> T {
    let machine = Machine::start(SimDevice::default(), MachineConfig::default());
    f(&Client::over(machine.connect()).session_default().unwrap())
}

fn counts(session: &Session, graph: &Graph, shots: u64, seed: u64) -> BTreeMap<String, u64> {
    let program = Program::json(graph.to_json().to_string());
    session.run(&program, Policy { shots, seed, ..Policy::default() }).unwrap().report.counts
}

#[test]
fn every_example_has_its_exact_distribution() {
    let files = examples();
    assert!(files.len() >= 14, "only {} examples", files.len());
    with_session(|session| {
        for path in files {
            let graph = read(&path, &[]);
            assert_eq!(qmk_qvm::verify(&graph), [], "{}", path.display());
            let exact = distribution(&graph);
            assert!((exact.values().sum::<f64>() - 1.0).abs() < 1e-9, "{}", path.display());
            let counts = counts(session, &graph, 20_000, 17);
            let p = chi_square_p(&counts, &exact);
            assert!(p > ALPHA, "{}: p = {p:e}\n{counts:?}\n{exact:?}", path.display());
        }
    });
}

/// The distribution that the reference has for an example. The tests below compare it with what the textbooks say, so
/// that a wrong example and a wrong reference cannot agree.
fn exact(name: &str, params: &[(&str, &str)]) -> BTreeMap<String, f64> {
    distribution(&example(name, params))
}

fn is(d: &BTreeMap<String, f64>, key: &str, p: f64) {
    let got = d.get(key).copied().unwrap_or(0.0);
    assert!((got - p).abs() < 1e-9, "p({key}) = {got}, not {p}");
}

/// The probability of the outcomes that are wanted.
fn sum(d: &BTreeMap<String, f64>, wanted: impl Fn(&str) -> bool) -> f64 {
    d.iter().filter(|(k, _)| wanted(k)).map(|(_, p)| p).sum()
}

#[test]
fn states_are_the_textbooks() {
    let bell = exact("bell.qvm", &[]);
    is(&bell, "00", 0.5);
    is(&bell, "11", 0.5);
    let ghz = exact("ghz.qvm", &[("n", "6")]);
    is(&ghz, "000000", 0.5);
    is(&ghz, "111111", 0.5);
    let w = exact("w_state.qvm", &[]);
    for one in ["1000", "0100", "0010", "0001"] {
        is(&w, one, 0.25);
    }
    for parities in 0..8 {
        is(&exact("ghz_by_measurement.qvm", &[]), &format!("{parities:03b}0000"), 1.0 / 16.0);
        is(&exact("ghz_by_measurement.qvm", &[]), &format!("{parities:03b}1111"), 1.0 / 16.0);
    }
    let magic = exact("magic_state.qvm", &[]);
    is(&magic, "00", (std::f64::consts::PI / 8.0).cos().powi(2) / 2.0);
    is(&magic, "10", (std::f64::consts::PI / 8.0).cos().powi(2) / 2.0);
}

#[test]
fn algorithms_find_what_the_textbooks_say() {
    is(&exact("grover.qvm", &[]), "101", 121.0 / 128.0);
    is(&exact("bernstein_vazirani.qvm", &[]), "101101", 1.0);
    is(&exact("deutsch_jozsa.qvm", &[]), "000", 0.0);
    let qft = exact("qft.qvm", &[]);
    for high in ["00", "01", "10", "11"] {
        is(&qft, &format!("00{high}"), 0.25);
    }
    for (a, b) in [(0u32, 0u32), (5, 6), (7, 7), (3, 4)] {
        let d = exact("cuccaro_adder.qvm", &[("a", &a.to_string()), ("b", &b.to_string())]);
        is(&d, &format!("{:04b}", a + b), 1.0);
    }
    is(&exact("hidden_shift.qvm", &[]), "101101", 1.0);
    for y in ["000", "001", "110", "111"] {
        is(&exact("simon.qvm", &[]), y, 0.25);
    }
    // An even number of steps reaches no odd site.
    let walk = exact("quantum_walk.qvm", &[]);
    for (site, p) in [("000", 0.125), ("010", 0.375), ("100", 0.125), ("110", 0.375)] {
        is(&walk, site, p);
    }
}

#[test]
fn estimated_phases_are_those_of_the_textbooks() {
    // p(y) = sin^2(16 d) / (256 sin^2 d), d = pi (phi - y/16); the iterative form reads the same bits, low first.
    let peak = |phi: f64, y: u32| {
        let d = std::f64::consts::PI * (phi - y as f64 / 16.0);
        (16.0 * d).sin().powi(2) / (256.0 * d.sin().powi(2))
    };
    let estimate = exact("phase_estimation.qvm", &[]);
    let iterative = exact("iterative_phase_estimation.qvm", &[]);
    for y in 0..16u32 {
        is(&estimate, &format!("{y:04b}"), peak(0.3, y));
        is(&iterative, &format!("{:04b}", y.reverse_bits() >> 28), peak(0.3325, y));
    }
}

#[test]
fn protocols_do_what_the_textbooks_say() {
    for (b1, b0) in [("0", "0"), ("0", "1"), ("1", "0"), ("1", "1")] {
        is(&exact("superdense_coding.qvm", &[("b1", b1), ("b0", b0)]), &format!("{b1}{b0}"), 1.0);
    }
    for bits in ["000", "010", "100", "110"] {
        is(&exact("teleportation.qvm", &[]), bits, 0.25);
    }
    is(&exact("teleported_cnot.qvm", &[]), "00", 0.6f64.cos().powi(2));
    // After the corrections the outer pair is in Bell state 0, whatever the middle read.
    let swapped = exact("entanglement_swapping.qvm.json", &[]);
    assert!((sum(&swapped, |k| k.ends_with("00")) - 1.0).abs() < 1e-9);
    let p = 0.4f64.sin().powi(2);
    let elected = sum(&exact("majority_vote.qvm.json", &[]), |k| k.ends_with('1'));
    assert!((elected - (3.0 * p * p - 2.0 * p.powi(3))).abs() < 1e-9);
    // Three qubits, each flipped with p = sin^2(t/2): the code fails when two or three flip.
    let p = 0.3f64.sin().powi(2);
    let failed = sum(&exact("repetition_code.qvm", &[]), |k| &k[2..3] == "1");
    assert!((failed - (3.0 * p * p * (1.0 - p) + p.powi(3))).abs() < 1e-9);
}

#[test]
fn inequalities_are_violated_by_as_much_as_the_textbooks_say() {
    let chsh = exact("chsh.qvm", &[]);
    let correlation = |pair: usize| -> f64 {
        let sign = |k: &String| if k[2 * pair..=2 * pair] == k[2 * pair + 1..=2 * pair + 1] { 1.0 } else { -1.0 };
        chsh.iter().map(|(k, p)| sign(k) * p).sum()
    };
    let s = correlation(0) + correlation(1) + correlation(2) - correlation(3);
    assert!((s - 8f64.sqrt()).abs() < 1e-9, "S = {s}");

    let mermin = exact("mermin.qvm", &[]);
    for (line, odd) in [false, true, true, true].into_iter().enumerate() {
        let ones = |k: &str| k[3 * line..3 * line + 3].matches('1').count();
        assert!((sum(&mermin, |k| (ones(k) % 2 == 1) == odd) - 1.0).abs() < 1e-9, "line {line}");
    }
}

#[test]
fn ghz_on_a_thousand_qubits_is_all_or_nothing_and_repeats() {
    let graph = example("ghz.qvm", &[("n", "1000")]);
    let first = with_session(|session| {
        let first = counts(session, &graph, 1000, 3);
        let exact = ["0", "1"].map(|bit| (bit.repeat(1000), 0.5)).into();
        assert!(chi_square_p(&first, &exact) > ALPHA, "{:?}", first.values());
        assert_eq!(counts(session, &graph, 1000, 3), first);
        assert_ne!(counts(session, &graph, 1000, 4), first);
        first
    });
    // Another machine, the same seed.
    with_session(|session| assert_eq!(counts(session, &graph, 1000, 3), first));
}

#[test]
fn a_wrong_distribution_is_seen() {
    let biased = example("w_state.qvm", &[]);
    let mut exact = distribution(&biased);
    *exact.get_mut("1000").unwrap() -= 0.03;
    *exact.get_mut("0001").unwrap() += 0.03;
    with_session(|session| assert!(chi_square_p(&counts(session, &biased, 20_000, 17), &exact) < ALPHA));
}
