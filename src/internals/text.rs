//! Graphs from their text: what `Graph` prints can be read back. Tests of passes use it.

use std::collections::HashMap;
use std::str::FromStr;

use crate::array::Array;
use crate::graph::{Value, ValueId};
use crate::ops::{Attr, Attributes, Graph, Node, case};
use crate::{DType, Dim, Tensor};

/// A graph from its text, or an error that says what is wrong with the text. A constant whose elements the text leaves out
/// gets random ones; empty lines mean nothing.
pub(crate) fn read(text: &str) -> Result<Graph, String> {
    let mut read = Read::default();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        read.line(line).map_err(|fault| format!("line {}: {fault}: {line}", n + 1))?;
    }
    read.graph.verify().map_err(|error| error.to_string())?;
    Ok(read.graph)
}

#[derive(Default)]
struct Read {
    graph: Graph,
    names: HashMap<String, ValueId>,
}

impl Read {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let mut cursor = Cursor { rest: line };
        if cursor.eat("graph ") {
            let name = cursor.rest.strip_prefix('\'').and_then(|rest| rest.split_once("', "));
            self.graph.name = name.ok_or("a graph has a name in quotes")?.0.to_string();
            return Ok(());
        }
        if cursor.eat("input ") {
            let id = self.declared(&mut cursor)?;
            self.graph.inputs.push(id);
        } else if cursor.eat("capture ") {
            let id = self.declared(&mut cursor)?;
            self.graph.captures.push(id);
        } else if cursor.eat("constant ") {
            let id = self.declared(&mut cursor)?;
            let value = self.graph.values[id.index()].clone();
            let (Some(dtype), Some(shape)) = (value.dtype, value.shape) else {
                return Err("a constant has a dtype and a shape".into());
            };
            let shape: Option<Vec<usize>> =
                shape.iter().map(|dim| if let Dim::Known(n) = dim { Some(*n) } else { None }).collect();
            let tensor = cursor.elements(dtype, &shape.ok_or("a constant has known sizes")?)?;
            self.graph.values[id.index()].constant = Some(tensor);
        } else if cursor.eat("output ") {
            let (value, id) = self.named(&mut cursor)?;
            self.graph.outputs.push(id.ok_or(format!("nothing makes '{}'", value.name))?);
        } else {
            self.node(&mut cursor)?;
        }
        cursor.end()
    }

    /// A value as the text has it, and its id if it was declared before.
    fn named(&self, cursor: &mut Cursor) -> Result<(Value, Option<ValueId>), String> {
        let value = cursor.value()?;
        let id = self.names.get(&value.name).copied();
        Ok((value, id))
    }

    fn declared(&mut self, cursor: &mut Cursor) -> Result<ValueId, String> {
        let (value, None) = self.named(cursor)? else { return Err("declared twice".into()) };
        let name = value.name.clone();
        let id = self.graph.add_value(value);
        self.names.insert(name, id);
        Ok(id)
    }

    /// `%y: float32[2] = Softmax-13(%x) { axis: -1 }  // name`
    fn node(&mut self, cursor: &mut Cursor) -> Result<(), String> {
        let mut outputs = Vec::new();
        loop {
            outputs.push(if cursor.eat("-") { None } else { Some(self.declared(cursor)?) });
            if !cursor.eat(", ") {
                break;
            }
        }
        cursor.expect(" = ")?;
        let op_type = cursor.until('-')?.to_string();
        let opset = cursor.until('(')?.parse().map_err(|_| "an opset is a number")?;
        let mut inputs = Vec::new();
        while !cursor.eat(")") {
            if !inputs.is_empty() {
                cursor.expect(", ")?;
            }
            inputs.push(match cursor.eat("-") {
                true => None,
                false => Some(self.named(cursor)?.1.ok_or("an input is declared before")?),
            });
        }
        let attributes = cursor.attributes()?;
        if let Some(at) = cursor.rest.find("  unsupported: ") {
            cursor.rest = cursor.rest[at..].find("  // ").map_or("", |name| &cursor.rest[at + name..]);
        }
        let first = outputs.iter().flatten().next().map(|id| self.graph.value(*id).name.clone());
        let name = match cursor.eat("  // ") {
            true => std::mem::take(&mut cursor.rest).to_string(),
            false => first.unwrap_or_default(),
        };
        let listed: Vec<bool> = outputs.iter().map(Option::is_some).collect();
        let node = Node::parse((name, op_type, opset), attributes, inputs, (outputs, &listed));
        self.graph.nodes.push(node.map_err(|why| why.to_string())?);
        Ok(())
    }
}

