//! Parities of outcomes that are certain without noise, such as the detectors of a syndrome circuit: the effect of each
//! error on them, and samples of them.
//!
//! The plan of a program gives every outcome as a parity of coins and errors. Where the coins cancel, the value in a
//! shot depends on the errors of that shot alone, so sampling costs only as much as there are errors.

use super::plan::{Unplannable, plan};
use crate::noise::{BLOCK, channel_errors, draw};
use crate::program::check::check_noise;
use crate::program::steps::Program;
use crate::rng::Random;
use crate::sets::drop_pairs;
use qmk_abi::image::{Event, Image};
use qmk_hal::{Channel, Noise};

/// Most flips of parities by errors that are kept, over all errors.
const MAX_FLIPS: usize = 1 << 26;

/// Why parities cannot be sampled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParityError {
    /// The coins of a parity do not cancel.
    #[error("parity {0} is random without noise")]
    Random(usize),
    /// The program or its noise has no such parities.
    #[error("{0}")]
    Unfit(String),
}

/// Samples parities of events of a Clifford program with noise, relative to their values without noise.
#[derive(Clone, Debug)]
pub struct DetectorSampler {
    channels: Vec<Channel>,
    /// `effects[starts[channel] + error - 1]` is where the parities that an error flips begin in `flipped`.
    starts: Vec<usize>,
    effects: Vec<u32>,
    flipped: Vec<u32>,
    /// Values without noise.
    reference: Vec<bool>,
}

/// Keeps the numbers that occur an odd number of times, ascending.
fn cancel(items: &mut Vec<u32>) {
    items.sort_unstable();
    drop_pairs(items);
}

impl DetectorSampler {
    /// Works out the parities of the given events. The image must be admitted.
    ///
    /// # Errors
    /// [`ParityError::Random`] if a parity is random without noise. [`ParityError::Unfit`] if the program is not
    /// Clifford, has a condition that is not a parity, or is too large.
    pub fn new(image: &Image, noise: &[Noise], parities: &[Vec<Event>]) -> Result<Self, ParityError> {
        check_noise(image, noise).map_err(ParityError::Unfit)?;
        if noise.iter().any(|n| matches!(n.channel, Channel::Given { .. })) {
            return Err(ParityError::Unfit("errors that are given shot by shot have no probability".into()));
        }
        let plan = plan(&Program::new(image, noise), image, 0).map_err(|e| match e {
            Unplannable::Refused(at, _) => ParityError::Unfit(format!("instruction {at} is not a Clifford operation")),
            Unplannable::TooLarge => {
                ParityError::Unfit("the program is too long: it has too many errors to follow at once".into())
            }
        })?;
        let mut reference = Vec::with_capacity(parities.len());
        let mut of_event: Vec<Vec<u32>> = vec![Vec::new(); image.events as usize];
        for (number, events) in parities.iter().enumerate() {
            let (mut symbols, mut value) = (Vec::new(), false);
            for &e in events {
                let Some(row) = plan.rows.get(e as usize) else {
                    return Err(ParityError::Unfit(format!("parity {number} names event {e} of {}", image.events)));
                };
                of_event[e as usize].push(number as u32);
                if let Some(row) = row {
                    symbols.extend_from_slice(&row.symbols);
                    value ^= row.constant;
                }
            }
            cancel(&mut symbols);
            if !symbols.is_empty() {
                return Err(ParityError::Random(number));
            }
            reference.push(value);
        }
        let (mut starts, mut effects, mut flipped) = (Vec::new(), Vec::new(), Vec::new());
        let mut one = Vec::new();
        for n in &plan.noise {
            starts.push(effects.len());
            let parts: Vec<Vec<u32>> = n
                .flips
                .iter()
                .map(|rows| {
                    // Rows beyond the events are signs of registers and conditions, and there are none.
                    let mut hit: Vec<u32> =
                        rows.iter().filter_map(|&r| of_event.get(r as usize)).flatten().copied().collect();
                    cancel(&mut hit);
                    hit
                })
                .collect();
            for error in 1..=channel_errors(&n.channel).count() {
                one.clear();
                let hit = parts.iter().enumerate().filter(|(part, _)| error >> part & 1 == 1);
                hit.for_each(|(_, p)| one.extend_from_slice(p));
                cancel(&mut one);
                effects.push(flipped.len() as u32);
                flipped.extend_from_slice(&one);
                if flipped.len() > MAX_FLIPS {
                    let message = format!("the errors of the program flip more than {MAX_FLIPS} parities together");
                    return Err(ParityError::Unfit(message));
                }
            }
        }
        effects.push(flipped.len() as u32);
        let channels = plan.noise.iter().map(|n| n.channel).collect();
        Ok(DetectorSampler { channels, starts, effects, flipped, reference })
    }

    /// Number of parities.
    pub fn count(&self) -> usize {
        self.reference.len()
    }

    /// Values without noise.
    pub fn reference(&self) -> &[bool] {
        &self.reference
    }

    /// The channels of the noise, in order.
    pub fn channels(&self) -> &[Channel] {
        &self.channels
    }

    /// The parities that an error of a channel flips, ascending. Errors are numbered as by [`channel_errors`].
    pub fn flips(&self, channel: usize, error: u8) -> &[u32] {
        let at = self.starts[channel] + error as usize - 1;
        &self.flipped[self.effects[at] as usize..self.effects[at + 1] as usize]
    }

