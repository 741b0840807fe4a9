//! From logical counts to physical resources.

use crate::counts::check_counts;
use crate::error::{EstimateError, Result};
use crate::factory::{Factory, Search};
use crate::params::{Budget, JobParams, Patch};
use crate::report::{Breakdown, ErrorBudget, Estimate, LogicalQubit, PhysicalCounts, TFactory, formatted};
use qmk_abi::rpc::LogicalCounts;

/// Most logical cycles of an estimate.
const MAX_CYCLES: u64 = 1_000_000_000_000_000_000;

/// The requirements of the program that do not depend on the code distance.
struct Job<'a> {
    counts: &'a LogicalCounts,
    params: &'a JobParams,
    budget: ErrorBudget,
    logical_qubits: u64,
    /// Logical cycles without and with `logicalDepthFactor`.
    depth: u64,
    cycles: u64,
    t_states: u64,
    t_per_rotation: Option<u64>,
}

/// A factory and the number of its copies.
struct Factories {
    factory: Factory,
    copies: u64,
}

/// A machine that runs the program within its budget.
struct Solution {
    patch: Patch,
    cycles: u64,
    required_error_rate: f64,
    factories: Option<Factories>,
}

impl Solution {
    fn qubits(&self, job: &Job<'_>) -> u128 {
        let factories = self.factories.as_ref();
        let factories = factories.map_or(0, |f| f.factory.physical_qubits as u128 * f.copies as u128);
        job.logical_qubits as u128 * self.patch.physical_qubits as u128 + factories
    }

    fn runtime(&self) -> u128 {
        self.cycles as u128 * self.patch.cycle_time as u128
    }
}

/// Estimates the physical resources of a program on a machine.
///
/// # Errors
/// [`EstimateError`] of kind `Counts` for counts that are out of range or hold nothing to estimate; of kind
/// `NoSolution` for constraints and error budgets that no machine of this kind keeps.
pub fn estimate(counts: &LogicalCounts, params: &JobParams) -> Result<Estimate> {
    check_counts(counts)?;
    let job = Job::new(counts, params)?;
    let mut search = Search::new(params);
    let constraints = &params.constraints;
    let solution = match (constraints.max_duration_ns, constraints.max_physical_qubits) {
        (Some(most), _) => job.within_duration(most, &mut search)?,
        (None, Some(most)) => job.within_qubits(most, &mut search)?,
        (None, None) => job.unconstrained(&mut search)?,
    };
    job.report(&solution)
}

impl<'a> Job<'a> {
    fn new(c: &'a LogicalCounts, params: &'a JobParams) -> Result<Self> {
        let rotations = c.rotation_count > 0;
        let magic = rotations || c.t_count > 0 || c.ccz_count > 0 || c.ccix_count > 0;
        let budget = match params.budget {
            // In equal parts among what can fail (arXiv:2211.07629, appendix D).
            Budget::Total(total) => {
                let part = total / (1.0 + f64::from(u8::from(magic)) + f64::from(u8::from(rotations)));
                let of = |present: bool| if present { part } else { 0.0 };
                ErrorBudget { logical: part, tstates: of(magic), rotations: of(rotations) }
            }
            Budget::Parts { logical, t_states, rotations: for_rotations } => {
                let needed = [("tStates", magic, t_states), ("rotations", rotations, for_rotations)];
                if let Some((key, ..)) = needed.iter().find(|(_, present, part)| *present && *part == 0.0) {
                    let message = format!("errorBudget.{key} is 0, but the program needs some; it must be above 0");
                    return Err(EstimateError::params(message));
                }
                ErrorBudget { logical, tstates: t_states, rotations: for_rotations }
            }
        };
        // Layout in two dimensions: ancillas beside each qubit (arXiv:2211.07629, eq. (D1)).
        let logical_qubits = 2 * c.num_qubits + ((8 * c.num_qubits) as f64).sqrt().ceil() as u64 + 1;
        // T states that approximate a rotation as well as the budget asks (arXiv:2211.07629, eq. (D2), with the
        // constants of arXiv:2203.10064 that the estimator has).
        let synthesis = |r: u64| (0.53 * (r as f64 / budget.rotations).log2() + 4.86).ceil().max(0.0) as u64;
        let t_per_rotation = rotations.then(|| synthesis(c.rotation_count));
        let per_rotation = t_per_rotation.unwrap_or(0);
        // Counts are at most 10^15 and T states of a rotation some hundreds: nothing overflows.
        let toffolis = c.ccz_count + c.ccix_count;
        // Logical cycles of parallel synthesis with sequential Pauli computation (arXiv:2211.07629, eq. (D3)).
        let depth = c.measurement_count + c.rotation_count + c.t_count + 3 * toffolis + per_rotation * c.rotation_depth;
        // (arXiv:2211.07629, eq. (D4))
        let t_states = 4 * toffolis + c.t_count + per_rotation * c.rotation_count;
        let factor = params.constraints.logical_depth_factor;
        let cycles = factor.map_or(depth, |f| (depth as f64 * f).ceil() as u64);
        if depth == 0 {
            let message =
                "there is nothing to estimate: the program needs at least one measurement, T, CCZ or rotation gate";
            return Err(EstimateError::counts(message));
        }
        if cycles > MAX_CYCLES {
            return Err(EstimateError::counts(format!(
                "the program takes {cycles} logical cycles; at most {MAX_CYCLES}"
            )));
        }
        Ok(Job { counts: c, params, budget, logical_qubits, depth, cycles, t_states, t_per_rotation })
    }

