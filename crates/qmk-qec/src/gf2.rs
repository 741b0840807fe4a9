//! Linear algebra over the field of two elements: ranks and kernels of check matrices.

/// A matrix of bits, packed by rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matrix {
    rows: Vec<Vec<u64>>,
    columns: usize,
}

impl Matrix {
    /// A matrix of `columns` columns from the positions of the ones in each row; a position named twice cancels.
    ///
    /// # Panics
    /// If a position is not below `columns`.
    pub fn from_ones<R: IntoIterator<Item = usize>>(columns: usize, rows: impl IntoIterator<Item = R>) -> Self {
        let mut matrix = Matrix { rows: Vec::new(), columns };
        for ones in rows {
            let mut row = vec![0; columns.div_ceil(64)];
            for one in ones {
                assert!(one < columns, "column {one} of a matrix of {columns}");
                row[one / 64] ^= 1 << (one % 64);
            }
            matrix.rows.push(row);
        }
        matrix
    }

    /// Positions of the ones in each row, ascending.
    pub fn ones(&self) -> Vec<Vec<usize>> {
        let ones = |r: &Vec<u64>| (0..self.columns).filter(|&c| bit(r, c)).collect();
        self.rows.iter().map(ones).collect()
    }

    /// The reduced row echelon form without its empty rows, and the column of each row's first one.
    pub fn reduced(&self) -> (Matrix, Vec<usize>) {
        let mut rows = self.rows.clone();
        let mut pivots = Vec::new();
        for c in 0..self.columns {
            let rank = pivots.len();
            let Some(found) = (rank..rows.len()).find(|&r| bit(&rows[r], c)) else { continue };
            rows.swap(rank, found);
            let pivot = std::mem::take(&mut rows[rank]);
            for row in rows.iter_mut().filter(|r| !r.is_empty() && bit(r, c)) {
                row.iter_mut().zip(&pivot).for_each(|(a, b)| *a ^= b);
            }
            rows[rank] = pivot;
            pivots.push(c);
        }
        rows.truncate(pivots.len());
        (Matrix { rows, columns: self.columns }, pivots)
    }

    /// Dimension of the span of the rows.
    pub fn rank(&self) -> usize {
        self.reduced().1.len()
    }

    /// A basis, in reduced row echelon form, of the vectors that are orthogonal to every row.
    pub fn kernel(&self) -> Matrix {
        let (reduced, pivots) = self.reduced();
        let free = (0..self.columns).filter(|c| !pivots.contains(c));
        let vector = |f: usize| {
            let bound = pivots.iter().zip(&reduced.rows).filter(move |(_, row)| bit(row, f));
            bound.map(|(&p, _)| p).chain([f]).collect::<Vec<_>>()
        };
        Matrix::from_ones(self.columns, free.map(vector)).reduced().0
    }

    /// The transpose.
    pub fn transposed(&self) -> Matrix {
        let ones = |c| (0..self.rows.len()).filter(move |&r| bit(&self.rows[r], c));
        Matrix::from_ones(self.rows.len(), (0..self.columns).map(ones))
    }
}

fn bit(row: &[u64], column: usize) -> bool {
    row[column / 64] >> (column % 64) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_and_its_kernel() {
        // The Hamming code's checks; its dual has weights 4 only, the code 16 words of weights 0, 3, 4, 7.
        let checks = Matrix::from_ones(7, [vec![0, 2, 4, 6], vec![1, 2, 5, 6], vec![3, 4, 5, 6], vec![0, 1, 4, 5]]);
        assert_eq!(checks.rank(), 3);
        assert_eq!(checks.transposed().rank(), 3);
        assert_eq!(checks.transposed().transposed(), checks);
        let (reduced, pivots) = checks.reduced();
        assert_eq!(pivots, [0, 1, 3]);
        assert_eq!(reduced.ones()[0], [0, 2, 4, 6]);
        let code = checks.kernel();
        assert_eq!(code.rank(), 4);
        assert_eq!(code.kernel(), reduced);
        let mut weights = [0; 8];
        for word in 0..16u32 {
            let sum = code.ones().into_iter().enumerate().filter(|(i, _)| word >> i & 1 == 1).flat_map(|(_, r)| r);
            weights[Matrix::from_ones(7, [sum]).ones()[0].len()] += 1;
        }
        assert_eq!(weights, [1, 0, 0, 7, 7, 0, 0, 1]);
    }

    #[test]
    fn rows_longer_than_a_word() {
        let m = Matrix::from_ones(130, [vec![0, 129], vec![64, 129], vec![0, 64], vec![5, 5]]);
        assert_eq!(m.rank(), 2);
        assert_eq!(m.kernel().rank(), 128);
        assert!(m.kernel().ones().contains(&vec![0, 64, 129]));
    }
}
