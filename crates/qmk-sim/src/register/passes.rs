//! Many rotations in few passes.
//!
//! Rotations whose strings have few independent X parts act within small cosets of indices. A run of them whose X
//! parts span at most two dimensions is fused into one operator `Σ_v D_v X^v` with diagonal `D_v`; these depend on
//! an index only through its parities with the Z parts, so a small table holds them. Fused operators are then
//! grouped into passes: while their X parts span little, each coset of the span is copied to a block that fits in
//! cache, where the strings are strings again, and all operators are applied before it is copied back.

use super::kernel::{Combine, LANE_BITS, LANE_MASK, half_angles, insert_zero, parity};
use super::mask::Mask;
use super::merge::{commute, merge};
use crate::simd::{Chunk, Kernel, LANES, Simd};
use num_complex::Complex64;
use std::ops::BitXor;

/// A block has 2^this amplitudes, 16 KiB: half of a first-level cache.
const BLOCK_BITS: u32 = 10;
/// Bits of a chunk in the first of two tables of classes.
const LOW_BITS: u32 = 10;
/// Registers from this size are taken to be in main memory.
const LARGE_BITS: u32 = 21;
/// Operators for which copying to a block pays, in cache and in main memory.
const GATHER: [usize; 2] = [12, 4];
/// Qubits below which planning costs more than it saves. The number of groups must not matter: the same group rounds
/// the same way in any company.
pub(super) const WORTHWHILE: u32 = 11;
/// How many operators one is moved across at most.
const REACH: usize = 64;
/// Longest run considered for one operator.
const RUN: usize = 64;
/// X dimensions of an operator.
const DIMENSIONS: usize = 2;
/// Z dimensions of an operator by X dimensions, so that no table is above 8 KiB.
const CLASS_BITS: [usize; DIMENSIONS + 1] = [6, 5, 4];
/// Measured time of an operator by X dimensions, in arbitrary units.
const COST: [u32; DIMENSIONS + 1] = [23, 31, 53];
/// Measured time of a single rotation, in the same units.
const COST_SINGLE: u32 = 15;

/// A basis over GF(2), fully reduced: the pivot of a vector, its highest bit, is in no other.
#[derive(Clone, Default)]
struct Basis {
    vectors: Vec<u64>,
}

impl Basis {
    /// Adds v; false if it was in the span.
    fn insert(&mut self, v: u64) -> bool {
        let v = self.vectors.iter().fold(v, |v, &b| if v >> b.ilog2() & 1 == 1 { v ^ b } else { v });
        if v == 0 {
            return false;
        }
        for b in &mut self.vectors {
            if *b >> v.ilog2() & 1 == 1 {
                *b ^= v;
            }
        }
        self.vectors.push(v);
        true
    }

    fn len(&self) -> usize {
        self.vectors.len()
    }

    /// Coordinates of a vector of the span.
    fn coordinates(&self, v: u64) -> u64 {
        self.vectors.iter().enumerate().fold(0, |c, (i, b)| c | (v >> b.ilog2() & 1) << i)
    }

    /// The parities of v with each vector.
    fn parities(&self, v: u64) -> u64 {
        self.vectors.iter().enumerate().fold(0, |c, (i, b)| c | (parity(v & b) as u64) << i)
    }
}

/// A run of rotations that becomes one operator.
struct Run {
    ops: Vec<(Mask, f64)>,
    x: Basis,
    z: Basis,
}

impl Run {
    fn new(ops: &[(Mask, f64)]) -> Self {
        let (mut x, mut z) = (Basis::default(), Basis::default());
        for (p, _) in ops {
            x.insert(p.x);
            z.insert(p.z);
        }
        Run { ops: ops.to_vec(), x, z }
    }

    fn commutes(&self, other: &Run) -> bool {
        self.ops.iter().all(|(p, _)| other.ops.iter().all(|(q, _)| commute(*p, *q)))
    }
}

