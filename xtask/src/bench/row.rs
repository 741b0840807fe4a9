//! Rows that the program of a bench lists.

use super::args::Args;
use std::path::Path;
use std::process::Command;

/// One line of `sim list`.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) shots: u64,
    pub(super) ours: String,
    pub(super) peers: Vec<String>,
}

/// Peers that live in our own program.
pub(super) fn is_ours(peer: &str) -> bool {
    matches!(peer, "device" | "perform" | "reference")
}

pub(super) fn rows(program: &Path, args: &Args) -> Result<Vec<Row>, String> {
    let list = if args.check { "list-check" } else { "list" };
    let out = Command::new(program).arg(list).output().map_err(|e| format!("{}: {e}", program.display()))?;
    let parse = |line: &str| {
        let mut words = line.split(' ').map(String::from);
        Some(Row {
            name: words.next()?,
            shots: words.next()?.parse().ok()?,
            ours: words.next()?,
            peers: words.next()?.split(',').map(String::from).collect(),
        })
    };
    let mut rows = Vec::new();
    for line in String::from_utf8_lossy(&out.stdout).lines() {
        let mut row = parse(line).ok_or_else(|| format!("not understood: {line}"))?;
        row.shots = row.shots.min(args.max_shots.unwrap_or(u64::MAX));
        let twice = rows.iter().any(|r: &Row| (&r.name, r.shots, &r.ours) == (&row.name, row.shots, &row.ours));
        if !twice && args.only.as_ref().is_none_or(|only| row.name.contains(only) || row.ours == *only) {
            rows.push(row);
        }
    }
    if rows.is_empty() { Err("no row has such a name".into()) } else { Ok(rows) }
}
