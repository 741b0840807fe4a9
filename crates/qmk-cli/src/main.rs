//! The `qmk` command.
#![forbid(unsafe_code)]

mod audit;
mod estimate;
mod failure;
mod input;
mod plot;
mod qec;
mod remote;
mod run;
mod show;
mod svg;
mod sweep;
mod token;
mod watch;

use clap::{Args, CommandFactory, Parser, Subcommand};
use failure::Failure;
use qmk_abi::rpc::JobRef;
use run::Place;
use serde_json::json;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write, check and run programs for a fault-tolerant quantum computer.
#[derive(Parser)]
#[command(
    name = "qmk",
    version,
    after_help = "Examples:\n  qmk run examples/bell.qvm\n  qmk run examples/ghz.qvm --param n=1000 --shots 100 --seed 7 --json\n  \
                  qmk verify program.qvm.json\n  qmk show examples/teleportation.qvm\n  qmk rev examples/teleportation.qvm\n  \
                  qmk estimate examples/cuccaro_adder.qvm\n  \
                  qmk qec memory --code surface_code --distance 5 --p 1e-3\n  \
                  qmk asm program.qvm -o program.qvm.json\n  \
                  qmk run examples/bell.qvm --connect unix:/tmp/qmk.sock\n  \
                  JOB=$(qmk submit examples/bell.qvm); qmk wait $JOB && qmk result $JOB\n  \
                  qmk ps\n  qmk top\n  source <(qmk completions bash)\n\n\
                  Exit codes: 0 done, 1 the program or input is wrong, 2 usage, 3 refused (capability, quota, identity),\n\
                  4 the machine failed or timed out"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a program and print how often each outcome came up
    #[command(
        after_help = "Examples:\n  qmk run examples/bell.qvm\n  qmk run examples/ghz.qvm --param n=1000 --json\n  \
                            qmk run examples/bell.qvm --shots 100000 --seed 7 --connect unix:/tmp/qmk.sock\n  \
                            qmk run examples/bell.qvm --shots 100 --deadline 1000"
    )]
    Run {
        #[command(flatten)]
        program: Input,
        #[command(flatten)]
        policy: PolicyArgs,
        /// Run on a server instead of the embedded machine
        #[arg(long, value_name = "unix:PATH", value_parser = socket)]
        connect: Option<String>,
        /// Token to show to the server: a file, or `-` for standard input [default: $QMK_TOKEN]
        #[arg(long, value_name = "FILE", requires = "connect")]
        token: Option<PathBuf>,
        /// Tenant to act for on the server, for those who may act for several [default: $QMK_TENANT]
        #[arg(long, value_name = "NAME", requires = "connect")]
        tenant: Option<String>,
        /// Qubits of the embedded machine that may carry live magic at once; each one more doubles its memory, which
        /// is 1 GiB at the default of 26
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=40), conflicts_with = "connect")]
        max_active: Option<u32>,
        /// Also write a bar chart of the outcomes
        #[arg(long, value_name = "OUT")]
        svg: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Check a program and report everything that is wrong with it
    #[command(after_help = "Examples:\n  qmk verify program.qvm\n  qmk verify graph.json --json")]
    Verify {
        #[command(flatten)]
        program: Input,
        #[command(flatten)]
        output: Output,
    },
    /// Assemble QVM assembly to a QVM graph in JSON
    #[command(after_help = "Example:\n  qmk asm examples/bell.qvm -o bell.qvm.json")]
    Asm {
        #[command(flatten)]
        program: Input,
        #[command(flatten)]
        to: To,
    },
    /// Write a QVM graph as QVM assembly
    #[command(after_help = "Example:\n  qmk disasm bell.qvm.json -o bell.qvm")]
    Disasm {
        #[command(flatten)]
        program: Input,
        #[command(flatten)]
        to: To,
    },
    /// Draw a program as a circuit: a line for each qubit, time from left to right
    #[command(
        after_help = "Examples:\n  qmk show examples/teleportation.qvm\n  qmk show examples/qft.qvm --svg qft.svg"
    )]
    Show {
        #[command(flatten)]
        program: Input,
        /// Write a picture here instead
        #[arg(long, value_name = "OUT")]
        svg: Option<PathBuf>,
        /// Characters of a line [default: those of the terminal]
        #[arg(long, value_name = "N")]
        width: Option<usize>,
        #[command(flatten)]
        output: Output,
    },
    /// List the reversible segments of a program: runs of nodes that can be undone as a whole
    #[command(after_help = "Examples:\n  qmk rev examples/teleportation.qvm\n  qmk rev examples/qft.qvm --json")]
    Rev {
        #[command(flatten)]
        program: Input,
        #[command(flatten)]
        output: Output,
    },
    /// Estimate the physical qubits and the time that a program takes on a fault-tolerant machine
    #[command(
        after_help = "Examples:\n  qmk estimate examples/cuccaro_adder.qvm\n  qmk estimate examples/qft.qvm --param n=20 --json\n  \
                      echo '{\"numQubits\": 100, \"tCount\": 1000000}' > counts.json; qmk estimate counts.json\n  \
                      echo '{\"qubitParams\": {\"name\": \"qubit_maj_ns_e4\"}, \"qecScheme\": {\"name\": \"floquet_code\"},\n    \
                      \"errorBudget\": 0.01, \"constraints\": {\"maxDuration\": \"10 s\"}}' > params.json\n  \
                      qmk estimate counts.json --params params.json\n\n\
                      Counts and parameters have the names of the Azure Quantum Resource Estimator, and so has --json."
    )]
    Estimate {
        #[command(flatten)]
        program: Input,
        /// Job parameters in JSON: qubitParams, qecScheme, errorBudget, constraints
        #[arg(long = "params", value_name = "PARAMS.json")]
        job_params: Option<PathBuf>,
        #[command(flatten)]
        output: Output,
    },
    /// Measure how well error-correcting codes keep logical qubits
    #[command(subcommand)]
    Qec(qec::Qec),
    /// Submit a program to a server and print the job's name
    #[command(
        after_help = "Examples:\n  JOB=$(qmk submit examples/bell.qvm --shots 1000)\n  qmk wait $JOB && qmk result $JOB"
    )]
    Submit {
        #[command(flatten)]
        program: Input,
        #[command(flatten)]
        policy: PolicyArgs,
        #[command(flatten)]
        server: ServerArgs,
    },
    /// Print how far a job is
    #[command(after_help = "Examples:\n  qmk status $JOB\n  qmk status $JOB --json --connect unix:/tmp/qmk.sock")]
    Status(JobArgs),
    /// Wait until a job has ended
    #[command(after_help = "Examples:\n  qmk wait $JOB\n  qmk wait $JOB --timeout-ms 5000 && qmk result $JOB")]
    Wait {
        #[command(flatten)]
        job: JobArgs,
        /// Give up after this many milliseconds
        #[arg(long, value_name = "MS")]
        timeout_ms: Option<u64>,
    },
    /// Print the result of a finished job
    #[command(after_help = "Examples:\n  qmk result $JOB\n  qmk result $JOB --json --connect unix:/tmp/qmk.sock\n  \
                            qmk result $JOB --svg outcomes.svg")]
    Result {
        #[command(flatten)]
        job: JobArgs,
        /// Also write a bar chart of the outcomes
        #[arg(long, value_name = "OUT")]
        svg: Option<PathBuf>,
    },
    /// Cancel a job
    #[command(after_help = "Example:\n  qmk cancel $JOB --connect unix:/tmp/qmk.sock")]
    Cancel(JobArgs),
    /// Print the execution figures of a job
    #[command(after_help = "Example:\n  qmk telemetry $JOB --json")]
    Telemetry(JobArgs),
    /// Print what the machine has and what is in use
    #[command(after_help = "Example:\n  qmk resources --connect unix:/tmp/qmk.sock")]
    Resources(ServerArgs),
    /// Make, narrow and read the tokens that say who may do what on a server
    #[command(
        subcommand,
        after_help = "Examples:\n  qmk token key token.key\n  qmk token issue --key token.key --tenant chemistry > chemistry.token\n  \
                                        qmk token attenuate chemistry.token --expires-in 1h > job.token\n  \
                                        qmk submit examples/bell.qvm --token job.token"
    )]
    Token(token::TokenCommand),
    /// Look into the audit log of a server, and check it
    #[command(subcommand)]
    Audit(audit::Audit),
    /// List the jobs of the tenant on a server
    #[command(after_help = "Examples:\n  qmk ps\n  qmk ps --json --connect unix:/tmp/qmk.sock")]
    Ps(ServerArgs),
    /// Watch a server: tenants, epochs, qubits, magic states, decoder backlog, jobs
    #[command(after_help = "Examples:\n  qmk top\n  qmk top --once\n  qmk top --json --connect unix:/tmp/qmk.sock\n\n\
                            q, Esc or Ctrl-C quits. Without a terminal, and with --json, it looks once.")]
    Top {
        #[command(flatten)]
        server: ServerArgs,
        /// Print the figures once and exit
        #[arg(long)]
        once: bool,
    },
    /// Print completions for a shell
    #[command(after_help = "Examples:\n  qmk completions bash > ~/.local/share/bash-completion/completions/qmk\n  \
                            qmk completions fish > ~/.config/fish/completions/qmk.fish\n  source <(qmk completions zsh)")]
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
struct Input {
    /// Program: QVM assembly or a QVM graph in JSON, a regular file; `-` reads standard input
    file: PathBuf,
    /// Value of a `.param` of the program; may be given once for each
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    params: Vec<(String, String)>,
}

