//! The kernels that compute an attention's results: for ONNX's operator, and for attention that a model spells out.

use super::strides::{self, Copy};
use super::{Why, refuse};
use crate::array;
use crate::graph::ValueId;
use crate::kernels::attention::{self, AttentionParams, AttentionTile, Mask, Scores, Unseen};
use crate::kernels::expr::Scalar;
use crate::plan::{
    Always, Lower, Multiple, Pieces, Same, SpelledAttention, SpelledMask, SpelledSizes, TensorId,
};

/// What the kernels that compute an attention's results are compiled for, beside their tile.
#[derive(Clone, Copy)]
pub(crate) struct Attending {
    pub(crate) scalar: Scalar,
    pub(crate) mask: Mask,
    pub(crate) lengths: bool,
    pub(crate) softcap: bool,
    pub(crate) vector: bool,
    pub(crate) unseen: Unseen,
}

impl Attending {
    pub(crate) fn kernel(self, tile: AttentionTile, scores: Option<Scores>) -> attention::Attention {
        let Attending { scalar, mask, lengths, softcap, vector, unseen } = self;
        attention::Attention { scalar, mask, lengths, softcap, vector, scores, unseen, tile }
    }

    /// Makes output 0 of the operands: queries, keys, values, and what the kernel takes beside them. Gives the sums that the kernel
    /// keeps of each row, if it does.
    pub(crate) fn lower(
        self,
        cx: &mut Lower,
        tile: AttentionTile,
        operands: &[TensorId],
        params: AttentionParams,
    ) -> Result<Option<TensorId>, Why> {
        let limit = cx.target.max_iterations as usize;
        let step = tile.keys_per_call((params.depth, params.depth_v), limit);
        if step == 0 {
            refuse!(
                "a head of {} and {} elements takes more than {limit} steps",
                params.depth,
                params.depth_v
            );
        }
        // Where several calls add up values in memory, the sums are rounded only at the end.
        let adds_up = matches!(tile, AttentionTile::Row { .. }) || params.keys > step;
        let shape = &cx.out(0)?.shape;
        let y = if adds_up { cx.temporary(self.scalar, shape) } else { cx.output(0)? };
        let rows = [params.batches, params.heads, params.rows, 2];
        let stats = tile.continues().then(|| cx.temporary(self.scalar, &rows));
        for start in (0..params.keys.max(1)).step_by(step) {
            let params = AttentionParams { start, end: params.keys.min(start + step), ..params };
            let tensors = operands.iter().copied().chain(stats).chain([y]).collect();
            cx.call(self.kernel(tile, None), tensors, params.words()?, params.groups(tile));
        }
        if adds_up {
            put(cx, 0, y)?;
        }
        Ok(stats)
    }
}

/// Makes output `i` of the floats `from`.
pub(crate) fn put(cx: &mut Lower, i: usize, from: TensorId) -> Result<(), Why> {
    let out = cx.out(i)?;
    let scalar = Scalar::float_for(out.dtype);
    if cx.scalar(from) == scalar {
        return cx.view(i, from, 0);
    }
    cx.elementwise(i, &[(from, &out.shape)], |e, x| e.convert(x[0], scalar))
}

/// The tile of software devices, if a subgroup can keep rows of this depth and one call covers all keys.
pub(crate) fn lanes_tile(cx: &mut Lower, params: &AttentionParams) -> Option<AttentionTile> {
    let single = cx.same(Same::Rows, params.rows) && params.rows == 1;
    let mask_row = cx.always(Always::OneMaskRow, params.mask[2] == 0);
    let tile = AttentionTile::lanes(cx.target.subgroup as usize, params.depth_v, single, mask_row)?;
    let most = tile.keys_per_call((params.depth, params.depth_v), cx.target.max_iterations as usize);
    (params.keys <= most).then_some(tile)
}