    /// Error rate of a logical qubit in a cycle, if the budget is spent evenly over the cycles (arXiv:2211.07629,
    /// eq. (E1)).
    fn required_error_rate(&self, cycles: u64) -> f64 {
        self.budget.logical / (self.logical_qubits as u128 * cycles as u128) as f64
    }

    fn required_t_error_rate(&self) -> f64 {
        self.budget.tstates / self.t_states as f64
    }

    /// Logical cycles after which the error budget is spent at a code distance.
    fn cycles_allowed(&self, patch: &Patch) -> u64 {
        (self.budget.logical / (self.logical_qubits as f64 * patch.error_rate)).floor() as u64
    }

    /// The logical qubit whose errors keep the budget for a number of cycles.
    fn patch(&self, required: f64) -> Result<Patch> {
        let code = &self.params.code;
        let distance = code.distance_for(required);
        if let Some(patch) = distance.filter(|d| *d <= code.max_distance).and_then(|d| code.patch(d)) {
            return Ok(*patch);
        }
        let needed = distance.map_or("a larger one".into(), |d| d.to_string());
        let most = code.max_distance;
        Err(EstimateError::no_solution(format!(
            "a logical error rate of {required:.3e} needs a code distance above the largest allowed, {most}: {needed}; raise \
             errorBudget or qecScheme.maxCodeDistance"
        )))
    }

    /// Copies of a factory that make all T states within a number of cycles; `None` if a single run takes longer.
    fn copies(&self, factory: &Factory, patch: &Patch, cycles: u64) -> Option<u64> {
        let runs = cycles as u128 * patch.cycle_time as u128 / factory.duration.max(1) as u128;
        let states = runs * Factory::OUTPUTS as u128;
        (states > 0).then(|| (self.t_states as u128).div_ceil(states) as u64)
    }

    /// Cycles in which a number of factories makes all T states.
    fn cycles_for(&self, factory: &Factory, patch: &Patch, copies: u64) -> u64 {
        let runs = self.t_states.div_ceil(copies.saturating_mul(Factory::OUTPUTS));
        let cycles = (runs as u128 * factory.duration as u128).div_ceil(patch.cycle_time as u128);
        u64::try_from(cycles).unwrap_or(u64::MAX)
    }

