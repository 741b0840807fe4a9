//! The errors of a program at the physical level: sampled patch by patch, laid out as columns of its shots.

use super::logical_error_sampler::LogicalErrorSampler;
use super::timeline::{Stretch, Timeline};
use qmk_abi::image::Pauli;
use qmk_hal::{Channel, Column, DeviceError, Noise, SpaceSpec};
use qmk_sim::rng::philox2x64;
use std::sync::Arc;

/// Most bytes of the errors of one space.
const MAX_SPACE_BYTES: u64 = 64 << 20;

/// Cycles that are sampled at a time. A longer life is sampled in pieces. Each piece, like each life, is cut out of a
/// longer one.
const PIECE_CYCLES: u32 = 64;
/// The value of `SpaceStatus::prepared` when all errors are sampled: millionths.
pub(super) const FULLY_PREPARED: u32 = 1_000_000;
/// Steps of sampling that repay the start of a thread.
const MIN_STEPS_PER_THREAD: u64 = 1 << 14;

/// Cuts a life, given by the last cycle and the effects of each of its stretches, into pieces of at most
/// [`PIECE_CYCLES`] cycles.
pub(super) fn cut_in_pieces(stretches: &[(u32, [(u32, Pauli); 2])]) -> Vec<PatchLife> {
    let mut pieces: Vec<PatchLife> = Vec::new();
    let mut from = 0;
    for &(end, effect) in stretches {
        while from < end {
            if pieces.last().is_none_or(|p| p.cycles == PIECE_CYCLES) {
                pieces.push(PatchLife { cycles: 0, stretches: Vec::new() });
            }
            let Some(piece) = pieces.last_mut() else { break };
            let cycles = (PIECE_CYCLES - piece.cycles).min(end - from);
            piece.cycles += cycles;
            piece.stretches.push((piece.cycles, effect));
            from += cycles;
        }
    }
    pieces
}

/// The errors of one space while they are sampled: one column of shots for each place of the program where an error
/// acts.
pub(super) struct ErrorColumns {
    pub(super) seed: u64,
    pub(super) shots: u64,
    pub(super) sampler: Arc<dyn LogicalErrorSampler>,
    /// Elementary steps of one cycle of a patch.
    pub(super) steps: u64,
    pub(super) lives: Vec<PatchLife>,
    pub(super) columns: Vec<Column>,
    /// Life and shot to go on with.
    pub(super) next: (usize, u64),
}

/// A piece of a patch's life, with the columns that its errors flip.
pub(super) struct PatchLife {
    pub(super) cycles: u32,
    /// The stretches: the cycle with which each ends, and column and Pauli of its X and its Z errors.
    pub(super) stretches: Vec<(u32, [(u32, Pauli); 2])>,
}

/// Number of places of a program where errors act.
pub(super) fn error_places(timeline: &Timeline) -> u64 {
    timeline.stretches().map(|s| 1 + (s.effect[0].1 != s.effect[1].1) as u64).sum()
}

/// Checks the memory of the errors of a space. `more` is the bytes of one place beside its channel.
///
/// # Errors
/// [`DeviceError::Refused`] above [`MAX_SPACE_BYTES`].
pub(super) fn check_size(shots: u64, places: u64, more: u64) -> Result<(), DeviceError> {
    let bytes = places.saturating_mul(more.saturating_add(size_of::<Noise>() as u64));
    if bytes > MAX_SPACE_BYTES {
        return Err(DeviceError::Refused(format!(
            "the errors of {shots} shots at {places} places of the program take {bytes} bytes, the limit is {MAX_SPACE_BYTES}; \
             run fewer shots at a time, or a shorter program"
        )));
    }
    Ok(())
}

