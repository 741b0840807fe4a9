//! A state's key, so that a search visits each once.

use super::model::{Key, Model, Thing};
use std::collections::BTreeMap;

impl Model {
    /// The state up to the names of handles and objects: the tree in a canonical order, then what its objects are.
    pub fn key(&self) -> Vec<u32> {
        let mut children: BTreeMap<Option<Key>, Vec<Key>> = BTreeMap::new();
        self.caps.iter().for_each(|(k, c)| children.entry(c.parent).or_default().push(*k));
        let mut order = Vec::new();
        self.order(None, 0, &children, &mut order);
        let mut key: Vec<u32> = self.tenants.iter().map(|t| t.alive as u32).collect();
        let mut numbers: [Vec<usize>; 3] = Default::default();
        let number = |list: &mut Vec<usize>, object: usize| {
            list.iter().position(|&o| o == object).unwrap_or_else(|| {
                list.push(object);
                list.len() - 1
            }) as u32
        };
        let [qubits, ends, channels] = &mut numbers;
        for (depth, k) in order {
            let cap = &self.caps[&k];
            let (kind, object) = match cap.thing {
                Thing::Machine => (0, 0),
                Thing::Domain(d) => (1, d as u32),
                Thing::Qubit(q) => (2, number(qubits, q)),
                Thing::End(e) => (3, number(ends, e)),
            };
            key.extend([depth, k.0 as u32, kind, cap.rights.bits(), object]);
        }
        for &e in ends.iter() {
            let (c, side) = self.ends[e];
            key.extend([number(channels, c), side as u32]);
        }
        for &c in channels.iter() {
            let c = &self.channels[c];
            key.extend([c.state as u32, c.ready as u32, c.domains[0] as u32, c.domains[1] as u32]);
            key.extend(c.halves.iter().map(|h| h.map_or(u32::MAX, |q| number(qubits, q))));
        }
        key
    }

    /// What of a capability does not depend on names, with its descendants.
    fn label(&self, key: Key, children: &BTreeMap<Option<Key>, Vec<Key>>) -> Vec<u32> {
        let cap = &self.caps[&key];
        let about = |c: usize| {
            let c = &self.channels[c];
            1 + c.state as u32 * 8 + c.ready as u32 * 4 + c.halves.iter().flatten().count() as u32
        };
        let what = match cap.thing {
            Thing::Machine => [0, 0, 0],
            Thing::Domain(d) => [1, d as u32, 0],
            Thing::Qubit(q) => [2, self.qubits[q].owner as u32, self.qubits[q].channel.map_or(0, about)],
            Thing::End(e) => [3, self.ends[e].1 as u32, about(self.ends[e].0)],
        };
        let mut label = vec![key.0 as u32, cap.rights.bits()];
        label.extend(what);
        let below = children.get(&Some(key)).into_iter().flatten();
        let mut below: Vec<Vec<u32>> = below.map(|k| self.label(*k, children)).collect();
        below.sort();
        below.into_iter().for_each(|b| label.extend(b));
        label.push(u32::MAX);
        label
    }

    fn order(
        &self,
        at: Option<Key>,
        depth: u32,
        children: &BTreeMap<Option<Key>, Vec<Key>>,
        out: &mut Vec<(u32, Key)>,
    ) {
        let mut below = children.get(&at).cloned().unwrap_or_default();
        below.sort_by_cached_key(|k| self.label(*k, children));
        for k in below {
            out.push((depth, k));
            self.order(Some(k), depth + 1, children, out);
        }
    }
}
