//! Local functions: each call is replaced by the function's nodes.

use std::collections::{HashMap, HashSet};
use std::rc::Rc;

use prost::Message;

use super::attributes::twice;
use super::import::{Context, FunctionId, Importer, ScopeKind, invalid, opsets};
use super::order::{order, title};
use super::proto::{FunctionProto, NodeProto};
use crate::budget::Work;
use crate::graph::ValueId;
use crate::{Error, Result};

/// What a node and its values take besides their names and the node's attributes.
const NODE_BYTES: usize = 1024;

impl<'m> Importer<'m> {
    /// Charges a node of a function: what it copies of the file, without shared tensor data, and the names of the calls around
    /// it, which stand before its own name and those of its outputs. Functions that call functions let a small file describe
    /// an enormous graph.
    pub(super) fn charge(&mut self, node: &NodeProto) -> Result<()> {
        let Some((_, function, _)) = self.calls.last().copied() else { return Ok(()) };
        let shared = node.attribute.iter().filter_map(|a| a.t.as_ref()?.raw_data.as_ref());
        let shared: usize = shared.map(|raw| raw.len()).sum();
        let copied = NODE_BYTES + node.encoded_len().saturating_sub(shared);
        // The name of an output is among the taken names too.
        let names = 1 + node.output.len();
        let bytes = copied.saturating_add(self.scope().context.prefix.len().saturating_mul(names));
        self.budget.charge(Work::default(), bytes as u64).map_err(|over| {
            let node = title(node);
            let far =
                |over| format!("its functions expand too far, at node '{node}' of '{function}': {over}");
            over.error(format_args!("node '{node}' of '{function}'"), |over| Error::invalid(far(over)))
        })
    }

    /// Charges what a call looks up of its function, whatever the function's nodes need of it.
    fn charge_call(&self, call: &NodeProto, function: &FunctionProto) -> Result<()> {
        /// The steps in which a name is put into a table.
        const NAME: usize = 8;
        let names = [
            function.value_info.len(),
            function.input.len() + function.output.len(),
            function.attribute_proto.len() + call.attribute.len(),
            function.opset_import.len(),
            function.node.len(),
        ];
        self.budget.charge(Work::default().steps(&[names.iter().sum::<usize>() + 1, NAME]), 0).map_err(
            |over| {
                let (call, name) = (title(call), &function.name);
                let often = |over| {
                    format!("its functions are called too often, '{name}' at last by '{call}': {over}")
                };
                over.error(format_args!("function '{name}'"), |over| Error::invalid(often(over)))
            },
        )
    }

    /// Replaces `call` by the nodes of `function`.
    pub(super) fn inline(
        &mut self,
        call: &'m NodeProto,
        id: FunctionId<'m>,
        function: &'m FunctionProto,
    ) -> Result<()> {
        if self.calls.contains(&id) {
            return invalid(format!("function '{}' calls itself", id.1));
        }
        if call.input.len() > function.input.len() || call.output.len() > function.output.len() {
            return invalid(format!(
                "node '{}' calls function '{}' with {} inputs and {} outputs, and it has {} and {}",
                title(call),
                id.1,
                call.input.len(),
                call.output.len(),
                function.input.len(),
                function.output.len()
            ));
        }
        self.charge_call(call, function)?;
        let arguments = self.node_inputs(call)?;
        let context = self.context(call, function)?;
        let first_own = self.graph().values.len();
        self.calls.push(id);
        self.push(ScopeKind::Function, Rc::new(context))?;
        let results = self.body(function, arguments)?;
        self.scopes.pop();
        self.calls.pop();
        for (name, result) in call.output.iter().zip(results).filter(|(name, _)| !name.is_empty()) {
            self.bind(name, result, "a function's output")?;
            if let Some(result) = result.filter(|id| id.index() >= first_own) {
                self.rename(result, name);
            }
        }
        Ok(())
    }

    fn context(&mut self, call: &'m NodeProto, function: &'m FunctionProto) -> Result<Context<'m>> {
        let mut attributes: HashMap<&str, _> =
            function.attribute_proto.iter().map(|default| (default.name.as_str(), default)).collect();
        let mut seen = HashSet::new();
        for attribute in &call.attribute {
            if !seen.insert(attribute.name.as_str()) {
                return twice(call, &attribute.name);
            }
            let Some(given) = self.resolve(call, attribute)? else { continue };
            if given.g.is_some() || !given.graphs.is_empty() {
                return invalid(format!("node '{}' hands a graph to a function", title(call)));
            }
            attributes.insert(&attribute.name, given);
        }
        let prefix = format!("{}{}/", self.scope().context.prefix, title(call));
        Ok(Context { prefix, opsets: opsets(&function.opset_import)?, attributes: Some(attributes) })
    }

    fn body(
        &mut self,
        function: &'m FunctionProto,
        arguments: Vec<Option<ValueId>>,
    ) -> Result<Vec<Option<ValueId>>> {
        self.scope().infos = function.value_info.iter().map(|info| (info.name.as_str(), info)).collect();
        let absent = std::iter::repeat(None);
        for (name, argument) in function.input.iter().zip(arguments.into_iter().chain(absent)) {
            self.bind(name, argument, "a function's input")?;
        }
        for i in order(&function.node)? {
            self.node(&function.node[i])?;
        }
        let level = self.scopes.len() - 1;
        let mut results = Vec::with_capacity(function.output.len());
        for name in &function.output {
            match self.lookup(level, name)? {
                Some(result) => results.push(result),
                None => {
                    return invalid(format!(
                        "nothing in function '{}' makes its output '{name}'",
                        function.name
                    ));
                }
            }
        }
        Ok(results)
    }
}
