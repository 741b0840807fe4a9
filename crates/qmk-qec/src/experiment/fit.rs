//! Least squares, linear and nonlinear, in a few dimensions.

/// Solves the normal equations of `min Σ_i w_i (y_i - Σ_k a_ik x_k)²`, with `damping` times its own size added to each
/// diagonal element. Rows are (a, y, w). `None` if the columns are dependent.
pub(crate) fn weighted_least_squares<const N: usize>(rows: &[([f64; N], f64, f64)], damping: f64) -> Option<[f64; N]> {
    let mut m = [[0.0; N]; N];
    let mut x = [0.0; N];
    for (a, y, w) in rows {
        for i in 0..N {
            x[i] += w * a[i] * y;
            (0..N).for_each(|j| m[i][j] += w * a[i] * a[j]);
        }
    }
    // Columns of very different size make the matrix look singular.
    let scale: [f64; N] = std::array::from_fn(|i| 1.0 / m[i][i].sqrt());
    for i in 0..N {
        x[i] *= scale[i];
        (0..N).for_each(|j| m[i][j] *= scale[i] * scale[j]);
        m[i][i] += damping;
    }
    for k in 0..N {
        let pivot = (k..N).max_by(|&a, &b| m[a][k].abs().total_cmp(&m[b][k].abs()))?;
        m.swap(k, pivot);
        x.swap(k, pivot);
        if m[k][k].is_nan() || m[k][k].abs() < 1e-13 {
            return None;
        }
        for i in k + 1..N {
            let f = m[i][k] / m[k][k];
            (k..N).for_each(|j| m[i][j] -= f * m[k][j]);
            x[i] -= f * x[k];
        }
    }
    for k in (0..N).rev() {
        let known: f64 = (k + 1..N).map(|j| m[k][j] * x[j]).sum();
        x[k] = (x[k] - known) / m[k][k];
    }
    (0..N).for_each(|i| x[i] *= scale[i]);
    Some(x)
}

/// A residual and its derivatives.
pub(crate) type Residual<const N: usize> = (f64, [f64; N]);

/// Minimises `Σ_i r_i(x)²` from a first guess by Levenberg-Marquardt steps (Marquardt, J. SIAM 11, 431 (1963)). `model`
/// gives residuals and their derivatives at x. Returns the minimum and its sum of squares.
pub(crate) fn levenberg_marquardt<const N: usize>(
    mut x: [f64; N],
    model: &dyn Fn(&[f64; N]) -> Vec<Residual<N>>,
) -> ([f64; N], f64) {
    let sum = |at: &[Residual<N>]| at.iter().map(|(r, _)| r * r).sum::<f64>();
    let mut here = model(&x);
    let mut damping = 1e-3;
    for _ in 0..200 {
        let rows: Vec<_> = here.iter().map(|(r, d)| (*d, -r, 1.0)).collect();
        let step = weighted_least_squares(&rows, damping);
        let moved: [f64; N] = std::array::from_fn(|i| x[i] + step.map_or(f64::NAN, |s| s[i]));
        let there = model(&moved);
        let (old, new) = (sum(&here), sum(&there));
        if new <= old {
            (x, here) = (moved, there);
            damping = (damping / 10.0).max(1e-12);
            if old - new <= 1e-10 * old {
                break;
            }
        } else {
            damping *= 10.0;
            if damping > 1e12 {
                break;
            }
        }
    }
    (x, sum(&here))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_data_are_fitted_exactly() {
        let rows: Vec<_> = (1..9).map(f64::from).map(|t| ([1.0, t, 1e6 * t * t], 2.0 - t + 3.0 * t * t, t)).collect();
        let x = weighted_least_squares(&rows, 0.0).unwrap();
        assert!((x[0] - 2.0).abs() + (x[1] + 1.0).abs() + (1e6 * x[2] - 3.0).abs() < 1e-8, "{x:?}");
        assert_eq!(weighted_least_squares(&[([1.0, 2.0], 1.0, 1.0), ([2.0, 4.0], 2.0, 1.0)], 0.0), None);
        let data: Vec<f64> = (0..9).map(|t| 3.0 * (-0.7 * f64::from(t)).exp()).collect();
        let model = |x: &[f64; 2]| {
            let at = |(t, y): (usize, &f64)| {
                let e = (x[1] * t as f64).exp();
                (x[0] * e - y, [e, x[0] * t as f64 * e])
            };
            data.iter().enumerate().map(at).collect()
        };
        let (x, rest) = levenberg_marquardt([1.0, 0.0], &model);
        assert!((x[0] - 3.0).abs() + (x[1] + 0.7).abs() < 1e-6 && rest < 1e-12, "{x:?}");
    }
}