/// Computes an attention that a model spells out, with a subgroup for 16 rows, or for one.
pub(crate) fn lower_spelled(cx: &mut Lower, spelled: &SpelledAttention) -> Result<(), Why> {
    let (Some(sizes), Some(scale)) =
        (spelled.sizes(cx.all_facts(), cx.target), spelled.scale(cx.all_facts()))
    else {
        refuse!("its sizes do not fit the kernel");
    };
    let &SpelledSizes { ref batch, rows, keys, depth, depth_v } = &sizes;
    if keys == 0 {
        let output = cx.output(0)?;
        cx.fill(output, 0);
        return Ok(());
    }
    let q = OperandRows::of(cx, batch, spelled.queries, false)?;
    let k = OperandRows::of(cx, batch, spelled.keys, true)?;
    let v = OperandRows::of(cx, batch, spelled.values, false)?;
    let q_fits =
        cx.multiple(Multiple::Left, q.strides()) && q.steps.is_some() && q.group.is_none_or(|g| g == 1);
    let k_fits = cx.multiple(Multiple::Right, k.strides()) && k.steps.is_some();
    let v_fits = cx.multiple(Multiple::RightBatch, v.strides()) && v.steps.is_some();
    // One number of query heads for each key head serves keys and values.
    let alike = |a: &OperandRows, b: &OperandRows, fits: bool| match (a.group, b.group) {
        (None | Some(1), _) => true,
        (Some(a), Some(b)) => fits && a == b,
        (Some(_), None) => fits,
    };
    let (k_fits, v_fits) = (k_fits && alike(&k, &v, v_fits), v_fits && alike(&v, &k, k_fits));
    let group = |own: &OperandRows, fits| if fits { own.group.unwrap_or(1) } else { 1 };
    let group = group(&k, k_fits).max(group(&v, v_fits));
    let (q, q_steps) = q.placed(cx, 0, q_fits)?;
    let (k, k_steps) = k.placed(cx, 1, k_fits)?;
    let (v, v_steps) = v.placed(cx, 2, v_fits)?;
    let mut tensors = vec![q, k, v];
    let (mut mask, mut steps) = (Mask::None, [0; 3]);
    if let Some(own) = &spelled.mask {
        let (tensor, own_steps) = mask_of(cx, batch, own.value())?;
        tensors.push(tensor);
        steps = own_steps;
        mask = if matches!(own, SpelledMask::Added(_)) { Mask::Float } else { Mask::Bool };
    }
    let filled = spelled.filled(cx.all_facts()).unwrap_or(f32::NEG_INFINITY);
    let [set, unset] = match spelled.mask {
        Some(SpelledMask::Chosen { chooses: false, .. }) => [filled, 0.0],
        _ => [0.0, filled],
    };
    let [batches, heads] = last_two(batch.iter().copied().filter(|&size| size != 1), 1);
    let unit = |steps: [usize; 3]| steps.map(|step| step / 4);
    let params = AttentionParams {
        batches,
        heads,
        group,
        rows,
        keys,
        depth: depth / 4,
        depth_v: depth_v / 4,
        q: unit(q_steps),
        k: unit(k_steps),
        v: unit(v_steps),
        y: unit(result_steps(batch, (rows, depth_v), spelled.transposed)),
        mask: [steps[0], steps[1], steps[2], keys],
        scale,
        softcap: 0.0,
        set,
        unset,
        past: 0,
        left: AttentionParams::UNBOUNDED,
        right: AttentionParams::UNBOUNDED,
        start: 0,
        end: keys,
    };
    let Some(tile) = lanes_tile(cx, &params) else { refuse!("its sizes do not fit the kernel") };
    let (scalar, unseen) = (Scalar::F32, spelled.unseen);
    let attending = Attending { scalar, mask, lengths: false, softcap: false, vector: true, unseen };
    attending.lower(cx, tile, &tensors, params).map(|_| ())
}

/// The last two numbers, with `fill` before them where there are fewer.
fn last_two(numbers: impl Iterator<Item = usize>, fill: usize) -> [usize; 2] {
    numbers.fold([fill; 2], |[_, last], number| [last, number])
}

/// The strides of batch, head and row in a dense result.
fn result_steps(batch: &[usize], (rows, depth): (usize, usize), transposed: bool) -> [usize; 3] {
    let heads = batch.last().copied().unwrap_or(1);
    let shape = [batch, &[rows, depth]].concat();
    let mut strides = array::strides(&shape);
    let mut row = depth;
    if transposed && let Some(head) = batch.len().checked_sub(1) {
        strides[head] = depth;
        row = heads * depth;
    }
    let kept = batch.iter().zip(&strides).filter(|(size, _)| **size != 1).map(|(_, stride)| *stride);
    let [outer, head] = last_two(kept, 0);
    [outer, head, row]
}

/// Rows of queries, keys or values where they lie.
struct OperandRows {
    tensor: TensorId,
    /// The pieces of each of the operand's batch dimensions, of its rows, and of their elements.
    pieces: Vec<Pieces>,
    /// The sizes of the dimensions, rows and elements last.
    shape: Vec<usize>,
    /// For each batch dimension of the weights whether it has more than one index, outermost first, and its number among the
    /// operand's, if that has it too.
    kept: Vec<Option<usize>>,
    /// The strides of batch, key head and row, if the kernel can follow them.
    steps: Option<[usize; 3]>,
    /// How many heads in turn have the same rows; `None` if all have.
    group: Option<usize>,
}