/// Cuts the rotations into runs so that the total cost, also returned, is least.
fn cut(ops: &[(Mask, f64)]) -> (u32, Vec<Run>) {
    // Least cost up to each operation, and where its last run starts.
    let mut best = vec![(u32::MAX, 0); ops.len() + 1];
    best[0] = (0, 0);
    for start in 0..ops.len() {
        let before = best[start].0;
        let (mut x, mut z) = (Basis::default(), Basis::default());
        for (end, (p, _)) in (start + 1..).zip(&ops[start..]).take(RUN) {
            x.insert(p.x);
            z.insert(p.z);
            if x.len() > DIMENSIONS || z.len() > CLASS_BITS[x.len()] {
                break;
            }
            let cost = before + if end == start + 1 { COST_SINGLE } else { COST[x.len()] };
            if cost < best[end].0 {
                best[end] = (cost, start);
            }
        }
    }
    let mut runs = Vec::new();
    let mut end = ops.len();
    while end > 0 {
        let start = best[end].1;
        runs.push(Run::new(&ops[start..end]));
        end = start;
    }
    runs.reverse();
    (best[ops.len()].0, runs)
}

/// One operator of a pass, on a block.
enum Local {
    /// One rotation; the parity of a block with `outer` flips its sign.
    Single {
        op: Combine,
        outer: u64,
    },
    Fused(Fused),
}

/// `Σ_v D_v X^v` on a block.
struct Fused {
    /// Dimensions of X in all, and of its chunk part.
    dimensions: (usize, usize),
    /// The chunk parts, and for each v its lane part.
    chunks: [usize; DIMENSIONS],
    lanes: [usize; 1 << DIMENSIONS],
    /// Parities with the Z parts for the low and the high bits of a chunk of a block, and the Z parts to do the same
    /// for the block.
    classes: [Vec<u8>; 2],
    outer: Vec<u64>,
    /// How they change with the chunk parts.
    flips: [usize; DIMENSIONS],
    /// Entries of D_v by class and v.
    table: Vec<(Chunk, Chunk)>,
}

impl Fused {
    fn new(run: &Run, space: &Space) -> Self {
        // The highest bits are eliminated first: a vector with a chunk part comes with an independent one.
        let mut x = Basis::default();
        for (p, _) in &run.ops {
            x.insert(space.x(p.x));
        }
        x.vectors.sort_by_key(|&v| v >> LANE_BITS == 0);
        let (d, e) = (x.len(), run.z.len());
        let high = x.vectors.iter().filter(|&&v| v >> LANE_BITS != 0).count();
        let mut diagonals = vec![Complex64::default(); 1 << (d + e)];
        diagonals[..1 << e].fill(Complex64::new(1.0, 0.0));
        for &(p, theta) in &run.ops {
            let op = Combine::rotation(p, half_angles()(theta));
            let w = if op.imaginary { Complex64::new(0.0, op.w) } else { Complex64::new(op.w, 0.0) };
            let (shift, z) = (x.coordinates(space.x(p.x)), run.z.coordinates(p.z));
            // Moving by x changes the class by its parities, and v by the shift.
            let step = (shift << e | run.z.parities(p.x)) as usize;
            diagonals = (0..diagonals.len())
                .map(|i| {
                    let partner = w * diagonals[i ^ step];
                    let term = if parity(i as u64 & z) == 1 { -partner } else { partner };
                    diagonals[i] * op.c + term
                })
                .collect();
        }
        let in_lane: [usize; LANES] = std::array::from_fn(|l| run.z.parities(l as u64) as usize);
        let table = (0..1usize << (e + d))
            .map(|i| {
                let (class, v) = (i >> d, i & ((1 << d) - 1));
                let entry = |l: usize| diagonals[v << e | (class ^ in_lane[l])];
                (Chunk::from_fn(|l| entry(l).re), Chunk::from_fn(|l| entry(l).im))
            })
            .collect();
        let vectors = |v: usize| (0..d).filter(move |i| v >> i & 1 == 1).fold(0, |s, i| s ^ x.vectors[i]);
        Fused {
            dimensions: (d, high),
            chunks: std::array::from_fn(|i| if i < high { (x.vectors[i] >> LANE_BITS) as usize } else { 0 }),
            lanes: std::array::from_fn(|v| (vectors(v & ((1 << d) - 1)) & LANE_MASK) as usize),
            classes: space.classes(&run.z),
            flips: std::array::from_fn(|i| {
                x.vectors[..high].get(i).map_or(0, |&v| run.z.parities(space.chunk(v) << LANE_BITS) as usize)
            }),
            outer: run.z.vectors.iter().map(|z| z >> LANE_BITS).collect(),
            table,
        }
    }

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, rep: u64, re: &mut [Chunk], im: &mut [Chunk]) {
        let outer = self.outer.iter().enumerate().fold(0, |c, (i, z)| c | parity(z & rep) << i);
        macro_rules! call {
            ($v:literal, $h:literal, $permuted:literal) => {
                s.call(Sum::<$v, $h, $permuted> { fused: self, outer, re, im })
            };
        }
        match (self.dimensions, self.lanes != [0; 1 << DIMENSIONS]) {
            ((0, _), _) => call!(1, 0, false),
            ((1, 0), _) => call!(2, 0, true),
            ((1, _), false) => call!(2, 1, false),
            ((1, _), true) => call!(2, 1, true),
            ((_, 0), _) => call!(4, 0, true),
            ((_, 1), _) => call!(4, 1, true),
            (_, false) => call!(4, 2, false),
            (_, true) => call!(4, 2, true),
        }
    }
}

