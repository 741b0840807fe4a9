//! The shape of single nodes: number of operands, names and types of arguments, and whether a guard is allowed.

use super::report::Verifier;
use crate::facts::{angle, mask};
use crate::graph::Node;
use crate::opcode::Kind;
use crate::profile::Profile;
use serde_json::Value;

impl Verifier<'_> {
    pub(super) fn shape(&mut self, node: &Node) {
        self.arity(node);
        if let Some(known) = node.op.args() {
            for key in node.args.keys().filter(|k| !known.contains(&k.as_str())) {
                let known =
                    if known.is_empty() { "it has none".into() } else { format!("known: {}", known.join(", ")) };
                self.report("E-ARG", Some(node), format!("{} has no argument {key:?}; {known}", node.op.name()));
            }
        }
        match node.op.kind() {
            Kind::Alloc => self.alloc_args(node),
            Kind::Rotate(_) | Kind::MeasureAngle if angle(node).is_none() => {
                let (name, key) = (node.op.name(), node.op.args().map_or("", |a| a[0]));
                self.report("E-ARG", Some(node), format!("{name} needs a finite number {key} in radians"));
            }
            Kind::CondPauli => self.pauli_mask(node),
            Kind::BarRegion if node.args.get("tag").is_some_and(|t| !t.is_string()) => {
                self.report("E-ARG", Some(node), "tag must be a string");
            }
            Kind::OpenChan => self.channel_args(node),
            Kind::UseChan
                if !matches!(node.args.get("semantic").and_then(Value::as_str), Some("teleport" | "swap")) =>
            {
                self.report("E-ARG", Some(node), "USE_CHAN needs semantic, \"teleport\" or \"swap\"");
            }
            _ => {}
        }
        let fixed = matches!(node.op.kind(), Kind::Alloc | Kind::Free | Kind::Fence | Kind::OpenChan | Kind::CloseChan);
        if fixed && node.guard.is_some() {
            let message = format!("{} cannot be guarded: what exists must not depend on outcomes", node.op.name());
            self.report("E-GUARD", Some(node), message);
        }
    }

    /// Checks how many qubits, channels, inputs and outputs a node names.
    fn arity(&mut self, node: &Node) {
        let op = node.op;
        let name = op.name();
        let span = |(lo, hi): (usize, usize)| match (lo, hi) {
            (lo, usize::MAX) => format!("at least {lo}"),
            (lo, hi) if lo == hi => lo.to_string(),
            (lo, hi) => format!("{lo} to {hi}"),
        };
        let channels = (op.channels(), op.channels());
        let inputs = if op.kind() == Kind::CondPauli { (node.guard.is_none() as usize, usize::MAX) } else { (0, 0) };
        let counted = [
            ("qubits", op.qubits(), node.vqs.len()),
            ("channels", channels, node.chs.len()),
            ("inputs", inputs, node.inputs.len()),
            ("produced events", op.produces(), node.produces.len()),
        ];
        for (what, range, have) in counted {
            if have < range.0 || have > range.1 {
                let unnamed = range.0 > 0 && have == 0;
                let hint = match what {
                    "produced events" if unnamed => format!("; name it behind an arrow: {name} ... -> event"),
                    "channels" if unnamed && op.kind() == Kind::OpenChan => {
                        "; name it behind an arrow: OPEN_CHAN a, b -> ch".into()
                    }
                    _ => String::new(),
                };
                self.report("E-ARITY", Some(node), format!("{name} takes {} {what}, not {have}{hint}", span(range)));
            }
        }
    }

    fn alloc_args(&mut self, node: &Node) {
        match node.args.get("n").map(|n| n.as_u64()) {
            None => {}
            Some(Some(n)) if n == node.vqs.len() as u64 => {}
            Some(Some(n)) => {
                self.report("E-ARITY", Some(node), format!("n = {n}, but {} qubits are named", node.vqs.len()));
            }
            Some(None) => self.report("E-ARG", Some(node), "n must be a whole number"),
        }
        match node.args.get("profile") {
            None => {}
            Some(Value::String(p)) => {
                if let Err(e) = Profile::parse(p) {
                    self.report("E-PROFILE", Some(node), e);
                }
            }
            Some(_) => self.report("E-PROFILE", Some(node), "profile must be a string"),
        }
        if node.args.get("space").is_some_and(|s| !s.is_string()) {
            self.report("E-ARG", Some(node), "space must be a string");
        }
    }

    fn pauli_mask(&mut self, node: &Node) {
        match mask(node) {
            None => self.report("E-ARG", Some(node), "COND_PAULI needs mask, one letter of I X Y Z per qubit"),
            Some(m) if m.chars().any(|c| !"IXYZ".contains(c)) || m.chars().count() != node.vqs.len() => {
                self.report(
                    "E-ARG",
                    Some(node),
                    format!("mask {m:?} must have one letter of I X Y Z for each of {} qubits", node.vqs.len()),
                );
            }
            _ => {}
        }
    }

    fn channel_args(&mut self, node: &Node) {
        let opts = node.args.get("opts");
        let get = |k: &str| node.args.get(k).or_else(|| opts?.get(k));
        if get("fidelity").is_some_and(|f| !f.as_f64().is_some_and(|f| (0.0..=1.0).contains(&f))) {
            self.report("E-ARG", Some(node), "fidelity must be a number from 0 to 1");
        }
        if get("type").is_some_and(|t| !t.is_string()) {
            self.report("E-ARG", Some(node), "type must be a string");
        }
        if opts.is_some_and(|o| !o.is_object()) {
            self.report("E-ARG", Some(node), "opts must be an object");
        }
    }
}
