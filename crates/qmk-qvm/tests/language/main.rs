//! The assembly language: directives, expressions, macros, includes, and what its errors say.

mod includes;

use qmk_qvm::{Finding, Format, Graph, Guard, Opcode, ParseOptions, assemble, disassemble, parse};
use serde_json::{Value, json};

fn options(params: &[(&str, &str)]) -> ParseOptions {
    let params = params.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    ParseOptions { params, ..ParseOptions::default() }
}

#[track_caller]
fn graph(text: &str) -> Graph {
    assemble(text, &options(&[])).unwrap_or_else(|found| panic!("{text}\n{found:#?}"))
}

/// Lines of the program that a text expands to.
#[track_caller]
fn lines(text: &str) -> Vec<String> {
    plain(&graph(text))
}

fn plain(graph: &Graph) -> Vec<String> {
    disassemble(graph).lines().filter(|l| !l.is_empty() && !l.starts_with('.')).map(String::from).collect()
}

/// The value an expression has as an argument.
#[track_caller]
fn value(expression: &str) -> Value {
    graph(&format!("SET_POLICY v={{{expression}}}")).nodes[0].args["v"].clone()
}

/// The text an expression becomes.
#[track_caller]
fn shown(expression: &str) -> String {
    let text = format!(".set v = {expression}\nSET_POLICY v=\"{{v}}\"");
    graph(&text).nodes[0].args["v"].as_str().unwrap().to_string()
}

#[track_caller]
fn errors(text: &str) -> Vec<Finding> {
    assemble(text, &options(&[])).expect_err(text)
}

/// The first finding has this line and its message all of these words.
#[track_caller]
fn refused(text: &str, line: u32, words: &[&str]) {
    let found = errors(text);
    assert_eq!(found[0].line, Some(line), "{text}\n{found:#?}");
    for word in words {
        assert!(found[0].message.contains(word), "{word:?} in {:?} of\n{text}", found[0].message);
    }
}

#[test]
fn lines_of_all_forms() {
    let g = graph(
        "; comment\n\t.version 0.1 ; and one behind\n.version \"0.1\"\n.caps CAP_ALLOC, CAP_MAGIC\n.caps CAP_LINK\n\
         .name \"a ; b\"\n.description \"{{x}} \\u00e9 \\ud83d\\ude00 \\\"\\\\'\"\n\
         a: ALLOC_LQ n=2, profile=\"logical:surface_code(d=3)\" -> x, y [CAP_ALLOC]\n  APPLY_H x\nAPPLY_RZ y, theta=-pi/4 [CAP_MAGIC]\n\
         m0:MEASURE_Z x->m0\nc: APPLY_X y if m0==1\nCOND_PAULI x, y, mask=XZ, inputs=[m0]\nCOND_PAULI x, pauli='Z', inputs=m0\n\
         o: OPEN_CHAN x, y, fidelity=9e-1 -> k\n",
    );
    assert_eq!(g.caps, ["CAP_ALLOC", "CAP_MAGIC", "CAP_LINK"]);
    assert_eq!(g.name.as_deref(), Some("a ; b"));
    assert_eq!(g.description.as_deref(), Some("{x} é 😀 \"\\'"));
    assert_eq!(g.resources.vqs, ["x", "y"]);
    assert_eq!(g.resources.chs, ["k"]);
    assert_eq!(g.resources.events, ["m0"]);
    let [a, h, rz, m, c, p, q, o] = g.nodes.as_slice() else { panic!("{g:#?}") };
    assert_eq!((a.id.as_str(), a.op, a.line), ("a", Opcode::AllocLq, Some(8)));
    assert_eq!(Value::Object(a.args.clone()), json!({"n": 2, "profile": "logical:surface_code(d=3)"}));
    assert_eq!(
        (a.vqs.as_slice(), a.caps.as_slice()),
        (["x".into(), "y".into()].as_slice(), ["CAP_ALLOC".into()].as_slice())
    );
    assert_eq!((h.id.as_str(), h.op), ("n1", Opcode::H));
    assert_eq!(rz.args["theta"], json!(-std::f64::consts::FRAC_PI_4));
    assert_eq!((m.id.as_str(), m.produces[0].as_str()), ("m0", "m0"));
    assert_eq!(c.guard, Some(Guard::Equals("m0".into(), 1)));
    assert_eq!((p.inputs.as_slice(), &p.args["mask"]), (["m0".to_string()].as_slice(), &json!("XZ")));
    assert_eq!((q.inputs.as_slice(), &q.args["pauli"]), (["m0".to_string()].as_slice(), &json!("Z")));
    assert_eq!((o.vqs.len(), o.chs[0].as_str(), &o.args["fidelity"]), (2, "k", &json!(0.9)));
}

