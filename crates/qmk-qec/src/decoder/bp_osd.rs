//! Belief propagation and ordered statistics, for models whose errors are not edges of a graph.
//!
//! Min-sum belief propagation, check after check (Hocevar, SiPS 2004), and where it does not settle, ordered-statistics
//! decoding (Fossorier and Lin, IEEE Trans. Inf. Theory 41, 1379 (1995); for quantum codes Panteleev and Kalachev,
//! Quantum 5, 585 (2021), Roffe et al., Phys. Rev. Res. 2, 043423 (2020), whose combination sweep is the one here).

use super::decode::Decoder;
use crate::dem::DetectorErrorModel;
use crate::error::{DecoderError, QecError};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// The work that the decoder puts into a shot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Options {
    /// Most iterations of belief propagation.
    pub iterations: u32,
    /// Factor of the messages from checks, in (0, 1]: min-sum overestimates them.
    pub scale: f32,
    /// Number of likely errors outside of the information set that are tried in pairs, after each was tried alone.
    /// `None` tries no error: OSD-0.
    pub sweep: Option<u32>,
}

impl Default for Options {
    /// The best choice for color codes of distances 5 and 7: more iterations take longer and are hardly better.
    fn default() -> Self {
        Self { iterations: 10, scale: 0.75, sweep: Some(10) }
    }
}

/// Belief propagation and ordered-statistics decoder.
#[derive(Clone)]
pub struct BpOsd {
    code: Arc<CheckMatrix>,
    work: Workspace,
}

/// Errors are columns of the check matrix, detectors its rows.
struct CheckMatrix {
    options: Options,
    rank: usize,
    /// Rows: ranges of `columns`.
    rows: Vec<u32>,
    columns: Vec<u32>,
    /// Columns: ranges of `detectors`.
    errors: Vec<u32>,
    detectors: Vec<u32>,
    /// ln((1-p)/p) and observables of each error.
    prior: Vec<f32>,
    observables: Vec<u64>,
}

#[derive(Clone, Default)]
struct Workspace {
    fired: Vec<bool>,
    /// ln((1-p)/p) of each error given the syndrome.
    posterior: Vec<f32>,
    /// From checks to errors, row by row.
    messages: Vec<f32>,
    queue: BinaryHeap<Reverse<(u32, u32)>>,
    basis: Basis,
    outside: Vec<u32>,
}

/// Independent columns in reduced form: sums of columns of which each has a pivot row that no other sum has.
#[derive(Clone, Default)]
struct Basis {
    /// Words of a sum, and of the set of columns that it sums.
    words: usize,
    set_words: usize,
    sums: Vec<u64>,
    /// The column that each sum added.
    column: Vec<u32>,
    /// Sum of each pivot row, or `NONE`.
    pivot: Vec<u32>,
    /// The part of the syndrome that is not explained yet, and the set of sums that explain the rest.
    residual: Vec<u64>,
    scratch: Vec<u64>,
}

const NONE: u32 = u32::MAX;
/// Largest message.
const MAX_MESSAGE: f32 = 1e4;

fn bit(words: &[u64], at: usize) -> bool {
    words[at / 64] >> (at % 64) & 1 == 1
}

fn add(to: &mut [u64], from: &[u64]) {
    to.iter_mut().zip(from).for_each(|(a, b)| *a ^= b);
}

impl Basis {
    fn reset(&mut self, rows: usize, rank: usize, fired: impl Iterator<Item = usize>) {
        (self.words, self.set_words) = (rows.div_ceil(64), rank.div_ceil(64));
        let width = self.words + self.set_words;
        self.sums.clear();
        self.column.clear();
        self.pivot.clear();
        self.pivot.resize(rows, NONE);
        self.residual.clear();
        self.residual.resize(width, 0);
        self.scratch.resize(width, 0);
        fired.for_each(|d| self.residual[d / 64] |= 1 << (d % 64));
    }

