#![allow(unreachable_pub, missing_docs, dead_code)]

pub mod checked;
pub mod dice;
pub mod images;
pub mod model;

use proptest::prelude::ProptestConfig;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};

/// Draws the same cases every time.
pub fn runner(cases: u32) -> TestRunner {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}
