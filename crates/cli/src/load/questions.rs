//! The requests: from an `.npz` file in pieces, or random in the shapes that the model's metadata says.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use sardonyx::{DType, Dim, Tensor, ValueInfo, shown};

use super::checks::Checks;
use super::client::{Client, Message, Metadata, Port};
use super::{Args, Failure};
use crate::{files, inputs, number, numpy};

/// A request, and what is known of its answer.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) message: Message,
    /// The inputs in words.
    pub(super) inputs: Vec<Shown>,
    pub(super) rows: usize,
    pub(super) checks: Checks,
}

/// What a report says of an input.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(super) struct Shown {
    pub(super) name: String,
    pub(super) dtype: DType,
    pub(super) shape: Vec<usize>,
    /// `file`, or how it was made.
    pub(super) from: &'static str,
}

/// What requests are made of.
pub(super) struct Questions<'a> {
    args: &'a Args,
    ports: &'a [Port],
    /// The arrays of --inputs.
    given: Option<Vec<(String, Tensor)>>,
    checks: Checks,
    sizes: HashMap<(usize, usize), usize>,
}

impl<'a> Questions<'a> {
    /// Reads the files, and what the command line says of sizes.
    pub(super) fn read(args: &'a Args, metadata: &'a Metadata) -> Result<Questions<'a>, Failure> {
        let ports = metadata.inputs.as_slice();
        let given = args.inputs.as_deref().map(|path| given(path, ports)).transpose()?;
        if given.is_some() && !args.dim.is_empty() {
            return Err("--dim: the arrays of --inputs have their sizes; leave one of both out".into());
        }
        let checks = Checks::read(args, &metadata.outputs)?;
        Ok(Questions { args, ports, given, checks, sizes: sizes(&args.dim, ports)? })
    }

    /// The requests with `batch` rows each; where it is `None`, one request.
    pub(super) fn cut(&self, batch: Option<usize>, client: &Client) -> Result<Vec<Arc<Question>>, Failure> {
        if batch.is_some() && !self.ports.iter().all(Port::has_rows) {
            let fixed = self.ports.iter().find(|port| !port.has_rows());
            let name = fixed.map_or("", |port| &port.name);
            return Err(format!("--batch: the first dimension of input '{}' is fixed", shown(name)).into());
        }
        let Some(given) = &self.given else { return self.random(batch, client) };
        let rows = given.first().map_or(1, |(_, tensor)| tensor.shape().first().copied().unwrap_or(1));
        let from_file = vec!["file"; given.len()];
        let all_rows = self.ports.iter().all(Port::has_rows);
        if batch.is_some() || self.checks.has_labels() {
            for (name, tensor) in given {
                of_rows("--inputs", name, tensor, rows)?;
            }
            self.checks.of_rows(rows)?;
        }
        let Some(batch) = batch else {
            let rows = if all_rows { rows } else { 1 };
            return Ok(vec![question(client, given.clone(), &from_file, rows, self.checks.clone())?]);
        };
        let mut questions = Vec::new();
        for start in (0..rows).step_by(batch) {
            let end = rows.min(start + batch);
            let piece = given.iter().map(|(name, tensor)| Ok((name.clone(), piece(tensor, start, end)?)));
            let piece = piece.collect::<Result<Vec<_>, Failure>>()?;
            questions.push(question(client, piece, &from_file, end - start, self.checks.piece(start, end)?)?);
        }
        match questions.is_empty() {
            true => Err("--inputs: the arrays have no rows".into()),
            false => Ok(questions),
        }
    }

    fn random(&self, batch: Option<usize>, client: &Client) -> Result<Vec<Arc<Question>>, Failure> {
        let (mut tensors, mut from) = (Vec::new(), Vec::new());
        for (at, port) in self.ports.iter().enumerate() {
            let shape = self.shape(at, port, batch)?;
            let dims = shape.iter().map(|&size| Dim::Known(size)).collect();
            let info = ValueInfo {
                name: port.name.clone(),
                dtype: Some(port.dtype()?),
                container: None,
                shape: Some(dims),
                has_default: false,
            };
            let (tensor, made) = inputs::drawn(&info, &shape, self.args.seed)?;
            tensors.push((port.name.clone(), tensor));
            from.push(made);
        }
        let rows = if self.ports.iter().all(Port::has_rows) { batch.unwrap_or(1) } else { 1 };
        Ok(vec![question(client, tensors, &from, rows, self.checks.clone())?])
    }

    fn shape(&self, at: usize, port: &Port, batch: Option<usize>) -> Result<Vec<usize>, Failure> {
        let size = |(axis, &size): (usize, &i64)| match (usize::try_from(size), self.sizes.get(&(at, axis))) {
            (Ok(size), _) => Ok(size),
            (_, Some(&said)) if axis > 0 || batch.is_none() => Ok(said),
            _ if axis == 0 => Ok(batch.unwrap_or(1)),
            _ => {
                let name = shown(&port.name);
                Err(Failure::from(format!(
                    "input '{name}' takes {}{:?}, where -1 is any size: say one (--dim '{name}=N', or --dim '{name}:{axis}=N' for \
                     one axis)",
                    shown(&port.datatype),
                    port.shape
                )))
            }
        };
        port.shape.iter().enumerate().map(size).collect()
    }
}