    /// Writes a column to `scratch`, less the sums that it contains.
    fn reduce(&mut self, rows: &[u32]) {
        let width = self.words + self.set_words;
        self.scratch.fill(0);
        for &r in rows {
            self.scratch[r as usize / 64] ^= 1 << (r % 64);
            let sum = self.pivot[r as usize];
            if sum != NONE {
                add(&mut self.scratch, &self.sums[sum as usize * width..][..width]);
            }
        }
    }

    /// Adds a column; false if it depends on the others.
    fn insert(&mut self, column: u32, rows: &[u32]) -> bool {
        let (width, k) = (self.words + self.set_words, self.column.len());
        self.reduce(rows);
        let Some(word) = self.scratch[..self.words].iter().position(|w| *w != 0) else { return false };
        let row = word * 64 + self.scratch[word].trailing_zeros() as usize;
        self.scratch[self.words + k / 64] ^= 1 << (k % 64);
        for sum in self.sums.chunks_exact_mut(width).chain([&mut self.residual[..]]) {
            if bit(sum, row) {
                add(sum, &self.scratch);
            }
        }
        self.sums.extend_from_slice(&self.scratch);
        self.pivot[row] = k as u32;
        self.column.push(column);
        true
    }

    fn explains_syndrome(&self) -> bool {
        self.residual[..self.words].iter().all(|w| *w == 0)
    }
}

/// Positions of the ones of a set.
fn ones(set: &[u64]) -> impl Iterator<Item = usize> + '_ {
    set.iter().enumerate().flat_map(|(k, &word)| {
        let mut word = word;
        std::iter::from_fn(move || {
            let at = (word != 0).then(|| k * 64 + word.trailing_zeros() as usize);
            word &= word.wrapping_sub(1);
            at
        })
    })
}

impl BpOsd {
    /// The decoder of a model.
    ///
    /// # Errors
    /// [`QecError::Decoder`] if an option, a probability or a detector is out of range.
    pub fn new(model: &DetectorErrorModel, options: Options) -> Result<Self, QecError> {
        if !(options.scale > 0.0 && options.scale <= 1.0) {
            return Err(DecoderError::MessageScale(options.scale).into());
        }
        let rows = model.detectors as usize;
        let (mut errors, mut detectors) = (vec![0], Vec::new());
        let (mut prior, mut observables) = (Vec::new(), Vec::new());
        for (k, m) in model.mechanisms.iter().enumerate() {
            if !(0.0..=1.0).contains(&m.p) {
                return Err(DecoderError::Probability { mechanism: k, p: m.p }.into());
            }
            if let Some(d) = m.detectors.iter().find(|d| **d >= model.detectors) {
                return Err(DecoderError::Detector { mechanism: k, detector: *d, detectors: rows }.into());
            }
            if m.p > 0.0 && !m.detectors.is_empty() {
                detectors.extend_from_slice(&m.detectors);
                errors.push(detectors.len() as u32);
                // A certain error would have infinite weight.
                let p = m.p.min(1.0 - 1e-12);
                prior.push(((1.0 - p) / p).ln() as f32);
                observables.push(m.observables);
            }
        }
        let mut starts = vec![0; rows + 1];
        detectors.iter().for_each(|d| starts[*d as usize + 1] += 1);
        (0..rows).for_each(|r| starts[r + 1] += starts[r]);
        let mut at = starts.clone();
        let mut columns = vec![0; detectors.len()];
        for (c, range) in errors.windows(2).enumerate() {
            for &d in &detectors[range[0] as usize..range[1] as usize] {
                columns[at[d as usize] as usize] = c as u32;
                at[d as usize] += 1;
            }
        }
        let mut code = CheckMatrix { options, rank: 0, rows: starts, columns, errors, detectors, prior, observables };
        let mut work = Workspace::default();
        work.basis.reset(rows, rows, std::iter::empty());
        code.rank = (0..code.prior.len()).filter(|&c| work.basis.insert(c as u32, code.column(c))).count();
        Ok(Self { code: Arc::new(code), work })
    }