/// A fused operator with V elements in the span of X, H dimensions of which move chunks.
struct Sum<'a, const V: usize, const H: usize, const PERMUTED: bool> {
    fused: &'a Fused,
    /// Parities of the block.
    outer: usize,
    re: &'a mut [Chunk],
    im: &'a mut [Chunk],
}

impl<const V: usize, const H: usize, const PERMUTED: bool> Kernel for Sum<'_, V, H, PERMUTED> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Sum { fused, outer, re, im } = self;
        let n = re.len();
        let im = &mut im[..n];
        let low: &[u8; 1 << LOW_BITS] = fused.classes[0][..].try_into().expect("low classes are padded");
        let high = &fused.classes[1][..];
        let table = fused.table.as_chunks::<V>().0;
        let mut lanes = [s.permutation(0); 1 << DIMENSIONS];
        for (lanes, &x) in lanes.iter_mut().zip(&fused.lanes) {
            *lanes = s.permutation(x);
        }
        let [a, b] = fused.chunks;
        let (mut lower, mut upper) = (0, 0);
        if H == 1 {
            lower = a.ilog2();
        } else if H == 2 {
            (lower, upper) = (a.ilog2().min(b.ilog2()), a.ilog2().max(b.ilog2()));
        }
        for i in 0..n >> H {
            let first = match H {
                0 => i,
                1 => insert_zero(i, lower),
                _ => insert_zero(insert_zero(i, lower), upper),
            };
            let members: [usize; 4] = [first, first ^ a, first ^ b, first ^ a ^ b];
            let class = (low[first % low.len()] ^ high[first >> LOW_BITS]) as usize ^ outer;
            let [fa, fb] = fused.flips;
            let classes = [class, class ^ fa, class ^ fb, class ^ fa ^ fb];
            let mut old = [(s.splat(0.0), s.splat(0.0)); 4];
            for t in 0..1 << H {
                old[t] = (s.load(&re[members[t]]), s.load(&im[members[t]]));
            }
            for t in 0..1 << H {
                let table = &table[classes[t]];
                let (c, d) = (s.load(&table[0].0), s.load(&table[0].1));
                let (a, b) = old[t];
                let mut sum = (s.mul(c, a), s.mul(c, b));
                sum = (s.neg_mul_add(d, b, sum.0), s.mul_add(d, a, sum.1));
                for v in 1..V {
                    let (c, d) = (s.load(&table[v].0), s.load(&table[v].1));
                    let (mut a, mut b) = old[t ^ (v & ((1 << H) - 1))];
                    if PERMUTED {
                        (a, b) = (s.permute(a, lanes[v]), s.permute(b, lanes[v]));
                    }
                    sum = (s.mul_add(c, a, sum.0), s.mul_add(c, b, sum.1));
                    sum = (s.neg_mul_add(d, b, sum.0), s.mul_add(d, a, sum.1));
                }
                s.store(sum.0, &mut re[members[t]]);
                s.store(sum.1, &mut im[members[t]]);
            }
        }
    }
}

