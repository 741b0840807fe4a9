//! A machine whose logical qubits err as error-corrected patches do.
//!
//! [`NoisyDevice`] wraps a machine of perfect logical qubits. Programs that ask for no errors run on that as they are.
//! At the *logical* level each patch suffers X and Z errors with the measured rates of its code, distance and physical
//! error rate ([`crate::calibration`]) for as long as it lives ([`crate::machine::timeline`]). At the *physical* level
//! the history of each patch is sampled for each shot ([`LogicalErrorSampler`]), and a logical error acts at the place
//! in the program where the decoder made it.
//!
//! One logical cycle is as many rounds of syndrome extraction as the code distance. Measurements in X and Z are
//! transversal and take no time, so they add no error. Qubits that a tenant holds one by one do not err.
//!
//! Start at [`NoisyDevice`]. [`timeline`] says when patches live, `error_columns` lays out sampled errors,
//! [`patch_sampler`] samples one patch.

mod error_columns;
pub mod logical_error_sampler;
pub mod patch_sampler;
pub mod timeline;
mod work;

pub use work::PatchWork;

use crate::calibration::{Rates, rates};
use crate::error::QecError;
use error_columns::{ErrorColumns, FULLY_PREPARED, check_size, error_places};
use logical_error_sampler::LogicalErrorSampler;
use qmk_abi::image::{Image, Instr, Pauli, Qubit};
use qmk_abi::syscall::{Code, Level, NoiseSpec, Patch};
use qmk_hal::{
    Channel, Column, Device, DeviceError, Errors, Inline, Interactive, Noise, Place, SnapshotId, Snapshots, SpaceId,
    SpaceSpec, SpaceStatus, forward_device,
};
use qmk_sim::{SimConfig, SimDevice};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;
use timeline::{Stretch, Timeline};
use work::{Kind, Sampling};

/// Physical error rate of a job that names none: that of good superconducting qubits (Google Quantum AI,
/// arXiv:2408.13687).
pub const DEFAULT_ERROR_RATE: f64 = 1e-3;
/// One round of syndrome extraction, in microseconds: the usual figure for superconducting qubits (Fowler & Gidney,
/// arXiv:1808.06709).
pub const ROUND_US: f64 = 1.0;

/// Most bytes of the sampled errors of all spaces together.
const MAX_TOTAL_BYTES: u64 = 1 << 30;
/// Samplers that are kept ready. Making one builds its decoder.
const MAX_SAMPLERS: usize = 8;

/// Makes the sampler of a code, distance and physical error rate, or says which of them is out of range.
pub type SamplerFactory = Box<dyn Fn(Code, u32, f64) -> Result<Arc<dyn LogicalErrorSampler>, QecError> + Send>;

/// Patch, physical error rate in parts per billion, and their sampler.
type CachedSampler = ((Patch, u32), Arc<dyn LogicalErrorSampler>);

/// A machine with error-corrected patches for logical qubits.
pub struct NoisyDevice<D> {
    inner: D,
    factory: SamplerFactory,
    threads: usize,
    /// The samplers that were used last, the latest at the end.
    samplers: RefCell<Vec<CachedSampler>>,
    /// Spaces whose errors are being sampled; `None` while the work is out.
    sampled: BTreeMap<SpaceId, Option<ErrorColumns>>,
    /// Bytes of the sampled errors of each space.
    column_bytes: BTreeMap<SpaceId, u64>,
}

/// Physical error rate that a job asks for.
fn error_rate(noise: NoiseSpec) -> f64 {
    if noise.ppb == 0 { DEFAULT_ERROR_RATE } else { noise.ppb as f64 * 1e-9 }
}

/// Probability of an odd number of errors in `rounds` rounds, each with probability `rate`:
/// `(1 - (1 - 2 rate)^rounds) / 2`.
pub fn odd(rate: f64, rounds: u64) -> f64 {
    -libm::expm1(rounds as f64 * libm::log1p(-2.0 * rate.clamp(0.0, 0.5))) / 2.0
}

/// The channels of one stretch of a patch's life.
fn channels(stretch: &Stretch, rates: &Rates, distance: u16) -> impl Iterator<Item = Noise> + use<> {
    let rounds = stretch.cycles as u64 * distance as u64;
    let (x, z) = (odd(rates.x, rounds), odd(rates.z, rounds));
    let [(a, first), (b, second)] = stretch.effect;
    let single = |qubit: Qubit, each: &[(Pauli, f64)]| {
        let p = [Pauli::X, Pauli::Y, Pauli::Z].map(|p| each.iter().filter(|(q, _)| *q == p).map(|(_, p)| p).sum());
        Noise { after: stretch.after, channel: Channel::Pauli1 { qubit, p } }
    };
    let [first_channel, second_channel] = if first != second {
        [Some(single(first, &[(a, x)])), Some(single(second, &[(b, z)]))]
    } else {
        let mut each = vec![(a, x * (1.0 - z)), (b, z * (1.0 - x))];
        if a != b {
            // Both errors at once act as the product of their Paulis: the third Pauli, or none if they are equal.
            let third = [Pauli::X, Pauli::Y, Pauli::Z].into_iter().find(|p| *p != a && *p != b);
            each.extend(third.map(|p| (p, x * z)));
        }
        [Some(single(first, &each)), None]
    };
    first_channel.into_iter().chain(second_channel)
}

