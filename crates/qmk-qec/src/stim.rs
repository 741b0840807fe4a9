//! Stim's text formats for circuits and detector error models
//! (<https://github.com/quantumlib/Stim/blob/main/doc/file_format_stim_circuit.md>), both ways.

use crate::circuit::{Circuit, Gate, MAX_OBSERVABLES, Step};
use crate::dem::{DetectorErrorModel, Merged};
use qmk_abi::image::{Clifford1, Clifford2, Pauli, Qubit};
use std::fmt::Write;

/// Most instructions and targets of an imported circuit with its loops written out.
const MAX_STEPS: usize = 1 << 22;
/// Most qubits of an imported circuit.
const MAX_QUBITS: u32 = 1 << 17;
/// Most detectors of an imported model.
const MAX_DETECTORS: u32 = 1 << 20;

const LETTERS: [(Pauli, char); 3] = [(Pauli::X, 'X'), (Pauli::Y, 'Y'), (Pauli::Z, 'Z')];

fn letter(p: Pauli) -> char {
    match p {
        Pauli::X => 'X',
        Pauli::Y => 'Y',
        Pauli::Z => 'Z',
    }
}

fn list(values: &[f64]) -> String {
    values.iter().map(f64::to_string).collect::<Vec<_>>().join(",")
}

/// Writes a circuit. Beginnings of rounds become comments.
pub fn export(circuit: &Circuit) -> String {
    let mut out = String::new();
    for (q, at) in &circuit.coordinates {
        _ = writeln!(out, "QUBIT_COORDS({}) {q}", list(at));
    }
    let mut records = 0;
    let look_back =
        |records: u32, which: &[u32]| which.iter().map(|r| format!(" rec[-{}]", records - r)).collect::<String>();
    // Steps with the same name share a line.
    let mut open = String::new();
    for step in circuit.steps() {
        let argument = |p: f64| if p > 0.0 { format!("({p})") } else { String::new() };
        let (head, targets) = match step {
            Step::Gate(Gate::Pauli(p), q) => (letter(*p).to_string(), format!(" {q}")),
            Step::Gate(Gate::Clifford(g), q) => {
                let name = match g {
                    Clifford1::H => "H",
                    Clifford1::S => "S",
                    Clifford1::Sdg => "S_DAG",
                    Clifford1::Sx => "SQRT_X",
                    Clifford1::Sxdg => "SQRT_X_DAG",
                };
                (name.into(), format!(" {q}"))
            }
            Step::Gate2(g, [a, b]) => {
                let name = match g {
                    Clifford2::Cnot => "CX",
                    Clifford2::Cz => "CZ",
                    Clifford2::Swap => "SWAP",
                };
                (name.into(), format!(" {a} {b}"))
            }
            Step::Reset(p, q) => {
                (if *p == Pauli::Z { "R".into() } else { format!("R{}", letter(*p)) }, format!(" {q}"))
            }
            Step::Measure(p, q, wrong) => {
                records += 1;
                let name = if *p == Pauli::Z { "M".into() } else { format!("M{}", letter(*p)) };
                (name + &argument(*wrong), format!(" {q}"))
            }
            Step::MeasurePair(p, [a, b], wrong) => {
                records += 1;
                let p = letter(*p);
                (format!("MPP{}", argument(*wrong)), format!(" {p}{a}*{p}{b}"))
            }
            Step::Pauli1(q, p) => {
                let name = match *p {
                    [x, 0.0, 0.0] => format!("X_ERROR({x})"),
                    [0.0, y, 0.0] => format!("Y_ERROR({y})"),
                    [0.0, 0.0, z] => format!("Z_ERROR({z})"),
                    [x, y, z] if x == y && y == z => format!("DEPOLARIZE1({})", 3.0 * x),
                    p => format!("PAULI_CHANNEL_1({})", list(&p)),
                };
                (name, format!(" {q}"))
            }
            Step::Pauli2([a, b], p) => {
                let equal = p.iter().all(|x| *x == p[0]);
                let name = if equal {
                    format!("DEPOLARIZE2({})", 15.0 * p[0])
                } else {
                    format!("PAULI_CHANNEL_2({})", list(p))
                };
                (name, format!(" {a} {b}"))
            }
            Step::Tick => ("TICK".into(), String::new()),
            Step::Round => ("# round".into(), String::new()),
            Step::Detector(which, at) => (format!("DETECTOR({})", list(at)), look_back(records, which)),
            Step::Observable(index, which) => (format!("OBSERVABLE_INCLUDE({index})"), look_back(records, which)),
        };
        let alone = matches!(step, Step::Tick | Step::Round | Step::Detector(..) | Step::Observable(..));
        if alone || open != head {
            if !out.is_empty() && !out.ends_with('\n') {
                out.push('\n');
            }
            out.push_str(&head);
            open = if alone { String::new() } else { head };
        }
        out.push_str(&targets);
    }
    if !out.is_empty() && !out.ends_with('\n') {
        out.push('\n');
    }
    out
}