    /// Whether belief propagation explains the detectors that fired.
    fn propagate(&mut self) -> bool {
        let (code, work) = (&*self.code, &mut self.work);
        work.posterior.clear();
        work.posterior.extend_from_slice(&code.prior);
        work.messages.clear();
        work.messages.resize(code.columns.len(), 0.0);
        for _ in 0..code.options.iterations {
            for (row, &fired) in code.rows.windows(2).zip(&work.fired) {
                let range = row[0] as usize..row[1] as usize;
                let (columns, messages) = (&code.columns[range.clone()], &mut work.messages[range]);
                // The least and second least certain error, and the parity of the others.
                let (mut least, mut second, mut sign) = (f32::MAX, f32::MAX, (fired as u32) << 31);
                for (&c, m) in columns.iter().zip(messages.iter_mut()) {
                    let belief = work.posterior[c as usize] - *m;
                    work.posterior[c as usize] = belief;
                    let size = belief.abs();
                    second = second.min(size.max(least));
                    least = least.min(size);
                    sign ^= belief.to_bits() & 1 << 31;
                }
                let (a, b) = (least * code.options.scale, second * code.options.scale);
                for (&c, m) in columns.iter().zip(messages) {
                    let belief = work.posterior[c as usize];
                    let size = if belief.abs() == least { b } else { a };
                    *m = f32::from_bits(size.min(MAX_MESSAGE).to_bits() ^ sign ^ belief.to_bits() & 1 << 31);
                    work.posterior[c as usize] = belief + *m;
                }
            }
            let settled = code.rows.windows(2).zip(&work.fired).all(|(row, &fired)| {
                let columns = &code.columns[row[0] as usize..row[1] as usize];
                !columns.iter().fold(fired, |odd, c| odd ^ (work.posterior[*c as usize] < 0.0))
            });
            if settled {
                return true;
            }
        }
        false
    }

    /// Observables of the best explanation by few of the errors that are likely.
    fn ordered_statistics(&mut self) -> u64 {
        let (code, work) = (&*self.code, &mut self.work);
        let basis = &mut work.basis;
        let fired = work.fired.iter().enumerate().filter(|(_, f)| **f).map(|(d, _)| d);
        basis.reset(work.fired.len(), code.rank, fired);
        // Maps floating-point numbers to integers of the same order.
        let key = |x: f32| {
            let bits = x.to_bits();
            if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
        };
        let mut queue = std::mem::take(&mut work.queue).into_vec();
        queue.clear();
        queue.extend(work.posterior.iter().enumerate().map(|(c, x)| Reverse((key(*x), c as u32))));
        work.queue = queue.into();
        work.outside.clear();
        while basis.column.len() < code.rank && (code.options.sweep.is_some() || !basis.explains_syndrome()) {
            let Some(Reverse((_, c))) = work.queue.pop() else { break };
            if !basis.insert(c, code.column(c as usize)) {
                work.outside.push(c);
            }
        }
        let explained = basis.residual[basis.words..].to_vec();
        let total = |set: &[u64]| ones(set).fold(0, |a, k| a ^ code.observables[basis.column[k] as usize]);
        let mut best = total(&explained);
        let Some(pairs) = code.options.sweep else { return best };
        // The weight that is added if an error of the basis is flipped.
        let mut change: Vec<f32> = basis.column.iter().map(|c| code.prior[*c as usize]).collect();
        ones(&explained).for_each(|k| change[k] = -change[k]);
        let mut gain = 0.0;
        let (words, first) = (basis.words, work.outside.len());
        work.outside.extend(work.queue.drain().map(|Reverse((_, c))| c));
        let rest = &mut work.outside[first..];
        let likely = (pairs as usize).saturating_sub(first).min(rest.len());
        if likely > 0 && likely < rest.len() {
            rest.select_nth_unstable_by_key(likely, |c| key(work.posterior[*c as usize]));
        }
        let mut sets = Vec::<Vec<u64>>::new();
        let mut found: Option<(Vec<u64>, u64)> = None;
        let mut consider = |set: &[u64], own: f32, observables: u64| {
            let weight = ones(set).fold(own, |a, k| a + change[k]);
            if weight < gain {
                gain = weight;
                found = Some((set.to_vec(), observables));
            }
        };
        for (k, &c) in work.outside.iter().enumerate() {
            let c = c as usize;
            basis.reduce(code.column(c));
            consider(&basis.scratch[words..], code.prior[c], code.observables[c]);
            if k < pairs as usize {
                let mut set = basis.scratch[words..].to_vec();
                for (j, other) in sets.iter().enumerate() {
                    let d = work.outside[j] as usize;
                    add(&mut set, other);
                    consider(&set, code.prior[c] + code.prior[d], code.observables[c] ^ code.observables[d]);
                    add(&mut set, other);
                }
                sets.push(set);
            }
        }
        if let Some((set, observables)) = found {
            best ^= observables ^ ones(&set).fold(0, |a, k| a ^ code.observables[basis.column[k] as usize]);
        }
        best
    }
}

