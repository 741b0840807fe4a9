//! The operations behind an opcode, for qubits that are held one by one.

use crate::errors::invalid;
use qmk_abi::image::Op;
use qmk_abi::rpc::RpcError;
use qmk_abi::rpc::interactive::Apply;
use qmk_qvm::{Graph, Node, Opcode, Resources};

/// The operations that an opcode stands for, over registers `0..arity`. The verifier and the lowering of programs do
/// the work, so that an operation means the same here and there.
pub(super) fn operations(p: &Apply) -> Result<Vec<Op>, RpcError> {
    let shown: String = p.op.chars().take(60).collect();
    match p.op.as_str() {
        "ALLOC_LQ" => return invalid("ALLOC_LQ has a method of its own: q_alloc"),
        "FREE_LQ" => return invalid("FREE_LQ has a method of its own: q_release"),
        "OPEN_CHAN" | "USE_CHAN" | "CLOSE_CHAN" => {
            return invalid(format!("{shown} has methods of its own: q_open_chan and so on"));
        }
        "COND_PAULI" | "FENCE_EPOCH" | "BAR_REGION" | "SET_POLICY" => {
            return invalid(format!(
                "{shown} makes no sense for qubits held one by one; the caller decides what follows"
            ));
        }
        _ => {}
    }
    if p.qubits.is_empty() || p.qubits.len() > 3 {
        return invalid(format!("{shown}: operations take 1 to 3 qubits, {} are given", p.qubits.len()));
    }
    if p.theta.is_some_and(|t| !t.is_finite()) {
        return invalid(format!("{shown}: the angle is not finite"));
    }
    let vqs: Vec<String> = (0..p.qubits.len()).map(|i| format!("q{i}")).collect();
    let events: &[&str] = match p.op.as_str() {
        "MEASURE_BELL" => &["m0", "m1"],
        op if op.starts_with("MEASURE_") => &["m0"],
        _ => &[],
    };
    let Some(op) = Opcode::from_name(&p.op) else {
        return invalid(format!("unknown operation {shown:?}{}", Opcode::hint(&p.op)));
    };
    let node = |id: &str, op, produces: &[&str]| Node {
        id: id.into(),
        op,
        args: Default::default(),
        vqs: vqs.clone(),
        chs: Vec::new(),
        inputs: Vec::new(),
        produces: produces.iter().map(ToString::to_string).collect(),
        caps: Vec::new(),
        guard: None,
        line: None,
    };
    let mut nodes = vec![node("alloc", Opcode::AllocLq, &[]), node("op", op, events)];
    if let Some(theta) = p.theta {
        let name = if p.op == "MEASURE_ANGLE" { "angle" } else { "theta" };
        nodes[1].args.insert(name.into(), theta.into());
    }
    let events = nodes[1].produces.clone();
    let resources = Resources { vqs: vqs.clone(), chs: Vec::new(), events };
    let lowered = qmk_qvm::lower(&Graph { nodes, resources, ..Graph::default() });
    match lowered {
        Ok(lowered) => {
            let ops = lowered.image.code.into_iter().map(|i| i.op);
            Ok(ops.filter(|op| !matches!(op, Op::Alloc(_) | Op::Free(_) | Op::Fence)).collect())
        }
        Err(findings) => {
            let error = findings.into_iter().find(|f| f.severity == qmk_qvm::Severity::Error);
            invalid(format!("{shown}: {}", error.map_or("not an operation".into(), |f| f.message)))
        }
    }
}
