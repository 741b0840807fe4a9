//! Detector error models as Stim's text, both ways.

use super::arguments::probabilities;
use super::error::{InstructionError, StimError};
use super::lex::{Line, MAX_STEPS, blocks, list, unroll};
use crate::circuit::MAX_OBSERVABLES;
use crate::dem::{DetectorErrorModel, MergedMechanisms};
use crate::error::QecError;
use std::collections::BTreeSet;
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
    // Observables that no mechanism flips are part of the model, too.
    (0..model.observables).for_each(|o| _ = writeln!(out, "logical_observable L{o}"));
    out
}

/// Reads a detector error model. Suggested decompositions (`^`) are joined again.
///
/// # Errors
/// [`QecError::Stim`]: the line, and what is wrong with it.
pub fn import_model(text: &str) -> Result<DetectorErrorModel, QecError> {
    Ok(read(text)?)
}

fn read(text: &str) -> Result<DetectorErrorModel, StimError> {
    let mut reader = Reader::default();
    let mut left = MAX_STEPS;
    let mut each = |number: usize, line: &Line<'_>| reader.instruction(line).map_err(|e| e.at(number));
    unroll(&blocks(text)?, &mut left, &mut each)?;
    let Reader { mut model, errors, .. } = reader;
    model.coordinates.resize(model.detectors as usize, [0.0; 3]);
    model.mechanisms = errors.mechanisms();
    Ok(model)
}

/// A model under construction.
#[derive(Default)]
struct Reader {
    model: DetectorErrorModel,
    errors: MergedMechanisms,
    /// Detectors are numbered from here, by the shifts so far.
    offset: u64,
    /// The same for coordinates.
    shift: [f64; 3],
}

impl Reader {
    fn instruction(&mut self, line: &Line<'_>) -> Result<(), InstructionError> {
        match line.name {
            "error" => return self.error(line),
            "detector" => {
                for t in &line.targets {
                    let d = self.detector(t)?;
                    let needed = d as usize + 1;
                    if self.model.coordinates.len() < needed {
                        self.model.coordinates.resize(needed, [0.0; 3]);
                    }
                    self.model.coordinates[d as usize] =
                        std::array::from_fn(|i| self.shift[i] + line.arguments.get(i).copied().unwrap_or(0.0));
                }
            }
            "shift_detectors" => {
                let by: u64 = match line.targets[..] {
                    [] => 0,
                    [t] => t.parse().map_err(|_| InstructionError::Shift(t.into()))?,
                    _ => return Err(InstructionError::ShiftCount),
                };
                self.offset = self.offset.saturating_add(by);
                self.shift.iter_mut().zip(&line.arguments).for_each(|(s, a)| *s += a);
            }
            "logical_observable" => {
                for t in &line.targets {
                    self.observable(t)?;
                }
            }
            other => return Err(InstructionError::Unsupported(other.into())),
        }
        Ok(())
    }

    /// An error mechanism. A target that is named twice cancels.
    fn error(&mut self, line: &Line<'_>) -> Result<(), InstructionError> {
        let [p] = probabilities(line)?;
        let (mut detectors, mut observables) = (BTreeSet::new(), 0);
        for t in line.targets.iter().filter(|t| **t != "^") {
            if t.starts_with('L') {
                observables ^= 1 << self.observable(t)?;
            } else {
                let d = self.detector(t)?;
                if !detectors.remove(&d) {
                    detectors.insert(d);
                }
            }
        }
        self.errors.add(detectors.into_iter().collect(), observables, p);
        Ok(())
    }

    /// A detector by name, which the model has from now on.
    fn detector(&mut self, text: &str) -> Result<u32, InstructionError> {
        let number = text.strip_prefix('D').and_then(|t| t.parse::<u64>().ok());
        let number = number.ok_or_else(|| InstructionError::NotADetector(text.into()))?;
        match number.checked_add(self.offset) {
            Some(d) if d < MAX_DETECTORS as u64 => {
                self.model.detectors = self.model.detectors.max(d as u32 + 1);
                Ok(d as u32)
            }
            _ => Err(InstructionError::LargeDetector { detector: text.into(), limit: MAX_DETECTORS }),
        }
    }

    /// An observable by name, which the model has from now on.
    fn observable(&mut self, text: &str) -> Result<u32, InstructionError> {
        match text.strip_prefix('L').and_then(|t| t.parse::<u32>().ok()) {
            Some(o) if o < MAX_OBSERVABLES => {
                self.model.observables = self.model.observables.max(o + 1);
                Ok(o)
            }
            _ => Err(InstructionError::Observable { target: text.into(), last: MAX_OBSERVABLES - 1 }),
        }
    }
}
