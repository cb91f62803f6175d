//! The kinds of a graph's values: which are strings or containers, so that the host must compute them.

use super::{DType, Graph, Kind, Node, Op};
use crate::graph::{Value, ValueId};
use crate::kernels::expr::{Builder, Integers, Scalar};

impl Graph {
    /// What each value is, as far as it follows from declarations, dtypes and attributes.
    pub(crate) fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.values.iter().map(declared).collect();
        for node in &self.nodes {
            let found = {
                let inputs: Vec<Option<&Kind>> =
                    node.inputs.iter().map(|id| id.map(|id| &kinds[id.index()])).collect();
                node.op.kinds(&inputs, node.outputs.len())
            };
            for (id, kind) in node.outputs.iter().zip(found) {
                if let (Some(id), true) = (id, kind != Kind::Tensor(None)) {
                    kinds[id.index()] = kind;
                }
            }
        }
        kinds
    }

    /// The kinds of the outputs of a subgraph that takes values of these kinds, its inputs first and then its captures.
    pub(crate) fn kinds_of_outputs(&self, given: &[Option<&Kind>]) -> Vec<Kind> {
        let mut graph = self.clone();
        graph.give_kinds(given);
        let kinds = graph.kinds();
        graph.outputs.iter().map(|id| kinds[id.index()].clone()).collect()
    }

    /// Notes which of the inputs and captures are no numbers of a device.
    pub(crate) fn give_kinds(&mut self, given: &[Option<&Kind>]) {
        let ids: Vec<_> = self.inputs.iter().chain(&self.captures).copied().collect();
        for (id, kind) in ids.into_iter().zip(given) {
            let value = &mut self.values[id.index()];
            match kind {
                Some(Kind::Tensor(Some(dtype @ (DType::String | DType::F64)))) => value.dtype = Some(*dtype),
                Some(kind) if kind.is_container() => value.container = Some((*kind).clone()),
                _ => {}
            }
        }
    }
}

fn declared(value: &Value) -> Kind {
    let dtype = value.constant.as_ref().map(|tensor| tensor.dtype()).or(value.dtype);
    value.container.clone().unwrap_or(Kind::Tensor(dtype))
}

impl Node {
    /// Whether the host runs the node, as it handles strings or containers. `kinds`: of all values of the graph.
    pub(crate) fn runs_on_host(&self, kinds: &[Kind]) -> bool {
        let operands = || self.inputs.iter().chain(&self.outputs).flatten();
        let on_host = || operands().any(|id| kinds[id.index()].is_on_host());
        !self.runs_subgraphs()
            && !matches!(*self.op, Op::Unsupported(_))
            && (self.op.operator().is_for_host() || on_host())
    }

    /// Whether devices with float64 run the node, some of whose values are float64.
    pub(crate) fn computes_f64(&self, kinds: &[Kind]) -> bool {
        let scalar = |id: ValueId| if kinds[id.index()].is_float64() { Scalar::F64 } else { Scalar::F32 };
        // No size is known yet, and some operators look at the last two axes.
        let mut builder = Builder::of_shape(&[1, 1], Integers::Bits32);
        let operator = self.op.operator();
        let load = |(i, id): (usize, &Option<ValueId>)| id.map(|id| builder.load(i, scalar(id)));
        let inputs: Vec<_> = self.inputs.iter().enumerate().map(load).collect();
        let double = self.outputs.iter().flatten().any(|id| kinds[id.index()].is_float64());
        let out = if double { DType::F64 } else { DType::F32 };
        match operator.pointwise(&mut builder, &inputs, out) {
            Some(value) => !builder.finish(vec![value]).0.mixes(),
            None => operator.moves_elements() || operator.computes_f64(),
        }
    }

    /// Whether the host reads the elements of input `i` where it runs the node.
    pub(crate) fn is_read_on_host(&self, i: usize) -> bool {
        let operator = self.op.operator();
        match operator.host() {
            Some(host) => host.reads_elements(i),
            None => !operator.passes_input_on() && !operator.reads_shapes_only(),
        }
    }
}
