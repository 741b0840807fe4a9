//! Interactive spaces of the simulated machine, against the dense reference. `world.rs` has random operations on linked
//! spaces, `links.rs` single links, `snapshots.rs` saved states.

#[path = "../common/mod.rs"]
mod common;
mod links;
mod snapshots;
mod world;

use common::{Dice, random_op};
use qmk_abi::image::{Instr, Op, Pauli};
use qmk_hal::{Device, DeviceError, Inline, SpaceId, SpaceSpec};
use qmk_sim::SimDevice;

fn open(device: &mut SimDevice, seed: u64, max_active: u32) -> SpaceId {
    let spec = SpaceSpec { shots: 1, seed, max_active, ..SpaceSpec::default() };
    device.open(spec).expect("an interactive space")
}

fn perform(device: &mut SimDevice, space: SpaceId, op: Op) -> Result<(), DeviceError> {
    device.perform(space, Instr { op, cond: None })
}

fn measure(device: &mut SimDevice, space: SpaceId, p: Pauli, q: u32) -> bool {
    perform(device, space, Op::Measure(p, q, 0)).expect("it is not refused");
    device.outcome(space, 0, 0)
}

/// Outcomes of one space, while others do what they do.
fn outcomes(company: bool) -> Vec<bool> {
    let mut dice = Dice(5, 1 << 42);
    let mut device = SimDevice::default();
    let space = open(&mut device, 7, 12);
    let others = [1, 2].map(|seed| open(&mut device, seed, 12));
    let mut seen = Vec::new();
    for i in 0..300 {
        let op = random_op(&mut dice, 5);
        perform(&mut device, space, op).unwrap();
        seen.extend(op.writes().map(|e| device.outcome(space, 0, e)));
        if company {
            for other in others {
                perform(&mut device, other, random_op(&mut Dice(i, other.0 as u64), 5)).unwrap();
            }
            if i % 50 == 20 {
                (0..5).for_each(|q| others.iter().for_each(|&o| perform(&mut device, o, Op::Alloc(q)).unwrap()));
                device.link((others[0], 1), (others[1], 2), [0.1; 3]).unwrap();
            }
        }
    }
    seen
}

#[test]
fn what_others_do_does_not_show() {
    let alone = outcomes(false);
    assert!(alone.len() > 30 && alone.contains(&true) && alone.contains(&false));
    assert_eq!(outcomes(true), alone);
}
