//! Inference: the facts of all values of a graph. Integer tensors that decide shapes are computed here, on the host. An input
//! whose value decides a shape is part of the plan's signature.

use std::sync::{Arc, OnceLock};

use super::{Fact, KnownValue, NodeInputs, check_sizes, node_error};
use crate::array::Array;
use crate::budget::{Budget, Limits, Work};
use crate::error::{Why, refuse};
use crate::graph::{Graph, Node, ValueId};
use crate::shape::Room;
use crate::{DType, Error, Result, Tensor, heap};

/// Values of up to this number of elements are computed while planning, where all their inputs are known. The reference takes
/// some 30 ns for each element.
const SMALL: usize = 1024;

/// The model's own constants of up to this number of elements are known; that costs nothing.
pub(crate) const SMALL_CONSTANT: usize = 4096;

/// What inference needs of a graph's operations.
pub(crate) trait Infer {
    /// Dtypes and shapes of the outputs. Dtypes that the operation does not take are refused.
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why>;

    /// Refuses inputs of dtypes that the operation does not take.
    fn takes(&self, inputs: &[Option<&Fact>]) -> Result<(), Why>;

    /// Dtypes and shapes of the outputs, for inputs of dtypes that the operation takes.
    fn infer_checked(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why>;

    /// The outputs.
    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why>;

    /// Inputs whose values decide the outputs' shapes or the choice of kernels.
    fn shape_operands(&self) -> &[usize];

    /// Whether the outputs depend on the inputs' shapes alone.
    fn reads_shapes_only(&self) -> bool;

    /// Whether `infer` computes the outputs, because their shapes depend on the elements of all inputs.
    fn shapes_depend_on_data(&self) -> bool;
    /// Whether each run computes other outputs.
    fn draws(&self) -> bool;

    /// What one `eval` costs. Where `infer` computes the outputs, it has cost as much, and `outputs` are not known yet.
    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why>;
}

/// What planning may know of a graph's input: its dtype, its shape, and its value, which planning reads only where it decides
/// shapes.
#[derive(Clone, Debug)]
pub(crate) struct InputFact {
    pub(crate) dtype: DType,
    pub(crate) shape: Vec<usize>,
    pub(crate) value: Option<Tensor>,
    /// Where the graph may append to the input in the input's own memory.
    pub(crate) room: Option<Room>,
}

impl From<Tensor> for InputFact {
    fn from(tensor: Tensor) -> InputFact {
        InputFact { dtype: tensor.dtype(), shape: tensor.shape().to_vec(), value: Some(tensor), room: None }
    }
}

#[cfg(any(test, feature = "internals"))]
impl InputFact {
    /// An input of this shape whose value decides no shape.
    pub(crate) fn of_shape(dtype: DType, shape: &[usize]) -> InputFact {
        InputFact { dtype, shape: shape.to_vec(), value: None, room: None }
    }
}

/// The key of a plan: the inputs' shapes, the room behind them, and the values of those inputs that decide shapes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Signature {
    pub(crate) shapes: Vec<Vec<usize>>,
    /// The room behind each input that has any, by number.
    pub(crate) rooms: Vec<(usize, Room)>,
    /// The number and the raw bytes of each input that decides shapes.
    pub(crate) values: Vec<(usize, Vec<u8>)>,
}

/// The facts of all values, by [`ValueId`]; `None` for values of subgraphs, and of nodes that nothing needs.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    constants: Arc<[Option<Fact>]>,
    computed: Vec<Option<Fact>>,
    /// The room behind each of the graph's inputs that has any, by number.
    rooms: Vec<(usize, Room)>,
    /// What the plan may still cost.
    budget: Arc<Budget>,
}

impl Facts {
    /// What the plan that these facts are for may still cost.
    pub(crate) fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The room behind each of the graph's inputs that has any, by number.
    pub(crate) fn rooms(&self) -> &[(usize, Room)] {
        &self.rooms
    }

    pub(crate) fn get(&self, id: ValueId) -> Option<&Fact> {
        let computed = self.computed.get(id.index())?;
        computed.as_ref().or_else(|| self.constants.get(id.index())?.as_ref())
    }

    /// The facts of a node's inputs.
    pub(crate) fn of_inputs<O>(&self, node: &Node<O>) -> NodeInputs<'_> {
        node.inputs.iter().map(|input| input.and_then(|id| self.get(id))).collect()
    }
}

/// What is known of a graph's facts before any input is known. It is made once for each session.
#[derive(Clone, Debug)]
pub(crate) struct FactBase {
    constants: Arc<[Option<Fact>]>,
    /// For each value, whether it decides a shape or a kernel.
    demanded: Vec<bool>,
    limits: Limits,
    /// Dtypes of the graph's inputs for which every node takes the dtypes that it gets: those follow from these alone.
    checked: OnceLock<Vec<DType>>,
}