impl OperandRows {
    /// `turned`: whether the value has the elements of a row before the rows, as the keys do.
    fn of(cx: &mut Lower, batch: &[usize], id: ValueId, turned: bool) -> Result<OperandRows, Why> {
        let Some(fact) = cx.all_facts().get(id) else { refuse!("an operand is missing") };
        let mut shape = fact.shape.to_vec();
        let (tensor, mut pieces) = cx.lying(id, &shape)?;
        let rank = shape.len();
        if turned {
            shape.swap(rank - 2, rank - 1);
            pieces.swap(rank - 2, rank - 1);
        }
        let own =
            |(d, _): (usize, &usize)| (d + rank).checked_sub(batch.len() + 2).filter(|&d| shape[d] != 1);
        let kept: Vec<_> = batch.iter().enumerate().filter(|(_, size)| **size != 1).map(own).collect();
        let mut rows = OperandRows { tensor, pieces, shape, kept, steps: None, group: Some(1) };
        rows.group = rows.kept.last().map_or(Some(1), |&head| match head.map(|d| &rows.pieces[d][..]) {
            None | Some([(_, 0)]) => None,
            Some([_, (group, 0)]) => Some(*group),
            Some(_) => Some(1),
        });
        rows.steps = rows.followed();
        Ok(rows)
    }

    fn followed(&self) -> Option<[usize; 3]> {
        let [.., row, element] = &self.pieces[..] else { return None };
        let row = match row[..] {
            [] => self.shape.last().copied()?,
            [(_, stride)] => stride,
            _ => return None,
        };
        let (&last, outer) = self.kept.split_last().unwrap_or((&None, &[]));
        let head = match last.map(|d| &self.pieces[d][..]) {
            None => 0,
            Some(&[(_, stride)] | &[(_, stride), (_, 0)]) => stride,
            Some(_) => return None,
        };
        let outer = match outer {
            [] | [None] => 0,
            &[Some(d)] => match self.pieces[d][..] {
                [(_, stride)] => stride,
                _ => return None,
            },
            _ => return None,
        };
        matches!(element[..], [(_, 1)]).then_some([outer, head, row])
    }

    fn strides(&self) -> [usize; 3] {
        self.steps.unwrap_or([1; 3])
    }

    /// The tensor that the kernel reads, with the strides of batch, head and row: the operator's copy `number`, unless it `fits`.
    fn placed(&self, cx: &mut Lower, number: usize, fits: bool) -> Result<(TensorId, [usize; 3]), Why> {
        if let (true, Some(steps)) = (fits, self.steps) {
            return Ok((self.tensor, steps));
        }
        let dims: Vec<(usize, i64)> =
            self.pieces.iter().flatten().map(|&(size, stride)| (size, stride as i64)).collect();
        let to = cx.temporary_like(self.tensor, &self.shape);
        strides::copy(cx, Copy { number, from: self.tensor, to, base: 0, dims: &dims });
        let strides = array::strides(&self.shape);
        let [outer, head] = last_two(self.kept.iter().map(|d| d.map_or(0, |d| strides[d])), 0);
        Ok((to, [outer, head, strides[self.shape.len() - 2]]))
    }
}

/// The mask's tensor, with the strides of batch, head and row.
fn mask_of(cx: &mut Lower, batch: &[usize], id: ValueId) -> Result<(TensorId, [usize; 3]), Why> {
    let Some(fact) = cx.all_facts().get(id) else { refuse!("the mask is missing") };
    let shape = &fact.shape;
    let (mut tensor, pieces) = cx.lying(id, shape)?;
    let single = |pieces: &Pieces| match pieces[..] {
        [] => Some(0),
        [(_, stride)] => Some(stride),
        _ => None,
    };
    let own: Option<Vec<usize>> = pieces.iter().map(single).collect();
    let own = own.filter(|own| shape.last() == Some(&1) || own.last() == Some(&1));
    let own = match own {
        Some(own) => own,
        None => {
            tensor = cx.dense(id)?;
            let strides = array::strides(shape);
            shape.iter().zip(strides).map(|(&size, stride)| if size == 1 { 0 } else { stride }).collect()
        }
    };
    let of = |d: usize| (d + own.len()).checked_sub(batch.len() + 2).map_or(0, |d| own[d]);
    let kept = (0..batch.len()).filter(|&d| batch[d] != 1).map(of);
    let [outer, head] = last_two(kept, 0);
    Ok((tensor, [outer, head, of(batch.len())]))
}
