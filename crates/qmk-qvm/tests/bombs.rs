//! Small texts that ask for much: refused with `E-LIMIT`, in bounded time and memory.
#![allow(clippy::print_stdout, reason = "shows the times and the memory that it bounds")]

use qmk_qvm::{Format, ParseOptions, Severity, lower, parse, verify};
use std::fmt::Write;
use std::time::{Duration, Instant};

/// Time any text may take on a slow machine that runs other tests beside, unoptimised.
/// What grows without bound takes hours or all memory; a slow machine stays far below this.
const PATIENCE: Duration = Duration::from_secs(300);

/// Codes of the findings of a text, from whichever stage.
fn codes(name: &str, text: &str, format: Format) -> Vec<String> {
    let started = Instant::now();
    let found = match parse(text, format, &ParseOptions::default()) {
        Err(found) => found,
        Ok(graph) => {
            let found = verify(&graph);
            let errors = found.iter().any(|f| f.severity == Severity::Error);
            assert_eq!(lower(&graph).is_err(), errors, "{name}");
            found
        }
    };
    let took = started.elapsed();
    println!("{name}: {:.2} s, {} findings, {} MB so far", took.as_secs_f64(), found.len(), peak_mb().unwrap_or(0));
    assert!(took < PATIENCE, "{name} took {took:?}");
    assert!(found.iter().all(|f| f.message.len() < 5000), "{name}");
    found.into_iter().map(|f| f.code).collect()
}

/// Most memory this process has held.
fn peak_mb() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kb| kb / 1024)
}

/// A chain of macros, each of which calls the one before `width` times.
fn macros(depth: usize, width: usize, body: &str) -> String {
    let mut text = format!(".macro M0()\n{body}\n.endmacro\n");
    for i in 1..depth {
        text += &format!(".macro M{i}()\n{}.endmacro\n", format!("M{}()\n", i - 1).repeat(width));
    }
    text + &format!("M{}()\n", depth - 1)
}

/// `.for` within `.for`.
fn loops(depth: usize, range: &str, body: &str) -> String {
    let heads: String = (0..depth).map(|i| format!(".for i{i} in {range}\n")).collect();
    format!("{heads}{body}\n{}", ".endfor\n".repeat(depth))
}

