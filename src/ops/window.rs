//! Sliding windows: the strides, dilations, padding and `auto_pad` of convolutions and pools.

use super::{NodeDef, Why, refuse};
pub(crate) use crate::array::Span;

/// Larger sizes are refused: every index computation of the device is in 32 bits.
const LIMIT: i64 = 1 << 30;

#[derive(Clone, Copy, Debug, PartialEq)]
enum AutoPad {
    NotSet,
    Valid,
    SameUpper,
    SameLower,
}

/// The attributes that describe a sliding window.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    kernel: Option<Vec<i64>>,
    strides: Option<Vec<i64>>,
    dilations: Option<Vec<i64>>,
    pads: Option<Vec<i64>>,
    auto_pad: AutoPad,
    output_padding: Option<Vec<i64>>,
    output_shape: Option<Vec<i64>>,
    /// Whether a last window that reaches beyond the end counts.
    ceil: bool,
}

impl Window {
    pub(crate) fn parse(def: &NodeDef) -> Result<Window, Why> {
        let ints = |name: &str, least: i64| match def.attributes.ints(name)? {
            Some(list) if list.iter().any(|v| !(least..LIMIT).contains(v)) => {
                refuse!("{name} {list:?} has a value below {least} or too large")
            }
            list => Ok(list),
        };
        let auto_pad = match def.attributes.string_or("auto_pad", "NOTSET")?.as_str() {
            "NOTSET" | "" => AutoPad::NotSet,
            "VALID" => AutoPad::Valid,
            "SAME_UPPER" => AutoPad::SameUpper,
            "SAME_LOWER" => AutoPad::SameLower,
            other => refuse!("auto_pad '{other}' is not one of NOTSET, VALID, SAME_UPPER, SAME_LOWER"),
        };
        Ok(Window {
            kernel: ints("kernel_shape", 1)?,
            strides: ints("strides", 1)?,
            dilations: ints("dilations", 1)?,
            pads: ints("pads", 0)?,
            auto_pad,
            output_padding: ints("output_padding", 0)?,
            output_shape: ints("output_shape", 0)?,
            ceil: def.attributes.flag("ceil_mode", false)?,
        })
    }

    /// The windows over `input` (the spatial axes alone) of a kernel of shape `kernel`.
    pub(crate) fn spans(&self, input: &[usize], kernel: &[usize]) -> Result<Vec<Span>, Why> {
        let mut spans = self.bare(input, kernel)?;
        for (d, span) in spans.iter_mut().enumerate() {
            let (begin, end) = match self.auto_pad {
                AutoPad::NotSet => self.pads(d, input.len())?,
                AutoPad::Valid => (0, 0),
                _ => {
                    let windows = span.input.div_ceil(span.stride);
                    let reach = windows.saturating_sub(1) * span.stride + span.reach();
                    self.split(reach.saturating_sub(span.input))
                }
            };
            (span.begin, span.end) = (begin, end);
            let padded = span.input + begin + end;
            span.output = (padded + span.stride).saturating_sub(span.reach()) / span.stride;
        }
        Ok(spans)
    }

