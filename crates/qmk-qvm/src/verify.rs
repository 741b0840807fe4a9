//! The verifier: every finding of a graph, not only the first.

use crate::graph::{Graph, Guard, Node};
use crate::opcode::{Kind, quarter_turns};
use crate::{Profile, finding, limits, note_cut};
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use qmk_abi::Rights;
use qmk_abi::rpc::Finding;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Reports of one graph are cut here.
const MAX_FINDINGS: usize = 10_000;

/// All findings of a graph. Errors have codes `E-*`, warnings `W-*`.
pub fn verify(graph: &Graph) -> Vec<Finding> {
    verify_with(graph, None)
}

/// As [`verify`]; with `held`, also `E-CAP` for each node that needs a capability not held.
pub fn verify_with(graph: &Graph, held: Option<Rights>) -> Vec<Finding> {
    check(graph, held).0
}

/// The findings, and without errors among them the node indices in an order that respects all dependencies.
pub(crate) fn check(graph: &Graph, held: Option<Rights>) -> (Vec<Finding>, Vec<usize>) {
    let mut v = Verifier { graph, found: Vec::new() };
    if graph.nodes.len() > limits::NODES {
        v.report("E-LIMIT", None, format!("more than {} nodes", limits::NODES));
        return (v.found, Vec::new());
    }
    if graph.nodes.is_empty() {
        v.report("W-EMPTY", None, "the program has no operations");
    }
    v.declarations();
    for node in &graph.nodes {
        v.shape(node);
        v.capabilities(node, held);
    }
    v.linearity();
    v.channels();
    let order = v.order();
    v.size();
    v.found.sort_by_key(|f| f.line.unwrap_or(u32::MAX));
    note_cut(&mut v.found, MAX_FINDINGS);
    (v.found, order)
}

/// Capability classes the nodes of a graph need.
pub fn required_caps(graph: &Graph) -> Rights {
    graph.nodes.iter().fold(Rights::empty(), |r, n| r | needs(n))
}

fn needs(node: &Node) -> Rights {
    node.op.needs(angle(node).and_then(quarter_turns))
}

/// The angle argument of a node, if it has a finite one.
pub(crate) fn angle(node: &Node) -> Option<f64> {
    let key = match node.op.kind() {
        Kind::Rotate(_) => "theta",
        Kind::MeasureAngle => "angle",
        _ => return None,
    };
    node.args.get(key)?.as_f64().filter(|a| a.is_finite())
}

/// The Pauli letters of a COND_PAULI.
pub(crate) fn mask(node: &Node) -> Option<&str> {
    node.args.get("mask").or_else(|| node.args.get("pauli"))?.as_str()
}

/// Events that hold a Bell index, by name.
pub(crate) fn bell_events(graph: &Graph) -> HashSet<&str> {
    let single = |n: &&Node| n.op.kind() == Kind::MeasureBell && n.produces.len() == 1;
    graph.nodes.iter().filter(single).map(|n| n.produces[0].as_str()).collect()
}

/// Qubits that each node acts on through a channel: those its channel was last opened between.
pub(crate) fn endpoints(graph: &Graph) -> Vec<&[String]> {
    let mut open: HashMap<&str, &[String]> = HashMap::new();
    let ends = graph.nodes.iter().map(|n| {
        let Some(ch) = n.chs.first().map(String::as_str) else { return &[][..] };
        match n.op.kind() {
            Kind::OpenChan => {
                open.insert(ch, &n.vqs);
                &[]
            }
            Kind::CloseChan => open.remove(ch).unwrap_or(&[]),
            _ => open.get(ch).copied().unwrap_or(&[]),
        }
    });
    ends.collect()
}

/// Most instructions a node becomes.
fn instructions(node: &Node) -> u64 {
    match node.op.kind() {
        Kind::Alloc | Kind::Free | Kind::CondPauli => node.vqs.len() as u64,
        Kind::OpenChan => 4,
        Kind::MeasureAngle => 3,
        Kind::UseChan | Kind::Rotate(_) => 2,
        _ => 1,
    }
}

/// Terms a guard becomes; `bell` are the events that hold an index of two bits.
fn terms(guard: &Guard, bell: &HashSet<&str>) -> u64 {
    match guard {
        Guard::Equals(e, value) => (if bell.contains(e.as_str()) { 4 } else { 1 }) + (*value == 0) as u64,
        Guard::And(parts) | Guard::Or(parts) => parts.iter().fold(1, |n, g| n + terms(g, bell)),
    }
}

