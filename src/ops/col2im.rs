//! Col2Im: adds the columns of blocks back into an image. It is the gradient of cutting an image into blocks.
//!
//! History: 18.

use super::case::{self, Case, Tolerance};
use super::window::{Span, Window};
use super::{Array, DType, NodeDef, Op, Operator, Row, Why, onnx, product, refuse, required, types};
use crate::array::unravel;
use crate::facts::Fact;
use crate::kernels::gather::groups;
use crate::kernels::{col2im as kernel, nested};
use crate::kernels::{word, words};
use crate::plan::Lower;

/// Col2Im.
#[derive(Clone, Debug)]
pub(crate) struct Col2Im {
    window: Window,
}

pub(crate) const ROWS: &[Row] = &[onnx("Col2Im", 18, types![T int64 int64 -> T; T: ALL BF16], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    Ok(Col2Im { window: Window::parse(def)? }.into())
}

impl Col2Im {
    /// The blocks along each axis of the image, and the output's shape.
    fn geometry(
        &self,
        columns: &[usize],
        image: &[i64],
        block: &[i64],
    ) -> Result<(Vec<Span>, Vec<usize>), Why> {
        let sizes = |list: &[i64]| {
            let sizes = list
                .iter()
                .map(|&size| usize::try_from(size).map_err(|_| Why::from(format!("a size is {size}"))));
            sizes.collect::<Result<Vec<usize>, Why>>()
        };
        let (image, block) = (sizes(image)?, sizes(block)?);
        let spans = self.window.spans(&image, &block)?;
        let taps = block.iter().try_fold(1usize, |n, &size| n.checked_mul(size)).unwrap_or(usize::MAX);
        let blocks =
            spans.iter().try_fold(1usize, |n, span| n.checked_mul(span.output)).unwrap_or(usize::MAX);
        let [batch, rows, length] = columns[..] else { refuse!("expected a tensor of three dimensions") };
        if rows % taps != 0 || length != blocks {
            refuse!("columns of shape {columns:?} do not fit {blocks} blocks of {taps} elements");
        }
        Ok((spans, [&[batch, rows / taps], &image[..]].concat()))
    }

    fn of_facts(&self, inputs: &[Option<&Fact>]) -> Result<(Vec<Span>, Vec<usize>), Why> {
        let (image, block) = (required(inputs, 1)?.i64s()?, required(inputs, 2)?.i64s()?);
        self.geometry(&required(inputs, 0)?.shape, &image, &block)
    }
}

impl Operator for Col2Im {
    fn shape_operands(&self) -> &[usize] {
        &[1, 2]
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (_, shape) = self.of_facts(inputs)?;
        Ok(vec![Fact::new(required(inputs, 0)?.dtype, shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let x = required(inputs, 0)?;
        let (image, block) = (required(inputs, 1)?.i64s()?, required(inputs, 2)?.i64s()?);
        let (spans, shape) = self.geometry(&x.shape, &image, &block)?;
        let kernel: Vec<usize> = spans.iter().map(|span| span.kernel).collect();
        let blocks: Vec<usize> = spans.iter().map(|span| span.output).collect();
        let (taps, length) = (product(&kernel), product(&blocks));
        let size: usize = product(&shape[2..]);
        let values = x.to_f64()?;
        let mut result = vec![0.0; product(&shape)];
        for (i, value) in values.iter().enumerate() {
            let (row, column) = (i / length, i % length);
            let (tap, at) = (unravel(row % taps, &kernel), unravel(column, &blocks));
            let place = spans
                .iter()
                .zip(tap)
                .zip(at)
                .try_fold(0, |place, ((span, tap), at)| Some(place * span.input + span.source(at, tap)?));
            if let Some(place) = place {
                result[row / taps * size + place] += value;
            }
        }
        Ok(vec![match x.dtype.is_float() {
            true => Array::float(x.dtype, &shape, result),
            false => Array::int(x.dtype, &shape, result.into_iter().map(|v| v as i128).collect()),
        }])
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
        let (spans, shape) = self.of_facts(&cx.facts())?;
        let limit = cx.target.max_iterations as usize;
        if nested(spans.iter().map(|span| span.kernel)) > limit {
            refuse!("a block takes more than {limit} steps");
        }
        let input = cx.input(0)?;
        let scalar = cx.scalar(input);
        let count: usize = product(&shape);
        let mut params = vec![word(count)?];
        for s in &spans {
            let sizes = [s.input, s.output, s.kernel, s.stride, s.dilation, s.begin];
            params.extend(words(sizes)?);
        }
        let epilogue = cx.epilogue(None)?;
        params.extend(epilogue.params);
        let mut tensors = vec![input];
        tensors.extend(epilogue.tensors);
        tensors.push(cx.output(0)?);
        let spec = kernel::Col2Im { scalar, rank: spans.len(), epilogue: epilogue.fused };
        cx.call(spec, tensors, params, groups(count));
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str, columns: &[usize], image: &[i64], block: &[i64]| {
        let case = Case::new("Col2Im", name).tolerance(Tolerance::ACCUMULATION).input(case::random(columns));
        case.input(case::list(image)).input(case::list(block))
    };
    vec![
        new("2d", &[1, 5, 5], &[5, 5], &[1, 5]),
        new("strides", &[2, 9, 4], &[5, 5], &[3, 3]).ints("strides", &[2, 2]),
        new("pads", &[1, 8, 10], &[5, 5], &[1, 4]).ints("pads", &[0, 1, 0, 1]).ints("strides", &[1, 2]),
        new("dilations", &[1, 4, 5], &[6, 6], &[2, 2]).ints("dilations", &[1, 5]),
        new("channels", &[2, 12, 12], &[4, 5], &[2, 2]),
        new("3d", &[1, 10, 12], &[3, 4, 5], &[1, 1, 5]),
        new("4d", &[1, 16, 4], &[3, 3, 2, 2], &[2, 2, 2, 2]),
        Case::new("Col2Im", "int32")
            .tolerance(Tolerance::EXACT)
            .input(case::converted(&case::integers(&[1, 4, 9], -9, 9), DType::I32))
            .input(case::list(&[4, 4]))
            .input(case::list(&[2, 2])),
        new("empty", &[0, 4, 9], &[4, 4], &[2, 2]),
    ]
}