impl CheckMatrix {
    /// Detectors of an error.
    fn column(&self, c: usize) -> &[u32] {
        &self.detectors[self.errors[c] as usize..self.errors[c + 1] as usize]
    }
}

impl Decoder for BpOsd {
    fn decode(&mut self, fired: &[u32]) -> u64 {
        if fired.is_empty() {
            return 0;
        }
        let rows = self.code.rows.len() - 1;
        self.work.fired.clear();
        self.work.fired.resize(rows, false);
        fired.iter().filter(|d| (**d as usize) < rows).for_each(|d| self.work.fired[*d as usize] ^= true);
        if self.propagate() {
            let errors = self.work.posterior.iter().zip(&self.code.observables);
            return errors.filter(|(x, _)| **x < 0.0).fold(0, |a, (_, o)| a ^ o);
        }
        self.ordered_statistics()
    }

    fn another(&self) -> Box<dyn Decoder> {
        Box::new(Self { code: self.code.clone(), work: Workspace::default() })
    }

    fn name(&self) -> &'static str {
        "belief propagation and ordered statistics"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::fixtures::*;
    use crate::dem::Mechanism;

    /// A model of random errors on up to four detectors each; each error is an observable of its own, so that decoding
    /// tells the errors.
    fn random_model(detectors: u32, errors: u32, random: &mut Random) -> DetectorErrorModel {
        let mut mechanisms = Vec::new();
        for k in 0..errors {
            let size = 1 + (random.real() * 4.0) as usize;
            let mut flipped: Vec<u32> = (0..size).map(|_| (random.real() * detectors as f64) as u32).collect();
            flipped.sort();
            flipped.dedup();
            mechanisms.push(Mechanism { p: 0.01 + 0.1 * random.real(), detectors: flipped, observables: 1 << k });
        }
        DetectorErrorModel { detectors, observables: errors, mechanisms, coordinates: Vec::new() }
    }

    fn syndrome(model: &DetectorErrorModel, errors: u64) -> u64 {
        let errors = model.mechanisms.iter().filter(|m| m.observables & errors != 0);
        errors.flat_map(|m| &m.detectors).fold(0, |a, d| a ^ 1 << d)
    }

    #[test]
    fn corrections_explain_the_syndrome_and_are_mostly_the_likeliest() {
        let mut random = Random(1);
        let (mut shots, mut least, mut least_of_order_zero) = (0, 0, 0);
        for _ in 0..40 {
            let model = random_model(8, 14, &mut random);
            let weight = |errors: u64| {
                let errors = model.mechanisms.iter().filter(|m| m.observables & errors != 0);
                errors.map(|m| ((1.0 - m.p) / m.p).ln()).sum::<f64>()
            };
            let mut best = vec![f64::INFINITY; 256];
            for errors in 0..1u64 << 14 {
                let best = &mut best[syndrome(&model, errors) as usize];
                *best = best.min(weight(errors));
            }
            let mut sweep = BpOsd::new(&model, Options::default()).unwrap();
            let mut zero = BpOsd::new(&model, Options { sweep: None, iterations: 3, ..Options::default() }).unwrap();
            for s in (0..256u64).filter(|s| best[*s as usize].is_finite()) {
                let fired: Vec<u32> = (0..8).filter(|d| s >> d & 1 == 1).collect();
                let (a, b) = (sweep.decode(&fired), zero.decode(&fired));
                assert_eq!((syndrome(&model, a), syndrome(&model, b)), (s, s));
                shots += 1;
                least += (weight(a) < best[s as usize] + 1e-4) as u32;
                least_of_order_zero += (weight(b) < best[s as usize] + 1e-4) as u32;
            }
        }
        // Every syndrome is tried, likely or not.
        assert!(least as f64 > 0.85 * shots as f64, "{least} of {shots} are of least weight");
        assert!(least > least_of_order_zero, "{least} of {shots}, {least_of_order_zero} without sweep");
    }

