//! The exact state of one space during one shot: Clifford frame × dense register × Pauli frame.

use crate::register::{Mask, Register};
use crate::rng::{Random, Site};
use crate::tableau::{PauliString, Tableau};
use num_complex::Complex64;
use qmk_abi::image::{Clifford1, Clifford2, Op, Pauli};
use std::f64::consts::{FRAC_PI_4, SQRT_2};

/// An operation would need more active qubits than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyActive {
    /// Active qubits it would need.
    pub needed: u32,
}

/// State of n qubits, all |0> at first.
///
/// The frame F is kept random within the stabilizer group of the state (every fresh, reset or measured qubit
/// multiplies it by a random element that acts trivially), so a measurement with a random outcome reads its
/// coin off the frame, as in frame simulators (Gidney, "Stim", Quantum 5, 497 (2021)).
#[derive(Clone, Debug)]
pub struct State {
    tableau: Tableau,
    register: Register,
    /// Virtual qubit of each register bit.
    active: Vec<u32>,
    /// Bit set of active virtual qubits.
    active_mask: Vec<u64>,
    frame_x: Vec<bool>,
    frame_z: Vec<bool>,
    random: Random,
    shot: u64,
    max_active: u32,
    peak_active: u32,
    /// Scratch for pulled-back strings.
    q: PauliString,
}

impl State {
    /// n qubits in |0>. `max_active` bounds the register to `2^max_active` amplitudes.
    pub fn new(n: usize, seed: u64, shot: u64, max_active: u32) -> Self {
        let tableau = Tableau::new(n);
        let words = tableau.words();
        let mut state = State {
            tableau,
            register: Register::new(),
            active: Vec::new(),
            active_mask: vec![0; words],
            frame_x: vec![false; n],
            frame_z: vec![false; n],
            random: Random { seed },
            shot,
            max_active: max_active.min(40),
            peak_active: 0,
            q: PauliString::default(),
        };
        state.scramble(0, n);
        state
    }

    /// Random Z's on fresh qubits: they act trivially on |0>.
    fn scramble(&mut self, from: usize, to: usize) {
        for q in from..to {
            self.frame_z[q] = self.random.coin(Site { at: u32::MAX, draw: q as u32 }, self.shot);
        }
    }

    /// Adds qubits in |0> up to n.
    pub fn grow(&mut self, n: usize) {
        let old = self.tableau.qubits();
        if n > old {
            self.tableau.grow(n);
            self.active_mask.resize(self.tableau.words(), 0);
            self.frame_x.resize(n, false);
            self.frame_z.resize(n, false);
            self.scramble(old, n);
        }
    }

    /// Number of qubits.
    pub fn qubits(&self) -> usize {
        self.tableau.qubits()
    }

    /// Number of qubits that carry live magic.
    pub fn active(&self) -> u32 {
        self.active.len() as u32
    }

    /// Largest value of [`State::active`] so far.
    pub fn peak_active(&self) -> u32 {
        self.peak_active
    }

