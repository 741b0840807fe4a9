//! What an operation does to a state `U F R (|φ> ⊗ |0…0>)`: U a Clifford, F a Pauli on virtual qubits, R rotations that wait, φ
//! a dense register over the *active* virtual qubits, the others *dormant*.
//!
//! Rotations wait until a measurement that does not commute with them, or with others that must come after them. So a qubit goes
//! active no sooner than it must, and what no measurement can tell is never done.
//!
//! F on a dormant qubit is an X or nothing: it says which basis state the qubit is in. The rules do not care what F's bits
//! are. With plain bits they run one shot; with expressions over coins and outcomes they plan all
//! shots at once. [`Backend`] is that choice.

use crate::bits::Turn;
use crate::register::Mask;
use crate::rng::Site;
use crate::tableau::{PauliString, Tableau};
use qmk_abi::caps::Rights;
use qmk_abi::image::{Clifford1, Clifford2, Op, Pauli};
use std::collections::VecDeque;
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};

/// The frame F of one structure.
pub(crate) trait Frame {
    type Bit: Clone + Default + PartialEq;

    /// Of n virtual qubits, the identity.
    fn resize(&mut self, words: usize);
    /// Whether F anticommutes with Q. Z on a dormant qubit counts as nothing in F.
    fn anticommutes(&self, q: &PauliString) -> Self::Bit;
    /// F := F · Q^bit, without Z on dormant qubits.
    fn absorb(&mut self, q: &PauliString, bit: &Self::Bit, active: &[u64]);
    /// X and Z parts on one qubit.
    fn x(&self, v: usize) -> Self::Bit;
    fn z(&self, v: usize) -> Self::Bit;
    /// A dormant qubit among those in `candidates` that F leaves in |0>, if there is one.
    fn idle(&self, candidates: impl Iterator<Item = (usize, u64)>) -> Option<usize>;
    /// Puts F on v to X^bit.
    fn set(&mut self, v: usize, bit: Self::Bit);
    /// Puts F's Z on v, which is active, to `bit`.
    fn set_z(&mut self, v: usize, bit: Self::Bit);
    /// `into ^= other`.
    fn xor(into: &mut Self::Bit, other: &Self::Bit);
}

/// What the bits of the frame are, and what becomes of the register.
pub(crate) trait Backend {
    type Frame: Frame;

    /// The coin at a site.
    fn coin(&mut self, site: Site) -> Bit<Self>;
    /// Applies `exp(-i θ/2 (-1)^sign m)` where `cond` holds.
    fn rotate(&mut self, m: Mask, theta: f64, sign: Bit<Self>, cond: Option<&Bit<Self>>);
    /// Adds a highest bit in `cos θ/2 |0> - i sin θ/2 |1>`, in |0> where `cond` does not hold.
    fn push(&mut self, theta: f64, cond: Option<&Bit<Self>>);
    /// Measures `(-1)^sign m` and removes `bit`. Returns the outcome.
    fn collapse(&mut self, m: Mask, sign: Bit<Self>, bit: u32, site: Site) -> Bit<Self>;
    /// `into ^= 1`.
    fn invert(into: &mut Bit<Self>);
}

pub(crate) type Bit<B> = <<B as Backend>::Frame as Frame>::Bit;

/// Why an operation was not performed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It would need this many active qubits, because of a rotation at this instruction.
    TooManyActive {
        /// Active qubits.
        needed: u32,
        /// Instruction.
        at: u32,
    },
    /// There is no memory for the register that a rotation at this instruction needs.
    OutOfMemory {
        /// Active qubits.
        active: u32,
        /// Instruction.
        at: u32,
    },
    /// It cannot depend on a condition that differs between shots of one plan.
    Conditional,
}

impl Refusal {
    /// The same on behalf of another instruction, which could not be performed without this one.
    pub(crate) fn on_behalf_of(self, at: u32) -> Self {
        match self {
            Refusal::TooManyActive { needed, .. } => Refusal::TooManyActive { needed, at },
            Refusal::OutOfMemory { active, .. } => Refusal::OutOfMemory { active, at },
            Refusal::Conditional => Refusal::Conditional,
        }
    }
}

