//! Samples the physical errors of a patch cycle by cycle and decodes its syndrome while it lives.
//!
//! A long memory looks the same in every cycle. So a circuit of a few cycles gives the errors of every cycle: those of
//! a cycle in its middle, with the detectors that they flip counted from the beginning of that cycle. The decoder
//! matches a window of two cycles, keeps its correction of the first, and hands the defects that remain to the next
//! window (Dennis, Kitaev, Landahl & Preskill, quant-ph/0110143, section VI.B).
//!
//! The logical error at the end of a cycle is the one that an ideal decoder would find: the defects that errors and
//! corrections so far leave open are matched at minimum weight, and the class of the closed chain is the logical error.
//!
//! A life is cut out of a longer one: a cycle before it and one after it are sampled and decoded but not counted. So a
//! life begins with open defects, as preparation leaves them, and ends before a noisy future. Short lives therefore err
//! at the rate of long ones.

use crate::calibration;
use crate::codes::{Code, RotatedSurface, Subsystem};
use crate::decoder::Decoder;
use crate::decoder::matching::Matching;
use crate::dem::{DetectorErrorModel, MergedMechanisms, parities};
use crate::error::{PatchSamplerError, QecError};
use crate::machine::logical_error_sampler::LogicalErrorSampler;
use crate::noise::NoiseModel;
use qmk_abi::image::Pauli;
use qmk_hal::Channel;
use qmk_sim::channel_errors;
use qmk_sim::rng::{philox2x64, unit};
use qmk_sim::sets::find;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Cycles of the memory whose second cycle stands for all.
const PERIODS: u32 = 4;
/// Cycles in a window: one to keep, one to look ahead.
const WINDOW_CYCLES: u32 = 2;

/// Samples and decodes patches of one code under one noise model.
pub struct PatchSampler {
    /// Rounds of a cycle.
    rounds: u32,
    /// Channels of one cycle, grouped by their total probability.
    groups: Vec<ChannelGroup>,
    /// X errors, which flip detectors of Z, and Z errors, which flip detectors of X.
    sectors: [Sector; 2],
}

/// Channels with the same probability of an error. One geometric draw skips those that do not err.
struct ChannelGroup {
    /// 1 / ln(1 - p).
    scale: f64,
    channels: Vec<ChannelErrors>,
}

/// The errors of a channel.
struct ChannelErrors {
    /// Cumulated share of the channel's probability, and the effect on each sector.
    errors: Vec<(f64, [Effect; 2])>,
}

/// The effect of an error on one sector: the detectors that it flips, counted from the beginning of its cycle, and
/// whether it flips the logical observable.
#[derive(Clone, Debug, Default, PartialEq)]
struct Effect {
    detectors: Vec<u32>,
    observable: bool,
}

/// The decoder of one kind of logical error.
struct Sector {
    /// Detectors of a round.
    detectors: u32,
    window: Matching,
}

/// The state of one sector at the beginning of a cycle.
#[derive(Default)]
struct SectorState {
    /// Detectors from the beginning of this cycle on that errors flipped.
    actual: Vec<bool>,
    /// The same of corrections that were kept.
    kept: Vec<bool>,
    /// Parity of the logical flips of errors and corrections so far.
    class: bool,
}

