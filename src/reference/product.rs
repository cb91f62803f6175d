//! Matrix products and sliding-window sums of the reference, over f64 and i128 alike, spread over the machine's cores.

use std::ops::{AddAssign, Mul, Range};

use crate::ops::window::Span;

/// A number that products are made of.
pub(crate) trait Number: Copy + Default + Send + Sync + AddAssign + Mul<Output = Self> {}
impl Number for f64 {}
impl Number for i128 {}

/// Calls `fill(i, chunk)` for each run of `size` elements of `values`, in parallel.
pub(crate) fn for_chunks<T: Send>(values: &mut [T], size: usize, fill: impl Fn(usize, &mut [T]) + Sync) {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let chunks = values.len().div_ceil(size.max(1));
    let each = chunks.div_ceil(threads).max(1);
    std::thread::scope(|scope| {
        for (t, part) in values.chunks_mut(each * size.max(1)).enumerate() {
            let fill = &fill;
            scope.spawn(move || {
                part.chunks_mut(size.max(1)).enumerate().for_each(|(i, chunk)| fill(t * each + i, chunk));
            });
        }
    });
}

/// Row-major `a` (`m` by `k`) times row-major `b` (`k` by `n`).
pub(crate) fn matmul<T: Number>(a: &[T], b: &[T], (m, k, n): (usize, usize, usize)) -> Vec<T> {
    let mut y = vec![T::default(); m * n];
    for_chunks(&mut y, n, |row, y| {
        for i in 0..k {
            let x = a[row * k + i];
            y.iter_mut().zip(&b[i * n..]).for_each(|(y, &b)| *y += x * b);
        }
    });
    y
}

/// Row-major `rows` by `columns`, transposed.
pub(crate) fn transposed<T: Copy>(x: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| x[r * columns + c])).collect()
}

/// Sizes of a convolution: `x` is `[batch, groups * channels, ...]`, `w` is `[filters, channels, ...]`.
pub(crate) struct Conv<'a> {
    pub(crate) batch: usize,
    pub(crate) groups: usize,
    pub(crate) channels: usize,
    pub(crate) filters: usize,
    pub(crate) spans: &'a [Span],
}

/// The coordinates of all taps, respectively all places, of the spans: every combination of `size(span)`.
fn grid(spans: &[Span], size: impl Fn(&Span) -> usize) -> Vec<Vec<usize>> {
    let sizes: Vec<usize> = spans.iter().map(size).collect();
    (0..sizes.iter().product()).map(|i| super::array::unravel(i, &sizes)).collect()
}

impl Conv<'_> {
    /// `y[n][f][o] = sum over channels c and taps t of x[n][c][o * stride + t * dilation - begin] * w[f][c][t]`.
    pub(crate) fn run<T: Number>(&self, x: &[T], w: &[T]) -> Vec<T> {
        let (input, output) = (self.size(|s| s.input), self.size(|s| s.output));
        let taps = grid(self.spans, |s| s.kernel);
        let mut y = vec![T::default(); self.batch * self.filters * output];
        for_chunks(&mut y, output, |plane, y| {
            let (n, f) = (plane / self.filters, plane % self.filters);
            let group = f / (self.filters / self.groups);
            for c in 0..self.channels {
                let x = &x[((n * self.groups + group) * self.channels + c) * input..][..input];
                for (t, tap) in taps.iter().enumerate() {
                    let weight = w[(f * self.channels + c) * taps.len() + t];
                    self.lines(tap, |y_line, x_line, stride| {
                        let x = x[x_line].iter().step_by(stride);
                        y[y_line].iter_mut().zip(x).for_each(|(y, &x)| *y += weight * x);
                    });
                }
            }
        });
        y
    }

    /// The transposed convolution, whose windows the spans describe from the other side: `x` has their `output` places, the
    /// result their `input` places, and `w` is `[groups * channels, filters / groups, ...]`.
    pub(crate) fn run_transposed<T: Number>(&self, x: &[T], w: &[T]) -> Vec<T> {
        let (input, output) = (self.size(|s| s.output), self.size(|s| s.input));
        let (taps, each) = (grid(self.spans, |s| s.kernel), self.filters / self.groups);
        let mut y = vec![T::default(); self.batch * self.filters * output];
        for_chunks(&mut y, output, |plane, y| {
            let (n, f) = (plane / self.filters, plane % self.filters);
            let group = f / each;
            for c in group * self.channels..(group + 1) * self.channels {
                let x = &x[(n * self.groups * self.channels + c) * input..][..input];
                for (t, tap) in taps.iter().enumerate() {
                    let weight = w[(c * each + f % each) * taps.len() + t];
                    self.lines(tap, |x_line, y_line, stride| {
                        let y = y[y_line].iter_mut().step_by(stride);
                        y.zip(&x[x_line]).for_each(|(y, &x)| *y += weight * x);
                    });
                }
            }
        });
        y
    }

    fn size(&self, size: impl Fn(&Span) -> usize) -> usize {
        self.spans.iter().map(size).product()
    }

    /// Calls `visit` for each line of windows of which `tap` is not in the padding: with the range of windows, the range
    /// of places that the tap reads, and the stride in the latter.
    fn lines(&self, tap: &[usize], mut visit: impl FnMut(Range<usize>, Range<usize>, usize)) {
        let Some((inner, outer)) = self.spans.split_last() else { return };
        let Some((inner_tap, outer_tap)) = tap.split_last() else { return };
        let (first, last) = inner.inside(*inner_tap);
        for (row, at) in grid(outer, |s| s.output).iter().enumerate() {
            let mut line = Some(0);
            for ((span, &o), &t) in outer.iter().zip(at).zip(outer_tap) {
                line = span.source(o, t).and_then(|i| line.map(|line| line * span.input + i));
            }
            if let (Some(line), Some(start)) = (line, inner.source(first, *inner_tap)) {
                let windows = row * inner.output + first..row * inner.output + last;
                visit(windows, line * inner.input + start..(line + 1) * inner.input, inner.stride);
            }
        }
    }
}
