//! Why a request cannot be met: one error for the whole crate, with a reason for each case.
//!
//! [`Display`](std::fmt::Display) gives the sentence that a user reads. Code that must tell the cases apart matches on
//! the variants.

use crate::stim::error::StimError;
use qmk_sim::ParityError;
use thiserror::Error;

/// Why a circuit, a model, a decoder, a fit or a sampler cannot be made.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum QecError {
    /// A name that is none of the known ones.
    #[error("unknown {kind} {name:?}; known: {}", .known.join(", "))]
    UnknownName {
        /// What is named: a code, a decoder, a noise model or a noise parameter.
        kind: &'static str,
        /// The name.
        name: String,
        /// All names of this kind.
        known: &'static [&'static str],
    },
    /// A code distance that is out of range.
    #[error(transparent)]
    Distance(#[from] DistanceError),
    /// A parameter of a noise model that is out of range.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// Fewer than one round, or too many.
    #[error("{rounds} rounds are not between 1 and {most}")]
    Rounds {
        /// The rounds that were asked for.
        rounds: u32,
        /// The limit.
        most: u32,
    },
    /// A circuit that takes too much memory.
    #[error("{qubits} physical qubits times {rounds} rounds are more than {most}: at most {} rounds", .most / .qubits)]
    QubitRounds {
        /// Physical qubits of the code.
        qubits: u64,
        /// The rounds that were asked for.
        rounds: u32,
        /// The limit of their product.
        most: u64,
    },
    /// A detector whose parity is random even if no error happens.
    #[error("detector {0} is random without noise")]
    RandomDetector(u32),
    /// A logical observable whose parity is random even if no error happens.
    #[error("observable {0} is random without noise")]
    RandomObservable(u32),
    /// A circuit that the simulator cannot sample.
    #[error(transparent)]
    Parity(ParityError),
    /// A model that a decoder cannot decode.
    #[error(transparent)]
    Decoder(#[from] DecoderError),
    /// A model that matching cannot decode, although matching was asked for.
    #[error("matching cannot decode this model, bp_osd can: {0}")]
    NotMatchable(Box<QecError>),
    /// A code whose patches cannot be sampled cycle by cycle.
    #[error(transparent)]
    PatchSampler(#[from] PatchSamplerError),
    /// Points that determine no threshold.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// A calibration table without the rows or fits that are needed.
    #[error(transparent)]
    Calibration(#[from] CalibrationError),
    /// Text that is no circuit or detector error model.
    #[error(transparent)]
    Stim(#[from] StimError),
}

/// A code distance that is out of range.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum DistanceError {
    /// The code has this range of distances.
    #[error("distance {distance} of {code} is not between {low} and {high}")]
    OutOfRange {
        /// The code, or its use.
        code: &'static str,
        /// The distance that was asked for.
        distance: u32,
        /// The smallest distance.
        low: u32,
        /// The largest distance.
        high: u32,
    },
    /// All codes of the family have this range of distances.
    #[error("{family} codes have distance {low} to {high}, not {distance}")]
    OfFamily {
        /// The family.
        family: &'static str,
        /// The distance that was asked for.
        distance: u32,
        /// The smallest distance.
        low: u32,
        /// The largest distance.
        high: u32,
    },
    /// SHYPS codes have distances that are powers of two.
    #[error("SHYPS codes have distance 4, 8 or 16, not {0}")]
    Shyps(u32),
    /// SHYPS codes are made of simplex codes of these dimensions.
    #[error("SHYPS codes have r = 3, 4 or 5, that is, distance 4, 8 or 16, not r = {0}")]
    ShypsDimension(u32),
    /// The calibration has no logical error rates for this distance.
    #[error("distance {distance} of {code} is not between {low} and {high}, for which there are rates")]
    NotCalibrated {
        /// The code.
        code: &'static str,
        /// The distance that was asked for.
        distance: u32,
        /// The smallest distance.
        low: u32,
        /// The largest distance.
        high: u32,
    },
}

/// A parameter of a noise model that is out of range.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum NoiseError {
    /// The physical error rate of a model of one parameter.
    #[error("physical error rate {p} of the model {model} is not between 0 and {most}")]
    ErrorRate {
        /// The model.
        model: String,
        /// The physical error rate.
        p: f64,
        /// The largest one.
        most: f64,
    },
    /// A parameter by name.
    #[error("noise parameter {name} = {value} is not between {low} and {high}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// Its value.
        value: f64,
        /// The smallest value.
        low: f64,
        /// The largest value.
        high: f64,
    },
    /// T1, in microseconds.
    #[error("relaxation time t1 = {t1_us} us is not above 0")]
    RelaxationTime {
        /// T1.
        t1_us: f64,
    },
    /// T2, in microseconds.
    #[error("dephasing time t2 = {t2_us} us is not above 0 and at most 2 t1 = {} us", 2.0 * .t1_us)]
    DephasingTime {
        /// T1.
        t1_us: f64,
        /// T2.
        t2_us: f64,
    },
}

/// A model or graph that a decoder cannot decode.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum DecoderError {
    /// An error mechanism that no matching graph can hold; it is named as in Stim's format.
    #[error("{mechanism}: {reason}")]
    Mechanism {
        /// The mechanism.
        mechanism: String,
        /// Why it is no edge.
        reason: MechanismError,
    },
    /// The probability of a mechanism, by its number.
    #[error("mechanism {mechanism}: probability {p} is not in 0 to 1")]
    Probability {
        /// The number of the mechanism.
        mechanism: usize,
        /// Its probability.
        p: f64,
    },
    /// A detector of a mechanism, by its number.
    #[error("mechanism {mechanism}: detector {detector} is not below {detectors}")]
    Detector {
        /// The number of the mechanism.
        mechanism: usize,
        /// The detector.
        detector: u32,
        /// The number of detectors.
        detectors: usize,
    },
    /// An edge that leads nowhere.
    #[error("edge {edge}: {from:?} to {to:?} is not between {detectors} detectors")]
    EdgeEnds {
        /// The number of the edge.
        edge: usize,
        /// Its first detector.
        from: u32,
        /// Its second detector, if it does not lead to the boundary.
        to: Option<u32>,
        /// The number of detectors.
        detectors: u32,
    },
    /// An edge out of order.
    #[error("edge {0}: it comes before the edge before it, or is the same")]
    EdgeOrder(usize),
    /// The probability of an edge.
    #[error("edge {edge}: probability {p} is not above 0, at most 0.5")]
    EdgeProbability {
        /// The number of the edge.
        edge: usize,
        /// Its probability.
        p: f64,
    },
    /// A detector with too many edges.
    #[error("detector {detector} has {edges} edges; at most {most} are possible")]
    Degree {
        /// The detector.
        detector: usize,
        /// Its edges.
        edges: u32,
        /// The limit.
        most: u16,
    },
    /// The factor of the messages of belief propagation.
    #[error("messages are scaled by {0}; it should be above 0, at most 1")]
    MessageScale(f32),
    /// A sliding window that never moves.
    #[error("a window commits 0 rounds; at least 1 is needed")]
    NoCommitRegion,
    /// Detectors without a round.
    #[error("{detectors} detectors have {coordinates} coordinates")]
    Coordinates {
        /// The number of detectors.
        detectors: u32,
        /// The number of coordinates.
        coordinates: usize,
    },
    /// A time coordinate that is no round.
    #[error("detector {detector}: {time} is no round")]
    Round {
        /// The detector.
        detector: usize,
        /// Its time coordinate.
        time: f64,
    },
}

