//! Values that are read from bytes.

use qmk_kernel::abi::image::{Clifford1, Clifford2, Cond, CondTerm, Image, Instr, Op, Pauli};
use qmk_kernel::abi::syscall::{Code, Patch, Quota};
use qmk_kernel::abi::{Handle, Rights};

/// Reads numbers from bytes, and zeros behind their end.
pub(crate) struct Bytes<'a> {
    pub(crate) left: &'a [u8],
}

impl Bytes<'_> {
    pub(crate) fn byte(&mut self) -> u8 {
        let Some((&first, rest)) = self.left.split_first() else { return 0 };
        self.left = rest;
        first
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|_| self.byte()))
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        let wide = (self.byte() as usize) << 8 | self.byte() as usize;
        wide % n.max(1)
    }

    /// Once in so many times.
    pub(crate) fn rarely(&mut self, n: usize) -> bool {
        self.below(n) == 1
    }

    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    /// A plausible number, or one from the edges of its type.
    pub(crate) fn number(&mut self, most: u64) -> u64 {
        match self.below(8) {
            0 => self.pick(&[0, 1, u8::MAX as u64, u16::MAX as u64, 1 << 31, u32::MAX as u64, u64::MAX - 1, u64::MAX]),
            1 => self.u64(),
            _ => self.u64() % most.saturating_add(1).max(1),
        }
    }

    pub(crate) fn small(&mut self, most: u32) -> u32 {
        self.number(most as u64) as u32
    }

    pub(crate) fn float(&mut self) -> f64 {
        match self.below(6) {
            0 => self.pick(&[f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MIN_POSITIVE, -0.0, 1e308, 1.0, 0.25]),
            1 => f64::from_bits(self.u64()),
            _ => self.below(1000) as f64 / 1000.0,
        }
    }

    pub(crate) fn handle(&mut self) -> Handle {
        Handle { slot: self.small(20), generation: self.small(3) }
    }

    pub(crate) fn rights(&mut self) -> Rights {
        match self.below(4) {
            0 => Rights::all(),
            1 => Rights::OBJECT,
            2 => Rights::from_bits_truncate(self.u64() as u32),
            _ => Rights::all() - Rights::from_bits_truncate(1 << self.below(26)),
        }
    }

    pub(crate) fn patch(&mut self) -> Patch {
        let code = self.pick(&[Code::Surface, Code::BaconShor, Code::Shyps, Code::Floquet]);
        let distance = if self.rarely(4) { self.pick(&[0, 1, 2, 101, 103, u16::MAX]) } else { 7 };
        Patch { code, distance }
    }

    pub(crate) fn quota(&mut self) -> Quota {
        if self.below(3) == 0 {
            return Quota { instructions: 1 << 16, ..Quota::UNLIMITED };
        }
        Quota {
            qubits: self.small(12),
            physical_qubits: self.number(2000),
            strands: self.small(8),
            instructions: self.small(200).min(1 << 16),
            slots: self.small(40),
            channels: self.small(4),
            checkpoints: self.small(3),
            active: self.small(6),
            held_active: self.small(6),
            magic: self.number(500),
            epochs: self.number(100),
            window: self.pick(&[0, 1, 16, u64::MAX]),
            weight: self.small(4),
        }
    }

    pub(crate) fn op(&mut self, qubits: u32) -> Op {
        let q = |b: &mut Self| if b.rarely(40) { b.small(qubits) } else { b.below(qubits as usize) as u32 };
        let e = |b: &mut Self| b.small(6);
        let pauli = self.pick(&[Pauli::X, Pauli::Y, Pauli::Z]);
        let (a, b, c) = (q(self), q(self), q(self));
        let others = a.wrapping_add(1 + self.below(2) as u32) % qubits.max(1);
        let b = if self.rarely(20) { b } else { others };
        match self.below(20) {
            0 => Op::Alloc(a),
            1 => Op::Free(a),
            2 => Op::Fence,
            3 => Op::Pauli(pauli, a),
            4 | 5 => Op::Clifford1(
                self.pick(&[Clifford1::H, Clifford1::S, Clifford1::Sdg, Clifford1::Sx, Clifford1::Sxdg]),
                a,
            ),
            6..=8 => Op::Clifford2(self.pick(&[Clifford2::Cnot, Clifford2::Cz, Clifford2::Swap]), a, b),
            9 => Op::TeleportCnot(a, b),
            10 => Op::T(a),
            11 => Op::Tdg(a),
            12 => Op::Rotate(pauli, a, self.float()),
            13 => Op::Ccz(a, b, c),
            14 => Op::Toffoli(a, b, c),
            15 => Op::Reset(a),
            16 | 17 => Op::Measure(pauli, a, e(self)),
            18 => {
                if self.below(2) == 0 {
                    Op::MeasureAngle(self.float(), a, e(self))
                } else {
                    Op::MeasureBell(a, b, e(self), e(self))
                }
            }
            _ => Op::InjectT(a),
        }
    }

    /// An image that is likely to be admitted: registers are allocated first, and events are written in order.
    pub(crate) fn image(&mut self) -> Image {
        if self.rarely(6) {
            return self.absurd_image();
        }
        let qubits = 1 + self.below(5) as u32;
        let mut code: Vec<Instr> = (0..qubits).map(|q| Instr { op: Op::Alloc(q), cond: None }).collect();
        let (mut events, mut terms) = (0, Vec::new());
        let mut more = |b: &mut Self, code: &mut Vec<Instr>| {
            let mut op = b.op(qubits);
            if matches!(op, Op::Alloc(_) | Op::Free(_)) {
                return;
            }
            let mut fresh = || {
                events += 1;
                events - 1
            };
            op = match op {
                Op::Measure(p, q, _) => Op::Measure(p, q, fresh()),
                Op::MeasureAngle(t, q, _) => Op::MeasureAngle(t, q, fresh()),
                Op::MeasureBell(x, y, ..) => Op::MeasureBell(x, y, fresh(), fresh()),
                other => other,
            };
            let before = events - op.writes().count() as u32;
            let cond = (before > 0 && op != Op::Fence && b.below(3) == 0).then(|| {
                let start = terms.len() as u32;
                let n = 1 + b.below(3) as u32;
                terms.extend((0..n).map(|_| CondTerm::Event(b.below(before as usize) as u32)));
                terms.push(b.pick(&[CondTerm::And(n), CondTerm::Or(n), CondTerm::Xor(n)]));
                if b.below(4) == 0 {
                    terms.push(CondTerm::Not);
                }
                Cond { start, end: terms.len() as u32 }
            });
            code.push(Instr { op, cond });
        };
        for _ in 0..self.below(24) {
            more(self, &mut code);
        }
        if self.below(2) == 0 {
            code.extend((0..qubits).map(|q| Instr { op: Op::Free(q), cond: None }));
        }
        Image { qubits, events, code, terms }
    }

    /// One that is likely to be refused.
    pub(crate) fn absurd_image(&mut self) -> Image {
        let qubits = self.small(6);
        let cond = |b: &mut Self| (b.below(3) == 0).then(|| Cond { start: b.small(6), end: b.small(8) });
        let code = (0..self.below(12)).map(|_| Instr { op: self.op(6), cond: cond(self) }).collect();
        let terms = (0..self.below(8)).map(|_| {
            let n = self.small(3);
            self.pick(&[CondTerm::Event(n), CondTerm::Not, CondTerm::And(n), CondTerm::Or(n), CondTerm::Xor(n)])
        });
        let terms = terms.collect();
        Image { qubits, events: self.small(6), code, terms }
    }
}