impl PatchSampler {
    /// Prepares the patches of a code. Its rounds must be alike, and matching must decode its errors. A cycle is
    /// `rounds` rounds.
    ///
    /// # Errors
    /// [`QecError::PatchSampler`] if the code is not of that kind; [`QecError::Noise`] if a parameter is out of range.
    pub fn new(code: &dyn Code, rounds: u32, noise: &NoiseModel) -> Result<Self, QecError> {
        noise.check()?;
        if !code.is_matchable() {
            return Err(PatchSamplerError::NotMatchable(code.name()).into());
        }
        let [z, x] = [Pauli::Z, Pauli::X].map(|basis| PeriodicMemory::new(code, basis, rounds, noise));
        let memories = [z?, x?];
        let cycle = |p: &PeriodicMemory| p.channels.clone();
        if cycle(&memories[0]) != cycle(&memories[1]) {
            return Err(PatchSamplerError::RoundsDiffer(code.name()).into());
        }
        let mut groups: BTreeMap<u64, ChannelGroup> = BTreeMap::new();
        for (i, channel) in memories[0].channels.iter().enumerate() {
            let each: Vec<_> = channel_errors(channel).filter(|e| e.1 > 0.0).collect();
            let total: f64 = each.iter().map(|e| e.1).sum();
            let mut sum = 0.0;
            let errors = each.into_iter().map(|(error, p)| {
                sum += p / total;
                (sum, [0, 1].map(|sector: usize| memories[sector].effect(i, error)))
            });
            let errors: Vec<_> = errors.collect();
            if total <= 0.0 || errors.iter().all(|(_, e)| e.iter().all(|e| *e == Effect::default())) {
                continue;
            }
            let scale = libm::log1p(-total.min(1.0)).recip();
            let group = groups.entry(total.to_bits()).or_insert(ChannelGroup { scale, channels: Vec::new() });
            group.channels.push(ChannelErrors { errors });
        }
        let [z, x] = memories.map(|p| p.sector());
        Ok(PatchSampler { rounds, groups: groups.into_values().collect(), sectors: [z?, x?] })
    }
}

/// A memory of a few cycles, and where the errors of one cycle are in it.
struct PeriodicMemory {
    rounds: u32,
    model: DetectorErrorModel,
    parities: qmk_sim::DetectorSampler,
    /// Number of the first channel of the second cycle.
    first: usize,
    /// The channels of the second cycle, with records numbered 0.
    channels: Vec<Channel>,
    /// Round of each detector and its number in the round, if it helps to decode the observable.
    places: Vec<Option<(u32, u32)>>,
    per_round: u32,
}

impl PeriodicMemory {
    fn new(code: &dyn Code, basis: Pauli, rounds: u32, noise: &NoiseModel) -> Result<Self, QecError> {
        let circuit = noise.apply(&code.memory(basis, PERIODS * rounds));
        let parities = parities(&circuit)?;
        let model = DetectorErrorModel::new(&circuit, &parities);
        // Channels are numbered as the steps that make them.
        let (mut round, mut count) = (0, 0);
        let mut bounds = Vec::new();
        for step in circuit.steps() {
            use crate::circuit::Step::*;
            match step {
                Round => {
                    bounds.push(count);
                    round += 1;
                }
                Pauli1(..) | Pauli2(..) => count += 1,
                Measure(_, _, p) | MeasurePair(_, _, p) => count += (*p > 0.0) as usize,
                _ => {}
            }
        }
        let per_cycle = round / PERIODS;
        let (first, last) = (bounds[per_cycle as usize], bounds[2 * per_cycle as usize]);
        let channels = parities.channels()[first..last].iter().map(|c| match *c {
            Channel::Flip { p, .. } => Channel::Flip { event: 0, p },
            other => other,
        });
        let channels = channels.collect();
        let decides_observable = decides_observable(&model);
        let mut numbers: BTreeMap<[u64; 2], u32> = BTreeMap::new();
        let places = model.coordinates.iter().zip(decides_observable).map(|(at, decides_observable)| {
            let next = numbers.len() as u32;
            decides_observable
                .then(|| (at[2] as u32, *numbers.entry([at[0].to_bits(), at[1].to_bits()]).or_insert(next)))
        });
        let places: Vec<_> = places.collect();
        let per_round = numbers.len() as u32;
        Ok(PeriodicMemory { rounds, model, parities, first, channels, places, per_round })
    }

    /// The effect of an error of channel `i` of the cycle.
    fn effect(&self, i: usize, error: u8) -> Effect {
        let mut effect = Effect::default();
        for &f in self.parities.flips(self.first + i, error) {
            match self.places.get(f as usize) {
                None => effect.observable ^= true,
                Some(None) => {}
                Some(Some((round, number))) => {
                    // An error flips detectors of its own round or of later ones.
                    effect.detectors.push(round.saturating_sub(self.rounds) * self.per_round + number);
                }
            }
        }
        effect
    }

