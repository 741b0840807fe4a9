//! `qmk estimate`: the physical resources of a program, or of counts of operations, on a fault-tolerant machine.

use crate::args::Input;
use crate::failure::Failure;
use crate::input;
use crate::output::print;
use qmk_estimate::{ErrorKind, EstimateError, JobParams};
use std::path::PathBuf;

pub(crate) fn estimate(program: Input, job_params: Option<PathBuf>, as_json: bool) -> Result<(), Failure> {
    if job_params.as_ref().is_some_and(|p| p == "-" && program.file == *p) {
        return Err(Failure::new(2, "USAGE", "the program and the parameters cannot both come from standard input"));
    }
    let at = |place: &Option<PathBuf>| place.as_ref().map_or(String::new(), |p| format!("{}: ", p.display()));
    let refused = |e: EstimateError| match e.kind {
        ErrorKind::Params => Failure::new(1, "INVALID_PARAMS", format!("{}{e}", at(&job_params))),
        ErrorKind::Counts => Failure::new(1, "INVALID_COUNTS", format!("{}{e}", at(&Some(program.file.clone())))),
        ErrorKind::NoSolution => Failure::new(1, "NO_SOLUTION", e.to_string()),
    };
    let source = input::read(&program, None)?;
    let counts = match qmk_estimate::parse_counts(source.text()) {
        Some(_) if !program.params.is_empty() => {
            return Err(Failure::new(2, "USAGE", "--param is for programs; counts have no parameters"));
        }
        Some(counts) => counts.map_err(refused)?,
        None => {
            let graph = source.parse().map_err(|findings| Failure::invalid(&program.file, findings))?;
            let lowered = qmk_qvm::lower(&graph).map_err(|findings| Failure::invalid(&program.file, findings))?;
            qmk_estimate::image_counts(&lowered.image)
        }
    };
    let given = match &job_params {
        Some(file) => Some(input::read(&Input { file: file.clone(), params: Vec::new() }, None)?),
        None => None,
    };
    let params = JobParams::parse(given.as_ref().map_or("", |g| g.text())).map_err(refused)?;
    let estimate = qmk_estimate::estimate(&counts, &params).map_err(refused)?;
    print(&if as_json { estimate.to_json() + "\n" } else { estimate.table() })
}
