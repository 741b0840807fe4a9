//! Arguments of `cargo xtask bench`, and the suites that it has.

/// Arguments of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Suite to run; all if absent
    pub(super) suite: Option<Suite>,
    /// Only rows whose name contains this text, or that our side runs in this way (such as `kernel`)
    #[arg(long, value_name = "TEXT")]
    pub(super) only: Option<String>,
    /// Pairs of runs per row; otherwise at least 5, fewer where a run takes longer than 5 s
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) runs: Option<u64>,
    /// Lowers the shots of every row to this, on both sides
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) max_shots: Option<u64>,
    /// Longest run, in seconds; a longer one is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(super) limit: u64,
    /// Only our own figures
    #[arg(long)]
    pub(super) no_peers: bool,
    /// Compares outcomes of small workloads with the peers' instead of times
    #[arg(long, conflicts_with_all = ["runs", "no_peers", "json"])]
    pub(super) check: bool,
    /// Another checkout, or a git revision: runs its bench and ours in turn, and fails if a row is slower
    #[arg(long, value_name = "PATH", conflicts_with = "check", requires = "suite")]
    pub(super) against: Option<String>,
    /// Prints JSON instead of a table
    #[arg(long)]
    pub(super) json: bool,
    /// rpc: jobs that the server must run without growing
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    pub(super) jobs: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Suite {
    /// The simulator against its peers, and the kernel against the bare device
    Sim,
    /// The scheduler against lower bounds, on modelled machines
    Sched,
    /// Costs of the kernel's calls and epochs
    Kernel,
    /// The server's socket against a bare echo
    Rpc,
    /// Sampling and decoding of surface codes against Stim and PyMatching
    Qec,
}

impl Suite {
    /// Package and name of the bench that it is.
    pub(super) fn program(self) -> (&'static str, &'static str) {
        match self {
            Suite::Sim => ("qmk-tests", "sim"),
            Suite::Sched => ("qmk-kernel", "sched"),
            Suite::Kernel => ("qmk-kernel", "cost"),
            Suite::Rpc => ("qmk-tests", "rpc"),
            Suite::Qec => ("qmk-tests", "qec"),
        }
    }
}