/// A rotation that waits: `exp(-i θ/2 (-1)^sign Q)` where `cond` holds.
#[derive(Clone, Debug)]
struct Waiting<B> {
    /// Guest of the tableau that is Q.
    guest: u32,
    theta: f64,
    sign: B,
    cond: Option<B>,
    at: u32,
}

/// Bytes of strings of rotations that may wait.
const MAX_WAITING: usize = 1 << 28;
/// Of these rotations, how many the last one is compared with.
const REACH: usize = 4;
/// Active qubits from which on the memory for a register is asked for before it is taken.
const LARGE: u32 = 24;
/// Most rotations of one operation.
const PER_OPERATION: usize = 7;

#[derive(Clone, Debug)]
pub(crate) struct Structure<F: Frame> {
    tableau: Tableau,
    frame: F,
    /// Virtual qubit of each register bit.
    active: Vec<u32>,
    /// Bit set of active virtual qubits.
    active_mask: Vec<u64>,
    patient: bool,
    /// R, in the order in which it acts.
    waiting: VecDeque<Waiting<F::Bit>>,
    max_active: u32,
    peak_active: u32,
    /// Steps that went into finding rotations.
    effort: u64,
    /// Instruction under way.
    at: u32,
    /// Scratch for pulled-back strings.
    q: PauliString,
}

impl<F: Frame + Default> Structure<F> {
    /// n qubits in |0>. Rotations wait only if `patient`.
    pub(crate) fn new(n: usize, max_active: u32, patient: bool) -> Self {
        let tableau = Tableau::new(n);
        let words = tableau.words();
        let mut frame = F::default();
        frame.resize(words);
        Structure {
            tableau,
            frame,
            active: Vec::new(),
            active_mask: vec![0; words],
            patient,
            waiting: VecDeque::new(),
            max_active: max_active.min(40),
            peak_active: 0,
            effort: 0,
            at: 0,
            q: PauliString::default(),
        }
    }

    /// Adds qubits in |0> up to n.
    pub(crate) fn grow(&mut self, n: usize) {
        if n > self.tableau.qubits() {
            self.tableau.grow(n);
            self.active_mask.resize(self.tableau.words(), 0);
            self.frame.resize(self.tableau.words());
        }
    }

    pub(crate) fn qubits(&self) -> usize {
        self.tableau.qubits()
    }

    pub(crate) fn active(&self) -> &[u32] {
        &self.active
    }

    pub(crate) fn peak_active(&self) -> u32 {
        self.peak_active
    }

    pub(crate) fn effort(&self) -> u64 {
        self.effort
    }

    pub(crate) fn frame(&self) -> &F {
        &self.frame
    }

    /// See [`Tableau::retire`].
    pub(crate) fn retire(&mut self, q: usize, keep_z: bool) {
        self.tableau.retire(q, keep_z);
    }

    pub(crate) fn pull_back(&mut self, p: &[(Pauli, usize)]) -> PauliString {
        let mut q = PauliString::default();
        self.tableau.pull_back(p, &mut q);
        q
    }

    pub(crate) fn clifford1(&mut self, g: Clifford1, q: usize) {
        self.tableau.clifford1(g, q);
    }

    pub(crate) fn clifford2(&mut self, g: Clifford2, a: usize, b: usize) {
        self.tableau.clifford2(g, a, b);
    }