/// The rest of a line.
struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    fn eat(&mut self, text: &str) -> bool {
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn expect(&mut self, text: &str) -> Result<(), String> {
        if self.eat(text) { Ok(()) } else { Err(format!("expected '{text}' before '{}'", self.rest)) }
    }

    fn end(&self) -> Result<(), String> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("'{}' is too much", self.rest)) }
    }

    /// The text before `end`; `end` is skipped.
    fn until(&mut self, end: char) -> Result<&'a str, String> {
        let (before, rest) = self.rest.split_once(end).ok_or(format!("expected a '{end}'"))?;
        self.rest = rest;
        Ok(before)
    }

    /// `%name` or `%"a name"`, and its declaration: `: float32[batch, 3]`.
    fn value(&mut self) -> Result<Value, String> {
        self.expect("%")?;
        let name = match self.rest.starts_with('"') {
            true => self.quoted()?,
            false => {
                let colon = self.rest.find(": ").unwrap_or(self.rest.len());
                let end = self.rest.find([' ', ',', ')']).unwrap_or(self.rest.len()).min(colon);
                let (name, rest) = self.rest.split_at(end);
                self.rest = rest;
                name.to_string()
            }
        };
        if !self.eat(": ") {
            return Ok(Value { name, ..Value::default() });
        }
        let (dtype, dims) = (dtype(self.until('[')?)?, self.until(']')?);
        let dim = |text: &str| match text.parse() {
            Ok(size) => Dim::Known(size),
            Err(_) if text == "?" => Dim::Unknown,
            Err(_) => Dim::Symbol(text.to_string()),
        };
        let shape = match dims {
            "..." => None,
            "" => Some(Vec::new()),
            dims => Some(dims.split(", ").map(dim).collect()),
        };
        Ok(Value { name, dtype, shape, ..Value::default() })
    }

    /// ` = [1, 2]`, or nothing for a large constant, of up to 2^20 elements.
    fn elements(&mut self, dtype: DType, shape: &[usize]) -> Result<Tensor, String> {
        let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
        let count = count.filter(|&count| count <= 1 << 20).ok_or("a constant is too large")?;
        if !self.eat(" = ") {
            return Ok(case::converted(&case::random(shape), dtype));
        }
        self.expect("[")?;
        let list: Vec<&str> = self.until(']')?.split(", ").filter(|text| !text.is_empty()).collect();
        if list.len() != count {
            return Err(format!("{} elements for {count}", list.len()));
        }
        let array = match dtype.is_float() {
            true => Array::float(dtype, shape, numbers(&list)?),
            false => Array::int(dtype, shape, numbers(&list)?),
        };
        array.to_tensor().map_err(|why| why.to_string())
    }

    fn attributes(&mut self) -> Result<Attributes, String> {
        let mut attributes = Vec::new();
        if self.eat(" { ") {
            while !self.eat(" }") {
                if !attributes.is_empty() {
                    self.expect(", ")?;
                }
                let name = self.until(':')?.to_string();
                self.expect(" ")?;
                attributes.push((name, self.attribute()?));
            }
        }
        Ok(attributes.into_iter().collect())
    }

    fn attribute(&mut self) -> Result<Attr, String> {
        if self.rest.starts_with('"') {
            return Ok(Attr::String(self.quoted()?));
        }
        if self.eat("[") {
            return self.list();
        }
        let end = self.rest.find([',', ' ', '[']).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        if self.eat("[") {
            let shape: Vec<&str> = self.until(']')?.split(", ").filter(|text| !text.is_empty()).collect();
            let dtype = dtype(word)?.ok_or("a tensor has a dtype")?;
            return Ok(Attr::Tensor(self.elements(dtype, &numbers::<usize>(&shape)?)?));
        }
        match word.parse() {
            Ok(int) => Ok(Attr::Int(int)),
            Err(_) => Ok(Attr::Float(number(word)?)),
        }
    }

    fn list(&mut self) -> Result<Attr, String> {
        let mut strings = Vec::new();
        while self.rest.starts_with('"') {
            strings.push(self.quoted()?);
            self.eat(", ");
        }
        let list: Vec<&str> = self.until(']')?.split(", ").filter(|text| !text.is_empty()).collect();
        match numbers(&list) {
            _ if !strings.is_empty() => Ok(Attr::Strings(strings)),
            Ok(ints) => Ok(Attr::Ints(ints)),
            Err(_) => Ok(Attr::Floats(numbers(&list)?)),
        }
    }

    /// A string, as `{:?}` writes it.
    fn quoted(&mut self) -> Result<String, String> {
        self.expect("\"")?;
        let mut text = String::new();
        loop {
            let next = self.rest.chars().next().ok_or("a string has no end")?;
            self.rest = &self.rest[next.len_utf8()..];
            match next {
                '"' => return Ok(text),
                '\\' => text.push(self.escaped()?),
                other => text.push(other),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, String> {
        let next = self.rest.chars().next().ok_or("a string has no end")?;
        self.rest = &self.rest[next.len_utf8()..];
        match next {
            'n' => Ok('\n'),
            't' => Ok('\t'),
            'r' => Ok('\r'),
            '0' => Ok('\0'),
            'u' => {
                self.expect("{")?;
                let code = u32::from_str_radix(self.until('}')?, 16).ok().and_then(char::from_u32);
                code.ok_or("no such character".into())
            }
            other => Ok(other),
        }
    }
}

fn dtype(name: &str) -> Result<Option<DType>, String> {
    if name == "?" {
        return Ok(None);
    }
    let dtype = (0..64).filter_map(DType::from_onnx).find(|dtype| dtype.name() == name);
    dtype.map(Some).ok_or(format!("no dtype is called '{name}'"))
}

fn number<T: FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is no number of the kind"))
}

fn numbers<T: FromStr>(list: &[&str]) -> Result<Vec<T>, String> {
    list.iter().map(|text| number(text)).collect()
}

/// What is printed of the graph that a text describes.
pub fn reprinted(text: &str) -> Result<String, String> {
    Ok(read(text)?.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A graph that is read prints as before, and its operators are parsed as before.
    #[test]
    fn what_is_printed_is_read_back() {
        let (mut graphs, mut left_out) = (0, 0);
        for case in crate::internals::cases::all_cases() {
            let graph = case::graph_of_case(&case).unwrap();
            let text = graph.to_string();
            // Strings are no numbers, subgraphs are not printed, and of large tensors only the shape is printed.
            let whole = |attr: &Attr| match attr {
                Attr::Graph(_) | Attr::Other(_) => false,
                Attr::Tensor(tensor) => tensor.dtype() != DType::String && tensor.len() <= 8,
                _ => true,
            };
            let strings = graph.values.iter().any(|value| value.dtype == Some(DType::String));
            if strings || !graph.nodes.iter().flat_map(|node| node.attributes.0.values()).all(whole) {
                left_out += 1;
                continue;
            }
            let read = read(&text).unwrap_or_else(|fault| panic!("{}: {fault}\n{text}", case.name));
            assert_eq!(read.to_string(), text);
            for (node, own) in read.nodes.iter().zip(&graph.nodes) {
                assert_eq!(format!("{:?}", node.op), format!("{:?}", own.op), "{}", case.name);
            }
            graphs += 1;
        }
        assert!(graphs > 1500 && left_out < graphs / 20, "{graphs} read, {left_out} left out");
    }

    #[test]
    fn faults_name_the_line() {
        let fault = |text: &str| read(text).unwrap_err();
        assert!(fault("graph 'x', 0 nodes\noutput %y").contains("line 2: nothing makes 'y'"));
        assert!(fault("%y = Softmax-13(%x)").contains("line 1: an input is declared before"));
        assert!(fault("constant %c: float32[2] = [1]").contains("1 elements for 2"));
    }
}