/// Events a node reads, each once.
fn reads<'a>(node: &'a Node) -> Vec<&'a str> {
    let mut events: Vec<&'a str> = node.inputs.iter().map(String::as_str).collect();
    if let Some(g) = &node.guard {
        g.events(&mut |e| events.push(e));
    }
    if events.len() > 1 {
        let mut seen = HashSet::new();
        events.retain(|e| seen.insert(*e));
    }
    events
}

/// Dependencies of a graph: successor lists and predecessor counts.
struct Dependencies {
    successors: Vec<Vec<u32>>,
    predecessors: Vec<u32>,
}

impl Dependencies {
    fn of(graph: &Graph) -> Self {
        let n = graph.nodes.len();
        let mut d = Dependencies { successors: vec![Vec::new(); n], predecessors: vec![0; n] };
        let ends = endpoints(graph);
        let mut last: HashMap<&str, usize> = HashMap::new();
        let mut producer: HashMap<&str, usize> = HashMap::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            for e in &node.produces {
                producer.entry(e).or_insert(i);
            }
        }
        let (mut fence, mut since_fence) = (None, Vec::new());
        for (i, node) in graph.nodes.iter().enumerate() {
            // Using a channel acts on its endpoints.
            for q in node.vqs.iter().chain(ends[i]).chain(&node.chs) {
                // A node may name a qubit twice, which is a finding of its own.
                if let Some(before) = last.insert(q, i).filter(|before| *before != i) {
                    d.edge(before, i);
                }
            }
            for e in reads(node) {
                if let Some(&p) = producer.get(e) {
                    d.edge(p, i);
                }
            }
            if let Some(f) = fence {
                d.edge(f, i);
            }
            if node.op.kind() == Kind::Fence {
                for before in std::mem::take(&mut since_fence) {
                    d.edge(before, i);
                }
                fence = Some(i);
            } else {
                since_fence.push(i);
            }
        }
        d
    }

    fn edge(&mut self, from: usize, to: usize) {
        self.successors[from].push(to as u32);
        self.predecessors[to] += 1;
    }
}

/// Node indices in an order that respects all dependencies, textual where possible; else the cycles.
fn topological_order(graph: &Graph) -> Result<Vec<usize>, Vec<Vec<usize>>> {
    let mut d = Dependencies::of(graph);
    let n = graph.nodes.len();
    let mut ready: BinaryHeap<_> = (0..n).filter(|&i| d.predecessors[i] == 0).map(Reverse).collect();
    let mut order = Vec::with_capacity(n);
    while let Some(Reverse(i)) = ready.pop() {
        order.push(i);
        for &s in &d.successors[i] {
            d.predecessors[s as usize] -= 1;
            if d.predecessors[s as usize] == 0 {
                ready.push(Reverse(s as usize));
            }
        }
    }
    if order.len() == n { Ok(order) } else { Err(cycles(&d.successors)) }
}

/// Sets of nodes that all wait for each other, by Tarjan's algorithm without recursion; in textual order.
fn cycles(successors: &[Vec<u32>]) -> Vec<Vec<usize>> {
    const NONE: usize = usize::MAX;
    let n = successors.len();
    let (mut index, mut low, mut on_stack) = (vec![NONE; n], vec![0; n], vec![false; n]);
    let (mut stack, mut calls, mut next, mut found) = (Vec::new(), Vec::new(), 0, Vec::new());
    for root in 0..n {
        if index[root] != NONE {
            continue;
        }
        calls.push((root, 0));
        while let Some((v, edge)) = calls.pop() {
            if edge == 0 {
                (index[v], low[v], on_stack[v]) = (next, next, true);
                next += 1;
                stack.push(v);
            } else {
                let w = successors[v][edge - 1] as usize;
                low[v] = low[v].min(low[w]);
            }
            let mut edge = edge;
            let deeper = loop {
                let Some(&w) = successors[v].get(edge) else { break None };
                let w = w as usize;
                edge += 1;
                if index[w] == NONE {
                    break Some(w);
                }
                if on_stack[w] {
                    low[v] = low[v].min(index[w]);
                }
            };
            if let Some(w) = deeper {
                calls.push((v, edge));
                calls.push((w, 0));
            } else if low[v] == index[v] {
                let start = stack.iter().rposition(|&w| w == v).unwrap_or(0);
                let mut set = stack.split_off(start);
                set.iter().for_each(|&w| on_stack[w] = false);
                set.sort_unstable();
                if set.len() > 1 || successors[v].contains(&(v as u32)) {
                    found.push(set);
                }
            }
        }
    }
    found.sort_unstable();
    found
}