    /// The windows of a pool over `input` (the spatial axes alone).
    pub(crate) fn pools(&self, input: &[usize]) -> Result<Vec<Span>, Why> {
        let kernel: Vec<usize> = self.kernel.iter().flatten().map(|&k| k as usize).collect();
        let mut spans = self.spans(input, &kernel)?;
        let same = matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower);
        for span in &mut spans {
            let padded = span.input + span.begin + span.end;
            if self.ceil && !same {
                span.output = (padded + 2 * span.stride - 1).saturating_sub(span.reach()) / span.stride;
                // A window that would begin in the padding after the input does not count.
                let last = span.output.saturating_sub(1) * span.stride;
                span.output -= usize::from(span.output > 0 && last >= span.input + span.begin);
            }
            if span.output == 0 && span.input > 0 {
                refuse!("a window of {} does not fit an axis of {padded}, padding included", span.reach());
            }
        }
        Ok(spans)
    }

    /// The spans of a transposed convolution, which are those of the convolution whose gradient it is: `output` is the size of
    /// the transposed convolution's input.
    pub(crate) fn transposed(&self, input: &[usize], kernel: &[usize]) -> Result<Vec<Span>, Why> {
        let mut spans = self.bare(input, kernel)?;
        for (d, span) in spans.iter_mut().enumerate() {
            let extra = entry(&self.output_padding, d, input.len(), 0, "output_padding")?;
            // The specification's formula, also of an axis of size 0.
            let full = (span.input * span.stride + span.reach() + extra).saturating_sub(span.stride);
            let wanted = match &self.output_shape {
                // Some models give the whole shape, with batch and channels first.
                Some(shape) if shape.len() == input.len() + 2 => Some(shape[d + 2] as usize),
                Some(_) => Some(entry(&self.output_shape, d, input.len(), 0, "output_shape")?),
                None if matches!(self.auto_pad, AutoPad::SameUpper | AutoPad::SameLower) => {
                    Some(span.input * span.stride)
                }
                None => None,
            };
            let (begin, size) = match wanted {
                Some(size) => {
                    let total = full.saturating_sub(size);
                    let half =
                        if self.auto_pad == AutoPad::SameUpper { total / 2 } else { total - total / 2 };
                    (half, size)
                }
                None if self.auto_pad == AutoPad::Valid => (0, full),
                None => {
                    let (begin, end) = self.pads(d, input.len())?;
                    (begin, full.saturating_sub(begin + end))
                }
            };
            (span.begin, span.output, span.input) = (begin, span.input, size);
        }
        Ok(spans)
    }

    /// The spans of a transposed convolution, without the sizes of its input and its output, where the padding depends on neither;
    /// and the results that `output_padding` adds at the end of each axis.
    pub(crate) fn fixed_transposed(&self, kernel: &[usize]) -> Option<Vec<(Span, usize)>> {
        let rank = kernel.len();
        let bare = self.bare(&vec![1; rank], kernel).ok()?;
        let padded = |(d, span): (usize, Span)| {
            let (begin, end) = match self.auto_pad {
                AutoPad::NotSet => self.pads(d, rank).ok()?,
                AutoPad::Valid => (0, 0),
                AutoPad::SameUpper | AutoPad::SameLower => return None,
            };
            let added = entry(&self.output_padding, d, rank, 0, "output_padding").ok()?;
            Some((Span { begin, end, ..span }, added))
        };
        let spans = bare.into_iter().enumerate().map(padded).collect();
        self.output_shape.is_none().then_some(spans)?
    }

    /// The spans, without padding and output size.
    fn bare(&self, input: &[usize], kernel: &[usize]) -> Result<Vec<Span>, Why> {
        if input.len() != kernel.len() || input.is_empty() {
            refuse!("a kernel of {} spatial axes slides over {} axes", kernel.len(), input.len());
        }
        let mut spans = Vec::new();
        for (d, (&input, &size)) in input.iter().zip(kernel).enumerate() {
            let rank = kernel.len();
            if entry(&self.kernel, d, rank, size, "kernel_shape")? != size || size == 0 {
                refuse!("kernel_shape {:?} is not the shape {kernel:?} of the weights", self.kernel);
            }
            let stride = entry(&self.strides, d, rank, 1, "strides")?;
            let dilation = entry(&self.dilations, d, rank, 1, "dilations")?;
            let large = (input.max(1) as u64).saturating_mul(stride as u64) > LIMIT as u64
                || (size as u64).saturating_mul(dilation as u64) > LIMIT as u64;
            if large {
                refuse!("a window of {size} taps of dilation {dilation} over {input} is too large");
            }
            spans.push(Span { input, output: 0, kernel: size, stride, dilation, begin: 0, end: 0 });
        }
        Ok(spans)
    }

    fn pads(&self, d: usize, rank: usize) -> Result<(usize, usize), Why> {
        match &self.pads {
            None => Ok((0, 0)),
            Some(pads) if pads.len() == 2 * rank => Ok((pads[d] as usize, pads[d + rank] as usize)),
            Some(pads) => refuse!("pads {pads:?} is not a begin and an end for each of {rank} axes"),
        }
    }

    /// The pads increased by `ends`, before and after each axis; `None` where `auto_pad` decides the pads, or they are too
    /// large.
    pub(crate) fn padded(&self, ends: &[(i64, i64)]) -> Option<Vec<i64>> {
        let mut pads = vec![0; 2 * ends.len()];
        match (self.auto_pad, &self.pads) {
            (AutoPad::NotSet, Some(own)) if own.len() == pads.len() => pads.clone_from(own),
            (AutoPad::NotSet, None) | (AutoPad::Valid, _) => {}
            _ => return None,
        }
        for (d, &(begin, end)) in ends.iter().enumerate() {
            pads[d] = pads[d].saturating_add(begin);
            pads[d + ends.len()] = pads[d + ends.len()].saturating_add(end);
        }
        let fits = pads.iter().all(|pad| (0..LIMIT).contains(pad));
        fits.then_some(pads)
    }

    /// Divides `total` padding into the part before and the part after; `auto_pad` says where an odd element goes.
    fn split(&self, total: usize) -> (usize, usize) {
        match self.auto_pad {
            AutoPad::SameLower => (total - total / 2, total / 2),
            _ => (total / 2, total - total / 2),
        }
    }
}