/// Why an error mechanism is no edge of a matching graph.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum MechanismError {
    /// Edges of probability above one half would have negative weight.
    #[error("the probability is outside of 0 to 0.5")]
    Probability,
    /// A detector that the model does not have.
    #[error("detector {detector} is not below {detectors}")]
    Detector {
        /// The detector.
        detector: u32,
        /// The number of detectors.
        detectors: u32,
    },
    /// It flips observables alone.
    #[error("no detector notices it")]
    Undetected,
    /// The search for edges that make it up would take too long.
    #[error("it flips more than {0} detectors")]
    TooManyDetectors(usize),
    /// No set of edges makes it up.
    #[error("it is no combination of known edges")]
    NotEdges,
}

/// A code whose patches cannot be sampled cycle by cycle.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum PatchSamplerError {
    /// The sampler matches syndromes in windows.
    #[error("the code {0} is not decoded by matching, which running programs need")]
    NotMatchable(&'static str),
    /// The noise of a round must not depend on the basis of the memory.
    #[error("the rounds of {0} differ between bases")]
    RoundsDiffer(&'static str),
    /// The code has no patches for programs.
    #[error("patches of this code are not decoded while they live; the codes that are: surface_code, bacon_shor")]
    Code,
    /// A sampler that is made elsewhere refused, for this reason.
    #[error("{0}")]
    Other(String),
}

/// Points that determine no threshold.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum ThresholdError {
    /// Fewer than two code distances.
    #[error("a threshold takes two distances or more")]
    FewDistances,
    /// Curves of neighbouring distances that do not cross between these physical error rates.
    #[error("no threshold from {low} to {high}: {side}")]
    NoCrossing {
        /// The smallest physical error rate.
        low: f64,
        /// The largest one.
        high: f64,
        /// Where the points lie.
        side: Side,
    },
    /// Too few points near the crossing.
    #[error(
        "curves cross near {crossing:.2e}, but only {points} points lie within a factor of {factor} of it; a fit takes 6"
    )]
    FewPoints {
        /// The physical error rate at which curves cross.
        crossing: f64,
        /// The points near it.
        points: usize,
        /// How far from it a point may lie.
        factor: f64,
    },
    /// The curve has more parameters than the points tell.
    #[error("the points near the crossing do not determine a curve")]
    NoCurve,
    /// The fit leaves the range of the points.
    #[error("curves cross near {crossing:.2e}, but the points do not determine where")]
    Undetermined {
        /// The physical error rate at which curves cross.
        crossing: f64,
    },
}

