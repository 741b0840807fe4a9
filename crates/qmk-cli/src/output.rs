//! Output of every command: text or JSON on standard output, files, and the report of a failure.

use crate::failure::Failure;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

/// Prints to standard output. A closed pipe is no error: its reader, such as `head`, has all that it wants.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(1, "IO", format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

/// Writes a file, or prints if there is no path.
pub(crate) fn write(out: Option<&Path>, text: &str) -> Result<(), Failure> {
    match out {
        None => print(text),
        Some(path) => std::fs::write(path, text).map_err(|e| Failure::new(1, "IO", format!("{}: {e}", path.display()))),
    }
}

/// Prints a value as one JSON document, or as one line `path: value` per member.
pub(crate) fn print_fields(v: &Value, json: bool) -> Result<(), Failure> {
    if json {
        return print(&(v.to_string() + "\n"));
    }
    let mut text = String::new();
    push_fields("", v, &mut text);
    print(&text)
}

fn push_fields(path: &str, v: &Value, out: &mut String) {
    match v {
        Value::Object(m) => {
            for (k, v) in m {
                push_fields(&if path.is_empty() { k.clone() } else { format!("{path}.{k}") }, v, out);
            }
        }
        Value::String(s) => *out += &format!("{path}: {s}\n"),
        _ => *out += &format!("{path}: {v}\n"),
    }
}

impl Failure {
    /// Prints the message to standard error and, with `json`, the error document to standard output. A silent failure
    /// prints nothing.
    pub(crate) fn print(&self, json: bool) {
        if self.message.is_empty() {
            return;
        }
        eprintln!("qmk: {}", self.message);
        if json {
            let mut error = json!({"code": self.code, "message": self.message});
            if !self.findings.is_empty() {
                error["findings"] = json!(self.findings);
            }
            // If standard output is closed, the exit code still reports the failure.
            let _ = print(&(json!({"error": error}).to_string() + "\n"));
        }
    }
}