impl NoisyDevice<SimDevice> {
    /// Wraps a simulated machine, with the samplers of [`patch_sampler`]. 0 threads mean as many as there are
    /// processors.
    pub fn simulated(config: SimConfig) -> Self {
        let threads = config.threads;
        let device = NoisyDevice::new(SimDevice::new(config), Box::new(crate::machine::patch_sampler::sampler));
        if threads == 0 { device } else { device.with_threads(threads) }
    }
}

impl<D: Device> NoisyDevice<D> {
    /// Wraps a machine of perfect logical qubits. `factory` makes the samplers of the physical level.
    pub fn new(inner: D, factory: SamplerFactory) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        NoisyDevice {
            inner,
            factory,
            threads,
            samplers: RefCell::default(),
            sampled: BTreeMap::new(),
            column_bytes: BTreeMap::new(),
        }
    }

    /// Sets the number of threads that sample. Outcomes do not depend on it.
    pub fn with_threads(self, threads: usize) -> Self {
        NoisyDevice { threads: threads.max(1), ..self }
    }

    fn sampler(&self, patch: Patch, noise: NoiseSpec) -> Result<Arc<dyn LogicalErrorSampler>, QecError> {
        let key = (patch, noise.ppb);
        let mut cache = self.samplers.borrow_mut();
        let sampler = match cache.iter().position(|(k, _)| *k == key) {
            Some(at) => cache.remove(at).1,
            None => (self.factory)(patch.code, patch.distance as u32, error_rate(noise))?,
        };
        // The sampler that was used longest ago is the first to go.
        if cache.len() == MAX_SAMPLERS {
            cache.remove(0);
        }
        cache.push((key, sampler.clone()));
        Ok(sampler)
    }

    fn timeline(&self, image: &Image, patch: Patch) -> Timeline {
        Timeline::new(image, |op| self.inner.cost(op, patch).cycles)
    }
}

impl<D: Device> Device for NoisyDevice<D> {
    forward_device!(
        inner: D;
        except Work, errors, failure, open, give, begin_work, finish, begin_close, interactive, snapshots
    );

    type Work = PatchWork<D::Work>;

    /// The decoding time is that of the calibration, in thousandths of a round. A decoder that takes longer than a
    /// round falls behind.
    fn errors(&self, patch: Patch, noise: NoiseSpec) -> Result<Errors, String> {
        let rates = || rates(patch.code, patch.distance as u32, error_rate(noise)).map_err(|e| e.to_string());
        let thousandths = |us: f64| (us / ROUND_US * 1000.0).ceil().clamp(1.0, u32::MAX as f64) as u32;
        match noise.level {
            Level::Ideal => self.inner.errors(patch, noise),
            Level::Logical => {
                let rates = rates()?;
                let warning = rates.extrapolated.then(|| {
                    format!(
                        "the logical error rates at distance {} and physical error rate {} come from the fit, outside of what was measured",
                        patch.distance,
                        error_rate(noise)
                    )
                });
                Ok(Errors { decoding: thousandths(rates.us_per_round), warning })
            }
            Level::Physical => {
                // The rates have a range below threshold: above it decoding has no bounded cost.
                let decoding = thousandths(rates()?.us_per_round);
                self.sampler(patch, noise).map_err(|e| e.to_string())?;
                Ok(Errors { decoding, ..Errors::default() })
            }
        }
    }

    /// The probability of at least one logical error, by the calibrated rates.
    fn failure(&self, image: &Image, patch: Patch, noise: NoiseSpec) -> f64 {
        if noise.level == Level::Ideal {
            return self.inner.failure(image, patch, noise);
        }
        let Ok(Rates { x, z, .. }) = rates(patch.code, patch.distance as u32, error_rate(noise)) else {
            return self.inner.failure(image, patch, noise);
        };
        // Logarithm of the probability that a patch survives a cycle without this error.
        let none = |rate: f64| (-odd(rate, patch.distance as u64)).ln_1p();
        let cycles: u64 = self.timeline(image, patch).stretches().map(|s| s.cycles as u64).sum();
        -(cycles as f64 * (none(x) + none(z))).exp_m1()
    }

