//! What an operation does to a state `U F (|φ> ⊗ |0…0>)`: U a Clifford, F a Pauli on virtual qubits, φ a dense register over
//! the *active* virtual qubits, the others *dormant*.
//!
//! F on a dormant qubit is an X or nothing: it says which basis state the qubit is in. The rules do not care what F's bits
//! are. With plain bits they run one shot; with expressions over coins and outcomes they plan all
//! shots at once. [`Backend`] is that choice.

use crate::bits::Turn;
use crate::register::Mask;
use crate::rng::Site;
use crate::tableau::{PauliString, Tableau};
use qmk_abi::image::{Clifford1, Clifford2, Op, Pauli};
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};

/// The frame F of one structure.
pub(crate) trait Frame {
    type Bit: Clone + Default;

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
    /// It would need this many active qubits.
    TooManyActive(u32),
    /// It cannot depend on a condition that differs between shots of one plan.
    Conditional,
}

#[derive(Clone, Debug)]
pub(crate) struct Structure<F> {
    tableau: Tableau,
    frame: F,
    /// Virtual qubit of each register bit.
    active: Vec<u32>,
    /// Bit set of active virtual qubits.
    active_mask: Vec<u64>,
    max_active: u32,
    peak_active: u32,
    /// Scratch for pulled-back strings.
    q: PauliString,
}

