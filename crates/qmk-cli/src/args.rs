//! Options that several commands have, and the checks of their values. The comments on fields are help texts.

use clap::Args;
use qmk_abi::rpc::JobRef;
use std::path::PathBuf;

#[derive(Args)]
pub(crate) struct Input {
    /// Program: QVM assembly or a QVM graph in JSON, a regular file; `-` reads standard input
    pub(crate) file: PathBuf,
    /// Value of a `.param` of the program; may be given once for each
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = pair)]
    pub(crate) params: Vec<(String, String)>,
}

#[derive(Args)]
pub(crate) struct PolicyArgs {
    /// Number of shots
    #[arg(long, default_value_t = 1024, value_name = "N", value_parser = shots, allow_negative_numbers = true)]
    pub(crate) shots: u64,
    /// Seed of all randomness
    #[arg(long, default_value_t = 0, value_name = "S", value_parser = seed, allow_negative_numbers = true)]
    pub(crate) seed: u64,
    /// Errors of the qubits: none, those of logical qubits at measured rates, or those of patches whose syndrome is
    /// sampled and decoded
    #[arg(long, default_value = "ideal", value_parser = ["ideal", "logical", "physical"])]
    pub(crate) noise: String,
    /// Epochs within which all shots must end; refused at once if that cannot be kept
    #[arg(long, value_name = "N")]
    pub(crate) deadline: Option<u64>,
    /// Profile of qubits whose allocation names none, such as `logical:surface_code(d=7)`
    #[arg(long, value_name = "P", value_parser = profile)]
    pub(crate) profile: Option<String>,
}

#[derive(Args)]
pub(crate) struct Output {
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct OutputFile {
    /// Write here instead of to standard output
    #[arg(short, long, value_name = "OUT")]
    pub(crate) out: Option<PathBuf>,
    /// Print errors as one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct ServerArgs {
    /// The server's socket [default: $XDG_RUNTIME_DIR/qmk.sock, else /tmp/qmk.sock]
    #[arg(long, value_name = "unix:PATH", value_parser = socket)]
    pub(crate) connect: Option<String>,
    /// Token to show to the server: a file, or `-` for standard input [default: $QMK_TOKEN]
    #[arg(long, value_name = "FILE")]
    pub(crate) token: Option<PathBuf>,
    /// Tenant to act for, for those who may act for several
    #[arg(long, value_name = "NAME", env = "QMK_TENANT")]
    pub(crate) tenant: Option<String>,
    /// Print one JSON document
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct JobArgs {
    /// Job as printed by `qmk submit`: SESSION/JOB
    #[arg(value_parser = job)]
    pub(crate) job: JobRef,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((name.trim().into(), value.trim().into()))
}

pub(crate) fn shots(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|n| *n > 0).ok_or_else(|| format!("shots are a whole number from 1 to {}", u64::MAX))
}

pub(crate) fn seed(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("a seed is a whole number from 0 to {}", u64::MAX))
}

pub(crate) fn profile(text: &str) -> Result<String, String> {
    qmk_qvm::Profile::parse(text).map(|_| text.into())
}

/// The path in `unix:PATH`.
pub(crate) fn socket(text: &str) -> Result<String, String> {
    match text.split_once(':') {
        Some(("unix", path)) if !path.is_empty() => Ok(path.into()),
        Some((scheme, _)) if !scheme.contains('/') => {
            Err("only sockets of this machine are spoken to: unix:PATH".into())
        }
        _ if text.is_empty() => Err("expected unix:PATH".into()),
        _ => Ok(text.into()),
    }
}

pub(crate) fn job(text: &str) -> Result<JobRef, String> {
    let known = |(session, job): &(&str, &str)| {
        let digits = job.strip_prefix("job_").unwrap_or_default();
        let number = digits.starts_with(|c: char| ('1'..='9').contains(&c)) && digits.parse::<u64>().is_ok();
        session.starts_with("sess_") && number
    };
    let (session, job) =
        text.split_once('/').filter(known).ok_or("not a job; qmk submit prints one, sess_.../job_...")?;
    Ok(JobRef { session_id: session.into(), job_id: job.into() })
}

/// The name of a job as `qmk submit` prints it and [`job`] reads it.
pub(crate) fn job_name(job: &JobRef) -> String {
    format!("{}/{}", job.session_id, job.job_id)
}