fn question(
    client: &Client,
    inputs: Vec<(String, Tensor)>,
    from: &[&'static str],
    rows: usize,
    checks: Checks,
) -> Result<Arc<Question>, Failure> {
    let message = client.message(&inputs)?;
    let of = |((name, tensor), from): (&(String, Tensor), &&'static str)| Shown {
        name: name.clone(),
        dtype: tensor.dtype(),
        shape: tensor.shape().to_vec(),
        from,
    };
    Ok(Arc::new(Question { message, inputs: inputs.iter().zip(from).map(of).collect(), rows, checks }))
}

/// The arrays of a file, whose names, types and shapes the model takes. Inputs that are not in it are not sent: they may be optional.
fn given(path: &Path, ports: &[Port]) -> Result<Vec<(String, Tensor)>, Failure> {
    let port = |name: &str| ports.iter().find(|port| port.name == name);
    let takes = || ports.iter().map(|port| format!("'{}'", shown(&port.name))).collect::<Vec<_>>().join(", ");
    let dtype = |name: &str| port(name)?.dtype().ok();
    let arrays = numpy::read_npz(path, &dtype, "numpy.savez gives it a name", |names| {
        match names.iter().find(|name| port(name).is_none()) {
            Some(name) => {
                let why = format!("'{}': the model has no such input; it takes {}", shown(name), takes());
                Err(files::failed(path, why))
            }
            None if names.is_empty() => {
                Err(files::failed(path, format!("has no arrays; the model takes {}", takes())))
            }
            None => Ok(()),
        }
    })?;
    for (name, tensor) in &arrays {
        let Some(port) = port(name) else { continue };
        let fits = |(&size, &has): (&i64, &usize)| size < 0 || size as u64 == has as u64;
        let shape = tensor.shape();
        if tensor.dtype() != port.dtype()?
            || shape.len() != port.shape.len()
            || !port.shape.iter().zip(shape).all(fits)
        {
            let (given, datatype) = (tensor.dtype(), shown(&port.datatype));
            return Err(files::failed(
                path,
                format!(
                    "'{}' is {given}{shape:?}, and the model takes {datatype}{:?}",
                    shown(name),
                    port.shape
                ),
            ));
        }
    }
    Ok(arrays)
}

/// The sizes that --dim says, by input and axis.
fn sizes(said: &[String], ports: &[Port]) -> Result<HashMap<(usize, usize), usize>, Failure> {
    let mut sizes = HashMap::new();
    for text in said {
        let wrong = |why: String| Failure::from(format!("--dim {}: {why}", shown(text)));
        let (name, size) = text.rsplit_once('=').ok_or_else(|| wrong("is not of the form INPUT=N".into()))?;
        let size = number::whole::<1>(size).map_err(|why| wrong(format!("the size {why}")))?;
        let size = usize::try_from(size).map_err(|_| wrong("is too large".into()))?;
        let at = |name: &str| ports.iter().position(|port| port.name == name);
        let axis = |name: &str| {
            name.rsplit_once(':').and_then(|(name, axis)| Some((at(name)?, axis.parse::<usize>().ok()?)))
        };
        let open = |at: usize, axis: usize| ports[at].shape.get(axis).is_some_and(|size| *size < 0);
        if let Some(at) = at(name) {
            let axes: Vec<usize> = (1..ports[at].shape.len()).filter(|&axis| open(at, axis)).collect();
            if axes.is_empty() {
                return Err(wrong(format!(
                    "the input takes {}{:?}, which leaves no dimension after the first open",
                    shown(&ports[at].datatype),
                    ports[at].shape
                )));
            }
            sizes.extend(axes.into_iter().map(|axis| ((at, axis), size)));
        } else if let Some((at, axis)) = axis(name) {
            if !open(at, axis) {
                return Err(wrong(format!(
                    "the input takes shape {:?}, whose axis {axis} is not open",
                    ports[at].shape
                )));
            }
            sizes.insert((at, axis), size);
        } else {
            let names: Vec<String> = ports.iter().map(|port| format!("'{}'", shown(&port.name))).collect();
            return Err(wrong(format!("the model has no such input; it takes {}", names.join(", "))));
        }
    }
    Ok(sizes)
}

/// Refuses an array that has not one element or more of each row.
pub(super) fn of_rows(flag: &str, name: &str, tensor: &Tensor, rows: usize) -> Result<(), Failure> {
    match tensor.shape().first() {
        Some(&has) if has == rows => Ok(()),
        _ => {
            let (name, shape) = (shown(name), tensor.shape());
            Err(format!("{flag}: '{name}' has the shape {shape:?}, and the first input has {rows} rows")
                .into())
        }
    }
}

/// The rows from `start` to `end`.
pub(super) fn piece(tensor: &Tensor, start: usize, end: usize) -> Result<Tensor, Failure> {
    let mut shape = tensor.shape().to_vec();
    let rows = std::mem::replace(&mut shape[0], end - start).max(1);
    if let Some(strings) = tensor.strings() {
        let each = strings.len() / rows;
        return Ok(Tensor::from_strings(&shape, strings[start * each..end * each].to_vec())?);
    }
    let bytes = tensor.bytes();
    let each = bytes.len() / rows;
    Ok(Tensor::from_raw(tensor.dtype(), &shape, bytes[start * each..end * each].to_vec())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_rows() {
        let tensor = Tensor::from_vec(&[3, 2], vec![1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let last = piece(&tensor, 1, 3).unwrap();
        assert_eq!((last.shape(), last.to_f64().unwrap()), (&[2, 2][..], vec![3.0, 4.0, 5.0, 6.0]));
        let texts = Tensor::from_strings(&[3], ["a", "b", "c"].map(String::from).to_vec()).unwrap();
        assert_eq!(piece(&texts, 2, 3).unwrap().strings().unwrap(), ["c"]);
    }

    #[test]
    fn sizes_of_open_dimensions() {
        let port = |name: &str, shape: &[i64]| Port {
            name: name.into(),
            datatype: "FP32".into(),
            shape: shape.into(),
        };
        let ports = [port("x", &[-1, -1, 3, -1]), port("ids:0", &[-1, -1])];
        let said = |text: &str| sizes(&[text.to_string()], &ports).map_err(|failure| failure.to_string());
        assert_eq!(said("x=5").unwrap(), HashMap::from([((0, 1), 5), ((0, 3), 5)]));
        assert_eq!(said("x:3=7").unwrap(), HashMap::from([((0, 3), 7)]));
        assert_eq!(said("ids:0=9").unwrap(), HashMap::from([((1, 1), 9)]));
        assert!(said("x:2=7").unwrap_err().contains("axis 2 is not open"));
        assert!(said("z=7").unwrap_err().contains("'x', 'ids:0'"));
        for wrong in ["x", "x=0", "x=-1", "x:9=1"] {
            assert!(said(wrong).is_err(), "{wrong}");
        }
    }
}