    /// Performs an operation other than `Alloc` and `Fence` (which are no-ops here). `at` numbers the
    /// instruction for its random draws; `record` receives the outcomes in the order of [`Op::writes`].
    ///
    /// # Errors
    /// [`TooManyActive`] before anything is changed.
    pub fn perform(&mut self, op: &Op, at: u32, mut record: impl FnMut(bool)) -> Result<(), TooManyActive> {
        match *op {
            Op::Alloc(_) | Op::Fence => {}
            Op::Free(q) | Op::Reset(q) => self.reset(q as usize, at),
            Op::Pauli(p, q) => self.tableau.pauli(p, q as usize),
            Op::Clifford1(g, q) => self.clifford1(g, q as usize),
            Op::Clifford2(g, a, b) => self.clifford2(g, a as usize, b as usize),
            Op::TeleportCnot(a, b) => self.clifford2(Clifford2::Cnot, a as usize, b as usize),
            Op::T(q) => self.rotate(&[(Pauli::Z, q as usize)], FRAC_PI_4)?,
            Op::Tdg(q) => self.rotate(&[(Pauli::Z, q as usize)], -FRAC_PI_4)?,
            Op::Rotate(p, q, theta) => self.rotate(&[(p, q as usize)], theta)?,
            Op::Ccz(a, b, c) => self.ccz([a as usize, b as usize, c as usize])?,
            Op::Toffoli(a, b, t) => {
                self.clifford1(Clifford1::H, t as usize);
                let done = self.ccz([a as usize, b as usize, t as usize]);
                self.clifford1(Clifford1::H, t as usize);
                done?;
            }
            Op::Measure(p, q, _) => record(self.measure(&[(p, q as usize)], Site { at, draw: 0 })),
            Op::MeasureAngle(angle, q, _) => {
                // Project on Z in the frame where cos(a/2)|0> + sin(a/2)|1> = Ry(a)|0> is |0>.
                self.rotate(&[(Pauli::Y, q as usize)], -angle)?;
                record(self.measure(&[(Pauli::Z, q as usize)], Site { at, draw: 0 }));
                // A basis state costs no more active qubits than the first rotation did.
                self.rotate(&[(Pauli::Y, q as usize)], angle)?;
            }
            Op::MeasureBell(a, b, ..) => {
                let (a, b) = (a as usize, b as usize);
                record(self.measure(&[(Pauli::X, a), (Pauli::X, b)], Site { at, draw: 0 }));
                record(self.measure(&[(Pauli::Z, a), (Pauli::Z, b)], Site { at, draw: 1 }));
            }
            Op::InjectT(q) => {
                if self.active() >= self.max_active && !self.is_active_z(q as usize) {
                    return Err(TooManyActive { needed: self.active() + 1 });
                }
                self.reset(q as usize, at);
                self.clifford1(Clifford1::H, q as usize);
                self.rotate(&[(Pauli::Z, q as usize)], FRAC_PI_4)?;
            }
        }
        Ok(())
    }

    /// Whether resetting q is certain to retire an active qubit.
    fn is_active_z(&mut self, q: usize) -> bool {
        self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
        self.dormant_x().is_none() && {
            let m = self.mask();
            m.x | m.z != 0
        }
    }

    /// A Pauli that is conditional on outcomes: goes to the frame, so that the structure stays shared between shots.
    pub fn frame_pauli(&mut self, p: Pauli, q: usize) {
        self.frame_x[q] ^= p != Pauli::Z;
        self.frame_z[q] ^= p != Pauli::X;
    }

    fn clifford1(&mut self, g: Clifford1, q: usize) {
        match g {
            Clifford1::H => {
                self.tableau.h(q);
                std::mem::swap(&mut self.frame_x[q], &mut self.frame_z[q]);
            }
            Clifford1::S | Clifford1::Sdg => {
                self.tableau.s(q, g == Clifford1::Sdg);
                self.frame_z[q] ^= self.frame_x[q];
            }
            Clifford1::Sx | Clifford1::Sxdg => {
                self.tableau.sx(q, g == Clifford1::Sxdg);
                self.frame_x[q] ^= self.frame_z[q];
            }
        }
    }

    fn clifford2(&mut self, g: Clifford2, a: usize, b: usize) {
        match g {
            Clifford2::Cnot => {
                self.tableau.cnot(a, b);
                self.frame_x[b] ^= self.frame_x[a];
                self.frame_z[a] ^= self.frame_z[b];
            }
            Clifford2::Cz => {
                self.tableau.cz(a, b);
                self.frame_z[a] ^= self.frame_x[b];
                self.frame_z[b] ^= self.frame_x[a];
            }
            Clifford2::Swap => {
                self.tableau.swap(a, b);
                self.frame_x.swap(a, b);
                self.frame_z.swap(a, b);
            }
        }
    }

