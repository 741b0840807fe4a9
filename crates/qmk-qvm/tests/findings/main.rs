//! Every finding class, from JSON and from assembly: code, node, line and severity of all findings of a graph.

mod arguments;

use qmk_abi::Rights;
use qmk_qvm::{Finding, Format, ParseOptions, Severity, lower, parse, verify, verify_with};

/// Findings of a text, whichever stage reports them.
fn findings(text: &str, format: Format) -> Vec<Finding> {
    match parse(text, format, &ParseOptions::default()) {
        Ok(graph) => {
            let found = verify(&graph);
            let errors = found.iter().any(|f| f.severity == Severity::Error);
            assert_eq!(lower(&graph).is_err(), errors, "lower refuses what has errors: {text}");
            found
        }
        Err(found) => found,
    }
}

/// `code node line` of each finding, sorted.
fn summary(found: &[Finding]) -> Vec<String> {
    let row = |f: &Finding| {
        assert_eq!(f.severity == Severity::Error, f.code.starts_with("E-"), "{f:?}");
        assert!(!f.message.is_empty());
        let line = f.line.map_or("-".to_string(), |l| l.to_string());
        format!("{} {} {line}", f.code, f.node.as_deref().unwrap_or("-"))
    };
    let mut rows: Vec<String> = found.iter().map(row).collect();
    rows.sort();
    rows
}

#[track_caller]
fn check(expected: &[&str], text: &str, found: &[Finding]) {
    let mut expected = expected.to_vec();
    expected.sort();
    assert_eq!(summary(found), expected, "{text}\n{found:#?}");
}

#[track_caller]
fn asm(expected: &[&str], text: &str) {
    check(expected, text, &findings(text, Format::Asm));
}

#[track_caller]
fn json(expected: &[&str], text: &str) {
    check(expected, text, &findings(text, Format::Json));
}

/// A graph with one node a line, from line 3 on. Resources are qubits a b c, channels k l, events m n o.
fn graph(nodes: &[&str]) -> String {
    format!(
        "{{\"version\": \"0.1\",\n \"program\": {{\"nodes\": [\n{}\n]}},\n \"resources\": {{\"vqs\": [\"a\", \"b\", \"c\"], \
         \"chs\": [\"k\", \"l\"], \"events\": [\"m\", \"n\", \"o\"]}}, \"caps\": []}}",
        nodes.join(",\n")
    )
}

const ALLOC: &str = r#"{"id": "q", "op": "ALLOC_LQ", "vqs": ["a", "b", "c"]}"#;
const FREE: &str = r#"{"id": "z", "op": "FREE_LQ", "vqs": ["a", "b", "c"]}"#;

/// A graph whose nodes at lines 4 and following stand between the allocation and the end of all qubits.
fn inside(nodes: &[&str]) -> String {
    graph(&[&[ALLOC], nodes, &[FREE]].concat())
}

#[test]
fn valid_graphs_have_none() {
    json(&[], &inside(&[]));
    json(&["W-EMPTY - -"], &graph(&[]));
    json(&["W-EMPTY - -"], r#"{"version": "0.1", "program": {"nodes": []}, "unknown": [1]}"#);
    json(&["W-EMPTY - -"], "\u{feff}{\"version\": \"0.1\", \"program\": {\"nodes\": []}}");
    asm(&[], "\u{feff}q: ALLOC_LQ -> a\nz: FREE_LQ a");
    json(
        &[],
        &inside(&[
            r#"{"id": "m1", "op": "MEASURE_Z", "vqs": ["a"], "produces": ["m"]}"#,
            r#"{"id": "m2", "op": "MEASURE_BELL", "vqs": ["a", "b"], "produces": ["n"]}"#,
            r#"{"id": "x", "op": "APPLY_X", "vqs": ["c"], "guard": {"type": "or", "conditions": [
                {"event": "m", "equals": 1}, {"type": "and", "conditions": [{"event": "n", "equals": 0}]}]}}"#,
            r#"{"id": "p", "op": "COND_PAULI", "vqs": ["a", "c"], "inputs": ["m"], "args": {"mask": "XI"}}"#,
            r#"{"id": "o", "op": "OPEN_CHAN", "vqs": ["a", "b"], "chs": ["k"], "args": {"fidelity": 0.99}}"#,
            r#"{"id": "u", "op": "USE_CHAN", "chs": ["k"], "args": {"semantic": "swap"}}"#,
            r#"{"id": "d", "op": "CLOSE_CHAN", "chs": ["k"]}"#,
        ]),
    );
    asm(&["W-EMPTY - -"], "");
    asm(&["W-EMPTY - -"], "; nothing\n.version 0.1\n");
    // A channel may be opened again, between other qubits.
    asm(
        &[],
        "q: ALLOC_LQ n=3 -> a, b, c\nOPEN_CHAN a, b -> k\nUSE_CHAN k, semantic=teleport\nCLOSE_CHAN k\nFREE_LQ a\n\
         OPEN_CHAN b, c -> k\nUSE_CHAN k, semantic=swap\nCLOSE_CHAN k\nFREE_LQ b, c",
    );
    // A reader may stand before the producer as long as nothing else orders them.
    asm(&[], "ALLOC_LQ -> a, b\nx: APPLY_X b if m==1\nm: MEASURE_Z a -> m\nFREE_LQ a, b");
    // Qubits that were measured need not be freed.
    asm(&[], "ALLOC_LQ -> a\nMEASURE_Z a -> m");
}