#[test]
fn resources_and_metadata() {
    let g = graph(".vqs b a\n.events e d\n.chs k\n.vqs c\nALLOC_LQ -> a, b\nMEASURE_Z a -> d");
    assert_eq!(g.resources.vqs, ["b", "a", "c"]);
    assert_eq!(g.resources.events, ["e", "d"]);
    assert_eq!(g.resources.chs, ["k"]);
    let g = graph(".metadata json\"{{\\\"a\\\": [1, {{}}]}}\"\n.metadata author = \"me\"\n.metadata year=2025");
    assert_eq!(Value::Object(g.metadata), json!({"a": [1, {}], "author": "me", "year": 2025}));
    refused(".metadata [1]", 1, &["value"]);
    refused(".metadata json\"[]\"", 1, &["key = value"]);
}

#[test]
fn values() {
    let args = |text: &str| Value::Object(graph(&format!("SET_POLICY {text}")).nodes[0].args.clone());
    assert_eq!(
        args("a=1, b=-2, c=1.5, d=-1e-3, e=true, f=false, g=null, h=word, i=\"two words\", \"odd key\"=0"),
        json!({"a": 1, "b": -2, "c": 1.5, "d": -0.001, "e": true, "f": false, "g": null, "h": "word",
               "i": "two words", "odd key": 0})
    );
    assert_eq!(args("a=json\"[1, {{\\\"k\\\": null}}]\""), json!({"a": [1, {"k": null}]}));
    // Sums and products of numbers, as when a sign or divisor stands outside the braces.
    assert_eq!(
        args("a=3/2, b=--1, c=-(1+2)*3, d=2**3//3, e=7%4, f=sqrt(4)"),
        json!({"a": 1.5, "b": 1, "c": -9, "d": 2, "e": 3, "f": 2.0})
    );
    let text = ".set angle = -0.5\nAPPLY_RZ q, theta={angle}/2 [CAP_MAGIC]\nAPPLY_RZ q, theta=-{angle}/2 if m==1";
    let thetas: Vec<_> = graph(text).nodes.iter().map(|n| n.args["theta"].clone()).collect();
    assert_eq!(thetas, [json!(-0.25), json!(0.25)]);
    assert_eq!(args("theta=pi"), json!({"theta": std::f64::consts::PI}));
    refused("SET_POLICY a=1, a=2", 1, &["a", "twice"]);
    refused("SET_POLICY a=99999999999999999999", 1, &["64 bits"]);
    refused("SET_POLICY a=1e999", 1, &["finite"]);
    refused("SET_POLICY a=", 1, &["value"]);
    refused("SET_POLICY a=1/0", 1, &["zero"]);
    refused("SET_POLICY a=json\"{{\"", 1, &["json"]);
}

