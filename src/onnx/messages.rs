//! What decoding will take: an empty message is two bytes of a file, and hundreds of bytes in memory. The messages are counted,
//! and charged, before the decoder makes them.

use super::proto::*;
use crate::budget::{Budget, Limits, Work};
use crate::graph::Value;
use crate::{Error, Result, heap};

/// The messages that hold lists of messages, or messages that do.
#[derive(Clone, Copy)]
enum Message {
    Model,
    Graph,
    Node,
    Function,
    Attribute,
    Tensor,
    SparseTensor,
    ValueInfo,
    Type,
    TensorType,
    Shape,
    /// It holds no list of messages.
    Leaf,
}

/// The deepest nesting that is looked at; the decoder refuses deeper messages.
const MAX_NESTING: usize = 100;

/// The bytes that import takes for each byte of the messages: a list that grows has room for as much again and is copied, and
/// the graph repeats the names and the lists of its nodes.
const IMPORTED: u64 = 4;

/// Refuses a file whose messages would take more memory than a model of its size needs, or than the host has. The bytes are
/// given back: import makes a graph of the messages, and drops them.
pub(super) fn check(file: &[u8], limits: &Limits) -> Result<()> {
    let mut bytes = 0;
    count(file, Message::Model, 0, &mut bytes);
    // A node of a sane model takes 100 bytes in the file, and 1,000 with two attributes in memory.
    let budget = Budget::new(&limits.beyond(file.len().saturating_mul(4)));
    budget.charge(Work { steps: 0, bytes }, 0).map_err(|over| {
        let many = |over| format!("it has too many messages for its size: {over}");
        over.error(WHAT, |over| Error::undecodable(many(over)))
    })?;
    Ok(heap::ask(WHAT, bytes.saturating_mul(IMPORTED))?)
}

/// Refuses the file of one tensor whose message, with a copy of the file, would take more memory than the host has.
pub(super) fn check_tensor(file: &[u8]) -> Result<()> {
    let mut bytes = 0;
    count(file, Message::Tensor, 0, &mut bytes);
    // A list that grows has room for as much again.
    Ok(heap::ask("the tensor's message", bytes.saturating_mul(2).saturating_add(file.len() as u64))?)
}

/// What takes the memory.
const WHAT: &str = "the model's messages and its graph";

/// Adds the bytes in memory of all messages in lists, and of their names and numbers. Where the encoding is wrong, counting
/// ends, and the decoder says why.
fn count(message: &[u8], kind: Message, depth: usize, bytes: &mut u64) -> Option<()> {
    let mut rest = message;
    while !rest.is_empty() && depth < MAX_NESTING {
        let key = varint(&mut rest)?;
        let inner = match key & 7 {
            0 => {
                varint(&mut rest)?;
                *bytes = bytes.saturating_add(NUMBER);
                continue;
            }
            1 => (rest.get(8..)?, None),
            2 => {
                let length = usize::try_from(varint(&mut rest)?).ok()?;
                (rest.get(length..)?, rest.get(..length))
            }
            5 => (rest.get(4..)?, None),
            _ => return None,
        };
        rest = inner.0;
        let field = key >> 3;
        match (inner.1, child(kind, field)) {
            (Some(inner), Some((kind, size))) => {
                *bytes = bytes.saturating_add(size as u64);
                count(inner, kind, depth + 1, bytes)?;
            }
            (Some(inner), None) => *bytes = bytes.saturating_add(plain(kind, field, inner.len())),
            (None, _) => *bytes = bytes.saturating_add(NUMBER),
        }
    }
    Some(())
}

/// The bytes of a number in a list.
const NUMBER: u64 = 8;

/// The bytes in memory of a field of `length` bytes that holds no messages.
fn plain(parent: Message, field: u64, length: usize) -> u64 {
    use Message::*;
    let length = length as u64;
    match (parent, field) {
        // These bytes stay in the file.
        (Tensor, 9) => 0,
        (Tensor, 6) | (Attribute, 4 | 9) => size_of::<bytes::Bytes>() as u64,
        // A number takes at least a byte in the file.
        (Tensor, 1 | 5 | 7 | 11) | (Attribute, 8) | (SparseTensor, 3) => length.saturating_mul(NUMBER),
        (Tensor, 4 | 10) | (Attribute, 7) => length,
        // The name of a value, which the graph will have.
        (Node, 2) => length.saturating_add((size_of::<String>() + size_of::<Value>()) as u64),
        _ => length.saturating_add(size_of::<String>() as u64),
    }
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            return Some(value);
        }
    }
    None
}

