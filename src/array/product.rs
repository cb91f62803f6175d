//! Matrix products and sliding-window sums of the reference, over f64 and i128 alike, spread over the machine's cores.

use std::ops::{AddAssign, Mul, Range};
use std::sync::{Arc, Mutex, PoisonError};

use smallvec::SmallVec;

use super::Span;
use crate::shape::product;

/// A number type of products.
pub(crate) trait Number: Copy + Default + Send + Sync + AddAssign + Mul<Output = Self> {}
impl Number for f64 {}
impl Number for f32 {}
impl Number for i128 {}

fn take<'v, T>(part: &Mutex<Option<&'v mut [T]>>) -> Option<&'v mut [T]> {
    part.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Fewer elements than this are computed by the calling thread: starting others would take longer.
const SHARED: usize = 4096;

/// Calls `fill(i, chunk)` for each chunk of `size` elements of `values`, in parallel. Where the system gives no threads, the
/// calling thread does the work.
pub(crate) fn for_chunks<T: Send>(values: &mut [T], size: usize, fill: impl Fn(usize, &mut [T]) + Sync) {
    let (size, count) = (size.max(1), values.len());
    let threads =
        if count < SHARED { 1 } else { std::thread::available_parallelism().map_or(1, |n| n.get()) };
    let each = count.div_ceil(size).div_ceil(threads).max(1);
    let run = |t: usize, part: &mut [T]| {
        part.chunks_mut(size).enumerate().for_each(|(i, chunk)| fill(t * each + i, chunk));
    };
    std::thread::scope(|scope| {
        let mut parts = values.chunks_mut(each * size).enumerate();
        let own = parts.next();
        for (t, part) in parts {
            // A part that no thread takes comes back through the lock.
            let part = Arc::new(Mutex::new(Some(part)));
            let (theirs, run) = (part.clone(), &run);
            let started = std::thread::Builder::new()
                .spawn_scoped(scope, move || take(&theirs).into_iter().for_each(|part| run(t, part)));
            if started.is_err() {
                take(&part).into_iter().for_each(|part| run(t, part));
            }
        }
        own.into_iter().for_each(|(t, part)| run(t, part));
    });
}

/// Row-major `a` (`m` by `k`) times row-major `b` (`k` by `n`).
pub(crate) fn matmul<T: Number>(a: &[T], b: &[T], (m, k, n): (usize, usize, usize)) -> Vec<T> {
    let mut y = vec![T::default(); product([m, n])];
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
    let mut turned = Vec::with_capacity(x.len());
    turned.extend((0..columns).flat_map(|c| (0..rows).map(move |r| x[r * columns + c])));
    turned
}

/// A convolution, by its sizes: `x` is `[batch, groups * channels, ...]`, `w` is `[filters, channels, ...]`.
pub(crate) struct DirectConv<'a> {
    pub(crate) batch: usize,
    pub(crate) groups: usize,
    pub(crate) channels: usize,
    pub(crate) filters: usize,
    pub(crate) spans: &'a [Span],
}

/// One tap of the windows: for each axis, the windows for which the tap is not in the padding.
struct Tap(Vec<Range<usize>>);

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
        let mut y = vec![T::default(); product([self.batch, self.filters, output])];
        for_chunks(&mut y, output, |plane, y| {
            let (n, f) = (plane / self.filters, plane % self.filters);
            let group = f / (self.filters / self.groups);
            for c in 0..self.channels {
                let x = &x[((n * self.groups + group) * self.channels + c) * input..][..input];
                for (t, tap) in taps.iter().enumerate() {
                    let weight = w[(f * self.channels + c) * taps.len() + t];
                    self.lines(t, tap, |TapLine { windows, places, stride }| {
                        let x = x[places].iter().step_by(stride);
                        y[windows].iter_mut().zip(x).for_each(|(y, &x)| *y += weight * x);
                    });
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
        let mut y = vec![T::default(); product([self.batch, self.filters, output])];
        for_chunks(&mut y, output, |plane, y| {
            let (n, f) = (plane / self.filters, plane % self.filters);
            let group = f / each;
            for c in group * self.channels..(group + 1) * self.channels {
                let x = &x[(n * self.groups * self.channels + c) * input..][..input];
                for (t, tap) in taps.iter().enumerate() {
                    let weight = w[(c * each + f % each) * taps.len() + t];
                    self.lines(t, tap, |TapLine { windows, places, stride }| {
                        let y = y[places].iter_mut().step_by(stride);
                        y.zip(&x[windows]).for_each(|(y, &x)| *y += weight * x);
                    });
                }
            }
        });
        y
    }

    fn size(&self, size: impl Fn(&Span) -> usize) -> usize {
        product(self.spans.iter().map(size))
    }

    fn taps(&self) -> Vec<Tap> {
        let kernel: Vec<usize> = self.spans.iter().map(|span| span.kernel).collect();
        let inside = |(span, tap): (&Span, usize)| {
            let (first, last) = span.inside(tap);
            first..last
        };
        let tap = |t| Tap(self.spans.iter().zip(super::unravel(t, &kernel)).map(inside).collect());
        (0..product(&kernel)).map(tap).collect()
    }

    /// Calls `each` with the lines of windows of tap `t`, in order.
    fn lines(&self, t: usize, tap: &Tap, mut each: impl FnMut(TapLine)) {
        let Some((inner, outer)) = self.spans.split_last() else { return };
        if tap.0.iter().any(Range::is_empty) {
            return;
        }
        let (ranges, windows) = (&tap.0[..outer.len()], &tap.0[outer.len()]);
        let reads =
            |span: &Span, window: usize, tap: usize| window * span.stride + tap * span.dilation - span.begin;
        let start = reads(inner, windows.start, t % inner.kernel);
        let mut at: SmallVec<[usize; 4]> = ranges.iter().map(|range| range.start).collect();
        loop {
            let (mut row, mut line, mut tap) = (0, 0, t / inner.kernel);
            let mut along = 1;
            let mut across = 1;
            for (span, &window) in outer.iter().zip(&at).rev() {
                row += window * across;
                line += reads(span, window, tap % span.kernel) * along;
                (across, along, tap) = (across * span.output, along * span.input, tap / span.kernel);
            }
            each(TapLine {
                windows: row * inner.output + windows.start..row * inner.output + windows.end,
                places: line * inner.input + start..(line + 1) * inner.input,
                stride: inner.stride,
            });
            let Some(axis) = (0..at.len()).rev().find(|&axis| at[axis] + 1 < ranges[axis].end) else {
                return;
            };
            at[axis] += 1;
            at.iter_mut().zip(ranges).skip(axis + 1).for_each(|(at, range)| *at = range.start);
        }
    }
}