#[test]
fn guards() {
    let guard = |text: &str| graph(&format!("APPLY_X q if {text}")).nodes[0].guard.clone().unwrap();
    let e = |name: &str, v| Guard::Equals(name.into(), v);
    assert_eq!(guard("a==1"), e("a", 1));
    assert_eq!(guard("a==0&&b==1"), Guard::And(vec![e("a", 0), e("b", 1)]));
    assert_eq!(
        guard("a==1 || b==1 && c==0 or d==1"),
        Guard::Or(vec![e("a", 1), Guard::And(vec![e("b", 1), e("c", 0)]), e("d", 1)])
    );
    assert_eq!(guard("(a==1 or b==1) and c==0"), Guard::And(vec![Guard::Or(vec![e("a", 1), e("b", 1)]), e("c", 0)]));
    assert_eq!(guard("((a==1))"), e("a", 1));
    assert_eq!(guard("all(a==1)"), Guard::And(vec![e("a", 1)]));
    assert_eq!(
        guard("any(a==1, all(b==0), all==1)"),
        Guard::Or(vec![e("a", 1), Guard::And(vec![e("b", 0)]), e("all", 1)])
    );
    assert_eq!(
        guard("if==1 and and==1 or or==0"),
        Guard::Or(vec![Guard::And(vec![e("if", 1), e("and", 1)]), e("or", 0)])
    );
    for bad in ["", "a", "a=1", "a==2", "a==-1", "(a==1", "a==1)", "a==1 &&", "all()", "any(a==1", "a==1 b==1", "1==a"]
    {
        refused(&format!("FENCE_EPOCH\nx: APPLY_X q if {bad}"), 2, &[]);
    }
}

#[test]
fn labels() {
    // Labels made up give way to those that stand in the text, wherever.
    assert_eq!(
        lines("FENCE_EPOCH\nn1: FENCE_EPOCH\nFENCE_EPOCH\nn3: FENCE_EPOCH"),
        ["n2: FENCE_EPOCH", "n1: FENCE_EPOCH", "n4: FENCE_EPOCH", "n3: FENCE_EPOCH"]
    );
    assert_eq!(
        lines(".macro M(q)\nh: APPLY_H {q}\n.endmacro\nM(a)\nM(b)\nh_1: APPLY_H c\nh: APPLY_X c"),
        ["h_2: APPLY_H a", "h_3: APPLY_H b", "h_1: APPLY_H c", "h: APPLY_X c"]
    );
    assert_eq!(
        lines(".macro M()\nx: FENCE_EPOCH\n.endmacro\nM()\nM()\nM()"),
        ["x: FENCE_EPOCH", "x_1: FENCE_EPOCH", "x_2: FENCE_EPOCH"]
    );
}

#[test]
fn arithmetic() {
    for (expression, expected) in [
        ("1 + 2 * 3", json!(7)),
        ("(1 + 2) * 3", json!(9)),
        ("7 // 2 - 7 % 3", json!(2)),
        ("-7 // 2", json!(-4)),
        ("-7 % 3", json!(2)),
        ("7 % -3", json!(-2)),
        ("-7.5 % 2", json!(0.5)),
        ("7.5 % -2", json!(-0.5)),
        ("7 / 2", json!(3.5)),
        ("2 ** 10", json!(1024)),
        ("-2 ** 2", json!(-4)),
        ("2 ** -1", json!(0.5)),
        ("2 ** 3 ** 2", json!(512)),
        ("1e3", json!(1000.0)),
        ("math.sqrt(16) + sqrt(9)", json!(7.0)),
        ("2 * math.asin(1 / math.sqrt(4 - 3))", json!(std::f64::consts::PI)),
        ("math.pi", json!(std::f64::consts::PI)),
        ("math.e", json!(std::f64::consts::E)),
        ("cos(0)", json!(1.0)),
        ("abs(-3)", json!(3)),
        ("min(3, 1, 2)", json!(1)),
        ("max([3, 1.5])", json!(3)),
        ("sum([1, 2, 3.5])", json!(6.5)),
        ("int(3.9)", json!(3)),
        ("int(-3.9)", json!(-3)),
        ("int(\"12\")", json!(12)),
        ("floor(-0.5)", json!(-1)),
        ("ceil(0.5)", json!(1)),
        ("round(2.5)", json!(2)),
        ("float(2)", json!(2.0)),
        ("log2(8)", json!(3.0)),
        ("True + True", json!(2)),
        ("1 if 2 > 1 else 0", json!(1)),
        ("1 if 2 < 1 else 3 if False else 4", json!(4)),
        ("9223372036854775807", json!(i64::MAX)),
    ] {
        assert_eq!(value(expression), expected, "{expression}");
    }
    for (expression, words) in [
        ("9223372036854775807 + 1", "64 bits"),
        ("2 ** 64", "64 bits"),
        ("-9223372036854775807 - 2", "64 bits"),
        ("1 // 0", "zero"),
        ("1.0 % 0", "zero"),
        ("1 +", "ends too early"),
        ("1 2", "unexpected 2"),
        ("nothing", "nothing is not defined; define it with .set or .param"),
        ("\"a\" * 2", "not a number"),
        ("\"a\" + 1", "not a number"),
        ("launch(1)", "no function launch"),
        ("sqrt(1, 2)", "no function sqrt"),
        ("\"a\".upper()", "no such method as upper"),
        ("math.phi", "no math.phi"),
        ("int(1e30)", "64 bits"),
        ("int(\"x\")", "whole number"),
        ("min([])", "nothing"),
        ("range(1, 2, 0)", "step 0"),
        ("range(1.5)", "whole number"),
    ] {
        refused(&format!("\n.set v = {expression}"), 2, &[words]);
        refused(&format!("\n\nSET_POLICY v={{{expression}}}"), 3, &[words]);
    }
}

