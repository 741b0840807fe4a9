//! The effect of each operation on a state.

use super::backend::{Backend, Frame};
use super::frame_state::FrameState;
use super::refusal::Refusal;
use crate::rng::DrawSite;
use qmk_abi::caps::Rights;
use qmk_abi::image::{Clifford1, Clifford2, Op, Pauli};
use std::f64::consts::{FRAC_PI_2, FRAC_PI_4};

/// Bytes that the strings of deferred rotations may take.
const MAX_DEFERRED_BYTES: usize = 1 << 28;
/// The most rotations of one operation: those of a CCZ.
const PER_OPERATION: usize = 7;

impl<F: Frame + Default> FrameState<F> {
    /// Performs an operation where `cond` holds; `Alloc` and `Fence` have no effect here. `at` numbers the instruction
    /// for its draws. `record` receives the outcomes in the order of [`Op::writes`].
    ///
    /// # Errors
    /// If a rotation cannot be performed, or the operation cannot be conditional. Where rotations are deferred, the
    /// operation has then had no effect, except for the first half of a `MeasureBell` that was not
    /// [prepared](Self::prepare).
    pub(crate) fn perform<B: Backend<Frame = F>>(
        &mut self,
        op: &Op,
        at: u32,
        cond: Option<&F::Bit>,
        backend: &mut B,
        mut record: impl FnMut(F::Bit),
    ) -> Result<(), Refusal> {
        let site = |draw| DrawSite { at, draw };
        self.at = at;
        // Only this and a measurement perform rotations, so only they can refuse.
        let rotates = cond.is_some() || op.class().contains(Rights::MAGIC);
        if rotates && (self.deferred.len() + PER_OPERATION) * 16 * self.tableau.words() >= MAX_DEFERRED_BYTES {
            self.perform_deferred(backend)?;
        }
        match (*op, cond) {
            (Op::Alloc(_) | Op::Fence, _) => {}
            (Op::Pauli(p, q), None) => self.tableau.pauli(p, q as usize),
            (Op::Pauli(p, q), Some(c)) => self.apply_pauli(&[(p, q as usize)], c),
            (Op::Clifford1(g, q), None) => self.clifford1(g, q as usize),
            (Op::Clifford2(g, a, b), None) => self.clifford2(g, a as usize, b as usize),
            (Op::TeleportCnot(a, b), None) => self.clifford2(Clifford2::Cnot, a as usize, b as usize),
            (Op::Clifford1(g, q), Some(c)) => self.conditional_clifford1(g, q as usize, c, backend)?,
            (Op::Clifford2(g, a, b), Some(c)) => self.conditional_clifford2(g, [a as usize, b as usize], c, backend)?,
            (Op::TeleportCnot(a, b), Some(c)) => {
                self.conditional_clifford2(Clifford2::Cnot, [a as usize, b as usize], c, backend)?;
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

    /// A Clifford gate where `cond` holds: a rotation by a quarter turn, up to a phase.
    fn conditional_clifford1<B: Backend<Frame = F>>(
        &mut self,
        g: Clifford1,
        q: usize,
        cond: &F::Bit,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        let (axis, theta) = match g {
            Clifford1::S => (Pauli::Z, FRAC_PI_2),
            Clifford1::Sdg => (Pauli::Z, -FRAC_PI_2),
            Clifford1::Sx => (Pauli::X, FRAC_PI_2),
            Clifford1::Sxdg => (Pauli::X, -FRAC_PI_2),
            Clifford1::H => {
                // H = Ry(π/2) Z.
                self.apply_pauli(&[(Pauli::Z, q)], cond);
                (Pauli::Y, FRAC_PI_2)
            }
        };
        self.rotate(&[(axis, q)], theta, Some(cond), backend)
    }

    /// A two-qubit Clifford gate where `cond` holds: three commuting rotations by a quarter turn, up to a phase.
    fn conditional_clifford2<B: Backend<Frame = F>>(
        &mut self,
        g: Clifford2,
        [a, b]: [usize; 2],
        cond: &F::Bit,
        backend: &mut B,
    ) -> Result<(), Refusal> {
        let second = match g {
            Clifford2::Cz => Pauli::Z,
            Clifford2::Cnot => Pauli::X,
            Clifford2::Swap => {
                for p in [Pauli::X, Pauli::Y, Pauli::Z] {
                    self.rotate(&[(p, a), (p, b)], -FRAC_PI_2, Some(cond), backend)?;
                }
                return Ok(());
            }
        };
        // exp(iπ/4 (1-Z)(1-P)).
        let (a, b) = ((Pauli::Z, a), (second, b));
        self.rotate(&[a], FRAC_PI_2, Some(cond), backend)?;
        self.rotate(&[b], FRAC_PI_2, Some(cond), backend)?;
        self.rotate(&[a, b], -FRAC_PI_2, Some(cond), backend)
    }
}
