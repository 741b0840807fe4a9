//! The exact outcome distribution of a QVM graph, read from the graph itself: dense states, one branch per outcome.

use qmk_qvm::{Graph, Guard, Node};
use qmk_testkit::dense::{Dense, Gate, gates};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::f64::consts::FRAC_PI_2;

#[derive(Clone)]
struct Branch {
    probability: f64,
    state: Dense,
    /// Value of each event produced so far.
    events: HashMap<String, u8>,
}

/// Probability of each outcome string: one character per declared event, two for a Bell index; skipped events read 0.
///
/// # Panics
/// On operations that have no meaning on one machine (channels), and on graphs that are not valid.
pub fn distribution(graph: &Graph) -> BTreeMap<String, f64> {
    let qubits: HashMap<&str, usize> = graph.resources.vqs.iter().enumerate().map(|(i, q)| (q.as_str(), i)).collect();
    let mut branches = vec![Branch { probability: 1.0, state: Dense::new(qubits.len()), events: HashMap::new() }];
    for node in in_order(graph) {
        let q: Vec<usize> = node.vqs.iter().map(|v| qubits[v.as_str()]).collect();
        branches = branches.into_iter().flat_map(|b| step(node, &q, b)).collect();
    }
    let bell = |e: &str| graph.nodes.iter().any(|n| n.op.name() == "MEASURE_BELL" && n.produces == [e]);
    let mut out = BTreeMap::new();
    for b in branches {
        let key = graph.resources.events.iter().map(|e| {
            let value = b.events.get(e).copied().unwrap_or(0);
            if bell(e) { format!("{}{}", value >> 1, value & 1) } else { value.to_string() }
        });
        *out.entry(key.collect()).or_insert(0.0) += b.probability;
    }
    out
}

/// Nodes in an order in which every event is produced before it is read and each qubit's nodes keep theirs.
fn in_order(graph: &Graph) -> Vec<&Node> {
    let made: HashSet<&str> = graph.nodes.iter().flat_map(|n| &n.produces).map(String::as_str).collect();
    let (mut waiting, mut known, mut order) = (graph.nodes.iter().collect::<Vec<_>>(), HashSet::new(), Vec::new());
    while !waiting.is_empty() {
        let mut blocked: HashSet<&str> = HashSet::new();
        let before = waiting.len();
        let (mut late, mut fenced) = (false, false);
        waiting.retain(|n| {
            let mut reads: Vec<&str> = n.inputs.iter().map(String::as_str).collect();
            if let Some(g) = &n.guard {
                g.events(&mut |e| reads.push(e));
            }
            let fence = n.op.name() == "FENCE_EPOCH";
            let ready = !fenced
                && (!fence || !late)
                && n.vqs.iter().all(|q| !blocked.contains(q.as_str()))
                && reads.iter().all(|e| known.contains(e) || !made.contains(e));
            if ready {
                known.extend(n.produces.iter().map(String::as_str));
                order.push(*n);
            } else {
                late = true;
                fenced |= fence;
                blocked.extend(n.vqs.iter().map(String::as_str));
            }
            !ready
        });
        assert!(waiting.len() < before, "the graph has a cycle");
    }
    order
}

fn holds(guard: &Guard, events: &HashMap<String, u8>) -> bool {
    match guard {
        Guard::Equals(e, v) => events.get(e).copied().unwrap_or(0) == *v,
        Guard::And(parts) => parts.iter().all(|g| holds(g, events)),
        Guard::Or(parts) => parts.iter().any(|g| holds(g, events)),
    }
}

