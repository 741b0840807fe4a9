//! Work that is out: stepped on another thread, refused twice, and closed before it is back.

use qmk_abi::image::{Clifford1, Clifford2, Image, Instr, Op, Pauli};
use qmk_hal::{Device, DeviceError, Inline, Interactive, Progress, Snapshots, SpaceId, SpaceSpec, Work};
use qmk_sim::SimDevice;
use std::sync::Arc;

const SHOTS: u64 = 5000;

/// A Bell pair with a T gate in between.
fn program() -> Arc<Image> {
    let h = Op::Clifford1(Clifford1::H, 0);
    let code = [
        Op::Alloc(0),
        Op::Alloc(1),
        h,
        Op::T(0),
        h,
        Op::Clifford2(Clifford2::Cnot, 0, 1),
        Op::Measure(Pauli::Z, 0, 0),
        Op::Measure(Pauli::X, 1, 1),
    ];
    let code = code.map(|op| Instr { op, cond: None }).to_vec();
    Arc::new(Image { qubits: 2, events: 2, code, terms: Vec::new() })
}

fn open(device: &mut SimDevice) -> SpaceId {
    let image = program();
    let count = image.code.len() as u32;
    let spec = SpaceSpec { image, shots: SHOTS, seed: 3, max_active: 4, ..SpaceSpec::default() };
    let space = device.open(spec).expect("it fits");
    device.issue_range(space, 0..count).expect("the space runs a program");
    space
}

fn outcomes(device: &SimDevice, space: SpaceId) -> Vec<u8> {
    let mut out = Vec::new();
    device.outcomes(space, 0, SHOTS as u32, &mut out);
    out
}

fn interactive(device: &mut SimDevice, seed: u64) -> SpaceId {
    let spec = SpaceSpec { shots: 1, seed, max_active: 4, ..SpaceSpec::default() };
    let space = device.open(spec).expect("an interactive space");
    perform(device, space, Op::Alloc(0)).expect("there is room");
    space
}

fn perform(device: &mut SimDevice, space: SpaceId, op: Op) -> Result<(), DeviceError> {
    device.perform(space, Instr { op, cond: None })
}

#[test]
fn shots_stepped_elsewhere_are_the_shots() {
    let mut device = SimDevice::default();
    let (here, there) = (open(&mut device), open(&mut device));
    while device.work(here, u64::MAX).expect("no fault").shots_done < SHOTS {}
    let mut work = device.begin_work(there).expect("nothing is out");
    assert_eq!(work.space(), there);
    // The device answers other calls meanwhile.
    let stepped = std::thread::spawn(move || {
        while work.step(100) == Progress::More {}
        work
    });
    let other = interactive(&mut device, 1);
    perform(&mut device, other, Op::Measure(Pauli::X, 0, 0)).expect("it is not refused");
    assert!(outcomes(&device, there).is_empty());
    let status = device.finish(stepped.join().expect("no panic")).expect("no fault");
    assert_eq!(status.shots_done, SHOTS);
    assert_eq!(outcomes(&device, there), outcomes(&device, here));
}

#[test]
fn a_space_has_one_work_out() {
    let mut device = SimDevice::default();
    let space = open(&mut device);
    let work = device.begin_work(space).expect("nothing is out");
    assert_eq!(device.begin_work(space).err(), Some(DeviceError::Busy));
    assert_eq!(device.issue(space, 0), Err(DeviceError::Busy));
    assert_eq!(device.undo(space, 2), Err(DeviceError::Busy));
    assert_eq!(device.give(space, Arc::default()), Err(DeviceError::Busy));
    assert_eq!(device.begin_snapshot(space).err(), Some(DeviceError::Busy));
    // Work that was never stepped changes nothing.
    assert_eq!(device.finish(work).expect("no fault").shots_done, 0);
    device.work(space, 1).expect("nothing is out");
}

#[test]
fn spaces_that_share_a_state_wait_for_each_other() {
    let mut device = SimDevice::default();
    let [a, b, c] = [1, 2, 3].map(|seed| interactive(&mut device, seed));
    device.link((a, 0), (b, 0), [0.0; 3]).expect("there is room");
    let measure = Instr { op: Op::Measure(Pauli::Z, 0, 0), cond: None };
    let mut work = device.begin_perform(a, measure).expect("nothing is out");
    assert_eq!(device.perform(b, measure), Err(DeviceError::Busy));
    assert_eq!(device.begin_link((c, 0), (b, 0), [0.0; 3]).err(), Some(DeviceError::Busy));
    // A refused link leaves its other state where it was.
    device.perform(c, measure).expect("it shares nothing");
    assert_eq!(work.step(1), Progress::Done);
    device.finish(work).expect("it is not refused");
    device.perform(b, measure).expect("nothing is out");
    assert_eq!(device.outcome(a, 0, 0), device.outcome(b, 0, 0), "halves of a pair");
}

#[test]
fn a_space_closed_at_work_goes_when_its_work_is_back() {
    let mut device = SimDevice::default();
    let space = open(&mut device);
    let mut work = device.begin_work(space).expect("nothing is out");
    assert!(device.begin_close(space).is_none());
    work.step(u64::MAX);
    device.finish(work).expect("no fault");
    assert!(matches!(device.begin_work(space), Err(DeviceError::Refused(_))));
    assert!(outcomes(&device, space).is_empty());

    // So does one whose partner is at work.
    let [a, b] = [1, 2].map(|seed| interactive(&mut device, seed));
    device.link((a, 0), (b, 0), [0.0; 3]).expect("there is room");
    let work = device.begin_perform(a, Instr { op: Op::Pauli(Pauli::X, 0), cond: None }).expect("nothing is out");
    assert!(device.begin_close(b).is_none());
    device.finish(work).expect("it is not refused");
    assert!(matches!(perform(&mut device, b, Op::Pauli(Pauli::X, 0)), Err(DeviceError::Refused(_))));
    assert_eq!(device.amplitudes(a).map(|amps| amps.len()), Some(2), "the closed half was measured");
}
