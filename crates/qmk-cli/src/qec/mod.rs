//! `qmk qec`: memory experiments on error-correcting codes. Start at `memory` for one experiment, at `sweep` for many;
//! `args` holds the options that both have, and `plot` draws curves.

mod args;
mod memory;
mod plot;
mod sweep;

use crate::args::{Output, OutputFile, seed, shots};
use crate::failure::Failure;
use crate::output::write;
use args::Work;
use memory::{Setup, memory, prepare, unfit};
use qmk_qec::experiment::memory::Memory;
use qmk_qec::stim;
use sweep::SweepArgs;

#[derive(clap::Subcommand)]
#[command(after_help = "Examples:\n  qmk qec memory --code surface_code --distance 5 --p 2e-3\n  \
                        qmk qec circuit --code bacon_shor --distance 3 --p 1e-3 -o bacon_shor.stim\n  \
                        qmk qec sweep --code surface_code --distances 3,5,7 --p 4e-3:1e-2:7 -o sweep")]
pub(crate) enum Qec {
    /// Keep logical qubits for some rounds, decode, and count how often they are lost
    #[command(after_help = "Examples:\n  qmk qec memory --code surface_code --distance 5 --p 2e-3\n  \
                            qmk qec memory --code honeycomb --distance 3 --rounds 9 --p 1e-3 --noise-model em3_independent --json\n  \
                            qmk qec memory --code surface_code --distance 3 --p 1e-3 --noise-model si1000 --set record=0.01\n  \
                            qmk qec memory --circuit experiment.stim --rounds 25 --shots 1000000\n\n\
                            The same seed gives the same figures on any number of threads; us_per_round is measured time.")]
    Memory {
        #[command(flatten)]
        setup: Setup,
        /// Number of shots
        #[arg(long, default_value_t = 10_000, value_name = "N", value_parser = shots, allow_negative_numbers = true)]
        shots: u64,
        /// Seed of all randomness
        #[arg(long, default_value_t = 0, value_name = "S", value_parser = seed, allow_negative_numbers = true)]
        seed: u64,
        #[command(flatten)]
        work: Work,
        #[command(flatten)]
        output: Output,
    },
    /// Print the noisy circuit of a memory experiment as Stim text
    #[command(after_help = "Example:\n  qmk qec circuit --code surface_code --distance 3 --p 1e-3 --basis x -o x.stim")]
    Circuit {
        #[command(flatten)]
        setup: Setup,
        #[command(flatten)]
        to: OutputFile,
    },
    /// Print the detector error model of a memory experiment as Stim text
    #[command(after_help = "Examples:\n  qmk qec model --code surface_code --distance 3 --p 1e-3 -o d3.dem\n  \
                            qmk qec model --circuit experiment.stim")]
    Model {
        #[command(flatten)]
        setup: Setup,
        #[command(flatten)]
        to: OutputFile,
    },
    /// Measure a code at many distances and physical error rates, plot it, and estimate its threshold
    #[command(after_help = sweep::HELP)]
    Sweep(SweepArgs),
}

pub(crate) fn run(command: Qec) -> Result<(), Failure> {
    match command {
        Qec::Memory { setup, shots, seed, work, output } => memory(&setup, shots, seed, &work, output.json),
        Qec::Circuit { setup, to } => write(to.out.as_deref(), &stim::export(&prepare(&setup)?.circuit)),
        Qec::Model { setup, to } => {
            let memory = Memory::new(&prepare(&setup)?.circuit).map_err(unfit)?;
            write(to.out.as_deref(), &stim::export_model(memory.model()))
        }
        Qec::Sweep(args) => sweep::run(&args),
    }
}
