//! Findings about the operands, arguments and profiles of single nodes.

use super::{asm, inside, json};

#[test]
fn arity() {
    json(
        &[
            "E-ARITY d 4",
            "E-ARITY e 5",
            "E-ARITY f 6",
            "E-ARITY g 7",
            "E-ARITY h 8",
            "E-ARITY i 9",
            "E-ARITY i 9",
            "E-ARITY j 10",
        ],
        &inside(&[
            r#"{"id": "d", "op": "APPLY_H", "vqs": ["a", "b"]}"#,
            r#"{"id": "e", "op": "APPLY_TOFFOLI", "vqs": ["a", "b"]}"#,
            r#"{"id": "f", "op": "MEASURE_Z", "vqs": ["a"]}"#,
            r#"{"id": "g", "op": "MEASURE_BELL", "vqs": ["a", "b"], "produces": ["m", "n", "o"]}"#,
            r#"{"id": "h", "op": "COND_PAULI", "vqs": ["a"], "args": {"mask": "X"}}"#,
            r#"{"id": "i", "op": "FENCE_EPOCH", "vqs": ["a"], "inputs": ["m"]}"#,
            r#"{"id": "j", "op": "CLOSE_CHAN"}"#,
        ]),
    );
    asm(
        &["E-ARITY q 1", "E-ARITY h 2", "E-ARITY m 3", "E-ARITY z 4"],
        "q: ALLOC_LQ n=3 -> a, b\nh: APPLY_CNOT a\nm: MEASURE_X b\nz: FREE_LQ\ny: FREE_LQ a, b",
    );
}

#[test]
fn arguments() {
    json(
        &[
            "E-ARG d 4",
            "E-ARG e 5",
            "E-ARG f 6",
            "E-ARG g 7",
            "E-ARG h 8",
            "E-ARG i 9",
            "E-ARG j 10",
            "E-ARG k 11",
            "E-ARG l 12",
            "E-ARG l 12",
            "E-ARG l 12",
            "E-ARG n 13",
            "E-LEAK l 12",
        ],
        &inside(&[
            r#"{"id": "d", "op": "APPLY_RZ", "vqs": ["a"]}"#,
            r#"{"id": "e", "op": "APPLY_RZ", "vqs": ["a"], "args": {"theta": "pi"}}"#,
            r#"{"id": "f", "op": "APPLY_H", "vqs": ["a"], "args": {"theta": 1}}"#,
            r#"{"id": "g", "op": "MEASURE_ANGLE", "vqs": ["a"], "produces": ["m"], "args": {"angle": null}}"#,
            r#"{"id": "h", "op": "COND_PAULI", "vqs": ["a"], "inputs": ["m"]}"#,
            r#"{"id": "i", "op": "COND_PAULI", "vqs": ["a"], "inputs": ["m"], "args": {"mask": "XX"}}"#,
            r#"{"id": "j", "op": "COND_PAULI", "vqs": ["a"], "inputs": ["m"], "args": {"mask": "x"}}"#,
            r#"{"id": "k", "op": "BAR_REGION", "args": {"tag": 1}}"#,
            r#"{"id": "l", "op": "OPEN_CHAN", "vqs": ["a", "b"], "chs": ["k"], "args": {"fidelity": 2, "type": 3, "opts": 4}}"#,
            r#"{"id": "n", "op": "USE_CHAN", "chs": ["k"], "args": {"semantic": "fly"}}"#,
        ]),
    );
    asm(
        &["E-ARG q 1", "E-ARG q 1", "E-ARG r 2", "E-ARG s 3", "E-ARG t 4"],
        "q: ALLOC_LQ n=1.5, space=7 -> a\nr: APPLY_RX a, angle=1, theta=1e300\ns: APPLY_P a, theta={float(\"inf\")}\n\
         t: APPLY_P a, theta={float(\"nan\")}\nz: FREE_LQ a",
    );
    // A Bell index is no bit.
    asm(
        &["E-ARG p 3"],
        "q: ALLOC_LQ -> a, b\nm: MEASURE_BELL a, b -> m\np: COND_PAULI a, inputs=[m], mask=X\nz: FREE_LQ a, b",
    );
}

#[test]
fn profiles() {
    let node =
        |profile: &str| format!(r#"{{"id": "p", "op": "ALLOC_LQ", "vqs": ["d"], "args": {{"profile": {profile}}}}}"#);
    let text = |profile: &str| {
        inside(&[&node(profile), r#"{"id": "f", "op": "FREE_LQ", "vqs": ["d"]}"#])
            .replace(r#""vqs": ["a", "b", "c"], "chs""#, r#""vqs": ["a", "b", "c", "d"], "chs""#)
    };
    for good in [
        "logical:surface_code(d=3)",
        "logical:Surface(d=5)",
        "logical:SHYPS(d=9)",
        "logical:bacon_shor(d=7, p=1e-3)",
        "LOGICAL:Honeycomb( d = 11 )",
        "azure:qubit_gate_ns_e3:surface_code(d=13)",
        "azure:qubit_maj_ns_e4:floquet_code(d=9)",
    ] {
        json(&[], &text(&format!("{good:?}")));
    }
    for bad in [
        "",
        "surface_code(d=3)",
        "physical:surface(d=3)",
        "logical:steane(d=3)",
        "logical:surface",
        "logical:surface()",
        "logical:surface(d=4)",
        "logical:surface(d=1)",
        "logical:surface(d=-3)",
        "logical:surface(d=3",
        "logical:surface(d=3, q=1)",
        "logical:surface(d=3, p=0.9)",
        "logical:surface(d=3, p=NaN)",
        "logical:surface(d=99999999999999999999)",
        "azure:surface(d=3)",
        "azure:qubit_x:surface_code(d=3)",
    ] {
        json(&["E-PROFILE p 4"], &text(&format!("{bad:?}")));
    }
    json(&["E-PROFILE p 4"], &text("3"));
    asm(
        &["E-PROFILE p 1", "E-PROFILE q 2"],
        "p: ALLOC_LQ profile=\"logical:surface_code(d=2)\" -> a\nq: ALLOC_LQ profile=fast -> b\nz: FREE_LQ a, b",
    );
}
