//! RoiAlign: pools regions of images; each region is sampled on a grid with bilinear interpolation.
//!
//! History: 10, 16 (half-pixel coordinates), 22.

use super::case::{self, Case, Tolerance};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Tensor, Why, Work, indices, of_elements, onnx, product, refuse,
    required, types,
};
use crate::array::unravel;
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::kernels::gather::groups;
use crate::kernels::roi_align as kernel;
use crate::kernels::words;
use crate::plan::{Lower, Outside};

/// RoiAlign.
#[derive(Clone, Debug)]
pub(crate) struct RoiAlign {
    /// Whether the result is the maximum of the samples' weighted corners; otherwise it is the mean of the samples.
    max: bool,
    half_pixel: bool,
    height: usize,
    width: usize,
    /// The number of samples along each side of a bin; 0: as many as the bin has elements.
    samples: usize,
    scale: f32,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("RoiAlign", 10, types![T1 T1 int64 -> T1; T1: FLOATS BF16@22], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let max = match def.attributes.string_or("mode", "avg")?.as_str() {
        "avg" => false,
        "max" => true,
        other => refuse!("mode '{other}' is neither avg nor max"),
    };
    let mode = if def.opset < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = match def.attributes.string_or("coordinate_transformation_mode", mode)?.as_str() {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => refuse!("coordinate_transformation_mode '{other}' is not supported"),
    };
    let size = |name: &str, default: i64, least: i64| match def.attributes.int_or(name, default)? {
        size if (least..=1 << 20).contains(&size) => Ok(size as usize),
        size => refuse!("{name} is {size}"),
    };
    let op = RoiAlign {
        max,
        half_pixel,
        height: size("output_height", 1, 1)?,
        width: size("output_width", 1, 1)?,
        samples: size("sampling_ratio", 0, 0)?,
        scale: def.attributes.float_or("spatial_scale", 1.0)?,
    };
    Ok(op.into())
}

/// One side of a region, in elements of the image.
struct BinnedSide {
    start: f64,
    /// The length of a bin.
    bin: f64,
    samples: usize,
}

/// One sample along one axis: the two elements around it, and the weight of the second.
type Corner = Option<(usize, usize, f64)>;

fn corner(x: f64, size: usize) -> Corner {
    if !(-1.0..=size as f64).contains(&x) {
        return None;
    }
    let x = x.max(0.0);
    let low = (x as usize).min(size - 1);
    Some(if low + 1 >= size { (low, low, 0.0) } else { (low, low + 1, x - low as f64) })
}

impl RoiAlign {
    fn shape(&self, x: &[usize], rois: &[usize], batch: &[usize]) -> Result<Vec<usize>, Why> {
        let [_, channels, height, width] = x[..] else { refuse!("expected an image of four dimensions") };
        if height == 0 || width == 0 {
            refuse!("an image without elements has no regions");
        }
        match (rois, batch) {
            (&[n, 4], &[m]) if n == m => Ok(vec![n, channels, self.height, self.width]),
            _ => refuse!("regions of shape {rois:?} and batch indices of {batch:?} do not fit"),
        }
    }

    fn side(&self, from: f64, to: f64, bins: usize) -> BinnedSide {
        let offset = if self.half_pixel { 0.5 } else { 0.0 };
        let (start, end) = (from * f64::from(self.scale) - offset, to * f64::from(self.scale) - offset);
        // Without half pixels, a malformed region is one element large.
        let length = if self.half_pixel { end - start } else { (end - start).max(1.0) };
        let bin = length / bins as f64;
        let samples = if self.samples > 0 { self.samples } else { bin.ceil().clamp(0.0, 1e6) as usize };
        BinnedSide { start, bin, samples }
    }

