use super::error_columns::cut_in_pieces;
use super::*;
use crate::error::PatchSamplerError;
use qmk_abi::image::{Clifford1, Clifford2, Cond, CondTerm, Event, Op};
use qmk_sim::rng::philox2x64;
use qmk_sim::{SimConfig, SimDevice};

const P: NoiseSpec = NoiseSpec { level: Level::Logical, ppb: 6_000_000 };
const PHYSICAL: NoiseSpec = NoiseSpec { level: Level::Physical, ..P };
const PATCH: Patch = Patch { code: Code::Surface, distance: 3 };

fn measured() -> Rates {
    rates(PATCH.code, 3, 0.006).unwrap()
}

/// Draws errors with the calibrated rates, each cycle for itself.
struct Twin {
    x: f64,
    z: f64,
}

impl LogicalErrorSampler for Twin {
    fn sample(&self, seed: u64, shot: u64, stream: u32, cycles: u32, out: &mut Vec<[bool; 2]>) {
        let below = |p: f64, bits: u64| ((bits >> 11) as f64) < p * (1u64 << 53) as f64;
        out.extend((0..cycles).map(|cycle| {
            let [x, z] = philox2x64([shot, (stream as u64) << 32 | cycle as u64], seed);
            [below(self.x, x), below(self.z, z)]
        }));
    }
}

fn twin(code: Code, distance: u32, p: f64) -> Result<Arc<dyn LogicalErrorSampler>, QecError> {
    if distance > 9 {
        return Err(PatchSamplerError::Other(format!("distance {distance} is above 9")).into());
    }
    let r = rates(code, distance, p)?;
    Ok(Arc::new(Twin { x: odd(r.x, distance as u64), z: odd(r.z, distance as u64) }))
}

fn machine(threads: usize) -> NoisyDevice<SimDevice> {
    let sim = SimDevice::new(SimConfig { threads, ..SimConfig::default() });
    NoisyDevice::new(sim, Box::new(twin)).with_threads(threads)
}

fn image(qubits: u32, events: u32, code: &[Op]) -> Image {
    let code = code.iter().map(|&op| Instr { op, cond: None }).collect();
    Image { qubits, events, code, terms: Vec::new() }
}

fn run(
    device: &mut NoisyDevice<SimDevice>,
    image: &Image,
    errors: NoiseSpec,
    seed: u64,
    shots: u64,
    budget: u64,
) -> Vec<u8> {
    let image = Arc::new(image.clone());
    let code = image.code.len() as u32;
    let spec = SpaceSpec { image, patch: PATCH, errors, shots, seed, max_active: 10, ..SpaceSpec::default() };
    let space = device.open(spec).unwrap();
    (0..code).for_each(|i| device.issue(space, i).unwrap());
    loop {
        let status = device.work(space, budget).unwrap();
        assert!(status.steps > 0);
        if status.shots_done == shots {
            break;
        }
    }
    let mut out = Vec::new();
    device.outcomes(space, 0, shots as u32, &mut out);
    device.close(space);
    out
}

/// Fails with a probability below 1e-6 if `ones` of `n` come with probability `p`.
fn expect(ones: usize, n: u64, p: f64) {
    let n = n as f64;
    let z = (ones as f64 - n * p) / (n * p * (1.0 - p)).sqrt();
    assert!(z.abs() < 4.9, "{ones} of {n}, {} expected: z = {z}", n * p);
}

fn measure(q: Qubit, e: Event) -> Op {
    Op::Measure(Pauli::Z, q, e)
}