struct Verifier<'a> {
    graph: &'a Graph,
    found: Vec<Finding>,
}

impl Verifier<'_> {
    fn report(&mut self, code: &str, node: Option<&Node>, message: impl Into<String>) {
        if self.found.len() < MAX_FINDINGS {
            let (id, line) = node.map_or((None, None), |n| (Some(n.id.as_str()), n.line));
            self.found.push(finding(code, id, line, message));
        }
    }

    fn declarations(&mut self) {
        let graph = self.graph;
        let r = &graph.resources;
        let mut declared = HashMap::new();
        for (what, list) in [("a qubit", &r.vqs), ("a channel", &r.chs), ("an event", &r.events)] {
            for id in list {
                match declared.insert(id.as_str(), what) {
                    None => {}
                    Some(before) if before == what => {
                        self.report("E-DUP-ID", None, format!("resource {id} is declared twice"));
                    }
                    Some(before) => self.report("E-DUP-ID", None, format!("{id} is {before} as well as {what}")),
                }
            }
        }
        let sets = [&r.vqs, &r.chs, &r.events].map(|l| l.iter().map(String::as_str).collect::<HashSet<_>>());
        let produced: HashSet<&str> = graph.nodes.iter().flat_map(|n| &n.produces).map(String::as_str).collect();
        let mut ids = HashSet::new();
        for node in &graph.nodes {
            if !ids.insert(node.id.as_str()) {
                self.report("E-DUP-ID", Some(node), format!("node id {} is used twice", node.id));
            }
            let events: Vec<&str> = node.produces.iter().map(String::as_str).chain(reads(node)).collect();
            let named = [
                ("qubit", "vqs", node.vqs.iter().map(String::as_str).collect()),
                ("channel", "chs", node.chs.iter().map(String::as_str).collect()),
                ("event", "events", events),
            ];
            for ((what, list, used), set) in named.into_iter().zip(&sets) {
                let mut seen = HashSet::new();
                for id in used.into_iter().filter(|id| !set.contains(id)) {
                    if seen.insert(id) {
                        let never = what == "event" && !produced.contains(id);
                        let never = if never { ", and nothing produces it" } else { "" };
                        self.report(
                            "E-UNDECLARED",
                            Some(node),
                            format!("{what} {id} is not in resources.{list}{never}"),
                        );
                    }
                }
            }
        }
        for cap in &graph.caps {
            if Rights::from_class_name(cap).is_none() {
                self.report("E-CAP", None, format!("{cap} is not a capability; known: {}", known_caps()));
            }
        }
    }

    fn shape(&mut self, node: &Node) {
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
        if let Some(known) = op.args() {
            for key in node.args.keys().filter(|k| !known.contains(&k.as_str())) {
                let known =
                    if known.is_empty() { "it has none".into() } else { format!("known: {}", known.join(", ")) };
                self.report("E-ARG", Some(node), format!("{name} has no argument {key:?}; {known}"));
            }
        }
        match op.kind() {
            Kind::Alloc => {
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
            Kind::Rotate(_) | Kind::MeasureAngle if angle(node).is_none() => {
                let key = op.args().map_or("", |a| a[0]);
                self.report("E-ARG", Some(node), format!("{name} needs a finite number {key} in radians"));
            }
            Kind::CondPauli => match mask(node) {
                None => self.report("E-ARG", Some(node), "COND_PAULI needs mask, one letter of I X Y Z per qubit"),
                Some(m) if m.chars().any(|c| !"IXYZ".contains(c)) || m.chars().count() != node.vqs.len() => {
                    self.report(
                        "E-ARG",
                        Some(node),
                        format!("mask {m:?} must have one letter of I X Y Z for each of {} qubits", node.vqs.len()),
                    );
                }
                _ => {}
            },
            Kind::BarRegion if node.args.get("tag").is_some_and(|t| !t.is_string()) => {
                self.report("E-ARG", Some(node), "tag must be a string");
            }
            Kind::OpenChan => {
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
            Kind::UseChan
                if !matches!(node.args.get("semantic").and_then(Value::as_str), Some("teleport" | "swap")) =>
            {
                self.report("E-ARG", Some(node), "USE_CHAN needs semantic, \"teleport\" or \"swap\"");
            }
            _ => {}
        }
        if matches!(op.kind(), Kind::Alloc | Kind::Free | Kind::Fence | Kind::OpenChan | Kind::CloseChan)
            && node.guard.is_some()
        {
            self.report(
                "E-GUARD",
                Some(node),
                format!("{name} cannot be guarded: what exists must not depend on outcomes"),
            );
        }
    }

    fn capabilities(&mut self, node: &Node, held: Option<Rights>) {
        for cap in &node.caps {
            if Rights::from_class_name(cap).is_none() {
                self.report("E-CAP", Some(node), format!("{cap} is not a capability; known: {}", known_caps()));
            } else if !self.graph.caps.is_empty() && !self.graph.caps.contains(cap) {
                self.report("E-CAP", Some(node), format!("{cap} is not in the graph's caps"));
            }
        }
        if let Some(missing) = held.map(|h| needs(node) - h).filter(|m| !m.is_empty()) {
            let names = missing.class_names().join(", ");
            self.report(
                "E-CAP",
                Some(node),
                format!("{} needs {names}, which the session does not hold", node.op.name()),
            );
        }
    }

    fn linearity(&mut self) {
        #[derive(Clone, Copy, PartialEq)]
        enum Life {
            Live,
            Freed,
        }
        struct Qubit<'a> {
            life: Life,
            fresh: bool,
            space: &'a str,
            last: Kind,
        }
        let graph = self.graph;
        let mut qubits: HashMap<&str, Qubit<'_>> = HashMap::new();
        let ends = endpoints(graph);
        for (node, ends) in graph.nodes.iter().zip(ends) {
            let kind = node.op.kind();
            for q in ends.iter().map(String::as_str).filter(|_| kind == Kind::UseChan) {
                let Some(qubit) = qubits.get_mut(q) else { continue };
                qubit.fresh = false;
                if qubit.life == Life::Freed {
                    self.report("E-LINEAR", Some(node), format!("qubit {q}, an end of the channel, was freed"));
                }
            }
            let mut seen = HashSet::new();
            let (mut space, mut spaces) = (None, 0);
            for q in node.vqs.iter().map(String::as_str) {
                if node.vqs.len() > 1 && !seen.insert(q) {
                    self.report("E-LINEAR", Some(node), format!("qubit {q} is named twice in one node"));
                    continue;
                }
                let qubit = qubits.get_mut(q);
                let now = qubit.as_ref().map(|q| q.life);
                if kind == Kind::Alloc {
                    if now.is_some() {
                        let what = if now == Some(Life::Live) {
                            "is already allocated"
                        } else {
                            "was allocated before; take a new id"
                        };
                        self.report("E-LINEAR", Some(node), format!("qubit {q} {what}"));
                    }
                    let space = node.args.get("space").and_then(Value::as_str).unwrap_or("");
                    qubits.insert(q, Qubit { life: Life::Live, fresh: true, space, last: kind });
                    continue;
                }
                let Some(qubit) = qubit else {
                    self.report("E-LINEAR", Some(node), format!("qubit {q} is used before it is allocated"));
                    continue;
                };
                if space != Some(qubit.space) {
                    (space, spaces) = (Some(qubit.space), spaces + 1);
                }
                match qubit.life {
                    Life::Freed => self.report("E-LINEAR", Some(node), format!("qubit {q} is used after it was freed")),
                    Life::Live if kind == Kind::Free => qubit.life = Life::Freed,
                    Life::Live if kind == Kind::InjectT && !qubit.fresh => {
                        self.report(
                            "E-LINEAR",
                            Some(node),
                            format!("qubit {q} must be fresh or reset before INJECT_T_STATE"),
                        );
                    }
                    _ => {}
                }
                // A guarded reset may not have happened.
                qubit.fresh = kind == Kind::Reset && node.guard.is_none();
                qubit.last = kind;
            }
            let joins =
                node.vqs.len() > 1 && !matches!(kind, Kind::Alloc | Kind::Free | Kind::CondPauli | Kind::OpenChan);
            if joins && spaces > 1 {
                self.report(
                    "E-FIREWALL",
                    Some(node),
                    format!("{} joins qubits of different spaces; open a channel between them", node.op.name()),
                );
            }
        }
        let left = |q: &&str| {
            let measured = |q: &Qubit<'_>| matches!(q.last, Kind::Measure(_) | Kind::MeasureAngle | Kind::MeasureBell);
            qubits.get(q).is_some_and(|q| q.life == Life::Live && !measured(q))
        };
        let open: Vec<&str> = graph.resources.vqs.iter().map(String::as_str).filter(left).collect();
        if !open.is_empty() {
            let shown = open.iter().take(8).copied().collect::<Vec<_>>().join(", ");
            let more = if open.len() > 8 { format!(" and {} more", open.len() - 8) } else { String::new() };
            self.report(
                "W-UNFREED",
                None,
                format!("neither measured nor freed at the end: {shown}{more}; freed implicitly"),
            );
        }
    }

    fn channels(&mut self) {
        let graph = self.graph;
        let mut open: HashMap<&str, &Node> = HashMap::new();
        for node in &graph.nodes {
            for ch in node.chs.iter().map(String::as_str) {
                let (wrong, what) = match node.op.kind() {
                    Kind::OpenChan => (open.insert(ch, node).is_some(), "already"),
                    Kind::CloseChan => (open.remove(ch).is_none(), "not"),
                    _ => (!open.contains_key(ch), "not"),
                };
                if wrong {
                    self.report("E-LINEAR", Some(node), format!("channel {ch} is {what} open"));
                }
            }
        }
        let mut left: Vec<_> = open.into_iter().collect();
        left.sort_by_key(|(ch, _)| *ch);
        for (ch, node) in left {
            self.report("E-LEAK", Some(node), format!("channel {ch} is opened here and never closed"));
        }
    }

    /// What the kernel would not admit for its size.
    fn size(&mut self) {
        let graph = self.graph;
        let r = &graph.resources;
        let bell = bell_events(graph);
        let (mut code, mut stored, mut read) = (r.vqs.len() as u64, 0u64, 0u64);
        let registers = r.vqs.len().max(2 * r.events.len()) as u64;
        let mut fits = registers <= limits::IMAGE;
        if !fits {
            self.report("E-LIMIT", None, format!("the program declares more than {} registers", limits::IMAGE));
        }
        for node in &graph.nodes {
            let inputs = node.inputs.len() as u64;
            let joins = (inputs > 0) as u64 * (1 + node.guard.is_some() as u64);
            let terms = node.guard.as_ref().map_or(0, |g| terms(g, &bell)) + inputs + joins;
            if terms > limits::CONDITION {
                let message = format!("a condition of {terms} terms is longer than {}", limits::CONDITION);
                self.report("E-LIMIT", Some(node), message);
            }
            code += instructions(node);
            // The instructions of a node share its condition, and each reads it.
            (stored, read) = (stored + terms, read + terms * instructions(node));
            if fits && (code > limits::IMAGE || stored > limits::IMAGE || read > 4 * limits::IMAGE) {
                fits = false;
                let message = format!("here the program exceeds {} instructions or condition terms", limits::IMAGE);
                self.report("E-LIMIT", Some(node), message);
            }
        }
    }

    fn order(&mut self) -> Vec<usize> {
        let graph = self.graph;
        let bell = bell_events(graph);
        let declared: HashSet<&str> = graph.resources.events.iter().map(String::as_str).collect();
        let mut producer: HashMap<&str, usize> = HashMap::new();
        for (i, node) in graph.nodes.iter().enumerate() {
            for e in &node.produces {
                if producer.insert(e, i).is_some() {
                    self.report("E-GUARD", Some(node), format!("event {e} is produced twice"));
                }
            }
        }
        for node in &graph.nodes {
            for e in reads(node) {
                // What is not even declared is one mistake, reported as that.
                if !producer.contains_key(e) && declared.contains(e) {
                    self.report("E-GUARD", Some(node), format!("event {e} is read but never produced"));
                }
            }
            for e in node.inputs.iter().filter(|e| bell.contains(e.as_str())) {
                self.report(
                    "E-ARG",
                    Some(node),
                    format!("event {e} holds a Bell index, not a bit; give MEASURE_BELL two outputs"),
                );
            }
        }
        let cycles = match topological_order(graph) {
            Ok(order) => return order,
            Err(cycles) => cycles,
        };
        for cycle in cycles {
            let members: Vec<&str> = cycle.iter().take(8).map(|&i| graph.nodes[i].id.as_str()).collect();
            let more = if cycle.len() > 8 { ", ..." } else { "" };
            let first = &graph.nodes[cycle[0]];
            self.report("E-CYCLE", Some(first), format!("nodes wait for each other: {}{more}", members.join(", ")));
            for &i in &cycle {
                let node = &graph.nodes[i];
                // Only events lead back in the text.
                for e in reads(node) {
                    if producer.get(e).is_some_and(|&p| p >= i && cycle.binary_search(&p).is_ok()) {
                        self.report("E-GUARD", Some(node), format!("event {e} is read before it can be produced"));
                    }
                }
            }
        }
        Vec::new()
    }
}

fn known_caps() -> String {
    Rights::CLASS_NAMES.map(|(n, _)| n).join(", ")
}