impl<F: Frame + Default> Structure<F> {
    /// n qubits in |0>.
    pub(crate) fn new(n: usize, max_active: u32) -> Self {
        let tableau = Tableau::new(n);
        let words = tableau.words();
        let mut frame = F::default();
        frame.resize(words);
        Structure {
            tableau,
            frame,
            active: Vec::new(),
            active_mask: vec![0; words],
            max_active: max_active.min(40),
            peak_active: 0,
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
    pub(crate) fn perform<B: Backend<Frame = F>>(
        &mut self,
        op: &Op,
        at: u32,
        cond: Option<&F::Bit>,
        backend: &mut B,
        mut record: impl FnMut(F::Bit),
    ) -> Result<(), Refusal> {
        let site = |draw| Site { at, draw };
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
            (Op::Free(q) | Op::Reset(q), _) => self.reset(q as usize, site(0), backend),
            (Op::Measure(p, q, _), _) => record(self.measure(&[(p, q as usize)], site(0), backend)),
            (Op::MeasureAngle(angle, q, _), _) => {
                // Project on Z in the frame where cos(a/2)|0> + sin(a/2)|1> = Ry(a)|0> is |0>.
                let q = q as usize;
                self.rotate(&[(Pauli::Y, q)], -angle, None, backend)?;
                record(self.measure(&[(Pauli::Z, q)], site(0), backend));
                // A basis state costs no more active qubits than the first rotation did.
                self.rotate(&[(Pauli::Y, q)], angle, None, backend)?;
            }
            (Op::MeasureBell(a, b, ..), _) => {
                let (a, b) = (a as usize, b as usize);
                record(self.measure(&[(Pauli::X, a), (Pauli::X, b)], site(0), backend));
                record(self.measure(&[(Pauli::Z, a), (Pauli::Z, b)], site(1), backend));
            }
            (Op::InjectT(q), _) => {
                let q = q as usize;
                if self.active.len() as u32 >= self.max_active && !self.retires_active(q) {
                    return Err(Refusal::TooManyActive(self.active.len() as u32 + 1));
                }
                self.reset(q, site(0), backend);
                self.clifford1(Clifford1::H, q);
                self.rotate(&[(Pauli::Z, q)], FRAC_PI_4, None, backend)?;
            }
        }
        Ok(())
    }

    /// Whether resetting q is certain to retire an active qubit.
    fn retires_active(&mut self, q: usize) -> bool {
        self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
        self.dormant_x().is_none() && {
            let m = self.mask();
            m.x | m.z != 0
        }
    }

    /// A Pauli that depends on the shot goes to the frame, so that the structure stays shared between shots.
    pub(crate) fn apply_pauli(&mut self, p: &[(Pauli, usize)], bit: &F::Bit) {
        self.tableau.pull_back(p, &mut self.q);
        self.frame.absorb(&self.q, bit, &self.active_mask);
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

    /// Applies `exp(-i θ/2 P)` for a product P of Paulis on distinct qubits, where `cond` holds.
    fn rotate<B: Backend<Frame = F>>(
        &mut self,
        p: &[(Pauli, usize)],
        theta: f64,
        cond: Option<&F::Bit>,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        self.tableau.pull_back(p, &mut self.q);
        match self.dormant_x() {
            None => {
                let m = self.mask();
                // An identity is a global phase.
                if m.x | m.z != 0 {
                    let sign = self.frame.anticommutes(&self.q);
                    backend.rotate(m, theta, sign, cond);
                }
            }
            Some(d) => {
                if self.active.len() as u32 >= self.max_active {
                    return Err(Refusal::TooManyActive(self.active.len() as u32 + 1));
                }
                // Q = X_d R: `exp(-iθ/2 Q)|0>_d|χ> = CR (exp(-iθ/2 X_d)|0>_d)|χ>`, CR = "R controlled by d". F = X_d^b G becomes
                // `X_d^b R^b G Z_d^f`, f the commutation of G with R. It also turns θ to (-1)^f θ, and since
                // `Z exp(iθ/2 X)|0> = exp(-iθ/2 X)|0>`, both f's cancel: the angle is the same for all shots.
                self.fold(d, false);
                self.active.push(d as u32);
                self.active_mask[d / 64] |= 1 << (d % 64);
                self.peak_active = self.peak_active.max(self.active.len() as u32);
                backend.push(theta, cond);
            }
        }
        Ok(())
    }

    /// Folds "R controlled by d" into U for the scratch string `X_d R`, and R^b into F, where F had X_d^b.
    fn fold(&mut self, d: usize, hadamard: bool) {
        let before = self.tableau.fold_controlled(&mut self.q, d, hadamard);
        // H turns F's Z on d into the X that R goes with; S leaves its X.
        let b = if before == Turn::H { self.frame.z(d) } else { self.frame.x(d) };
        self.frame.absorb(&self.q, &b, &self.active_mask);
    }

    /// CCZ as seven commuting rotations: `|111><111| = (1-Z_a)(1-Z_b)(1-Z_c)/8`.
    fn ccz<B: Backend<Frame = F>>(
        &mut self,
        [a, b, c]: [usize; 3],
        cond: Option<&F::Bit>,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        let needed = self.active.len() as u32 + self.fresh_rank(&[a, b, c]);
        if needed > self.max_active {
            return Err(Refusal::TooManyActive(needed));
        }
        let z = |q| (Pauli::Z, q);
        for q in [a, b, c] {
            self.rotate(&[z(q)], FRAC_PI_4, cond, backend)?;
        }
        for (p, q) in [(a, b), (a, c), (b, c)] {
            self.rotate(&[z(p), z(q)], -FRAC_PI_4, cond, backend)?;
        }
        self.rotate(&[z(a), z(b), z(c)], FRAC_PI_4, cond, backend)
    }

    /// How many qubits rotations about the Z's of `qubits` would activate: the rank of the X parts of their
    /// pulled-back strings on dormant qubits.
    fn fresh_rank(&mut self, qubits: &[usize]) -> u32 {
        let mut basis: Vec<(usize, Vec<u64>)> = Vec::new();
        for &q in qubits {
            self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
            let mut row = vec![0; self.tableau.words()];
            for (w, x, _) in self.q.words() {
                row[w] = x & !self.active_mask[w];
            }
            for (lead, b) in &basis {
                if row[lead / 64] >> (lead % 64) & 1 == 1 {
                    row.iter_mut().zip(b).for_each(|(r, b)| *r ^= b);
                }
            }
            if let Some(w) = row.iter().position(|&w| w != 0) {
                basis.push((w * 64 + row[w].trailing_zeros() as usize, row));
            }
        }
        basis.len() as u32
    }

    /// Measures a product P of Paulis on distinct qubits; 1 for eigenvalue -1.
    pub(crate) fn measure<B: Backend<Frame = F>>(
        &mut self,
        p: &[(Pauli, usize)],
        site: Site,
        backend: &mut B,
    ) -> F::Bit {
        self.tableau.pull_back(p, &mut self.q);
        self.measure_scratch(site, backend)
    }

    /// Measures Z_q after which q is not used, or only measured again in Z.
    pub(crate) fn measure_last<B: Backend<Frame = F>>(
        &mut self,
        q: usize,
        keep_z: bool,
        site: Site,
        backend: &mut B,
    ) -> F::Bit {
        self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
        self.tableau.retire(q, keep_z);
        self.measure_scratch(site, backend)
    }

    /// Whether measuring Z_q would draw.
    pub(crate) fn is_random(&mut self, q: usize) -> bool {
        self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
        self.dormant_x().is_some() || {
            let m = self.mask();
            m.x | m.z != 0
        }
    }

    fn measure_scratch<B: Backend<Frame = F>>(&mut self, site: Site, backend: &mut B) -> F::Bit {
        if let Some(d) = self.dormant_x() {
            // Both outcomes are equally likely. `(1 ± X_d R)/√2 |0>_d = CR H |0 or 1>_d`: afterwards P is Z_d.
            let outcome = backend.coin(site);
            self.fold(d, true);
            self.frame.set(d, outcome.clone());
            return outcome;
        }
        let m = self.mask();
        let sign = self.frame.anticommutes(&self.q);
        if m.x | m.z == 0 {
            let mut outcome = sign;
            if m.negative {
                B::invert(&mut outcome);
            }
            return outcome;
        }
        // φ is projected and one of its qubits, v, goes dormant. As above, afterwards P is Z_v.
        // The highest bit: what is kept then lies in long stretches.
        let bit = if m.x != 0 { m.x.ilog2() } else { m.z.ilog2() };
        let outcome = backend.collapse(m, sign, bit, site);
        let v = self.active.remove(bit as usize) as usize;
        self.active_mask[v / 64] &= !(1 << (v % 64));
        self.fold(v, true);
        self.frame.set(v, outcome.clone());
        outcome
    }

    fn reset<B: Backend<Frame = F>>(&mut self, q: usize, site: Site, backend: &mut B) {
        let outcome = self.measure(&[(Pauli::Z, q)], site, backend);
        self.apply_pauli(&[(Pauli::X, q)], &outcome);
    }
}