/// Where points lie that show no threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Side {
    /// A larger distance is always better.
    #[error("all points lie below it")]
    Below,
    /// A larger distance is always worse.
    #[error("all points lie above it")]
    Above,
    /// Sometimes the one, sometimes the other.
    #[error("curves do not cross")]
    Both,
}

/// A calibration table without the rows or fits that are needed.
#[derive(Clone, Debug, PartialEq, Error)]
#[non_exhaustive]
pub enum CalibrationError {
    /// A fit of nothing.
    #[error("there are no rows to fit")]
    NoRows,
    /// Too few rows below the threshold.
    #[error("{code} {error}: {rows} rows below threshold are too few for a fit")]
    FewRows {
        /// The code.
        code: String,
        /// Which logical errors: `x` or `z`.
        error: char,
        /// The rows.
        rows: usize,
    },
    /// No suppression law with a positive exponent.
    #[error("{code} {error}: no law fits")]
    NoLaw {
        /// The code.
        code: String,
        /// Which logical errors: `x` or `z`.
        error: char,
    },
    /// A line of the table that cannot be read.
    #[error("line {line}: neither a row nor a fit: {text:?}")]
    Line {
        /// The number of the line, from 1.
        line: usize,
        /// The line.
        text: String,
    },
    /// The table of this crate cannot be read.
    #[error("calibration table: {0}")]
    Table(Box<CalibrationError>),
    /// A code that the table does not have.
    #[error("{0} is not calibrated")]
    Code(String),
    /// A physical error rate outside of what was measured or can be extrapolated to.
    #[error(
        "physical error rate {p} of {code} at distance {distance} is not between {low:e} and {high:e}, \
         below the threshold"
    )]
    ErrorRate {
        /// The code.
        code: String,
        /// The code distance.
        distance: u32,
        /// The physical error rate.
        p: f64,
        /// The smallest one.
        low: f64,
        /// The largest one.
        high: f64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codes::{NAMES, by_name};
    use crate::experiment::Experiment;
    use crate::stim::{import, import_model};
    use qmk_abi::image::Pauli;

    #[test]
    fn users_read_whole_sentences() {
        let says = |e: QecError, text: &str| assert_eq!(e.to_string(), text);
        let at = |rounds, distance, p, set: &[(&str, f64)]| {
            let set = set.iter().map(|(name, value)| (name.to_string(), *value)).collect();
            let (code, noise) = ("surface_code".into(), "uniform".into());
            Experiment { code, distance, rounds, basis: Pauli::Z, p, noise, set }.check().err().unwrap()
        };
        says(by_name("toric", 3).err().unwrap(), &format!("unknown code \"toric\"; known: {}", NAMES.join(", ")));
        says(by_name("honeycomb", 2).err().unwrap(), "honeycomb codes have distance 3 to 31, not 2");
        says(by_name("bacon_shor", 2).err().unwrap(), "Bacon-Shor codes have distance 3 to 51, not 2");
        says(at(0, 3, 0.1, &[]), "0 rounds are not between 1 and 10000");
        says(at(3, 52, 0.1, &[]), "distance 52 of surface_code is not between 2 and 51");
        says(
            at(10_000, 21, 0.1, &[]),
            "881 physical qubits times 10000 rounds are more than 262144: at most 297 rounds",
        );
        says(at(3, 3, 0.6, &[]), "physical error rate 0.6 of the model uniform is not between 0 and 0.5");
        says(at(3, 3, 0.1, &[("bias", 0.1)]), "noise parameter bias = 0.1 is not between 0.5 and 1000000");
        says(at(3, 3, 0.1, &[("gate2", 2.0)]), "noise parameter gate2 = 2 is not between 0 and 0.9375");
        says(at(3, 3, 0.1, &[("t2", 250.0)]), "dephasing time t2 = 250 us is not above 0 and at most 2 t1 = 200 us");
        let edge = DecoderError::EdgeEnds { edge: 2, from: 1, to: None, detectors: 1 };
        says(edge.into(), "edge 2: 1 to None is not between 1 detectors");
        let few = ThresholdError::FewPoints { crossing: 0.0123, points: 4, factor: 1.6 };
        says(
            few.into(),
            "curves cross near 1.23e-2, but only 4 points lie within a factor of 1.6 of it; a fit takes 6",
        );
        let none = ThresholdError::NoCrossing { low: 0.001, high: 0.01, side: Side::Below };
        says(none.into(), "no threshold from 0.001 to 0.01: all points lie below it");
        let table = CalibrationError::Table(Box::new(CalibrationError::Line { line: 3, text: "x".into() }));
        says(table.into(), "calibration table: line 3: neither a row nor a fit: \"x\"");
        says(import("H 0\n}").unwrap_err(), "line 2: } closes no block");
        says(import("REPEAT 3").unwrap_err(), "line 1: expected REPEAT count {");
        says(import("REPEAT 3 {").unwrap_err(), "a block is not closed");
        says(import("CX 1 1").unwrap_err(), "line 1: qubit 1 is paired with itself");
        says(
            import("M 0\nDETECTOR rec[-2]").unwrap_err(),
            "line 2: rec[-2] names a record that is not there; there are 1",
        );
        says(import_model("error(0.1) X3").unwrap_err(), "line 1: \"X3\" is not D<number>");
        says(import_model("error D3").unwrap_err(), "line 1: error takes 1 probabilities");
    }
}
