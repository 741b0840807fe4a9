//! What states take is charged, and refused where it is not there.

use super::machine::{SimConfig, SimDevice};
use qmk_abi::image::{Clifford1, Clifford2, Cond, CondTerm, Image, Instr, Op, Pauli};
use qmk_hal::{Device, DeviceError, Inline, SpaceId, SpaceSpec};

/// A machine of so many bytes for all, and for each owner.
fn machine(all: u64, owner: u64) -> SimDevice {
    let bytes = SimConfig { state_bytes: all, owner_state_bytes: Some(owner), ..SimConfig::default() };
    SimDevice::new(SimConfig { threads: 1, ..bytes })
}

fn interactive(device: &mut SimDevice, owner: u32, max_active: u32) -> SpaceId {
    device.open(SpaceSpec { shots: 1, max_active, owner, ..SpaceSpec::default() }).unwrap()
}

fn perform(device: &mut SimDevice, space: SpaceId, op: Op) -> Result<(), DeviceError> {
    device.perform(space, Instr { op, cond: None })
}

fn left(refused: Result<(), DeviceError>) -> (u64, bool) {
    match refused {
        Err(DeviceError::StateBytes { left, of_machine, .. }) => (left, of_machine),
        other => panic!("{other:?}"),
    }
}

#[test]
fn held_qubits_and_checkpoints_are_charged_and_come_back() {
    // 1,024 qubits take half a mebibyte.
    let mut device = machine(4 << 20, 2 << 20);
    let a = interactive(&mut device, 1, 8);
    (0..1024).for_each(|q| perform(&mut device, a, Op::Alloc(q)).unwrap());
    let one = device.state_bytes();
    assert_eq!(one, 1 << 19);
    let saved: Vec<_> = (0..3).map(|_| device.snapshot(a).unwrap()).collect();
    assert_eq!(device.state_bytes(), 4 * one);
    assert_eq!(left(device.snapshot(a).map(|_| ())), (0, false));
    // More qubits are refused too, and those that there are go on.
    assert_eq!(left(perform(&mut device, a, Op::Alloc(1024))), (0, false));
    perform(&mut device, a, Op::Clifford1(Clifford1::H, 1023)).unwrap();
    // The other half of the machine is not the owner's.
    let b = interactive(&mut device, 2, 8);
    (0..1024).for_each(|q| perform(&mut device, b, Op::Alloc(q)).unwrap());
    let also: Vec<_> = (0..3).map(|_| device.snapshot(b).unwrap()).collect();
    let c = interactive(&mut device, 3, 8);
    assert_eq!(left(perform(&mut device, c, Op::Alloc(0))), (0, true));
    device.forget_all(saved);
    perform(&mut device, c, Op::Alloc(0)).unwrap();
    // A state that is restored is there twice for a moment.
    assert_eq!(left(device.restore(b, also[0]).map(|_| ())), (0, false));
    device.forget_all(also[1..].to_vec());
    device.restore(b, also[0]).unwrap();
    assert_eq!(device.state_bytes(), 2 * one + one + 2048);
    device.forget_all(also[..1].to_vec());
    [a, b, c].into_iter().for_each(|space| device.close(space));
    assert_eq!(device.state_bytes(), 0);
}

impl SimDevice {
    fn forget_all(&mut self, saved: Vec<qmk_hal::SnapshotId>) {
        saved.into_iter().for_each(|id| self.snapshots().unwrap().forget(id));
    }
}

#[test]
fn the_register_of_held_qubits_grows_until_it_is_refused_and_shrinks_when_measured() {
    let bytes = 24 << 12;
    let mut device = machine(1 << 30, bytes + 4096);
    let a = interactive(&mut device, 1, 30);
    (0..16).for_each(|q| perform(&mut device, a, Op::Alloc(q)).unwrap());
    let magic = |device: &mut SimDevice, q| {
        perform(device, a, Op::Clifford1(Clifford1::H, q))?;
        perform(device, a, Op::T(q))?;
        perform(device, a, Op::Clifford1(Clifford1::H, q))?;
        perform(device, a, Op::Clifford2(Clifford2::Cnot, q, 15))
    };
    (0..13).for_each(|q| magic(&mut device, q).unwrap());
    // It commutes with none of the rotations, so all thirteen are performed at once.
    let refused = perform(&mut device, a, Op::Measure(Pauli::Z, 15, 0));
    assert!(matches!(refused, Err(DeviceError::StateBytes { of_machine: false, .. })), "{refused:?}");
    // Each of these needs one of them.
    (0..13).for_each(|q| perform(&mut device, a, Op::Measure(Pauli::Z, q, 1)).unwrap());
    perform(&mut device, a, Op::Measure(Pauli::Z, 15, 0)).unwrap();
    assert!(device.state_bytes() < bytes / 2, "{}", device.state_bytes());
}

