//! What allowed calls do, and what the device is told meanwhile.

use super::model::{Cap, Channel, Key, Model, Qubit, Thing};
use crate::pairs::Event;
use qmk_kernel::abi::image::{Op, Pauli};
use qmk_kernel::abi::syscall::ChannelState;
use qmk_kernel::abi::{Handle, Reply, Rights, Syscall};
use qmk_kernel::hal::Place;

impl Model {
    /// What an allowed call does; `log` is what the device was told meanwhile.
    pub(super) fn effect(&mut self, d: usize, call: &Syscall, reply: &Reply, log: &[Event]) {
        match (call, reply) {
            (&Syscall::Derive { source, rights, into, .. }, &Reply::Handle(handle)) => {
                let target = into.map_or(d, |into| self.domain(d, into));
                self.add(target, handle, Cap { thing: self.thing(d, source), rights, parent: Some((d, source)) });
            }
            (&Syscall::Revoke { target }, &Reply::Deleted { count, more }) => {
                let children =
                    self.caps.iter().filter(|(_, c)| c.parent == Some((d, target))).map(|(k, _)| *k).collect();
                assert_eq!((self.delete(children), false), (count, more));
            }
            (&Syscall::Delete { target }, &Reply::Deleted { count, more }) => {
                assert_eq!((self.delete(vec![(d, target)]), false), (count, more));
            }
            (&Syscall::TakeQubit { machine }, &Reply::Handle(handle)) => {
                let Some(&Event::Perform(space, Op::Alloc(register))) = log.last() else { panic!("{log:?}") };
                self.take_qubit(d, machine, handle, (space, register));
            }
            (&Syscall::FreeQubit { qubit, .. }, &Reply::Freed { dirty, undone }) => {
                let q = self.qubit(d, qubit);
                assert_eq!((self.qubits[q].dirty, 0), (dirty, undone));
                self.free_qubit(q);
            }
            (&Syscall::Offer { machine, qubit, to, .. }, &Reply::Offered { endpoint, invitation }) => {
                let (other, q) = (self.domain(d, to), self.qubit(d, qubit));
                self.offer([d, other], q, machine, [endpoint, invitation]);
            }
            (&Syscall::Accept { endpoint, qubit, .. }, Reply::Channel(info)) => {
                assert_eq!((info.state, info.fidelity, info.rounds, info.pairs), (ChannelState::Linked, 1.0, 0, 1));
                self.accept(self.place(d, endpoint).0, self.qubit(d, qubit));
            }
            (&Syscall::Teleport { endpoint, qubit, .. }, Reply::Applied { outcomes, .. }) => {
                self.teleport(self.place(d, endpoint), self.qubit(d, qubit), outcomes);
            }
            (&Syscall::SwapEntanglement { endpoints, .. }, Reply::Applied { outcomes, .. }) => {
                self.swap(d, endpoints.map(|e| self.place(d, e)), outcomes);
            }
            (&Syscall::CloseChannel { endpoint }, Reply::Done) => self.close(self.place(d, endpoint).0),
            (Syscall::ChannelStatus { .. }, Reply::Channel(_)) => {}
            (call, reply) => panic!("{call:?} was answered by {reply:?}"),
        }
    }

    /// What an allowed call names by a handle.
    fn thing(&self, d: usize, handle: Handle) -> Thing {
        self.caps[&(d, handle)].thing
    }

    fn domain(&self, d: usize, handle: Handle) -> usize {
        let Thing::Domain(domain) = self.thing(d, handle) else { panic!("{handle} is no domain") };
        domain
    }

    fn qubit(&self, d: usize, handle: Handle) -> usize {
        let Thing::Qubit(qubit) = self.thing(d, handle) else { panic!("{handle} is no qubit") };
        qubit
    }

    /// Channel and side of an endpoint.
    fn place(&self, d: usize, handle: Handle) -> (usize, usize) {
        let Thing::End(end) = self.thing(d, handle) else { panic!("{handle} is no endpoint") };
        self.ends[end]
    }

    fn take_qubit(&mut self, d: usize, machine: Handle, handle: Handle, place: Place) {
        let (space, register) = place;
        if self.tenants[d].qubits == 0 {
            self.expect(Event::Open(space));
        } else {
            assert!(self.qubits.iter().any(|q| q.owner == d && q.place.0 == space), "another's space");
        }
        self.expect(Event::Perform(space, Op::Alloc(register)));
        self.qubits.push(Qubit { owner: d, place, channel: None, dirty: false });
        let thing = Thing::Qubit(self.qubits.len() - 1);
        self.add(d, handle, Cap { thing, rights: Rights::OBJECT, parent: Some((d, machine)) });
        self.tenants[d].qubits += 1;
        self.free -= 1;
    }

    fn free_qubit(&mut self, q: usize) {
        if self.qubits[q].dirty {
            self.reset(q);
        }
        let all = self.caps.iter().filter(|(_, c)| c.thing == Thing::Qubit(q)).map(|(k, _)| *k).collect();
        self.delete(all);
    }

    fn offer(&mut self, domains: [usize; 2], q: usize, machine: Handle, [endpoint, invitation]: [Handle; 2]) {
        let (c, e) = (self.channels.len(), self.ends.len());
        self.ends.extend([(c, 0), (c, 1)]);
        self.channels.push(Channel {
            state: ChannelState::Offered,
            ready: false,
            domains,
            halves: [Some(q), None],
            ends: [e, e + 1],
            pairs: 0,
        });
        self.qubits[q].channel = Some(c);
        let [near, far] = domains;
        let cap = |e, rights, source| Cap { thing: Thing::End(e), rights, parent: Some((near, source)) };
        self.add(near, endpoint, cap(e, Rights::OBJECT, machine));
        self.add(far, invitation, cap(e + 1, Rights::OBJECT - Rights::GRANT, endpoint));
        domains.iter().for_each(|&d| self.tenants[d].channels += 1);
    }