#[test]
fn parse_findings() {
    json(&["E-PARSE - 1"], "");
    json(&["E-PARSE - 2"], "{\"version\": \"0.1\",\n oops}");
    json(&["E-PARSE - 3"], "{\"version\": \"0.1\",\n \"program\": {\"nodes\": []},\n");
    // Well-formed, but not a value: in a node, whose line it has.
    json(
        &["E-PARSE - 4", "E-PARSE - 6"],
        &inside(&[
            r#"{"id": "r", "op": "APPLY_RZ", "vqs": ["a"], "args": {"theta": 1e999}}"#,
            r#"{"id": "h", "op": "APPLY_H", "vqs": ["a"]}"#,
            r#"{"id": "t", "op": "BAR_REGION", "args": {"tag": "\ud800"}}"#,
        ]),
    );
    asm(
        &["E-PARSE - 1", "E-PARSE - 2", "E-PARSE a 3", "E-PARSE b 5", "E-PARSE c 6", "E-PARSE d 7", "E-PARSE e 8"],
        "42\n.nonsense\na: APPLY_H q q\nok: FENCE_EPOCH\nb: APPLY_H q ?\nc: MEASURE_Z q -> m if m=1\n\
         d: BAR_REGION tag=\"open\ne: APPLY_RZ q, theta=1, theta=2",
    );
    // What the macro language refuses does not hide what follows, and a loop says it once.
    asm(
        &["E-PARSE - 1", "E-PARSE - 3", "E-SCHEMA b 5", "E-PARSE - 6", "E-PARSE - 7"],
        ".set n = 1 +\n.for i in range(5)\na: APPLY_H {nowhere}\n.endfor\nb: APPLY_FOO q\n.endif\n.if 1 2\n.endif",
    );
    asm(&["E-PARSE - 2"], "a: FENCE_EPOCH\n.for i in 0..2\nb{i}: FENCE_EPOCH");
}

