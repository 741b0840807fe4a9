//! The tables of the machine: spaces, the states of those that are interactive, and saved states.

use super::refusal::{no_space, not_a_program, not_interactive};
use super::shared_state::SharedState;
use super::space::{InteractiveSpace, ProgramSpace, Snapshot, Space};
use crate::ledger::Ledger;
use num_complex::Complex64;
use qmk_hal::{DeviceError, Features, LinkSpec, MachineSpec, SpaceId};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Size of the simulated machine.
#[derive(Clone, Debug)]
pub struct SimConfig {
    /// Logical qubits.
    pub logical_qubits: u32,
    /// Two-qubit operations routed per epoch.
    pub routes_per_epoch: u32,
    /// Magic states delivered per epoch.
    pub magic_per_epoch: u32,
    /// Magic states kept in stock; four epochs' deliveries, but at least 64, if `None`.
    pub magic_buffer: Option<u32>,
    /// Patches decoded per epoch; all logical qubits if `None`, so that there is no backlog.
    pub decoded_per_epoch: Option<u32>,
    /// Raw pairs between spaces.
    pub link: LinkSpec,
    /// Whether states can be saved.
    pub snapshot: bool,
    /// Bytes that all states may take: amplitudes, tableaus, saved states, outcomes.
    pub state_bytes: u64,
    /// Bytes that the states of one owner may take; half of all if `None`.
    pub owner_state_bytes: Option<u64>,
    /// Threads that run shots; 0 for one on each core. Outcomes do not depend on it.
    pub threads: usize,
}

impl Default for SimConfig {
    fn default() -> Self {
        SimConfig {
            logical_qubits: 10_000,
            routes_per_epoch: 5_000,
            magic_per_epoch: 64,
            magic_buffer: None,
            decoded_per_epoch: None,
            // A Werner state of fidelity 0.95.
            link: LinkSpec { raw: [0.95, 0.05 / 3.0, 0.05 / 3.0, 0.05 / 3.0], pairs_per_epoch: 16 },
            snapshot: true,
            state_bytes: u64::MAX,
            owner_state_bytes: None,
            threads: 0,
        }
    }
}

/// The simulated logical-qubit machine.
#[derive(Debug)]
pub struct SimDevice {
    pub(super) spec: MachineSpec,
    pub(super) threads: usize,
    pub(super) ledger: Arc<Ledger>,
    pub(super) spaces: BTreeMap<u32, Space>,
    pub(super) next_space: u32,
    /// States of interactive spaces; `None` while work on one is out.
    pub(super) states: BTreeMap<u32, Option<Box<SharedState>>>,
    pub(super) next_state: u32,
    pub(super) snapshots: BTreeMap<u32, Snapshot>,
    pub(super) next_snapshot: u32,
    /// Spaces that were closed while work on them, or on their state, was out.
    pub(super) closing: BTreeSet<u32>,
}

impl SimDevice {
    /// A machine of the given size.
    pub fn new(config: SimConfig) -> Self {
        let magic_per_epoch = config.magic_per_epoch.max(1);
        SimDevice {
            spec: MachineSpec {
                logical_qubits: config.logical_qubits,
                routes_per_epoch: config.routes_per_epoch.max(2),
                magic_per_epoch,
                magic_buffer: config.magic_buffer.unwrap_or(magic_per_epoch.saturating_mul(4).max(64)),
                decoded_per_epoch: config.decoded_per_epoch.unwrap_or(config.logical_qubits),
                link: config.link,
                features: Features { snapshot: config.snapshot },
            },
            threads: match config.threads {
                0 => std::thread::available_parallelism().map_or(1, usize::from),
                n => n,
            },
            ledger: Ledger::new(config.state_bytes, config.owner_state_bytes.unwrap_or(config.state_bytes / 2)),
            spaces: BTreeMap::new(),
            next_space: 0,
            states: BTreeMap::new(),
            next_state: 0,
            snapshots: BTreeMap::new(),
            next_snapshot: 0,
            closing: BTreeSet::new(),
        }
    }

    /// The amplitudes of the state that an interactive space is part of, up to a global phase: 2^n of them for n
    /// qubits. An index has a bit for each register that has been named, from the lowest up in order of space id, then
    /// of register. Above are bits of qubits of closed spaces and of qubits that were reset, as long as too many active
    /// qubits were needed to measure them. `None` for other spaces, for more than 20 qubits, and while work is out. For
    /// tests and debugging.
    pub fn amplitudes(&self, space: SpaceId) -> Option<Vec<Complex64>> {
        let Space::Interactive(this) = self.spaces.get(&space.0)? else { return None };
        let state = self.states.get(&this.state)?.as_ref()?;
        let spaces = state.spaces().iter().filter_map(|id| self.spaces.get(id));
        let registers = spaces.filter_map(|s| match s {
            Space::Interactive(other) => Some(other.memory.registers.values().copied()),
            Space::Program(_) => None,
        });
        state.amplitudes(registers.flatten())
    }

    /// Bytes that all states take at present.
    pub fn state_bytes(&self) -> u64 {
        self.ledger.taken()
    }

    #[inline]
    pub(super) fn program(&mut self, id: SpaceId) -> Result<&mut ProgramSpace, DeviceError> {
        match self.spaces.get_mut(&id.0) {
            Some(Space::Program(space)) => Ok(space),
            Some(Space::Interactive(_)) => Err(not_a_program()),
            None => Err(no_space()),
        }
    }

    pub(super) fn interactive_space(&mut self, id: SpaceId) -> Result<&mut InteractiveSpace, DeviceError> {
        match self.spaces.get_mut(&id.0) {
            Some(Space::Interactive(space)) => Ok(space),
            Some(Space::Program(_)) => Err(not_interactive()),
            None => Err(no_space()),
        }
    }

    /// Takes a state into work.
    pub(super) fn take_state(&mut self, number: u32) -> Result<Box<SharedState>, DeviceError> {
        self.states.get_mut(&number).ok_or_else(no_space)?.take().ok_or(DeviceError::Busy)
    }

    /// Takes a state back from work.
    pub(super) fn put_state(&mut self, number: u32, state: Box<SharedState>) {
        self.states.insert(number, Some(state));
    }
}

impl Default for SimDevice {
    fn default() -> Self {
        SimDevice::new(SimConfig::default())
    }
}

/// A number that nothing in use has.
pub(super) fn unused<T>(map: &BTreeMap<u32, T>, next: &mut u32) -> u32 {
    while map.contains_key(next) {
        *next = next.wrapping_add(1);
    }
    let id = *next;
    *next = next.wrapping_add(1);
    id
}
