//! Options that the commands of `qmk qec` share, and the checks of their values.

use crate::args::pair;
use crate::failure::Failure;
use qmk_qec::{codes, experiment, noise};

#[derive(clap::Args)]
pub(crate) struct NoiseArgs {
    /// Noise model: uniform, sd6, si1000, em3_independent, biased, phenomenological, code_capacity or relaxation
    #[arg(long, value_name = "MODEL", default_value = "uniform", value_parser = noise_model)]
    pub(crate) noise_model: String,
    /// Value of one parameter of the noise model, such as gate2=0.002; may be given once for each
    #[arg(long, value_name = "NAME=VALUE", value_parser = parameter)]
    pub(crate) set: Vec<(String, f64)>,
}

#[derive(clap::Args)]
pub(crate) struct Work {
    /// Threads [default: all processors]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: Option<u32>,
    /// The decoder: matching needs errors that are edges, or made of edges
    #[arg(long, value_name = "DECODER", default_value = "best", value_parser = experiment::DECODERS)]
    pub(crate) decoder: String,
}

impl Work {
    pub(crate) fn threads(&self) -> usize {
        let all = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.map_or_else(all, |n| n as usize)
    }
}

/// Checks that a text is one of `names`.
fn known(what: &str, names: &[&str], text: &str) -> Result<String, String> {
    match names.contains(&text) {
        true => Ok(text.into()),
        false => Err(format!("unknown {what}; known: {}", names.join(", "))),
    }
}

pub(crate) fn code(text: &str) -> Result<String, String> {
    known("code", &codes::NAMES, if text == "surface" { "surface_code" } else { text })
}

fn noise_model(text: &str) -> Result<String, String> {
    known("noise model", &noise::MODELS, text)
}

fn parameter(text: &str) -> Result<(String, f64), String> {
    let (name, value) = pair(text)?;
    let value = value.parse().map_err(|_| format!("{value:?} is not a number"))?;
    Ok((known("noise parameter", &noise::NoiseModel::PARAMETERS, &name)?, value))
}

pub(crate) fn usage(message: impl ToString) -> Failure {
    Failure::new(2, "USAGE", message.to_string())
}
