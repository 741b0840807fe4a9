//! Graphs survive their text forms: assembly and JSON give back the graph they were made from.

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use qmk_qvm::{Graph, Guard, Node, Opcode, ParseOptions, Resources, assemble, disassemble, parse_json};
use serde_json::{Map, Number, Value};

fn check(graph: &Graph) {
    let text = disassemble(graph);
    let back = assemble(&text, &ParseOptions::default()).unwrap_or_else(|f| panic!("{text}\n{f:#?}"));
    assert_eq!(&back, graph, "{text}");
    assert_eq!(disassemble(&back), text);
    for json in [graph.to_json().to_string(), serde_json::to_string_pretty(&graph.to_json()).unwrap()] {
        let back = parse_json(&json).unwrap_or_else(|f| panic!("{json}\n{f:#?}"));
        assert_eq!(&back, graph, "{json}");
    }
}

/// The same cases in every run, and no files left behind.
fn run<S: Strategy>(cases: u32, strategy: S, test: impl Fn(S::Value)) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&strategy, |v| {
        test(v);
        Ok(())
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}

/// Ids, many of which mean something in the assembly language.
fn id() -> impl Strategy<Value = String> {
    let odd = [
        "if",
        "all",
        "any",
        "json",
        "and",
        "or",
        "not",
        "in",
        "true",
        "false",
        "null",
        "pi",
        "inf",
        "NaN",
        "f",
        "e",
        "n1",
        "inputs",
        "vqs",
        "chs",
        "produces",
        "caps",
        "guard",
        "for",
        "else",
        "APPLY_H",
        "FREE_LQ",
        "CCX",
        "CAP_ALLOC",
        "_",
        "_0",
        "e1",
        "E9",
        "f0",
        "macro",
        "len",
        "range",
    ];
    prop_oneof![2 => select(odd.to_vec()).prop_map(String::from), 1 => "[A-Za-z_][A-Za-z0-9_]{0,8}"]
}

fn ids(most: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(id(), 0..=most)
}

fn string() -> impl Strategy<Value = String> {
    let odd = [
        "",
        "{",
        "}",
        "{{x}}",
        "{i}",
        "\"",
        "\\",
        "\\'",
        "\\\"",
        "'",
        ";",
        "a;b",
        "\n",
        "\r\n",
        "\t",
        "\0",
        "\u{7f}",
        "\u{85}",
        "\u{2028}",
        "é",
        "漢字",
        "😀",
        "\u{feff}",
        "->",
        "a -> b",
        " if x==1",
        "[CAP]",
        "# .set",
        "\\u0041",
        "%s",
        " ",
        "\u{10ffff}",
    ];
    let piece = prop_oneof![select(odd.to_vec()).prop_map(String::from), any::<String>(), "[ -~]{0,12}"];
    prop::collection::vec(piece, 0..4).prop_map(|p| p.concat())
}

fn number() -> impl Strategy<Value = Value> {
    let floats =
        [0.0, -0.0, 1.0, -1.5, 1e16, 1e-7, f64::MAX, f64::MIN_POSITIVE, 5e-324, std::f64::consts::PI, 1e300, -1e22];
    prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        select(&[0, -1, i64::MAX, i64::MIN, i64::MIN + 1][..]).prop_map(Value::from),
        Just(Value::from(u64::MAX)),
        prop_oneof![select(floats.to_vec()), any::<f64>()]
            .prop_filter_map("finite", |f| Number::from_f64(f).map(Value::Number)),
    ]
}

fn json() -> impl Strategy<Value = Value> {
    let leaf =
        prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), number(), string().prop_map(Value::from)];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            object(inner).prop_map(Value::Object)
        ]
    })
}

fn object(value: impl Strategy<Value = Value>) -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((prop_oneof![id(), string()], value), 0..4).prop_map(|entries| entries.into_iter().collect())
}

fn guard() -> impl Strategy<Value = Guard> {
    let leaf = (id(), 0..=1u8).prop_map(|(e, v)| Guard::Equals(e, v));
    leaf.prop_recursive(4, 12, 3, |inner| {
        let parts = prop::collection::vec(inner, 1..4);
        (any::<bool>(), parts).prop_map(|(and, parts)| if and { Guard::And(parts) } else { Guard::Or(parts) })
    })
}

/// Any node that the formats can say, most of which mean nothing.
fn node() -> impl Strategy<Value = Node> {
    let lists = (ids(4), ids(2), ids(2), ids(3), ids(2));
    (id(), select(Opcode::ALL), object(json()), lists, prop::option::of(guard())).prop_map(
        |(id, op, args, (vqs, chs, inputs, produces, caps), guard)| Node {
            id,
            op,
            args,
            vqs,
            chs,
            inputs,
            produces,
            caps,
            guard,
            line: None,
        },
    )
}

