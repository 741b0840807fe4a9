//! A slow judge of images: the rules of admission, told instruction by instruction.

use qmk_kernel::abi::Rights;
use qmk_kernel::abi::image::{CondTerm, Image, Instr, Op};

/// Whether an image keeps the rules of `qmk_abi::image`, told instruction by instruction from the whole prefix.
pub fn admissible(image: &Image, held: Rights) -> bool {
    (0..image.code.len()).all(|at| {
        let (before, Instr { op, cond }) = (&image.code[..at], image.code[at]);
        let live = |q: u32| {
            let last = before.iter().rev().find(|i| matches!(i.op, Op::Alloc(p) | Op::Free(p) if p == q));
            matches!(last, Some(Instr { op: Op::Alloc(_), .. }))
        };
        let written = |e: u32| before.iter().any(|i| i.op.writes().any(|w| w == e));
        let qubits: Vec<u32> = op.qubits().collect();
        let writes: Vec<u32> = op.writes().collect();
        let distinct = |v: &[u32]| (1..v.len()).all(|i| !v[..i].contains(&v[i]));
        held.contains(op.class())
            && op.angle().is_none_or(f64::is_finite)
            && distinct(&qubits)
            && distinct(&writes)
            && qubits.iter().all(|&q| q < image.qubits && live(q) != matches!(op, Op::Alloc(_)))
            && writes.iter().all(|&e| e < image.events && !written(e))
            && cond.is_none_or(|c| {
                let Some(terms) = image.terms.get(c.start as usize..c.end as usize) else { return false };
                let mut depth = 0i64;
                let sound = terms.iter().all(|t| {
                    let (takes, legal) = match *t {
                        CondTerm::Event(e) => (0, e < image.events && written(e)),
                        CondTerm::Not => (1, true),
                        CondTerm::And(k) | CondTerm::Or(k) | CondTerm::Xor(k) => (k as i64, k > 0),
                    };
                    let enough = depth >= takes;
                    depth += 1 - takes;
                    legal && enough
                });
                sound && depth == 1 && !matches!(op, Op::Alloc(_) | Op::Free(_) | Op::Fence)
            })
    })
}

/// Most registers live at once.
pub fn peak(image: &Image) -> u32 {
    let (mut live, mut most) = (0u32, 0);
    for i in &image.code {
        live = match i.op {
            Op::Alloc(_) => live + 1,
            Op::Free(_) => live - 1,
            _ => live,
        };
        most = most.max(live);
    }
    most
}