/// Entry `d` of an attribute that has one value for each of `rank` axes.
fn entry(list: &Option<Vec<i64>>, d: usize, rank: usize, default: usize, name: &str) -> Result<usize, Why> {
    match list {
        None => Ok(default),
        Some(list) if list.len() == rank => Ok(list[d] as usize),
        Some(list) => refuse!("{name} {list:?} is not one value for each of {rank} axes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_have_the_sizes_of_the_specification() {
        use AutoPad::*;
        let window = |kernel: i64, stride: i64, dilation: i64, pads: [i64; 2], auto_pad, ceil| Window {
            kernel: Some(vec![kernel]),
            strides: Some(vec![stride]),
            dilations: Some(vec![dilation]),
            pads: Some(pads.to_vec()),
            auto_pad,
            output_padding: None,
            output_shape: None,
            ceil,
        };
        for (window, input, output, begin) in [
            (window(3, 2, 1, [0, 0], NotSet, false), 32, 15, 0),
            (window(3, 2, 1, [0, 0], NotSet, true), 4, 2, 0),
            (window(2, 2, 1, [0, 1], NotSet, true), 4, 2, 0),
            (window(3, 1, 2, [1, 1], NotSet, false), 8, 6, 1),
            (window(2, 1, 1, [0, 0], SameUpper, false), 32, 32, 0),
            (window(2, 1, 1, [0, 0], SameLower, false), 32, 32, 1),
            (window(3, 2, 1, [0, 0], Valid, false), 6, 2, 0),
        ] {
            let span = window.pools(&[input]).unwrap()[0];
            assert_eq!((span.output, span.begin), (output, begin), "{window:?} over {input}");
        }
        assert!(window(5, 1, 1, [0, 0], NotSet, false).pools(&[4]).is_err());
    }

    #[test]
    fn inside_agrees_with_source() {
        for (input, kernel, stride, dilation, begin) in
            [(5, 3, 1, 1, 1), (7, 3, 2, 2, 3), (4, 5, 3, 1, 4), (1, 1, 2, 1, 0)]
        {
            let output = (input + 2 * begin - (kernel - 1) * dilation - 1) / stride + 1;
            let span = Span { input, output, kernel, stride, dilation, begin, end: begin };
            for t in 0..kernel {
                let inside: Vec<usize> = (0..output).filter(|&o| span.source(o, t).is_some()).collect();
                let (first, last) = span.inside(t);
                assert_eq!(inside, (first..last).collect::<Vec<_>>(), "{span:?} tap {t}");
            }
        }
    }
}
