//! NonMaxSuppression: the boxes of each class that are left when each box, the best first, removes those that overlap it too
//! much. Their number depends on the data: a device writes them to a list with room for all (`KeptBoxes`), and the host reads
//! how many there are.
//!
//! ONNX leaves open what NaN does. As in ONNX Runtime, a score that is NaN is the best one, unless there is a least score, which
//! it does not exceed; and a box with NaN in it overlaps no other.
//!
//! History: 10, 11.

use super::case::{self, Case, Tolerance};
use super::composed::Body;
use super::non_zero::known_facts;
use super::{
    Array, Attr, DType, NodeDef, OWN_DOMAIN, Op, Operator, Row, Tensor, Types, Why, Work, of_elements, onnx,
    optional, refuse, required, sorting, top_k, types,
};
use crate::facts::Fact;
use crate::graph::ValueId;
use crate::kernels::expr::Scalar;
use crate::kernels::suppress::{self as kernel, Suppress};
use crate::kernels::words;
use crate::plan::{Lower, Outside};

/// NonMaxSuppression of boxes `[batch, n, 4]` and scores `[batch, classes, n]`.
#[derive(Clone, Debug)]
pub(crate) struct NonMaxSuppression {
    /// Whether a box is its middle and its size, and not two opposite corners.
    center: bool,
    /// Whether the result is `[batch, classes, k]`, where `k` boxes are kept of a class at most, with -1 after those that are
    /// kept. Otherwise it has a row (batch, class, box) for each box that is kept.
    bounded: bool,
}

const TYPES: Types = types![float32 float32 int64 float32 float32 -> int64];

pub(crate) const ROWS: &[Row] = &[
    onnx("NonMaxSuppression", 10, TYPES, parse, || cases().into_iter().map(Case::known).collect()),
    Row {
        domain: OWN_DOMAIN,
        name: BOUNDED,
        opsets: (1, 1),
        types: TYPES,
        parse,
        cases: || cases().into_iter().map(bounded).collect(),
    },
];

/// The operator with a result of a known size.
const BOUNDED: &str = "KeptBoxes";

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let center = match def.attributes.int_or("center_point_box", 0)? {
        0 => false,
        1 => true,
        other => refuse!("attribute 'center_point_box' is {other}, and must be 0 or 1"),
    };
    Ok(NonMaxSuppression { center, bounded: def.op_type == BOUNDED }.into())
}

/// The sizes of a node's inputs.
struct BoxCounts {
    batch: usize,
    classes: usize,
    boxes: usize,
}

fn sizes(boxes: &[usize], scores: &[usize]) -> Result<BoxCounts, Why> {
    match (boxes, scores) {
        (&[batch, boxes, 4], &[b, classes, n]) if (b, n) == (batch, boxes) => {
            Ok(BoxCounts { batch, classes, boxes })
        }
        _ => {
            refuse!(
                "boxes {boxes:?} and scores {scores:?} do not fit: they are [batch, n, 4] and [batch, classes, n]"
            )
        }
    }
}

/// The most boxes of a class that are kept, out of `n`.
fn limit(given: Option<&[i64]>, n: usize) -> usize {
    let given = given.and_then(|values| values.first().copied()).unwrap_or(0);
    usize::try_from(given).map_or(0, |given| given.min(n))
}

/// The value of a threshold that is given.
fn threshold(array: Option<&Array>) -> Result<Option<f32>, Why> {
    let values = array.map(Array::floats).transpose()?;
    Ok(values.and_then(|values| values.first()).map(|&value| value as f32))
}

fn check_iou(iou: Option<f32>) -> Result<f32, Why> {
    match iou.unwrap_or(0.0) {
        iou if (0.0..=1.0).contains(&iou) => Ok(iou),
        iou => refuse!("the IoU threshold is {iou}, and must be from 0 to 1"),
    }
}

/// The least and the greatest coordinates of a box, along two axes.
type Corners = [(f32, f32); 2];

impl NonMaxSuppression {
    fn corners(&self, b: &[f64]) -> Corners {
        let b: Vec<f32> = b.iter().map(|&x| x as f32).collect();
        [0, 1].map(|i| match (self.center, b[i], b[i + 2]) {
            (true, middle, size) => (middle - size / 2.0, middle + size / 2.0),
            (false, a, b) if a >= b => (b, a),
            (false, a, b) => (a, b),
        })
    }