#[test]
fn comparisons() {
    for (expression, expected) in [
        ("1 == 1.0", true),
        ("1 != 1", false),
        ("9007199254740993 == 9007199254740992", false),
        ("\"a\" < \"b\"", true),
        ("\"a\" == 'a'", true),
        ("\"1\" == 1", false),
        ("[1, 2] == [1, 2]", true),
        ("2 in [1, 2]", true),
        ("2 not in [1, 2]", false),
        ("\"el\" in \"hello\"", true),
        ("not 0 and 1 <= 2", true),
        ("0 or \"\"", false),
        ("not not 1", true),
        ("not 1 == 2", true),
        ("3 > 2 and 2 >= 2", true),
    ] {
        let text = format!(".if {expression}\nyes: FENCE_EPOCH\n.else\nno: FENCE_EPOCH\n.endif");
        assert_eq!(graph(&text).nodes[0].id == "yes", expected, "{expression}");
    }
}

#[test]
fn strings_and_lists() {
    for (expression, expected) in [
        ("f\"q{1 + 1}\"", "q2"),
        ("f\"{{{1}}}\"", "{1}"),
        ("f'{\"a\"}b'", "ab"),
        ("[f\"q{i}\" for i in range(3)]", "q0, q1, q2"),
        ("[f\"q{i}\" for i in 1..3]", "q1, q2, q3"),
        ("[i * i for i in range(6) if i % 2 == 1]", "1, 9, 25"),
        ("[f\"{a}{b}\" for a, b in [[1, 2], [3, 4]]]", "12, 34"),
        ("[f\"{i}{q}\" for i, q in enumerate([\"a\", \"b\"])]", "0a, 1b"),
        ("[[i + j for j in range(2)] for i in range(2)]", "0, 1, 1, 2"),
        ("\"-\".join([\"a\", \"b\"])", "a-b"),
        ("\", \".join([f\"q{i}\" for i in range(2)])", "q0, q1"),
        ("\"\".join([1, 2])", "12"),
        ("[1, 2, 3][0]", "1"),
        ("[1, 2, 3][-1]", "3"),
        ("[1, 2, 3, 4][1:3]", "2, 3"),
        ("[1, 2, 3][:-1]", "1, 2"),
        ("[1, 2, 3][5:]", ""),
        ("\"abc\"[1]", "b"),
        ("\"abc\"[1:]", "bc"),
        ("\"äöü\"[-2]", "ö"),
        ("len([1, 2])", "2"),
        ("len(\"äöü\")", "3"),
        ("[1] + [2, 3]", "1, 2, 3"),
        ("\"a\" + 'b'", "ab"),
        ("range(3)", "0, 1, 2"),
        ("range(1, 3)", "1, 2"),
        ("range(5, 0, -2)", "5, 3, 1"),
        ("range(3, 1)", ""),
        ("range(9223372036854775806, 9223372036854775807)", "9223372036854775806"),
        ("reversed([1, 2])", "2, 1"),
        ("str(1.5) + str([1, 2])", "1.51, 2"),
        ("[]", ""),
        ("[1, 2,]", "1, 2"),
        ("1e16", "1e16"),
        ("True", "true"),
        ("\"a;b\"", "a;b"),
    ] {
        assert_eq!(shown(expression), expected, "{expression}");
    }
    refused(".set l = [1]\n.set v = l[1]", 2, &["index 1", "list of 1"]);
    refused(".set v = [1][-2]", 1, &["index -2"]);
    refused(".set v = 5[0]", 1, &["not a list"]);
    refused(".set v = [1][]", 1, &["index"]);
    refused(".set v = [x for x in 3]", 1, &["not a list"]);
    refused(".set v = [x for x, y in [1]]", 1, &["unpack"]);
    refused(".set v = \"\\x\"", 1, &["escape"]);
    refused(".set v = \"\\ud800\"", 1, &["escape"]);
    refused(".set v = f\"{\"", 1, &["brace"]);
}

