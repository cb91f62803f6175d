//! Facts: what is known of each value once the inputs' shapes are known. Integer tensors that feed shapes are computed
//! here, on the host; an input whose value decides a shape is part of the plan's signature.

use std::sync::Arc;

use smallvec::SmallVec;

use super::open::Input;
use crate::error::{Why, refuse};
use crate::graph::{Graph, Node, ValueId};
use crate::reference::Array;
use crate::shape::Shape;
use crate::tensor::checked_count;
use crate::{DType, Error, Result};

/// Values of up to this many elements are computed while planning where all their inputs are known: the reference takes some
/// 30 ns for each.
const SMALL: usize = 1024;

/// The model's own constants of up to this many elements are known: nothing is computed for that.
const SMALL_CONSTANT: usize = 4096;

/// The limit of what is computed while planning because shapes depend on it.
const LARGEST: usize = 1 << 22;

/// The limit of a tensor's element count: indices are u32 on the device.
pub(crate) const MAX_COUNT: usize = u32::MAX as usize / 4;

/// Dtype and shape of a value, and the value itself where planning knows it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fact {
    pub(crate) dtype: DType,
    pub(crate) shape: Shape,
    pub(crate) value: Option<Known>,
}

/// A value that planning knows.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Known {
    pub(crate) array: Arc<Array>,
    /// Whether it depends on the values of graph inputs, not on constants and shapes alone.
    pub(crate) from_inputs: bool,
}

impl Fact {
    pub(crate) fn new(dtype: DType, shape: impl Into<Shape>) -> Fact {
        Fact { dtype, shape: shape.into(), value: None }
    }

    /// The fact of a value that follows from shapes alone.
    pub(crate) fn of_array(array: Array) -> Fact {
        let known = |array| Known { array: Arc::new(array), from_inputs: false };
        Fact { dtype: array.dtype, shape: array.shape.as_slice().into(), value: Some(known(array)) }
    }

    /// The fact of a value that is at hand.
    pub(crate) fn of_shared(array: &Arc<Array>) -> Fact {
        let known = Known { array: array.clone(), from_inputs: true };
        Fact { dtype: array.dtype, shape: array.shape.as_slice().into(), value: Some(known) }
    }

    pub(crate) fn rank(&self) -> usize {
        self.shape.len()
    }

    pub(crate) fn count(&self) -> usize {
        checked_count(&self.shape).unwrap_or(usize::MAX)
    }

    /// The value, which the operator needs while planning.
    pub(crate) fn array(&self) -> Result<&Array, Why> {
        match &self.value {
            Some(known) => Ok(&known.array),
            None => refuse!(
                "the value of a shape operand is computed from data, so it is not known while planning"
            ),
        }
    }

    /// The value as integers.
    pub(crate) fn i64s(&self) -> Result<Vec<i64>, Why> {
        self.array()?.i64s()
    }

    /// The value, if it follows from constants and shapes alone.
    pub(crate) fn constant(&self) -> Option<&Array> {
        self.value.as_ref().filter(|known| !known.from_inputs).map(|known| known.array.as_ref())
    }
}

impl std::fmt::Display for Fact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dims: Vec<String> = self.shape.iter().map(|d| d.to_string()).collect();
        write!(f, "{}[{}]", self.dtype, dims.join("x"))
    }
}

/// Facts of a node's inputs.
pub(crate) type NodeInputs<'a> = SmallVec<[Option<&'a Fact>; 4]>;

/// What a plan depends on: the inputs' shapes, and the values of those inputs that decide shapes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Signature {
    pub(crate) shapes: Vec<Vec<usize>>,
    /// (input number, raw bytes)
    pub(crate) values: Vec<(usize, Vec<u8>)>,
}

/// The facts of all values, by [`ValueId`]; `None` for values of subgraphs and of dead code.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    constants: Arc<[Option<Fact>]>,
    computed: Vec<Option<Fact>>,
}

impl Facts {
    pub(crate) fn get(&self, id: ValueId) -> Option<&Fact> {
        let computed = self.computed.get(id.index())?;
        computed.as_ref().or_else(|| self.constants.get(id.index())?.as_ref())
    }

    /// The facts of a node's inputs.
    pub(crate) fn of_inputs(&self, node: &Node) -> NodeInputs<'_> {
        node.inputs.iter().map(|input| input.and_then(|id| self.get(id))).collect()
    }
}

/// The error of a node that refuses, with its name and what it was given.
pub(crate) fn node_error(node: &Node, inputs: &[Option<&Fact>], why: Why) -> Error {
    Error::Node {
        node: node.name.clone(),
        op: node.op_type.clone(),
        opset: node.opset,
        inputs: text(inputs),
        reason: why.0,
    }
}

/// Dtypes and shapes of a node's inputs, as errors give them.
pub(super) fn text(inputs: &[Option<&Fact>]) -> String {
    let texts: Vec<String> =
        inputs.iter().map(|fact| fact.map_or("-".to_string(), |fact| fact.to_string())).collect();
    texts.join(", ")
}

/// What can be known of a graph's facts before any input is: done once per session.
#[derive(Clone, Debug)]
pub(crate) struct FactBase {
    constants: Arc<[Option<Fact>]>,
    /// Values that decide a shape or a kernel.
    demanded: Vec<bool>,
}

