//! Programs with errors, as their users meet them.

use qmk_abi::Syscall;
use qmk_abi::image::{Clifford1, Image, Instr, Op, Pauli};
use qmk_abi::rpc::*;
use qmk_abi::syscall::{Code, Level, NoiseSpec, Patch, Quota, Reply as Answer, Run, outcome_bit};
use qmk_kernel::Clock;
use qmk_qec::calibration::rates;
use qmk_qec::error::PatchSamplerError;
use qmk_qec::machine::logical_error_sampler::LogicalErrorSampler;
use qmk_qec::machine::{DEFAULT_ERROR_RATE, NoisyDevice, odd};
use qmk_services::replay::{Recorder, replay};
use qmk_services::{Connection, Machine, MachineConfig};
use qmk_sim::{SimConfig, SimDevice};
use std::sync::Arc;

type Device = NoisyDevice<SimDevice>;

/// Five gates of two cycles each. The measured qubit is 1 where an odd number of X errors happened.
const WAIT: &str =
    "ALLOC_LQ -> a\nAPPLY_S a\nAPPLY_S a\nAPPLY_S a\nAPPLY_S a\nAPPLY_S a\nMEASURE_Z a -> m\nFREE_LQ a\n";
const CYCLES: u64 = 10;
const SHOTS: u64 = 20_000;

/// An X error in the first cycle of every third shot.
struct Third;

impl LogicalErrorSampler for Third {
    fn sample(&self, _: u64, shot: u64, _: u32, cycles: u32, out: &mut Vec<[bool; 2]>) {
        out.extend((0..cycles).map(|cycle| [cycle == 0 && shot.is_multiple_of(3), false]));
    }
}

fn sampled() -> Device {
    let factory = |code, distance, p| match code {
        Code::Surface if distance < 9 && p == 0.002 => Ok(Arc::new(Third) as Arc<dyn LogicalErrorSampler>),
        _ => {
            let message = format!("distance {distance} and error rate {p} of {code:?} are not sampled");
            Err(PatchSamplerError::Other(message).into())
        }
    };
    NoisyDevice::new(SimDevice::default(), Box::new(factory))
}

fn session(at: &Connection<Device>, tenant: &str) -> String {
    let create = SessionCreate { tenant_id: Some(tenant.into()), ..SessionCreate::default() };
    match at.call(Request::SessionCreate(create)).unwrap() {
        Reply::Session(s) => s.session_id,
        other => panic!("{other:?}"),
    }
}

fn submit(at: &Connection<Device>, session: &str, noise: &str, profile: &str) -> Result<JobRef, RpcError> {
    let policy = Policy { shots: SHOTS, noise: noise.into(), profile: Some(profile.into()), ..Policy::default() };
    let submit = JobSubmit { session_id: session.into(), source: WAIT.into(), format: Format::Asm, policy };
    match at.call(Request::JobSubmit(submit))? {
        Reply::Submitted(s) => Ok(JobRef { session_id: session.into(), job_id: s.job_id }),
        other => panic!("{other:?}"),
    }
}

fn report(at: &Connection<Device>, job: &JobRef) -> RunReport {
    let JobRef { session_id, job_id } = job.clone();
    match at.call(Request::JobWait(JobWait { session_id, job_id, timeout_ms: Some(60_000) })).unwrap() {
        Reply::Status(s) => assert_eq!(s.state, JobState::Completed, "{s:?}"),
        other => panic!("{other:?}"),
    }
    match at.call(Request::JobResult(job.clone())).unwrap() {
        Reply::Result(r) => r.report.clone(),
        other => panic!("{other:?}"),
    }
}

fn ones(report: &RunReport) -> u64 {
    report.counts.get("1").copied().unwrap_or(0)
}