    /// Performs an operation other than `Alloc` and `Fence`, which do nothing here, where `cond` holds. `at` numbers the
    /// instruction for its draws; `record` receives the outcomes in the order of [`Op::writes`].
    ///
    /// What is refused has had no effect if rotations wait, except that of the first half of a `MeasureBell` that was not
    /// [prepared](Self::prepare).
    pub(crate) fn perform<B: Backend<Frame = F>>(
        &mut self,
        op: &Op,
        at: u32,
        cond: Option<&F::Bit>,
        backend: &mut B,
        mut record: impl FnMut(F::Bit),
    ) -> Result<(), Refusal> {
        let site = |draw| Site { at, draw };
        self.at = at;
        // What is refused is refused here or before a measurement.
        let rotates = cond.is_some() || op.class().contains(Rights::MAGIC);
        if rotates && (self.waiting.len() + PER_OPERATION) * 16 * self.tableau.words() >= MAX_WAITING {
            self.perform_waiting(backend)?;
        }
        match (*op, cond) {
            (Op::Alloc(_) | Op::Fence, _) => {}
            (Op::Pauli(p, q), None) => self.tableau.pauli(p, q as usize),
            (Op::Pauli(p, q), Some(c)) => self.apply_pauli(&[(p, q as usize)], c),
            (Op::Clifford1(g, q), None) => self.clifford1(g, q as usize),
            (Op::Clifford2(g, a, b), None) => self.clifford2(g, a as usize, b as usize),
            (Op::TeleportCnot(a, b), None) => self.clifford2(Clifford2::Cnot, a as usize, b as usize),
            (Op::Clifford1(g, q), Some(c)) => {
                let q = q as usize;
                let (axis, theta) = match g {
                    Clifford1::S => (Pauli::Z, FRAC_PI_2),
                    Clifford1::Sdg => (Pauli::Z, -FRAC_PI_2),
                    Clifford1::Sx => (Pauli::X, FRAC_PI_2),
                    Clifford1::Sxdg => (Pauli::X, -FRAC_PI_2),
                    Clifford1::H => {
                        // H = Ry(π/2) Z.
                        self.apply_pauli(&[(Pauli::Z, q)], c);
                        (Pauli::Y, FRAC_PI_2)
                    }
                };
                self.rotate(&[(axis, q)], theta, cond, backend)?;
            }
            (Op::Clifford2(Clifford2::Swap, a, b), _) => {
                let (a, b) = (a as usize, b as usize);
                for p in [Pauli::X, Pauli::Y, Pauli::Z] {
                    self.rotate(&[(p, a), (p, b)], -FRAC_PI_2, cond, backend)?;
                }
            }
            (Op::Clifford2(_, a, b) | Op::TeleportCnot(a, b), Some(_)) => {
                // exp(iπ/4 (1-Z)(1-P)).
                let p = if matches!(op, Op::Clifford2(Clifford2::Cz, ..)) { Pauli::Z } else { Pauli::X };
                let (a, b) = ((Pauli::Z, a as usize), (p, b as usize));
                self.rotate(&[a], FRAC_PI_2, cond, backend)?;
                self.rotate(&[b], FRAC_PI_2, cond, backend)?;
                self.rotate(&[a, b], -FRAC_PI_2, cond, backend)?;
            }
            (Op::T(q), _) => self.rotate(&[(Pauli::Z, q as usize)], FRAC_PI_4, cond, backend)?,
            (Op::Tdg(q), _) => self.rotate(&[(Pauli::Z, q as usize)], -FRAC_PI_4, cond, backend)?,
            (Op::Rotate(p, q, theta), _) => self.rotate(&[(p, q as usize)], theta, cond, backend)?,
            (Op::Ccz(a, b, c), _) => self.ccz([a as usize, b as usize, c as usize], cond, backend)?,
            (Op::Toffoli(a, b, t), _) => {
                self.clifford1(Clifford1::H, t as usize);
                let done = self.ccz([a as usize, b as usize, t as usize], cond, backend);
                self.clifford1(Clifford1::H, t as usize);
                done?;
            }
            (_, Some(_)) => return Err(Refusal::Conditional),
            (Op::Free(q) | Op::Reset(q), _) => self.reset(q as usize, site(0), backend)?,
            (Op::Measure(p, q, _), _) => record(self.measure(&[(p, q as usize)], site(0), backend)?),
            (Op::MeasureAngle(angle, q, _), _) => {
                // Project on Z in the frame where cos(a/2)|0> + sin(a/2)|1> = Ry(a)|0> is |0>.
                let q = q as usize;
                self.rotate(&[(Pauli::Y, q)], -angle, None, backend)?;
                let outcome = self.measure(&[(Pauli::Z, q)], site(0), backend);
                self.rotate(&[(Pauli::Y, q)], angle, None, backend)?;
                record(outcome?);
            }
            (Op::MeasureBell(a, b, ..), _) => {
                let (a, b) = (a as usize, b as usize);
                record(self.measure(&[(Pauli::X, a), (Pauli::X, b)], site(0), backend)?);
                record(self.measure(&[(Pauli::Z, a), (Pauli::Z, b)], site(1), backend)?);
            }
            (Op::InjectT(q), _) => {
                let q = q as usize;
                self.reset(q, site(0), backend)?;
                self.clifford1(Clifford1::H, q);
                self.rotate(&[(Pauli::Z, q)], FRAC_PI_4, None, backend)?;
            }
        }
        Ok(())
    }

