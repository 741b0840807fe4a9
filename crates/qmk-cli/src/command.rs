//! The commands and their options. The comments on variants and fields are help texts.

use crate::args::{Input, JobArgs, Output, OutputFile, PolicyArgs, ServerArgs, socket};
use crate::{audit, qec, token};
use clap::{Parser, Subcommand};
use std::path::PathBuf;

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
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
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
        to: OutputFile,
    },
    /// Write a QVM graph as QVM assembly
    #[command(after_help = "Example:\n  qmk disasm bell.qvm.json -o bell.qvm")]
    Disasm {
        #[command(flatten)]
        program: Input,
        #[command(flatten)]
        to: OutputFile,
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

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
