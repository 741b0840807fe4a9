//! Detector error models as Stim's text, both ways.

use super::lex::{MAX_STEPS, blocks, list, probabilities, unroll};
use crate::circuit::MAX_OBSERVABLES;
use crate::dem::{DetectorErrorModel, MergedMechanisms};
use std::fmt::Write;

/// Most detectors of an imported model.
const MAX_DETECTORS: u32 = 1 << 20;

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
    let mut errors = MergedMechanisms::default();
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