#[test]
fn errors_come_with_the_rates_of_the_time_that_passes() {
    let s = Op::Clifford1(Clifford1::S, 0);
    let h = |q| Op::Clifford1(Clifford1::H, q);
    let (Rates { x, z, .. }, d) = (measured(), 3);
    let n = 50_000;
    let cnot = Op::Clifford2(Clifford2::Cnot, 0, 1);
    let ends = [measure(0, 0), measure(1, 1)];
    // Five S of two cycles each; the X basis has Z errors instead. For a CNOT, the target has errors of its own and of
    // the ancilla patch, and the control nothing but its own in the Z basis.
    let wait = [Op::Alloc(0), Op::Alloc(1), s, s, s, s, s, measure(0, 0)];
    let plus = [Op::Alloc(0), Op::Alloc(1), h(0), Op::Fence, Op::Fence, Op::Measure(Pauli::X, 0, 0)];
    let joined = [&[Op::Alloc(0), Op::Alloc(1), cnot][..], &ends].concat();
    let cases = [
        (&wait[..], [odd(x, 10 * d), 0.0]),
        (&plus[..], [odd(z, 3 * d), 0.0]),
        (&joined[..], [odd(x, 2 * d), odd(x, 4 * d)]),
    ];
    for (code, expected) in cases {
        for level in [P, PHYSICAL] {
            let out = run(&mut machine(2), &image(2, 2, code), level, 3, n, 1 << 16);
            for (event, p) in expected.into_iter().enumerate() {
                let ones = out.iter().filter(|b| **b >> event & 1 == 1).count();
                if p == 0.0 { assert_eq!(ones, 0) } else { expect(ones, n, p) }
            }
        }
        let ideal = run(&mut machine(2), &image(2, 2, code), NoiseSpec::default(), 3, 1000, 1 << 16);
        assert!(ideal.iter().all(|b| *b == 0));
    }
}

/// Every kind of operation, an outcome that is acted on, and a register that is used twice.
fn various() -> Image {
    let h = |q| Op::Clifford1(Clifford1::H, q);
    let two = |g, a, b| Op::Clifford2(g, a, b);
    let code = [
        Op::Alloc(0),
        Op::Alloc(1),
        Op::Alloc(2),
        h(0),
        two(Clifford2::Cnot, 0, 1),
        Op::T(1),
        measure(2, 0),
        Op::Rotate(Pauli::X, 2, 0.3),
        two(Clifford2::Cz, 1, 2),
        Op::Tdg(1),
        two(Clifford2::Swap, 0, 2),
        Op::Toffoli(0, 1, 2),
        Op::MeasureAngle(0.4, 2, 1),
        Op::Clifford1(Clifford1::Sx, 1),
        Op::Reset(2),
        Op::Pauli(Pauli::X, 2),
        Op::TeleportCnot(2, 0),
        h(0),
        Op::InjectT(2),
        Op::Ccz(0, 1, 2),
        h(2),
        Op::MeasureBell(0, 1, 2, 3),
        measure(2, 4),
    ];
    let mut image = image(3, 5, &code);
    image.terms = vec![CondTerm::Event(1)];
    image.code[13].cond = Some(Cond { start: 0, end: 1 });
    image
}

#[test]
fn sampled_histories_and_rates_agree() {
    let shots = 30_000;
    let counts = |errors, seed| {
        let mut counts = [0f64; 32];
        for outcome in run(&mut machine(2), &various(), errors, seed, shots, 1 << 18) {
            counts[outcome as usize] += 1.0;
        }
        counts
    };
    // Chi-square of two samples of one size, turned into a normal deviate (Wilson & Hilferty 1931); false alarms at
    // 1e-6.
    let deviate = |a: &[f64; 32], b: &[f64; 32]| {
        let terms = a.iter().zip(b).filter(|(a, b)| *a + *b >= 10.0).map(|(a, b)| (a - b).powi(2) / (a + b));
        let k = terms.clone().count() as f64 - 1.0;
        ((terms.sum::<f64>() / k).cbrt() - (1.0 - 2.0 / (9.0 * k))) / (2.0 / (9.0 * k)).sqrt()
    };
    let (logical, physical) = (counts(P, 1), counts(PHYSICAL, 2));
    let z = deviate(&logical, &physical);
    assert!(z < 4.75, "z = {z}: {logical:?} {physical:?}");
    // The test would notice that there are no errors.
    assert!(deviate(&logical, &counts(NoiseSpec::default(), 3)) > 10.0);
}