fn graph() -> impl Strategy<Value = Graph> {
    let nodes = prop::collection::vec(node(), 0..6);
    let texts = (prop::option::of(string()), prop::option::of(string()), object(json()));
    // Resources as the nodes would declare them, or others.
    let resources = (any::<bool>(), ids(4), ids(3), ids(3));
    (nodes, texts, resources, ids(3)).prop_map(
        |(nodes, (name, description, metadata), (natural, vqs, chs, events), caps)| {
            let bare = Graph { nodes: nodes.clone(), ..Graph::default() };
            let resources = if natural {
                assemble(&without_resources(&bare), &ParseOptions::default()).unwrap().resources
            } else {
                Resources { vqs, chs, events }
            };
            Graph { name, description, metadata, nodes, resources, caps }
        },
    )
}

/// Assembly that leaves the declarations to the assembler.
fn without_resources(graph: &Graph) -> String {
    let text = disassemble(graph);
    let kept = text.lines().filter(|l| ![".vqs", ".chs", ".events"].iter().any(|d| l.starts_with(d)));
    kept.collect::<Vec<_>>().join("\n")
}

#[test]
fn random_graphs() {
    run(6000, graph(), |g| check(&g));
}

#[test]
fn every_opcode() {
    for &op in Opcode::ALL {
        assert_eq!(Opcode::from_name(op.name()), Some(op));
        run(40, node(), |n| check(&Graph { nodes: vec![Node { op, ..n }], ..Graph::default() }));
    }
    for (alias, name) in [("CCX", "APPLY_TOFFOLI"), ("APPLY_CCX", "APPLY_TOFFOLI"), ("CCZ", "APPLY_CCZ")] {
        assert_eq!(Opcode::from_name(alias).map(Opcode::name), Some(name));
    }
}

#[test]
fn the_deepest_that_is_allowed() {
    let guard = (0..32).fold(Guard::Equals("m".into(), 1), |g, i| {
        let other = Guard::Equals("n".into(), 0);
        match i % 4 {
            0 => Guard::And(vec![g]),
            1 => Guard::Or(vec![other, g]),
            2 => Guard::Or(vec![g]),
            _ => Guard::And(vec![g, other]),
        }
    });
    let deep = |levels| (0..levels).fold(Value::Null, |v, _| Value::Array(vec![v]));
    let mut args = Map::new();
    args.insert("k".into(), deep(64));
    let mut metadata = Map::new();
    metadata.insert("k".into(), deep(63));
    let text = format!("{}: SET_POLICY", "x".repeat(255));
    let mut g = assemble(&text, &ParseOptions::default()).unwrap();
    (g.nodes[0].guard, g.nodes[0].args, g.metadata) = (Some(guard), args, metadata);
    check(&g);
}

/// Programs in the macro language, built from random parts; the graph they make is an ordinary one.
#[test]
fn programs_with_macros() {
    let part = prop_oneof![
        (0..4i64, -1..5i64).prop_map(|(a, b)| format!(
            ".for i in {a}..n-1\nh{{i}}_{b}: APPLY_RZ q{{i}}, theta={{pi / (i + 1)}}/{}\n.endfor\n",
            b * 2 + 1
        )
        .replace("_-", "_m")),
        (0..3usize, 0..3usize).prop_map(|(a, b)| format!("PAIR(q{a}, {{qs[{b}]}})\n")),
        Just("ALL(qs)\nALL([f\"q{i}\" for i in range(n) if i % 2 == 0])\n".to_string()),
        (0..2i64, id()).prop_map(|(v, e)| format!(
            ".if n % 2 == {v}\nAPPLY_X q0 if {e}==1 && (m==0 || all({e}==0))\n.else\n\
            APPLY_Y q{{n-1}} if any({e}=={v})\n.endif\n"
        )),
        string().prop_map(|s| format!(
            "BAR_REGION tag={}\n",
            Value::from(s).to_string().replace('{', "{{").replace('}', "}}")
        )),
        (1..9i64).prop_map(|v| format!(".set n = 1 + (n + {v}) % 5\n.set qs = [f\"q{{i}}\" for i in 0..n+2]\n")),
        Just("m{n}: MEASURE_Z q0 -> m{n} [CAP_MEASURE]\n".to_string()),
    ];
    let head = ".param n = 3\n.set qs = [f\"q{i}\" for i in range(n)]\n.caps CAP_ALLOC\nALLOC_LQ n={n} -> {qs}\n\
        .macro PAIR(a, b)\nh: APPLY_H {a}\nc: APPLY_CNOT {a}, {b}\n.endmacro\n\
        .macro ALL(l)\n.for q in l\n.if len(l) > 1\nPAIR({q}, l[0])\n.else\nx{q}: APPLY_X {q}\n.endif\n.endfor\n.endmacro\n";
    let strategy = (prop::collection::vec(part, 0..8), 3..7i64);
    run(300, strategy, |(parts, n)| {
        let text = format!("{head}{}", parts.concat());
        let options = ParseOptions { params: [("n".to_string(), n.to_string())].into(), ..ParseOptions::default() };
        check(&assemble(&text, &options).unwrap_or_else(|f| panic!("{text}\n{f:#?}")));
    });
}