#[test]
fn braces() {
    // Anywhere in a line: labels, operands, values, outputs, guards.
    let text = ".set i = 1\n.set q = \"data\"\n.set all = [\"a\", \"b\"]\nr{i}_{i+1}: ALLOC_LQ n={len(all)} -> {all}\n\
                m{i}: MEASURE_Z {all[0]} -> e{i}\nAPPLY_X {all[-1]} if e{i}=={i}\nBAR_REGION tag=\"{q}; {{{q}}}\"";
    assert_eq!(
        lines(text),
        [
            "r1_2: ALLOC_LQ n=2 -> a, b",
            "m1: MEASURE_Z a -> e1",
            "n1: APPLY_X b if e1==1",
            "n2: BAR_REGION tag=\"data; {{data}}\""
        ]
    );
    refused("FENCE_EPOCH\nBAR_REGION tag={", 2, &["{ is not closed"]);
    refused("BAR_REGION tag=}", 1, &["} stands alone"]);
    refused("BAR_REGION tag={}", 1, &["ends too early"]);
}

#[test]
fn conditions_and_loops() {
    let text = ".set n = 2\n.for i in 0..n\n.for j in i+1..n\nx{i}{j}: FENCE_EPOCH\n.endfor\n.endfor";
    assert_eq!(lines(text), ["x01: FENCE_EPOCH", "x02: FENCE_EPOCH", "x12: FENCE_EPOCH"]);
    // Fractions as bounds, empty ranges, lists, strings, pairs.
    assert_eq!(lines(".set n = 5\n.for i in 0..n/2-1\nx{i}: FENCE_EPOCH\n.endfor").len(), 2);
    assert_eq!(lines(".for i in 1..0\nx{i}: FENCE_EPOCH\n.endfor"), [""; 0]);
    assert_eq!(lines(".for i in 2..-2\nx: FENCE_EPOCH\n.endfor"), [""; 0]);
    assert_eq!(lines(".for q in [\"a\", \"b\"]\n{q}: FENCE_EPOCH\n.endfor"), ["a: FENCE_EPOCH", "b: FENCE_EPOCH"]);
    assert_eq!(lines(".for c in \"xy\"\n{c}: FENCE_EPOCH\n.endfor"), ["x: FENCE_EPOCH", "y: FENCE_EPOCH"]);
    assert_eq!(lines(".for i, q in enumerate([\"a\"])\n{q}{i}: FENCE_EPOCH\n.endfor"), ["a0: FENCE_EPOCH"]);
    // A loop variable ends with its loop; .set within stays.
    assert_eq!(
        lines(".set i = 7\n.set s = 0\n.for i in 1..3\n.set s = s + i\n.endfor\nx{i}_{s}: FENCE_EPOCH"),
        ["x7_6: FENCE_EPOCH"]
    );
    let choice = |n: i32| {
        lines(&format!(
            ".set n = {n}\n.if n == 0\nzero: FENCE_EPOCH\n.elif n == 1\n.if True\none: FENCE_EPOCH\n.else\nnot: FENCE_EPOCH\n\
             .endif\n.elif n == 2\n.else\nmany: FENCE_EPOCH\n.endif"
        ))
    };
    assert_eq!(choice(0), ["zero: FENCE_EPOCH"]);
    assert_eq!(choice(1), ["one: FENCE_EPOCH"]);
    assert_eq!(choice(2), [""; 0]);
    assert_eq!(choice(3), ["many: FENCE_EPOCH"]);
    // What is not taken is not looked at.
    assert_eq!(lines(".if False\n.set x = nothing\nAPPLY_FOO\n.endif"), [""; 0]);
    refused("\n.for i in 0..3\nFENCE_EPOCH", 2, &[".for is never closed by .endfor"]);
    refused("\n.if 1\n.for i in 0..3\n.endif\n.endfor", 3, &["never closed"]);
    refused("FENCE_EPOCH\n.endfor", 2, &[".endfor without its opening"]);
    refused(".else", 1, &[".else without"]);
    refused(".if 0\n.else\n.else\n.endif", 3, &[".else without"]);
    refused(".for i\n.endfor", 1, &["name in first..last"]);
    refused(".for 1 in 0..3\n.endfor", 1, &["\"1\" is not a name"]);
    refused(".for i in 5\n.endfor", 1, &["5 is not a list"]);
    refused(".if\n.endif", 1, &["ends too early"]);
    refused("\n.if 1\n.elif 2\n.endif\n.if 0\n.elif oops\n.endif", 6, &["oops is not defined"]);
}