#[test]
fn neither_threads_nor_budgets_change_outcomes() {
    for level in [P, PHYSICAL] {
        let one = run(&mut machine(1), &various(), level, 5, 3000, u64::MAX);
        assert_eq!(run(&mut machine(3), &various(), level, 5, 3000, u64::MAX), one);
        assert_eq!(run(&mut machine(2), &various(), level, 5, 3000, 100_000), one);
        assert_ne!(run(&mut machine(2), &various(), level, 6, 3000, 100_000), one);
    }
    // One shot is run by another engine.
    let (one, many) =
        (run(&mut machine(1), &various(), PHYSICAL, 5, 1, 10), run(&mut machine(1), &various(), PHYSICAL, 5, 2, 10));
    assert_eq!(one[0], many[0]);
}

/// An X in the given cycle of odd shots.
struct At(u32, u32);

impl LogicalErrorSampler for At {
    fn sample(&self, _: u64, shot: u64, stream: u32, cycles: u32, out: &mut Vec<[bool; 2]>) {
        out.extend((0..cycles).map(|cycle| [(stream, cycle) == (self.0, self.1) && shot % 2 == 1, false]));
    }
}

#[test]
fn sampling_tells_how_far_it_is() {
    let s = Op::Clifford1(Clifford1::S, 0);
    let code = [&[Op::Alloc(0)][..], &[s; 90], &[measure(0, 0)]].concat();
    let image = Arc::new(image(1, 1, &code));
    let (mut device, shots) = (machine(1), 1000);
    let spec = SpaceSpec { image, patch: PATCH, errors: PHYSICAL, shots, ..SpaceSpec::default() };
    let space = device.open(spec).unwrap();
    device.issue_range(space, 0..code.len() as u32).unwrap();
    let mut told = Vec::new();
    loop {
        let status = device.work(space, 200_000).unwrap();
        told.push(status.prepared);
        if status.shots_done == shots {
            break;
        }
        assert!(status.shots_done == 0 || status.prepared == FULLY_PREPARED);
    }
    // In even steps, each a tenth of all or less, to the end.
    assert!(told.is_sorted() && told.last() == Some(&FULLY_PREPARED), "{told:?}");
    assert!(told[0] > 0 && told.windows(2).all(|w| w[1] - w[0] < FULLY_PREPARED / 10), "{told:?}");
}

#[test]
fn flips_act_at_the_end_of_their_cycle() {
    // S takes cycles 0 and 1, the first CNOT 2 and 3, the second one 4 and 5.
    let cnot = Op::Clifford2(Clifford2::Cnot, 0, 1);
    let s = Op::Clifford1(Clifford1::S, 0);
    let code = [Op::Alloc(0), Op::Alloc(1), s, cnot, cnot, measure(0, 0), measure(1, 1)];
    // The ancillas are streams 0 and 1, the control 2, the target 3.
    for (stream, cycle, flipped) in [
        (2, 1, 0b01),
        (2, 2, 0b11),
        (2, 3, 0b11),
        (2, 4, 0b01),
        (2, 5, 0b01),
        (3, 0, 0b10),
        (3, 3, 0b10),
        (0, 1, 0b10),
        (1, 0, 0b10),
    ] {
        let factory: SamplerFactory = Box::new(move |_, _, _| Ok(Arc::new(At(stream, cycle))));
        let mut device = NoisyDevice::new(SimDevice::default(), factory);
        let out = run(&mut device, &image(2, 2, &code), PHYSICAL, 1, 200, 1000);
        for (shot, outcome) in out.into_iter().enumerate() {
            assert_eq!(outcome, if shot % 2 == 1 { flipped } else { 0 }, "stream {stream}, cycle {cycle}, shot {shot}");
        }
    }
}

