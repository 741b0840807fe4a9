//! From program text to an image, and from outcomes to counts.

use qmk_abi::image::Op;
use qmk_abi::rpc::{ErrorCode, Format, RpcError, RunReport};
use qmk_abi::syscall::{Code, Level, NoiseSpec, Patch};
use qmk_abi::{Image, Rights};
use qmk_kernel::hal::Cost;
use qmk_qvm::{EventBits, Lowered, ParseOptions, Profile, Severity};
use std::collections::BTreeMap;

/// Profile of qubits whose allocation names none.
const DEFAULT_PROFILE: &str = "logical:surface_code(d=7)";
/// One syndrome round, in microseconds: the usual figure for superconducting qubits (Fowler & Gidney,
/// arXiv:1808.06709).
const ROUND_US: f64 = 1.0;

/// A program ready to run, with what is needed to report on it.
#[derive(Clone, Debug)]
pub struct Program {
    /// The image.
    pub image: Image,
    /// Events in declared order.
    pub events: Vec<EventBits>,
    /// Most qubits live at once.
    pub peak_qubits: u32,
    /// Bytes of one shot's packed outcomes.
    pub(crate) stride: usize,
    /// Names of the registers.
    pub(crate) qubits: Vec<String>,
    /// Characters of an outcome string.
    pub(crate) width: usize,
    /// Node of each instruction, and the names and lines of the nodes.
    node_of: Vec<u32>,
    nodes: Vec<(String, Option<u32>)>,
    profile: Profile,
    /// Node that named the profile, and its line, if one did.
    profiled: Option<(String, Option<u32>)>,
    warnings: Vec<String>,
    /// Probability that a shot meets an error.
    failure: f64,
}

impl Program {
    /// Parses, verifies and lowers a program for a session that holds `held`.
    ///
    /// # Errors
    /// `INVALID_GRAPH` with all findings, or `INSUFFICIENT_CAPS`.
    pub fn build(
        source: &str,
        format: Format,
        params: &BTreeMap<String, String>,
        profile: Option<&str>,
        held: Rights,
    ) -> Result<Program, RpcError> {
        let options = ParseOptions { params: params.clone(), ..ParseOptions::default() };
        Program::build_with(source, format, &options, profile, held)
    }

    /// [`Program::build`], with bounds on what is read.
    pub(crate) fn build_with(
        source: &str,
        format: Format,
        options: &ParseOptions,
        profile: Option<&str>,
        held: Rights,
    ) -> Result<Program, RpcError> {
        let graph = qmk_qvm::parse(source, format, options).map_err(invalid)?;
        let Lowered { image, node_of, events, profile: named, warnings, qubits } =
            qmk_qvm::lower(&graph).map_err(invalid)?;
        let required = qmk_qvm::required_caps(&graph);
        let missing = required - held;
        if !missing.is_empty() {
            let names = missing.class_names();
            let mut e = RpcError::new(
                ErrorCode::InsufficientCaps,
                format!("the program needs {}, which the session does not hold", names.join(", ")),
            );
            (e.required, e.missing) = (required.class_names(), names);
            e.findings = qmk_qvm::verify_with(&graph, Some(held));
            return Err(e);
        }
        // A wrong profile is an error even where the program names its own.
        let default = Profile::parse(profile.unwrap_or(DEFAULT_PROFILE))
            .map_err(|e| RpcError::new(ErrorCode::InvalidParams, format!("profile: {e}")))?;
        let names = |n: &&qmk_qvm::Node| n.args.get("profile").is_some_and(|p| p.is_string());
        let profiled = graph.nodes.iter().find(names).filter(|_| named.is_some()).map(|n| (n.id.clone(), n.line));
        let profile = named.unwrap_or(default);
        let peak_qubits = image.peak_qubits();
        let stride = (image.events as usize).div_ceil(8);
        let width = events.iter().map(|e| e.bits.len()).sum();
        let nodes = graph.nodes.into_iter().map(|n| (n.id, n.line)).collect();
        Ok(Program {
            image,
            events,
            peak_qubits,
            stride,
            qubits,
            width,
            node_of,
            nodes,
            profile,
            profiled,
            warnings,
            failure: 0.0,
        })
    }

    /// Memory it takes, about.
    pub(crate) fn bytes(&self) -> usize {
        let names: usize = self.nodes.iter().map(|(name, _)| name.len()).sum();
        size_of_val(self.image.code.as_slice()) + self.nodes.len() * size_of::<(String, Option<u32>)>() + names
    }

    /// How its qubits are encoded.
    pub fn patch(&self) -> Patch {
        let code = match self.profile.code.as_str() {
            "bacon_shor" => Code::BaconShor,
            "shyps" => Code::Shyps,
            "floquet" => Code::Floquet,
            _ => Code::Surface,
        };
        // Profiles have distances of two digits.
        Patch { code, distance: self.profile.distance as u16 }
    }

    /// Noise of its qubits at a level.
    pub(crate) fn noise(&self, level: Level) -> NoiseSpec {
        // Profiles have rates below 1/2, and 0 is the machine's own.
        let ppb = self.profile.error_rate.map_or(0, |p| (p * 1e9).round().max(1.0) as u32);
        NoiseSpec { level, ppb }
    }