/// All sums of some vectors: number j sums those at the bits of j.
fn sums<T: Copy + Default + BitXor<Output = T>>(vectors: impl IntoIterator<Item = T>) -> Vec<T> {
    let mut sums = vec![T::default()];
    for v in vectors {
        sums.extend_from_within(..);
        let half = sums.len() / 2;
        sums[half..].iter_mut().for_each(|s| *s = *s ^ v);
    }
    sums
}

/// The coordinates of a block: its chunks are those of a coset of the span of a basis.
struct Space {
    basis: Basis,
}

impl Space {
    /// The X part of a string in the coordinates of a block.
    fn x(&self, x: u64) -> u64 {
        x & LANE_MASK | self.basis.coordinates(x >> LANE_BITS) << LANE_BITS
    }

    fn z(&self, z: u64) -> u64 {
        z & LANE_MASK | self.basis.parities(z >> LANE_BITS) << LANE_BITS
    }

    /// The chunk of the register that an X part in the coordinates of a block moves by.
    fn chunk(&self, x: u64) -> u64 {
        let vectors = self.basis.vectors.iter().enumerate();
        vectors.filter(|(i, _)| x >> LANE_BITS >> i & 1 == 1).fold(0, |c, (_, v)| c ^ v)
    }

    /// The parities of chunks with some Z parts, by the low and by the high bits of the chunk.
    fn classes(&self, z: &Basis) -> [Vec<u8>; 2] {
        let parities: Vec<u8> = self.basis.vectors.iter().map(|v| z.parities(v << LANE_BITS) as u8).collect();
        let (low, high) = parities.split_at(parities.len().min(LOW_BITS as usize));
        let padded = low.iter().copied().chain(std::iter::repeat(0)).take(LOW_BITS as usize);
        [sums(padded), sums(high.iter().copied())]
    }
}

/// A pass over the register.
pub(super) struct Pass {
    space: Space,
    /// Chunk of the coset by chunk of the block; empty if a block is consecutive chunks.
    offsets: Vec<usize>,
    ops: Vec<Local>,
}

impl Pass {
    fn new(runs: &[Run], space: Space, consecutive: bool) -> Self {
        let offsets = if consecutive { Vec::new() } else { sums(space.basis.vectors.iter().map(|&v| v as usize)) };
        let ops = runs
            .iter()
            .map(|run| match run.ops[..] {
                [(p, theta)] => {
                    let op = Combine::rotation(p, half_angles()(theta));
                    let op = Combine { x: space.x(p.x), z: space.z(p.z), ..op };
                    Local::Single { op, outer: p.z >> LANE_BITS }
                }
                _ => Local::Fused(Fused::new(run, &space)),
            })
            .collect();
        Pass { space, offsets, ops }
    }

    #[inline(always)]
    fn apply<S: Simd>(&self, s: S, rep: u64, re: &mut [Chunk], im: &mut [Chunk]) {
        for op in &self.ops {
            match op {
                Local::Single { op, outer } => {
                    let w = if parity(outer & rep) == 1 { -op.w } else { op.w };
                    Combine { w, ..*op }.apply(s, re, im);
                }
                Local::Fused(fused) => fused.apply(s, rep, re, im),
            }
        }
    }
}

