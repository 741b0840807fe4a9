//! The account of everything that is taken and given back: strands, logical qubits and physical qubits.

use crate::errors::{Checked, broken};

/// An amount of strands and qubits: the holding of one strand or one interactive qubit, or the sum of those of a
/// domain, a context, a region or a session holds.
///
/// A sum equals the amounts that were taken and not given back. It is changed by [`Holding::take`] and
/// [`Holding::give_back`] alone, and the fields are private so that no other code adds or subtracts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Holding {
    strands: u32,
    qubits: u32,
    physical: u64,
}

impl Holding {
    /// One strand, before it holds qubits.
    pub(crate) const STRAND: Holding = Holding { strands: 1, qubits: 0, physical: 0 };

    /// Logical qubits, with the physical qubits of their patches.
    pub(crate) const fn qubits_of(qubits: u32, physical: u64) -> Self {
        Holding { strands: 0, qubits, physical }
    }

    /// Adds a strand, as a session's budget counts it from its spawn on together with its qubits.
    pub(crate) const fn and_strand(self) -> Self {
        Holding { strands: self.strands + 1, ..self }
    }

    #[inline]
    pub(crate) const fn strands(&self) -> u32 {
        self.strands
    }

    /// Logical qubits.
    #[inline]
    pub(crate) const fn qubits(&self) -> u32 {
        self.qubits
    }

    /// Physical qubits.
    #[inline]
    pub(crate) const fn physical(&self) -> u64 {
        self.physical
    }

    /// The sum after `part` is taken as well; `None` if it cannot be counted.
    pub(crate) fn plus(&self, part: Holding) -> Option<Holding> {
        Some(Holding {
            strands: self.strands.checked_add(part.strands)?,
            qubits: self.qubits.checked_add(part.qubits)?,
            physical: self.physical.checked_add(part.physical)?,
        })
    }

    /// Counts `part` as held.
    ///
    /// # Errors
    /// The sum does not fit its type, which quotas and the machine's size exclude.
    pub(crate) fn take(&mut self, part: Holding) -> Checked {
        *self = self.plus(part).ok_or_else(|| broken("more is held than can be counted"))?;
        Ok(())
    }

    /// Counts `part` as given back.
    ///
    /// # Errors
    /// Less than `part` is held: something was given back twice, or to the wrong account.
    pub(crate) fn give_back(&mut self, part: Holding) -> Checked {
        let left = || {
            Some(Holding {
                strands: self.strands.checked_sub(part.strands)?,
                qubits: self.qubits.checked_sub(part.qubits)?,
                physical: self.physical.checked_sub(part.physical)?,
            })
        };
        *self = left().ok_or_else(|| broken("more is given back than was held"))?;
        Ok(())
    }
}
