//! The scheduler: which strand starts, which instruction is issued, whose shots the device works on. Where to start:
//! [`epoch`], one epoch of the machine from end to end, with what it promises against starvation.
//!
//! `start` gives waiting strands their qubits. `turn` and `fair_queue` order the contexts within an epoch, `frontier`
//! the instructions within a strand. `region` has the resources of an epoch, `deadline` reserves them ahead, and
//! `drain` shares the device's time.

pub(crate) mod deadline;
pub(crate) mod drain;
pub(crate) mod epoch;
pub(crate) mod fair_queue;
pub(crate) mod frontier;
pub(crate) mod region;
pub(crate) mod start;
pub(crate) mod turn;
