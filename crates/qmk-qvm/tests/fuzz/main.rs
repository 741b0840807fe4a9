//! Arbitrary input: never a panic, and the stages agree. What parses survives its text forms, what verifies without an
//! error is lowered, and what is lowered the kernel admits with no more than the capabilities the verifier named.

mod circuit;

use circuit::{choices, circuit};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use qmk_kernel::{Limits, admit};
use qmk_qvm::{
    Finding, Format, Graph, Guard, ParseOptions, Severity, assemble, detect_format, disassemble, lower, parse,
    parse_json, required_caps, verify, verify_with,
};
use serde_json::{Map, Value, json};

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

fn check_findings(found: &[Finding], lines: usize) {
    for f in found {
        assert!(!f.message.is_empty() && f.message.len() < 5000, "{f:?}");
        assert!(f.line.is_none_or(|l| l >= 1 && l as usize <= lines.max(1)), "{lines} lines, {f:?}");
        assert_eq!(f.severity == Severity::Error, f.code.starts_with("E-"), "{f:?}");
    }
}

/// Whether a graph is valid; that all stages agree on it.
fn check_graph(graph: &Graph, lines: usize) -> bool {
    let text = disassemble(graph);
    let back = assemble(&text, &ParseOptions::default()).unwrap_or_else(|f| panic!("{text}\n{f:#?}"));
    assert_eq!(&back, graph, "{text}");
    let back = parse_json(&graph.to_json().to_string()).unwrap_or_else(|f| panic!("{text}\n{f:#?}"));
    assert_eq!(&back, graph, "{text}");

    let found = verify(graph);
    check_findings(&found, lines);
    let valid = found.iter().all(|f| f.severity == Severity::Warning);
    let lowered = match lower(graph) {
        Ok(lowered) => lowered,
        Err(refused) => {
            assert!(!valid && refused.iter().any(|f| f.severity == Severity::Error), "{text}");
            return false;
        }
    };
    assert!(valid, "lowered with {found:#?}\n{text}");
    assert_eq!(lowered.node_of.len(), lowered.image.code.len());
    assert!(lowered.node_of.iter().all(|&n| (n as usize) < graph.nodes.len()));
    let names: Vec<_> = lowered.events.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, graph.resources.events);
    let bits: Vec<u32> = lowered.events.iter().flat_map(|e| e.bits.iter().copied()).collect();
    assert_eq!(bits, (0..lowered.image.events).collect::<Vec<_>>());

    let caps = required_caps(graph);
    let missing = verify_with(graph, Some(caps));
    assert!(!missing.iter().any(|f| f.code == "E-CAP"), "{missing:#?}\n{text}");
    let admitted = admit(lowered.image.clone(), caps, Limits::default());
    let admitted = admitted.unwrap_or_else(|e| panic!("{e}\n{text}\n{:#?}", lowered.image));
    // Nothing is left allocated.
    let live = admitted.image.code.iter().fold(0i64, |n, i| match i.op {
        qmk_abi::image::Op::Alloc(_) => n + 1,
        qmk_abi::image::Op::Free(_) => n - 1,
        _ => n,
    });
    assert_eq!(live, 0, "{text}");
    true
}

/// Whether a text is a valid program.
fn check_text(text: &str, format: Format) -> bool {
    // A parameter that the program does not have is a finding.
    let given = text.contains(".param n").then(|| ("n".to_string(), "2".to_string()));
    let options = ParseOptions { params: given.into_iter().collect(), ..ParseOptions::default() };
    let lines = text.lines().count();
    match parse(text, format, &options) {
        Ok(graph) => check_graph(&graph, lines),
        Err(found) => {
            assert!(!found.is_empty());
            // serde_json counts the line behind the last line feed.
            check_findings(&found, lines + 1);
            assert!(
                found.iter().all(|f| ["E-PARSE", "E-SCHEMA", "E-LIMIT", "E-ARG"].contains(&f.code.as_str())),
                "{found:?}"
            );
            false
        }
    }
}

#[test]
fn valid_circuits_are_admitted() {
    run(4000, choices(40), |c| {
        let graph = circuit(&c);
        assert!(check_graph(&graph, 1), "{:#?}\n{}", verify(&graph), disassemble(&graph));
    });
}