#[test]
fn schema_findings() {
    json(&["E-SCHEMA - 1"], "[]");
    json(&["E-SCHEMA - 1"], r#"["0.1", null, null, null, {"nodes": []}]"#);
    json(&["E-SCHEMA - 1"], r#"{"version": "0.1", "program": [[]]}"#);
    json(&["E-SCHEMA - 2"], "{\"version\": \"0.1\",\n\"version\": \"0.1\"}");
    json(&["E-SCHEMA - 1", "E-SCHEMA - 1"], "{}");
    json(&["E-SCHEMA - 2", "E-SCHEMA - 3"], "{\n\"version\": 1,\n\"program\": [], \"caps\": null}");
    json(
        &["E-SCHEMA - 2", "E-SCHEMA - 3", "E-SCHEMA - 4", "E-SCHEMA - 5", "E-SCHEMA - 6"],
        "{\"version\": \"0.1\", \"program\": {\"nodes\": []},\n\"name\": 7,\n\"metadata\": [],\n\"caps\": [\"a b\"],\n\
         \"resources\": {\"vqs\": [\"0\"]},\n\"description\": {}}",
    );
    // Parts out of the usual order keep their lines.
    json(
        &["E-SCHEMA - 2", "E-SCHEMA x 4", "E-SCHEMA - 5"],
        "{\n\"resources\": 1,\n\"program\": {\"nodes\": [\n{\"id\": \"x\", \"op\": \"APPLY_FOO\"}]},\n\"version\": \"9\"}",
    );
    json(
        &[
            "E-SCHEMA - 4",
            "E-SCHEMA - 5",
            "E-SCHEMA - 6",
            "E-SCHEMA d 7",
            "E-SCHEMA e 8",
            "E-SCHEMA f 9",
            "E-SCHEMA f 9",
            "E-SCHEMA g 10",
            "E-SCHEMA h 11",
            "E-SCHEMA i 12",
            "E-SCHEMA j 13",
        ],
        &inside(&[
            r#"7"#,
            r#"{"op": "FENCE_EPOCH"}"#,
            r#"{"id": "a-b", "op": "FENCE_EPOCH"}"#,
            r#"{"id": "d"}"#,
            r#"{"id": "e", "op": "apply_h"}"#,
            r#"{"id": "f", "op": "FENCE_EPOCH", "vq": [], "Guard": 1}"#,
            r#"{"id": "g", "op": "FENCE_EPOCH", "vqs": ["ä"]}"#,
            r#"{"id": "h", "op": "FENCE_EPOCH", "args": []}"#,
            r#"{"id": "i", "op": "APPLY_X", "vqs": ["a"], "guard": {"event": "m", "equals": 2}}"#,
            r#"{"id": "j", "op": "APPLY_X", "vqs": ["a"], "guard": {"type": "xor", "conditions": [{"event": "m", "equals": 1}]}}"#,
        ]),
    );
    for guard in [
        "1",
        "[]",
        "{}",
        r#"{"event": "m"}"#,
        r#"{"event": "m", "equals": 1.0}"#,
        r#"{"event": "m", "equals": true}"#,
        r#"{"event": "", "equals": 1}"#,
        r#"{"event": "m", "equals": 1, "or": 2}"#,
        r#"{"type": "and", "conditions": []}"#,
        r#"{"type": "and", "conditions": [1]}"#,
        r#"{"conditions": [{"event": "m", "equals": 1}]}"#,
    ] {
        let node = format!(r#"{{"id": "x", "op": "APPLY_X", "vqs": ["a"], "guard": {guard}}}"#);
        json(&["E-SCHEMA x 4"], &inside(&[&node]));
    }
    asm(
        &["E-SCHEMA - 1", "E-SCHEMA x 2", "E-SCHEMA - 3", "E-SCHEMA - 4"],
        ".version 0.2\nx: APPLY_FOO q\nBELL(q)\n.vqs a-b",
    );
}

#[test]
fn duplicate_ids() {
    json(
        &["E-DUP-ID h 5", "E-DUP-ID h 6"],
        &inside(&[
            r#"{"id": "h", "op": "APPLY_H", "vqs": ["a"]}"#,
            r#"{"id": "h", "op": "APPLY_H", "vqs": ["a"]}"#,
            r#"{"id": "h", "op": "APPLY_H", "vqs": ["b"]}"#,
        ]),
    );
    json(
        &["E-DUP-ID - -", "E-DUP-ID - -", "W-EMPTY - -"],
        r#"{"version": "0.1", "program": {"nodes": []}, "resources": {"vqs": ["a", "a"], "events": ["a"]}}"#,
    );
    asm(
        &["E-DUP-ID - -", "E-DUP-ID h 4"],
        ".vqs a b a\nq: ALLOC_LQ -> a, b\nh: APPLY_H a\nh: APPLY_H b\nz: FREE_LQ a, b",
    );
}

/// Messages say what to write instead.
#[test]
fn hints() {
    let says = |text: &str, format, words: &str| {
        let found = findings(text, format);
        assert!(found.iter().any(|f| f.message.contains(words)), "{words:?} in {found:#?}");
    };
    for (name, meant) in [
        ("APPLY_HH", "APPLY_H"),
        ("apply_h", "APPLY_H"),
        ("H", "APPLY_H"),
        ("cx", "APPLY_CNOT"),
        ("CNOT", "APPLY_CNOT"),
        ("TOFFOLI", "APPLY_TOFFOLI"),
        ("MEASURE", "MEASURE_Z"),
        ("MESURE_X", "MEASURE_X"),
        ("FREE", "FREE_LQ"),
        ("CCCX", "CCX"),
    ] {
        says(&format!("{name} a"), Format::Asm, &format!("did you mean {meant}?"));
    }
    let node = r#"{"id": "h", "op": "h", "vqs": ["a"]}"#;
    says(&inside(&[node]), Format::Json, "unknown opcode \"h\"; did you mean APPLY_H?");
    for name in ["FROBNICATE", "Q", "X2Y", &"A".repeat(200)] {
        assert!(!findings(&format!("{name} a"), Format::Asm)[0].message.contains("did you mean"), "{name}");
    }
    says("ALLOC_LQ -> a\nMEASURE_Z a", Format::Asm, "not 0; name it behind an arrow: MEASURE_Z ... -> event");
    let channel = ".chs ch\nq: ALLOC_LQ -> a, b\no: OPEN_CHAN a, b, ch\nc: CLOSE_CHAN ch";
    says(channel, Format::Asm, "not 0; name it behind an arrow: OPEN_CHAN a, b -> ch");
    says(channel, Format::Asm, "ch is a qubit as well as a channel");
}

#[test]
fn undeclared() {
    json(
        &[
            "E-LINEAR h 4",
            "E-LINEAR k 7",
            "E-UNDECLARED h 4",
            "E-UNDECLARED k 7",
            "E-UNDECLARED m 5",
            "E-UNDECLARED x 6",
        ],
        &inside(&[
            r#"{"id": "h", "op": "APPLY_H", "vqs": ["ghost"]}"#,
            r#"{"id": "m", "op": "MEASURE_Z", "vqs": ["a"], "produces": ["ghost"]}"#,
            r#"{"id": "x", "op": "APPLY_X", "vqs": ["a"], "guard": {"event": "spirit", "equals": 1}}"#,
            r#"{"id": "k", "op": "CLOSE_CHAN", "chs": ["ghost"]}"#,
        ]),
    );
    asm(
        &["E-UNDECLARED q 2", "E-UNDECLARED m 3", "E-UNDECLARED m 3", "E-UNDECLARED z 4"],
        ".vqs\nq: ALLOC_LQ -> a\nm: MEASURE_Z a -> e\nz: FREE_LQ a\n.events x",
    );
}

#[test]
fn cycles() {
    // Each of two nodes reads what the other produces; what hangs behind is no part of it.
    let cycle = [
        r#"{"id": "u", "op": "MEASURE_Z", "vqs": ["a"], "produces": ["m"], "guard": {"event": "n", "equals": 1}}"#,
        r#"{"id": "v", "op": "MEASURE_Z", "vqs": ["b"], "produces": ["n"], "guard": {"event": "m", "equals": 1}}"#,
        r#"{"id": "w", "op": "APPLY_X", "vqs": ["a"]}"#,
        r#"{"id": "x", "op": "APPLY_X", "vqs": ["a"], "guard": {"event": "o", "equals": 1}}"#,
        r#"{"id": "y", "op": "MEASURE_Z", "vqs": ["b"], "produces": ["o"]}"#,
    ];
    json(&["E-CYCLE u 4", "E-GUARD u 4"], &inside(&cycle));
    // Two cycles are two findings.
    asm(
        &["E-CYCLE u 2", "E-GUARD u 2", "E-CYCLE v 3", "E-GUARD v 3"],
        "q: ALLOC_LQ -> a, b\nu: MEASURE_Z a -> m if m==1\nv: MEASURE_Z b -> n if n==0\nz: FREE_LQ a, b",
    );
}

#[test]
fn linearity() {
    json(
        &[
            "E-LINEAR h 3",
            "E-GUARD p 6",
            "W-UNFREED - -",
            "E-LINEAR d 5",
            "E-LINEAR p 6",
            "E-LINEAR p 6",
            "E-LINEAR r 7",
            "E-LINEAR l 9",
            "E-LINEAR f 10",
            "E-LINEAR s 11",
        ],
        &graph(&[
            r#"{"id": "h", "op": "APPLY_H", "vqs": ["a"]}"#,
            ALLOC,
            r#"{"id": "d", "op": "APPLY_CNOT", "vqs": ["a", "a"]}"#,
            r#"{"id": "p", "op": "COND_PAULI", "vqs": ["a", "b", "b", "a"], "args": {"mask": "XYZI"}, "inputs": ["o"]}"#,
            r#"{"id": "r", "op": "ALLOC_LQ", "vqs": ["a"]}"#,
            FREE,
            r#"{"id": "l", "op": "MEASURE_Z", "vqs": ["a"], "produces": ["m"]}"#,
            r#"{"id": "f", "op": "FREE_LQ", "vqs": ["b"]}"#,
            r#"{"id": "s", "op": "ALLOC_LQ", "vqs": ["c"]}"#,
        ]),
    );
    asm(
        &["E-LINEAR h 1", "E-LINEAR i 3", "E-LINEAR j 5", "E-LINEAR k 6", "W-UNFREED - -"],
        "h: APPLY_H q\na: ALLOC_LQ -> q\ni: APPLY_SWAP q, q\nf: FREE_LQ q\nj: APPLY_T q\nk: ALLOC_LQ -> q",
    );
    // Magic is prepared in a fresh qubit, and a guarded reset makes none.
    asm(
        &["E-LINEAR c 3", "E-LINEAR g 8"],
        "q: ALLOC_LQ -> a\nb: INJECT_T_STATE a\nc: INJECT_T_STATE a\nd: RESET a\ne: INJECT_T_STATE a\n\
         m: MEASURE_Z a -> m\nf: RESET a if m==1\ng: INJECT_T_STATE a\nz: FREE_LQ a",
    );
    // Channels: not open, opened twice, closed twice, used between qubits that are gone.
    asm(
        &["E-LINEAR a 2", "E-LINEAR c 4", "E-LINEAR e 6", "E-LINEAR f 7", "E-LINEAR i 10", "E-LINEAR i 10"],
        "q: ALLOC_LQ -> x, y\na: USE_CHAN k, semantic=swap\nb: OPEN_CHAN x, y -> k\nc: OPEN_CHAN x, y -> k\n\
         d: CLOSE_CHAN k\ne: CLOSE_CHAN k\nf: USE_CHAN k, semantic=swap\ng: OPEN_CHAN x, y -> k\nh: FREE_LQ x, y\n\
         i: USE_CHAN k, semantic=swap\nj: CLOSE_CHAN k",
    );
}

#[test]
fn leaks() {
    json(
        &["E-LEAK o 4", "E-LEAK p 5"],
        &inside(&[
            r#"{"id": "o", "op": "OPEN_CHAN", "vqs": ["a", "b"], "chs": ["k"]}"#,
            r#"{"id": "p", "op": "OPEN_CHAN", "vqs": ["b", "c"], "chs": ["l"]}"#,
        ]),
    );
    asm(&["E-LEAK o 2"], "q: ALLOC_LQ -> a, b\no: OPEN_CHAN a, b -> k\nu: USE_CHAN k, semantic=swap\nz: FREE_LQ a, b");
}

#[test]
fn unfreed_qubits_are_a_warning() {
    let text = "q: ALLOC_LQ -> a, b, c\nm: MEASURE_Z a -> m\nf: FREE_LQ b";
    asm(&["W-UNFREED - -"], text);
    let found = findings(text, Format::Asm);
    assert!(found[0].message.contains(": c;"), "{}", found[0].message);
    json(&["W-UNFREED - -"], &graph(&[ALLOC]));
}

#[test]
fn capabilities() {
    json(
        &["E-CAP h 4", "E-CAP i 5"],
        &inside(&[
            r#"{"id": "h", "op": "APPLY_H", "vqs": ["a"], "caps": ["CAP_FLY"]}"#,
            r#"{"id": "i", "op": "APPLY_H", "vqs": ["a"], "caps": ["CAP_ALLOC", "cap_magic"]}"#,
        ]),
    );
    asm(
        &["E-CAP - -", "E-CAP t 3"],
        ".caps CAP_ALLOC CAP_FLY\nq: ALLOC_LQ -> a [CAP_ALLOC]\nt: APPLY_T a [CAP_MAGIC]\nz: FREE_LQ a",
    );
    asm(&["W-IGNORED - -"], ".caps CAP_ALLOC CAP_COMPUTE\nALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nFREE_LQ a");
    asm(&[], ".caps CAP_ALLOC CAP_COMPUTE CAP_MEASURE\nALLOC_LQ -> a\nAPPLY_H a\nMEASURE_Z a -> m\nFREE_LQ a");
    let held = |text: &str, held: Rights| {
        let graph = parse(text, Format::Asm, &ParseOptions::default()).unwrap();
        summary(&verify_with(&graph, Some(held)))
    };
    let text = "q: ALLOC_LQ -> a, b\nt: APPLY_T a\nr: APPLY_RZ a, theta=pi/2\ns: APPLY_RZ a, theta=pi/4\n\
                c: TELEPORT_CNOT a, b\nm: MEASURE_Z a -> m\nn: MEASURE_ANGLE b, angle=0.1 -> n\nz: FREE_LQ a, b";
    assert_eq!(held(text, Rights::CLASSES), [""; 0]);
    let some = Rights::ALLOC | Rights::COMPUTE | Rights::MEASURE;
    assert_eq!(held(text, some), ["E-CAP c 5", "E-CAP n 7", "E-CAP s 4", "E-CAP t 2"]);
    assert_eq!(held(text, Rights::CLASSES - Rights::ALLOC), ["E-CAP q 1"]);
}

#[test]
fn guards() {
    json(
        &["E-GUARD g 5", "E-GUARD h 6", "E-GUARD i 7", "E-GUARD j 8", "E-GUARD f 9"],
        &inside(&[
            r#"{"id": "k", "op": "MEASURE_Z", "vqs": ["b"], "produces": ["n"]}"#,
            r#"{"id": "g", "op": "APPLY_X", "vqs": ["a"], "guard": {"event": "m", "equals": 1}}"#,
            r#"{"id": "h", "op": "COND_PAULI", "vqs": ["a"], "inputs": ["m"], "args": {"mask": "X"}}"#,
            r#"{"id": "i", "op": "FENCE_EPOCH", "guard": {"event": "n", "equals": 1}}"#,
            r#"{"id": "j", "op": "ALLOC_LQ", "vqs": ["d"], "guard": {"event": "n", "equals": 0}}"#,
            r#"{"id": "f", "op": "FREE_LQ", "vqs": ["d"], "guard": {"event": "n", "equals": 0}}"#,
        ])
        .replace(r#""vqs": ["a", "b", "c"], "chs""#, r#""vqs": ["a", "b", "c", "d"], "chs""#),
    );
    // Read before it is produced: the fence, or the qubit, keeps the producer behind the reader.
    asm(
        &["E-CYCLE x 2", "E-GUARD x 2", "E-CYCLE y 5", "E-GUARD y 5"],
        "q: ALLOC_LQ -> a, b\nx: APPLY_X a if m==1\nf: FENCE_EPOCH\nm: MEASURE_Z b -> m\ny: APPLY_X b if n==1 && m==0\n\
         n: MEASURE_Z b -> n\nz: FREE_LQ a, b",
    );
    asm(&["E-GUARD n 3"], "q: ALLOC_LQ -> a\nm: MEASURE_Z a -> m\nn: MEASURE_X a -> m\nz: FREE_LQ a");
}

#[test]
fn firewall() {
    let alloc = |id: &str, q: &str, space: &str| {
        format!(r#"{{"id": "{id}", "op": "ALLOC_LQ", "vqs": ["{q}"], "args": {{"space": "{space}"}}}}"#)
    };
    json(
        &["E-FIREWALL x 6", "E-FIREWALL b 7"],
        &graph(&[
            &alloc("p", "a", "left"),
            &alloc("q", "b", "right"),
            &alloc("r", "c", "left"),
            r#"{"id": "x", "op": "APPLY_CNOT", "vqs": ["a", "b"]}"#,
            r#"{"id": "b", "op": "MEASURE_BELL", "vqs": ["b", "c"], "produces": ["m"]}"#,
            r#"{"id": "y", "op": "APPLY_CNOT", "vqs": ["a", "c"]}"#,
            FREE,
        ]),
    );
    // A channel is the way through; the space without a name is one too.
    asm(
        &["E-FIREWALL x 3"],
        "p: ALLOC_LQ space=left -> a\nq: ALLOC_LQ -> b\nx: APPLY_CZ a, b\no: OPEN_CHAN a, b -> k\n\
         u: USE_CHAN k, semantic=teleport\nc: CLOSE_CHAN k\nz: FREE_LQ a, b",
    );
}

#[test]
fn limits() {
    let guard = |depth: usize| {
        format!(
            "{}{}{}",
            r#"{"type": "and", "conditions": ["#.repeat(depth),
            r#"{"event": "m", "equals": 1}"#,
            "]}".repeat(depth)
        )
    };
    let node = |guard: &str| format!(r#"{{"id": "x", "op": "APPLY_X", "vqs": ["b"], "guard": {guard}}}"#);
    let measure = r#"{"id": "m", "op": "MEASURE_Z", "vqs": ["a"], "produces": ["m"]}"#;
    json(&[], &inside(&[measure, &node(&guard(32))]));
    json(&["E-LIMIT x 5"], &inside(&[measure, &node(&guard(33))]));
    json(&["E-LIMIT - 5"], &inside(&[measure, &node(&guard(5000))]));
    let deep = |depth: usize| {
        format!(r#"{{"id": "p", "op": "SET_POLICY", "args": {{"k": {}1{}}}}}"#, "[".repeat(depth), "]".repeat(depth))
    };
    json(&[], &inside(&[&deep(64)]));
    json(&["E-LIMIT p 4"], &inside(&[&deep(65)]));
    json(&["E-LIMIT - 4"], &inside(&[&deep(100_000)]));
    json(
        &["E-LIMIT - 2"],
        &format!(
            "{{\"version\": \"0.1\", \"program\": {{\"nodes\": []}},\n\"metadata\": {}1{}}}",
            "{\"k\":".repeat(65),
            "}".repeat(65)
        ),
    );
    let guard = |depth: usize| format!("{}m==1{}", "all(".repeat(depth), ")".repeat(depth));
    let program =
        |guard: &str| format!("q: ALLOC_LQ -> a, b\nm: MEASURE_Z a -> m\nx: APPLY_X b if {guard}\nz: FREE_LQ a, b");
    asm(&[], &program(&guard(32)));
    asm(&["E-LIMIT x 3"], &program(&guard(33)));
    asm(&["E-LIMIT x 3"], &program(&guard(5000)));
    let value = |depth: usize| format!("p: SET_POLICY k=json\"{}1{}\"", "[".repeat(depth), "]".repeat(depth));
    asm(&[], &value(64));
    asm(&["E-LIMIT p 1"], &value(65));
    // A condition longer than the kernel evaluates.
    let inputs = vec!["m"; 70_000].join(",");
    asm(
        &["E-LIMIT p 3"],
        &format!("q: ALLOC_LQ -> a\nm: MEASURE_Z a -> m\np: COND_PAULI a, mask=X, inputs=[{inputs}]\nz: FREE_LQ a"),
    );
    // Sources, and names.
    let found = findings(&" ".repeat((16 << 20) + 1), Format::Json);
    assert_eq!(summary(&found), ["E-LIMIT - -"]);
    let found = findings(&";".repeat((16 << 20) + 1), Format::Asm);
    assert_eq!(summary(&found), ["E-LIMIT - -"]);
    json(&["E-SCHEMA - 4"], &inside(&[&format!(r#"{{"id": "{}", "op": "FENCE_EPOCH"}}"#, "x".repeat(256))]));
    asm(&["E-PARSE - 1"], &format!("{}: FENCE_EPOCH", "x".repeat(256)));
}

/// One graph with a mistake of nearly every class tells them all.
#[test]
fn all_mistakes_are_reported() {
    json(
        &[
            "E-CAP - -",
            "E-DUP-ID - -",
            "E-PROFILE q 3",
            "E-ARITY d 4",
            "E-LINEAR d 4",
            "E-ARG e 5",
            "E-UNDECLARED f 6",
            "E-LINEAR f 6",
            "E-CYCLE g 7",
            "E-GUARD g 7",
            "E-LEAK h 8",
            "E-DUP-ID d 9",
            "E-GUARD d 9",
            "W-UNFREED - -",
        ],
        &graph(&[
            r#"{"id": "q", "op": "ALLOC_LQ", "vqs": ["a", "b", "c"], "args": {"profile": "none"}}"#,
            r#"{"id": "d", "op": "APPLY_H", "vqs": ["a", "a"]}"#,
            r#"{"id": "e", "op": "APPLY_RX", "vqs": ["a"]}"#,
            r#"{"id": "f", "op": "APPLY_X", "vqs": ["ghost"]}"#,
            r#"{"id": "g", "op": "MEASURE_Z", "vqs": ["a"], "produces": ["m"], "guard": {"event": "m", "equals": 1}}"#,
            r#"{"id": "h", "op": "OPEN_CHAN", "vqs": ["a", "b"], "chs": ["k"]}"#,
            r#"{"id": "d", "op": "APPLY_X", "vqs": ["c"], "guard": {"event": "n", "equals": 1}}"#,
        ])
        .replace(r#""chs": ["k", "l"]"#, r#""chs": ["k", "k"]"#)
        .replace(r#""caps": []"#, r#""caps": ["CAP_FLY"]"#),
    );
}