#[derive(Args)]
struct PolicyArgs {
    /// Number of shots
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = shots, allow_negative_numbers = true)]
    shots: u64,
    /// Seed of all randomness
    #[arg(long, default_value_t = 0, value_name = "S", value_parser = seed, allow_negative_numbers = true)]
    seed: u64,
    /// Errors of the qubits: none, those of logical qubits at measured rates, or those of patches whose syndrome is sampled and decoded
    #[arg(long, default_value = "ideal", value_parser = ["ideal", "logical", "physical"])]
    noise: String,
    /// Epochs within which all shots must end; refused at once if that cannot be kept
    #[arg(long, value_name = "N")]
    deadline: Option<u64>,
    /// Profile of qubits whose allocation names none, such as `logical:surface_code(d=7)`
    #[arg(long, value_name = "P", value_parser = profile)]
    profile: Option<String>,
}

#[derive(Args)]
struct Output {
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct To {
    /// Write here instead of to standard output
    #[arg(short, long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// Print errors as one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct ServerArgs {
    /// The server's socket [default: $XDG_RUNTIME_DIR/qmk.sock, else /tmp/qmk.sock]
    #[arg(long, value_name = "unix:PATH", value_parser = socket)]
    connect: Option<String>,
    /// Token to show to the server: a file, or `-` for standard input [default: $QMK_TOKEN]
    #[arg(long, value_name = "FILE")]
    token: Option<PathBuf>,
    /// Tenant to act for, for those who may act for several
    #[arg(long, value_name = "NAME", env = "QMK_TENANT")]
    tenant: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
struct JobArgs {
    /// Job as printed by `qmk submit`: SESSION/JOB
    #[arg(value_parser = job)]
    job: JobRef,
    #[command(flatten)]
    server: ServerArgs,
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.trim().into(), value.trim().into()))
}

