//! The honeycomb code (Hastings and Haah, arXiv:2107.02194) as a memory (Gidney, Newman, Fowler and Broughton,
//! arXiv:2108.10457).

use super::code::{Checks, Code, PauliProduct};
use crate::circuit::{Circuit, Gate, Step};
use crate::error::{DistanceError, QecError};
use qmk_abi::image::{Clifford1, Clifford2, Pauli, Qubit};
use std::ops::RangeInclusive;

/// The honeycomb code on a torus, with two logical qubits.
///
/// Hexagons have three colours, each different from its neighbours; an edge has the colour of the two hexagons that it
/// links. Checks are products of two Paulis on the ends of an edge. Those of colours 0, 1 and 2 are measured in the
/// three sub-rounds of a cycle. The product of the checks around a hexagon is a stabilizer that two successive
/// sub-rounds measure, once in a cycle; on each qubit it has the letter of the edge that leads out of the hexagon.
///
/// **Lattice.** Data qubit `width * y + x` of a grid with periodic boundaries has its neighbours above and below, and
/// the one to the right if x + y is even, to the left if it is odd. The hexagon of (x, y), x + y even, has columns x
/// and x + 1 and rows y to y + 2, and colour 2y mod 3. So the width is even and the height a multiple of 6.
///
/// **Letters.** Of checks that are measured at once, X, Y and Z are the three directions of edges, as in the first
/// paper. With ancillas each qubit is turned so that they are the three colours, as in the second: checks are XX, -YY
/// and ZZ, since the turn of odd qubits takes Y to -Y. In both forms all detectors and observables are even without
/// noise.
///
/// **Logical qubits.** After a sub-round of colour c the code is a toric code. One kind of logical operator has letters
/// of colour c + 1 on both ends of edges of colour c, on a closed path over hexagons of that colour. The next sub-round
/// leaves it as it is. Before the one after, checks of colour c + 1 are multiplied in, so that it covers whole edges of
/// colour c + 2, whose checks then turn it into the same kind again. Operators of the other kind are one sub-round
/// behind. X of the two logical qubits are the operators of the first kind, across and along the torus; Z are those of
/// the second, along and across. An observable holds the records of all the checks that were multiplied in.
///
/// **Memory.** A round is a cycle of three sub-rounds; [`Step::Round`] begins each sub-round; the time of a detector
/// counts cycles. The data are prepared in letters of colour 0 for basis X and 2 for Z, and measured in what the
/// logical operators have become: the other of these if the number of rounds is odd. Every hexagon is compared with its
/// last value. One more parity is deterministic: that of all the records of three successive sub-rounds. It is no
/// detector, since every wrong record flips it and it locates none. (Nor, if data for basis X go through one cycle
/// only, are the pairs of data on edges of colour 1, of which hexagons are products.)
///
/// With ancillas a sub-round takes two layers of CNOTs, while the ancillas of the last one are measured and those of
/// the next are reset.
#[derive(Debug)]
pub struct Honeycomb {
    distance: u32,
    width: u32,
    height: u32,
    ancillas: bool,
}

/// A logical operator while checks are measured: letters of one colour on some data qubits, times records.
struct TrackedLogical {
    colour: usize,
    on: Vec<bool>,
    records: Vec<u32>,
}

/// A memory experiment under construction.
struct MemoryBuilder<'a> {
    code: &'a Honeycomb,
    circuit: Circuit,
    /// Sub-rounds that have been measured.
    time: u32,
    /// Records of the last sub-round by edge. At first, of data prepared in letters of colour 2, all checks of that
    /// colour are +1, without records; the checks of other colours are not known.
    previous: Option<Vec<u32>>,
    /// Records of each hexagon's last value, once it has one.
    last: Vec<Option<Vec<u32>>>,
    tracked: [TrackedLogical; 2],
}

impl Honeycomb {
    /// Distances that can be had.
    pub const DISTANCES: RangeInclusive<u32> = 3..=31;

    /// The code with checks that are measured at once ([`Step::MeasurePair`]). The torus is 2d wide and 3d high,
    /// rounded up to a multiple of 6: it takes at least d errors to make an unseen logical one if the measurement of a
    /// pair can leave any pair of Paulis behind.
    ///
    /// # Errors
    /// If the distance is not one of [`DISTANCES`](Self::DISTANCES).
    pub fn pairs(distance: u32) -> Result<Self, QecError> {
        Self::new(distance, |d| [2 * d, 3 * d], false)
    }

    /// The code with an ancilla for each check. The torus is d wide, rounded up to an even number, and 2d high, rounded
    /// up to a multiple of 6: it takes at least d errors to make an unseen logical one if gates, idling, resets and
    /// measurements fail.
    ///
    /// # Errors
    /// If the distance is not one of [`DISTANCES`](Self::DISTANCES).
    pub fn ancillas(distance: u32) -> Result<Self, QecError> {
        Self::new(distance, |d| [d.next_multiple_of(2), 2 * d], true)
    }