fn step(node: &Node, q: &[usize], mut b: Branch) -> Vec<Branch> {
    if node.guard.as_ref().is_some_and(|g| !holds(g, &b.events)) {
        return vec![b];
    }
    let angle = |key: &str| node.args[key].as_f64().expect("an angle");
    let s = &mut b.state;
    match node.op.name() {
        "ALLOC_LQ" | "FENCE_EPOCH" | "BAR_REGION" | "SET_POLICY" => {}
        "APPLY_H" => s.apply(&gates::H, &[], q[0]),
        "APPLY_X" => s.apply(&gates::X, &[], q[0]),
        "APPLY_Y" => s.apply(&gates::Y, &[], q[0]),
        "APPLY_Z" => s.apply(&gates::Z, &[], q[0]),
        "APPLY_S" => s.apply(&gates::phase(FRAC_PI_2), &[], q[0]),
        "APPLY_SDG" => s.apply(&gates::phase(-FRAC_PI_2), &[], q[0]),
        "APPLY_SX" => s.apply(&gates::rx(FRAC_PI_2), &[], q[0]),
        "APPLY_SXDG" => s.apply(&gates::rx(-FRAC_PI_2), &[], q[0]),
        "APPLY_T" => s.apply(&gates::phase(FRAC_PI_2 / 2.0), &[], q[0]),
        "APPLY_TDG" => s.apply(&gates::phase(-FRAC_PI_2 / 2.0), &[], q[0]),
        "APPLY_RX" => s.apply(&gates::rx(angle("theta")), &[], q[0]),
        "APPLY_RY" => s.apply(&gates::ry(angle("theta")), &[], q[0]),
        "APPLY_RZ" => s.apply(&gates::rz(angle("theta")), &[], q[0]),
        "APPLY_P" => s.apply(&gates::phase(angle("theta")), &[], q[0]),
        "APPLY_CNOT" | "TELEPORT_CNOT" => s.apply(&gates::X, &[q[0]], q[1]),
        "APPLY_CZ" => s.apply(&gates::Z, &[q[0]], q[1]),
        "APPLY_SWAP" => s.swap(q[0], q[1]),
        "APPLY_TOFFOLI" => s.apply(&gates::X, &[q[0], q[1]], q[2]),
        "APPLY_CCZ" => s.apply(&gates::Z, &[q[0], q[1]], q[2]),
        "COND_PAULI" => {
            let parity = node.inputs.iter().fold(0, |p, e| p ^ b.events.get(e).copied().unwrap_or(0));
            if parity == 1 {
                for (&q, letter) in q.iter().zip(node.args["mask"].as_str().expect("a mask").chars()) {
                    match letter {
                        'X' => s.apply(&gates::X, &[], q),
                        'Y' => s.apply(&gates::Y, &[], q),
                        'Z' => s.apply(&gates::Z, &[], q),
                        _ => {}
                    }
                }
            }
        }
        "FREE_LQ" | "RESET" => {
            return q.iter().fold(vec![b], |branches, &q| branches.into_iter().flat_map(|b| reset(b, q)).collect());
        }
        "INJECT_T_STATE" => {
            return reset(b, q[0])
                .into_iter()
                .map(|mut b| {
                    b.state.apply(&gates::H, &[], q[0]);
                    b.state.apply(&gates::phase(FRAC_PI_2 / 2.0), &[], q[0]);
                    b
                })
                .collect();
        }
        "MEASURE_Z" => return measure(b, q[0], &[], &node.produces[0]),
        "MEASURE_X" => return measure(b, q[0], &[(gates::H, gates::H)], &node.produces[0]),
        "MEASURE_Y" => {
            // S H takes the Z basis to the Y basis.
            let (h, sdg, sg) = (gates::H, gates::phase(-FRAC_PI_2), gates::phase(FRAC_PI_2));
            return measure(b, q[0], &[(sdg, sg), (h, h)], &node.produces[0]);
        }
        "MEASURE_ANGLE" => {
            let a = angle("angle");
            return measure(b, q[0], &[(gates::ry(-a), gates::ry(a))], &node.produces[0]);
        }
        "MEASURE_BELL" => return bell(b, q, &node.produces),
        other => panic!("{other} has no dense reference"),
    }
    vec![b]
}

/// The one or two outcomes of measuring Z between `basis` gates and their inverses.
fn measure(mut b: Branch, q: usize, basis: &[(Gate, Gate)], event: &str) -> Vec<Branch> {
    for (forward, _) in basis {
        b.state.apply(forward, &[], q);
    }
    split(b, q)
        .into_iter()
        .map(|(mut b, value)| {
            for (_, back) in basis.iter().rev() {
                b.state.apply(back, &[], q);
            }
            b.events.insert(event.into(), value as u8);
            b
        })
        .collect()
}

fn split(b: Branch, q: usize) -> Vec<(Branch, bool)> {
    let one = b.state.probability_of_one(q);
    [(false, 1.0 - one), (true, one)]
        .into_iter()
        .filter(|(_, p)| *p > 1e-12)
        .map(|(value, p)| {
            let mut branch = b.clone();
            branch.probability *= p;
            branch.state.project(q, value);
            (branch, value)
        })
        .collect()
}

/// A reset leaves no record, so branches that end in the same state are one: without this, a qubit that is entangled
/// with nothing would double them.
fn reset(b: Branch, q: usize) -> Vec<Branch> {
    let mut cleared: Vec<Branch> = Vec::new();
    for (mut b, value) in split(b, q) {
        if value {
            b.state.apply(&gates::X, &[], q);
        }
        match cleared.first_mut().filter(|a| a.state.fidelity(&b.state.amps) > 1.0 - 1e-12) {
            Some(same) => same.probability += b.probability,
            None => cleared.push(b),
        }
    }
    cleared
}

/// CNOT and H turn the Bell basis to the Z basis: b0 is the first qubit's bit (the phase), b1 the second's (the
/// parity).
fn bell(mut b: Branch, q: &[usize], events: &[String]) -> Vec<Branch> {
    b.state.apply(&gates::X, &[q[0]], q[1]);
    b.state.apply(&gates::H, &[], q[0]);
    let mut out = Vec::new();
    for (b, first) in split(b, q[0]) {
        for (mut b, second) in split(b, q[1]) {
            b.state.apply(&gates::H, &[], q[0]);
            b.state.apply(&gates::X, &[q[0]], q[1]);
            match events {
                [index] => _ = b.events.insert(index.clone(), 2 * first as u8 + second as u8),
                [b0, b1, ..] => {
                    b.events.insert(b0.clone(), first as u8);
                    b.events.insert(b1.clone(), second as u8);
                }
                [] => {}
            }
            out.push(b);
        }
    }
    out
}