#[test]
fn mutated_circuits() {
    let edits = prop::collection::vec((0..8u8, any::<[Index; 3]>()), 1..4);
    let valid = std::cell::Cell::new(0);
    run(12_000, (choices(25), edits), |(c, edits)| {
        let mut graph = circuit(&c);
        for (kind, [a, b, c]) in edits {
            if graph.nodes.is_empty() {
                break;
            }
            let (i, j) = (a.index(graph.nodes.len()), b.index(graph.nodes.len()));
            let other = graph.nodes[j].clone();
            let id = |list: &[String]| if list.is_empty() { "q0".to_string() } else { c.get(list).clone() };
            let node = &mut graph.nodes[i];
            match kind {
                0 => drop(graph.nodes.remove(i)),
                1 => graph.nodes.swap(i, j),
                2 => graph.nodes.insert(i, other),
                3 => node.op = other.op,
                4 => (node.vqs, node.chs) = (other.vqs, other.chs),
                5 => node.vqs.push(id(&graph.resources.vqs)),
                6 => node.guard = Some(Guard::Equals(id(&graph.resources.events), 1)),
                _ => (node.args, node.produces) = (other.args, other.produces),
            }
        }
        valid.set(valid.get() + check_graph(&graph, 1) as u32);
    });
    assert!(valid.get() > 100, "only {} of these were valid", valid.get());
}

const PROGRAM: &str = r#"; A program with all that the language has.
.version 0.1
.name "teleport {{1}}"
.description "a \"test\" \\ ü"
.metadata json"{{\"k\": [1, 2.5, null]}}"
.caps CAP_ALLOC CAP_COMPUTE CAP_MEASURE CAP_MAGIC CAP_LINK
.param n = 3
.set qubits = [f"q{i}" for i in range(n)]
.set angles = [pi / 2 ** k for k in 1..n if k != 2]
.macro BELL(a, b)
  h: APPLY_H {a}
  c: APPLY_CNOT {a}, {b}
.endmacro
.macro LADDER(qs, theta)
  .for i in 0..len(qs)-2
    BELL({qs[i]}, qs[i + 1])
    .if i % 2 == 0 and not theta < 0
      rz{i}: APPLY_RZ {qs[i]}, theta={theta}/2 [CAP_MAGIC]
    .elif i == 1
      APPLY_S {qs[i]}
    .else
      APPLY_T {qs[-1]}
    .endif
  .endfor
.endmacro
alloc: ALLOC_LQ n={n}, profile="logical:surface_code(d=3)" -> {", ".join(qubits)} [CAP_ALLOC]
LADDER(qubits, {angles[0]})
LADDER([q0, q1], -1e-3)
o: OPEN_CHAN q0, q1, fidelity=0.99 -> k
USE_CHAN k, semantic=swap
CLOSE_CHAN k
FENCE_EPOCH
.for i, q in enumerate(qubits)
  m{i}: MEASURE_{"XYZ"[i % 3]} {q} -> e{i}
.endfor
x: APPLY_X q0 if e0==1 && (e1==0 || all(e0==1))
p: COND_PAULI q0, q1, mask=XZ, inputs=[e0, e1]
RESET q0
t: INJECT_T_STATE q0
MEASURE_ANGLE q0, angle=-pi -> a
BAR_REGION tag="end; {{}}"
SET_POLICY level=2, "odd key"=json"[true]"
FREE_LQ {qubits}
"#;

/// What stands out in one language or the other.
const TOKENS: [&str; 84] = [
    "{",
    "}",
    "{{",
    "}}",
    "(",
    ")",
    "[",
    "]",
    "\"",
    "'",
    "\\",
    ",",
    ":",
    ";",
    ".",
    "..",
    "->",
    "=",
    "==",
    "&&",
    "||",
    "+",
    "-",
    "*",
    "**",
    "/",
    "//",
    "%",
    "<",
    "!",
    "@",
    "\n",
    "\r\n",
    "\t",
    " ",
    "\0",
    "\u{85}",
    "\u{2028}",
    "ä",
    "漢",
    "😀",
    "\u{feff}",
    "0",
    "1",
    "-1",
    "1e999",
    "-1e308",
    "1e-400",
    "0.1e",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "NaN",
    "inf",
    "null",
    "true",
    "[]",
    "{}",
    "json\"[]\"",
    "f\"{n}\"",
    "if",
    "all(",
    "not ",
    " in ",
    " for i in ",
    "range(9999999)",
    ".for i in 0..99",
    ".endfor",
    ".if 1",
    ".else",
    ".endif",
    ".macro M(a)",
    ".endmacro",
    "M(1)",
    "BELL(q0)",
    ".set n = n + n",
    ".include \"x\"",
    ".vqs",
    "len(",
    "math.",
    "\"guard\": ",
    "\"\\ud800\"",
    "q0",
    "e0",
];