/// The message in this field, and the bytes that it adds to a list; 0 if it is part of its parent.
fn child(parent: Message, field: u64) -> Option<(Message, usize)> {
    use Message::*;
    Some(match (parent, field) {
        (Model, 7) | (Attribute, 6) => (Graph, 0),
        (Model, 8) | (Function, 9) => (Leaf, size_of::<OperatorSetIdProto>()),
        (Model, 25) => (Function, size_of::<FunctionProto>()),
        (Graph, 1) | (Function, 7) => (Node, size_of::<NodeProto>()),
        (Graph, 5) | (Attribute, 10) => (Tensor, size_of::<TensorProto>()),
        (Graph, 11..=13) | (Function, 12) => (ValueInfo, size_of::<ValueInfoProto>()),
        (Graph, 15) | (Attribute, 23) => (SparseTensor, size_of::<SparseTensorProto>()),
        (Node, 5) | (Function, 11) => (Attribute, size_of::<AttributeProto>()),
        (Attribute, 11) => (Graph, size_of::<GraphProto>()),
        (Attribute, 5) | (SparseTensor, 1 | 2) => (Tensor, 0),
        (Attribute, 22) => (SparseTensor, 0),
        (Attribute, 14) | (ValueInfo, 2) => (Type, 0),
        (Attribute, 15) => (Type, size_of::<TypeProto>()),
        (Type, 1) => (TensorType, 0),
        (TensorType, 2) => (Shape, 0),
        (Shape, 1) => (Leaf, size_of::<tensor_shape_proto::Dimension>()),
        (Model, 14) | (Graph, 16) | (Node, 9) | (Function, 14) | (Tensor, 13 | 16) | (ValueInfo, 4) => {
            (Leaf, size_of::<StringStringEntryProto>())
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use prost::Message as _;

    /// The bytes that are counted for a model.
    fn counted(model: &ModelProto) -> u64 {
        let mut bytes = 0;
        assert_eq!(count(&model.encode_to_vec(), Message::Model, 0, &mut bytes), Some(()));
        bytes
    }

    fn of_graph(graph: GraphProto) -> ModelProto {
        ModelProto { graph: Some(graph), ..ModelProto::default() }
    }

    fn of_node(node: NodeProto) -> ModelProto {
        of_graph(GraphProto { node: vec![node], ..GraphProto::default() })
    }

    #[test]
    fn every_list_of_messages_is_counted() {
        const N: usize = 7;
        let node = |attribute: AttributeProto| {
            of_node(NodeProto { attribute: vec![attribute], ..NodeProto::default() })
        };
        let each = |model: ModelProto, around: usize, size: usize| {
            assert_eq!(counted(&model), (around + N * size) as u64);
        };
        let one = size_of::<NodeProto>();
        let two = one + size_of::<AttributeProto>();
        each(
            ModelProto { functions: vec![FunctionProto::default(); N], ..ModelProto::default() },
            0,
            size_of::<FunctionProto>(),
        );
        each(of_graph(GraphProto { node: vec![NodeProto::default(); N], ..GraphProto::default() }), 0, one);
        each(
            of_graph(GraphProto { initializer: vec![TensorProto::default(); N], ..GraphProto::default() }),
            0,
            size_of::<TensorProto>(),
        );
        each(
            of_graph(GraphProto { value_info: vec![ValueInfoProto::default(); N], ..GraphProto::default() }),
            0,
            size_of::<ValueInfoProto>(),
        );
        each(
            of_node(NodeProto { attribute: vec![AttributeProto::default(); N], ..NodeProto::default() }),
            one,
            size_of::<AttributeProto>(),
        );
        each(
            node(AttributeProto { graphs: vec![GraphProto::default(); N], ..AttributeProto::default() }),
            two,
            size_of::<GraphProto>(),
        );
        each(
            node(AttributeProto { tensors: vec![TensorProto::default(); N], ..AttributeProto::default() }),
            two,
            size_of::<TensorProto>(),
        );
        let inner = GraphProto { node: vec![NodeProto::default(); N], ..GraphProto::default() };
        each(node(AttributeProto { g: Some(inner), ..AttributeProto::default() }), two, one);
    }

    #[test]
    fn many_empty_messages_are_refused() {
        let attribute = vec![AttributeProto::default(); 300_000];
        let file = of_node(NodeProto { attribute, ..NodeProto::default() }).encode_to_vec();
        assert!(file.len() < 1 << 20);
        let error = check(&file, &Limits::default()).unwrap_err().to_string();
        assert!(
            error.contains("too many messages for its size") && error.contains("`Limits::bytes`"),
            "{error}"
        );
    }
}