#[test]
fn errors_come_at_the_rate_of_the_profile_and_to_nobody_else() {
    let machine = Machine::start(sampled(), MachineConfig::default());
    let (at, other) = (machine.connect(), machine.connect());
    let (mine, theirs) = (session(&at, "a"), session(&other, "b"));
    for (profile, d, p) in [
        ("logical:surface_code(d=3, p=0.006)", 3, 0.006),
        ("logical:surface_code(d=5, p=0.007)", 5, 0.007),
        ("logical:surface_code(d=3)", 3, DEFAULT_ERROR_RATE),
    ] {
        let job = submit(&at, &mine, "logical", profile).unwrap();
        let ideal = submit(&other, &theirs, "ideal", profile).unwrap();
        let measured = rates(Code::Surface, d, p).unwrap();
        let expected = odd(measured.x, CYCLES * d as u64);
        let report = report(&at, &job);
        // A false alarm in a million.
        let z = (ones(&report) as f64 - SHOTS as f64 * expected) / (SHOTS as f64 * expected * (1.0 - expected)).sqrt();
        assert!(z.abs() < 4.9, "{profile}: {} of {SHOTS}, p = {expected}", ones(&report));
        assert_eq!(report.warnings.iter().any(|w| w.contains("come from the fit")), measured.extrapolated);
        let ideal = self::report(&other, &ideal);
        assert_eq!((ones(&ideal), ideal.warnings.len(), ideal.logical_error_probability), (0, 0, 0.0));
        assert!(report.logical_error_probability > expected, "{profile}: Z errors, too");
    }
}

#[test]
fn sampled_errors_hit_the_shots_that_they_are_drawn_for() {
    let machine = Machine::start(sampled(), MachineConfig::default());
    let at = machine.connect();
    let session = session(&at, "a");
    let job = submit(&at, &session, "physical", "logical:surface_code(d=3, p=0.002)").unwrap();
    assert_eq!(ones(&report(&at, &job)), SHOTS.div_ceil(3));
    let refused = |noise: &str, profile: &str| submit(&at, &session, noise, profile).unwrap_err();
    let e = refused("physical", "logical:surface_code(d=9, p=0.002)");
    assert_eq!(e.code, ErrorCode::InvalidParams);
    assert_eq!(e.message, "noise level \"physical\": distance 9 and error rate 0.002 of Surface are not sampled");
    assert_eq!(refused("loud", "logical:surface_code(d=3)").code, ErrorCode::InvalidParams);
}

#[test]
fn a_machine_without_a_model_says_so() {
    let machine = Machine::start(SimDevice::default(), MachineConfig::default());
    let at = machine.connect();
    let Reply::Session(s) = at.call(Request::SessionCreate(SessionCreate::default())).unwrap() else { panic!() };
    let policy = Policy { noise: "logical".into(), ..Policy::default() };
    let submit = JobSubmit { session_id: s.session_id, source: WAIT.into(), format: Format::Asm, policy };
    let e = at.call(Request::JobSubmit(submit)).unwrap_err();
    assert_eq!(e.code, ErrorCode::InvalidParams);
    assert!(e.message.contains("\"logical\": this machine has no model of errors"), "{e}");
}

#[test]
fn a_recorded_run_with_errors_replays() {
    let device = |threads| NoisyDevice::simulated(SimConfig { threads, ..SimConfig::default() });
    let (mut log, root, machine) = Recorder::boot(device(2), 1, Quota::UNLIMITED, Vec::new()).unwrap();
    log.set_clock(Clock::Lockstep).unwrap();
    let code =
        [Op::Alloc(0), Op::Clifford1(Clifford1::H, 0), Op::Clifford1(Clifford1::H, 0), Op::Measure(Pauli::Z, 0, 0)];
    let code = code.into_iter().chain([Op::Free(0)]).map(|op| Instr { op, cond: None }).collect();
    let image = Image { qubits: 1, events: 1, code, terms: Vec::new() };
    let handle = |log: &mut Recorder<Device, Vec<u8>>, call| match log.syscall(root, call).unwrap() {
        Ok(Answer::Handle(handle)) => handle,
        other => panic!("{other:?}"),
    };
    let image = handle(&mut log, Syscall::Admit { machine, image });
    let noise = NoiseSpec { level: Level::Logical, ppb: 7_000_000 };
    let run = Run { shots: 500, noise, patch: Patch { distance: 3, ..Patch::default() }, ..Run::default() };
    let strand = handle(&mut log, Syscall::Spawn { machine, image, run });
    while log.advance().unwrap().busy {}
    let outcomes = log.syscall(root, Syscall::Outcomes { strand, first: 0, count: 500 }).unwrap();
    let Ok(Answer::Outcomes(bytes)) = outcomes else { panic!("{outcomes:?}") };
    assert!(bytes.iter().any(|b| outcome_bit(&[*b], 0)), "nothing went wrong");
    let (_, bytes, digest) = log.finish();
    assert_eq!(replay(&bytes, device(1)), Ok(digest));
}
