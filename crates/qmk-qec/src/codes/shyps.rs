//! Subsystem hypergraph product simplex codes (Malcolm et al., "Computing efficiently in QLDPC codes",
//! arXiv:2502.07150).

use super::subsystem::{GaugeSector, Subsystem};
use crate::error::{DistanceError, QecError};
use crate::gf2::Matrix;
use qmk_abi::image::Qubit;

impl Subsystem {
    /// The subsystem hypergraph product of a simplex code with itself: \[\[(2^r - 1)², r², 2^(r - 1)\]\], r = 3, 4 or
    /// 5.
    ///
    /// With n = 2^r - 1, row `i` of the n × n matrix H has ones at `i`, `i + a` and `i + b` modulo n, where
    /// `1 + x^a + x^b` is primitive of degree r. Its kernel is the simplex code, with generator matrix G in reduced row
    /// echelon form. On an n × n grid of data qubits the gauges are H ⊗ I of X and I ⊗ H of Z, 2n² of weight three; the
    /// stabilizers are H ⊗ G of X and G ⊗ H of Z. X of logical qubit `(p, q)`, numbered `r p + q`, is row `q` of G on
    /// the row of the grid where row `p` of G has its first one; Z the same with rows and columns of the grid
    /// exchanged, and p and q.
    ///
    /// Data qubit `n * row + column` comes first, then an ancilla for each gauge, 3n² qubits in all. As H is a
    /// circulant, ancillas meet the three qubits of their gauges in three layers without conflict, six in a round:
    /// first X, then Z; while ancillas of one sector meet the data, those of the other are measured and reset.
    ///
    /// Detectors compare stabilizers, as products of gauges, with the round before. Gauges of X right after a
    /// preparation in X and of Z right before a measurement in Z are detectors one by one. H has r rows more than its
    /// rank, so for each column (row) of the grid r products of gauges of X (Z) are the identity: these are detectors
    /// of errors of measurement.
    ///
    /// # Errors
    /// If r is not 3, 4 or 5.
    pub fn shyps(r: u32) -> Result<Self, QecError> {
        let [a, b] = match r {
            3 => [1, 3],
            4 => [1, 4],
            5 => [2, 5],
            _ => return Err(DistanceError::ShypsDimension(r).into()),
        };
        let n = (1usize << r) - 1;
        let circulant = Matrix::from_ones(n, (0..n).map(|i| [i, (i + a) % n, (i + b) % n]));
        let (generators, first) = circulant.kernel().reduced();
        let (words, relations) = (generators.ones(), circulant.transposed().kernel().ones());
        // A place in the grid: along what H acts on, and across; for X that is row and column.
        let cell = |which: usize, along: usize, across: usize| {
            if which == 0 { n * along + across } else { n * across + along }
        };
        // Sets of gauges, one for each set of `of` and each place on the other axis.
        let sets = |of: &[Vec<usize>], place: &dyn Fn(usize, usize) -> usize| -> Vec<Vec<usize>> {
            (0..n).flat_map(|i| of.iter().map(move |set| set.iter().map(|&s| place(i, s)).collect())).collect()
        };
        let sector = |which: usize| {
            let gauge = |g: usize| {
                let (along, across) = if which == 0 { (g / n, g % n) } else { (g % n, g / n) };
                [0, a, b].map(|o| cell(which, (along + o) % n, across) as Qubit).to_vec()
            };
            GaugeSector {
                gauges: (0..n * n).map(gauge).collect(),
                ancillas: ((1 + which) * n * n) as Qubit,
                stabilizers: sets(&words, &|along, w| cell(which, along, w)),
                relations: sets(&relations, &|across, s| cell(which, s, across)),
            }
        };
        let logical = |p: usize, q: usize| {
            let x = words[q].iter().map(|&w| cell(0, first[p], w) as Qubit).collect();
            let z = words[p].iter().map(|&w| cell(1, first[q], w) as Qubit).collect();
            [x, z]
        };
        let k = r as usize;
        let logicals = (0..k * k).map(|i| logical(i / k, i % k)).collect();
        let shift = |s: f64, t: f64| (0..n * n).map(move |q| [(q % n) as f64 + s, (q / n) as f64 + t]);
        let places = shift(0.0, 0.0).chain(shift(0.0, 0.5)).chain(shift(0.5, 0.0)).collect();
        let (distance, data, sectors) = (1 << (r - 1), (n * n) as u32, [sector(0), sector(1)]);
        Ok(Subsystem { name: "shyps", distance, matchable: false, places, data, sectors, logicals })
    }
}
