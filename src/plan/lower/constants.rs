//! Constants: tensors that the model holds, and tables that the host makes for a plan.

use super::{Lower, StridedValue};
use crate::array::Array;
use crate::budget::Work;
use crate::error::{Why, refuse};
use crate::graph::ValueId;
use crate::kernels::expr::{Integers, Scalar};
use crate::kernels::{Access, Storage};
use crate::plan::program::{PackedDim, Packing, Place, TensorId, WeightKey};
use crate::{DType, Element, Tensor};

/// The constant of the model that has the elements of a value.
pub(super) struct ConstantElements {
    value: ValueId,
    /// Where they lie in it, if not in its own order.
    view: Option<Access>,
    /// The register into which kernels load them.
    scalar: Option<Scalar>,
}

impl<'a> Lower<'a> {
    /// Input `i` as the model holds it, if it is a constant of the model.
    pub(crate) fn model_constant(&self, i: usize) -> Option<&'a Tensor> {
        let id = self.node.inputs.get(i).copied().flatten()?;
        self.graph.value(id).constant.as_ref()
    }

    /// Whether input `i` is a constant of the model, or a view of one.
    pub(crate) fn is_constant(&self, i: usize) -> bool {
        self.node.inputs.get(i).copied().flatten().is_some_and(|id| self.constant(id).is_some())
    }

    /// The tensor of input `i` in the order of `packing`; `None` if the input is no constant of the model, nor a view of one.
    pub(crate) fn packed(&mut self, i: usize, packing: Packing) -> Option<TensorId> {
        let ConstantElements { value, view, scalar } =
            self.constant(self.node.inputs.get(i).copied().flatten()?)?;
        let packing = Packing { view, ..packing };
        self.weight(WeightKey { value, packing: Some(packing), read_as: None }, scalar).ok()
    }

    /// The bytes of input `i` as numbers of `dtype`, which may have fewer bits, in the order of `packing` if there is one;
    /// `None` if the input is no constant of the model.
    pub(crate) fn read_as(
        &mut self,
        i: usize,
        dtype: DType,
        packing: Option<Packing>,
    ) -> Result<Option<TensorId>, Why> {
        match self.node.inputs.get(i).copied().flatten().and_then(|id| self.constant(id)) {
            Some(ConstantElements { value, view: None, scalar: None }) => {
                self.weight(WeightKey { value, packing, read_as: Some(dtype) }, None).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The constant of the model that has the elements of value `id`.
    pub(super) fn constant(&self, id: ValueId) -> Option<ConstantElements> {
        if self.graph.value(id).constant.is_some() {
            return Some(ConstantElements { value: id, view: None, scalar: None });
        }
        let strided = self.values.strided[id.index()].as_ref().filter(|strided| strided.constant)?;
        let tensor = self.program.tensor(strided.tensor);
        let Place::Weight(i) = tensor.place else { return None };
        let WeightKey { value, packing: None, read_as: None } = self.program.weights[i] else { return None };
        let whole = strided.access == Access::new(0, &[(tensor.count, 1)]);
        let view = (!whole).then(|| strided.access.clone());
        Some(ConstantElements { value, view, scalar: Some(tensor.scalar) })
    }

    /// Whether the value follows from constants of the model alone.
    pub(super) fn is_fixed(&self, id: ValueId) -> bool {
        let strided = || self.values.strided[id.index()].as_ref();
        self.graph.value(id).constant.is_some() || strided().is_some_and(|strided| strided.constant)
    }

    /// Output 0 has the numbers of input 0, a constant of the model, in a dtype that holds all of them: kernels convert them
    /// as they load. No kernel runs.
    pub(crate) fn widened(&mut self) -> Result<(), Why> {
        self.check_dtypes()?;
        if !self.node.widens_constant(self.graph, &self.facts()) {
            refuse!("has no GPU kernel");
        }
        let (Some(&Some(input)), Some(&Some(output))) = (self.node.inputs.first(), self.node.outputs.first())
        else {
            refuse!("input 0 is required")
        };
        let key = WeightKey { value: input, packing: None, read_as: None };
        let tensor = self.weight(key, self.integers.register(self.out(0)?.dtype))?;
        let access = Access::new(0, &[(self.program.tensor(tensor).count, 1)]);
        let (constant, label) = (true, self.unit.label.clone());
        self.values.strided[output.index()] = Some(StridedValue { tensor, access, constant, label });
        Ok(())
    }

    /// A tensor of words that the host has computed for this plan.
    pub(crate) fn words(&mut self, count: usize, words: impl FnOnce() -> Vec<u32>) -> Result<TensorId, Why> {
        self.charge(Work::array(DType::U32, &[count]))?;
        let words = words();
        let shape = [words.len()];
        let table = Tensor::from_vec(&shape, words)?;
        let place = Place::Constant(self.program.constants.len());
        self.program.constants.push(table);
        let (name, element) = (format!("{}.table", self.node.name), (Scalar::U32, Storage::Word));
        Ok(self.program.add_tensor(name, element, shape.to_vec(), place))
    }

    /// A tensor of float64 that the host has.
    pub(crate) fn doubles(&mut self, numbers: &[f64]) -> Result<TensorId, Why> {
        self.wide_table(Scalar::F64, numbers)
    }

    /// A tensor of int64 in 64 bits that the host has.
    pub(crate) fn longs(&mut self, numbers: &[i64]) -> Result<TensorId, Why> {
        self.wide_table(Scalar::I64, numbers)
    }

    fn wide_table<T: Element>(&mut self, scalar: Scalar, numbers: &[T]) -> Result<TensorId, Why> {
        self.charge(Work::array(T::DTYPE, &[numbers.len()]))?;
        let place = Place::Constant(self.program.constants.len());
        self.program.constants.push(Tensor::from_slice(&[numbers.len()], numbers)?);
        let (name, element) = (format!("{}.table", self.node.name), (scalar, Storage::Wide));
        Ok(self.program.add_tensor(name, element, vec![numbers.len()], place))
    }

    /// Charges the work of a table, which the plan keeps.
    pub(crate) fn charge(&self, work: Work) -> Result<(), Why> {
        let charged = self.facts.budget().charge(work, work.bytes);
        charged.map_err(|over| over.map(|over| format!("the host makes a table for it, and {over}")))
    }

    /// Makes output `i` an array that the host computes for this plan, from shapes and shape operands.
    pub(crate) fn host_array(
        &mut self,
        i: usize,
        array: impl FnOnce() -> Result<Array, Why>,
    ) -> Result<(), Why> {
        let fact = self.out(i)?;
        self.charge(Work::array(fact.dtype, &fact.shape))?;
        let array = array()?;
        let place = Place::Constant(self.program.constants.len());
        self.program.constants.push(array.to_tensor()?);
        let output = self.output(i)?;
        let (name, element) = (format!("{}.known", self.node.name), self.program.tensor(output).element());
        let of = self.program.add_tensor(name, element, array.shape.clone(), place);
        self.view(i, of, 0)
    }

    /// The elements of a constant that moves, or that kernels convert, in the value's own order.
    pub(super) fn packed_whole(&mut self, id: ValueId) -> Result<Option<TensorId>, Why> {
        if self.graph.value(id).constant.is_some() {
            return Ok(None);
        }
        let Some(ConstantElements { value, view, scalar }) = self.constant(id) else { return Ok(None) };
        let Some(fact) = self.facts.get(id) else { return Ok(None) };
        let packing = view.map(|view| Packing {
            source: vec![fact.count()],
            view: Some(view),
            dims: vec![PackedDim { axis: 0, size: fact.count(), step: 1 }],
            ..Packing::default()
        });
        let tensor = self.weight(WeightKey { value, packing, read_as: None }, scalar)?;
        self.values.tensors[id.index()] = Some(tensor);
        Ok(Some(tensor))
    }

    /// The tensor of a constant, whose elements kernels load into registers of type `scalar`; `None`: those of its dtype.
    pub(super) fn weight(&mut self, key: WeightKey, scalar: Option<Scalar>) -> Result<TensorId, Why> {
        let value = self.graph.value(key.value);
        let Some(tensor) = &value.constant else { refuse!("'{}' is no constant", value.name) };
        let dtype = key.read_as.unwrap_or(tensor.dtype());
        let storage = self.integers.storage(dtype);
        let Some(element) = scalar.or(self.integers.register(dtype)).zip(storage) else {
            refuse!("the device does not compute with {dtype}")
        };
        let mut place = None;
        for &known in &self.values.weights[key.value.index()] {
            let known_tensor = self.program.tensor(known);
            let Place::Weight(i) = known_tensor.place else { continue };
            if self.program.weights[i] == key {
                if known_tensor.scalar == element.0 {
                    return Ok(known);
                }
                place = Some(i);
            }
        }
        let tensor = key.constant(tensor)?;
        if self.integers == Integers::Bits32 && Integers::fewest(&tensor) == Integers::Bits64 {
            return Err(Why::too_wide(format_args!("an element of '{}'", value.name)));
        }
        let shape = key.packing.as_ref().map_or(tensor.shape().to_vec(), |packing| vec![packing.count()]);
        let place = Place::Weight(place.unwrap_or(self.program.weights.len()));
        let id = self.program.add_tensor(value.name.clone(), element, shape, place);
        self.values.weights[key.value.index()].push(id);
        if place == Place::Weight(self.program.weights.len()) {
            self.program.weights.push(key);
        }
        Ok(id)
    }
}