    /// Adds the failure probability and the warning of its report.
    pub(crate) fn expect(&mut self, failure: f64, warning: Option<String>) {
        self.failure = failure;
        self.warnings.extend(warning);
    }

    /// The error where the machine has no patches of this kind.
    pub(crate) fn unavailable(&self) -> RpcError {
        let Profile { code, distance, .. } = &self.profile;
        let message = format!("the machine has no patches of {code} with distance {distance}; choose another profile");
        let (node, line) = self.profiled.clone().map_or((None, None), |(node, line)| (Some(node), line));
        let (code, severity) = ("E-PROFILE".into(), Severity::Error);
        invalid(vec![qmk_qvm::Finding { code, severity, node, line, message }])
    }

    /// A device's complaint in the program's terms: it knows instructions, the user knows nodes.
    pub(crate) fn explain(&self, at: u32, message: &str) -> String {
        let place = self.node_of.get(at as usize).and_then(|&n| self.nodes.get(n as usize));
        let Some((what, (node, line))) = message.strip_prefix(&format!("instruction {at} ")).zip(place) else {
            return message.into();
        };
        let line = line.map_or(String::new(), |l| format!(", line {l},"));
        let how =
            "raise the limit (qmk run --max-active N; max_active_qubits in a server's configuration and in its policy)";
        format!("node {node}{line} {}", what.replace("raise the limit", how))
    }

    /// Length of the critical path in epochs: a lower bound for one shot.
    pub fn critical_path(&self, cost: impl Fn(&Op, Patch) -> Cost) -> u64 {
        let patch = self.patch();
        self.image.critical_path(self.peak_qubits, |op| cost(op, patch).cycles).into()
    }

    /// Magic states of one shot, and of the instruction that takes most of them.
    pub(crate) fn magic(&self, cost: impl Fn(&Op, Patch) -> Cost) -> (u64, u64) {
        let patch = self.patch();
        let each = self.image.code.iter().map(|i| u64::from(cost(&i.op, patch).magic));
        each.fold((0, 0), |(sum, most), n| (sum + n, most.max(n)))
    }

    /// The account of a run, apart from its counts.
    pub(crate) fn report(&self, shots: u64, seed: u64, per_shot: u64) -> RunReport {
        let mut report = RunReport { shots, seed, ..RunReport::default() };
        report.events = self.events.iter().map(|e| e.name.clone()).collect();
        report.epochs.per_shot = per_shot;
        report.epochs.total = per_shot.saturating_mul(shots);
        report.logical_time_us = per_shot as f64 * self.profile.distance as f64 * ROUND_US;
        report.physical_qubits = self.peak_qubits as u64 * self.profile.physical_per_logical();
        report.logical_error_probability = self.failure;
        report.warnings = self.warnings.clone();
        report
    }

    /// Event values of one shot's packed outcomes.
    pub(crate) fn values(&self, shot: &[u8]) -> BTreeMap<String, u8> {
        let bit = |&e: &u32| qmk_abi::syscall::outcome_bit(shot, e) as u8;
        self.events.iter().map(|e| (e.name.clone(), e.bits.iter().fold(0, |v, b| v << 1 | bit(b)))).collect()
    }
}

/// Name of a code in profiles.
pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Surface => "surface_code",
        Code::BaconShor => "bacon_shor",
        Code::Shyps => "shyps",
        Code::Floquet => "floquet",
    }
}

/// Adds packed outcomes, one chunk per shot, to counts by outcome string.
pub fn count_outcomes(events: &[EventBits], raw: &BTreeMap<Vec<u8>, u64>) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for (shot, n) in raw {
        let bits = events.iter().flat_map(|e| &e.bits);
        let key = bits.map(|&b| if qmk_abi::syscall::outcome_bit(shot, b) { '1' } else { '0' }).collect();
        *counts.entry(key).or_insert(0) += n;
    }
    counts
}

pub(crate) fn invalid(findings: Vec<qmk_qvm::Finding>) -> RpcError {
    let errors: Vec<_> = findings.iter().filter(|f| f.severity == Severity::Error).collect();
    let first = errors.first().map_or(String::new(), |f| {
        let node = f.node.as_ref().map_or(String::new(), |n| format!(" at node {n}"));
        let line = f.line.map_or(String::new(), |l| format!(", line {l}"));
        format!(": {}{node}{line}: {}", f.code, f.message)
    });
    let mut e = RpcError::new(ErrorCode::InvalidGraph, format!("the program has {} errors{first}", errors.len()));
    e.findings = findings;
    e
}

/// The level of errors that a policy names.
pub(crate) fn noise_level(name: &str) -> Result<Level, RpcError> {
    match name {
        "ideal" => Ok(Level::Ideal),
        "logical" => Ok(Level::Logical),
        "physical" => Ok(Level::Physical),
        other => {
            let message = format!("unknown noise level {other:?}; known: ideal, logical, physical");
            Err(RpcError::new(ErrorCode::InvalidParams, message))
        }
    }
}
