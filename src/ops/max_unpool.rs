//! MaxUnpool: puts the elements that a MaxPool kept back in their places, with zeros between them.
//!
//! History: 9, 11, 22. The indices count the elements of the shape that follows from the window; a larger output is filled
//! with zeros at the end of its axes.

use super::case::{self, Case, Tolerance};
use super::scatter::overwrite;
use super::strides::{self, Copy};
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, indices, onnx, optional, product, refuse, required, types,
};
use crate::array::{ravel, strides, unravel};
use crate::facts::Fact;
use crate::kernels::scatter::Destination;
use crate::kernels::word;
use crate::plan::{Lower, Outside};

/// MaxUnpool.
#[derive(Clone, Debug)]
pub(crate) struct MaxUnpool {
    kernel: Vec<i64>,
    strides: Vec<i64>,
    pads: Vec<i64>,
}

pub(crate) const ROWS: &[Row] =
    &[onnx("MaxUnpool", 9, types![T1 int64 int64 -> T1; T1: FLOATS BF16@22], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let kernel = def.attributes.ints("kernel_shape")?.unwrap_or_default();
    let strides = def.attributes.ints("strides")?.unwrap_or(vec![1; kernel.len()]);
    let pads = def.attributes.ints("pads")?.unwrap_or(vec![0; 2 * kernel.len()]);
    if strides.len() != kernel.len() || pads.len() != 2 * kernel.len() {
        refuse!("strides {strides:?} and pads {pads:?} do not fit kernel_shape {kernel:?}");
    }
    Ok(MaxUnpool { kernel, strides, pads }.into())
}

impl MaxUnpool {
    /// The shape that the indices refer to, and the output's.
    fn shapes(
        &self,
        x: &[usize],
        places: &[usize],
        wanted: Option<Vec<i64>>,
    ) -> Result<[Vec<usize>; 2], Why> {
        let rank = self.kernel.len();
        if x.len() != rank + 2 || places != x {
            refuse!("a kernel of {rank} axes and indices of shape {places:?} do not fit input {x:?}");
        }
        let mut counted = x[..2].to_vec();
        for d in 0..rank {
            let pads = i128::from(self.pads[d]) + i128::from(self.pads[rank + d]);
            let before = (x[d + 2] as i128 - 1) * i128::from(self.strides[d]);
            let size = before + i128::from(self.kernel[d]) - pads;
            counted
                .push(u32::try_from(size).map_err(|_| format!("axis {} would have {size} elements", d + 2))?
                    as usize);
        }
        let Some(wanted) = wanted else { return Ok([counted.clone(), counted]) };
        let output = wanted.iter().map(|&size| usize::try_from(size).unwrap_or(0)).collect::<Vec<_>>();
        if output.len() != counted.len() || output.iter().zip(&counted).any(|(o, c)| o < c) {
            refuse!("the output shape {wanted:?} does not hold {counted:?}");
        }
        Ok([counted, output])
    }

    fn of_facts(&self, inputs: &[Option<&Fact>]) -> Result<[Vec<usize>; 2], Why> {
        let wanted = optional(inputs, 2).map(|fact| fact.i64s()).transpose()?;
        self.shapes(&required(inputs, 0)?.shape, &required(inputs, 1)?.shape, wanted)
    }
}

impl Operator for MaxUnpool {
    fn shape_operands(&self) -> &[usize] {
        &[2]
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let [_, shape] = self.of_facts(inputs)?;
        Ok(vec![Fact::new(required(inputs, 0)?.dtype, shape)])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (x, places) = (required(inputs, 0)?, required(inputs, 1)?);
        let wanted = optional(inputs, 2).map(|array| array.i64s()).transpose()?;
        let [counted, shape] = self.shapes(&x.shape, &places.shape, wanted)?;
        let (size, count) = (product(&counted), product(&shape));
        let mut sources: Vec<Option<usize>> = vec![None; count];
        for (i, &place) in places.ints()?.iter().enumerate() {
            let at = unravel(indices::wrap(place, size)?, &counted);
            sources[ravel(&at, &shape)] = Some(i);
        }
        Ok(vec![x.gather(&shape, |i| sources[i], None)])
    }

    fn computes_f64(&self) -> bool {
        true
    }

    fn computes_i64(&self) -> bool {
        false
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        let [counted, shape] = self.of_facts(&cx.facts())?;
        let (x, places, output) = (cx.input(0)?, cx.input(1)?, cx.output(0)?);
        let (size, rows): (usize, usize) = (product(&counted), cx.fact(0)?.count());
        let whole = counted == shape;
        let target = if whole { output } else { cx.temporary_like(output, &counted) };
        cx.fill(target, 0);
        cx.reports_index(1, Outside::Range(0, size as i64 - 1));
        overwrite(cx, target, (Destination::Tuple(1), &[word(size)?]), (places, x), (size, rows, 1));
        if !whole {
            cx.fill(output, 0);
            let dims: Vec<(usize, i64)> =
                counted.iter().zip(strides(&shape)).map(|(&size, stride)| (size, stride as i64)).collect();
            strides::scatter(cx, Copy { number: 0, from: target, to: output, base: 0, dims: &dims });
        }
        Ok(())
    }
}

fn cases() -> Vec<Case> {
    let new = |name: &str| {
        let case = Case::new("MaxUnpool", name).tolerance(Tolerance::EXACT);
        case.ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2])
    };
    let places = |dtype| case::converted(&case::list(&[0, 3, 8, 15, 16, 21, 26, 31]), dtype);
    let places = || places(DType::I64).reshaped(&[1, 2, 2, 2]).unwrap_or_else(|e| unreachable!("{e}"));
    vec![
        new("plain").input(case::random(&[1, 2, 2, 2])).input(places()),
        new("larger").input(case::random(&[1, 2, 2, 2])).input(places()).input(case::list(&[1, 3, 5, 6])),
        new("pads").ints("pads", &[0, 0, 1, 1]).input(case::random(&[1, 2, 2, 2])).input(case::integers(
            &[1, 2, 2, 2],
            0,
            18,
        )),
        Case::new("MaxUnpool", "1d")
            .ints("kernel_shape", &[3])
            .input(case::random(&[2, 1, 2]))
            .input(case::values(&[2, 1, 2], &[0i64, 3, 5, 7])),
        new("empty").input(case::random(&[0, 2, 2, 2])).input(case::values::<i64>(&[0, 2, 2, 2], &[])),
    ]
}