impl ErrorColumns {
    /// Lays out the errors of a program as columns, and adds a channel for each of them to its noise.
    ///
    /// # Errors
    /// [`DeviceError::Refused`] if the columns take too much memory.
    pub(super) fn new(
        spec: &SpaceSpec,
        timeline: Timeline,
        sampler: Arc<dyn LogicalErrorSampler>,
        noise: &mut Vec<Noise>,
    ) -> Result<Self, DeviceError> {
        let (columns, words) = (error_places(&timeline), spec.shots.div_ceil(64));
        check_size(spec.shots, columns, words.saturating_mul(16))?;
        let mut next = 0;
        let mut column = |after, qubit| {
            noise.push(Noise { after, channel: Channel::Given { qubit, column: next } });
            next += 1;
            next - 1
        };
        let mut lives = Vec::with_capacity(timeline.lives.len());
        for life in timeline.lives {
            let mut cycles = 0u32;
            let stretches =
                life.into_iter().map(|Stretch { after, cycles: more, effect: [(a, first), (b, second)] }| {
                    cycles = cycles.saturating_add(more);
                    let x = column(after, first);
                    let z = if first == second { x } else { column(after, second) };
                    (cycles, [(x, a), (z, b)])
                });
            lives.extend(cut_in_pieces(&stretches.collect::<Vec<_>>()));
        }
        let column = Column { x: vec![0; words as usize], z: vec![0; words as usize] };
        // Streams of randomness that the program does not draw from.
        let seed = philox2x64([0x6869_7374_6f72_7900, 0], spec.seed)[0];
        // About one for each qubit and round.
        let steps = (spec.patch.distance as u64).pow(3).max(1);
        let columns = vec![column; columns as usize];
        Ok(ErrorColumns { seed, shots: spec.shots, sampler, steps, lives, columns, next: (0, 0) })
    }

    /// Whether all lives of all shots are sampled.
    pub(super) fn is_done(&self) -> bool {
        self.next.0 >= self.lives.len()
    }

    /// Share of the errors that is sampled, in millionths.
    pub(super) fn prepared(&self) -> u32 {
        let cycles = |lives: &[PatchLife]| lives.iter().map(|l| l.cycles as u128).sum::<u128>();
        let (life, shot) = self.next;
        let (before, rest) = self.lives.split_at(life);
        let all = cycles(&self.lives) * self.shots as u128;
        let done = cycles(before) * self.shots as u128 + cycles(&rest[..rest.len().min(1)]) * shot as u128;
        (done * FULLY_PREPARED as u128 / all.max(1)) as u32
    }

    /// Samples for about `budget` steps of each thread; returns the steps that it took. The errors depend neither on
    /// budgets nor on threads.
    pub(super) fn advance(&mut self, budget: u64, threads: usize) -> u64 {
        let mut took = 0;
        while let Some(life) = self.lives.get(self.next.0)
            && took < budget
        {
            let (stream, first) = (self.next.0 as u32, self.next.1);
            // The sampler adds a cycle before the life and one after it.
            let each = self.steps.saturating_mul(life.cycles as u64 + 2);
            let most = ((budget - took) / each).max(1);
            let shots = (self.shots - first).min(most.saturating_mul(threads as u64));
            let threads = (shots.saturating_mul(each) / MIN_STEPS_PER_THREAD).clamp(1, threads as u64);
            let share = shots.div_ceil(threads);
            let (sampler, seed) = (&self.sampler, self.seed);
            let sample = |from: u64, to: u64| {
                let (mut hits, mut flips) = (Vec::new(), Vec::new());
                for shot in from..to {
                    flips.clear();
                    sampler.sample(seed, shot, stream, life.cycles, &mut flips);
                    let mut cycle = 0;
                    for (number, (end, _)) in life.stretches.iter().enumerate() {
                        let within = flips.get(cycle..*end as usize).unwrap_or_default();
                        let [x, z] = within.iter().fold([false; 2], |[x, z], flip| [x ^ flip[0], z ^ flip[1]]);
                        if x || z {
                            hits.push((shot, number, [x, z]));
                        }
                        cycle = *end as usize;
                    }
                }
                hits
            };
            let hits = std::thread::scope(|scope| {
                let ends = |i: u64| first + (i * share).min(shots);
                let sample = &sample;
                let others: Vec<_> = (1..threads).map(|i| scope.spawn(move || sample(ends(i), ends(i + 1)))).collect();
                let mut hits = sample(first, ends(1));
                for other in others {
                    match other.join() {
                        Ok(more) => hits.extend(more),
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                }
                hits
            });
            for (shot, number, flips) in hits {
                for ((column, pauli), _) in life.stretches[number].1.iter().zip(flips).filter(|(_, flips)| *flips) {
                    let Column { x, z } = &mut self.columns[*column as usize];
                    let (word, bit) = ((shot / 64) as usize, 1 << (shot % 64));
                    if *pauli != Pauli::Z {
                        x[word] ^= bit;
                    }
                    if *pauli != Pauli::X {
                        z[word] ^= bit;
                    }
                }
            }
            took += share.saturating_mul(each);
            self.next.1 += shots;
            if self.next.1 == self.shots {
                self.next = (self.next.0 + 1, 0);
            }
        }
        took
    }
}
