//! Resampling along one axis, as Resize defines it: which input elements make an output element, and with which weights. Both
//! follow from sizes and attributes alone, so the host computes them, in f64.

use super::{NodeDef, Why, refuse};

/// One axis that is resized.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct ResizedAxis {
    pub(crate) input: usize,
    pub(crate) output: usize,
    /// Output elements for each input element, as given; the ratio of the sizes only approximates it.
    pub(crate) scale: f64,
    /// The part of the input that `tf_crop_and_resize` reads.
    pub(crate) roi: (f64, f64),
}

/// How the coordinate of an output element in the input is computed: `coordinate_transformation_mode`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Transform {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfHalfPixelForNn,
    TfCropAndResize,
}

/// How a coordinate is rounded to the nearest element: `nearest_mode`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
    /// The rounding of Upsample, and of Resize before opset 11: down where the axis grows, up where it shrinks.
    Old,
}

/// The interpolation: `mode`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ResizeFilter {
    Nearest(Rounding),
    Linear,
    /// With coefficient `a`.
    Cubic(f64),
}

/// Everything on which the weights depend.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Resample {
    pub(crate) filter: ResizeFilter,
    pub(crate) transform: Transform,
    /// Whether elements outside of the input have weight 0; else the edge is repeated.
    pub(crate) exclude_outside: bool,
    /// Whether the filter widens until it covers all of a shrinking input.
    pub(crate) antialias: bool,
}

/// The input elements that make each output element along an axis, with weights that add up to 1. An output element that lies
/// outside of the input, and takes the extrapolation value, has none.
///
/// An example: 2 elements become 4 with linear interpolation and half pixels. Output element 1 has the coordinate 0.25, and
/// the taps (0, 0.75) and (1, 0.25).
#[derive(Debug)]
pub(crate) struct Taps {
    list: Vec<(usize, f64)>,
    /// For each output element, the number of taps up to its last.
    ends: Vec<usize>,
}

impl Taps {
    /// The taps of output element `at`.
    pub(crate) fn at(&self, at: usize) -> &[(usize, f64)] {
        let first = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.list[first..self.ends[at]]
    }

    /// The taps of each output element.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &[(usize, f64)]> {
        (0..self.ends.len()).map(|at| self.at(at))
    }
}

impl Resample {
    /// Reads the attributes of Resize from opset 11 on.
    pub(crate) fn parse(def: &NodeDef) -> Result<Resample, Why> {
        let rounding = match def.attributes.string_or("nearest_mode", "round_prefer_floor")?.as_str() {
            "round_prefer_floor" | "" => Rounding::PreferFloor,
            "round_prefer_ceil" => Rounding::PreferCeil,
            "floor" => Rounding::Floor,
            "ceil" => Rounding::Ceil,
            other => refuse!("nearest_mode '{other}' is not supported"),
        };
        let transform =
            match def.attributes.string_or("coordinate_transformation_mode", "half_pixel")?.as_str() {
                "half_pixel" => Transform::HalfPixel,
                "half_pixel_symmetric" => Transform::HalfPixelSymmetric,
                "pytorch_half_pixel" => Transform::PytorchHalfPixel,
                "align_corners" => Transform::AlignCorners,
                "asymmetric" => Transform::Asymmetric,
                "tf_half_pixel_for_nn" => Transform::TfHalfPixelForNn,
                "tf_crop_and_resize" => Transform::TfCropAndResize,
                other => refuse!("coordinate_transformation_mode '{other}' is not supported"),
            };
        let coefficient = f64::from(def.attributes.float_or("cubic_coeff_a", -0.75)?);
        Ok(Resample {
            filter: ResizeFilter::parse(def, rounding, coefficient)?,
            transform,
            exclude_outside: def.attributes.flag("exclude_outside", false)?,
            antialias: def.attributes.flag("antialias", false)?,
        })
    }