/// Operators for which a register of groups of `2^k` amplitudes is copied to blocks.
pub(super) fn gather(k: u32) -> usize {
    GATHER[(k >= LARGE_BITS) as usize]
}

/// The passes that do the work of `ops` on groups of `2^k` amplitudes, copying blocks for at least `gather` operators.
pub(super) fn passes(k: u32, ops: &[(Mask, f64)], gather: usize) -> Vec<Pass> {
    // In the order given, and with each rotation moved next to one that it does not commute with: these often share
    // qubits.
    let [a, b] = [false, true].map(|sort| {
        let mut merged = Vec::with_capacity(ops.len());
        ops.iter().for_each(|&(p, theta)| merge(&mut merged, p, theta, sort));
        cut(&merged)
    });
    let mut left = if b.0 < a.0 { b.1 } else { a.1 };
    let mut passes = Vec::new();
    let bits = (BLOCK_BITS - LANE_BITS) as usize;
    while !left.is_empty() {
        let mut basis = Basis::default();
        let (mut taken, mut later): (Vec<Run>, Vec<Run>) = (Vec::new(), Vec::new());
        for run in left {
            let mut with = basis.clone();
            if later.len() < REACH && later.iter().all(|l| l.commutes(&run)) {
                run.x.vectors.iter().for_each(|&x| _ = with.insert(x >> LANE_BITS));
                if with.len() <= bits {
                    basis = with;
                    taken.push(run);
                    continue;
                }
            }
            later.push(run);
        }
        // Low bits first, for long stretches of consecutive chunks. In small registers a block has several groups.
        for bit in 0..k.max(BLOCK_BITS) - LANE_BITS {
            if basis.len() < bits {
                basis.insert(1 << bit);
            }
        }
        basis.vectors.sort_unstable();
        let mut consecutive = basis.vectors.iter().enumerate().all(|(i, &v)| v == 1 << i);
        if !consecutive && taken.len() < gather {
            basis.vectors = (0..k - LANE_BITS).map(|bit| 1 << bit).collect();
            consecutive = true;
        }
        passes.push(Pass::new(&taken, Space { basis }, consecutive));
        left = later;
    }
    passes
}

/// Passes on the groups of a register.
pub(super) struct Passes<'a> {
    pub(super) k: u32,
    pub(super) re: &'a mut [Chunk],
    pub(super) im: &'a mut [Chunk],
    pub(super) passes: &'a [Pass],
}

impl Kernel for Passes<'_> {
    type Output = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let Passes { k, re, im, passes } = self;
        let group = 1 << (k.max(BLOCK_BITS) - LANE_BITS);
        let mut block = (Vec::new(), Vec::new());
        for pass in passes {
            for (re, im) in re.chunks_mut(group).zip(im.chunks_mut(group)) {
                let size = 1usize << pass.space.basis.len();
                if pass.offsets.is_empty() {
                    for (b, (re, im)) in re.chunks_mut(size).zip(im.chunks_mut(size)).enumerate() {
                        pass.apply(s, (b * size) as u64, re, im);
                    }
                    continue;
                }
                block.0.resize(size, Chunk::default());
                block.1.resize(size, Chunk::default());
                for b in 0..group / size {
                    // The member of the coset that is 0 at every pivot.
                    let rep = pass.space.basis.vectors.iter().fold(b, |r, v| insert_zero(r, v.ilog2()));
                    let members = block.0.iter_mut().zip(&mut block.1).zip(&pass.offsets);
                    for ((re_to, im_to), &o) in members {
                        s.store(s.load(&re[rep ^ o]), re_to);
                        s.store(s.load(&im[rep ^ o]), im_to);
                    }
                    pass.apply(s, rep as u64, &mut block.0, &mut block.1);
                    for ((re_from, im_from), &o) in block.0.iter().zip(&block.1).zip(&pass.offsets) {
                        s.store(s.load(re_from), &mut re[rep ^ o]);
                        s.store(s.load(im_from), &mut im[rep ^ o]);
                    }
                }
            }
        }
    }
}