    /// A Pauli that depends on the shot goes to the frame, so that the structure stays shared between shots.
    pub(crate) fn apply_pauli(&mut self, p: &[(Pauli, usize)], bit: &F::Bit) {
        self.tableau.pull_back(p, &mut self.q);
        self.absorb(bit);
    }

    /// F := F · Q^bit for the scratch string Q. Its Z's on dormant qubits go past the rotations that wait to where they do
    /// nothing.
    fn absorb(&mut self, bit: &F::Bit) {
        if *bit == F::Bit::default() {
            return;
        }
        self.frame.absorb(&self.q, bit, &self.active_mask);
        for w in &mut self.waiting {
            let (bits, _) = self.tableau.guest_bits(w.guest);
            if self.q.dormant_z_anticommutes(bits, &self.active_mask) {
                F::xor(&mut w.sign, bit);
            }
        }
    }

    /// The same for one letter on v that goes past the rotations: X, or Z.
    fn pass(&mut self, v: usize, p: Pauli, bit: &F::Bit) {
        if *bit == F::Bit::default() {
            return;
        }
        for w in &mut self.waiting {
            let (bits, _) = self.tableau.guest_bits(w.guest);
            let (x, z) = self.q.letter(bits, v);
            if if p == Pauli::X { z } else { x } {
                F::xor(&mut w.sign, bit);
            }
        }
    }

    /// Whether the scratch string has X or Y on a dormant virtual qubit: one that F leaves in |0> rather than another.
    fn dormant_x(&self) -> Option<usize> {
        let dormant = || self.q.words().map(|(w, x, _)| (w, x & !self.active_mask[w])).filter(|(_, x)| *x != 0);
        let (w, x) = dormant().next()?;
        self.frame.idle(dormant()).or(Some(w * 64 + x.trailing_zeros() as usize))
    }

    /// The scratch string restricted to register bits.
    fn mask(&self) -> Mask {
        let mut m = Mask { x: 0, z: 0, negative: self.q.negative };
        for (bit, &v) in self.active.iter().enumerate() {
            m.x |= (self.q.x(v as usize) as u64) << bit;
            m.z |= (self.q.z(v as usize) as u64) << bit;
        }
        m
    }

    /// Applies `exp(-i θ/2 P)` for a product P of Paulis on distinct qubits, where `cond` holds: it waits behind the others, or
    /// joins one about the same string that it can be moved next to.
    fn rotate<B: Backend<Frame = F>>(
        &mut self,
        p: &[(Pauli, usize)],
        theta: f64,
        cond: Option<&F::Bit>,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        self.tableau.pull_back(p, &mut self.q);
        let sign = self.frame.anticommutes(&self.q);
        for (i, w) in self.waiting.iter_mut().enumerate().rev().take(REACH) {
            let (bits, negative) = self.tableau.guest_bits(w.guest);
            if bits == self.q.bits && cond.is_none() && w.cond.is_none() && sign == w.sign {
                w.theta += if negative == self.q.negative { theta } else { -theta };
                // What was undone need not be done.
                if w.theta == 0.0 {
                    self.tableau.dismiss(w.guest);
                    self.waiting.remove(i);
                }
                return Ok(());
            }
            if self.q.anticommutes(bits) {
                break;
            }
        }
        let guest = self.tableau.admit(&self.q);
        self.waiting.push_back(Waiting { guest, theta, sign, cond: cond.cloned(), at: self.at });
        if self.patient { Ok(()) } else { self.perform_waiting(backend) }
    }

    /// Performs all rotations that wait, or none.
    pub(crate) fn perform_waiting<B: Backend<Frame = F>>(&mut self, backend: &mut B) -> Result<(), Refusal> {
        self.perform_next(self.waiting.len(), backend)
    }

    /// Performs the rotations without which these products of Paulis, which commute, cannot be measured: measuring them then
    /// is not refused. `at` is the instruction that measures.
    pub(crate) fn prepare<B: Backend<Frame = F>>(
        &mut self,
        products: &[&[(Pauli, usize)]],
        at: u32,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        self.at = at;
        let mut strings = Vec::new();
        for p in products {
            self.tableau.pull_back(p, &mut self.q);
            strings.extend_from_slice(&self.q.bits);
        }
        self.perform_needed(strings, backend)
    }