    /// Samples shots `first..first + count` of a seed: which parities differ from their values without noise. Row `r`
    /// takes words `r * count.div_ceil(64)` and up of the result, a bit per shot. The same shots of the same program on
    /// [`SimDevice`](crate::SimDevice) have these parities.
    pub fn sample(&self, seed: u64, first: u64, count: usize, rows: &mut Vec<u64>) {
        let width = count.div_ceil(64);
        rows.clear();
        rows.resize(self.count() * width, 0);
        let last = first + count as u64;
        for (index, channel) in self.channels.iter().enumerate() {
            let at = self.starts[index];
            let ends = &self.effects[at..at + channel_errors(channel).count() + 1];
            if ends[0] == ends[ends.len() - 1] {
                continue;
            }
            for block in first / BLOCK..last.div_ceil(BLOCK) {
                draw(Random { seed }, index as u32, channel, block, |shot, error| {
                    let shot = block * BLOCK + shot;
                    if (first..last).contains(&shot) {
                        let lane = (shot - first) as usize;
                        let (word, bit) = (lane / 64, 1 << (lane % 64));
                        let e = error as usize;
                        for &row in &self.flipped[ends[e - 1] as usize..ends[e] as usize] {
                            rows[row as usize * width + word] ^= bit;
                        }
                    }
                });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimDevice;
    use qmk_abi::image::{Clifford1, Clifford2, Instr, Op, Pauli};
    use qmk_hal::{Device, Inline, SpaceSpec};
    use std::sync::Arc;

    /// Three rounds of ZZ and XX on two qubits through an ancilla, with all kinds of noise.
    fn program() -> (Image, Vec<Noise>) {
        let mut code = vec![Op::Alloc(0), Op::Alloc(1), Op::Alloc(2)];
        let mut noise = Vec::new();
        let mut events = 0;
        let cnot = |a, b| Op::Clifford2(Clifford2::Cnot, a, b);
        let h = Op::Clifford1(Clifford1::H, 2);
        for _ in 0..3 {
            for x in [false, true] {
                code.push(Op::Reset(2));
                code.extend(x.then_some(h));
                for q in [0, 1] {
                    let (a, b) = if x { (2, q) } else { (q, 2) };
                    code.push(cnot(a, b));
                    let after = code.len() as u32 - 1;
                    noise.push(Noise { after, channel: Channel::depolarize2(a, b, 0.05) });
                    noise.push(Noise { after, channel: Channel::Pauli1 { qubit: q, p: [0.01, 0.02, 0.03] } });
                }
                code.extend(x.then_some(h));
                code.push(Op::Measure(Pauli::Z, 2, events));
                noise.push(Noise { after: code.len() as u32 - 1, channel: Channel::Flip { event: events, p: 0.02 } });
                events += 1;
            }
        }
        let code = code.into_iter().map(|op| Instr { op, cond: None }).collect();
        (Image { qubits: 3, events, code, terms: Vec::new() }, noise)
    }

    #[test]
    fn parities_are_those_of_the_device_shot_by_shot() {
        let (image, noise) = program();
        let parities = vec![vec![0], vec![0, 2], vec![1, 3], vec![2, 4], vec![3, 5], vec![0, 4, 1, 5]];
        let sampler = DetectorSampler::new(&image, &noise, &parities).unwrap();
        assert!(sampler.reference().iter().all(|v| !v));
        let shots = 3000;
        let mut device = SimDevice::default();
        let (image, noise) = (Arc::new(image), noise.into());
        let spec = SpaceSpec { image: Arc::clone(&image), noise, shots, seed: 11, ..SpaceSpec::default() };
        let space = device.open(spec).unwrap();
        (0..image.code.len()).for_each(|i| device.issue(space, i as u32).unwrap());
        while device.work(space, 1 << 20).unwrap().shots_done < shots {}
        let mut rows = Vec::new();
        let mut errors = 0;
        // Shots that begin inside a block.
        for (first, count) in [(0, 700usize), (700, 2300)] {
            sampler.sample(11, first, count, &mut rows);
            let width = count.div_ceil(64);
            for shot in 0..count {
                for (row, events) in parities.iter().enumerate() {
                    let value = rows[row * width + shot / 64] >> (shot % 64) & 1 == 1;
                    let outcome = events.iter().fold(false, |p, &e| p ^ device.outcome(space, first + shot as u64, e));
                    assert_eq!(value, outcome, "shot {shot} after {first}, parity {row}");
                    errors += value as u32;
                }
            }
        }
        assert!(errors > 1000, "{errors}");
    }

    #[test]
    fn what_chance_decides_is_refused() {
        let (image, noise) = program();
        assert_eq!(DetectorSampler::new(&image, &noise, &[vec![0], vec![1]]).unwrap_err(), ParityError::Random(1));
        let mut magic = image.clone();
        magic.code.push(Instr { op: Op::T(0), cond: None });
        magic.code.push(Instr { op: Op::Clifford1(Clifford1::H, 0), cond: None });
        magic.code.push(Instr { op: Op::Measure(Pauli::Z, 0, 6), cond: None });
        magic.events = 7;
        assert!(matches!(DetectorSampler::new(&magic, &noise, &[vec![6]]), Err(ParityError::Unfit(_))));
        assert!(matches!(DetectorSampler::new(&image, &noise, &[vec![99]]), Err(ParityError::Unfit(_))));
    }
}