    /// The boxes of one class that are kept, the best first.
    fn kept(&self, boxes: &[Corners], scores: &[f64], rules: &KeepRules) -> Vec<usize> {
        let exceeds = |i: &usize| rules.least.is_none_or(|least| scores[*i] as f32 > least);
        let mut order: Vec<usize> = (0..scores.len()).filter(exceeds).collect();
        order.sort_by(|&a, &b| {
            let of_nan = scores[a].is_nan().cmp(&scores[b].is_nan());
            scores[a].partial_cmp(&scores[b]).unwrap_or(of_nan).reverse()
        });
        let mut kept = Vec::new();
        for i in order {
            if kept.len() == rules.limit {
                break;
            }
            if !kept.iter().any(|&k: &usize| overlap(&boxes[i], &boxes[k], rules.iou)) {
                kept.push(i);
            }
        }
        kept
    }
}

/// What decides which boxes are kept.
struct KeepRules {
    limit: usize,
    iou: f32,
    /// The score that a box must exceed.
    least: Option<f32>,
}

/// Whether the intersection is more than the share `iou` of the union, in float32 as ONNX Runtime computes it.
fn overlap(a: &Corners, b: &Corners, iou: f32) -> bool {
    let mut both = 1.0;
    for (a, b) in a.iter().zip(b) {
        let (low, high) = (if a.0 < b.0 { b.0 } else { a.0 }, if b.1 < a.1 { b.1 } else { a.1 });
        if high <= low {
            return false;
        }
        both *= high - low;
    }
    let area = |corners: &Corners| (corners[0].1 - corners[0].0) * (corners[1].1 - corners[1].0);
    let (a, b) = (area(a), area(b));
    let either = a + b - both;
    !(both <= 0.0 || a <= 0.0 || b <= 0.0 || either <= 0.0) && both / either > iou
}

