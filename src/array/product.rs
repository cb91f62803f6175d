//! Matrix products and sliding-window sums of the reference, over f64 and i128 alike, spread over the machine's cores.

use std::ops::{AddAssign, Mul, Range};

use super::Span;
use crate::shape::product;

/// A number type of products.
pub(crate) trait Number: Copy + Default + Send + Sync + AddAssign + Mul<Output = Self> {}
impl Number for f64 {}
impl Number for f32 {}
impl Number for i128 {}

/// Calls `fill(i, chunk)` for each chunk of `size` elements of `values`, in parallel.
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

/// The transposed matrix of `rows` by `columns` elements, both row-major.
pub(crate) fn transposed<T: Copy>(x: &[T], rows: usize, columns: usize) -> Vec<T> {
    (0..columns).flat_map(|c| (0..rows).map(move |r| x[r * columns + c])).collect()
}

/// A convolution, by its sizes: `x` is `[batch, groups * channels, ...]`, `w` is `[filters, channels, ...]`.
pub(crate) struct DirectConv<'a> {
    pub(crate) batch: usize,
    pub(crate) groups: usize,
    pub(crate) channels: usize,
    pub(crate) filters: usize,
    pub(crate) spans: &'a [Span],
}

/// The coordinates of all taps, or of all places, of the spans: every combination of numbers below `size(span)`.
fn grid(spans: &[Span], size: impl Fn(&Span) -> usize) -> Vec<Vec<usize>> {
    let sizes: Vec<usize> = spans.iter().map(size).collect();
    (0..product(&sizes)).map(|i| super::unravel(i, &sizes)).collect()
}

/// The factors of one tap in one line of windows.
struct TapLine {
    /// The windows for which the tap is not in the padding.
    windows: Range<usize>,
    /// The elements that the tap reads, which are `stride` apart.
    places: Range<usize>,
    stride: usize,
}

impl DirectConv<'_> {
    /// `y[n][f][o] = sum over channels c and taps t of x[n][c][o * stride + t * dilation - begin] * w[f][c][t]`.
    pub(crate) fn run<T: Number>(&self, x: &[T], w: &[T]) -> Vec<T> {
        let (input, output) = (self.size(|s| s.input), self.size(|s| s.output));
        let taps = self.taps();
        let mut y = vec![T::default(); self.batch * self.filters * output];
        for_chunks(&mut y, output, |plane, y| {
            let (n, f) = (plane / self.filters, plane % self.filters);
            let group = f / (self.filters / self.groups);
            for c in 0..self.channels {
                let x = &x[((n * self.groups + group) * self.channels + c) * input..][..input];
                for (t, lines) in taps.iter().enumerate() {
                    let weight = w[(f * self.channels + c) * taps.len() + t];
                    for TapLine { windows, places, stride } in lines {
                        let x = x[places.clone()].iter().step_by(*stride);
                        y[windows.clone()].iter_mut().zip(x).for_each(|(y, &x)| *y += weight * x);
                    }
                }
            }
        });
        y
    }

    /// The transposed convolution. The spans describe its windows from the other side: `x` has their `output` places and the
    /// result their `input` places, and `w` is `[groups * channels, filters / groups, ...]`.
    pub(crate) fn run_transposed<T: Number>(&self, x: &[T], w: &[T]) -> Vec<T> {
        let (input, output) = (self.size(|s| s.output), self.size(|s| s.input));
        let (taps, each) = (self.taps(), self.filters / self.groups);
        let mut y = vec![T::default(); self.batch * self.filters * output];
        for_chunks(&mut y, output, |plane, y| {
            let (n, f) = (plane / self.filters, plane % self.filters);
            let group = f / each;
            for c in group * self.channels..(group + 1) * self.channels {
                let x = &x[(n * self.groups * self.channels + c) * input..][..input];
                for (t, lines) in taps.iter().enumerate() {
                    let weight = w[(c * each + f % each) * taps.len() + t];
                    for TapLine { windows, places, stride } in lines {
                        let y = y[places.clone()].iter_mut().step_by(*stride);
                        y.zip(&x[windows.clone()]).for_each(|(y, &x)| *y += weight * x);
                    }
                }
            }
        });
        y
    }

    fn size(&self, size: impl Fn(&Span) -> usize) -> usize {
        product(self.spans.iter().map(size))
    }

    /// The lines of windows of every tap.
    fn taps(&self) -> Vec<Vec<TapLine>> {
        grid(self.spans, |s| s.kernel).iter().map(|tap| self.lines(tap)).collect()
    }

    fn lines(&self, tap: &[usize]) -> Vec<TapLine> {
        let (Some((inner, outer)), Some((inner_tap, outer_tap))) =
            (self.spans.split_last(), tap.split_last())
        else {
            return Vec::new();
        };
        let (first, last) = inner.inside(*inner_tap);
        let line = |(row, at): (usize, Vec<usize>)| {
            let mut line = Some(0);
            for ((span, &o), &t) in outer.iter().zip(&at).zip(outer_tap) {
                line = span.source(o, t).and_then(|i| line.map(|line| line * span.input + i));
            }
            let (line, start) = (line?, inner.source(first, *inner_tap)?);
            Some(TapLine {
                windows: row * inner.output + first..row * inner.output + last,
                places: line * inner.input + start..(line + 1) * inner.input,
                stride: inner.stride,
            })
        };
        grid(outer, |s| s.output).into_iter().enumerate().filter_map(line).collect()
    }
}