    fn corners(side: &BinnedSide, at: usize, size: usize) -> Vec<Corner> {
        let place = |k: usize| side.start + (at as f64 + (k as f64 + 0.5) / side.samples as f64) * side.bin;
        (0..side.samples).map(|k| corner(place(k), size)).collect()
    }
}

/// The most samples on a side of a bin that the reference takes: a larger region is no region of an image.
const MOST_SAMPLES: usize = 1000;

impl Operator for RoiAlign {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, rois, batch) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        indices::check_dtype(batch.dtype)?;
        let shape = self.shape(&x.shape, &rois.shape, &batch.shape)?;
        indices::check(batch, &x.shape[..1])?;
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, rois, batch) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let shape = self.shape(&x.shape, &rois.shape, &batch.shape)?;
        let (values, regions) = (x.floats()?, rois.floats()?);
        let (height, width) = (x.shape[2], x.shape[3]);
        let batches =
            batch.ints()?.iter().map(|&b| indices::wrap(b, x.shape[0])).collect::<Result<Vec<_>, _>>()?;
        let sides = regions
            .chunks_exact(4)
            .flat_map(|r| [self.side(r[1], r[3], self.height), self.side(r[0], r[2], self.width)]);
        if let Some(side) = sides.into_iter().find(|side| side.samples > MOST_SAMPLES) {
            refuse!("a bin has {} samples on a side, and at most {MOST_SAMPLES} are taken", side.samples);
        }
        let pool = |o: usize| {
            let at = unravel(o, &shape);
            let region = &regions[at[0] * 4..at[0] * 4 + 4];
            let rows = self.side(region[1], region[3], self.height);
            let columns = self.side(region[0], region[2], self.width);
            let plane = (batches[at[0]] * shape[1] + at[1]) * height * width;
            let mut samples = Vec::new();
            for row in RoiAlign::corners(&rows, at[2], height) {
                for column in RoiAlign::corners(&columns, at[3], width) {
                    samples.push(match (row, column) {
                        (Some((y0, y1, v)), Some((x0, x1, u))) => [
                            (1.0 - v) * (1.0 - u) * values[plane + y0 * width + x0],
                            (1.0 - v) * u * values[plane + y0 * width + x1],
                            v * (1.0 - u) * values[plane + y1 * width + x0],
                            v * u * values[plane + y1 * width + x1],
                        ],
                        _ => [0.0; 4],
                    });
                }
            }
            match self.max {
                true => samples.iter().flatten().copied().reduce(f64::max).unwrap_or(0.0),
                false => samples.iter().flatten().sum::<f64>() / samples.len().max(1) as f64,
            }
        };
        Ok(vec![Array::float(x.dtype, &shape, (0..product(&shape)).map(pool).collect())])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (x, rois, batch) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let shape = self.shape(&x.shape, &rois.shape, &batch.shape)?;
        let samples = if self.samples > 0 { self.samples } else { MOST_SAMPLES };
        let bin = samples.saturating_mul(samples);
        let elements = of_elements(inputs, outputs).temporary(bin, size_of::<[f64; 4]>());
        Ok(elements.steps(&[&shape[..], &[bin]].concat()))
    }

    fn takes_epilogue(&self) -> bool {
        true
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (x, out) = (cx.fact(0)?, cx.out(0)?);
        // The most samples on each side of a bin. A region would have to be that many times larger than the output to need
        // more.
        let most = (f64::from(cx.target.max_iterations).sqrt() as usize).saturating_sub(1);
        if self.samples > most {
            refuse!("sampling_ratio {} is more than {most}", self.samples);
        }
        let sizes = [out.count(), x.shape[0], x.shape[1], x.shape[2], x.shape[3], self.height, self.width];
        let mut params: Vec<u32> = words(sizes.iter().chain([&self.samples, &most]).copied())?;
        params.push(self.scale.to_bits());
        cx.reports_index(2, Outside::Axes(vec![(0, x.shape[0])]));
        let epilogue = cx.epilogue(None)?;
        params.extend(epilogue.params);
        let mut tensors = vec![cx.input(0)?, cx.input(1)?, cx.input(2)?];
        tensors.extend(epilogue.tensors);
        tensors.push(cx.output(0)?);
        let spec = kernel::RoiAlign {
            scalar: Scalar::float_for(x.dtype),
            max: self.max,
            half_pixel: self.half_pixel,
            epilogue: epilogue.fused,
        };
        cx.call(spec, tensors, params, groups(out.count()));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let regions = case::values(&[3, 4], &[0.3f32, 0.9, 6.4, 4.3, 5.1, 1.7, 9.9, 8.2, -2.4, -1.3, 12.7, 13.1]);
    let mut cases = Vec::new();
    for mode in ["avg", "max"] {
        for transform in ["half_pixel", "output_half_pixel"] {
            for samples in [0, 2] {
                let case = Case::new("RoiAlign", &format!("{mode}/{transform}/{samples}"));
                let case = case.string("mode", mode).string("coordinate_transformation_mode", transform);
                let case = case.int("sampling_ratio", samples).int("output_height", 3).int("output_width", 2);
                let case = case.tolerance(Tolerance { relative: 1e-4, absolute: 1e-5 });
                let case = case.float("spatial_scale", 0.75).input(case::random(&[2, 3, 8, 9]));
                cases.push(case.input(regions.clone()).input(case::list(&[0, 1, 1])));
            }
        }
    }
    let new = |name: &str, rois: Tensor, batch: Tensor| {
        let half = case::converted(&case::random(&[1, 2, 5, 5]), rois.dtype());
        let case = Case::new("RoiAlign", name).tolerance(Tolerance { relative: 1e-3, absolute: 1e-3 });
        case.int("output_height", 2).int("output_width", 2).input(half).input(rois).input(batch)
    };
    cases.push(new(
        "float16",
        case::converted(&case::values(&[1, 4], &[0.5f32, 0.75, 4.0, 3.5]), DType::F16),
        case::list(&[0]),
    ));
    cases.push(new("no regions", case::random(&[0, 4]), case::list(&[])));
    cases
}