    /// Whether the frame anticommutes with a product of Paulis.
    fn frame_flips(&self, p: &[(Pauli, usize)]) -> bool {
        p.iter()
            .fold(false, |flip, &(p, q)| flip ^ (p != Pauli::Z && self.frame_z[q]) ^ (p != Pauli::X && self.frame_x[q]))
    }

    /// First dormant virtual qubit on which the scratch string has X or Y.
    fn dormant_x(&self) -> Option<usize> {
        self.q.x.iter().zip(&self.active_mask).enumerate().find_map(|(w, (x, a))| {
            let bits = x & !a;
            (bits != 0).then(|| w * 64 + bits.trailing_zeros() as usize)
        })
    }

    /// Z on a dormant qubit acts trivially: drop it, so that folds touch fewer columns.
    fn drop_dormant_z(&mut self, keep: Option<usize>) {
        let kept = keep.map(|d| (d / 64, self.q.z[d / 64] & 1 << (d % 64) & !self.active_mask[d / 64]));
        for ((z, x), a) in self.q.z.iter_mut().zip(&self.q.x).zip(&self.active_mask) {
            // A dormant Y is kept whole: removing its Z would need a phase.
            *z &= a | x;
        }
        if let Some((w, bit)) = kept {
            self.q.z[w] |= bit;
        }
    }

    /// The scratch string restricted to register bits.
    fn mask(&self) -> Mask {
        let mut m = Mask { x: 0, z: 0, negative: self.q.negative };
        for (bit, &v) in self.active.iter().enumerate() {
            let (w, s) = (v as usize / 64, v % 64);
            m.x |= (self.q.x[w] >> s & 1) << bit;
            m.z |= (self.q.z[w] >> s & 1) << bit;
        }
        m
    }

    /// Applies `exp(-i θ/2 P)` for a product P of Paulis on distinct qubits.
    fn rotate(&mut self, p: &[(Pauli, usize)], theta: f64) -> Result<(), TooManyActive> {
        let theta = if self.frame_flips(p) { -theta } else { theta };
        self.tableau.pull_back(p, &mut self.q);
        match self.dormant_x() {
            None => {
                let m = self.mask();
                // An identity is a global phase.
                if m.x | m.z != 0 {
                    self.register.rotate(m, theta);
                }
            }
            Some(d) => {
                if self.active() >= self.max_active {
                    return Err(TooManyActive { needed: self.active() + 1 });
                }
                self.drop_dormant_z(Some(d));
                let mut q = std::mem::take(&mut self.q);
                // Q = ±X_d R; the sign stays with R, which is applied when d is |1>.
                self.tableau.fold_controlled(&mut q, d, false);
                self.q = q;
                self.register.push(theta);
                self.active.push(d as u32);
                self.active_mask[d / 64] |= 1 << (d % 64);
                self.peak_active = self.peak_active.max(self.active());
            }
        }
        Ok(())
    }

    /// CCZ as seven commuting rotations: `|111><111| = (1-Z_a)(1-Z_b)(1-Z_c)/8`.
    fn ccz(&mut self, [a, b, c]: [usize; 3]) -> Result<(), TooManyActive> {
        let needed = self.active() + self.fresh_rank(&[a, b, c]);
        if needed > self.max_active {
            return Err(TooManyActive { needed });
        }
        let z = |q| (Pauli::Z, q);
        for q in [a, b, c] {
            self.rotate(&[z(q)], FRAC_PI_4)?;
        }
        for (p, q) in [(a, b), (a, c), (b, c)] {
            self.rotate(&[z(p), z(q)], -FRAC_PI_4)?;
        }
        self.rotate(&[z(a), z(b), z(c)], FRAC_PI_4)
    }