    /// The decoder of a window: errors of the second and third cycle. Errors that touch earlier detectors are left out,
    /// as they are decided; later detectors are left open.
    fn sector(self) -> Result<Sector, QecError> {
        let rounds = self.rounds..(1 + WINDOW_CYCLES) * self.rounds;
        let mut found = MergedMechanisms::default();
        for m in &self.model.mechanisms {
            let places: Vec<(u32, u32)> = m.detectors.iter().filter_map(|&d| self.places[d as usize]).collect();
            if places.iter().any(|p| p.0 < rounds.start) || places.iter().all(|p| p.0 >= rounds.end) {
                continue;
            }
            let inside = places.iter().filter(|p| rounds.contains(&p.0));
            let mut detectors: Vec<u32> = inside.map(|p| (p.0 - rounds.start) * self.per_round + p.1).collect();
            detectors.sort_unstable();
            found.add(detectors, m.observables, m.p);
        }
        let detectors = WINDOW_CYCLES * self.rounds * self.per_round;
        let model = DetectorErrorModel {
            detectors,
            observables: 1,
            mechanisms: found.mechanisms(),
            coordinates: vec![[0.0; 3]; detectors as usize],
        };
        Ok(Sector { detectors: self.per_round, window: Matching::new(&model)? })
    }
}

/// Whether each detector is connected, by errors of at most two detectors, with an error that flips the observable.
fn decides_observable(model: &DetectorErrorModel) -> Vec<bool> {
    let mut group: Vec<u32> = (0..model.detectors).collect();
    let mut marked = Vec::new();
    for m in &model.mechanisms {
        if let [a, ref rest @ ..] = m.detectors[..]
            && rest.len() <= 1
        {
            let a = find(&mut group, a);
            for &b in rest {
                let b = find(&mut group, b);
                group[b as usize] = a;
            }
            marked.extend((m.observables != 0).then_some(a));
        }
    }
    let marked: std::collections::BTreeSet<u32> = marked.into_iter().map(|d| find(&mut group, d)).collect();
    (0..model.detectors).map(|d| marked.contains(&find(&mut group, d))).collect()
}

/// Uniform draws in [0, 1) of one patch in one shot.
struct UniformDraws {
    seed: u64,
    shot: u64,
    next: u64,
    kept: Option<u64>,
}

impl UniformDraws {
    fn uniform(&mut self) -> f64 {
        let bits = self.kept.take().unwrap_or_else(|| {
            let [now, later] = philox2x64([self.shot, self.next], self.seed);
            self.next += 1;
            self.kept = Some(later);
            now
        });
        unit(bits)
    }
}

impl PatchSampler {
    /// Samples the errors of one cycle and applies their effects.
    fn inject_errors(&self, draws: &mut UniformDraws, states: &mut [SectorState; 2]) {
        for group in &self.groups {
            let mut at = 0usize;
            loop {
                // The gap to the next channel that errs is geometric.
                let gap = libm::log1p(-draws.uniform()) * group.scale;
                if gap >= (group.channels.len() - at) as f64 {
                    break;
                }
                at += gap as usize;
                let Some(channel) = group.channels.get(at) else { break };
                at += 1;
                let which = draws.uniform();
                let Some((_, effects)) = channel.errors.iter().find(|e| which < e.0).or(channel.errors.last()) else {
                    continue;
                };
                for (stream, effect) in states.iter_mut().zip(effects) {
                    effect.detectors.iter().for_each(|&d| stream.actual[d as usize] ^= true);
                    stream.class ^= effect.observable;
                }
            }
        }
    }
}