fn shots(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("shots are a whole number from 1 to {}", u64::MAX))
}

fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("a seed is a whole number from 0 to {}", u64::MAX))
}

fn profile(text: &str) -> Result<String, String> {
    qmk_qvm::Profile::parse(text).map(|_| text.into())
}

/// The path of a socket.
fn socket(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some(("unix", path)) if !path.is_empty() => Ok(path.into()),
        Some((scheme, _)) if !scheme.contains('/') => {
            Err("only sockets of this machine are spoken to: unix:PATH".into())
        }
        _ if text.is_empty() => Err("expected unix:PATH".into()),
        _ => Ok(text.into()),
    }
}

fn job(text: &str) -> Result<JobRef, String> {
    let known = |(session, job): &(&str, &str)| {
        let digits = job.strip_prefix("job_").unwrap_or_default();
        let number = digits.starts_with(|c: char| ('1'..='9').contains(&c)) && digits.parse::<u64>().is_ok();
        session.starts_with("sess_") && number
    };
    let (session, job) =
        text.split_once('/').filter(known).ok_or("not a job; qmk submit prints one, sess_.../job_...")?;
    Ok(JobRef { session_id: session.into(), job_id: job.into() })
}

fn main() -> ExitCode {
    let wants_json = std::env::args_os().any(|a| a == "--json");
    let outcome = match Cli::try_parse() {
        Ok(cli) => dispatch(cli.command),
        // Help and version are not errors.
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
            let place = connect.map_or(Place::Embedded(max_active), |path| Place::Server(path, token, tenant));
            run::run(&program, policy, place, svg.as_deref(), output.json)
        }
        Command::Verify { program, output } => verify(&program, output.json),
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
        Command::Rev { program, output } => show::rev(&program, output.json),
        Command::Ps(server) => watch::ps(&server),
        Command::Top { server, once } => watch::top(&server, once),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "qmk", &mut text);
            print(&String::from_utf8_lossy(&text))
        }
    }
}

fn verify(program: &Input, json: bool) -> Result<(), Failure> {
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
    // The findings are the output, not an error beside it.
    if valid { Ok(()) } else { Err(Failure::silent(1)) }
}

/// Prints to standard output. A reader that left early, such as `head`, is not an error.
fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(1, "IO", format!("standard output: {e}")))
        }
        _ => Ok(()),
    }
}

fn write(out: Option<&Path>, text: &str) -> Result<(), Failure> {
    match out {
        None => print(text),
        Some(path) => std::fs::write(path, text).map_err(|e| Failure::new(1, "IO", format!("{}: {e}", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