    /// Performs those rotations that the strings must not be measured before. They keep their order, and those that stay
    /// commute with all of them that come later and with the strings.
    fn perform_needed<B: Backend<Frame = F>>(&mut self, mut strings: Vec<u64>, backend: &mut B) -> Result<(), Refusal> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        // The needed ones' strings join them.
        let stride = 2 * self.tableau.words();
        self.effort += self.waiting.len() as u64 * (1 + stride as u64 / 8);
        let mut needed = VecDeque::new();
        let mut rest = VecDeque::new();
        while let Some(w) = self.waiting.pop_back() {
            let (bits, _) = self.tableau.guest_bits(w.guest);
            // The next in order first: it is the likeliest not to commute.
            if strings.chunks_exact(stride).rev().any(|later| self.q.anticommute(later, bits)) {
                strings.extend_from_slice(bits);
                needed.push_front(w);
            } else {
                rest.push_front(w);
            }
        }
        let count = needed.len();
        needed.append(&mut rest);
        self.waiting = needed;
        self.perform_next(count, backend)
    }

    /// Performs the `count` rotations that act first, or none.
    fn perform_next<B: Backend<Frame = F>>(&mut self, count: usize, backend: &mut B) -> Result<(), Refusal> {
        self.can_perform(count)?;
        (0..count).for_each(|_| self.perform_first(backend));
        Ok(())
    }

    /// Whether the `count` rotations that act first can be performed. Each makes a qubit active, unless its X's on dormant
    /// qubits are the product of some of others'.
    fn can_perform(&mut self, count: usize) -> Result<(), Refusal> {
        let most = self.active.len() + count;
        if most <= self.max_active as usize && most < LARGE as usize {
            return Ok(());
        }
        // Independent strings of X's, each with a bit, by word and mask, that none after it has.
        let mut basis: Vec<(usize, u64, Vec<u64>)> = Vec::new();
        for i in 0..count {
            let Waiting { guest, at, .. } = self.waiting[i];
            self.tableau.guest(guest, &mut self.q);
            let mut xs = vec![0; self.tableau.words()];
            self.q.words().for_each(|(w, x, _)| xs[w] = x & !self.active_mask[w]);
            for (w, bit, other) in &basis {
                if xs[*w] & bit != 0 {
                    xs.iter_mut().zip(other).for_each(|(x, other)| *x ^= other);
                }
            }
            if let Some(w) = xs.iter().position(|&x| x != 0) {
                basis.push((w, xs[w] & xs[w].wrapping_neg(), xs));
                self.room((self.active.len() + basis.len()) as u32, at)?;
            }
        }
        Ok(())
    }

    /// Performs the rotation that acts first.
    fn perform_first<B: Backend<Frame = F>>(&mut self, backend: &mut B) {
        let Some(Waiting { guest, theta, sign, cond, .. }) = self.waiting.pop_front() else { return };
        self.tableau.guest(guest, &mut self.q);
        self.tableau.dismiss(guest);
        let Some(d) = self.dormant_x() else {
            let m = self.mask();
            // An identity is a global phase.
            if m.x | m.z != 0 {
                backend.rotate(m, theta, sign, cond.as_ref());
            }
            return;
        };
        // Q = X_d S: `exp(-iθ/2 Q)|0>_d|χ> = CS (exp(-iθ/2 X_d)|0>_d)|χ>`, CS = "S controlled by d". F = X_d^b G becomes
        // `X_d^b S^b G Z_d^g`, g the commutation of G with S; a Y in place of X leaves Z_d^b more. And the angle's sign goes:
        // `exp(iθ/2 X)|0> = Z exp(-iθ/2 X)|0>`, where Z moves past the rotations that wait, into F.
        let before = self.tableau.fold_controlled(&mut self.q, d, false);
        let mut z = self.frame.anticommutes(&self.q);
        let b = self.frame.x(d);
        self.absorb(&b);
        if before == Turn::S {
            F::xor(&mut z, &b);
        }
        F::xor(&mut z, &sign);
        self.active.push(d as u32);
        self.active_mask[d / 64] |= 1 << (d % 64);
        self.peak_active = self.peak_active.max(self.active.len() as u32);
        self.frame.set_z(d, z);
        self.pass(d, Pauli::Z, &sign);
        backend.push(theta, cond.as_ref());
    }

    /// Whether there may be so many active qubits, and a register of them.
    pub(crate) fn room(&self, needed: u32, at: u32) -> Result<(), Refusal> {
        if needed > self.max_active {
            return Err(Refusal::TooManyActive { needed, at });
        }
        // For the register and half of it again, for what a measurement leaves.
        if needed >= LARGE && Vec::<u8>::new().try_reserve_exact(24 << needed).is_err() {
            return Err(Refusal::OutOfMemory { active: needed, at });
        }
        Ok(())
    }

    /// CCZ as seven commuting rotations: `|111><111| = (1-Z_a)(1-Z_b)(1-Z_c)/8`.
    fn ccz<B: Backend<Frame = F>>(
        &mut self,
        [a, b, c]: [usize; 3],
        cond: Option<&F::Bit>,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        let z = |q| (Pauli::Z, q);
        for q in [a, b, c] {
            self.rotate(&[z(q)], FRAC_PI_4, cond, backend)?;
        }
        for (p, q) in [(a, b), (a, c), (b, c)] {
            self.rotate(&[z(p), z(q)], -FRAC_PI_4, cond, backend)?;
        }
        self.rotate(&[z(a), z(b), z(c)], FRAC_PI_4, cond, backend)
    }

    /// Measures a product P of Paulis on distinct qubits; 1 for eigenvalue -1.
    pub(crate) fn measure<B: Backend<Frame = F>>(
        &mut self,
        p: &[(Pauli, usize)],
        site: Site,
        backend: &mut B,
    ) -> Result<F::Bit, Refusal> {
        self.tableau.pull_back(p, &mut self.q);
        self.measure_scratch(p, site, backend)
    }

    /// Measures Z_q after which q is not used, or only measured again in Z.
    pub(crate) fn measure_last<B: Backend<Frame = F>>(
        &mut self,
        q: usize,
        keep_z: bool,
        site: Site,
        backend: &mut B,
    ) -> Result<F::Bit, Refusal> {
        let p = [(Pauli::Z, q)];
        self.tableau.pull_back(&p, &mut self.q);
        if self.waiting.is_empty() {
            self.tableau.retire(q, keep_z);
            return self.measure_scratch(&p, site, backend);
        }
        // The rotations that it needs change the row.
        let outcome = self.measure_scratch(&p, site, backend);
        self.tableau.retire(q, keep_z);
        outcome
    }

    /// Whether measuring Z_q would draw.
    pub(crate) fn is_random(&mut self, q: usize) -> bool {
        self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
        self.dormant_x().is_some()
            || {
                let m = self.mask();
                m.x | m.z != 0
            }
            || self.waiting.iter().any(|w| self.q.anticommutes(self.tableau.guest_bits(w.guest).0))
    }

    /// Measures P, whose pulled-back string Q is in the scratch.
    fn measure_scratch<B: Backend<Frame = F>>(
        &mut self,
        p: &[(Pauli, usize)],
        site: Site,
        backend: &mut B,
    ) -> Result<F::Bit, Refusal> {
        if !self.waiting.is_empty() {
            self.at = site.at;
            self.perform_needed(self.q.bits.clone(), backend)?;
            self.tableau.pull_back(p, &mut self.q);
        }
        if let Some(d) = self.dormant_x() {
            // Both outcomes are equally likely. `(1 ± X_d R)/√2 |0>_d = CR H |0 or 1>_d`: afterwards P is Z_d.
            let outcome = backend.coin(site);
            self.settle(d, &outcome);
            return Ok(outcome);
        }
        let m = self.mask();
        let sign = self.frame.anticommutes(&self.q);
        if m.x | m.z == 0 {
            let mut outcome = sign;
            if m.negative {
                B::invert(&mut outcome);
            }
            return Ok(outcome);
        }
        // φ is projected and one of its qubits, v, goes dormant. As above, afterwards P is Z_v.
        // The highest bit: what is kept then lies in long stretches.
        let bit = if m.x != 0 { m.x.ilog2() } else { m.z.ilog2() };
        let outcome = backend.collapse(m, sign, bit, site);
        let v = self.active.remove(bit as usize) as usize;
        self.active_mask[v / 64] &= !(1 << (v % 64));
        self.settle(v, &outcome);
        Ok(outcome)
    }

    /// After a measurement of the scratch string Q: makes it Z_d in the structure and puts d to the outcome.
    fn settle(&mut self, d: usize, outcome: &F::Bit) {
        // Before d goes to the outcome, it is `X_d^e |0>_d`, e the outcome and whether F turns it. X_d moves past the rotations
        // that wait.
        let mut e = F::Bit::default();
        if !self.waiting.is_empty() {
            e = self.frame.anticommutes(&self.q);
            F::xor(&mut e, outcome);
        }
        let before = self.tableau.fold_controlled(&mut self.q, d, true);
        // The rest of Q goes into F where F had X on d, or Z if H has turned that to X; S leaves an X.
        let b = if before == Turn::H { self.frame.z(d) } else { self.frame.x(d) };
        self.absorb(&b);
        self.pass(d, Pauli::X, &e);
        self.frame.set(d, outcome.clone());
    }

    /// Whether measuring Z_q, [prepared](Self::prepare), takes a qubit out of the register.
    pub(crate) fn collapses(&mut self, q: usize) -> bool {
        self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
        let m = self.mask();
        self.dormant_x().is_none() && m.x | m.z != 0
    }

    /// Gives qubits that were just reset virtual qubits of their own: `U = U' ⊗ 1` with 1 on them. Returns their virtual
    /// qubits, both as states that nothing else depends on.
    pub(crate) fn detach(&mut self, qubits: &[usize]) -> Vec<usize> {
        let mut own = Vec::with_capacity(qubits.len());
        let mut taken = vec![0u64; self.tableau.words()];
        for &q in qubits {
            // Z_q is a product of Z's on dormant qubits that commutes with all that waits.
            self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
            let untaken = self.q.words().map(|(w, _, z)| (w, z & !taken[w])).find(|(_, z)| *z != 0);
            let Some((w, z)) = untaken else { unreachable!("Z's on different qubits are independent") };
            let d = w * 64 + z.trailing_zeros() as usize;
            taken[w] |= 1 << (d % 64);
            self.settle(d, &F::Bit::default());
            own.push(d);
        }
        self.tableau.isolate(qubits, &own);
        own
    }

    /// Takes over the qubits of another structure: qubit q becomes `qubits[q]`, virtual qubit v `virtuals[v]`, which are
    /// detached here, as those of the other are that are `None`. The register's bits of the other come above those here.
    pub(crate) fn adopt(&mut self, mut other: Self, qubits: &[Option<usize>], virtuals: &[Option<usize>]) {
        self.tableau.adopt(&mut other.tableau, qubits, virtuals);
        for (v, to) in virtuals.iter().enumerate() {
            if let Some(to) = *to {
                self.frame.set(to, other.frame.x(v));
            }
        }
        for v in other.active {
            let Some(to) = virtuals[v as usize] else { unreachable!("it is in no basis state") };
            self.frame.set_z(to, other.frame.z(v as usize));
            self.active.push(to as u32);
            self.active_mask[to / 64] |= 1 << (to % 64);
        }
        for w in other.waiting {
            other.tableau.guest(w.guest, &mut self.q);
            let guest = self.tableau.admit(&self.tableau.renamed(&self.q, virtuals));
            self.waiting.push_back(Waiting { guest, ..w });
        }
        self.max_active = self.max_active.max(other.max_active);
        self.peak_active = self.peak_active.max(other.peak_active).max(self.active.len() as u32);
    }

    pub(crate) fn max_active(&self) -> u32 {
        self.max_active
    }

    /// Lets more qubits be active.
    pub(crate) fn allow_active(&mut self, max_active: u32) {
        self.max_active = self.max_active.max(max_active);
    }

    /// Measures Z_q and turns the qubit to |0>.
    pub(crate) fn reset<B: Backend<Frame = F>>(
        &mut self,
        q: usize,
        site: Site,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        let outcome = self.measure(&[(Pauli::Z, q)], site, backend)?;
        self.apply_pauli(&[(Pauli::X, q)], &outcome);
        Ok(())
    }
}