impl LogicalErrorSampler for PatchSampler {
    fn sample(&self, seed: u64, shot: u64, stream: u32, cycles: u32, out: &mut Vec<[bool; 2]>) {
        let mut draws = UniformDraws { seed, shot, next: (stream as u64) << 32, kept: None };
        let mut matching = [0, 1].map(|sector: usize| self.sectors[sector].window.clone());
        let size = |sector: usize| (self.rounds * self.sectors[sector].detectors) as usize;
        let mut states: [SectorState; 2] = std::array::from_fn(|sector| SectorState {
            actual: vec![false; 3 * size(sector)],
            kept: vec![false; 3 * size(sector)],
            class: false,
        });
        // The errors of the next cycle, which the window contains already.
        let mut ahead = states.each_ref().map(|s| SectorState { actual: s.actual.clone(), ..SectorState::default() });
        let (mut fired, mut edges) = (Vec::new(), Vec::new());
        let mut before = [false; 2];
        if cycles > 0 {
            self.inject_errors(&mut draws, &mut states);
        }
        // The cycle before the first is decoded but not reported; the cycle after the last is only part of the window.
        for cycle in 0..if cycles > 0 { cycles as u64 + 1 } else { 0 } {
            self.inject_errors(&mut draws, &mut ahead);
            let mut now = [false; 2];
            for (sector, (stream, next)) in states.iter_mut().zip(&mut ahead).enumerate() {
                let size = size(sector);
                fired.clear();
                for d in 0..WINDOW_CYCLES as usize * size {
                    // The next cycle counts its detectors from its own beginning.
                    let later = d.checked_sub(size).is_some_and(|d| next.actual[d]);
                    if stream.actual[d] ^ stream.kept[d] ^ later {
                        fired.push(d as u32);
                    }
                }
                edges.clear();
                matching[sector].decode_edges(&fired, &mut edges);
                for &e in &edges {
                    let edge = &matching[sector].graph().edges[e as usize];
                    let nodes = [Some(edge.from), edge.to].into_iter().flatten();
                    if nodes.clone().any(|n| (n as usize) < size) {
                        nodes.for_each(|n| stream.kept[n as usize] ^= true);
                        stream.class ^= edge.observables & 1 == 1;
                    }
                }
                // An ideal decoder closes the defects that remain.
                fired.clear();
                let rest = size..(1 + WINDOW_CYCLES as usize) * size;
                fired.extend(rest.filter(|&d| stream.actual[d] ^ stream.kept[d]).map(|d| (d - size) as u32));
                now[sector] = stream.class ^ (matching[sector].decode(&fired) & 1 == 1);
                for bits in [&mut stream.actual, &mut stream.kept] {
                    bits.copy_within(size.., 0);
                    bits[2 * size..].fill(false);
                }
                stream.actual.iter_mut().zip(&mut next.actual).for_each(|(bit, next)| *bit ^= std::mem::take(next));
                stream.class ^= std::mem::take(&mut next.class);
            }
            // X errors are seen by detectors of Z.
            if cycle > 0 {
                out.push([now[0] ^ before[0], now[1] ^ before[1]]);
            }
            before = now;
        }
    }
}

/// Distances of patches that can be sampled.
const DISTANCES: std::ops::RangeInclusive<u32> = 2..=9;

/// The sampler of patches under the noise that [`calibration::NOISE`] names, with cycles of as many rounds as the
/// distance.
///
/// # Errors
/// [`QecError::PatchSampler`] if patches of the code cannot be sampled; [`QecError::Distance`] or [`QecError::Noise`]
/// if a parameter is out of range.
pub fn sampler(code: qmk_abi::syscall::Code, distance: u32, p: f64) -> Result<Arc<dyn LogicalErrorSampler>, QecError> {
    use qmk_abi::syscall::Code;
    let noise = NoiseModel::named(calibration::NOISE, p)?;
    let check = |name| crate::codes::code::check_distance(name, distance, DISTANCES);
    let sampler = match code {
        Code::Surface => {
            check("surface_code patches that are decoded while they live")?;
            PatchSampler::new(&RotatedSurface::new(distance)?, distance, &noise)
        }
        Code::BaconShor => {
            check("bacon_shor patches that are decoded while they live")?;
            PatchSampler::new(&Subsystem::bacon_shor(distance)?, distance, &noise)
        }
        Code::Floquet | Code::Shyps => Err(PatchSamplerError::Code.into()),
    };
    Ok(Arc::new(sampler?))
}