/// A Pauli and a qubit, as in `X12`.
fn factor(text: &str) -> Option<(Pauli, &str)> {
    let (p, _) = LETTERS.iter().find(|(_, c)| text.starts_with(*c))?;
    Some((*p, text.get(1..)?))
}

/// A line taken apart: name, arguments, targets.
struct Line<'a> {
    name: &'a str,
    arguments: Vec<f64>,
    targets: Vec<&'a str>,
}

/// Takes a line apart; `None` if there is nothing in it.
fn line(text: &str) -> Result<Option<Line<'_>>, String> {
    let text = text.split('#').next().unwrap_or("").trim();
    if text.is_empty() {
        return Ok(None);
    }
    let end = text.find(|c: char| c.is_whitespace() || matches!(c, '(' | '[')).unwrap_or(text.len());
    let (name, mut rest) = text.split_at(end);
    if let Some(tagged) = rest.strip_prefix('[') {
        rest = tagged.split_once(']').ok_or("a tag is not closed")?.1;
    }
    let mut arguments = Vec::new();
    if let Some(inside) = rest.trim_start().strip_prefix('(') {
        let (inside, after) = inside.split_once(')').ok_or("a parenthesis is not closed")?;
        for a in inside.split(',').map(str::trim).filter(|a| !a.is_empty()) {
            let value: f64 = a.parse().map_err(|_| format!("{a:?} is not a number"))?;
            arguments.push(value);
        }
        rest = after;
    }
    Ok(Some(Line { name, arguments, targets: rest.split_whitespace().collect() }))
}

