//! Random graphs with mid-circuit measurement, guards, resets and conditional Paulis, through every layer, against the
//! exact distribution of the dense reference.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use qmk_client::{Client, Policy, Program};
use qmk_qvm::{Format, ParseOptions};
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimDevice;
use qmk_testkit::statistics::chi_square_p;
use qmk_tests::exact::distribution;
use std::fmt::Write;

const GRAPHS: usize = 1000;
/// A false alarm in one run of all graphs happens once in a million choices of the seed.
const ALPHA: f64 = 1e-6 / GRAPHS as f64;

type Draw = (u8, [u8; 6], f64, [u8; 4]);

/// Assembly of a program, as far as it is drawn.
struct Assembly {
    qubits: usize,
    text: String,
    events: Vec<String>,
}

/// Assembly of a program of n qubits: one line per draw.
fn program(n: usize, draws: &[Draw]) -> String {
    let qubits: Vec<String> = (0..n).map(|i| format!("q{i}")).collect();
    let text = format!("ALLOC_LQ -> {}\n", qubits.join(", "));
    let mut program = Assembly { qubits: n, text, events: Vec::new() };
    draws.iter().enumerate().for_each(|(i, draw)| program.line(i, draw));
    let mut text = program.text;
    for (i, q) in qubits.iter().enumerate() {
        _ = writeln!(text, "MEASURE_Z {q} -> z{i}");
    }
    _ = writeln!(text, "FREE_LQ {}", qubits.join(", "));
    text
}

impl Assembly {
    /// The line of the i-th draw.
    fn line(&mut self, i: usize, draw: &Draw) {
        let (mut line, made) = self.operation(i, draw);
        let conditions = &draw.3;
        // One line in three is guarded; those that hold several operations never.
        if !line.contains('\n') && conditions[2].is_multiple_of(3) && !self.events.is_empty() {
            line += &self.guard(conditions);
        }
        _ = writeln!(self.text, "{line}");
        self.events.extend(["e", "f"][..made].iter().map(|e| format!("{e}{i}")));
    }

    fn event(&self, c: u8) -> &str {
        &self.events[c as usize % self.events.len()]
    }

    fn guard(&self, conditions: &[u8; 4]) -> String {
        let term = |c: u8| format!("{}=={}", self.event(c), c / 128);
        match conditions[2] % 4 {
            0 => format!(" if {}", term(conditions[0])),
            1 => format!(" if {} && {}", term(conditions[0]), term(conditions[1])),
            2 => format!(" if {} || {}", term(conditions[0]), term(conditions[1])),
            _ => {
                let (a, b, c) = (term(conditions[0]), term(conditions[1]), term(conditions[3]));
                format!(" if ({a} && {b}) || {c}")
            }
        }
    }

    /// The i-th operation without a guard, and the number of events that it writes.
    fn operation(&self, i: usize, (what, operands, angle, conditions): &Draw) -> (String, usize) {
        let mut distinct: Vec<usize> = Vec::new();
        for (k, &o) in operands.iter().enumerate() {
            let candidate = (o as usize + k) % self.qubits;
            if !distinct.contains(&candidate) {
                distinct.push(candidate);
            }
        }
        let q = |k: usize| format!("q{}", distinct[k % distinct.len()]);
        let enough = |k: usize| distinct.len() >= k;
        let gates = ["H", "S", "SDG", "X", "Y", "Z", "SX", "SXDG", "T", "TDG"];
        let silent = |line| (line, 0);
        match what % 32 {
            g @ 0..=9 => silent(format!("APPLY_{} {}", gates[g as usize], q(0))),
            g @ 10..=13 => {
                silent(format!("APPLY_{} {}, theta={angle}", ["RX", "RY", "RZ", "P"][g as usize - 10], q(0)))
            }
            g @ 14..=19 if enough(2) => {
                let name = ["APPLY_CNOT", "APPLY_CZ", "APPLY_SWAP", "TELEPORT_CNOT", "APPLY_CNOT", "APPLY_CZ"];
                silent(format!("{} {}, {}", name[g as usize - 14], q(0), q(1)))
            }
            g @ 20..=21 if enough(3) => {
                let name = ["APPLY_TOFFOLI", "APPLY_CCZ"][g as usize - 20];
                silent(format!("{name} {}, {}, {}", q(0), q(1), q(2)))
            }
            22 => silent(format!("RESET {}", q(0))),
            23 => silent(format!("RESET {}\nINJECT_T_STATE {}", q(0), q(0))),
            24 => {
                silent(format!("RESET {0}\nALLOC_LQ -> x{i}\nAPPLY_H x{i}\nAPPLY_CNOT x{i}, {0}\nFREE_LQ x{i}", q(0)))
            }
            g @ 25..=27 => (format!("MEASURE_{} {} -> e{i}", ["X", "Y", "Z"][g as usize - 25], q(0)), 1),
            28 => (format!("MEASURE_ANGLE {}, angle={angle} -> e{i}", q(0)), 1),
            29 if enough(2) => (format!("MEASURE_BELL {}, {} -> e{i}, f{i}", q(0), q(1)), 2),
            30 | 31 if enough(2) && !self.events.is_empty() => {
                let inputs = [self.event(conditions[0]), self.event(conditions[1])];
                let letters = ["X", "Y", "Z", "I"];
                let mask = format!("{}{}", letters[*what as usize / 32 % 3], letters[conditions[3] as usize % 4]);
                let inputs = if inputs[0] == inputs[1] { inputs[0].to_string() } else { inputs.join(", ") };
                silent(format!("COND_PAULI {}, {}, mask=\"{mask}\", inputs=[{inputs}]", q(0), q(1)))
            }
            _ => silent(format!("APPLY_H {}", q(0))),
        }
    }
}

#[test]
fn random_graphs_have_their_exact_distributions() {
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let draw = (any::<u8>(), any::<[u8; 6]>(), -7.0..7.0f64, any::<[u8; 4]>());
    let strategy = (1..=8usize, proptest::collection::vec(draw, 1..16));
    let machine = Machine::start(SimDevice::default(), MachineConfig::default());
    let session = Client::over(machine.connect()).session_default().unwrap();
    let mut guarded = 0;
    for seed in 0..GRAPHS {
        let (n, draws) = strategy.new_tree(&mut runner).unwrap().current();
        let text = program(n, &draws);
        guarded += text.contains(" if ") as usize;
        let graph =
            qmk_qvm::parse(&text, Format::Asm, &ParseOptions::default()).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        let policy = Policy { shots: 2000, seed: seed as u64, ..Policy::default() };
        let counts =
            session.run(&Program::asm(text.as_str()), policy).unwrap_or_else(|e| panic!("{e}\n{text}")).report.counts;
        let exact = distribution(&graph);
        let p = chi_square_p(&counts, &exact);
        assert!(p > ALPHA, "p = {p:e}\n{text}\n{counts:?}\n{exact:?}");
    }
    assert!(guarded > GRAPHS / 4, "only {guarded} graphs hold a guard");
}
