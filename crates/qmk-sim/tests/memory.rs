//! What large programs take: read from the kernel's account of this process, so each figure has a process of its own.
#![cfg(target_os = "linux")]

use qmk_abi::image::{Clifford1, Clifford2, Image, Instr, Op, Pauli};
use qmk_hal::{Device, Inline, SpaceSpec};
use qmk_sim::{SimConfig, SimDevice};
use std::process::Command;
use std::sync::Arc;

fn image(qubits: u32, gates: impl Iterator<Item = Op>) -> Image {
    let measure = (0..qubits).map(|q| Op::Measure(Pauli::Z, q, q));
    let ops = (0..qubits).map(Op::Alloc).chain(gates).chain(measure).chain((0..qubits).map(Op::Free));
    Image { qubits, events: qubits, code: ops.map(|op| Instr { op, cond: None }).collect(), terms: Vec::new() }
}

fn pairs(n: u32) -> Image {
    image(n, (0..n).step_by(2).flat_map(|q| [Op::Clifford1(Clifford1::H, q), Op::Clifford2(Clifford2::Cnot, q, q + 1)]))
}

/// One state of n qubits, every row of which is looked at.
fn chain(n: u32) -> Image {
    let h = move || (0..n).map(|q| Op::Clifford1(Clifford1::H, q));
    image(n, h().chain((1..n).map(|q| Op::Clifford2(Clifford2::Cz, q - 1, q))).chain(h()))
}

fn run(image: Image, shots: u64) -> Vec<u8> {
    let mut device = SimDevice::new(SimConfig { logical_qubits: 200_000, ..SimConfig::default() });
    let instructions = image.code.len() as u32;
    let spec = SpaceSpec { image: Arc::new(image), shots, seed: 1, max_active: 26, ..SpaceSpec::default() };
    let space = device.open(spec).expect("it fits");
    (0..instructions).for_each(|i| device.issue(space, i).expect("in range"));
    while device.work(space, u64::MAX).expect("no fault").shots_done < shots {}
    let mut out = Vec::new();
    device.outcomes(space, 0, shots as u32, &mut out);
    out
}

fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|l| l.starts_with("VmHWM:")).expect("a peak");
    line.split_whitespace().nth(1).expect("a number").parse::<u64>().expect("in kB") << 10
}

/// Runs one of the ignored tests, which prints its peak, alone.
fn peak_of(test: &str) -> u64 {
    let me = std::env::current_exe().expect("a path");
    let out = Command::new(me).args([test, "--exact", "--ignored", "--nocapture"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}");
    let peak = text.split("peak=").nth(1).expect("a peak").split_whitespace().next().expect("a number");
    peak.parse().expect("a number")
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn fifty_thousand_pairs() {
    let out = run(pairs(100_000), 1);
    assert!(out.iter().all(|b| (0..8).step_by(2).all(|i| [0b00, 0b11].contains(&(b >> i & 3)))));
    println!("peak={}", peak_bytes());
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn fifty_thousand_pairs_planned() {
    assert_eq!(run(pairs(100_000), 1000).len(), 1000 * 12_500);
    println!("peak={}", peak_bytes());
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn a_chain() {
    assert_eq!(run(chain(10_000), 1).len(), 1250);
    println!("peak={}", peak_bytes());
}

#[test]
#[ignore = "run by another test in a process of its own"]
fn as_many_qubits_in_pairs() {
    assert_eq!(run(pairs(10_000), 1).len(), 1250);
    println!("peak={}", peak_bytes());
}

#[test]
fn small_programs_do_not_pay_for_large_ones() {
    for test in ["fifty_thousand_pairs", "fifty_thousand_pairs_planned"] {
        let peak = peak_of(test);
        assert!(peak < 1 << 30, "{test} took {} MiB", peak >> 20);
        println!("{test}: {} MiB", peak >> 20);
    }
}

#[test]
fn a_tableau_takes_at_most_twice_its_bits() {
    let bytes = 4 * 10_000u64 * 10_000 / 8;
    let peak = peak_of("a_chain") - peak_of("as_many_qubits_in_pairs");
    assert!(peak < 2 * bytes, "{} MiB for {} MiB of bits", peak >> 20, bytes >> 20);
    println!("{} MiB for {} MiB of bits", peak >> 20, bytes >> 20);
}
