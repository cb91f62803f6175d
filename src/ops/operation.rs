//! `Operation`: what a node computes. It is an operator with parsed attributes, and the dtypes that ONNX lets it take.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::LazyLock;

use super::{Kind, NodeDef, Op, Row, TypeSignature, Why, rows};
use crate::array::Array;
use crate::budget::Work;
use crate::error::sentence;
use crate::facts::{Fact, Infer};

/// An operator with parsed attributes, in one opset version.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    op: Op,
    opset: i64,
    /// The number of inputs before the captures of subgraphs.
    formal: usize,
    /// `None` for an operator that is not in the table.
    types: Option<&'static TypeSignature>,
}

impl Operation {
    /// Parses a node. An operator or version that is not in the table becomes [`Op::Unsupported`].
    pub(crate) fn parse(domain: &str, def: &NodeDef) -> Result<Operation, Why> {
        let row = row_of(domain, def.op_type, def.opset);
        let op = match row {
            None => Op::Unsupported("Sardonyx has no such operator".into()),
            Some(row) if (row.opsets.0..=row.opsets.1).contains(&def.opset) => (row.parse)(def)?,
            Some(Row { opsets: (first, last), .. }) => {
                Op::Unsupported(format!("opset {} is outside {first} to {last}", def.opset))
            }
        };
        Ok(Operation {
            op,
            opset: def.opset,
            formal: def.inputs.len(),
            types: row.and_then(|row| row.types.at(def.opset)),
        })
    }

    /// Dtypes and shapes of the outputs. Dtypes that ONNX does not let the operator take are refused.
    pub(crate) fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        let bound = self.types.map(|types| types.bind(self.opset, self.formal(inputs))).transpose()?;
        let outputs = self.operator().infer(inputs)?;
        bound.map_or(Ok(()), |bound| bound.outputs(&outputs))?;
        Ok(outputs)
    }

    /// What that number of outputs are, where the inputs are of these kinds.
    pub(crate) fn kinds(&self, inputs: &[Option<&Kind>], outputs: usize) -> Vec<Kind> {
        let operator = self.operator();
        if let Some(host) = operator.host() {
            return host.kinds(inputs);
        }
        operator.kinds(inputs).or_else(|| Some(self.types?.kinds(inputs, outputs))).unwrap_or_default()
    }

    /// The inputs without the captures of subgraphs.
    fn formal<'i>(&self, inputs: &'i [Option<&'i Fact>]) -> &'i [Option<&'i Fact>] {
        inputs.get(..self.formal).unwrap_or(inputs)
    }

    pub(crate) fn unsupported(reason: impl Into<String>) -> Operation {
        Operation { op: Op::Unsupported(reason.into()), opset: 0, formal: 0, types: None }
    }
}

/// Matching on `*operation` finds the operator.
impl Deref for Operation {
    type Target = Op;

    fn deref(&self) -> &Op {
        &self.op
    }
}

impl Infer for Operation {
    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        Operation::infer(self, inputs)
    }

    fn takes(&self, inputs: &[Option<&Fact>]) -> Result<(), Why> {
        self.types.map_or(Ok(()), |types| types.bind(self.opset, self.formal(inputs)).map(drop))
    }

    fn infer_checked(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        self.operator().infer(inputs)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        self.operator().eval(inputs)
    }

    fn shape_operands(&self) -> &[usize] {
        self.operator().shape_operands()
    }

    fn reads_shapes_only(&self) -> bool {
        self.operator().reads_shapes_only()
    }

    fn draws(&self) -> bool {
        self.operator().draws()
    }

    fn shapes_depend_on_data(&self) -> bool {
        self.operator().shapes_depend_on_data()
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        self.operator().work(inputs, outputs)
    }
}

/// What a graph's text tells of an operation, besides its attributes.
impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.op {
            Op::Unsupported(reason) => write!(f, "  unsupported: {}", sentence(reason)),
            _ => Ok(()),
        }
    }
}

/// The row of an operator, if there is one.
pub(crate) fn row_of(domain: &str, name: &str, opset: i64) -> Option<&'static Row> {
    static ROWS: LazyLock<HashMap<(&str, &str), Vec<&Row>>> = LazyLock::new(|| {
        let mut all: HashMap<(&str, &str), Vec<&Row>> = HashMap::new();
        rows().for_each(|row| all.entry((row.domain, row.name)).or_default().push(row));
        all
    });
    let domain = if domain == "ai.onnx" { "" } else { domain };
    let rows = ROWS.get(&(domain, name))?;
    let fitting = rows.iter().find(|row| (row.opsets.0..=row.opsets.1).contains(&opset));
    fitting.or(rows.first()).copied()
}