    /// Reads the attributes of Upsample, and of Resize before opset 11.
    pub(crate) fn parse_old(def: &NodeDef) -> Result<Resample, Why> {
        let filter = ResizeFilter::parse(def, Rounding::Old, -0.75)?;
        Ok(Resample { filter, transform: Transform::Asymmetric, exclude_outside: false, antialias: false })
    }

    /// The taps along an axis; those of elements that are `double` lie at coordinates of that precision.
    pub(crate) fn taps(&self, axis: &ResizedAxis, double: bool) -> Taps {
        let mut taps = Taps { list: Vec::new(), ends: Vec::with_capacity(axis.output) };
        for at in 0..axis.output {
            self.add_taps(axis, at, double, &mut taps.list);
            taps.ends.push(taps.list.len());
        }
        taps
    }

    /// The most taps that an element of the output has, or that are tried for it.
    pub(crate) fn most_taps(&self, axis: &ResizedAxis) -> usize {
        let radius = match self.filter {
            ResizeFilter::Nearest(_) => return 1,
            ResizeFilter::Linear => 1.0,
            ResizeFilter::Cubic(_) => 2.0,
        };
        let stretch = if self.antialias { axis.scale.min(1.0) } else { 1.0 };
        ((2.0f64 * radius / stretch) as usize).saturating_add(3)
    }

    fn add_taps(&self, axis: &ResizedAxis, at: usize, double: bool, taps: &mut Vec<(usize, f64)>) {
        let exact = self.transform.source(at, axis);
        // Rounded to float32, a product with a scale that float32 cannot hold exactly still gives the whole number that was meant.
        let rounded = f64::from(exact as f32);
        let last = axis.input as f64 - 1.0;
        if self.transform == Transform::TfCropAndResize && !(0.0..=last).contains(&rounded) {
            return;
        }
        let inside = |i: f64| i.clamp(0.0, last) as usize;
        let (radius, weight): (f64, fn(f64, f64) -> f64) = match self.filter {
            ResizeFilter::Nearest(rounding) => {
                return taps.push((inside(rounding.round(rounded, axis.scale)), 1.0));
            }
            ResizeFilter::Linear => (1.0, |x, _| (1.0 - x.abs()).max(0.0)),
            ResizeFilter::Cubic(_) => (2.0, cubic),
        };
        let x = if double { exact } else { rounded };
        let coefficient = if let ResizeFilter::Cubic(a) = self.filter { a } else { 0.0 };
        let stretch = if self.antialias { axis.scale.min(1.0) } else { 1.0 };
        let reach = radius / stretch;
        let first = taps.len();
        let mut total = 0.0;
        for i in ((x - reach).floor() as i64)..=((x + reach).ceil() as i64) {
            let i = i as f64;
            let weight = weight((i - x) * stretch, coefficient);
            if weight == 0.0 || (self.exclude_outside && !(0.0..=last).contains(&i)) {
                continue;
            }
            total += weight;
            match taps[first..].last_mut() {
                Some(tap) if tap.0 == inside(i) => tap.1 += weight,
                _ => taps.push((inside(i), weight)),
            }
        }
        taps[first..].iter_mut().for_each(|tap| tap.1 /= total);
    }
}

impl ResizeFilter {
    fn parse(def: &NodeDef, rounding: Rounding, coefficient: f64) -> Result<ResizeFilter, Why> {
        Ok(match def.attributes.string_or("mode", "nearest")?.as_str() {
            "nearest" => ResizeFilter::Nearest(rounding),
            "linear" | "bilinear" => ResizeFilter::Linear,
            "cubic" => ResizeFilter::Cubic(coefficient),
            other => refuse!("mode '{other}' is none of nearest, linear and cubic"),
        })
    }
}