    /// The solution of the fewest cycles, at the smallest code distance for them. If no factory is quick enough, the
    /// cycles are extended to its run.
    fn unconstrained(&self, search: &mut Search<'_>) -> Result<Solution> {
        let max_copies = self.params.constraints.max_t_factories;
        let mut cycles = self.cycles;
        let mut missing = None;
        loop {
            let required_error_rate = self.required_error_rate(cycles);
            let patch = self.patch(required_error_rate).map_err(|e| missing.take().unwrap_or(e))?;
            if self.t_states == 0 {
                return Ok(Solution { patch, cycles, required_error_rate, factories: None });
            }
            let allowed = self.cycles_allowed(&patch);
            let factories = search.factories(self.required_t_error_rate(), patch.distance)?;
            let smaller = |a: &&Factory, b: &&Factory| a.volume().total_cmp(&b.volume());
            let in_time = |f: &&Factory| {
                let copies = self.copies(f, &patch, cycles);
                copies.is_some_and(|n| max_copies.is_none_or(|most| n <= most))
            };
            if let Some(factory) = factories.iter().filter(in_time).min_by(smaller) {
                return Ok(self.solution(patch, cycles, required_error_rate, factory));
            }
            // With as many cycles as one run takes, or as all runs of the factories that are allowed.
            let later = factories.iter().map(|f| {
                let needed = self.cycles_for(f, &patch, max_copies.unwrap_or(self.t_states));
                (f, needed)
            });
            let later = later.filter(|(_, needed)| *needed <= allowed);
            let later = later.min_by(|a, b| a.0.volume().total_cmp(&b.0.volume()).then(a.1.cmp(&b.1)));
            if let Some((factory, needed)) = later {
                return Ok(self.solution(patch, needed, required_error_rate, factory));
            }
            let (rate, distance) = (self.required_t_error_rate(), patch.distance);
            missing = Some(EstimateError::no_solution(format!(
                "no T factory with code distances up to {distance} makes T states of error rate {rate:.3e} in time; raise \
                 errorBudget, constraints.maxTFactories or qecScheme.maxCodeDistance"
            )));
            cycles = allowed.saturating_add(1).max(cycles + 1);
            if cycles > MAX_CYCLES {
                return Err(missing.unwrap_or_else(|| EstimateError::no_solution("the program takes too long")));
            }
        }
    }

    fn solution(&self, patch: Patch, cycles: u64, required_error_rate: f64, factory: &Factory) -> Solution {
        // The factory was chosen because a run of it fits this time.
        let copies = self.copies(factory, &patch, cycles).unwrap_or(self.t_states);
        let factories = Some(Factories { factory: factory.clone(), copies });
        Solution { patch, cycles, required_error_rate, factories }
    }

    /// Calls `at` with each code distance that keeps the error budget, the largest first, and the factories for it.
    fn at_distances(
        &self,
        search: &mut Search<'_>,
        mut at: impl FnMut(&Patch, &[Factory]),
        fits: impl Fn(&Patch) -> bool,
    ) -> Result<f64> {
        let required_error_rate = self.required_error_rate(self.cycles);
        let least = self.patch(required_error_rate)?.distance;
        let mut factories: Vec<Factory> = Vec::new();
        for distance in (least..=self.params.code.max_distance).step_by(2).collect::<Vec<_>>().into_iter().rev() {
            let patch = self.params.code.patch(distance).filter(|p| fits(p) && self.cycles_allowed(p) >= self.cycles);
            let Some(patch) = patch else { continue };
            // The factories of a distance also serve smaller distances, as long as no distance of theirs is larger.
            if factories.iter().map(Factory::last_distance).max().is_none_or(|d| d > distance) {
                factories = search.factories(self.required_t_error_rate(), distance)?;
            }
            at(patch, &factories);
        }
        Ok(required_error_rate)
    }

    /// The fewest physical qubits within a time, in nanoseconds.
    fn within_duration(&self, most: u64, search: &mut Search<'_>) -> Result<Solution> {
        let too_small = || {
            EstimateError::no_solution(
                "constraints.maxDuration: no machine runs the program in this time; allow more time",
            )
        };
        if self.t_states == 0 {
            let required_error_rate = self.required_error_rate(self.cycles);
            let patch = self.patch(required_error_rate)?;
            let solution = Solution { patch, cycles: self.cycles, required_error_rate, factories: None };
            return if solution.runtime() <= most as u128 { Ok(solution) } else { Err(too_small()) };
        }
        let max_copies = self.params.constraints.max_t_factories.unwrap_or(u64::MAX);
        let in_time = |p: &Patch| most / p.cycle_time;
        let mut best: Option<Solution> = None;
        let at = |patch: &Patch, factories: &[Factory]| {
            let allowed = in_time(patch).min(self.cycles_allowed(patch));
            for factory in factories {
                let Some(copies) = self.copies(factory, patch, allowed).filter(|n| *n <= max_copies) else { continue };
                let cycles = self.cycles_for(factory, patch, copies).max(self.cycles);
                let factories = Some(Factories { factory: factory.clone(), copies });
                let solution = Solution { patch: *patch, cycles, required_error_rate: 0.0, factories };
                if best.as_ref().is_none_or(|b| solution.qubits(self) < b.qubits(self)) {
                    best = Some(solution);
                }
            }
        };
        let required_error_rate = self.at_distances(search, at, |p| in_time(p) >= self.cycles)?;
        best.map(|s| Solution { required_error_rate, ..s }).ok_or_else(too_small)
    }

