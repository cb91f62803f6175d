//! `Span`: the windows of a convolution or a pool along one axis.

/// The windows along one spatial axis: 10 elements with 1 element of padding at each end, under windows of 3 elements and
/// stride 2, have `output` 5.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Span {
    pub(crate) input: usize,
    pub(crate) output: usize,
    pub(crate) kernel: usize,
    pub(crate) stride: usize,
    pub(crate) dilation: usize,
    /// Padding before the first element, and after the last.
    pub(crate) begin: usize,
    pub(crate) end: usize,
}

impl Span {
    /// An axis along which no window moves.
    pub(crate) fn whole(size: usize) -> Span {
        Span { input: size, output: size, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0 }
    }

    /// The element that tap `t` of window `o` reads; `None` in the padding.
    pub(crate) fn source(&self, o: usize, t: usize) -> Option<usize> {
        (o * self.stride + t * self.dilation).checked_sub(self.begin).filter(|&i| i < self.input)
    }

    /// The windows `first..last` for which tap `t` is not in the padding.
    pub(crate) fn inside(&self, t: usize) -> (usize, usize) {
        let at = t * self.dilation;
        let first = self.begin.saturating_sub(at).div_ceil(self.stride).min(self.output);
        let last = (self.input + self.begin).saturating_sub(at).div_ceil(self.stride);
        (first, last.clamp(first, self.output))
    }

    pub(crate) fn reach(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }
}
