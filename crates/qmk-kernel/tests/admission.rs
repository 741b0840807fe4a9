//! Images off the wire: bytes that decode to some image, which admission must judge without panic and in linear time,
//! and which must run to its end if admitted.

mod common;

use common::checked;
use proptest::prelude::*;
use proptest::sample::Index;
use qmk_kernel::abi::image::{Cond, CondTerm, Image, ImageErrorKind, Instr, Op, Pauli};
use qmk_kernel::abi::syscall::{Quota, Run, StrandState};
use qmk_kernel::abi::{Reply, Rights, Syscall};
use qmk_kernel::{Kernel, Limits, admit};
use qmk_testkit::judge::{admissible, peak};
use qmk_testkit::strategies::{any_image, runner, valid_image};
use std::cell::Cell;

/// Small, so that registers and events that an image only declares take no time.
fn limits() -> Limits {
    Limits { size: 1 << 10, ..Limits::default() }
}

/// A change of a few bytes somewhere.
#[derive(Clone, Debug)]
enum Edit {
    Set(Index, u8),
    Flip(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Copy(Index, Index),
    Cut(Index),
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    prop_oneof![
        6 => (index(), 0..8u8).prop_map(|(i, b)| Edit::Set(i, b)),
        2 => (index(), any::<u8>()).prop_map(|(i, b)| Edit::Set(i, b)),
        4 => (index(), 0..8u8).prop_map(|(i, b)| Edit::Flip(i, b)),
        1 => (index(), any::<u8>()).prop_map(|(i, b)| Edit::Insert(i, b)),
        1 => index().prop_map(Edit::Remove),
        2 => (index(), index()).prop_map(|(i, j)| Edit::Copy(i, j)),
        1 => index().prop_map(Edit::Cut),
    ]
}

fn mutate(bytes: &mut Vec<u8>, edit: &Edit) {
    let n = bytes.len();
    match edit {
        Edit::Insert(i, b) => bytes.insert(i.index(n + 1), *b),
        _ if n == 0 => {}
        Edit::Set(i, b) => bytes[i.index(n)] = *b,
        Edit::Flip(i, b) => bytes[i.index(n)] ^= 1 << b,
        Edit::Remove(i) => _ = bytes.remove(i.index(n)),
        Edit::Copy(i, j) => bytes[i.index(n)] = bytes[j.index(n)],
        Edit::Cut(i) => bytes.truncate(i.index(n)),
    }
}

/// Random bytes, and those of images of which a few were changed.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let written = prop_oneof![1 => any_image(), 4 => valid_image()];
    let changed = (written, proptest::collection::vec(edit(), 0..4)).prop_map(|(image, edits)| {
        let mut bytes = postcard::to_allocvec(&image).expect("an image is plain data");
        edits.iter().for_each(|e| mutate(&mut bytes, e));
        bytes
    });
    // Low numbers are those of operations, registers and lengths.
    let byte = prop_oneof![7 => 0..8u8, 1 => any::<u8>()];
    prop_oneof![1 => proptest::collection::vec(byte, 0..60), 3 => changed]
}

/// Runs an admitted image alone on a device that checks every instruction.
fn run(image: Image) {
    let quota = Quota { qubits: 64, strands: 1, instructions: 1 << 12, slots: 3, active: 16, ..Quota::UNLIMITED };
    let (mut kernel, root, machine) = Kernel::boot(checked(64), 1, quota);
    let mut make = |call| match kernel.syscall(root, call) {
        Ok(Reply::Handle(handle)) => handle,
        other => panic!("{other:?}"),
    };
    let image = make(Syscall::Admit { machine, image });
    let strand = make(Syscall::Spawn { machine, image, run: Run { shots: 3, seed: 1, ..Run::default() } });
    let epochs = (0..2000).take_while(|_| kernel.advance().busy).count();
    match kernel.syscall(root, Syscall::Status { strand }) {
        Ok(Reply::Status(s)) => assert_eq!((s.state, s.shots_done), (StrandState::Done, 3), "{epochs} epochs: {s:?}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(kernel.free_qubits(), 64);
}

#[test]
fn any_bytes_are_judged_and_what_is_admitted_runs() {
    let (decoded, admitted, conditional) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let count = |n: &Cell<u32>| n.set(n.get() + 1);
    runner(100_000)
        .run(&(bytes(), any::<u32>()), |(bytes, bits)| {
            let Ok(image) = postcard::from_bytes::<Image>(&bytes) else { return Ok(()) };
            count(&decoded);
            let held = if bits % 8 == 0 { Rights::from_bits_retain(bits) } else { Rights::all() };
            let fits = image.qubits.max(image.events) <= limits().size;
            let verdict = admit(image.clone(), held, limits());
            prop_assert_eq!(verdict.is_ok(), fits && admissible(&image, held));
            if let Ok(verdict) = verdict {
                count(&admitted);
                prop_assert_eq!(verdict.peak_qubits, peak(&image));
                if image.code.iter().any(|i| i.cond.is_some()) {
                    count(&conditional);
                }
                run(image);
            }
            Ok(())
        })
        .unwrap();
    let counts = [decoded, admitted, conditional].map(Cell::into_inner);
    println!("decoded, admitted, of these with conditions: {counts:?}");
    // A search that never gets anywhere proves nothing.
    assert!(counts[0] > 10_000 && counts[1] > 5_000 && counts[2] > 200, "{counts:?}");
}

/// Instructions may share the terms of their conditions. However many do, the terms read are linear in the limit.
#[test]
fn shared_conditions_do_not_make_admission_quadratic() {
    let size = limits().size;
    for (terms, readers) in [(4, size - 2), (5, size - 2), (size / 2, 8), (size / 2, size - 2), (size, size - 2)] {
        let always = |op| Instr { op, cond: None };
        let read = Instr { op: Op::Pauli(Pauli::X, 0), cond: Some(Cond { start: 0, end: terms }) };
        let mut code = vec![always(Op::Alloc(0)), always(Op::Measure(Pauli::Z, 0, 0))];
        code.extend(vec![read; readers as usize]);
        let not = vec![CondTerm::Not; terms as usize - 1];
        let image = Image { qubits: 1, events: 1, code, terms: [vec![CondTerm::Event(0)], not].concat() };
        // Where admission stops tells how many terms it has read.
        let fit = 4 * size / terms;
        match admit(image, Rights::all(), limits()) {
            Ok(_) => assert!(readers <= fit, "{readers} conditions of {terms} terms"),
            Err(e) => assert_eq!((e.at, e.kind), (2 + fit, ImageErrorKind::TooLarge), "{readers} of {terms} terms"),
        }
    }
}
