//! `qmk verify`: every finding of the parser or the verifier.

use crate::args::Input;
use crate::failure::{self, Failure};
use crate::input;
use crate::output::print;
use serde_json::json;

pub(crate) fn verify(program: &Input, json: bool) -> Result<(), Failure> {
    let findings = match input::read(program, None)?.parse() {
        Ok(graph) => qmk_qvm::verify(&graph),
        Err(findings) => findings,
    };
    let valid = findings.iter().all(|f| f.severity != qmk_qvm::Severity::Error);
    if json {
        print(&(json!({"valid": valid, "findings": findings}).to_string() + "\n"))?;
    } else {
        let mut text = String::new();
        for f in &findings {
            text += &(failure::describe(&program.file, f) + "\n");
        }
        text += &format!("{}: {}\n", program.file.display(), if valid { "valid" } else { "not valid" });
        print(&text)?;
    }
    // The findings on standard output are the report, so the failure prints nothing.
    if valid { Ok(()) } else { Err(Failure::silent(1)) }
}