impl Transform {
    /// The coordinate of output element `at` in the input, in elements.
    fn source(self, at: usize, axis: &ResizedAxis) -> f64 {
        let x = at as f64;
        let (input, scale) = (axis.input as f64, axis.scale);
        let resized = scale * input;
        match self {
            Transform::HalfPixel => (x + 0.5) / scale - 0.5,
            Transform::HalfPixelSymmetric => {
                input / 2.0 * (1.0 - axis.output as f64 / resized) + (x + 0.5) / scale - 0.5
            }
            Transform::PytorchHalfPixel if axis.output > 1 => (x + 0.5) / scale - 0.5,
            Transform::PytorchHalfPixel => 0.0,
            Transform::AlignCorners if resized == 1.0 => 0.0,
            Transform::AlignCorners => x * (input - 1.0) / (resized - 1.0),
            Transform::Asymmetric => x / scale,
            Transform::TfHalfPixelForNn => (x + 0.5) / scale,
            Transform::TfCropAndResize => {
                let (start, end) = axis.roi;
                match axis.output > 1 {
                    true => start * (input - 1.0) + x * (end - start) * (input - 1.0) / (resized - 1.0),
                    false => 0.5 * (start + end) * (input - 1.0),
                }
            }
        }
    }
}

impl Rounding {
    fn round(self, x: f64, scale: f64) -> f64 {
        match self {
            Rounding::PreferFloor => (x - 0.5).ceil(),
            Rounding::PreferCeil => (x + 0.5).floor(),
            Rounding::Floor => x.floor(),
            Rounding::Ceil => x.ceil(),
            Rounding::Old if scale < 1.0 => x.ceil(),
            Rounding::Old => x.floor(),
        }
    }
}

/// The cubic convolution kernel of Keys.
pub(crate) fn cubic(x: f64, a: f64) -> f64 {
    match x.abs() {
        x if x < 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        x if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        _ => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEAREST: Resample = Resample {
        filter: ResizeFilter::Nearest(Rounding::Floor),
        transform: Transform::Asymmetric,
        exclude_outside: false,
        antialias: false,
    };

    #[test]
    fn scales_that_f32_cannot_hold_meet_whole_elements() {
        let axis = ResizedAxis { input: 10, output: 1, scale: f64::from(0.1f32), roi: (0.0, 1.0) };
        assert_eq!(NEAREST.taps(&ResizedAxis { output: 2, input: 20, ..axis }, true).at(1), [(10, 1.0)]);
    }

    #[test]
    fn the_old_nearest_takes_the_next_element_where_the_axis_shrinks() {
        let old = Resample { filter: ResizeFilter::Nearest(Rounding::Old), ..NEAREST };
        let picked = |input: usize, output: usize, scale: f32| {
            let axis = ResizedAxis { input, output, scale: f64::from(scale), roi: (0.0, 1.0) };
            let taps = old.taps(&axis, false);
            taps.iter().map(|taps| taps[0].0).collect::<Vec<_>>()
        };
        // The conformance case of Resize 10: 2 x 4 elements by 0.6 are elements 1 and 3, which is also what ONNX Runtime
        // gives.
        assert_eq!((picked(2, 1, 0.6), picked(4, 2, 0.6)), (vec![0], vec![0, 2]));
        assert_eq!(picked(4, 3, 0.75), [0, 2, 3]);
        assert_eq!(picked(4, 6, 1.5), [0, 0, 1, 2, 2, 3]);
    }

    #[test]
    fn weights_add_up_to_one() {
        let axis = ResizedAxis { input: 7, output: 3, scale: 3.0 / 7.0, roi: (0.0, 1.0) };
        for filter in [ResizeFilter::Linear, ResizeFilter::Cubic(-0.75)] {
            for (antialias, exclude_outside) in [(false, false), (true, false), (false, true), (true, true)] {
                let resample =
                    Resample { filter, transform: Transform::HalfPixel, exclude_outside, antialias };
                for taps in resample.taps(&axis, false).iter() {
                    let total: f64 = taps.iter().map(|tap| tap.1).sum();
                    assert!((total - 1.0).abs() < 1e-12, "{resample:?}");
                    assert!(taps.windows(2).all(|pair| pair[0].0 < pair[1].0), "{resample:?} {taps:?}");
                }
            }
        }
    }
}
