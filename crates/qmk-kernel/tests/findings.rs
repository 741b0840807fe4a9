//! What fuzzing and reading have found wrong, and shall not be again.

use qmk_kernel::abi::image::{Clifford2, Image, Instr, Op};
use qmk_kernel::abi::syscall::{Budget, Limit, Quota, Run, StrandState};
use qmk_kernel::abi::{Handle, KernelError, Reply, Rights, Syscall};
use qmk_kernel::{Clock, DomainId, Kernel};
use qmk_sim::{SimConfig, SimDevice};

fn boot(config: SimConfig) -> (Kernel<SimDevice>, DomainId, Handle) {
    let (mut kernel, root, machine) =
        Kernel::boot(SimDevice::new(SimConfig { threads: 1, ..config }), 1, Quota::UNLIMITED);
    kernel.set_clock(Clock::Lockstep);
    (kernel, root, machine)
}

fn made(kernel: &mut Kernel<SimDevice>, d: DomainId, call: Syscall) -> Handle {
    match kernel.syscall(d, call) {
        Ok(Reply::Handle(handle)) => handle,
        other => panic!("{other:?}"),
    }
}

fn image(qubits: u32, ops: &[Op]) -> Image {
    let code = (0..qubits).map(Op::Alloc).chain(ops.iter().copied()).map(|op| Instr { op, cond: None }).collect();
    Image { qubits, events: 0, code, terms: Vec::new() }
}

/// A T gate for which there was a magic state but no route was asked for again and again within one epoch.
#[test]
fn a_t_gate_waits_for_a_route() {
    let config = SimConfig { logical_qubits: 8, routes_per_epoch: 2, magic_per_epoch: 8, ..SimConfig::default() };
    let (mut kernel, d, machine) = boot(config);
    let pairs = [Op::Clifford2(Clifford2::Cnot, 0, 1), Op::Clifford2(Clifford2::Cnot, 2, 3)];
    let ops = [pairs[0], pairs[1], Op::T(4), Op::T(5), Op::T(6), Op::T(0), Op::T(2)];
    let image = made(&mut kernel, d, Syscall::Admit { machine, image: image(7, &ops) });
    let strand = made(&mut kernel, d, Syscall::Spawn { machine, image, run: Run::default() });
    for _ in 0..20 {
        kernel.advance();
    }
    let Ok(Reply::Status(status)) = kernel.syscall(d, Syscall::Status { strand }) else { panic!("a strand") };
    assert_eq!((status.state, status.magic_states), (StrandState::Done, 5));
    // Seven operations of two cycles each, two at a time.
    assert_eq!(status.epochs, 8);
}

/// Qubits of strands that wait were counted without bound.
#[test]
fn a_budget_of_all_qubits_is_one() {
    let (mut kernel, d, machine) = boot(SimConfig { logical_qubits: u32::MAX, ..SimConfig::default() });
    let n = 1 << 20;
    let image = made(&mut kernel, d, Syscall::Admit { machine, image: image(n, &[]) });
    let budget = Some(Budget { strands: u32::MAX, qubits: u32::MAX, magic: 0 });
    let derive = Syscall::Derive { source: machine, rights: Rights::all(), badge: 0, into: None, budget };
    let machine = made(&mut kernel, d, derive);
    for i in 0..4096 {
        let reply = kernel.syscall(d, Syscall::Spawn { machine, image, run: Run::default() });
        assert_eq!(reply.is_ok(), i < 4095, "{i}: {reply:?}");
        if i == 4095 {
            assert_eq!(reply, Err(KernelError::Budget(Limit::Qubits)));
        }
    }
}
