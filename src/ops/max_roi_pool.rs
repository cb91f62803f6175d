//! MaxRoiPool: the maxima of regions of images; a region is divided into bins of whole elements.
//!
//! History: 1, 22.

use super::case::{self, Case, Tolerance};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Tensor, Why, Work, indices, of_elements, onnx, product, refuse,
    required, types,
};
use crate::array::unravel;
use crate::facts::Fact;
use crate::kernels::expr::Scalar;
use crate::kernels::gather::groups;
use crate::kernels::words;
use crate::kernels::{max_roi_pool as kernel, nested};
use crate::plan::{Lower, Outside};

/// MaxRoiPool.
#[derive(Clone, Debug)]
pub(crate) struct MaxRoiPool {
    height: usize,
    width: usize,
    scale: f32,
}

pub(crate) const ROWS: &[Row] = &[onnx("MaxRoiPool", 1, types![T T -> T; T: FLOATS BF16@22], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let scale = def.attributes.float_or("spatial_scale", 1.0)?;
    match def.attributes.ints("pooled_shape")?.as_deref() {
        Some(&[height @ 1..=0xfffff, width @ 1..=0xfffff]) => {
            Ok(MaxRoiPool { height: height as usize, width: width as usize, scale }.into())
        }
        other => refuse!("pooled_shape is {other:?}, not a height and a width"),
    }
}

/// The elements of an axis of `size` that belong to bin `at`.
fn bin((from, to): (f64, f64), at: usize, bins: usize, size: usize) -> std::ops::Range<usize> {
    let (start, end) = (from.round(), to.round());
    let length = (end - start + 1.0).max(1.0);
    let step = length / bins as f64;
    let clamp = |v: f64| v.clamp(0.0, size as f64) as usize;
    clamp((at as f64 * step).floor() + start)..clamp(((at + 1) as f64 * step).ceil() + start)
}

impl MaxRoiPool {
    fn shape(&self, x: &[usize], rois: &[usize]) -> Result<Vec<usize>, Why> {
        match (x, rois) {
            (&[_, channels, _, _], &[n, 5]) => Ok(vec![n, channels, self.height, self.width]),
            _ => refuse!("regions of shape {rois:?} do not fit an image of {x:?}"),
        }
    }
}

impl Operator for MaxRoiPool {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (x, rois) = (required(inputs, 0)?, required(inputs, 1)?);
        let shape = self.shape(&x.shape, &rois.shape)?;
        if x.shape[0] == 0 && rois.count() > 0 {
            refuse!("there are regions, and no images");
        }
        Ok(vec![Fact::new(x.dtype, shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, rois) = (required(inputs, 0)?, required(inputs, 1)?);
        let shape = self.shape(&x.shape, &rois.shape)?;
        let (values, regions) = (x.floats()?, rois.floats()?);
        let (height, width) = (x.shape[2], x.shape[3]);
        let mut result = Vec::with_capacity(product(&shape));
        for o in 0..product(&shape) {
            let at = unravel(o, &shape);
            let region = &regions[at[0] * 5..at[0] * 5 + 5];
            let batch = indices::wrap(region[0] as i128, x.shape[0])?;
            let scaled = |i: usize| match region[i] * f64::from(self.scale) {
                place if x.dtype == DType::F64 => place,
                place => f64::from(place as f32),
            };
            let plane = (batch * shape[1] + at[1]) * height;
            let mut most: Option<f64> = None;
            for row in bin((scaled(2), scaled(4)), at[2], self.height, height) {
                for column in bin((scaled(1), scaled(3)), at[3], self.width, width) {
                    let value = values[(plane + row) * width + column];
                    most = Some(most.map_or(value, |most| most.max(value)));
                }
            }
            result.push(most.unwrap_or(0.0));
        }
        Ok(vec![Array::float(x.dtype, &shape, result)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let (x, rois) = (required(inputs, 0)?, required(inputs, 1)?);
        // Along an axis each element lies in at most two bins, and each bin reaches over at most two elements more.
        let side = |size: usize, bins: usize| size.saturating_mul(2).saturating_add(bins.saturating_mul(2));
        let (rows, columns) = (side(x.shape[2], self.height), side(x.shape[3], self.width));
        Ok(of_elements(inputs, outputs).steps(&[rois.shape[0], x.shape[1], rows, columns]))
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
        let limit = cx.target.max_iterations as usize;
        if nested([x.shape[2], x.shape[3]]) > limit {
            refuse!("the image takes more than {limit} steps");
        }
        let sizes = [out.count(), x.shape[0], x.shape[1], x.shape[2], x.shape[3], self.height, self.width];
        let mut params = words(sizes)?;
        params.push(self.scale.to_bits());
        cx.reports_index(1, Outside::Axes(vec![(0, x.shape[0])]));
        let epilogue = cx.epilogue(None)?;
        params.extend(epilogue.params);
        let mut tensors = vec![cx.input(0)?, cx.input(1)?];
        tensors.extend(epilogue.tensors);
        tensors.push(cx.output(0)?);
        let scalar = Scalar::float_for(x.dtype);
        let spec = kernel::MaxRoiPool { scalar, epilogue: epilogue.fused };
        cx.call(spec, tensors, params, groups(out.count()));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let regions = [0.0f32, 0.0, 0.0, 6.0, 4.0, 1.0, 2.0, 3.0, 12.0, 9.0, 1.0, 5.0, 5.0, 4.0, 4.0];
    let new = |name: &str, image: Tensor, regions: Tensor| {
        let case = Case::new("MaxRoiPool", name).tolerance(Tolerance::EXACT).ints("pooled_shape", &[2, 3]);
        case.input(image).input(regions)
    };
    let regions = || case::values(&[3, 5], &regions);
    vec![
        new("plain", case::random(&[2, 3, 6, 8]), regions()),
        new("scaled", case::random(&[2, 3, 6, 8]), regions()).float("spatial_scale", 0.5),
        new(
            "float16",
            case::converted(&case::random(&[2, 1, 6, 8]), DType::F16),
            case::converted(&regions(), DType::F16),
        ),
        new("no regions", case::random(&[1, 3, 6, 8]), case::random(&[0, 5])),
    ]
}