#[test]
fn what_cannot_be_modelled_is_refused() {
    let device = machine(1);
    assert_eq!(device.errors(PATCH, NoiseSpec::default()), Ok(Errors::default()));
    let Rates { us_per_round, extrapolated, .. } = measured();
    let logical = device.errors(PATCH, P).unwrap();
    assert_eq!(logical.decoding, (us_per_round * 1000.0).ceil() as u32);
    assert_eq!(logical.warning.is_some(), extrapolated);
    assert_eq!(device.errors(PATCH, PHYSICAL).unwrap().decoding, logical.decoding);
    let far = Patch { distance: 11, ..PATCH };
    let low = NoiseSpec { ppb: 1_000_000, ..PHYSICAL };
    assert_eq!(device.errors(far, low).unwrap_err(), "distance 11 is above 9");
    // Where codes do not help, neither level goes.
    assert!(
        device.errors(PATCH, NoiseSpec { ppb: 400_000_000, ..PHYSICAL }).unwrap_err().contains("below the threshold")
    );
    let mut device = machine(1);
    let spec = |shots| SpaceSpec {
        image: Arc::new(various()),
        patch: PATCH,
        errors: PHYSICAL,
        shots,
        max_active: 10,
        ..SpaceSpec::default()
    };
    let refused = device.open(spec(100_000_000)).unwrap_err().to_string();
    assert!(refused.contains("the errors of 100000000 shots at") && refused.contains("67108864"), "{refused}");
    let space = device.open(spec(10)).unwrap();
    assert!(device.give(space, Arc::default()).is_err());
    let far = device.open(SpaceSpec { patch: far, ..spec(10) }).unwrap_err();
    assert_eq!(far, DeviceError::Refused("distance 11 is above 9".into()));
}

#[test]
fn shots_without_errors_are_as_many_as_foreseen() {
    // The qubit is 1 where one of its X errors struck, so the foreseen share of shots with any error is more, by the Z
    // errors.
    let s = Op::Clifford1(Clifford1::S, 0);
    let image = image(1, 1, &[Op::Alloc(0), s, s, measure(0, 0)]);
    let Rates { x, z, .. } = measured();
    let clean = |rate| (1.0 - odd(rate, 3)).powi(4);
    let device = machine(1);
    assert!((device.failure(&image, PATCH, P) - (1.0 - clean(x) * clean(z))).abs() < 1e-12);
    assert_eq!(device.failure(&image, PATCH, PHYSICAL), device.failure(&image, PATCH, P));
    assert_eq!(device.failure(&image, PATCH, NoiseSpec::default()), 0.0);
}

#[test]
fn odd_numbers_of_errors_are_counted_exactly() {
    for (rate, rounds) in [(0.1, 7), (0.5, 3), (1e-3, 1), (0.3, 2)] {
        let slow = (0..rounds).fold(0.0, |p, _| p * (1.0 - rate) + (1.0 - p) * rate);
        assert!((odd(rate, rounds) - slow).abs() < 1e-15);
    }
    // Rates that a sum of products would lose.
    assert!((odd(1e-20, 1000) / 1e-17 - 1.0).abs() < 1e-9);
}

#[test]
fn long_lives_are_cut_between_stretches_and_within() {
    let effect = |column| [(column, Pauli::X), (column, Pauli::Z)];
    let all: Vec<(u32, Vec<(u32, u32)>)> = cut_in_pieces(&[(10, effect(0)), (150, effect(1)), (151, effect(2))])
        .into_iter()
        .map(|life| (life.cycles, life.stretches.into_iter().map(|(end, d)| (end, d[0].0)).collect()))
        .collect();
    assert_eq!(all, [(64, vec![(10, 0), (64, 1)]), (64, vec![(64, 1)]), (23, vec![(22, 1), (23, 2)])]);
    assert!(cut_in_pieces(&[]).is_empty());
}