    /// How many qubits rotations about the Z's of `qubits` would activate: the rank of the X parts of their
    /// pulled-back strings on dormant qubits.
    fn fresh_rank(&mut self, qubits: &[usize]) -> u32 {
        let mut basis: Vec<Vec<u64>> = Vec::new();
        for &q in qubits {
            self.tableau.pull_back(&[(Pauli::Z, q)], &mut self.q);
            let mut row: Vec<u64> = self.q.x.iter().zip(&self.active_mask).map(|(x, a)| x & !a).collect();
            for b in &basis {
                let lead = leading(b).expect("basis rows are nonzero");
                if row[lead / 64] >> (lead % 64) & 1 == 1 {
                    row.iter_mut().zip(b).for_each(|(r, b)| *r ^= b);
                }
            }
            if leading(&row).is_some() {
                basis.push(row);
            }
        }
        basis.len() as u32
    }

    /// Measures a product P of Paulis on distinct qubits; true for eigenvalue -1.
    fn measure(&mut self, p: &[(Pauli, usize)], site: Site) -> bool {
        let (outcome, _) = self.measure_with_reference(p, site);
        outcome
    }

    /// As `measure`; also the value that the structure `U(|φ>|0>)` without the frame now has.
    fn measure_with_reference(&mut self, p: &[(Pauli, usize)], site: Site) -> (bool, bool) {
        self.tableau.pull_back(p, &mut self.q);
        let mut reference = false;
        if let Some(d) = self.dormant_x() {
            // A fair coin, already in the frame. The structure takes the outcome +1.
            self.drop_dormant_z(Some(d));
            let mut q = std::mem::take(&mut self.q);
            self.tableau.fold_controlled(&mut q, d, true);
            self.q = q;
        } else {
            let m = self.mask();
            if m.x | m.z == 0 {
                let outcome = self.q.negative ^ self.frame_flips(p);
                return (outcome, self.q.negative);
            }
            reference = self.collapse(m, site);
        }
        let outcome = reference ^ self.frame_flips(p);
        // The state is now stabilized by P: a random P is trivial.
        if self.random.coin(site, self.shot) {
            for &(p, q) in p {
                self.frame_pauli(p, q);
            }
        }
        (outcome, reference)
    }

    /// Projects the register on an eigenspace of the mask, retires one qubit, and puts the outcome into the frame. Returns the
    /// eigenvalue bit the structure has afterwards.
    fn collapse(&mut self, m: Mask, site: Site) -> bool {
        let mut expectation = Vec::new();
        self.register.expectation(m, &mut expectation);
        let p_minus = (1.0 - expectation[0]) / 2.0;
        // Rounding must not let an impossible outcome happen.
        let p_minus = if p_minus < 1e-14 {
            0.0
        } else if p_minus > 1.0 - 1e-14 {
            1.0
        } else {
            p_minus
        };
        let minus = self.random.uniform(site, self.shot) < p_minus;
        let bit = if m.x != 0 { m.x.trailing_zeros() } else { m.z.trailing_zeros() };
        self.register.project_in_place(m, bit, &[minus]);
        let v = self.active.remove(bit as usize) as usize;
        self.drop_dormant_z(None);
        // Either way the structure keeps v dormant in |0>; a |1> is an X on v, kept in the frame.
        let (reference, flip) = if m.x != 0 {
            // Register was CR H |minus>: same fold as for a random outcome.
            let mut q = std::mem::take(&mut self.q);
            self.tableau.fold_controlled(&mut q, v, true);
            self.q = q;
            (false, minus)
        } else {
            // Bit v was outcome ^ sign ^ parity of the other bits of the string.
            for (b, &c) in self.active.iter().enumerate() {
                // Positions above `bit` have moved down by one.
                let original = if b as u32 >= bit { b + 1 } else { b };
                if m.z >> original & 1 == 1 {
                    self.tableau.fold_cnot(c as usize, v);
                }
            }
            (m.negative, minus ^ m.negative)
        };
        self.active_mask[v / 64] &= !(1 << (v % 64));
        if flip {
            let (fx, fz) = (&mut self.frame_x, &mut self.frame_z);
            self.tableau.push_forward_x(v, |q, x, z| {
                fx[q] ^= x;
                fz[q] ^= z;
            });
        }
        reference
    }

