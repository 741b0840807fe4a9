//! Circuits as Stim's text, both ways.

use super::arguments::probabilities;
use super::error::{InstructionError, StimError};
use super::lex::{Line, MAX_STEPS, blocks, list, unroll};
use crate::circuit::{Circuit, Gate, MAX_OBSERVABLES, Step};
use crate::error::QecError;
use qmk_abi::image::{Clifford1, Clifford2, Pauli, Qubit};
use std::fmt::Write;

/// Most qubits of an imported circuit.
const MAX_QUBITS: u32 = 1 << 17;

const LETTERS: [(Pauli, char); 3] = [(Pauli::X, 'X'), (Pauli::Y, 'Y'), (Pauli::Z, 'Z')];

fn letter(p: Pauli) -> char {
    match p {
        Pauli::X => 'X',
        Pauli::Y => 'Y',
        Pauli::Z => 'Z',
    }
}

/// Writes a circuit. Beginnings of rounds become comments.
pub fn export(circuit: &Circuit) -> String {
    let mut out = String::new();
    for (q, at) in &circuit.coordinates {
        _ = writeln!(out, "QUBIT_COORDS({}) {q}", list(at));
    }
    let mut records = 0;
    // Steps with the same name and arguments share a line.
    let mut open = String::new();
    for step in circuit.steps() {
        records += matches!(step, Step::Measure(..) | Step::MeasurePair(..)) as u32;
        let (head, targets) = written(step, records);
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

/// Name and arguments of a step, and its targets. `records` counts the measurements so far, with that of the step.
fn written(step: &Step, records: u32) -> (String, String) {
    let look_back = |which: &[u32]| which.iter().map(|r| format!(" rec[-{}]", records - r)).collect::<String>();
    let argument = |p: f64| if p > 0.0 { format!("({p})") } else { String::new() };
    // Z is the basis that Stim does not name.
    let in_basis = |name: &str, p: Pauli| if p == Pauli::Z { name.into() } else { format!("{name}{}", letter(p)) };
    match step {
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
        Step::Reset(p, q) => (in_basis("R", *p), format!(" {q}")),
        Step::Measure(p, q, wrong) => (in_basis("M", *p) + &argument(*wrong), format!(" {q}")),
        Step::MeasurePair(p, [a, b], wrong) => {
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
            let depolarizes = p.iter().all(|x| *x == p[0]);
            let name = if depolarizes {
                format!("DEPOLARIZE2({})", 15.0 * p[0])
            } else {
                format!("PAULI_CHANNEL_2({})", list(p))
            };
            (name, format!(" {a} {b}"))
        }
        Step::Tick => ("TICK".into(), String::new()),
        Step::Round => ("# round".into(), String::new()),
        Step::Detector(which, at) => (format!("DETECTOR({})", list(at)), look_back(which)),
        Step::Observable(index, which) => (format!("OBSERVABLE_INCLUDE({index})"), look_back(which)),
    }
}

/// Reads a circuit. Part of Stim is not supported: measurements of inverted qubits, of products other than of two equal
/// Paulis, correlated errors, heralded errors and classical control.
///
/// # Errors
/// [`QecError::Stim`]: the line, and what is wrong with it.
pub fn import(text: &str) -> Result<Circuit, QecError> {
    Ok(read(text)?)
}

fn read(text: &str) -> Result<Circuit, StimError> {
    let mut circuit = Circuit::new();
    let mut shift = [0.0; 3];
    let mut left = MAX_STEPS;
    let mut each =
        |number: usize, line: &Line<'_>| instruction(&mut circuit, &mut shift, line).map_err(|e| e.at(number));
    unroll(&blocks(text)?, &mut left, &mut each)?;
    Ok(circuit)
}

fn instruction(circuit: &mut Circuit, shift: &mut [f64; 3], line: &Line<'_>) -> Result<(), InstructionError> {
    let name = line.name.to_ascii_uppercase();
    if let Some(gate) = clifford1(&name) {
        return each_qubit(circuit, line, |q| Step::Gate(Gate::Clifford(gate), q));
    }
    if let Some(gate) = clifford2(&name) {
        return each_pair(circuit, line, |q| Step::Gate2(gate, q));
    }
    let may_be_inverted = matches!(&*name, "I" | "QUBIT_COORDS" | "SHIFT_COORDS" | "TICK");
    if !may_be_inverted && line.targets.iter().any(|t| t.starts_with('!')) {
        return Err(InstructionError::Inverted);
    }
    match &*name {
        "I" => Ok(()),
        "X" => each_qubit(circuit, line, |q| Step::Gate(Gate::Pauli(Pauli::X), q)),
        "Y" => each_qubit(circuit, line, |q| Step::Gate(Gate::Pauli(Pauli::Y), q)),
        "Z" => each_qubit(circuit, line, |q| Step::Gate(Gate::Pauli(Pauli::Z), q)),
        "TICK" | "QUBIT_COORDS" | "SHIFT_COORDS" | "DETECTOR" | "OBSERVABLE_INCLUDE" => {
            annotation(circuit, shift, &name, line)
        }
        "X_ERROR" | "Y_ERROR" | "Z_ERROR" | "DEPOLARIZE1" | "PAULI_CHANNEL_1" | "DEPOLARIZE2" | "PAULI_CHANNEL_2" => {
            errors(circuit, &name, line)
        }
        _ => measurement(circuit, &name, line),
    }
}

fn clifford1(name: &str) -> Option<Clifford1> {
    match name {
        "H" | "H_XZ" => Some(Clifford1::H),
        "S" | "SQRT_Z" => Some(Clifford1::S),
        "S_DAG" | "SQRT_Z_DAG" => Some(Clifford1::Sdg),
        "SQRT_X" => Some(Clifford1::Sx),
        "SQRT_X_DAG" => Some(Clifford1::Sxdg),
        _ => None,
    }
}

fn clifford2(name: &str) -> Option<Clifford2> {
    match name {
        "CX" | "CNOT" | "ZCX" => Some(Clifford2::Cnot),
        "CZ" | "ZCZ" => Some(Clifford2::Cz),
        "SWAP" => Some(Clifford2::Swap),
        _ => None,
    }
}

/// Steps that say where qubits are, when layers end, and which records belong together.
fn annotation(
    circuit: &mut Circuit,
    shift: &mut [f64; 3],
    name: &str,
    line: &Line<'_>,
) -> Result<(), InstructionError> {
    match name {
        "TICK" => circuit.push(Step::Tick),
        "QUBIT_COORDS" => {
            for t in &line.targets {
                let at = line.arguments.iter().enumerate().map(|(i, a)| a + shift.get(i).unwrap_or(&0.0)).collect();
                circuit.coordinates.push((qubit(t)?, at));
            }
        }
        "SHIFT_COORDS" => shift.iter_mut().zip(&line.arguments).for_each(|(s, a)| *s += a),
        "DETECTOR" => {
            let at = std::array::from_fn(|i| shift[i] + line.arguments.get(i).unwrap_or(&0.0));
            let records = records(circuit, line)?;
            circuit.push(Step::Detector(records, at));
        }
        _ => {
            let records = records(circuit, line)?;
            match line.arguments[..] {
                [i] if i >= 0.0 && i < MAX_OBSERVABLES as f64 && i.fract() == 0.0 => {
                    circuit.push(Step::Observable(i as u32, records));
                }
                _ => return Err(InstructionError::ObservableIndex(MAX_OBSERVABLES - 1)),
            }
        }
    }
    Ok(())
}

/// Pauli errors.
fn errors(circuit: &mut Circuit, name: &str, line: &Line<'_>) -> Result<(), InstructionError> {
    let one = match name {
        "DEPOLARIZE1" => probabilities::<1>(line)?.map(|p| [p / 3.0; 3])[0],
        "PAULI_CHANNEL_1" => probabilities(line)?,
        "DEPOLARIZE2" | "PAULI_CHANNEL_2" => {
            let p = match name {
                "DEPOLARIZE2" => [probabilities::<1>(line)?[0] / 15.0; 15],
                _ => probabilities(line)?,
            };
            return each_pair(circuit, line, |q| Step::Pauli2(q, p));
        }
        _ => {
            let [p] = probabilities(line)?;
            LETTERS.map(|(_, c)| if name.starts_with(c) { p } else { 0.0 })
        }
    };
    each_qubit(circuit, line, |q| Step::Pauli1(q, one))
}

/// Measurements, resets, and both at once.
fn measurement(circuit: &mut Circuit, name: &str, line: &Line<'_>) -> Result<(), InstructionError> {
    if let "MXX" | "MYY" | "MZZ" = name {
        let (p, wrong) = (basis(&name[2..]).unwrap_or(Pauli::Z), record_error(line)?);
        return each_pair(circuit, line, |q| Step::MeasurePair(p, q, wrong));
    }
    if name == "MPP" {
        return products(circuit, line);
    }
    if let Some(p) = name.strip_prefix("MR").and_then(basis) {
        let wrong = record_error(line)?;
        for t in &line.targets {
            let q = qubit(t)?;
            circuit.push(Step::Measure(p, q, wrong));
            circuit.push(Step::Reset(p, q));
        }
        return Ok(());
    }
    if let Some(p) = name.strip_prefix('M').and_then(basis) {
        let wrong = record_error(line)?;
        return each_qubit(circuit, line, |q| Step::Measure(p, q, wrong));
    }
    if let Some(p) = name.strip_prefix('R').and_then(basis) {
        return each_qubit(circuit, line, |q| Step::Reset(p, q));
    }
    Err(InstructionError::Unsupported(line.name.into()))
}

/// Measurements of products such as `X1*X2`.
fn products(circuit: &mut Circuit, line: &Line<'_>) -> Result<(), InstructionError> {
    let wrong = record_error(line)?;
    for t in &line.targets {
        let factors: Option<Vec<_>> = t.split('*').map(factor).collect();
        match factors.as_deref() {
            Some([(p, q)]) => circuit.push(Step::Measure(*p, qubit(q)?, wrong)),
            Some([(p, a), (other, b)]) if p == other => match (qubit(a)?, qubit(b)?) {
                (a, b) if a == b => return Err(InstructionError::RepeatedQubit(t.to_string())),
                (a, b) => circuit.push(Step::MeasurePair(*p, [a, b], wrong)),
            },
            _ => return Err(InstructionError::Product(t.to_string())),
        }
    }
    Ok(())
}

/// The basis that the rest of a name stands for.
fn basis(rest: &str) -> Option<Pauli> {
    match rest {
        "" | "Z" => Some(Pauli::Z),
        "X" => Some(Pauli::X),
        "Y" => Some(Pauli::Y),
        _ => None,
    }
}

/// Probability of a wrong record: the argument of a measurement, if it has one.
fn record_error(line: &Line<'_>) -> Result<f64, InstructionError> {
    match line.arguments[..] {
        [] => Ok(0.0),
        _ => probabilities::<1>(line).map(|[p]| p),
    }
}

/// A Pauli and a qubit, as in `X12`.
fn factor(text: &str) -> Option<(Pauli, &str)> {
    let (p, _) = LETTERS.iter().find(|(_, c)| text.starts_with(*c))?;
    Some((*p, text.get(1..)?))
}

/// The records that a line names by `rec[-k]`, the k-th before the end.
fn records(circuit: &Circuit, line: &Line<'_>) -> Result<Vec<u32>, InstructionError> {
    let record = |t: &&str| {
        let k: Option<u32> = t.strip_prefix("rec[-").and_then(|t| t.strip_suffix(']')).and_then(|t| t.parse().ok());
        let k = k.ok_or_else(|| InstructionError::NotARecord(t.to_string()))?;
        let record = circuit.records().checked_sub(k).filter(|_| k > 0);
        let missing = || InstructionError::MissingRecord { target: t.to_string(), records: circuit.records() };
        record.ok_or_else(missing)
    };
    line.targets.iter().map(record).collect()
}

fn qubit(text: &str) -> Result<Qubit, InstructionError> {
    match text.parse() {
        Ok(q) if q < MAX_QUBITS => Ok(q),
        Ok(_) => Err(InstructionError::LargeQubit { qubit: text.into(), limit: MAX_QUBITS }),
        Err(_) => Err(InstructionError::Qubit(text.into())),
    }
}

/// Pushes a step for each target.
fn each_qubit(circuit: &mut Circuit, line: &Line<'_>, step: impl Fn(Qubit) -> Step) -> Result<(), InstructionError> {
    for t in &line.targets {
        circuit.push(step(qubit(t)?));
    }
    Ok(())
}

/// Pushes a step for each pair of targets.
fn each_pair(
    circuit: &mut Circuit,
    line: &Line<'_>,
    step: impl Fn([Qubit; 2]) -> Step,
) -> Result<(), InstructionError> {
    if line.targets.len() % 2 == 1 {
        return Err(InstructionError::OddTargets);
    }
    for t in line.targets.chunks(2) {
        match (qubit(t[0])?, qubit(t[1])?) {
            (a, b) if a == b => return Err(InstructionError::SelfPair(a)),
            (a, b) => circuit.push(step([a, b])),
        }
    }
    Ok(())
}
