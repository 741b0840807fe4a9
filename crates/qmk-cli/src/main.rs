//! `qmk-cli` is the `qmk` command: it checks, draws, runs and estimates programs, measures codes, and speaks to a
//! server.
//!
//! Start at [`command`]: it declares every subcommand with its help text, and `dispatch` below calls the file of that
//! subcommand. Files that hold no subcommand serve several: `args`, `input`, `output`, `failure`, `connect`, `job`,
//! `progress`, and the pictures `diagram`, `histogram` and `svg`.
#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command prints")]

mod args;
mod audit;
mod command;
mod connect;
mod diagram;
mod estimate;
mod failure;
mod histogram;
mod input;
mod job;
mod output;
mod progress;
mod qec;
mod remote;
mod rev;
mod run;
mod show;
mod svg;
mod token;
mod verify;
mod watch;

use clap::{CommandFactory, Parser};
use command::{Cli, Command};
use failure::Failure;
use output::{print, write};
use run::Target;
use std::process::ExitCode;

fn main() -> ExitCode {
    let wants_json = std::env::args_os().any(|a| a == "--json");
    let outcome = match Cli::try_parse() {
        Ok(cli) => dispatch(cli.command),
        // clap reports --help and --version as errors; `exit` prints them with exit code 0.
        Err(e) if !e.use_stderr() || !wants_json => e.exit(),
        Err(e) => {
            let text = e.render().to_string();
            Err(Failure::new(2, "USAGE", text.trim().trim_start_matches("error: ")))
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print(wants_json);
            ExitCode::from(failure.exit)
        }
    }
}

fn dispatch(command: Command) -> Result<(), Failure> {
    match command {
        Command::Run { program, policy, connect, token, tenant, max_active, svg, output } => {
            let tenant = tenant.or_else(|| std::env::var("QMK_TENANT").ok());
            let target = connect.map_or(Target::Embedded(max_active), |path| Target::Server(path, token, tenant));
            run::run(&program, policy, target, svg.as_deref(), output.json)
        }
        Command::Verify { program, output } => verify::verify(&program, output.json),
        Command::Asm { program, to } => {
            let graph = input::graph(&program, qmk_qvm::Format::Asm)?;
            let text = serde_json::to_string_pretty(&graph.to_json()).unwrap_or_default();
            write(to.out.as_deref(), &(text + "\n"))
        }
        Command::Disasm { program, to } => {
            let graph = input::graph(&program, qmk_qvm::Format::Json)?;
            write(to.out.as_deref(), &qmk_qvm::disassemble(&graph))
        }
        Command::Qec(command) => qec::run(command),
        Command::Submit { program, policy, server } => remote::submit(&program, policy, &server),
        Command::Status(job) => remote::status(&job),
        Command::Wait { job, timeout_ms } => remote::wait(&job, timeout_ms),
        Command::Result { job, svg } => remote::result(&job, svg.as_deref()),
        Command::Cancel(job) => remote::cancel(&job),
        Command::Telemetry(job) => remote::telemetry(&job),
        Command::Resources(server) => remote::resources(&server),
        Command::Token(command) => token::run(command),
        Command::Audit(command) => audit::run(&command),
        Command::Show { program, svg, width, output } => show::show(&program, svg.as_deref(), width, output.json),
        Command::Estimate { program, job_params, output } => estimate::estimate(program, job_params, output.json),
        Command::Rev { program, output } => rev::rev(&program, output.json),
        Command::Ps(server) => watch::ps(&server),
        Command::Top { server, once } => watch::top(&server, once),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "qmk", &mut text);
            print(&String::from_utf8_lossy(&text))
        }
    }
}