    fn new(distance: u32, size: fn(u32) -> [u32; 2], ancillas: bool) -> Result<Self, QecError> {
        if !Self::DISTANCES.contains(&distance) {
            let (low, high) = Self::DISTANCES.into_inner();
            return Err(DistanceError::OfFamily { family: "honeycomb", distance, low, high }.into());
        }
        let [width, height] = size(distance);
        Ok(Self { distance, width, height: height.next_multiple_of(6), ancillas })
    }

    /// Number of data qubits.
    fn data(&self) -> u32 {
        self.width * self.height
    }

    fn at(&self, x: u32, y: u32) -> Qubit {
        y % self.height * self.width + x % self.width
    }

    fn position(&self, q: Qubit) -> [u32; 2] {
        [q % self.width, q / self.width]
    }

    /// Data qubits with even x + y. Each is the end of one edge of each colour, which is numbered by half the qubit.
    fn even(&self) -> impl Iterator<Item = Qubit> {
        (0..self.data()).filter(|&q| self.is_even(q))
    }

    fn is_even(&self, q: Qubit) -> bool {
        self.position(q).iter().sum::<u32>() % 2 == 0
    }

    /// The other end of the edge of a colour.
    fn across(&self, q: Qubit, colour: usize) -> Qubit {
        let [x, y] = self.position(q);
        match (colour as u32 + y) % 3 {
            0 => self.at(x, y + self.height - 1),
            1 if self.is_even(q) => self.at(x + 1, y),
            1 => self.at(x + self.width - 1, y),
            _ => self.at(x, y + 1),
        }
    }

    /// Letter of the edge of a colour at a qubit.
    fn letter(&self, q: Qubit, colour: usize) -> Pauli {
        let of = |direction: usize| [Pauli::X, Pauli::Y, Pauli::Z][direction];
        match (colour + self.position(q)[1] as usize) % 3 {
            _ if self.ancillas => of(colour),
            1 => of(1),
            up => of(if self.is_even(q) { up } else { 2 - up }),
        }
    }

    /// The colour of the hexagon of an even qubit, and its six qubits.
    fn hexagon(&self, q: Qubit) -> (usize, [Qubit; 6]) {
        let [x, y] = self.position(q);
        let ring = [(x, y), (x + 1, y), (x + 1, y + 1), (x + 1, y + 2), (x, y + 2), (x, y + 1)];
        ((2 * y % 3) as usize, ring.map(|(x, y)| self.at(x, y)))
    }

    /// Both qubits of edges of a colour that make a closed path, across the torus (axis 0) or along it (axis 1).
    fn path(&self, colour: usize, axis: usize) -> impl Iterator<Item = Qubit> {
        (0..self.data()).filter(move |&q| {
            let [x, y] = self.position(q);
            let rung = (colour as u32 + y) % 3 == 1;
            if axis == 0 { rung && y < 3 } else { !rung && x == 0 }
        })
    }

    /// X or Z of a logical qubit between two cycles: the colour of its letters, and its data qubits.
    fn logical(&self, qubit: usize, basis: Pauli) -> (usize, impl Iterator<Item = Qubit>) {
        if basis == Pauli::X { (0, self.path(2, qubit)) } else { (2, self.path(1, 1 - qubit)) }
    }

    /// Place of each qubit, ancillas in the middle of their edges.
    fn positions(&self) -> Vec<(Qubit, Vec<f64>)> {
        let data = (0..self.data()).map(|q| (q, self.position(q).map(f64::from).to_vec()));
        if !self.ancillas {
            return data.collect();
        }
        let ancilla = move |colour: usize, q: Qubit| {
            let [x, y] = self.position(q);
            let [right, down] = [[0.0, -0.5], [0.5, 0.0], [0.0, 0.5]][(colour + y as usize) % 3];
            (self.ancilla(q, colour), vec![x as f64 + right, y as f64 + down])
        };
        data.chain((0..3).flat_map(|colour| self.even().map(move |q| ancilla(colour, q)))).collect()
    }

    /// One of the two layers of CNOTs that measure the checks of a colour, in which even or odd data qubits meet the
    /// ancillas.
    fn couple(&self, c: &mut Circuit, colour: usize, even: bool) {
        // Y is X between S† and S, and -Y between S and S†; these take place while the other half of the qubits meets
        // the ancillas.
        let turn = match (even, colour) {
            (true, 1) | (false, 1) => Some(Clifford1::S),
            (true, 2) | (false, 0) => Some(Clifford1::Sdg),
            _ => None,
        };
        for q in self.even() {
            let other = self.across(q, colour);
            let (meets, waits) = if even { (q, other) } else { (other, q) };
            let ancilla = self.ancilla(q, colour);
            let pair = if colour == 2 { [meets, ancilla] } else { [ancilla, meets] };
            c.push(Step::Gate2(Clifford2::Cnot, pair));
            if let Some(turn) = turn {
                c.push(Step::Gate(Gate::Clifford(turn), waits));
            }
        }
    }

