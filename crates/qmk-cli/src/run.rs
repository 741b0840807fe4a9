//! `qmk run`: a program runs on an embedded machine or on a server, and its outcomes are printed.

use crate::args::{Input, PolicyArgs};
use crate::connect::client;
use crate::failure::Failure;
use crate::histogram::histogram;
use crate::job::VerifiedProgram;
use crate::output::{print, write};
use crate::svg;
use qmk_client::Client;
use qmk_qec::machine::NoisyDevice;
use qmk_services::{Machine, MachineConfig};
use qmk_sim::SimConfig;
use std::path::{Path, PathBuf};

/// The machine that runs a program.
pub(crate) enum Target {
    /// A server: socket path, token file, tenant.
    Server(String, Option<PathBuf>, Option<String>),
    /// A machine in this process: most qubits that may carry live magic at once.
    Embedded(Option<u32>),
}

pub(crate) fn run(
    file: &Input,
    policy: PolicyArgs,
    target: Target,
    svg: Option<&Path>,
    json: bool,
) -> Result<(), Failure> {
    let program = VerifiedProgram::read(file)?;
    if let Some(path) = svg {
        // An unwritable path must fail before the run, not after it.
        write(Some(path), "")?;
    }
    let result = match target {
        Target::Server(path, token, tenant) => program.run(&client(&path, token.as_deref())?, tenant, policy, !json)?,
        Target::Embedded(max_active) => {
            let mut config = MachineConfig::default();
            config.max_active = max_active.unwrap_or(config.max_active);
            let machine = Machine::start(NoisyDevice::simulated(SimConfig::default()), config);
            program.run(&Client::over(machine.connect()), None, policy, !json)?
        }
    };
    if let Some(path) = svg {
        write(Some(path), &svg::histogram(&file.file.display().to_string(), &result.report))?;
    }
    if json {
        return print(&(serde_json::to_string(&result.report).unwrap_or_default() + "\n"));
    }
    for w in result.report.warnings.iter().filter(|w| !program.warned.contains(w)) {
        eprintln!("{}: warning: {w}", file.file.display());
    }
    print(&histogram(&file.file.display().to_string(), &result.report))
}
