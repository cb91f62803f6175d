//! ScatterElements, and Scatter, its old name: every update has its own index along one axis.
//!
//! History: Scatter 9, deprecated in 11; ScatterElements 11, 13, 16 (reduction: add, mul), 18 (min, max).

use super::case::{self, Case, Tolerance};
use super::gather_elements::{checked_axis, dims};
use super::scatter::{Reduction, ScatterDim, locate, overwrite, reduce};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, indices, onnx, refuse, required, types};
use crate::array::{ravel, strides, unravel};
use crate::facts::Fact;
use crate::kernels::scatter as kernel;
use crate::kernels::word;
use crate::plan::{Lower, Outside};

/// ScatterElements along `axis`.
#[derive(Clone, Debug)]
pub(crate) struct ScatterElements {
    axis: i64,
    reduction: Reduction,
}

pub(crate) const ROWS: &[Row] = &[
    onnx("ScatterElements", 11, types![T Tind T -> T; T: ALL BF16@13, Tind: INDICES], parse, cases),
    onnx("Scatter", 9, types![T Tind T -> T; T: ALL, Tind: INDICES], parse, || {
        vec![case_of("Scatter", "plain", &[3, 4], &[2, 4], 1).opset(10)]
    }),
];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let axis = def.attributes.int_or("axis", 0)?;
    Ok(ScatterElements { axis, reduction: Reduction::parse(def)? }.into())
}

impl Operator for ScatterElements {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (data, places, updates) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        indices::check_dtype(places.dtype)?;
        let axis = checked_axis(self.axis, &data.shape, &places.shape)?;
        indices::check(places, &data.shape[axis..=axis])?;
        if updates.dtype != data.dtype || updates.shape != places.shape {
            refuse!("updates are {updates}, the indices {places} and the data {data}");
        }
        Ok(vec![Fact::new(data.dtype, data.shape.clone())])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (data, places, updates) = (required(inputs, 0)?, required(inputs, 1)?, required(inputs, 2)?);
        let axis = checked_axis(self.axis, &data.shape, &places.shape)?;
        let elements = places.ints()?.iter().enumerate().map(|(i, &index)| {
            let mut at = unravel(i, &places.shape);
            at[axis] = indices::wrap(index, data.shape[axis])?;
            Ok(ravel(&at, &data.shape))
        });
        let elements = elements.collect::<Result<Vec<usize>, Why>>()?;
        Ok(vec![self.reduction.apply(data, updates, &elements)?])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let (data, places) = (cx.fact(0)?, cx.fact(1)?);
        let axis = checked_axis(self.axis, &data.shape, &places.shape)?;
        cx.copy_input(0, 0)?;
        let (index, update, output) = (cx.places(1)?, cx.input(2)?, cx.output(0)?);
        cx.reports_index(1, Outside::Axes(vec![(axis, data.shape[axis])]));
        let (merged, at) = dims(&data.shape, &places.shape, axis);
        let mut words = vec![word(data.shape[axis])?];
        words.extend(merged.iter().flat_map(|&(size, stride)| [size as u32, stride as u32]));
        let destination = kernel::Destination::Elements { rank: merged.len(), axis: at };
        if let Reduction::Some(function) = self.reduction {
            let stride = strides(&places.shape);
            let dim = |d: usize| ScatterDim {
                size: data.shape[d],
                limit: places.shape[d],
                index_stride: stride[d],
                update_stride: stride[d],
            };
            let dims: Vec<ScatterDim> = (0..data.rank()).map(dim).collect();
            // Only for its reports: the reduction itself looks for the rows that name a place.
            locate(cx, (destination, &words), index, (places.count(), 1));
            return reduce(cx, function, data.dtype, (index, update), (&dims, axis));
        }
        overwrite(cx, output, (destination, &words), (index, update), (data.count(), places.count(), 1));
        Ok(())
    }
}

fn case_of(op: &str, name: &str, data: &[usize], places: &[usize], axis: i64) -> Case {
    let size = data[axis.rem_euclid(data.len() as i64) as usize] as i64;
    Case::new(op, name)
        .tolerance(Tolerance::EXACT)
        .int("axis", axis)
        .input(case::random(data))
        .input(case::integers(places, -size, size))
        .input(case::uniform(places, 2.0, 3.0))
}

fn cases() -> Vec<Case> {
    let new = |name: &str, data: &[usize], places: &[usize], axis| {
        case_of("ScatterElements", name, data, places, axis)
    };
    let mut cases = vec![
        new("axis 0", &[3, 4], &[2, 4], 0),
        new("axis 1", &[3, 9], &[3, 2], 1),
        new("fewer", &[3, 4, 5], &[2, 3, 7], -1),
        new("middle", &[2, 5, 3], &[2, 4, 3], 1),
        new("rank 5", &[2, 3, 4, 2, 3], &[2, 2, 3, 2, 1], 2),
        new("vector", &[9], &[4], 0),
        new("nothing", &[3, 4], &[0, 4], 0),
    ];
    for reduction in ["add", "mul", "min", "max"] {
        let named =
            |case: Case, name: &str| Case { name: format!("ScatterElements/{reduction}/{name}"), ..case };
        let sum = Tolerance { relative: 1e-5, absolute: 1e-6 };
        let case = |name, data: &[usize], places: &[usize], axis| {
            named(new("", data, places, axis), name).string("reduction", reduction).tolerance(sum)
        };
        cases.push(case("axis 0", &[3, 4], &[5, 4], 0));
        cases.push(case("fewer", &[3, 4, 5], &[2, 3, 7], -1));
        let int8 = |shape: &[usize]| case::converted(&case::integers(shape, -100, 100), DType::I8);
        let int = Case::new("ScatterElements", &format!("{reduction}/int8")).string("reduction", reduction);
        let int = int.tolerance(Tolerance::EXACT).input(int8(&[3, 2]));
        cases.push(int.input(case::integers(&[4, 2], 0, 3)).input(int8(&[4, 2])));
    }
    cases
}