    fn open(&mut self, mut spec: SpaceSpec) -> Result<SpaceId, DeviceError> {
        let asked = std::mem::take(&mut spec.errors);
        if asked.level == Level::Ideal || spec.image.code.is_empty() {
            return self.inner.open(spec);
        }
        let timeline = self.timeline(&spec.image, spec.patch);
        let mut noise = spec.noise.to_vec();
        let mut sampled = None;
        if asked.level == Level::Logical {
            let rates = rates(spec.patch.code, spec.patch.distance as u32, error_rate(asked));
            let rates = rates.map_err(|e| DeviceError::Refused(e.to_string()))?;
            check_size(spec.shots, error_places(&timeline), 0)?;
            noise.extend(timeline.stretches().flat_map(|s| channels(s, &rates, spec.patch.distance)));
        } else {
            let sampler = self.sampler(spec.patch, asked).map_err(|e| DeviceError::Refused(e.to_string()))?;
            let more = ErrorColumns::new(&spec, timeline, sampler, &mut noise)?;
            let bytes = more.columns.len() as u64 * spec.shots.div_ceil(64) * 16;
            let taken: u64 = self.column_bytes.values().sum();
            if taken + bytes > MAX_TOTAL_BYTES {
                return Err(DeviceError::Refused(format!(
                    "the errors of the programs under way take {taken} bytes, with {bytes} more than the limit of {MAX_TOTAL_BYTES}; \
                     run the program later, or fewer shots at a time"
                )));
            }
            sampled = Some((more, bytes));
        }
        noise.sort_by_key(|n| n.after);
        spec.noise = noise.into();
        let space = self.inner.open(spec)?;
        if let Some((sampled, bytes)) = sampled {
            self.sampled.insert(space, Some(sampled));
            self.column_bytes.insert(space, bytes);
        }
        Ok(space)
    }

    fn give(&mut self, space: SpaceId, columns: Arc<[Column]>) -> Result<(), DeviceError> {
        if self.sampled.contains_key(&space) {
            return Err(DeviceError::Refused("the errors of the space are sampled".into()));
        }
        self.inner.give(space, columns)
    }

    fn begin_work(&mut self, space: SpaceId) -> Result<Self::Work, DeviceError> {
        let Some(slot) = self.sampled.get_mut(&space) else {
            return self.inner.begin_work(space).map(PatchWork::inner);
        };
        let sampled = slot.take().ok_or(DeviceError::Busy)?;
        Ok(PatchWork::sampling(space, sampled, self.threads))
    }

    fn finish(&mut self, work: Self::Work) -> Result<SpaceStatus, DeviceError> {
        let Sampling { space, mut sampled, steps, .. } = match work.0 {
            Kind::Inner(work) => return self.inner.finish(work),
            Kind::Sampling(sampling) => *sampling,
        };
        // The space may have been closed meanwhile.
        let Some(slot) = self.sampled.get_mut(&space) else { return Ok(SpaceStatus::default()) };
        if !sampled.is_done() {
            let prepared = sampled.prepared();
            *slot = Some(sampled);
            return Ok(SpaceStatus { steps, prepared, ..SpaceStatus::default() });
        }
        let columns = std::mem::take(&mut sampled.columns);
        self.sampled.remove(&space);
        self.inner.give(space, columns.into())?;
        Ok(SpaceStatus { steps, prepared: FULLY_PREPARED, ..SpaceStatus::default() })
    }

    fn begin_close(&mut self, space: SpaceId) -> Option<Self::Work> {
        self.sampled.remove(&space);
        self.column_bytes.remove(&space);
        self.inner.begin_close(space).map(PatchWork::inner)
    }

    fn interactive(&mut self) -> Option<&mut dyn Interactive<Work = Self::Work>> {
        self.inner.interactive()?;
        Some(self)
    }

    fn snapshots(&mut self) -> Option<&mut dyn Snapshots<Work = Self::Work>> {
        self.inner.snapshots()?;
        Some(self)
    }
}

impl<D: Device> Interactive for NoisyDevice<D> {
    type Work = PatchWork<D::Work>;

    fn begin_perform(&mut self, space: SpaceId, instr: Instr) -> Result<Self::Work, DeviceError> {
        self.inner.qubits()?.begin_perform(space, instr).map(PatchWork::inner)
    }

    fn begin_link(&mut self, a: Place, b: Place, errors: [f64; 3]) -> Result<Self::Work, DeviceError> {
        self.inner.qubits()?.begin_link(a, b, errors).map(PatchWork::inner)
    }
}

impl<D: Device> Snapshots for NoisyDevice<D> {
    type Work = PatchWork<D::Work>;

    fn begin_snapshot(&mut self, space: SpaceId) -> Result<(SnapshotId, Self::Work), DeviceError> {
        let (id, work) = self.inner.copies()?.begin_snapshot(space)?;
        Ok((id, PatchWork::inner(work)))
    }

    fn begin_restore(&mut self, space: SpaceId, snapshot: SnapshotId) -> Result<Self::Work, DeviceError> {
        self.inner.copies()?.begin_restore(space, snapshot).map(PatchWork::inner)
    }

    fn forget(&mut self, snapshot: SnapshotId) {
        Inline::forget(&mut self.inner, snapshot);
    }
}

#[cfg(test)]
mod tests;
