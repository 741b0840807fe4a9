//! The quick tier of the tests: without those that search for long.

use crate::tidy::texts::{self, Text};
use std::path::Path;

/// Tests that take more than a few seconds in the dev profile, and what they look for. A change that one of them may
/// fail on is tested with `cargo xtask test`.
const LONG: [(&str, &str); 26] = [
    ("no_sequence_of_calls_does_harm", "kernel: system calls of random bytes"),
    ("every_state_of_small_tables_keeps_every_promise", "kernel: exhaustive search"),
    ("every_state_of_shared_qubits_keeps_tenants_apart", "kernel: exhaustive search"),
    ("every_state_of_two_tenants_keeps_every_promise", "kernel: exhaustive search of channels"),
    ("every_state_of_three_tenants_that_swap_keeps_every_promise", "kernel: exhaustive search of channels"),
    ("random_calls_of_three_domains_keep_every_promise", "kernel: random calls against the model"),
    ("admission_agrees_with_the_slow_judge", "kernel: random images against the judge"),
    ("any_bytes_are_judged_and_what_is_admitted_runs", "kernel: images of random bytes"),
    ("pairs_are_as_noisy_as_the_kernel_says", "kernel: statistics of channels"),
    ("a_killed_server_keeps_its_word", "server: 200 kills"),
    ("noise_leaves_the_server_standing", "server: random bytes"),
    ("mutated_messages_leave_the_server_standing", "server: 2,000 damaged messages"),
    ("small_texts_of_large_programs_take_little_memory", "server: programs of 900,000 nodes"),
    ("half_messages_and_readers_that_do_not_read_lose_their_thread", "server: deadlines of slow clients"),
    ("a_scraper_that_stalls_holds_no_one_for_long", "server: deadlines of slow scrapers"),
    ("a_sudden_end_between_any_two_events_loses_nothing_that_was_answered", "services: every cut of a journal"),
    ("flipped_bits_in_the_store_change_no_answer", "services: 60 damaged stores"),
    ("random_machines_never_panic", "estimate: 4,000 random machines"),
    ("the_longest_search_ends", "estimate: 45 large searches"),
    ("two_thousand_random_programs_match_amplitude_by_amplitude", "simulator: against the dense reference"),
    ("random_programs_on_linked_spaces_match_amplitude_by_amplitude", "simulator: against the dense reference"),
    ("random_graphs_have_their_exact_distributions", "language and simulator: statistics"),
    ("logical_errors_are_as_frequent_as_those_of_stim_and_pymatching", "error correction: statistics"),
    ("logical_errors_at_all_shots", "error correction: statistics"),
    ("circuits_have_the_distance_of_their_code", "error correction: searches for light errors"),
    ("the_output_for_examples_is_as_recorded", "command line: recordings of all examples"),
];

/// Arguments of `cargo test` that leave them out.
///
/// # Errors
/// Names in the list that no test has.
pub(crate) fn arguments(root: &Path) -> Result<Vec<String>, String> {
    let names = LONG.map(|(name, _)| name);
    let unknown = without_test(&names, &texts::read(root)?);
    if !unknown.is_empty() {
        return Err(format!("xtask/src/quick.rs: no test has the name {}", unknown.join(", ")));
    }
    Ok(names.iter().flat_map(|name| ["--skip", name]).map(String::from).collect())
}

/// The names that no function in the texts has.
fn without_test<'n>(names: &[&'n str], texts: &[Text]) -> Vec<&'n str> {
    let has = |name: &str| {
        let head = format!("fn {name}(");
        texts.iter().any(|text| text.is_rust() && text.body.contains(&head))
    };
    names.iter().copied().filter(|name| !has(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_long_test_exists() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        assert_eq!(arguments(&root).map(|args| args.len()), Ok(2 * LONG.len()));
    }

    #[test]
    fn a_name_without_a_test_is_found() {
        let text = |path: &str, body: &str| Text { path: path.into(), body: body.into() };
        let texts = [text("tests/a.rs", "#[test]\nfn searches_long() {}"), text("a.md", "fn written_about() {}")];
        assert_eq!(
            without_test(&["searches_long", "searches", "written_about"], &texts),
            ["searches", "written_about"]
        );
    }
}