    fn accept(&mut self, c: usize, q: usize) {
        let channel = &mut self.channels[c];
        channel.halves[1] = Some(q);
        (channel.state, channel.pairs) = (ChannelState::Linked, 1);
        let halves = channel.halves.map(|h| h.expect("both halves"));
        self.qubits[q].channel = Some(c);
        for half in halves {
            self.qubits[half].dirty = true;
            self.tenants[self.qubits[half].owner].pairs += 1;
        }
        let [a, b] = halves.map(|h| self.qubits[h].place);
        self.expect(Event::Link(a, b));
    }

    fn teleport(&mut self, (c, side): (usize, usize), q: usize, outcomes: &[bool]) {
        let [near, far] = [side, 1 - side].map(|s| self.channels[c].halves[s].expect("a pair"));
        self.bell(q, near, far, outcomes);
        self.let_halves_go(c);
        self.channels[c].state = ChannelState::Used;
    }

    fn swap(&mut self, d: usize, [(a, s), (b, t)]: [(usize, usize); 2], outcomes: &[bool]) {
        let half = |c: usize, side: usize| self.channels[c].halves[side].expect("a pair");
        let (near, other_near, far) = (half(a, s), half(b, t), half(b, 1 - t));
        self.bell(near, other_near, far, outcomes);
        let mine = [self.channels[a].ends[s], self.channels[b].ends[t]];
        let their = self.channels[b].ends[1 - t];
        // One channel between the far sides, and a closed one of which the caller has both ends.
        self.channels[a].domains[s] = self.channels[b].domains[1 - t];
        (self.channels[a].halves[s], self.channels[a].ends[s]) = (Some(far), their);
        self.channels[a].pairs += self.channels[b].pairs;
        let closed = ChannelState::Closed;
        self.channels[b] =
            Channel { state: closed, ready: true, domains: [d; 2], halves: [None; 2], ends: mine, pairs: 0 };
        self.ends[their] = (a, s);
        (self.ends[mine[0]], self.ends[mine[1]]) = ((b, 0), (b, 1));
        (self.qubits[near].channel, self.qubits[other_near].channel) = (None, None);
        self.qubits[far].channel = Some(a);
        self.tenants[d].channels -= 2;
    }

    /// A Bell measurement, which leaves both qubits in |0>, and the correction of a third.
    fn bell(&mut self, a: usize, b: usize, far: usize, outcomes: &[bool]) {
        let ((space, r), (other, s)) = (self.qubits[a].place, self.qubits[b].place);
        assert_eq!(space, other, "qubits of two spaces met in an operation");
        self.expect(Event::Perform(space, Op::MeasureBell(r, s, 0, 1)));
        self.reset(a);
        self.reset(b);
        let [z, x] = outcomes[..] else { panic!("{outcomes:?}") };
        for (flip, pauli) in [(x, Pauli::X), (z, Pauli::Z)] {
            if flip {
                self.perform(far, |q| Op::Pauli(pauli, q));
            }
        }
    }

    /// Deletes capabilities with all that derive from them, and what no one names any more.
    fn delete(&mut self, roots: Vec<Key>) -> u32 {
        let mut count = 0;
        let mut left = roots;
        while let Some(key) = left.pop() {
            let Some(cap) = self.caps.remove(&key) else { continue };
            count += 1;
            self.stale.insert(key);
            left.extend(self.caps.iter().filter(|(_, c)| c.parent == Some(key)).map(|(k, _)| *k));
            if self.caps.values().any(|c| c.thing == cap.thing) {
                continue;
            }
            match cap.thing {
                Thing::Machine => {}
                Thing::Domain(d) => {
                    self.tenants[d].alive = false;
                    left.extend(self.caps.keys().filter(|k| k.0 == d));
                }
                Thing::Qubit(q) => {
                    if let Some(c) = self.qubits[q].channel {
                        self.close(c);
                    }
                    self.perform(q, Op::Free);
                    let Qubit { owner, place, .. } = self.qubits[q];
                    self.free += 1;
                    self.tenants[owner].qubits -= 1;
                    if self.tenants[owner].qubits == 0 {
                        self.expect(Event::Close(place.0));
                    }
                }
                Thing::End(e) => self.close(self.ends[e].0),
            }
        }
        count
    }

    fn close(&mut self, c: usize) {
        let state = std::mem::replace(&mut self.channels[c].state, ChannelState::Closed);
        if state == ChannelState::Closed {
            return;
        }
        for d in self.channels[c].domains {
            self.tenants[d].channels -= 1;
        }
        for q in self.let_halves_go(c) {
            if state == ChannelState::Linked {
                self.reset(q);
            }
        }
    }

    fn let_halves_go(&mut self, c: usize) -> Vec<usize> {
        let halves = std::mem::take(&mut self.channels[c].halves);
        let halves: Vec<usize> = halves.into_iter().flatten().collect();
        halves.iter().for_each(|&q| self.qubits[q].channel = None);
        halves
    }

    fn reset(&mut self, qubit: usize) {
        self.perform(qubit, Op::Reset);
        self.qubits[qubit].dirty = false;
    }

    fn perform(&mut self, qubit: usize, op: impl Fn(u32) -> Op) {
        let (space, register) = self.qubits[qubit].place;
        self.expect(Event::Perform(space, op(register)));
    }

    fn expect(&mut self, event: Event) {
        self.expected.push(format!("{event:?}"));
    }
}