impl Operator for NonMaxSuppression {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let (boxes, scores) = (required(inputs, 0)?, required(inputs, 1)?);
        let BoxCounts { batch, classes, boxes } = sizes(&boxes.shape, &scores.shape)?;
        let known = optional(inputs, 3).and_then(|fact| fact.value.as_ref());
        check_iou(threshold(known.map(|known| &*known.array))?)?;
        if !self.bounded {
            return known_facts(self, inputs);
        }
        let given = optional(inputs, 2).map(Fact::i64s).transpose()?;
        Ok(vec![Fact::new(DType::I64, vec![batch, classes, limit(given.as_deref(), boxes)])])
    }

    fn shape_operands(&self) -> &[usize] {
        if self.bounded { &[2] } else { &[] }
    }

    fn shapes_depend_on_data(&self) -> bool {
        !self.bounded
    }

    fn counted(&self) -> &[usize] {
        if self.bounded { &[] } else { &[0, 1, 2, 3, 4] }
    }

    fn spelled(&self, body: &mut Body) -> Result<Vec<ValueId>, Why> {
        let inputs: Vec<Option<ValueId>> = (0..5).map(|i| body.optional(i)).collect();
        let center = Attr::Int(i64::from(self.center));
        let own = format!("{OWN_DOMAIN}.{BOUNDED}");
        let [kept] = body.call(&own, &[("center_point_box", center)], &inputs)?;
        let (none, row) = (body.scalar(0i64), body.list(&[1, -1]));
        let is_kept = body.node("GreaterOrEqual", &[kept, none])?;
        let places = body.chosen(is_kept)?.places;
        let coordinates = body.coordinates(kept, places)?;
        let (first, end) = (body.list(&[0]), body.list(&[2]));
        let classes = body.node("Slice", &[coordinates, first, end, first])?;
        let flat = body.flat(kept)?;
        let boxes = body.node("Gather", &[flat, places])?;
        let boxes = body.cast(boxes, DType::I32)?;
        let boxes = body.node("Reshape", &[boxes, row])?;
        let rows = body.with("Concat", &[("axis", Attr::Int(0))], &[classes, boxes])?;
        let rows = body.transposed(rows, &[1, 0])?;
        Ok(vec![body.cast(rows, DType::I64)?])
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let (boxes, scores) = (required(inputs, 0)?, required(inputs, 1)?);
        let BoxCounts { batch, classes, boxes: n } = sizes(&boxes.shape, &scores.shape)?;
        let given = optional(inputs, 2).map(Array::i64s).transpose()?;
        let rules = KeepRules {
            limit: limit(given.as_deref(), n),
            iou: check_iou(threshold(optional(inputs, 3))?)?,
            least: threshold(optional(inputs, 4))?,
        };
        let (boxes, scores) = (boxes.floats()?, scores.floats()?);
        let mut result = Vec::new();
        for b in 0..batch {
            let corners: Vec<Corners> =
                boxes[b * n * 4..][..n * 4].chunks(4).map(|b| self.corners(b)).collect();
            for c in 0..classes {
                let kept = self.kept(&corners, &scores[(b * classes + c) * n..][..n], &rules);
                if self.bounded {
                    let none = rules.limit - kept.len();
                    result.extend(kept.into_iter().map(|i| i as i128).chain(vec![-1; none]));
                } else {
                    result.extend(kept.into_iter().flat_map(|i| [b as i128, c as i128, i as i128]));
                }
            }
        }
        let shape = if self.bounded { vec![batch, classes, rules.limit] } else { vec![result.len() / 3, 3] };
        Ok(vec![Array::int(DType::I64, &shape, result)])
    }

    fn work(&self, inputs: &[Option<&Fact>], _: &[Fact]) -> Result<Work, Why> {
        let (boxes, scores) = (required(inputs, 0)?, required(inputs, 1)?);
        let BoxCounts { batch, classes, boxes: n } = sizes(&boxes.shape, &scores.shape)?;
        let known = optional(inputs, 2).and_then(|fact| fact.value.as_ref());
        let given = known.map(|known| known.array.i64s()).transpose()?;
        let limit = if known.is_some() { limit(given.as_deref(), n) } else { n };
        let rows = batch.saturating_mul(classes);
        let kept = Work::array(DType::I64, &[rows, limit, 3]);
        // Each box is compared with all that are kept, and two corners of each are read.
        let compared = Work::default().steps(&[rows, n, limit.saturating_add(sorting(n))]);
        Ok(of_elements(inputs, &[]) + kept + compared.temporary(n, 64))
    }

    fn lower(&self, cx: &mut Lower) -> Result<(), Why> {
        if !self.bounded {
            refuse!("the outputs' shapes depend on data that only a run knows");
        }
        let BoxCounts { batch, classes, boxes } = sizes(&cx.fact(0)?.shape, &cx.fact(1)?.shape)?;
        let (rows, limit) = (batch * classes, cx.out(0)?.shape[2]);
        let given = |i: usize| cx.optional_fact(i).is_some_and(|fact| fact.count() > 0);
        let spec = Suppress { center: self.center, iou: given(3), least: given(4) };
        let (x, scores) = (cx.input(0)?, cx.input(1)?);
        let (order, _) = top_k::sorted(cx, scores, true, rows, boxes, 1, boxes)?;
        let mut tensors = vec![x, scores, order];
        for (i, given) in [(3, spec.iou), (4, spec.least)] {
            if given {
                tensors.push(cx.input(i)?);
            }
        }
        let kept = cx.output(0)?;
        cx.fill(kept, u32::MAX);
        tensors.extend([kept, cx.temporary(Scalar::U32, &[rows])]);
        cx.reports_index(3, Outside::Between(0.0, 1.0));
        for (first, last) in blocks(boxes, limit, cx.target.max_iterations)? {
            let params = words([rows, classes, boxes, limit, first, last])?;
            cx.call(spec.clone(), tensors.clone(), params, rows);
        }
        Ok(())
    }
}

/// A dispatch of more iterations would keep other programs from the device for long.
const MOST_ITERATIONS: usize = 60_000;

/// The first and last blocks of each call, so that none takes more iterations than a driver carries out.
fn blocks(boxes: usize, limit: usize, max_iterations: u32) -> Result<Vec<(usize, usize)>, Why> {
    let most = MOST_ITERATIONS.min(max_iterations as usize);
    let (mut calls, mut first, mut sum) = (Vec::new(), 0, 0);
    let count = boxes.div_ceil(kernel::LANES);
    for block in 0..count {
        let iterations = kernel::iterations(limit.min(block * kernel::LANES));
        if iterations > most {
            refuse!("{limit} boxes of a class may be kept, too many for one loop of the device");
        }
        if sum + iterations > most {
            calls.push((first, block));
            (first, sum) = (block, 0);
        }
        sum += iterations;
    }
    calls.push((first, count));
    Ok(calls)
}

