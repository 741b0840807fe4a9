//! Targets for fuzzers: plain functions of bytes that panic where something is wrong.
//!
//! `fuzz/` hands them to libFuzzer, where that is installed. [`drive`] mutates seeds for a while on any toolchain.

use crate::judge::admissible;
use crate::rng::Rng;
use qmk_abi::rpc::{Reply, Request, RpcError, json};
use qmk_kernel::abi::Rights;
use qmk_kernel::abi::image::Image;
use qmk_kernel::{Limits, admit};
use qmk_qvm::{Format, Graph, ParseOptions};
use std::time::{Duration, Instant};

/// A function of bytes.
pub type Target = fn(&[u8]);

/// All targets, by name.
pub const TARGETS: [(&str, Target); 6] = [
    ("json_graph", json_graph),
    ("assembly", assembly),
    ("stim", stim),
    ("rpc_text", rpc_text),
    ("rpc_frame", rpc_frame),
    ("image", image),
];

/// A program in JSON: it is read, or refused with findings; a valid one can be lowered and written out again.
pub fn json_graph(bytes: &[u8]) {
    graph(bytes, Format::Json);
}

/// A program in assembly, likewise.
pub fn assembly(bytes: &[u8]) {
    graph(bytes, Format::Asm);
}

fn graph(bytes: &[u8], format: Format) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(graph) = qmk_qvm::parse(text, format, &ParseOptions::default()) else { return };
    let valid = qmk_qvm::verify(&graph).iter().all(|f| f.severity != qmk_qvm::Severity::Error);
    assert_eq!(qmk_qvm::lower(&graph).is_ok(), valid, "the verifier and the lowering disagree");
    if valid {
        let written = graph.to_json().to_string();
        let again: Result<Graph, _> = qmk_qvm::parse(&written, Format::Json, &ParseOptions::default());
        assert_eq!(again.map(|g| g.to_json().to_string()).ok(), Some(written), "a graph that is read again is another");
    }
}

/// A circuit or an error model of Stim: what is read can be written, and reads as the same.
pub fn stim(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(circuit) = qmk_qec::stim::import(text) {
        let written = qmk_qec::stim::export(&circuit);
        let again = qmk_qec::stim::import(&written).map(|c| qmk_qec::stim::export(&c));
        assert_eq!(again.ok(), Some(written), "a circuit that is read again is another");
    }
    _ = qmk_qec::stim::import_model(text);
}

/// The method and the params of a request in JSON, on a line each: they are a request, which keeps its meaning when it
/// is written, or an error.
pub fn rpc_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (method, params) = text.split_once('\n').unwrap_or((text, "{}"));
    if let Ok(request) = json::request_from_text(method, params) {
        _ = json::request_to_json(&request, 1);
    }
}

/// A frame of the binary form: a request or a reply that is written as it was read, or none.
pub fn rpc_frame(bytes: &[u8]) {
    if let Ok(request) = postcard::from_bytes::<Request>(bytes) {
        let written = postcard::to_allocvec(&request).expect("a request can be written");
        assert!(postcard::from_bytes::<Request>(&written).is_ok(), "{request:?}");
    }
    if let Ok(Ok(reply)) = postcard::from_bytes::<Result<Reply, RpcError>>(bytes) {
        _ = json::result_to_json(&reply);
    }
}

/// An image in postcard's format: admission agrees with the slow judge.
pub fn image(bytes: &[u8]) {
    let Ok(image) = postcard::from_bytes::<Image>(bytes) else { return };
    // The judge takes time with the square of the length.
    if image.code.len() > 200 || image.qubits > 1 << 10 || image.events > 1 << 10 || image.terms.len() > 200 {
        return;
    }
    let fits = admissible(&image, Rights::all());
    assert_eq!(admit(image, Rights::all(), Limits::default()).is_ok(), fits, "admission and the judge disagree");
}

/// Hands mutations of seeds to a target for some time. Returns how many.
///
/// # Panics
/// If the target does.
pub fn drive(target: Target, seeds: &[Vec<u8>], seed: u64, time: Duration) -> u64 {
    let (mut rng, start, mut count) = (Rng::new(seed), Instant::now(), 0);
    seeds.iter().for_each(|bytes| target(bytes));
    while start.elapsed() < time {
        let mut bytes = rng.pick(seeds);
        for _ in 0..1 + rng.below(4) {
            mutate(&mut bytes, seeds, &mut rng);
        }
        target(&bytes);
        count += 1;
    }
    count
}

/// One change: of a bit, of a byte, of a part, or a part of another seed.
fn mutate(bytes: &mut Vec<u8>, seeds: &[Vec<u8>], rng: &mut Rng) {
    let (at, length) = (rng.below(bytes.len() + 1), rng.below(24));
    let end = (at + length).min(bytes.len());
    match rng.below(6) {
        0 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
        1 if at < bytes.len() => bytes[at] = rng.next() as u8,
        2 => bytes.insert(at, rng.next() as u8),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let part = bytes[at..end].to_vec();
            bytes.splice(at..at, part);
        }
        _ => {
            let other = rng.pick(seeds);
            let from = rng.below(other.len() + 1);
            let part = other[from..other.len().min(from + length)].to_vec();
            bytes.splice(at..end, part);
        }
    }
}