fn nest(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

/// A text's name and the text.
type Bomb = (&'static str, String);

/// A string that no one needs.
fn long() -> String {
    "x".repeat(500_000)
}

fn macro_bombs() -> Vec<Bomb> {
    let long = long();
    vec![
        ("recursive macro", ".macro M()\nM()\n.endmacro\nM()".into()),
        ("mutual recursion", ".macro A(x)\nB(x)\n.endmacro\n.macro B(x)\nA([x, x])\n.endmacro\nA(1)".into()),
        ("exponential macros", macros(60, 2, "FENCE_EPOCH")),
        ("exponential macros of nothing", macros(60, 2, ".set x = 1")),
        ("wide macros", macros(4, 2000, "FENCE_EPOCH")),
        ("macro that redefines itself", ".macro M()\n.macro M()\nM()\n.endmacro\nM()\n.endmacro\nM()".into()),
        ("long macro defined often", loops(2, "0..9999", &format!(".macro M()\nBAR_REGION tag=\"{long}\"\n.endmacro"))),
        (
            "long macro called often",
            format!(".macro M()\n.if 0\nBAR_REGION tag=\"{long}\"\n.endif\n.endmacro\n{}", loops(2, "0..9999", "M()")),
        ),
    ]
}

fn loop_bombs() -> Vec<Bomb> {
    let long = long();
    vec![
        ("huge range", ".for i in 0..9999999999\nFENCE_EPOCH\n.endfor".into()),
        (
            "huge range down",
            ".for i in range(9223372036854775807, -9223372036854775807, -1)\nFENCE_EPOCH\n.endfor".into(),
        ),
        ("nested loops", loops(4, "0..999", "FENCE_EPOCH")),
        ("nested empty loops", loops(4, "0..999", "")),
        ("loops of errors", loops(3, "0..9999", "APPLY_H {oops}")),
        ("loops of many errors", loops(3, "0..9999", "APPLY_H {i0}-{i1}-{i2}")),
        ("loops of other errors", loops(3, "0..9999", "{f\"a{i0}{i1}{i2}\" + 1}")),
        ("too deep loops", loops(65, "0..0", "FENCE_EPOCH")),
        ("deep and wide loops", loops(60, "0..1", "FENCE_EPOCH")),
        ("too deep conditions", nest(".if 1\n", "FENCE_EPOCH\n", ".endif\n", 65)),
        ("skipped blocks", loops(2, "0..99999", &format!(".if 0\n{}.endif", "FENCE_EPOCH\n".repeat(5000)))),
        ("long lines in loops", loops(2, "0..9999", &format!("BAR_REGION tag=\"{long}\""))),
        (
            "long operands in loops",
            format!(".set s = \"{}\"\n{}", vec!["q"; 200_000].join(","), loops(2, "0..999", "FREE_LQ {s}")),
        ),
        (
            "long declarations in loops",
            format!(".set s = \"{}\"\n{}", vec!["q"; 200_000].join(","), loops(2, "0..999", ".vqs {s}")),
        ),
    ]
}

fn value_bombs() -> Vec<Bomb> {
    let long = long();
    let doubled = |start: &str, step: &str| format!("{start}\n.for i in range(200)\n{step}\n.endfor");
    vec![
        ("doubled string", doubled(".set s = \"ab\"", ".set s = s + s")),
        ("doubled list", doubled(".set l = [1]", ".set l = l + l")),
        ("list of itself twice", doubled(".set l = [1]", ".set l = [l, l]")),
        ("list of itself", doubled(".set l = [1]", ".set l = [l]")),
        ("doubled text", doubled(".set s = \"ab\"", ".set s = f\"{s}{s}\"")),
        ("doubled join", doubled(".set l = [\"a\"]", ".set l = [\"\".join(l + l + [\"b\"])] + l")),
        ("copies of a string", format!(".set s = \"{long}\"\n{}", loops(2, "0..9999", ".set t = s"))),
        ("copies in a list", format!(".set s = \"{long}\"\n.set l = [s for i in range(1000000)]")),
        (
            "copies of a scope",
            format!(
                ".set s = \"{long}\"\n{}",
                loops(2, "0..9999", ".set t = [i for i in range(1)]").replace("[i for", "[s[0] for")
            ),
        ),
        (
            "repeated show",
            format!(".set l = [i for i in range(100000)]\n{}", loops(2, "0..9999", "BAR_REGION tag=\"{l}\"")),
        ),
        ("searches", format!(".set l = [i for i in range(100000)]\n{}", loops(2, "0..9999", ".set t = -1 in l"))),
        (
            "giant comprehension",
            ".set l = [[[f\"{i}{j}{k}\" for i in range(1000)] for j in range(1000)] for k in range(1000)]".into(),
        ),
        (
            "giant f-string comprehension",
            ".set l = [f\"q{i}{[f'{j}' for j in range(1000)]}\" for i in range(1000000)]".into(),
        ),
        ("giant slices", format!(".set l = range(500000)\n{}", loops(2, "0..9999", ".set t = l[1:]"))),
        (
            "power",
            ".set n = 1\n.for i in range(1000000)\n.set n = 1 ** 4000000000\n.for j in range(1000)\n.endfor\n.endfor"
                .into(),
        ),
    ]
}

fn expression_bombs() -> Vec<Bomb> {
    let chain = |op: &str| vec!["1"; 5000].join(op);
    let left = (0..60)
        .fold("1".to_string(), |e, _| format!("({e}{}{}{})", "*1".repeat(60), "+1".repeat(60), " and 1".repeat(60)));
    vec![
        ("deep parentheses", format!(".set x = {}", nest("(", "1", ")", 100_000))),
        ("deep brackets", format!(".set x = {}", nest("[", "1", "]", 100_000))),
        ("deep calls", format!(".set x = {}", nest("abs(", "1", ")", 100_000))),
        ("deep minus", format!(".set x = {}1", "-".repeat(100_000))),
        ("deep not", format!(".set x = {}1", "not ".repeat(100_000))),
        ("deep power", format!(".set x = {}1", "1**".repeat(100_000))),
        ("deep conditional", format!(".set x = {}1", "1 if 0 else ".repeat(100_000))),
        ("deep index", format!(".set x = [1]{}", "[0]".repeat(100_000))),
        ("deep method", format!(".set x = \"a\"{}", ".join([1])".repeat(100_000))),
        ("long sum", format!(".set x = {}", chain("+"))),
        ("long and", format!(".set x = {}", chain(" and "))),
        ("long comparison", format!(".set x = {}", chain("<"))),
        ("left-deep tree", format!(".set x = {left}")),
        ("deep value", format!("SET_POLICY x={}1{}", "(".repeat(100_000), ")".repeat(100_000))),
        ("deep f-strings", format!(".set x = 1\n{}", (0..300).map(|_| ".set x = f\"{x}{x}\"\n").collect::<String>())),
        ("many names", format!(".set x = [0 for {} in [1]]", vec!["a"; 10_000].join(","))),
    ]
}

fn line_bombs() -> Vec<Bomb> {
    vec![
        ("deep guard", format!("APPLY_X q if {}", nest("(", "m==1", ")", 100_000))),
        ("deep guard of groups", format!("APPLY_X q if {}", nest("all(", "m==1", ")", 100_000))),
        ("deep json", format!("SET_POLICY k=json\"{}\"", nest("[", "", "]", 100_000))),
        ("too many lines", "FENCE_EPOCH\n".repeat(1_100_000)),
    ]
}

#[test]
fn assembly() {
    for bombs in [macro_bombs, loop_bombs, value_bombs, expression_bombs, line_bombs] {
        for (name, text) in bombs() {
            let codes = codes(name, &text, Format::Asm);
            assert!(codes.contains(&"E-LIMIT".to_string()), "{name}: {:?}", codes.first());
        }
    }
    bounded_memory();
}

fn bounded_memory() {
    if let Some(peak) = peak_mb() {
        assert!(peak < 2048, "{peak} MB");
    }
}

/// A graph of nodes and qubits, with an event m.
fn graph(nodes: &str, vqs: &str) -> String {
    let resources = format!(r#"{{"vqs": [{vqs}], "events": ["m"]}}"#);
    format!(r#"{{"version": "0.1", "program": {{"nodes": [{nodes}]}}, "resources": {resources}}}"#)
}

fn list(n: usize, item: impl Fn(usize) -> String) -> String {
    let mut out = String::new();
    for i in 0..n {
        _ = write!(out, "{}{}", if i > 0 { "," } else { "" }, item(i));
    }
    out
}

/// A text in JSON, and a finding that it gives; none if there is no code.
type JsonBomb = (&'static str, String, &'static str);

/// A graph of one node with more members.
fn node(rest: &str) -> String {
    graph(&format!(r#"{{"id": "x", "op": "SET_POLICY"{rest}}}"#), "")
}

fn same(n: usize, s: &str) -> String {
    list(n, |_| s.to_string())
}

fn deep_json() -> Vec<JsonBomb> {
    let deep = |s: &str, e: &str| nest(s, "1", e, 200_000);
    vec![
        ("deep text", deep("[", "]"), "E-SCHEMA"),
        (
            "deep unknown key",
            format!(r#"{{"version": "0.1", "program": {{"nodes": []}}, "x": {}}}"#, deep("[", "]")),
            "W-EMPTY",
        ),
        (
            "deep metadata",
            format!(r#"{{"version": "0.1", "program": {{"nodes": []}}, "metadata": {}}}"#, deep("[", "]")),
            "E-LIMIT",
        ),
        (
            "deep caps",
            format!(r#"{{"version": "0.1", "program": {{"nodes": []}}, "caps": {}}}"#, deep("[", "]")),
            "E-LIMIT",
        ),
        ("deep argument", node(&format!(r#", "args": {{"k": {}}}"#, deep("{\"k\":", "}"))), "E-LIMIT"),
        ("deep guard", node(&format!(r#", "guard": {}"#, deep(r#"{"type":"and","conditions":["#, "]}"))), "E-LIMIT"),
        ("deep id", graph(&format!(r#"{{"id": {}}}"#, deep("[", "]")), ""), "E-LIMIT"),
    ]
}

fn wide_json() -> Vec<JsonBomb> {
    vec![
        ("wide argument", node(&format!(r#", "args": {{"k": [{}]}}"#, same(5_000_000, "[]"))), ""),
        ("many keys", node(&list(1_000_000, |i| format!(r#", "{i}": 1"#)).replace(",,", ",")), "E-SCHEMA"),
        ("many bad nodes", graph(&same(900_000, "1"), ""), "E-SCHEMA"),
        ("too many nodes", graph(&same(1_000_001, "1"), ""), "E-LIMIT"),
        ("many bad ids", node(&format!(r#", "vqs": [{}]"#, same(8_000_000, "1"))), "E-SCHEMA"),
        ("many empty ids", graph("", &same(5_000_000, r#""""#)), "E-SCHEMA"),
        ("long id", node(&format!(r#", "vqs": ["{}"]"#, "x".repeat(10_000_000))), "E-SCHEMA"),
        ("long opcode", graph(&format!(r#"{{"id": "x", "op": "{}"}}"#, "x".repeat(10_000_000)), ""), "E-SCHEMA"),
        (
            "long mask",
            graph(
                &format!(
                    r#"{{"id": "x", "op": "COND_PAULI", "args": {{"mask": "{}"}}}}"#,
                    "\u{1}".repeat(2_000_000).replace('\u{1}', "\\u0001")
                ),
                "",
            ),
            "E-ARITY",
        ),
        ("same node often", graph(&same(300_000, r#"{"id": "x", "op": "FENCE_EPOCH"}"#), ""), "E-DUP-ID"),
        ("same resource often", graph("", &same(3_000_000, "\"q\"")), "E-DUP-ID"),
        (
            "long labels in many findings",
            graph(&list(30_000, |i| format!(r#"{{"id": "{}{i}", "op": "APPLY_H"}}"#, "x".repeat(240))), ""),
            "E-ARITY",
        ),
        (
            "wide guard",
            node(&format!(
                r#", "guard": {{"type": "or", "conditions": [{}]}}"#,
                same(70_000, r#"{"event": "m", "equals": 0}"#)
            )),
            "E-LIMIT",
        ),
        (
            "large numbers",
            node(&format!(r#", "args": {{"k": [{}]}}"#, same(500_000, "123456789012345678901234567890"))),
            "",
        ),
        ("long number", node(&format!(r#", "args": {{"k": {}}}"#, "9".repeat(10_000_000))), "E-PARSE"),
        ("long fraction", node(&format!(r#", "args": {{"k": 0.{}}}"#, "9".repeat(10_000_000))), ""),
    ]
}

/// Programs of many qubits and events.
fn wide_programs() -> Vec<JsonBomb> {
    let qubits = |n: usize| list(n, |i| format!("\"{i:x}\"").replacen('"', "\"q", 1));
    let paulis = |q: usize, inputs: usize| {
        let nodes = format!(
            r#"{{"id": "a", "op": "ALLOC_LQ", "vqs": [{0}]}}, {{"id": "m", "op": "MEASURE_Z", "vqs": ["q0"], "produces": ["m"]}},
               {{"id": "p", "op": "COND_PAULI", "vqs": [{0}], "args": {{"mask": "{1}"}}, "inputs": [{2}]}},
               {{"id": "f", "op": "FREE_LQ", "vqs": [{0}]}}"#,
            qubits(q),
            "X".repeat(q),
            same(inputs, "\"m\"")
        );
        graph(&nodes, &qubits(q))
    };
    let alloc = |n: usize| graph(&format!(r#"{{"id": "a", "op": "ALLOC_LQ", "vqs": [{}]}}"#, qubits(n)), &qubits(n));
    vec![
        ("many inputs", paulis(1, 70_000), "E-LIMIT"),
        ("many qubits and inputs", paulis(6_000, 6_000), "E-LIMIT"),
        ("fewer qubits and inputs", paulis(3_000, 3_000), ""),
        ("many qubits", alloc(200_000), "W-UNFREED"),
    ]
}

#[test]
fn json() {
    for bombs in [deep_json, wide_json, wide_programs] {
        for (name, text, code) in bombs() {
            let codes = codes(name, &text, Format::Json);
            let told = if code.is_empty() { codes.is_empty() } else { codes.iter().any(|c| c == code) };
            assert!(told, "{name}: {:?}", codes.first());
        }
    }
    bounded_memory();
}