impl FactBase {
    pub(crate) fn new(graph: &Graph<impl Infer>, limits: &Limits) -> Result<FactBase> {
        FactBase::computing(graph, &[], limits)
    }

    /// As `new`, where inference also computes these values.
    pub(crate) fn computing(
        graph: &Graph<impl Infer>,
        wanted: &[ValueId],
        limits: &Limits,
    ) -> Result<FactBase> {
        let demanded = demanded(graph, wanted);
        let mut constants = vec![None; graph.values.len()];
        for (i, value) in graph.values.iter().enumerate() {
            if let Some(tensor) = &value.constant {
                let mut fact = Fact::new(tensor.dtype(), tensor.shape());
                if demanded[i] || tensor.len() <= SMALL_CONSTANT {
                    tensor.check_file()?;
                    // Elements of types that the reference cannot read stay unknown.
                    let known = |array| KnownValue { array: Arc::new(array), from_inputs: false };
                    fact.value = match Array::from_tensor(tensor) {
                        Ok(array) => Some(known(array)),
                        Err(Why::Refused(_) | Why::TooWide(_)) => None,
                        Err(Why::NoMemory(none)) => {
                            return Err(none.within(format_args!("constant '{}'", value.name)).into());
                        }
                    };
                }
                constants[i] = Some(fact);
            }
        }
        Ok(FactBase {
            constants: constants.into(),
            demanded,
            limits: limits.clone(),
            checked: OnceLock::new(),
        })
    }

    /// The budget of one plan.
    pub(crate) fn budget(&self) -> Arc<Budget> {
        Arc::new(Budget::new(&self.limits))
    }

    /// The numbers of the inputs whose values decide shapes.
    pub(crate) fn shape_inputs<'a, O>(&'a self, graph: &'a Graph<O>) -> impl Iterator<Item = usize> + 'a {
        graph.inputs.iter().enumerate().filter(|(_, id)| self.is_demanded(**id)).map(|(i, _)| i)
    }

    /// Whether the value decides a shape or a kernel.
    pub(crate) fn is_demanded(&self, id: ValueId) -> bool {
        self.demanded[id.index()]
    }

    /// The facts of a run with inputs of these dtypes, shapes and, where they decide shapes, values.
    pub(crate) fn bind(
        &self,
        graph: &Graph<impl Infer>,
        inputs: &[InputFact],
        budget: &Arc<Budget>,
    ) -> Result<Facts> {
        self.bound(graph, inputs, budget, SMALL)
    }

    /// Fails if the graph does not accept these inputs.
    pub(crate) fn takes(
        &self,
        graph: &Graph<impl Infer>,
        inputs: &[InputFact],
        budget: &Arc<Budget>,
    ) -> Result<()> {
        self.bound(graph, inputs, budget, 0).map(drop)
    }

    /// The facts, where values that nothing demands are computed only if they have at most `small` elements.
    fn bound(
        &self,
        graph: &Graph<impl Infer>,
        inputs: &[InputFact],
        budget: &Arc<Budget>,
        small: usize,
    ) -> Result<Facts> {
        heap::ask("the facts of a plan", heap::of_graph(0, graph.values.len()))?;
        let (constants, computed) = (self.constants.clone(), vec![None; graph.values.len()]);
        let rooms = inputs.iter().enumerate().filter_map(|(i, input)| Some((i, input.room?))).collect();
        let mut facts = Facts { constants, computed, rooms, budget: budget.clone() };
        for (id, input) in graph.inputs.iter().zip(inputs) {
            let mut fact = Fact::new(input.dtype, input.shape.as_slice());
            if let (true, Some(tensor)) = (self.demanded[id.index()], &input.value) {
                let array =
                    Array::from_tensor(tensor).map_err(|why| Error::value(&graph.value(*id).name, why))?;
                fact.value = Some(KnownValue { array: Arc::new(array), from_inputs: true });
            }
            facts.computed[id.index()] = Some(fact);
        }
        let dtypes = || inputs.iter().map(|input| input.dtype);
        let checked = self.checked.get().is_some_and(|known| known.iter().copied().eq(dtypes()));
        for node in &graph.nodes {
            let outputs = {
                let inputs = facts.of_inputs(node);
                let outputs = self.infer((node, checked), &inputs, budget, small);
                outputs.map_err(|why| node_error(node, &inputs, why))?
            };
            for (id, fact) in node.outputs.iter().zip(outputs) {
                if let Some(id) = id {
                    facts.computed[id.index()] = Some(fact);
                }
            }
        }
        if !checked {
            for node in &graph.replaced {
                let inputs = facts.of_inputs(node);
                // A pass may have taken an input out of the graph.
                if node.inputs.iter().flatten().count() == inputs.iter().flatten().count() {
                    node.op.takes(&inputs).map_err(|why| node_error(node, &inputs, why))?;
                }
            }
        }
        self.checked.get_or_init(|| dtypes().collect());
        Ok(facts)
    }