#[test]
fn macros() {
    let bell = ".macro BELL(q0, q1)\n; inside\nh: APPLY_H {q0}\nc: APPLY_CNOT {q0}, {q1}\n.endmacro\n";
    let called = |call: &str| lines(&format!("{bell}{call}"));
    assert_eq!(called("BELL(a, b)"), ["h: APPLY_H a", "c: APPLY_CNOT a, b"]);
    assert_eq!(called("  BELL ( \"a\" , 'b' ) ; call"), ["h: APPLY_H a", "c: APPLY_CNOT a, b"]);
    // Braces in the arguments, alone or as parts of names, as the v0.1 libraries have them.
    assert_eq!(
        called(".set p = \"r\"\n.set i = 2\nBELL({p}_{i-1}, q{i})"),
        ["h: APPLY_H r_1", "c: APPLY_CNOT r_1, q2"]
    );
    assert_eq!(called(".set q = [\"a\", \"b\"]\nBELL(q[0], {q[1]})"), ["h: APPLY_H a", "c: APPLY_CNOT a, b"]);
    assert_eq!(called(".for i in 0..0\nBELL(f\"q{i}\", \"r{i}\")\n.endfor"), ["h: APPLY_H q0", "c: APPLY_CNOT q0, r0"]);
    // Lists stay lists: bare names, comprehensions, braces.
    let all =
        ".macro ALL(qs)\n.for q in qs\nh_{q}: APPLY_H {q}\n.endfor\nend: BAR_REGION tag=\"{len(qs)}\"\n.endmacro\n";
    let expected = ["h_a: APPLY_H a", "h_b: APPLY_H b", "end: BAR_REGION tag=\"2\""];
    for call in ["ALL([a, b])", "ALL([\"a\", \"b\"])", "ALL([x for x in \"ab\"])", ".set l = [\"a\", \"b\"]\nALL({l})"]
    {
        assert_eq!(lines(&format!("{all}{call}")), expected, "{call}");
    }
    // Within each other; parameters hide what they are called like and give it back.
    let text = ".set q = 5\n.macro IN(q)\nx{q}: FENCE_EPOCH\n.endmacro\n.macro OUT(q)\nIN({q} + 1)\nIN(q)\ny{q}: FENCE_EPOCH\n\
                .endmacro\nOUT(1)\nz{q}: FENCE_EPOCH";
    assert_eq!(lines(text), ["x2: FENCE_EPOCH", "x1: FENCE_EPOCH", "y1: FENCE_EPOCH", "z5: FENCE_EPOCH"]);
    // A macro may define another, and .set in it stays.
    let text = ".macro A()\n.macro B()\n.set n = 3\n.endmacro\n.endmacro\nA()\nB()\nx{n}: FENCE_EPOCH";
    assert_eq!(lines(text), ["x3: FENCE_EPOCH"]);
    // Nodes carry the line of the outermost call.
    let g = graph(&format!(".macro TWICE(a, b)\nBELL(a, b)\nBELL(b, a)\n.endmacro\n{bell}\nTWICE(x, y)"));
    assert_eq!(g.nodes.iter().map(|n| n.line).collect::<Vec<_>>(), [Some(11); 4]);
    refused(&format!("{bell}BELL(a)"), 6, &["BELL takes 2 arguments, not 1"]);
    refused(&format!("{bell}BELL(a, b"), 6, &["expected"]);
    refused(&format!("{bell}BELL(a, b) c"), 6, &["unexpected \"c\""]);
    refused(&format!("{bell}BELL(a, {{nothing}})"), 6, &["nothing is not defined"]);
    refused("BELL(a, b)", 1, &["unknown opcode or macro \"BELL\""]);
    refused("\n.macro\n.endmacro", 2, &[".macro needs NAME(parameters)"]);
    refused(".macro M(1)\n.endmacro", 1, &[".macro needs NAME(parameters)"]);
    refused(".macro M(a)\nFENCE_EPOCH", 1, &[".macro is never closed by .endmacro"]);
    refused(".macro M()\nAPPLY_H {oops}\n.endmacro\n\nM()", 5, &["oops is not defined"]);
    let found = errors("\n.macro M()\nM()\n.endmacro\nM()");
    assert_eq!((found[0].code.as_str(), found[0].line), ("E-LIMIT", Some(5)), "{found:?}");
}

