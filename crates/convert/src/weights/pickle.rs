//! Pickles of state dictionaries, read by a list of what they are made of. Nothing is called and nothing imported: names of
//! Python's functions and classes are recognised, and any other is an error.

use super::{malformed, shown};
use crate::{Error, Result};

/// A value. Those that hold others are places in the reader's lists, so that no nesting is followed when they are dropped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Number(i64),
    /// A text: its place in the pickle.
    Text(usize, usize),
    Global(Global),
    /// A tuple, a list or a dictionary (keys and values in turn).
    Many(Shape, usize),
    /// The tuple that names a storage.
    Storage(usize),
    /// The arguments of the call that makes a tensor.
    Tensor(usize),
    /// Something that no tensor needs, and that is read over: a float, an object of [`Global::Plain`].
    Other,
    Mark,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    Tuple,
    List,
    Dictionary,
}

/// What a pickle may name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Global {
    OrderedDict,
    Tensor,
    Parameter,
    /// A storage with elements of this type.
    Storage(&'static str),
    /// A storage whose tensors say of which type they are.
    Untyped,
    /// An element type.
    Type(&'static str),
    /// What checkpoints hold beside a state dictionary. No such object is made.
    Plain,
}

const GLOBALS: [(&str, Global); 41] = [
    ("collections OrderedDict", Global::OrderedDict),
    ("torch._utils _rebuild_tensor_v2", Global::Tensor),
    ("torch._utils _rebuild_parameter", Global::Parameter),
    ("torch FloatStorage", Global::Storage("float32")),
    ("torch DoubleStorage", Global::Storage("float64")),
    ("torch HalfStorage", Global::Storage("float16")),
    ("torch BFloat16Storage", Global::Storage("bfloat16")),
    ("torch LongStorage", Global::Storage("int64")),
    ("torch IntStorage", Global::Storage("int32")),
    ("torch ShortStorage", Global::Storage("int16")),
    ("torch CharStorage", Global::Storage("int8")),
    ("torch ByteStorage", Global::Storage("uint8")),
    ("torch BoolStorage", Global::Storage("bool")),
    ("torch._utils _rebuild_tensor_v3", Global::Tensor),
    ("torch.storage UntypedStorage", Global::Untyped),
    ("torch float32", Global::Type("float32")),
    ("torch float64", Global::Type("float64")),
    ("torch float16", Global::Type("float16")),
    ("torch bfloat16", Global::Type("bfloat16")),
    ("torch float8_e4m3fn", Global::Type("float8e4m3fn")),
    ("torch float8_e5m2", Global::Type("float8e5m2")),
    ("torch int64", Global::Type("int64")),
    ("torch int32", Global::Type("int32")),
    ("torch uint16", Global::Type("uint16")),
    ("torch uint32", Global::Type("uint32")),
    ("torch uint64", Global::Type("uint64")),
    ("torch device", Global::Plain),
    ("torch Size", Global::Plain),
    ("argparse Namespace", Global::Plain),
    ("collections defaultdict", Global::Plain),
    ("collections Counter", Global::Plain),
    ("__builtin__ set", Global::Plain),
    ("__builtin__ list", Global::Plain),
    ("__builtin__ dict", Global::Plain),
    ("_codecs encode", Global::Plain),
    ("numpy dtype", Global::Plain),
    ("numpy ndarray", Global::Plain),
    ("numpy.core.multiarray scalar", Global::Plain),
    ("numpy._core.multiarray scalar", Global::Plain),
    ("numpy.core.multiarray _reconstruct", Global::Plain),
    ("numpy._core.multiarray _reconstruct", Global::Plain),
];

/// A pickle that has been read.
pub(super) struct Pickle<'p> {
    bytes: &'p [u8],
    pub(super) many: Vec<Vec<Value>>,
    pub(super) root: Value,
}

impl<'p> Pickle<'p> {
    pub(super) fn text(&self, value: Value) -> Option<&'p str> {
        match value {
            Value::Text(begin, end) => std::str::from_utf8(self.bytes.get(begin..end)?).ok(),
            _ => None,
        }
    }

    /// The values of a tuple, or of what stands for one.
    pub(super) fn values(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::Many(_, at) | Value::Storage(at) | Value::Tensor(at) => {
                self.many.get(at).map(Vec::as_slice)
            }
            _ => None,
        }
    }
}

struct Reader<'p> {
    bytes: &'p [u8],
    at: usize,
    stack: Vec<Value>,
    memo: Vec<Value>,
    many: Vec<Vec<Value>>,
    /// How many values the lists hold.
    held: usize,
}

pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>> {
    let mut reader = Reader { bytes, at: 0, stack: vec![], memo: vec![], many: vec![], held: 0 };
    loop {
        let opcode = reader.take(1)?[0];
        if opcode == b'.' {
            let root = reader.pop()?;
            return Ok(Pickle { bytes, many: reader.many, root });
        }
        reader.step(opcode)?;
    }
}

fn broken() -> Error {
    malformed("the pickle of the state dictionary is broken off or wrong")
}

impl<'p> Reader<'p> {
    fn take(&mut self, count: usize) -> Result<&'p [u8]> {
        let end = self.at.checked_add(count).ok_or_else(broken)?;
        let taken = self.bytes.get(self.at..end).ok_or_else(broken)?;
        self.at = end;
        Ok(taken)
    }

    /// A number of so many bytes, without a sign.
    fn number(&mut self, bytes: usize) -> Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn pop(&mut self) -> Result<Value> {
        self.stack.pop().filter(|value| *value != Value::Mark).ok_or_else(broken)
    }

    fn since_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.stack.iter().rposition(|value| *value == Value::Mark).ok_or_else(broken)?;
        let values = self.stack.split_off(mark + 1);
        self.stack.pop();
        Ok(values)
    }

    fn push_many(&mut self, shape: Shape, values: Vec<Value>) -> Result<()> {
        self.hold(values.len())?;
        self.many.push(values);
        self.stack.push(Value::Many(shape, self.many.len() - 1));
        Ok(())
    }

    /// Every value that a list holds was on the stack, and an opcode put it there.
    fn hold(&mut self, count: usize) -> Result<()> {
        self.held += count;
        if self.held > self.bytes.len() { Err(broken()) } else { Ok(()) }
    }

    fn text(&mut self, length: u64) -> Result<()> {
        let begin = self.at;
        let text = self.take(usize::try_from(length).map_err(|_| broken())?)?;
        std::str::from_utf8(text).map_err(|_| broken())?;
        self.stack.push(Value::Text(begin, self.at));
        Ok(())
    }

    /// Writes the last value down under a number. Numbers go up one by one.
    fn remember(&mut self, place: u64) -> Result<()> {
        let value = *self.stack.last().ok_or_else(broken)?;
        let place = usize::try_from(place).map_err(|_| broken())?;
        if place > self.bytes.len() {
            return Err(broken());
        }
        if place >= self.memo.len() {
            self.memo.resize(place + 1, Value::Mark);
        }
        self.memo[place] = value;
        Ok(())
    }

    fn recall(&mut self, place: u64) -> Result<()> {
        let value = usize::try_from(place).ok().and_then(|place| self.memo.get(place)).copied();
        self.stack.push(value.filter(|value| *value != Value::Mark).ok_or_else(broken)?);
        Ok(())
    }

    fn global(&mut self, name: &str) -> Result<()> {
        let known = GLOBALS.iter().find(|known| known.0 == name);
        let Some(known) = known else {
            let is_tensor =
                name.starts_with("torch") && (name.contains("_rebuild_") || name.ends_with("Storage"));
            let named = shown(&name.replace(' ', "."));
            return Err(malformed(match is_tensor {
                true => format!(
                    "the pickle names '{named}': a tensor of this kind is not supported; save without it, or as a dense tensor of real numbers"
                ),
                false => format!(
                    "the pickle names '{named}', which is no part of a state dictionary: torch.save(model) writes such files, with the model's classes; save `model.state_dict()` by itself, or as safetensors"
                ),
            }));
        };
        self.stack.push(Value::Global(known.1));
        Ok(())
    }

    /// Adds to the list or dictionary on the stack.
    fn extend(&mut self, values: Vec<Value>) -> Result<()> {
        self.hold(values.len())?;
        match self.stack.last() {
            Some(Value::Many(Shape::List | Shape::Dictionary, at)) => self.many[*at].extend(values),
            Some(Value::Other) => {}
            _ => return Err(broken()),
        }
        Ok(())
    }

    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            0x80 => drop(self.take(1)?),
            0x95 => drop(self.take(8)?),
            b'(' => self.stack.push(Value::Mark),
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Number(1)),
            0x89 => self.stack.push(Value::Number(0)),
            b'K' | b'M' => {
                let number = self.number(if opcode == b'K' { 1 } else { 2 })?;
                self.stack.push(Value::Number(number as i64));
            }
            b'J' => {
                let number = self.number(4)? as u32 as i32;
                self.stack.push(Value::Number(number.into()));
            }
            0x8a => {
                let length = self.number(1)? as usize;
                let bytes = self.take(length)?;
                let sign = if bytes.last().is_some_and(|last| last & 0x80 != 0) { 0xff } else { 0 };
                let mut whole = [sign; 8];
                // A greater number is none of a tensor.
                self.stack.push(match whole.get_mut(..length) {
                    Some(low) => {
                        low.copy_from_slice(bytes);
                        Value::Number(i64::from_le_bytes(whole))
                    }
                    None => Value::Other,
                });
            }
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Other);
            }
            b'X' | 0x8c | 0x8d => {
                let length = self.number(match opcode {
                    b'X' => 4,
                    0x8c => 1,
                    _ => 8,
                })?;
                self.text(length)?;
            }
            // Bytes.
            b'C' | b'B' => {
                let length = self.number(if opcode == b'C' { 1 } else { 4 })?;
                self.take(usize::try_from(length).map_err(|_| broken())?)?;
                self.stack.push(Value::Other);
            }
            b'}' => self.push_many(Shape::Dictionary, vec![])?,
            b']' => self.push_many(Shape::List, vec![])?,
            b')' => self.push_many(Shape::Tuple, vec![])?,
            b't' => {
                let values = self.since_mark()?;
                self.push_many(Shape::Tuple, values)?;
            }
            0x85..=0x87 => {
                let count = usize::from(opcode - 0x84);
                let first = self.stack.len().checked_sub(count).ok_or_else(broken)?;
                let values = self.stack.split_off(first);
                if values.contains(&Value::Mark) {
                    return Err(broken());
                }
                self.push_many(Shape::Tuple, values)?;
            }
            b'q' | b'r' => {
                let place = self.number(if opcode == b'q' { 1 } else { 4 })?;
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' | b'j' => {
                let place = self.number(if opcode == b'h' { 1 } else { 4 })?;
                self.recall(place)?;
            }
            b'a' => {
                let value = self.pop()?;
                self.extend(vec![value])?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.extend(vec![key, value])?;
            }
            b'e' | b'u' => {
                let values = self.since_mark()?;
                self.extend(values)?;
            }
            b'c' => {
                let rest = &self.bytes[self.at..];
                let ends: Vec<usize> = rest
                    .iter()
                    .enumerate()
                    .filter(|byte| *byte.1 == b'\n')
                    .map(|byte| byte.0)
                    .take(2)
                    .collect();
                let &[first, second] = &ends[..] else { return Err(broken()) };
                let names = [&rest[..first], &rest[first + 1..second]].map(String::from_utf8_lossy);
                self.at += second + 1;
                self.global(&names.join(" "))?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |value| match value {
                    Value::Text(begin, end) => Ok(String::from_utf8_lossy(&self.bytes[begin..end])),
                    _ => Err(broken()),
                };
                let name = format!("{} {}", text(module)?, text(name)?);
                self.global(&name)?;
            }
            b'Q' => match self.pop()? {
                Value::Many(Shape::Tuple, at) => self.stack.push(Value::Storage(at)),
                _ => return Err(broken()),
            },
            b'R' => self.call()?,
            0x81 => {
                let (_arguments, class) = (self.pop()?, self.pop()?);
                match class {
                    Value::Global(Global::Plain) => self.stack.push(Value::Other),
                    _ => return Err(broken()),
                }
            }
            // The attributes of an OrderedDict (its `_metadata`), or of what is read over.
            b'b' => {
                self.pop()?;
                if !matches!(self.stack.last(), Some(Value::Many(Shape::Dictionary, _) | Value::Other)) {
                    return Err(broken());
                }
            }
            other => {
                return Err(malformed(format!(
                    "the pickle has the opcode {other:#04x}, which no state dictionary needs; save `model.state_dict()` by itself, or as safetensors"
                )));
            }
        }
        Ok(())
    }

    /// What a call would make, of those that are known.
    fn call(&mut self) -> Result<()> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Many(Shape::Tuple, at) = arguments else { return Err(broken()) };
        match function {
            Value::Global(Global::OrderedDict) => self.push_many(Shape::Dictionary, vec![])?,
            Value::Global(Global::Tensor) => self.stack.push(Value::Tensor(at)),
            Value::Global(Global::Parameter) => {
                let tensor = self.many[at].first().copied().filter(|first| matches!(first, Value::Tensor(_)));
                self.stack.push(tensor.ok_or_else(broken)?);
            }
            Value::Global(Global::Plain) => self.stack.push(Value::Other),
            _ => return Err(broken()),
        }
        Ok(())
    }
}