    fn ancilla(&self, even: Qubit, colour: usize) -> Qubit {
        self.data() + colour as u32 * self.data() / 2 + even / 2
    }
}

/// Basis in which the ancillas of a colour are reset and measured.
fn ancilla_basis(colour: usize) -> Pauli {
    if colour == 2 { Pauli::Z } else { Pauli::X }
}

impl MemoryBuilder<'_> {
    /// Adds the records of the next sub-round's checks: pushes the detectors that they complete, and moves the logical
    /// operators so that they commute with the checks.
    fn add_sub_round(&mut self, now: Vec<u32>) {
        let (code, colour) = (self.code, (self.time % 3) as usize);
        let [before, third] = [2, 1].map(|o| (colour + o) % 3);
        let earlier = |previous: &[u32], q: Qubit| previous.get(q as usize / 2).copied();
        let evens = |ring: [Qubit; 6]| ring.into_iter().filter(|&q| code.is_even(q));
        match &self.previous {
            None => {
                for q in code.even() {
                    self.circuit.push(Step::Detector(vec![now[q as usize / 2]], self.coordinates(code.position(q))));
                }
            }
            Some(previous) => {
                for q in code.even() {
                    let (of, ring) = code.hexagon(q);
                    if of == third {
                        let edges = evens(ring);
                        let value: Vec<u32> =
                            edges.flat_map(|q| earlier(previous, q).into_iter().chain([now[q as usize / 2]])).collect();
                        if let Some(old) = self.last[q as usize / 2].replace(value.clone()) {
                            let [x, y] = code.position(q);
                            self.circuit.push(Step::Detector([old, value].concat(), self.coordinates([x, y + 1])));
                        }
                    }
                }
            }
        }
        for tracked in self.tracked.iter_mut().filter(|t| t.colour == before) {
            for q in code.even() {
                let (of, ring) = code.hexagon(q);
                if of != third {
                    continue;
                }
                // Checks of the last sub-round around this hexagon that leave it on whole edges of this one: as few as
                // possible. There are some, as the operator commutes with the hexagon.
                let ends: Vec<Qubit> = evens(ring).collect();
                let chosen =
                    |set: u32| ends.iter().enumerate().filter(move |(i, _)| set >> i & 1 == 1).map(|(_, &q)| q);
                let after = |set: u32, q: Qubit| {
                    tracked.on[q as usize] ^ chosen(set).any(|end| end == q || code.across(end, before) == q)
                };
                let whole = |set: &u32| ends.iter().all(|&q| after(*set, q) == after(*set, code.across(q, colour)));
                let set = (0..8).filter(whole).min_by_key(|s| s.count_ones()).unwrap_or(0);
                for q in chosen(set) {
                    tracked.on[q as usize] ^= true;
                    tracked.on[code.across(q, before) as usize] ^= true;
                    tracked.records.extend(self.previous.iter().filter_map(|p| earlier(p, q)));
                }
            }
            tracked.records.extend(code.even().filter(|&q| tracked.on[q as usize]).map(|q| now[q as usize / 2]));
            tracked.colour = third;
        }
        self.previous = Some(now);
        self.time += 1;
    }

    fn coordinates(&self, [x, y]: [u32; 2]) -> [f64; 3] {
        [x as f64 + 0.5, y as f64, self.time as f64 / 3.0]
    }

    /// Measures the data in the letters that the logical operators have by now.
    fn finish(mut self) -> Circuit {
        let code = self.code;
        let colour = self.tracked[0].colour;
        let data: Vec<u32> = (0..code.data()).map(|q| self.circuit.measure(code.letter(q, colour), q)).collect();
        self.circuit.push(Step::Tick);
        let edges = self.previous.take().unwrap_or_default();
        if colour == 2 {
            for q in code.even() {
                let records = vec![edges[q as usize / 2], data[q as usize], data[code.across(q, 2) as usize]];
                self.circuit.push(Step::Detector(records, self.coordinates(code.position(q))));
            }
        }
        for q in code.even() {
            let (of, ring) = code.hexagon(q);
            let Some(mut records) = self.last[q as usize / 2].take() else { continue };
            // Data measured in letters of colour 0 give the checks of that colour, too, which make hexagons with those
            // of colour 2.
            if colour == 0 && of == 1 {
                records.extend(ring.iter().filter(|&&q| code.is_even(q)).map(|&q| edges[q as usize / 2]));
            } else if of != colour {
                continue;
            }
            records.extend(ring.map(|q| data[q as usize]));
            let [x, y] = code.position(q);
            self.circuit.push(Step::Detector(records, self.coordinates([x, y + 1])));
        }
        for (i, tracked) in (0..).zip(self.tracked) {
            let on = (0..data.len()).filter(|&q| tracked.on[q]).map(|q| data[q]);
            self.circuit.push(Step::Observable(i, tracked.records.into_iter().chain(on).collect()));
        }
        self.circuit
    }
}

