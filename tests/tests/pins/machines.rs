//! Three machines, each with a log of its own: tenants that share it, with jobs that fail; qubits held one by one,
//! channels and checkpoints; errors at all levels.
//!
//! All run in lockstep, so that a log is the same on any host and with any number of threads.

use crate::recordings;
use qmk_abi::syscall::{Budget, Code, Level, NoiseSpec, ObjectKind, Patch, Quota, Run};
use qmk_abi::{Handle, Rights, Syscall};
use qmk_hal::Device;
use qmk_qec::machine::NoisyDevice;
use qmk_services::replay::replay;
use qmk_sim::{SimConfig, SimDevice};
use qmk_tests::scene::{Recorded, Scene};

fn shared() -> SimDevice {
    let decoded_per_epoch = Some(12);
    SimDevice::new(SimConfig {
        logical_qubits: 60,
        routes_per_epoch: 12,
        magic_per_epoch: 10,
        magic_buffer: Some(96),
        decoded_per_epoch,
        threads: 1,
        ..SimConfig::default()
    })
}

/// Tenants with jobs under contexts, regions, deadlines, budgets and windows; jobs with too much live magic fail.
fn tenants() -> Recorded {
    let quota = Quota { active: 2, strands: 12, ..Quota::UNLIMITED };
    let quotas = [
        Quota { weight: 3, ..quota },
        Quota { magic: 60, window: 40, ..quota },
        Quota { epochs: 50, window: 60, ..quota },
        Quota { qubits: 12, physical_qubits: 1500, instructions: 400, slots: 40, ..quota },
    ];
    let mut s = Scene::begin(shared(), 11, &quotas);
    let (root, machine) = (s.root, s.machine);
    let context = s.made(root, Syscall::CreateContext { machine, weight: 2, epochs: 30, window: 50 });
    let region = s.made(root, Syscall::CreateRegion { machine, qubits: 16, routes: 4, magic: 1 });
    let domains = s.recorder.kernel().capabilities(root).into_iter().filter(|c| c.1 == ObjectKind::Domain);
    let domains: Vec<Handle> = domains.map(|c| c.0).collect();
    for &into in &domains {
        s.derive(context, Rights::READ | Rights::USE, into, None);
        s.derive(region, Rights::READ | Rights::USE, into, None);
    }
    let budget = Some(Budget { strands: 3, qubits: 9, magic: 300 });
    s.derive(machine, Rights::all() - Rights::ADMIN, domains[0], budget);
    for _ in 0..900 {
        s.job(|dice| Run {
            shots: 1 + dice.below(60) as u64,
            seed: dice.next() % 1000,
            priority: dice.below(4) as i32 - 1,
            deadline: dice.one_in(4).then(|| 500 + dice.next() % 20_000),
            ..Run::default()
        });
    }
    s.end()
}

/// Qubits held one by one, channels between tenants, and checkpoints.
fn interactive() -> Recorded {
    let quota = Quota { held_active: 6, qubits: 14, channels: 4, checkpoints: 3, ..Quota::UNLIMITED };
    let mut s = Scene::begin(shared(), 12, &[quota; 3]);
    s.swap();
    for _ in 0..1200 {
        s.interactive();
    }
    s.end()
}

fn noisy() -> NoisyDevice<SimDevice> {
    let config = SimConfig { logical_qubits: 40, threads: 1, ..SimConfig::default() };
    NoisyDevice::simulated(config).with_threads(1)
}

/// Programs with errors at all levels, on patches of all codes.
fn noise() -> Recorded {
    let quota = Quota { strands: 20, ..Quota::UNLIMITED };
    let mut s = Scene::begin(noisy(), 13, &[quota; 2]);
    for _ in 0..400 {
        s.job(|dice| {
            let patches =
                [(Code::Surface, 3), (Code::Surface, 5), (Code::BaconShor, 3), (Code::Floquet, 2), (Code::Shyps, 4)];
            let (code, distance) = patches[dice.below(patches.len())];
            let level = [Level::Ideal, Level::Logical, Level::Logical, Level::Physical, Level::Physical][dice.below(5)];
            let ppb = [0, 2_000_000, 5_000_000][dice.below(3)];
            Run {
                shots: 1 + dice.below(40) as u64,
                seed: dice.next() % 1000,
                patch: Patch { code, distance },
                noise: NoiseSpec { level, ppb },
                ..Run::default()
            }
        });
        if s.dice.one_in(6) {
            s.interactive();
        }
    }
    s.end()
}

/// The log of a run that is made again, and the run of the log as it was recorded.
fn pinned<D: Device>(name: &str, now: Recorded, device: D) {
    let mut pins = recordings(name);
    pins.check("machine.log", &now.log);
    pins.check("digest.txt", format!("{}\n", now.digest).as_bytes());
    let log = pins.recorded("machine.log").expect("a recorded log");
    let digest = pins.recorded("digest.txt").expect("a recorded digest");
    pins.finish();
    let replayed = replay(&log, device).unwrap_or_else(|e| panic!("the recorded log of {name}: {e}"));
    assert_eq!(format!("{replayed}\n").as_bytes(), digest, "the digest of the recorded log of {name}");
}

#[test]
fn a_shared_machine_runs_as_recorded() {
    let now = tenants();
    now.has(&["Admit", "Spawn", "Outcomes", "Pause", "Migrate", "Rollback", "Delete", "Revoke", "Done", "Faulted"]);
    now.has(&["Waiting", "Running", "no NoCapability", "no Quota", "no Budget", "no Image", "no Deadline", "no State"]);
    pinned("tenants", now, shared());
}

#[test]
fn interactive_qubits_run_as_recorded() {
    let now = interactive();
    now.has(&["TakeQubit", "FreeQubit", "Apply", "Offer", "Accept", "Teleport", "SwapEntanglement", "CloseChannel"]);
    now.has(&[
        "ChannelStatus",
        "Checkpoint",
        "Restore",
        "Rollback",
        "no Fidelity",
        "no NotReady",
        "no Quota",
        "no Argument",
    ]);
    pinned("interactive", now, shared());
}

#[test]
fn errors_strike_as_recorded() {
    let now = noise();
    now.has(&["Spawn", "Outcomes", "Done", "no Argument"]);
    pinned("noise", now, noisy());
}
