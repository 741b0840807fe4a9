//! `cargo xtask tidy`: what the repository checks of itself, beyond what the compiler and its lints do.
//!
//! Each check is a file that returns [`finding::Finding`]s; start with `circles.rs`. Offenders that may stay are on a
//! list that can only get shorter (`ratchet.rs`). All findings are printed at once.

mod circles;
mod finding;
mod links;
mod names;
mod packages;
mod ratchet;
mod sizes;
pub(crate) mod texts;

use crate::process;
use crate::sources::Krate;
use cargo_metadata::{Metadata, TargetKind};
use finding::Finding;
use ratchet::Ratchet;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What to print.
#[derive(Default, clap::Args)]
pub(crate) struct Args {
    /// Print today's offenders in the form of `xtask/tidy.toml`, with the reasons that it gives
    #[arg(long)]
    list: bool,
    /// Workspace to check
    #[arg(long, value_name = "Cargo.toml")]
    manifest_path: Option<PathBuf>,
}

/// The part of `rustfmt.toml` that is read here.
#[derive(Deserialize)]
struct Format {
    max_width: usize,
}

/// Runs all checks.
///
/// # Errors
/// Everything that is wrong, or why it could not be checked.
pub(crate) fn run(root: &Path, args: &Args) -> Result<(), String> {
    let manifest = args.manifest_path.clone().unwrap_or(root.join("Cargo.toml"));
    let manifest = manifest.canonicalize().map_err(|e| format!("{}: {e}", manifest.display()))?;
    let root = manifest.parent().unwrap_or(root);
    let text = std::fs::read_to_string(root.join(ratchet::FILE)).map_err(|e| format!("{}: {e}", ratchet::FILE))?;
    let ratchet = Ratchet::parse(&text)?;
    let findings = findings(root)?;
    if args.list {
        print!("{}", ratchet.list(&findings));
        return Ok(());
    }
    let wrong = ratchet.apply(&findings);
    if wrong.is_empty() {
        println!("tidy: {} offenders are listed, none is new", findings.len());
        return Ok(());
    }
    Err(format!("{} untidy places\n  {}", wrong.len(), wrong.join("\n  ")))
}

fn findings(root: &Path) -> Result<Vec<Finding>, String> {
    let metadata = packages::metadata(root, &process::host()?)?;
    let format = std::fs::read_to_string(root.join("rustfmt.toml")).map_err(|e| format!("rustfmt.toml: {e}"))?;
    let width = toml::from_str::<Format>(&format).map_err(|e| format!("rustfmt.toml: {e}"))?.max_width;
    let mut findings = Vec::new();
    for krate in crates(&metadata)? {
        findings.extend(circles::check(&krate, root));
    }
    let texts = texts::read(root)?;
    for text in &texts {
        findings.extend(links::check(text, &texts, root));
        if text.is_rust() {
            findings.extend(sizes::check(text, width));
        }
    }
    findings.extend(packages::check(&metadata, root)?);
    findings.sort_by(|a, b| (a.class, &a.file, a.line).cmp(&(b.class, &b.file, b.line)));
    Ok(findings)
}

/// Libraries, binaries, benches and examples of the workspace.
fn crates(metadata: &Metadata) -> Result<Vec<Krate>, String> {
    let is_checked =
        |kind: &TargetKind| matches!(kind, TargetKind::Lib | TargetKind::Bin | TargetKind::Bench | TargetKind::Example);
    let targets = metadata.workspace_packages().into_iter().flat_map(|package| &package.targets);
    targets.filter(|t| t.kind.iter().any(is_checked)).map(|t| Krate::load(t.src_path.as_std_path())).collect()
}