#[test]
fn parameters() {
    let text = ".param n = 2\n.param kind = \"plain\"\n.param targets = [\"a\"]\n.set twice = 2 * n\n\
                x{n}_{twice}_{len(targets)}: BAR_REGION tag=\"{kind}\"";
    let run = |params: &[(&str, &str)]| plain(&assemble(text, &options(params)).unwrap())[0].clone();
    assert_eq!(run(&[]), "x2_4_1: BAR_REGION tag=\"plain\"");
    assert_eq!(run(&[("n", "3")]), "x3_6_1: BAR_REGION tag=\"plain\"");
    // What is no expression is a string; what is one is its value.
    assert_eq!(run(&[("kind", "odd one")]), "x2_4_1: BAR_REGION tag=\"odd one\"");
    assert_eq!(run(&[("kind", "balanced_x0"), ("n", "1 + 1")]), "x2_4_1: BAR_REGION tag=\"balanced_x0\"");
    assert_eq!(run(&[("targets", "[\"1\", \"1\"]")]), "x2_4_2: BAR_REGION tag=\"plain\"");
    // A name that is mistyped would go unnoticed.
    let unknown = |text: &str, format| {
        let found = parse(text, format, &options(&[("N", "3"), ("n", "3")])).unwrap_err();
        found.iter().map(|f| format!("{}: {}", f.code, f.message)).collect::<Vec<_>>()
    };
    assert_eq!(unknown(text, Format::Asm), ["E-ARG: the program has no parameter \"N\"; it has kind, n, targets"]);
    let none = |name| format!("E-ARG: the program has no parameter {name:?}; it has none");
    assert_eq!(unknown(".set n = 1\nFENCE_EPOCH", Format::Asm), [none("N"), none("n")]);
    let graph = r#"{"version": "0.1", "program": {"nodes": []}}"#;
    assert_eq!(unknown(graph, Format::Json), [none("N"), none("n")]);
    let bare = "x{n}: FENCE_EPOCH";
    refused(bare, 1, &["n is not defined; define it with .set or .param"]);
    refused("\n.param n", 2, &[".param needs name = expression"]);
    refused(".set 1 = 2", 1, &[".set needs name = expression"]);
    // A definition that failed is one finding, not one for each use.
    let found = errors(".set n = oops\nx{n}: FENCE_EPOCH\ny{n}: FENCE_EPOCH\nz{m}: FENCE_EPOCH");
    assert_eq!(found.iter().map(|f| f.line).collect::<Vec<_>>(), [Some(1), Some(4)]);
}