impl FactBase {
    pub(crate) fn new(graph: &Graph) -> Result<FactBase> {
        let demanded = demanded(graph);
        let mut constants = vec![None; graph.values.len()];
        for (i, value) in graph.values.iter().enumerate() {
            if let Some(tensor) = &value.constant {
                let mut fact = Fact::new(tensor.dtype(), tensor.shape());
                if demanded[i] || tensor.len() <= SMALL_CONSTANT {
                    // Element types that the reference cannot read stay unknown.
                    let known = |array| Known { array: Arc::new(array), from_inputs: false };
                    fact.value = Array::from_tensor(tensor).ok().map(known);
                }
                constants[i] = Some(fact);
            }
        }
        Ok(FactBase { constants: constants.into(), demanded })
    }

    /// The numbers of the inputs whose values decide shapes.
    pub(crate) fn shape_inputs<'a>(&'a self, graph: &'a Graph) -> impl Iterator<Item = usize> + 'a {
        graph.inputs.iter().enumerate().filter(|(_, id)| self.demanded[id.index()]).map(|(i, _)| i)
    }

    /// Facts for a run with inputs of these dtypes, shapes and (where they decide shapes) values.
    pub(crate) fn bind(&self, graph: &Graph, inputs: &[Input]) -> Result<Facts> {
        self.bound(graph, inputs, SMALL)
    }

    /// Whether a run can have such inputs.
    pub(crate) fn takes(&self, graph: &Graph, inputs: &[Input]) -> bool {
        self.bound(graph, inputs, 0).is_ok()
    }

    /// Facts in which values that nothing demands are computed if they have at most `small` elements.
    fn bound(&self, graph: &Graph, inputs: &[Input], small: usize) -> Result<Facts> {
        let (constants, computed) = (self.constants.clone(), vec![None; graph.values.len()]);
        let mut facts = Facts { constants, computed };
        for (id, input) in graph.inputs.iter().zip(inputs) {
            let mut fact = Fact::new(input.dtype, input.shape.as_slice());
            if let (true, Some(tensor)) = (self.demanded[id.index()], &input.value) {
                let array = Array::from_tensor(tensor)
                    .map_err(|why| Error::Input { name: graph.value(*id).name.clone(), reason: why.0 })?;
                fact.value = Some(Known { array: Arc::new(array), from_inputs: true });
            }
            facts.computed[id.index()] = Some(fact);
        }
        for node in &graph.nodes {
            let outputs = {
                let inputs = facts.of_inputs(node);
                self.infer(node, &inputs, small).map_err(|why| node_error(node, &inputs, why))?
            };
            for (id, fact) in node.outputs.iter().zip(outputs) {
                if let Some(id) = id {
                    facts.computed[id.index()] = Some(fact);
                }
            }
        }
        Ok(facts)
    }

    fn infer(&self, node: &Node, inputs: &[Option<&Fact>], small: usize) -> Result<Vec<Fact>, Why> {
        let operator = node.op.operator();
        let mut outputs = operator.infer(inputs)?;
        let wanted = node.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if outputs.len() < wanted {
            refuse!("has {} outputs, and {wanted} are wanted", outputs.len());
        }
        check_sizes(&outputs)?;
        let given = || inputs.iter().flatten();
        let known =
            given().all(|fact| fact.value.is_some()) && outputs.iter().all(|fact| fact.value.is_none());
        if !known {
            return Ok(outputs);
        }
        let from_inputs = given().any(|fact| fact.value.as_ref().is_some_and(|known| known.from_inputs));
        let demanded = node.outputs.iter().flatten().any(|id| self.demanded[id.index()]);
        let small = !from_inputs && outputs.iter().all(|fact| fact.count() <= small);
        if demanded && let Some(large) = outputs.iter().find(|fact| fact.count() > LARGEST) {
            refuse!("{large} decides shapes, and at most {LARGEST} elements are computed while planning");
        }
        if demanded || small {
            let arrays: Vec<Option<&Array>> =
                inputs.iter().map(|fact| fact.and_then(|fact| fact.array().ok())).collect();
            for (fact, array) in outputs.iter_mut().zip(operator.eval(&arrays)?) {
                debug_assert_eq!(
                    (fact.dtype, fact.shape.as_slice()),
                    (array.dtype, array.shape.as_slice()),
                    "{}",
                    node.op_type
                );
                fact.value = Some(Known { array: Arc::new(array), from_inputs });
            }
        }
        Ok(outputs)
    }
}

/// Refuses outputs that are too large to be computed.
pub(crate) fn check_sizes(outputs: &[Fact]) -> Result<(), Why> {
    match outputs.iter().find(|fact| is_too_large(&fact.shape)) {
        Some(fact) => refuse!("the output {fact} has more than {MAX_COUNT} elements"),
        None => Ok(()),
    }
}

/// Whether a tensor is larger than can be computed with. Of one without elements, the other axes count: tables are made for
/// single axes.
pub(crate) fn is_too_large(shape: &[usize]) -> bool {
    let mut axes = shape.iter().copied().filter(|&size| size > 0);
    axes.try_fold(1, usize::checked_mul).is_none_or(|n| n > MAX_COUNT)
}

/// Marks the values that some operator needs while planning, and all that they are computed from.
fn demanded(graph: &Graph) -> Vec<bool> {
    let mut demanded = vec![false; graph.values.len()];
    for node in graph.nodes.iter().rev() {
        let operator = node.op.operator();
        for &operand in operator.shape_operands() {
            if let Some(Some(id)) = node.inputs.get(operand) {
                demanded[id.index()] = true;
            }
        }
        let wanted = node.outputs.iter().flatten().any(|id| demanded[id.index()]);
        if wanted && !operator.reads_shapes_only() {
            node.inputs.iter().flatten().for_each(|id| demanded[id.index()] = true);
        }
    }
    demanded
}