    #[test]
    fn large_models_are_explained_too() {
        let mut random = Random(2);
        let mut model = random_model(150, 60, &mut random);
        // More errors than observables: the others are told from their detectors alone.
        let more = random_model(150, 60, &mut random).mechanisms;
        model.mechanisms.extend(more.into_iter().map(|m| Mechanism {
            observables: 0,
            detectors: m.detectors[..1].to_vec(),
            ..m
        }));
        let mut decoder = BpOsd::new(&model, Options { iterations: 1, ..Options::default() }).unwrap();
        for _ in 0..200 {
            let (fired, _) = random.shot(&model);
            let chosen = decoder.decode(&fired);
            let mut left = [false; 150];
            fired.iter().for_each(|d| left[*d as usize] ^= true);
            let known = model.mechanisms.iter().filter(|m| m.observables & chosen != 0);
            known.flat_map(|m| &m.detectors).for_each(|d| left[*d as usize] ^= true);
            let single = |d: usize| model.mechanisms[60..].iter().any(|m| m.detectors == [d as u32]);
            assert!((0..150).all(|d| !left[d] || single(d)));
        }
    }

    #[test]
    fn surface_code_is_decoded_about_as_well_as_by_matching() {
        let model = surface();
        let mut matching = crate::decoder::matching::Matching::new(&model).unwrap();
        let mut decoder = BpOsd::new(&model, Options::default()).unwrap();
        let mut random = Random(4);
        let (mut a, mut b) = (0u32, 0u32);
        for _ in 0..20_000 {
            let (fired, flipped) = random.shot(&model);
            a += (matching.decode(&fired) != flipped) as u32;
            b += (decoder.decode(&fired) != flipped) as u32;
        }
        // Correlated errors are known to it, so it should be better; false alarm below 1e-4 if it is equal.
        assert!((b as f64) < a as f64 + 4.0 * ((a + b) as f64).sqrt(), "{b} failures, matching {a}");
    }

    #[test]
    fn nonsense_is_refused_and_the_impossible_is_no_panic() {
        let error = |p, d: u32| Mechanism { p, detectors: vec![d], observables: 1 };
        let model = |m: Mechanism| DetectorErrorModel { detectors: 3, mechanisms: vec![m], ..Default::default() };
        assert!(BpOsd::new(&model(error(1.5, 0)), Options::default()).is_err());
        assert!(
            BpOsd::new(&model(error(0.1, 3)), Options::default()).is_err_and(|e| e.to_string().contains("detector 3"))
        );
        // What happens in every shot is explained, too.
        assert_eq!(BpOsd::new(&model(error(1.0, 0)), Options::default()).map(|mut d| d.decode(&[0])), Ok(1));
        let good = model(error(0.1, 1));
        assert!(BpOsd::new(&good, Options { scale: 0.0, ..Options::default() }).is_err());
        let mut decoder = BpOsd::new(&good, Options::default()).unwrap();
        assert_eq!([&[1][..], &[0, 1], &[0], &[], &[9]].map(|fired| decoder.decode(fired)), [1, 1, 0, 0, 0]);
        let mut none = BpOsd::new(&DetectorErrorModel::default(), Options::default()).unwrap();
        assert_eq!(none.decode(&[0]), 0);
    }
}