#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Insert(Index, &'static str),
    Replace(Index, &'static str),
    Delete(Index, usize),
    Copy(Index, Index, usize),
    Swap(Index, Index),
    Truncate(Index),
    Nest(Index, &'static str, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let (at, token) = (any::<Index>, || select(TOKENS.to_vec()));
    prop_oneof![
        3 => (at(), 0..8u8).prop_map(|(i, bit)| Edit::Flip(i, 1 << bit)),
        4 => (at(), token()).prop_map(|(i, t)| Edit::Insert(i, t)),
        4 => (at(), token()).prop_map(|(i, t)| Edit::Replace(i, t)),
        3 => (at(), 1..40usize).prop_map(|(i, n)| Edit::Delete(i, n)),
        3 => (at(), at(), 1..300usize).prop_map(|(i, j, n)| Edit::Copy(i, j, n)),
        4 => (at(), at()).prop_map(|(i, j)| Edit::Swap(i, j)),
        1 => at().prop_map(Edit::Truncate),
        1 => (at(), token(), 1..3000usize).prop_map(|(i, t, n)| Edit::Nest(i, t, n)),
    ]
}

/// The word at a place: letters and digits, or one other character.
fn word(text: &[u8], at: usize) -> (usize, usize) {
    let is_word = |i: usize| text.get(i).is_some_and(|b| b.is_ascii_alphanumeric() || *b == b'_');
    let (mut start, mut end) = (at, at + 1);
    while is_word(at) && start > 0 && is_word(start - 1) {
        start -= 1;
    }
    while is_word(at) && is_word(end) {
        end += 1;
    }
    (start, end)
}

fn mutate(text: &str, edits: &[Edit]) -> String {
    let mut text = text.as_bytes().to_vec();
    for edit in edits {
        let n = text.len();
        if n == 0 {
            break;
        }
        match edit {
            Edit::Flip(i, bit) => text[i.index(n)] ^= bit,
            Edit::Insert(i, t) => drop(text.splice(i.index(n)..i.index(n), t.bytes())),
            Edit::Replace(i, t) => {
                let (a, b) = word(&text, i.index(n));
                drop(text.splice(a..b, t.bytes()));
            }
            Edit::Delete(i, len) => drop(text.drain(i.index(n)..(i.index(n) + len).min(n))),
            Edit::Copy(i, j, len) => {
                let part = text[i.index(n)..(i.index(n) + len).min(n)].to_vec();
                drop(text.splice(j.index(n)..j.index(n), part));
            }
            Edit::Swap(i, j) => {
                let (a, b) = (word(&text, i.index(n)), word(&text, j.index(n)));
                let (a, b) = if a < b { (a, b) } else { (b, a) };
                if a.1 <= b.0 {
                    let (first, last) = (text[a.0..a.1].to_vec(), text[b.0..b.1].to_vec());
                    text.splice(b.0..b.1, first);
                    text.splice(a.0..a.1, last);
                }
            }
            Edit::Truncate(i) => text.truncate(i.index(n)),
            Edit::Nest(i, t, times) => drop(text.splice(i.index(n)..i.index(n), t.repeat(*times).bytes())),
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Runs mutations of a text, some of which must have left it valid.
fn mutations(cases: u32, text: &str, format: Format) {
    assert!(check_text(text, format), "{:?}", parse(text, format, &ParseOptions::default()).map(|g| verify(&g)));
    let valid = std::cell::Cell::new(0);
    run(cases, prop::collection::vec(edit(), 1..5), |edits| {
        valid.set(valid.get() + check_text(&mutate(text, &edits), format) as u32);
    });
    assert!(valid.get() > cases / 200, "only {} of {cases} were valid", valid.get());
}

#[test]
fn mutated_assembly() {
    mutations(12_000, PROGRAM, Format::Asm);
}

#[test]
fn mutated_plain_assembly() {
    let graph = assemble(PROGRAM, &ParseOptions::default()).unwrap();
    mutations(6000, &disassemble(&graph), Format::Asm);
}

#[test]
fn mutated_json() {
    let graph = assemble(PROGRAM, &ParseOptions::default()).unwrap();
    mutations(6000, &graph.to_json().to_string(), Format::Json);
    mutations(6000, &serde_json::to_string_pretty(&graph.to_json()).unwrap(), Format::Json);
}

/// Values in the place of others, which text mutations rarely make.
#[test]
fn mutated_json_values() {
    let graph = assemble(PROGRAM, &ParseOptions::default()).unwrap().to_json();
    let value = prop_oneof![
        select(vec![
            json!(null),
            json!(true),
            json!(0),
            json!(-1),
            json!(0.5),
            json!(1e300),
            json!(u64::MAX),
            json!(i64::MIN),
            json!(""),
            json!("q0"),
            json!("e0"),
            json!("k"),
            json!("if"),
            json!("APPLY_H"),
            json!([]),
            json!({}),
            json!(["q0", "q0"]),
            json!({"event": "e0", "equals": 1}),
            json!({"type": "and", "conditions": [{"event": "e1", "equals": 0}]}),
        ]),
        select(TOKENS.to_vec()).prop_map(Value::from),
    ];
    run(10_000, prop::collection::vec((any::<Index>(), value), 1..4), |edits| {
        let mut graph = graph.clone();
        for (at, value) in edits {
            let n = places(&mut graph, &mut |_, _| ());
            let at = at.index(n);
            places(&mut graph, &mut |i, v| {
                if i == at {
                    *v = value.clone();
                }
            });
        }
        check_text(&graph.to_string(), Format::Json);
    });
}

/// Calls `f` with each place of a value, numbered; returns how many there are.
fn places(v: &mut Value, f: &mut dyn FnMut(usize, &mut Value)) -> usize {
    fn walk(v: &mut Value, n: &mut usize, f: &mut dyn FnMut(usize, &mut Value)) {
        match v {
            Value::Array(a) => a.iter_mut().for_each(|v| walk(v, n, f)),
            Value::Object(m) => m.values_mut().for_each(|v| walk(v, n, f)),
            _ => {}
        }
        f(*n, v);
        *n += 1;
    }
    let mut n = 0;
    walk(v, &mut n, f);
    n
}

#[test]
fn soup() {
    let pieces = || prop::collection::vec(select(TOKENS.to_vec()), 0..30).prop_map(|t| t.concat());
    run(8000, pieces(), |text| {
        check_text(&text, Format::Asm);
        check_text(&text, Format::Json);
        check_text(&format!("x: SET_POLICY a={text}"), Format::Asm);
        check_text(&format!(".set a = {text}\nx: BAR_REGION tag=\"{{a}}\""), Format::Asm);
        check_text(&format!(".macro M(a, b)\n{text}\n.endmacro\nM({text}, 1)"), Format::Asm);
        detect_format(&text, &text);
    });
    run(8000, any::<String>(), |text| {
        check_text(&text, Format::Asm);
        check_text(&text, Format::Json);
        check_text(&format!("x: APPLY_X q if {text}"), Format::Asm);
        check_text(&format!("{{\"version\": \"0.1\", \"program\": {text}}}"), Format::Json);
        check_text(&format!("a: ALLOC_LQ profile={} -> q", Value::from(text.as_str())), Format::Asm);
        detect_format(&text, &text);
    });
}

/// The angles a program may name, each a number or refused.
#[test]
fn angles() {
    let angle = prop_oneof![
        any::<f64>(),
        (-40..40i32, -1e-8..1e-8f64).prop_map(|(k, d)| k as f64 * std::f64::consts::FRAC_PI_2 + d),
        (0..300i32).prop_map(|e| 10f64.powi(e)),
    ];
    run(2000, (angle, select(vec!["APPLY_RX", "APPLY_RY", "APPLY_RZ", "APPLY_P", "MEASURE_ANGLE"])), |(a, op)| {
        let measures = op == "MEASURE_ANGLE";
        let (key, out) = if measures { ("angle", " -> m") } else { ("theta", "") };
        let text = format!("ALLOC_LQ -> q\nx: {op} q, {key}={{float(\"{a}\")}}{out}\nFREE_LQ q");
        assert_eq!(check_text(&text, Format::Asm), a.is_finite(), "{text}");
    });
}

#[test]
fn odd_parameters() {
    run(500, (any::<String>(), any::<String>()), |(key, value)| {
        let options =
            ParseOptions { params: [(key, value.clone()), ("n".into(), value)].into(), ..ParseOptions::default() };
        if let Ok(graph) = parse(PROGRAM, Format::Asm, &options) {
            check_graph(&graph, PROGRAM.lines().count());
        }
    });
    assert_eq!(
        parse_json("{\"version\":\"0.1\",\"program\":{\"nodes\":[]},\"metadata\":{}}").unwrap().metadata,
        Map::new()
    );
}