    fn reset(&mut self, q: usize, at: u32) {
        let (_, reference) = self.measure_with_reference(&[(Pauli::Z, q)], Site { at, draw: 0 });
        if reference {
            self.tableau.pauli(Pauli::X, q);
        }
        self.frame_x[q] = false;
    }

    /// The 2^n amplitudes, bit q of an index being qubit q; up to a global phase. For tests and debugging.
    ///
    /// # Panics
    /// If n is above 20.
    pub fn amplitudes(&self) -> Vec<Complex64> {
        let n = self.qubits();
        assert!(n <= 20, "2^{n} amplitudes");
        let zero = Complex64::new(0.0, 0.0);
        // U Z_v U† and U X_v U† as masks over physical qubits.
        let forward = |pauli: Pauli, v: usize| -> Mask {
            let mut m = Mask { x: 0, z: 0, negative: false };
            let mut factors = Vec::new();
            for q in 0..n {
                let anti = |row: Pauli| {
                    let mut s = PauliString::default();
                    self.tableau.pull_back(&[(row, q)], &mut s);
                    let bits = if pauli == Pauli::Z { &s.x } else { &s.z };
                    bits[v / 64] >> (v % 64) & 1 == 1
                };
                let (x, z) = (anti(Pauli::Z), anti(Pauli::X));
                m.x |= (x as u64) << q;
                m.z |= (z as u64) << q;
                match (x, z) {
                    (true, true) => factors.push((Pauli::Y, q)),
                    (true, false) => factors.push((Pauli::X, q)),
                    (false, true) => factors.push((Pauli::Z, q)),
                    _ => {}
                }
            }
            let mut back = PauliString::default();
            self.tableau.pull_back(&factors, &mut back);
            m.negative = back.negative;
            m
        };
        let apply = |v: &[Complex64], p: Mask| -> Vec<Complex64> {
            let mut out = vec![zero; v.len()];
            for (b, a) in v.iter().enumerate() {
                out[b ^ p.x as usize] += p.phase(b as u64) * a;
            }
            out
        };
        // U|0>: project some basis state on the +1 eigenspace of every U Z_v U†.
        let stabilizers: Vec<Mask> = (0..n).map(|v| forward(Pauli::Z, v)).collect();
        let ground = (0..1usize << n)
            .find_map(|b| {
                let mut v = vec![zero; 1 << n];
                v[b] = Complex64::new(1.0, 0.0);
                for &s in &stabilizers {
                    let sv = apply(&v, s);
                    v.iter_mut().zip(sv).for_each(|(a, b)| *a = (*a + b) / SQRT_2);
                }
                let norm: f64 = v.iter().map(Complex64::norm_sqr).sum();
                (norm > 1e-9).then(|| v.into_iter().map(|a| a / norm.sqrt()).collect::<Vec<_>>())
            })
            .expect("a stabilizer state overlaps some basis state");
        let flips: Vec<Mask> = self.active.iter().map(|&v| forward(Pauli::X, v as usize)).collect();
        let mut psi = vec![zero; 1 << n];
        for (b, amp) in self.register.amplitudes(0).iter().enumerate() {
            let mut term = ground.clone();
            for (i, &f) in flips.iter().enumerate() {
                if b >> i & 1 == 1 {
                    term = apply(&term, f);
                }
            }
            psi.iter_mut().zip(term).for_each(|(p, t)| *p += amp * t);
        }
        let frame = (0..n).fold(Mask { x: 0, z: 0, negative: false }, |m, q| Mask {
            x: m.x | (self.frame_x[q] as u64) << q,
            z: m.z | (self.frame_z[q] as u64) << q,
            ..m
        });
        apply(&psi, frame)
    }
}

fn leading(row: &[u64]) -> Option<usize> {
    row.iter().position(|&w| w != 0).map(|w| w * 64 + row[w].trailing_zeros() as usize)
}
