//! The file of a sweep: one JSON document a line, the settings first, then the points.

use crate::failure::Failure;
use qmk_qec::experiment;
use qmk_qec::experiment::memory::{Tally, wilson};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A point of a sweep as a line of its file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct PointRecord {
    pub(super) code: String,
    pub(super) distance: u32,
    pub(super) rounds: u32,
    pub(super) basis: String,
    pub(super) p: f64,
    pub(super) noise: String,
    pub(super) set: Vec<(String, f64)>,
    pub(super) decoder: String,
    pub(super) seed: u64,
    pub(super) shots: u64,
    pub(super) failures: u64,
    pub(super) logical_qubits: u32,
    pub(super) logical_error_per_shot: f64,
    pub(super) ci95: [f64; 2],
    pub(super) logical_error_per_round: f64,
    pub(super) us_per_round: f64,
    /// Whether the target error or the most shots are reached.
    pub(super) done: bool,
}

impl PointRecord {
    pub(super) fn is(&self, other: &PointRecord) -> bool {
        let what = |r: &PointRecord| (r.distance, r.rounds, r.p.to_bits(), r.basis.clone(), r.seed);
        what(self) == what(other)
    }

    pub(super) fn count(&mut self, tally: &Tally) {
        (self.shots, self.failures) = (tally.shots, tally.failures);
        self.logical_error_per_shot = tally.per_shot();
        self.ci95 = wilson(tally.failures, tally.shots, 1.96);
        self.logical_error_per_round =
            experiment::any_per_round(self.logical_error_per_shot, self.rounds as f64, self.logical_qubits);
        self.us_per_round = tally.us_per_round(self.rounds);
    }

    pub(super) fn tally(&self) -> Tally {
        let us = self.us_per_round * self.shots as f64 * self.rounds as f64;
        let decoding = Duration::try_from_secs_f64(us / 1e6).unwrap_or_default();
        Tally { shots: self.shots, failures: self.failures, decoding }
    }
}

/// The open file of a sweep. A point has a line for each time that its counts were written; the last one holds.
pub(super) struct SweepLog {
    file: File,
    path: PathBuf,
}

impl SweepLog {
    /// Opens or begins a file; returns its points. The file is locked, and a line cut short at its end is dropped.
    pub(super) fn open(path: &Path, sweep: &Value) -> Result<(SweepLog, Vec<PointRecord>), Failure> {
        let failed = |e: std::io::Error| Failure::new(1, "IO", format!("{}: {e}", path.display()));
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        file.try_lock()
            .map_err(|_| Failure::new(1, "IO", format!("{}: another sweep is writing to it", path.display())))?;
        let mut text = Vec::new();
        file.read_to_end(&mut text).map_err(failed)?;
        let mut log = SweepLog { file, path: path.into() };
        let wrong =
            |line: usize, what: String| Failure::new(1, "E-PARSE", format!("{}:{line}: {what}", path.display()));
        let lines: Vec<&[u8]> = text.split_inclusive(|b| *b == b'\n').collect();
        let (mut rows, mut good) = (Vec::new(), 0);
        for (i, line) in lines.iter().enumerate() {
            // A sweep killed while it wrote leaves a part of a line.
            let cut = i + 1 == lines.len() && !(line.ends_with(b"\n") && serde_json::from_slice::<Value>(line).is_ok());
            if cut {
                if i == 0 && !serde_json::to_vec(&sweep).unwrap_or_default().starts_with(line) {
                    return Err(wrong(1, "not the file of a sweep".into()));
                }
                break;
            }
            if i == 0 {
                let found: Value = serde_json::from_slice(line).map_err(|e| wrong(1, format!("not a sweep: {e}")))?;
                if found != *sweep {
                    return Err(Failure::new(2, "USAGE", differences(path, &found, sweep)));
                }
            } else {
                let row: PointRecord =
                    serde_json::from_slice(line).map_err(|e| wrong(i + 1, format!("not a point: {e}")))?;
                if row.failures > row.shots {
                    return Err(wrong(i + 1, format!("{} failures in {} shots", row.failures, row.shots)));
                }
                rows.push(row);
            }
            good += line.len() as u64;
        }
        log.file.set_len(good).and_then(|()| log.file.seek(SeekFrom::End(0))).map_err(failed)?;
        if good == 0 {
            log.line(sweep)?;
        }
        Ok((log, rows))
    }

    pub(super) fn line(&mut self, value: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(value).unwrap_or_default() + "\n";
        let written = self.file.write_all(text.as_bytes());
        written.map_err(|e| Failure::new(1, "IO", format!("{}: {e}", self.path.display())))
    }
}

/// The message that a file holds another sweep, with the settings that differ.
fn differences(path: &Path, found: &Value, asked: &Value) -> String {
    let mut what = format!("{} holds a different sweep", path.display());
    let (found, asked) = (&found["sweep"], &asked["sweep"]);
    for (name, value) in asked.as_object().into_iter().flatten() {
        if found[name] != *value {
            _ = write!(what, "; {name} is {} there and {value} here", found[name]);
        }
    }
    what + "; choose another place with -o, or ask for the same"
}
