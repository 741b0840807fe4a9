//! What is left of a domain that is gone: an image that a strand of another domain still runs.

mod support;

use qmk_kernel::abi::image::{Image, Instr, Op, Pauli};
use qmk_kernel::abi::syscall::{Quota, Run, StrandState};
use qmk_kernel::abi::{Rights, Syscall};
use support::World;

#[test]
fn a_strand_runs_on_and_ends_after_the_owner_of_its_image_is_gone() {
    let mut world = World::new(support::ample());
    let (author, runner) = (world.tenant(Quota::UNLIMITED), world.tenant(Quota::UNLIMITED));
    let to = world.derive(runner.control, Rights::CONTROL, Some(author.control));
    let code = [Op::Alloc(0), Op::Measure(Pauli::Z, 0, 0), Op::Free(0)].map(|op| Instr { op, cond: None }).to_vec();
    let image = Image { qubits: 1, events: 1, code, terms: Vec::new() };
    let own = world.admit(author, &image);
    let shared = world.derive_from(author.id, own, Rights::USE, Some(to));
    let strand = world.spawn(runner, shared, Run { shots: 100, ..Run::default() });
    let root = world.root;
    world.delete(root, author.control);
    assert!(world.call(author.id, Syscall::Usage).is_err(), "the author is gone");
    assert_eq!(world.finish(runner, strand).state, StrandState::Done);
    world.delete(runner.id, strand);
    world.kernel.audit().expect("every invariant holds");
    assert_eq!(world.usage(runner.id).strands, 0);
}