    /// The shortest time with a number of physical qubits.
    fn within_qubits(&self, most: u64, search: &mut Search<'_>) -> Result<Solution> {
        let too_small = || {
            let message = "constraints.maxPhysicalQubits: no machine runs the program with so few qubits; allow more";
            EstimateError::no_solution(message)
        };
        let algorithm = |p: &Patch| self.logical_qubits as u128 * p.physical_qubits as u128;
        if self.t_states == 0 {
            let required_error_rate = self.required_error_rate(self.cycles);
            let patch = self.patch(required_error_rate)?;
            let fits = algorithm(&patch) <= most as u128;
            let solution = Solution { patch, cycles: self.cycles, required_error_rate, factories: None };
            return if fits { Ok(solution) } else { Err(too_small()) };
        }
        let max_copies = self.params.constraints.max_t_factories.unwrap_or(u64::MAX);
        let mut best: Option<Solution> = None;
        let at = |patch: &Patch, factories: &[Factory]| {
            let left = (most as u128).saturating_sub(algorithm(patch)) as u64;
            let fitting = factories.iter().filter(|f| f.physical_qubits <= left);
            let Some(factory) = fitting.min_by(|a, b| a.volume().total_cmp(&b.volume())) else { return };
            let copies = left / factory.physical_qubits.max(1);
            let cycles = self.cycles_for(factory, patch, copies.max(1)).max(self.cycles);
            if copies == 0 || copies > max_copies || cycles > self.cycles_allowed(patch) {
                return;
            }
            let factories = Some(Factories { factory: factory.clone(), copies });
            let solution = Solution { patch: *patch, cycles, required_error_rate: 0.0, factories };
            if best.as_ref().is_none_or(|b| solution.runtime() < b.runtime()) {
                best = Some(solution);
            }
        };
        let required_error_rate = self.at_distances(search, at, |p| algorithm(p) < most as u128)?;
        best.map(|s| Solution { required_error_rate, ..s }).ok_or_else(too_small)
    }

    fn report(&self, s: &Solution) -> Result<Estimate> {
        let number = |what: &str, n: u128| {
            let message = || format!("the {what} is {n}, more than {}; make the program smaller", u64::MAX);
            u64::try_from(n).map_err(|_| EstimateError::no_solution(message()))
        };
        let (patch, part) = (&s.patch, s.factories.as_ref());
        let for_algorithm = number("number of qubits", self.logical_qubits as u128 * patch.physical_qubits as u128)?;
        let physical_qubits = number("number of qubits", s.qubits(self))?;
        let runtime = number("run time in nanoseconds", s.runtime())?;
        let clock_frequency = 1e9 / patch.cycle_time as f64;
        let physical_counts = PhysicalCounts {
            physical_qubits,
            runtime,
            rqops: (self.logical_qubits as f64 * clock_frequency).ceil() as u64,
            breakdown: Breakdown {
                algorithmic_logical_qubits: self.logical_qubits,
                algorithmic_logical_depth: self.depth,
                logical_depth: s.cycles,
                num_tstates: self.t_states,
                clock_frequency,
                num_tfactories: part.map_or(0, |f| f.copies),
                num_tfactory_runs: part
                    .map_or(0, |f| self.t_states.div_ceil(f.copies.saturating_mul(Factory::OUTPUTS))),
                physical_qubits_for_tfactories: physical_qubits - for_algorithm,
                physical_qubits_for_algorithm: for_algorithm,
                required_logical_qubit_error_rate: s.required_error_rate,
                required_logical_tstate_error_rate: part.map(|_| self.required_t_error_rate()),
                num_ts_per_rotation: self.t_per_rotation,
                clifford_error_rate: self.params.qubit.clifford_error_rate,
            },
        };
        let logical_qubit = LogicalQubit {
            code_distance: patch.distance,
            physical_qubits: patch.physical_qubits,
            logical_cycle_time: patch.cycle_time,
            logical_error_rate: patch.error_rate,
        };
        let tfactory = part.map(|f| TFactory::new(&f.factory));
        let physical_counts_formatted =
            formatted(self.counts, self.params, &physical_counts, &logical_qubit, tfactory.as_ref(), &self.budget);
        Ok(Estimate {
            status: "success",
            job_params: self.params.reported.clone(),
            physical_counts,
            physical_counts_formatted,
            logical_qubit,
            tfactory,
            error_budget: self.budget,
            logical_counts: *self.counts,
        })
    }
}