fn bounded(case: Case) -> Case {
    let name = case.name.trim_start_matches("NonMaxSuppression/").to_string();
    Case { name: format!("{BOUNDED}/{name}"), op_type: BOUNDED.into(), ..case }.domain(OWN_DOMAIN).opset(1)
}

fn cases() -> Vec<Case> {
    let new = |name: &str| Case::new("NonMaxSuppression", name).tolerance(Tolerance::EXACT);
    let of = |name: &str, boxes: Tensor, scores: Tensor| new(name).input(boxes).input(scores);
    let max = |case: Case, limit: i64| case.constant(case::list(&[limit]));
    let number = |x: f32| case::values(&[], &[x]);
    // The second box covers half of the first; the others stand alone.
    let four =
        || case::values(&[1, 4, 4], &[0f32, 0., 1., 1., 0., 0., 1., 0.5, 0., 2., 1., 3., 0., 4., 1., 5.]);
    let scores = |scores: &[f32]| case::values(&[1, 1, scores.len()], scores);
    let falling = || scores(&[0.9, 0.8, 0.7, 0.3]);
    let flipped = || case::values(&[1, 2, 4], &[1f32, 1., 0., 0., 0., 0.9, 1., -0.1]);
    let centers = || case::values(&[1, 3, 4], &[0f32, 0., 2., 2., 0., 0.5, 2., 2., 0., 0., -2., 2.]);
    let (nan, infinity) = (f32::NAN, f32::INFINITY);
    let broken = || {
        let inf = infinity;
        case::values(&[1, 4, 4], &[nan, 0., 1., 1., 0., 0., inf, inf, 0., 0., inf, inf, 0., 0., 1., 1.])
    };
    let many = |n: usize| case::uniform(&[2, n, 4], 0.0, 8.0);
    vec![
        max(of("overlap", four(), falling()), 9).input(number(0.4)).input(number(0.0)),
        max(of("overlap of the threshold", four(), falling()), 9).input(number(0.5)).input(number(0.0)),
        max(of("constants", four(), falling()), 2).constant(number(0.4)),
        max(of("score of the threshold", four(), falling()), 9).input(number(0.4)).input(number(0.7)),
        max(of("no threshold", four(), scores(&[-1.0, -2.0, -0.5, -infinity])), 9).input(number(0.5)),
        max(of("thresholds at infinity", four(), scores(&[infinity, 0.8, -infinity, 0.3])), 9)
            .input(number(0.5))
            .input(number(-infinity)),
        max(of("NaN", four(), scores(&[0.9, 0.8, nan, 0.3])), 9).input(number(0.5)),
        max(of("NaN and a threshold", four(), scores(&[0.9, 0.8, nan, 0.3])), 9)
            .input(number(0.5))
            .input(number(-infinity)),
        max(of("NaN threshold", four(), falling()), 9).input(number(0.5)).input(number(nan)),
        max(of("broken boxes", broken(), scores(&[0.9, 0.8, 0.7, 0.6])), 9).input(number(0.5)),
        max(of("equal scores", four(), scores(&[0.5; 4])), 9).input(number(0.4)),
        max(of("flipped corners", flipped(), scores(&[0.1, 0.2])), 9).input(number(0.5)),
        max(of("centers", centers(), scores(&[0.9, 0.8, 0.7])), 9)
            .input(number(0.5))
            .int("center_point_box", 1),
        max(
            of(
                "identical",
                case::values(&[1, 3, 4], &[0f32, 0., 1., 1., 0., 0., 1., 1., 0., 0., 1., 1.]),
                scores(&[0.9; 3]),
            ),
            9,
        ),
        of("no limit", four(), falling()),
        max(of("limit of 0", four(), falling()), 0),
        max(of("limit below 0", four(), falling()), -1),
        max(of("limit beyond int32", four(), falling()), 1 << 40).input(number(0.5)),
        max(of("one threshold", four(), falling()), 9).absent().input(number(0.5)),
        max(of("batches and classes", many(70), case::random(&[2, 3, 70])), 4)
            .input(number(0.2))
            .input(number(0.0)),
        max(of("all blocks", many(300), case::random(&[2, 1, 300])), 300)
            .input(number(0.1))
            .input(number(-0.9)),
        max(of("opset 10", four(), falling()), 9).input(number(0.4)).opset(10),
        max(of("no boxes", case::values::<f32>(&[1, 0, 4], &[]), case::values::<f32>(&[1, 2, 0], &[])), 9),
    ]
}
