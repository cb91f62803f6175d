//! Roots of unity for Fourier transforms. They are exact at every quarter turn, so that sums that cancel in theory cancel in
//! numbers.

/// The cosine and the sine of `k / n` turns.
pub(crate) fn root(k: usize, n: usize) -> (f64, f64) {
    // The angle in units of 1 / 8n turns, folded into the first eighth of the circle.
    let mut a = 8 * (k % n) as u64;
    let n = n as u64;
    let (below, left) = (a > 4 * n, (a > 2 * n) && (a < 6 * n));
    a = a.min(8 * n - a);
    a = a.min(4 * n - a);
    let steep = a > n;
    a = a.min(2 * n - a);
    let (sin, cos) = (a as f64 / (8 * n) as f64 * std::f64::consts::TAU).sin_cos();
    let (cos, sin) = if steep { (sin, cos) } else { (cos, sin) };
    (if left { -cos } else { cos }, if below { -sin } else { sin })
}

/// All `n` roots, as f32 words: cosine and sine in turn.
pub(crate) fn table(n: usize) -> Vec<u32> {
    doubles(n).into_iter().map(|part| (part as f32).to_bits()).collect()
}

/// All `n` roots: cosine and sine in turn.
pub(crate) fn doubles(n: usize) -> Vec<f64> {
    (0..n).map(|k| root(k, n)).flat_map(|(cos, sin)| [cos, sin]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_are_the_circle() {
        for n in [1, 2, 3, 4, 5, 7, 8, 12, 16, 100] {
            for k in 0..n {
                let (cos, sin) = root(k, n);
                let angle = std::f64::consts::TAU * k as f64 / n as f64;
                assert!((cos - angle.cos()).abs() < 1e-15 && (sin - angle.sin()).abs() < 1e-15, "{k} of {n}");
            }
        }
        assert_eq!(root(1, 4), (0.0, 1.0));
        assert_eq!(root(6, 12), (-1.0, 0.0));
        assert_eq!(root(3, 4), (0.0, -1.0));
    }
}
