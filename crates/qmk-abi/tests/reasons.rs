//! The reasons of refusals and their texts, which users read.

use qmk_abi::KernelError;
use qmk_abi::syscall::{BadArgument, Late, NotYet, WrongState};
use std::collections::BTreeSet;
use std::fmt::Display;

fn texts(reasons: &[impl Display]) -> Vec<String> {
    reasons.iter().map(ToString::to_string).collect()
}

#[test]
fn refused_arguments_and_states_have_the_texts_that_users_know() {
    let known = [
        "the qubit lies in another domain's space",
        "a channel joins two domains",
        "the fidelity takes more raw pairs than one channel may have",
        "the endpoints are those of one channel",
        "both channels lead to the same domain",
        "the fidelity must be above 1/4 and at most 1",
        "a region needs at least one qubit",
        "the shared region has fewer routes or magic states than that",
        "budgets are nested too deep",
        "shots must be at least 1",
        "the machine has no patches of this code and distance",
        "the strand has fewer shots than that",
        "domain ids are used up",
        "this operation has a system call of its own",
        "angle is not finite",
        "register beyond the qubits given",
        "qubits of different spaces cannot meet in one operation",
        "qubit named twice",
        "the operation names no qubit",
    ];
    assert_eq!(texts(BadArgument::ALL), known);
    let known = [
        "the endpoint belongs to another domain's qubit",
        "the pair has been used",
        "the channel is closed",
        "the qubit is half of another channel",
        "only the domain that the channel was offered to can accept it",
        "the channel is not on offer",
        "the machine cannot copy quantum states",
        "the domain holds no qubits",
        "the strand ended before it came to a fence",
        "the strand is gone",
        "the strand has ended; spawn it again",
        "qubits were taken, freed or linked since",
        "the strand has faulted",
        "all instructions of the strand have been issued",
        "a strand with a deadline keeps to its schedule",
        "the region never has what the strand's instructions need at once",
        "the qubit was freed",
    ];
    assert_eq!(texts(WrongState::ALL), known);
}

#[test]
fn what_is_missing_or_late_has_the_texts_that_users_know() {
    let known = [
        "the pair is not ready",
        "the channel has not been accepted",
        "pairs that were ordered before are still being made",
        "operations under way use the routes",
        "the shared region has deadlines to keep",
        "a strand of the shared region needs what would be taken from it",
        "the strand has not come to a fence",
        "the shot is not finished",
        "the decoders have deadlines to keep",
        "a strand has waited too long for qubits",
        "the pair of the qubit's channel is not ready",
        "there are not enough magic states in stock",
    ];
    assert_eq!(texts(NotYet::ALL), known);
    let known = [
        "the longest path of all shots takes longer",
        "the domain's magic states or epochs are limited",
        "a deadline is kept outside of contexts",
        "the domain's qubits are in use",
        "the region's qubits are in use",
        "a strand has waited too long for the region's qubits",
        "the decoders are behind, or would be",
        "the region has promised too much of late; what is always there is a region",
        "one shot takes longer than promises can be made",
        "a shot takes longer with the magic states and routes there are",
    ];
    assert_eq!(texts(Late::ALL), known);
}

#[test]
fn no_two_refusals_read_the_same() {
    let arguments = BadArgument::ALL.iter().map(|&why| KernelError::from(why));
    let states = WrongState::ALL.iter().map(|&why| KernelError::from(why));
    let pending = NotYet::ALL.iter().map(|&why| KernelError::from(why));
    let late = Late::ALL.iter().map(|&why| KernelError::Deadline { asked: 3, why });
    let all: Vec<String> = arguments.chain(states).chain(pending).chain(late).map(|e| e.to_string()).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    assert_eq!(all[0], "invalid argument: the qubit lies in another domain's space");
    let last =
        "the deadline of 3 epochs cannot be kept: a shot takes longer with the magic states and routes there are";
    assert_eq!(all[all.len() - 1], last);
}