/// A block of lines with its number of repetitions, or one line.
enum Item<'a> {
    Line(usize, Line<'a>),
    Repeat(u64, Vec<Item<'a>>),
}

/// Parses blocks. Stim's loops nest; a stack keeps deep nesting off the call stack.
fn blocks(text: &str) -> Result<Vec<Item<'_>>, String> {
    let mut stack: Vec<(u64, Vec<Item<'_>>)> = vec![(1, Vec::new())];
    for (number, text) in text.lines().enumerate() {
        let number = number + 1;
        let at = |e: String| format!("line {number}: {e}");
        let Some(mut parsed) = line(text).map_err(at)? else { continue };
        if parsed.name == "}" {
            let (times, body) =
                stack.pop().filter(|_| !stack.is_empty()).ok_or_else(|| at("} closes no block".into()))?;
            if let Some((_, outer)) = stack.last_mut() {
                outer.push(Item::Repeat(times, body));
            }
        } else if parsed.name.eq_ignore_ascii_case("repeat") {
            if parsed.targets.pop() != Some("{") || parsed.targets.len() != 1 {
                return Err(at("expected REPEAT count {".into()));
            }
            let times = parsed.targets[0].parse().map_err(|_| at(format!("{:?} is not a count", parsed.targets[0])))?;
            if stack.len() > 16 {
                return Err(at("blocks nest deeper than 16".into()));
            }
            stack.push((times, Vec::new()));
        } else {
            let Some((_, block)) = stack.last_mut() else { continue };
            block.push(Item::Line(number, parsed));
        }
    }
    match stack.pop() {
        Some((_, items)) if stack.is_empty() => Ok(items),
        _ => Err("a block is not closed".into()),
    }
}

/// Calls `each` for every line, loops written out.
fn unroll<'a>(
    items: &[Item<'a>],
    left: &mut usize,
    each: &mut impl FnMut(&Line<'a>) -> Result<(), String>,
) -> Result<(), String> {
    for item in items {
        match item {
            Item::Line(number, l) => {
                let cost = 1 + l.targets.len();
                *left = left.checked_sub(cost).ok_or_else(|| {
                    format!("line {number}: with its loops written out the text has more than {MAX_STEPS} targets")
                })?;
                each(l).map_err(|e| format!("line {number}: {e}"))?;
            }
            Item::Repeat(times, body) => {
                for _ in 0..*times {
                    // A loop around nothing costs time, too.
                    *left = left.checked_sub(1).ok_or_else(|| format!("loops run more than {MAX_STEPS} times"))?;
                    unroll(body, left, each)?;
                }
            }
        }
    }
    Ok(())
}

fn qubit(text: &str) -> Result<Qubit, String> {
    match text.parse() {
        Ok(q) if q < MAX_QUBITS => Ok(q),
        Ok(_) => Err(format!("qubit {text} is not below {MAX_QUBITS}")),
        Err(_) => Err(format!("{text:?} is not a qubit")),
    }
}

fn pairs(targets: &[&str]) -> Result<Vec<[Qubit; 2]>, String> {
    if targets.len() % 2 == 1 {
        return Err("two-qubit operations take qubits in pairs".into());
    }
    let pair = |t: &[&str]| match (qubit(t[0])?, qubit(t[1])?) {
        (a, b) if a == b => Err(format!("qubit {a} is paired with itself")),
        (a, b) => Ok([a, b]),
    };
    targets.chunks(2).map(pair).collect()
}

/// Reads a circuit. Not all of Stim is understood: measurements of inverted qubits, of products other than of two equal
/// Paulis, correlated errors, heralded errors and classical control are refused.
///
/// # Errors
/// The line, and what is wrong with it.
pub fn import(text: &str) -> Result<Circuit, String> {
    let mut circuit = Circuit::new();
    let mut shift = [0.0; 3];
    let mut left = MAX_STEPS;
    unroll(&blocks(text)?, &mut left, &mut |l| instruction(&mut circuit, &mut shift, l))?;
    Ok(circuit)
}

fn probabilities<const N: usize>(l: &Line<'_>) -> Result<[f64; N], String> {
    let p: [f64; N] = l.arguments.as_slice().try_into().map_err(|_| format!("{} takes {N} probabilities", l.name))?;
    if p.iter().any(|p| !(0.0..=1.0).contains(p)) || p.iter().sum::<f64>() > 1.0 + 1e-9 {
        return Err(format!("probabilities of {} are not between 0 and 1 together", l.name));
    }
    Ok(p)
}

fn instruction(circuit: &mut Circuit, shift: &mut [f64; 3], l: &Line<'_>) -> Result<(), String> {
    let name = l.name.to_ascii_uppercase();
    let each = |circuit: &mut Circuit, f: &dyn Fn(Qubit) -> Step| {
        l.targets.iter().try_for_each(|t| {
            circuit.push(f(qubit(t)?));
            Ok(())
        })
    };
    let wrong = || match l.arguments[..] {
        [] => Ok(0.0),
        _ => probabilities::<1>(l).map(|[p]| p),
    };
    let basis = |rest: &str| match rest {
        "" | "Z" => Some(Pauli::Z),
        "X" => Some(Pauli::X),
        "Y" => Some(Pauli::Y),
        _ => None,
    };
    let clifford = match &*name {
        "H" | "H_XZ" => Some(Clifford1::H),
        "S" | "SQRT_Z" => Some(Clifford1::S),
        "S_DAG" | "SQRT_Z_DAG" => Some(Clifford1::Sdg),
        "SQRT_X" => Some(Clifford1::Sx),
        "SQRT_X_DAG" => Some(Clifford1::Sxdg),
        _ => None,
    };
    if let Some(g) = clifford {
        return each(circuit, &|q| Step::Gate(Gate::Clifford(g), q));
    }
    let couple = match &*name {
        "CX" | "CNOT" | "ZCX" => Some(Clifford2::Cnot),
        "CZ" | "ZCZ" => Some(Clifford2::Cz),
        "SWAP" => Some(Clifford2::Swap),
        _ => None,
    };
    if let Some(g) = couple {
        pairs(&l.targets)?.into_iter().for_each(|p| circuit.push(Step::Gate2(g, p)));
        return Ok(());
    }
    match &*name {
        "I" | "QUBIT_COORDS" | "SHIFT_COORDS" | "TICK" => {}
        _ if l.targets.iter().any(|t| t.starts_with('!')) => return Err("inverted targets are not supported".into()),
        _ => {}
    }
    match &*name {
        "X" | "Y" | "Z" => {
            let p = LETTERS.iter().find(|(_, c)| name.starts_with(*c)).map_or(Pauli::Z, |l| l.0);
            each(circuit, &|q| Step::Gate(Gate::Pauli(p), q))
        }
        "I" => Ok(()),
        "TICK" => {
            circuit.push(Step::Tick);
            Ok(())
        }
        "QUBIT_COORDS" => {
            for t in &l.targets {
                let at = l.arguments.iter().enumerate().map(|(i, a)| a + shift.get(i).unwrap_or(&0.0)).collect();
                circuit.coordinates.push((qubit(t)?, at));
            }
            Ok(())
        }
        "SHIFT_COORDS" => {
            shift.iter_mut().zip(&l.arguments).for_each(|(s, a)| *s += a);
            Ok(())
        }
        "DETECTOR" | "OBSERVABLE_INCLUDE" => {
            let back = |t: &&str| {
                let k: Option<u32> =
                    t.strip_prefix("rec[-").and_then(|t| t.strip_suffix(']')).and_then(|t| t.parse().ok());
                let k = k.ok_or_else(|| format!("{t:?} is not rec[-k]"))?;
                let record = circuit.records().checked_sub(k).filter(|_| k > 0);
                record.ok_or_else(|| format!("{t} names a record that is not there; there are {}", circuit.records()))
            };
            let records = l.targets.iter().map(back).collect::<Result<Vec<_>, String>>()?;
            if name == "DETECTOR" {
                let at = std::array::from_fn(|i| shift[i] + l.arguments.get(i).unwrap_or(&0.0));
                circuit.push(Step::Detector(records, at));
                return Ok(());
            }
            match l.arguments[..] {
                [i] if i >= 0.0 && i < MAX_OBSERVABLES as f64 && i.fract() == 0.0 => {
                    circuit.push(Step::Observable(i as u32, records));
                    Ok(())
                }
                _ => Err(format!("the observable is not one of 0 to {}", MAX_OBSERVABLES - 1)),
            }
        }
        "X_ERROR" | "Y_ERROR" | "Z_ERROR" => {
            let [p] = probabilities(l)?;
            let p = LETTERS.map(|(_, c)| if name.starts_with(c) { p } else { 0.0 });
            each(circuit, &|q| Step::Pauli1(q, p))
        }
        "DEPOLARIZE1" => {
            let [p] = probabilities(l)?;
            each(circuit, &|q| Step::Pauli1(q, [p / 3.0; 3]))
        }
        "PAULI_CHANNEL_1" => {
            let p = probabilities(l)?;
            each(circuit, &|q| Step::Pauli1(q, p))
        }
        "DEPOLARIZE2" | "PAULI_CHANNEL_2" => {
            let p = if name == "DEPOLARIZE2" { [probabilities::<1>(l)?[0] / 15.0; 15] } else { probabilities(l)? };
            pairs(&l.targets)?.into_iter().for_each(|q| circuit.push(Step::Pauli2(q, p)));
            Ok(())
        }
        "MXX" | "MYY" | "MZZ" => {
            let (p, wrong) = (basis(&name[2..]).unwrap_or(Pauli::Z), wrong()?);
            pairs(&l.targets)?.into_iter().for_each(|q| circuit.push(Step::MeasurePair(p, q, wrong)));
            Ok(())
        }
        "MPP" => {
            let wrong = wrong()?;
            for t in &l.targets {
                let factors: Option<Vec<_>> = t.split('*').map(factor).collect();
                match factors.as_deref() {
                    Some([(p, q)]) => circuit.push(Step::Measure(*p, qubit(q)?, wrong)),
                    Some([(p, a), (other, b)]) if p == other => match (qubit(a)?, qubit(b)?) {
                        (a, b) if a == b => return Err(format!("{t} names a qubit twice")),
                        (a, b) => circuit.push(Step::MeasurePair(*p, [a, b], wrong)),
                    },
                    _ => return Err(format!("{t} is not a product of at most two equal Paulis")),
                }
            }
            Ok(())
        }
        _ => {
            if let Some(b) = name.strip_prefix("MR").and_then(basis) {
                let wrong = wrong()?;
                return l.targets.iter().map(|t| qubit(t)).try_for_each(|q| {
                    let q = q?;
                    circuit.push(Step::Measure(b, q, wrong));
                    circuit.push(Step::Reset(b, q));
                    Ok(())
                });
            }
            if let Some(b) = name.strip_prefix('M').and_then(basis) {
                let wrong = wrong()?;
                return each(circuit, &|q| Step::Measure(b, q, wrong));
            }
            if let Some(b) = name.strip_prefix('R').and_then(basis) {
                return each(circuit, &|q| Step::Reset(b, q));
            }
            Err(format!("instruction {:?} is not supported", l.name))
        }
    }
}

/// Writes a detector error model.
pub fn export_model(model: &DetectorErrorModel) -> String {
    let mut out = String::new();
    for m in &model.mechanisms {
        _ = write!(out, "error({})", m.p);
        m.detectors.iter().for_each(|d| _ = write!(out, " D{d}"));
        (0..64).filter(|o| m.observables >> o & 1 == 1).for_each(|o| _ = write!(out, " L{o}"));
        out.push('\n');
    }
    for (d, at) in model.coordinates.iter().enumerate() {
        _ = writeln!(out, "detector({}) D{d}", list(at));
    }
    // What nothing flips is there all the same.
    (0..model.observables).for_each(|o| _ = writeln!(out, "logical_observable L{o}"));
    out
}

/// Reads a detector error model. Suggested decompositions (`^`) are joined again.
///
/// # Errors
/// The line, and what is wrong with it.
pub fn import_model(text: &str) -> Result<DetectorErrorModel, String> {
    let mut model = DetectorErrorModel::default();
    let mut errors = Merged::default();
    let (mut offset, mut shift) = (0u64, [0.0; 3]);
    let mut left = MAX_STEPS;
    unroll(&blocks(text)?, &mut left, &mut |l| {
        let detector = |t: &str| {
            let d = t
                .strip_prefix('D')
                .and_then(|t| t.parse::<u64>().ok())
                .ok_or_else(|| format!("{t:?} is not D<number>"))?;
            match d.checked_add(offset) {
                Some(d) if d < MAX_DETECTORS as u64 => Ok(d as u32),
                _ => Err(format!("detector {t} is not below {MAX_DETECTORS}")),
            }
        };
        let observable = |t: &str| match t.strip_prefix('L').and_then(|t| t.parse::<u32>().ok()) {
            Some(o) if o < MAX_OBSERVABLES => Ok(o),
            _ => Err(format!("{t:?} is not one of L0 to L{}", MAX_OBSERVABLES - 1)),
        };
        match l.name {
            "error" => {
                let [p] = probabilities(l)?;
                let (mut detectors, mut observables) = (std::collections::BTreeSet::new(), 0);
                for t in l.targets.iter().filter(|t| **t != "^") {
                    if t.starts_with('L') {
                        let o = observable(t)?;
                        observables ^= 1 << o;
                        model.observables = model.observables.max(o + 1);
                    } else {
                        let d = detector(t)?;
                        model.detectors = model.detectors.max(d + 1);
                        if !detectors.remove(&d) {
                            detectors.insert(d);
                        }
                    }
                }
                errors.add(detectors.into_iter().collect(), observables, p);
            }
            "detector" => {
                for t in &l.targets {
                    let d = detector(t)?;
                    model.detectors = model.detectors.max(d + 1);
                    let needed = d as usize + 1;
                    if model.coordinates.len() < needed {
                        model.coordinates.resize(needed, [0.0; 3]);
                    }
                    model.coordinates[d as usize] =
                        std::array::from_fn(|i| shift[i] + l.arguments.get(i).copied().unwrap_or(0.0));
                }
            }
            "shift_detectors" => {
                let by: u64 = match l.targets[..] {
                    [] => 0,
                    [t] => t.parse().map_err(|_| format!("{t:?} is not a number of detectors"))?,
                    _ => return Err("shift_detectors takes one number".into()),
                };
                offset = offset.saturating_add(by);
                shift.iter_mut().zip(&l.arguments).for_each(|(s, a)| *s += a);
            }
            "logical_observable" => {
                for t in &l.targets {
                    model.observables = model.observables.max(observable(t)? + 1);
                }
            }
            other => return Err(format!("instruction {other:?} is not supported")),
        }
        Ok(())
    })?;
    model.coordinates.resize(model.detectors as usize, [0.0; 3]);
    model.mechanisms = errors.mechanisms();
    Ok(model)
}