    /// `checked`: whether the node takes the dtypes of its inputs.
    fn infer(
        &self,
        (node, checked): (&Node<impl Infer>, bool),
        inputs: &[Option<&Fact>],
        budget: &Budget,
        small: usize,
    ) -> Result<Vec<Fact>, Why> {
        let operator = &node.op;
        let all_known = inputs.iter().flatten().all(|fact| fact.value.is_some());
        charge_inference(operator, inputs, all_known, budget)?;
        let mut outputs = if checked { operator.infer_checked(inputs)? } else { operator.infer(inputs)? };
        let wanted = node.outputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
        if outputs.len() < wanted {
            refuse!("has {} outputs, and {wanted} are wanted", outputs.len());
        }
        check_sizes(&outputs)?;
        if !all_known || operator.draws() || outputs.iter().any(|fact| fact.value.is_some()) {
            return Ok(outputs);
        }
        let from_inputs =
            inputs.iter().flatten().any(|fact| fact.value.as_ref().is_some_and(|known| known.from_inputs));
        let demanded = node.outputs.iter().flatten().any(|id| self.demanded[id.index()]);
        let small = !from_inputs && outputs.iter().all(|fact| fact.count() <= small);
        if demanded || small {
            match charge_value(operator, inputs, &outputs, budget) {
                Err(Why::Refused(over)) if demanded => refuse!("its value decides shapes, and {over}"),
                Err(Why::Refused(_) | Why::TooWide(_)) => return Ok(outputs),
                Err(none) => return Err(none),
                Ok(()) => {}
            }
            let arrays: Vec<Option<&Array>> =
                inputs.iter().map(|fact| fact.and_then(|fact| fact.array().ok())).collect();
            for (fact, array) in outputs.iter_mut().zip(operator.eval(&arrays)?) {
                debug_assert_eq!(
                    (fact.dtype, fact.shape.as_slice()),
                    (array.dtype, array.shape.as_slice()),
                    "{}",
                    node.op_type
                );
                fact.value = Some(KnownValue { array: Arc::new(array), from_inputs });
            }
        }
        Ok(outputs)
    }
}

/// Charges what `infer` costs beyond a few steps: it reads large shape operands, and computes outputs whose shapes depend on
/// data.
fn charge_inference(
    operator: &impl Infer,
    inputs: &[Option<&Fact>],
    all_known: bool,
    budget: &Budget,
) -> Result<(), Why> {
    let mut work = Work::default();
    if all_known && operator.shapes_depend_on_data() {
        work = work + operator.work(inputs, &[])?;
    }
    for fact in inputs.iter().flatten().filter(|fact| fact.value.is_some()) {
        let count = fact.count();
        if count > SMALL_CONSTANT && !fact.dtype.is_float() {
            work = work.steps(&[count]);
        }
    }
    budget.charge(work, 0)
}

/// Charges the computation of a node's outputs, which are kept as long as the facts.
fn charge_value(
    operator: &impl Infer,
    inputs: &[Option<&Fact>],
    outputs: &[Fact],
    budget: &Budget,
) -> Result<(), Why> {
    let longest = inputs.iter().flatten().filter_map(|fact| fact.value.as_ref());
    let longest = longest.map(|known| known.array.longest_text()).max().unwrap_or(0);
    let texts = texts(outputs, longest);
    let kept: Work = outputs.iter().map(|fact| Work::array(fact.dtype, &fact.shape)).sum();
    budget.charge(operator.work(inputs, outputs)?, kept.bytes.saturating_add(texts))
}

/// The bytes that the allocator takes for a short text, such as a number.
const LITTLE_TEXT: u64 = 32;

/// The most bytes of the texts in these outputs, if each element may be as long as the longest text of the inputs.
pub(crate) fn texts(outputs: &[Fact], longest: usize) -> u64 {
    let strings = outputs.iter().filter(|fact| fact.dtype == DType::String);
    let each = (longest as u64).max(LITTLE_TEXT) + size_of::<String>() as u64;
    strings.map(|fact| (fact.count() as u64).saturating_mul(each)).fold(0, u64::saturating_add)
}

/// Marks the values that are `wanted` or that some operator needs while planning, and all values from which these are computed.
fn demanded(graph: &Graph<impl Infer>, wanted: &[ValueId]) -> Vec<bool> {
    let mut demanded = vec![false; graph.values.len()];
    wanted.iter().for_each(|id| demanded[id.index()] = true);
    for node in graph.nodes.iter().rev() {
        let operator = &node.op;
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