impl Code for Honeycomb {
    fn name(&self) -> &'static str {
        if self.ancillas { "honeycomb_ancillas" } else { "honeycomb" }
    }

    fn distance(&self) -> u32 {
        self.distance
    }

    fn physical_qubits(&self) -> u32 {
        if self.ancillas { self.data() * 5 / 2 } else { self.data() }
    }

    fn checks(&self) -> Checks {
        let product = |colour: usize, qubits: &mut dyn Iterator<Item = Qubit>| -> PauliProduct {
            let mut qubits: Vec<Qubit> = qubits.collect();
            qubits.sort_unstable();
            qubits.into_iter().map(|q| (self.letter(q, colour), q)).collect()
        };
        let edges =
            |colour: usize| self.even().map(move |q| product(colour, &mut [q, self.across(q, colour)].into_iter()));
        let hexagons = self.even().map(|q| {
            let (colour, ring) = self.hexagon(q);
            product(colour, &mut ring.into_iter())
        });
        let logical = |i: usize| {
            [Pauli::X, Pauli::Z].map(|basis| {
                let (colour, mut on) = self.logical(i, basis);
                product(colour, &mut on)
            })
        };
        Checks {
            data: (0..self.data()).collect(),
            stabilizers: hexagons.chain(edges(2)).collect(),
            gauges: (0..3).flat_map(edges).collect(),
            logicals: (0..2).map(logical).collect(),
        }
    }

    /// After a sub-round of colour c, letters of colours c and c + 1 on a data qubit flip two detectors each, and the
    /// third one, their product, flips four. A wrong record flips four: those of letters of all three colours, one
    /// after the other, on an end of its edge. So not every X or Z part is an edge of the graph to match, but each is a
    /// sum of at most three.
    fn is_matchable(&self) -> bool {
        true
    }

    fn memory(&self, basis: Pauli, rounds: u32) -> Circuit {
        let tracked = [0, 1].map(|i| {
            let mut on = vec![false; self.data() as usize];
            let (colour, path) = self.logical(i, basis);
            path.for_each(|q| on[q as usize] = true);
            TrackedLogical { colour, on, records: Vec::new() }
        });
        // Hexagons of the colour in whose letters the data are prepared are known.
        let known = if basis == Pauli::X { 0 } else { 2 };
        let last = self.even().map(|q| (self.hexagon(q).0 == known).then(Vec::new)).collect();
        let previous = (basis == Pauli::Z).then(Vec::new);
        let mut m = MemoryBuilder { code: self, circuit: Circuit::new(), time: 0, previous, last, tracked };
        m.circuit.coordinates = self.positions();
        (0..self.data()).for_each(|q| m.circuit.push(Step::Reset(self.letter(q, known), q)));
        let reset = |c: &mut Circuit, colour: usize| {
            self.even().for_each(|q| c.push(Step::Reset(ancilla_basis(colour), self.ancilla(q, colour))));
        };
        let measure = |m: &mut MemoryBuilder<'_>, colour: usize| {
            let now = self.even().map(|q| m.circuit.measure(ancilla_basis(colour), self.ancilla(q, colour))).collect();
            m.add_sub_round(now);
        };
        if self.ancillas {
            reset(&mut m.circuit, 0);
        }
        m.circuit.push(Step::Tick);
        let colours = (0..3 * rounds.max(1)).map(|t| (t % 3) as usize);
        for (t, colour) in colours.clone().enumerate() {
            m.circuit.push(Step::Round);
            if self.ancillas {
                self.couple(&mut m.circuit, colour, true);
                if t > 0 {
                    measure(&mut m, (colour + 2) % 3);
                }
                m.circuit.push(Step::Tick);
                self.couple(&mut m.circuit, colour, false);
                if t + 1 < colours.len() {
                    reset(&mut m.circuit, (colour + 1) % 3);
                }
                m.circuit.push(Step::Tick);
            } else {
                let pair = |q: Qubit| m.circuit.measure_pair(self.letter(q, colour), [q, self.across(q, colour)]);
                let now = self.even().map(pair).collect();
                m.add_sub_round(now);
                m.circuit.push(Step::Tick);
            }
        }
        if self.ancillas {
            measure(&mut m, 2);
        }
        m.finish()
    }
}