/// `n` qubits that all carry live magic at once. With `conditional`, shots have no common plan.
fn wide(n: u32, conditional: bool) -> Image {
    let plain = |op| Instr { op, cond: None };
    let mut code: Vec<Instr> = (0..n).map(|q| plain(Op::Alloc(q))).collect();
    let h = |q| plain(Op::Clifford1(Clifford1::H, q));
    code.extend((0..n).flat_map(|q| [h(q), plain(Op::T(q)), h(q)]));
    code.extend((1..n).map(|q| plain(Op::Clifford2(Clifford2::Cnot, q, 0))));
    code.extend((0..n).map(|q| plain(Op::Measure(Pauli::Z, q, q))));
    let mut terms = Vec::new();
    if conditional {
        terms.push(CondTerm::Event(0));
        code.push(Instr { op: Op::T(n - 1), cond: Some(Cond { start: 0, end: 1 }) });
        code.push(plain(Op::Measure(Pauli::X, n - 1, n)));
    }
    Image { qubits: n, events: n + u32::from(conditional), code, terms }
}

fn run(device: &mut SimDevice, image: &Image, owner: u32, shots: u64) -> SpaceId {
    let spec = SpaceSpec { image: image.clone().into(), shots, seed: 5, max_active: 30, owner, ..SpaceSpec::default() };
    let space = device.open(spec).unwrap();
    (0..image.code.len()).for_each(|i| device.issue(space, i as u32).unwrap());
    space
}

fn outcomes(device: &SimDevice, space: SpaceId, shots: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    device.outcomes(space, 0, shots as u32, &mut bytes);
    bytes
}

#[test]
fn programs_wait_for_each_others_bytes_and_have_the_outcomes_that_they_would_have_had() {
    for (conditional, shots) in [(false, 40), (true, 3), (false, 1)] {
        let image = wide(14, conditional);
        let mut free = machine(u64::MAX, u64::MAX);
        let alone = run(&mut free, &image, 0, shots);
        let mut needed = 0;
        while free.work(alone, 200).unwrap().shots_done < shots {
            needed = needed.max(free.state_bytes());
        }
        let want = outcomes(&free, alone, shots);
        // Room for one and a half.
        let mut device = machine(needed * 3 / 2, needed * 3 / 2);
        let spaces = [1, 2, 3].map(|owner| run(&mut device, &image, owner, shots));
        let (mut done, mut turns, mut most) = ([0; 3], 0, 0);
        while done != [shots; 3] {
            for (space, done) in spaces.iter().zip(&mut done) {
                *done = device.work(*space, 200).unwrap().shots_done;
                most = most.max(device.state_bytes());
            }
            turns += 1;
            assert!(turns < 100_000, "they wait for ever: {done:?}");
        }
        assert!(most > needed / 2 && most <= needed * 3 / 2, "{most} of {needed}");
        for space in spaces {
            assert_eq!(outcomes(&device, space, shots), want);
            device.close(space);
        }
        assert_eq!(device.state_bytes(), 0);
    }
}

#[test]
fn a_program_that_never_fits_fails_and_so_does_one_whose_bytes_no_program_gives_back() {
    for (conditional, shots) in [(false, 40), (true, 3), (false, 1)] {
        let image = wide(14, conditional);
        let mut device = machine(20 << 14, 20 << 14);
        let space = run(&mut device, &image, 1, shots);
        let refused = (0..1000).find_map(|_| device.work(space, 200).err());
        assert!(matches!(refused, Some(DeviceError::StateBytes { .. })), "{refused:?}");
        // Held qubits take what it needs.
        let mut device = machine(30 << 14, 30 << 14);
        let held = interactive(&mut device, 2, 1);
        (0..500).for_each(|q| perform(&mut device, held, Op::Alloc(q)).unwrap());
        let space = run(&mut device, &image, 1, shots);
        let refused = (0..1000).find_map(|_| device.work(space, 200).err());
        assert!(matches!(refused, Some(DeviceError::StateBytes { of_machine: true, .. })), "{refused:?}");
    }
}

#[test]
fn outcomes_are_charged_when_the_space_is_opened() {
    let mut device = machine(1 << 20, 1 << 30);
    let image = wide(8, false);
    let spec = |shots| SpaceSpec { image: image.clone().into(), shots, ..SpaceSpec::default() };
    let space = device.open(spec(1 << 20)).unwrap();
    assert_eq!(left(device.open(spec(1)).map(|_| ())), (0, true));
    device.close(space);
    device.open(spec(1)).unwrap();
}
