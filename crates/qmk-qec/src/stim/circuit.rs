//! Circuits as Stim's text, both ways.

use super::lex::{Line, MAX_STEPS, blocks, list, probabilities, unroll};
use crate::circuit::{Circuit, Gate, MAX_OBSERVABLES, Step};
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