/// What v0.1 programs do that plain assembly does not show.
#[test]
fn v0_1_idioms() {
    let text = r#"
.version 0.1
.caps CAP_ALLOC CAP_COMPUTE CAP_MEASURE
.set n_bits = 3
.set a_prefix = "a"
.set qubits = [f"{a_prefix}_{i}" for i in range(n_bits)]
alloc: ALLOC_LQ n={n_bits}, profile="logical:Surface(d=3)" -> {", ".join(qubits)}
.set n_swaps = n_bits / 2
.for i in 0..n_swaps-1
    .set j = n_bits - 1 - i
    swap_{i}_{j}: APPLY_SWAP {a_prefix}_{i}, {a_prefix}_{j}
.endfor
.for i in 0..n_bits-1
    .for j in i+1..n_bits-1
        .set angle = -3.14159265359 / (2 ** (j - i))
        rz_{i}_{j}: APPLY_RZ {a_prefix}_{j}, theta=-{angle}/2
    .endfor
.endfor
.macro CHAIN(c, b)
    cx: APPLY_CNOT {c}, {b}
.endmacro
CHAIN({a_prefix}_0, {a_prefix}_{n_bits-1})
.set target = "01"
.for i in 0..len(target)-1
    .if target[i] == '0'
        flip{i}: APPLY_X {qubits[i]}
    .endif
.endfor
mixed: MEASURE_BELL inputs=[], a_0, a_1 -> b0, b1
"#;
    assert_eq!(
        lines(text),
        [
            "alloc: ALLOC_LQ n=3, profile=\"logical:Surface(d=3)\" -> a_0, a_1, a_2",
            "swap_0_2: APPLY_SWAP a_0, a_2",
            "rz_0_1: APPLY_RZ a_1, theta=0.7853981633975",
            "rz_0_2: APPLY_RZ a_2, theta=0.39269908169875",
            "rz_1_2: APPLY_RZ a_2, theta=0.7853981633975",
            "cx: APPLY_CNOT a_0, a_2",
            "flip0: APPLY_X a_0",
            "mixed: MEASURE_BELL a_0, a_1 -> b0, b1",
        ]
    );
}

#[test]
fn a_program_is_read_up_to_a_number_of_nodes() {
    let asm = ".for i in 1..900000\nFENCE_EPOCH\n.endfor\n.caps CAP_ALLOC\n";
    let json = r#"{"version": "0.1", "program": {"nodes": [{"id": "a", "op": "FENCE_EPOCH"}, {"id": "b", "op": "FENCE_EPOCH"}]}}"#;
    for (text, format, n) in [(asm, Format::Asm, 900_000), (json, Format::Json, 2)] {
        let within = |most| {
            let options = ParseOptions { max_nodes: Some(most), ..ParseOptions::default() };
            qmk_qvm::parse(text, format, &options)
        };
        let found = within(n - 1).unwrap_err();
        assert!(qmk_qvm::TooLarge(n - 1).found_in(&found) && !qmk_qvm::TooLarge(n).found_in(&found), "{found:?}");
        assert_eq!(within(n).map_or(0, |g| g.nodes.len()), n);
    }
    let work = ".set l = [i * i for i in range(1000)]\nFENCE_EPOCH\n";
    let steps = |most| ParseOptions { max_steps: Some(most), ..ParseOptions::default() };
    assert_eq!(qmk_qvm::parse(work, Format::Asm, &steps(100)).unwrap_err()[0].code, "E-LIMIT");
    assert_eq!(qmk_qvm::parse(work, Format::Asm, &steps(100_000)).unwrap().nodes.len(), 1);
}
