//! Development tasks of QMK. Each is a file or a folder; `main` only chooses.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

mod bare;
mod bench;
mod calibrate;
mod layers;
mod outside;
mod process;
mod quick;
mod sources;
mod stats;
mod tidy;

use clap::{Parser, Subcommand};
use process::{cargo, has, run};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Development tasks of QMK.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = "Example:\n  cargo xtask ci")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Everything that must hold: format, lints, layers, no_std, tidiness, documentation, tests
    Ci,
    /// Run the tests of the whole workspace
    #[command(after_help = "Examples:\n  cargo xtask test\n  cargo xtask test --quick\n  \
                            cargo xtask test -- examples --nocapture")]
    Test {
        /// Leave out the tests that search for long: xtask/src/quick.rs lists them
        #[arg(long)]
        quick: bool,
        /// Arguments for the test programs: parts of names, or their options
        #[arg(last = true)]
        args: Vec<String>,
    },
    /// Run the benchmarks and print each figure as a ratio to a peer timed in the same run
    #[command(
        after_help = "Examples:\n  cargo xtask bench sim\n  cargo xtask bench sim --only clifford --no-peers\n  \
                            cargo xtask bench sched --only magic\n  cargo xtask bench kernel\n  \
                            cargo xtask bench rpc --jobs 1000000\n  cargo xtask bench qec --only d5\n  \
                            QMK_PEERS_PYTHON=python3.12 cargo xtask bench sim --check"
    )]
    Bench(bench::Args),
    /// Measure the logical error rates that are built into `qmk-qec` and write them down; takes about six minutes
    #[command(after_help = "Examples:\n  cargo xtask calibrate\n  cargo xtask calibrate --quick -o quick.tsv")]
    Calibrate(calibrate::Args),
    /// Run 64 clients, good and bad ones, against a server that must be as before in the end
    #[command(after_help = "Example:\n  cargo xtask soak --minutes 3")]
    Soak {
        /// Length of the run, in minutes
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
    },
    /// Check that the dependencies of the crates are those of the table of layers
    #[command(after_help = "Example:\n  cargo xtask check-layers --manifest-path ../copy/Cargo.toml")]
    CheckLayers {
        /// Workspace to check
        #[arg(long, value_name = "Cargo.toml")]
        manifest_path: Option<PathBuf>,
    },
    /// Check what the repository asks of itself: circles of files, sizes, comments, links, licences, duplicate packages
    #[command(
        after_help = "Examples:\n  cargo xtask tidy\n  cargo xtask tidy --list > list && mv list xtask/tidy.toml"
    )]
    Tidy(tidy::Args),
    /// Print the size of each crate, and the share of comments in it
    Stats,
}

fn main() -> ExitCode {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("xtask lies in the workspace");
    let done = match Cli::parse().task {
        Task::Ci => ci(root),
        Task::Test { quick, args } => test(root, quick, args),
        Task::Bench(args) => bench::run(root, &args),
        Task::Calibrate(args) => calibrate::run(root, &args),
        Task::Soak { minutes } => bench::soak(root, minutes),
        Task::CheckLayers { manifest_path } => layers::check(&manifest_path.unwrap_or(root.join("Cargo.toml"))),
        Task::Tidy(args) => tidy::run(root, &args),
        Task::Stats => stats::print(root),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the tests of the workspace, with these arguments for the test programs.
fn test(root: &Path, quick: bool, args: Vec<String>) -> Result<(), String> {
    let mut all = vec!["--workspace".to_string(), "--".into()];
    if quick {
        all.extend(quick::arguments(root)?);
    }
    all.extend(args.into_iter().filter(|a| a != "--"));
    cargo(root, "test", &all)
}

fn ci(root: &Path) -> Result<(), String> {
    // Incremental state takes gigabytes, and this build is not repeated.
    let step = |args: &str, settings: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO"));
        command.args(args.split(' ')).current_dir(root).env("CARGO_INCREMENTAL", "0");
        run(command.envs(settings.iter().copied()))
    };
    // A minimal toolchain lacks these tools. The tests do not depend on them.
    for tool in ["fmt --all --check", "clippy --workspace --all-targets --locked -- -D warnings"] {
        let name = tool.split(' ').next().unwrap_or_default();
        if has(name) {
            step(tool, &[])?;
        } else {
            eprintln!("xtask: cargo {name} is not installed, its check is left out");
        }
    }
    layers::check(&root.join("Cargo.toml"))?;
    bare::check(root)?;
    tidy::run(root, &tidy::Args::default())?;
    step("doc --workspace --no-deps --locked --quiet", &[("RUSTDOCFLAGS", "-D warnings")])?;
    stats::print(root)?;
    let seconds = std::env::var("QMK_FUZZ_SECONDS").unwrap_or("30".into());
    step("test --workspace --locked", &[("QMK_FUZZ_SECONDS", &seconds)])?;
    outside::check(root)
}
