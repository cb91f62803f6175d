//! A body of `POST /v2/models/{model}/infer` as a [`Request`]: JSON, and after it the tensors that the JSON says are binary.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use bytes::Bytes;
use sardonyx::{DType, Tensor};
use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::json;
use crate::config::Config;
use crate::http::Limits;
use crate::shared_memory::{Region, SharedMemory};
use crate::{Failure, Parameter, Parameters, Reason, Request, WantedOutput, datatype, parameters, raw};

/// How the outputs of a response are sent.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Forms {
    /// Whether outputs that `by_output` does not name are binary.
    pub(super) binary: bool,
    /// The form of outputs that the request names.
    pub(super) by_output: BTreeMap<String, Form>,
}

/// How an output is sent.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    /// In the JSON.
    Json,
    /// After the JSON.
    Binary,
    /// In shared memory.
    Shared(Region),
}

/// The request in `body`, and how it wants its answer. `json_bytes` is the header `Inference-Header-Content-Length`; without it the
/// whole body is JSON. Model and version are left empty.
///
/// # Errors
/// [`Reason::Invalid`] if the body is no inference request; [`Reason::TooLarge`] if it has more tensors or parameters than `limits`
/// allow; the failures of [`SharedMemory::read`].
pub(crate) fn decode(
    body: &Bytes,
    json_bytes: Option<usize>,
    limits: &Limits,
    memory: &SharedMemory,
) -> Result<(Request, Forms), Failure> {
    let json_bytes = json_bytes.unwrap_or(body.len());
    let Some((text, _)) = body.split_at_checked(json_bytes) else {
        let text =
            format!("Inference-Header-Content-Length is {json_bytes}, and the body has {} bytes", body.len());
        return Err(Failure::invalid(text));
    };
    let message: Message<'_> = read(text)?;
    message.check(limits)?;
    let mut request = Request { id: message.id.unwrap_or_default(), ..Request::default() };
    let mut general = message.parameters.unwrap_or_default().0;
    let mut forms = Forms {
        binary: parameters::truth(&mut general, "binary_data_output")?.unwrap_or(false),
        by_output: BTreeMap::new(),
    };
    for (name, value) in general {
        request.set_parameter(&name, value)?;
    }
    let mut binary = body.slice(json_bytes..);
    for input in message.inputs {
        let name = input.name.clone();
        if request.inputs.iter().any(|(known, _)| *known == name) {
            return Err(Failure::invalid(format!("input '{name}' is given twice")));
        }
        let tensor = input.tensor(&mut binary, memory).map_err(|failure| about("input", &name, failure))?;
        request.inputs.push((name, tensor));
    }
    if !binary.is_empty() {
        let left = binary.len();
        return Err(Failure::invalid(format!(
            "the body has {left} bytes that no input's binary_data_size counts"
        )));
    }
    for output in message.outputs.unwrap_or_default() {
        let name = output.name.clone();
        let (classes, form) = output.form(forms.binary).map_err(|failure| about("output", &name, failure))?;
        if forms.by_output.insert(name.clone(), form).is_some() {
            return Err(Failure::invalid(format!("output '{name}' is wanted twice")));
        }
        request.outputs.push(WantedOutput { name, classes });
    }
    Ok((request, forms))
}

/// The request in a `body` that is nothing but the elements of the model's only input: one string, or numbers. Their count says the
/// only dimension that the model leaves open: if there is none, the rows of the batch, which is one row otherwise. All outputs are
/// wanted as binary data.
///
/// # Errors
/// [`Reason::Invalid`] if the model has several inputs, or the body does not say the input's shape.
pub(crate) fn decode_raw(body: Bytes, config: &Config) -> Result<(Request, Forms), Failure> {
    let [port] = config.inputs.as_slice() else {
        let inputs = config.inputs.len();
        let text = format!(
            "Inference-Header-Content-Length is 0, but the model has {inputs} inputs and needs to know which"
        );
        return Err(Failure::invalid(text));
    };
    let tensor = raw_input(port.dtype, &port.dims, config.max_batch > 0, body)
        .map_err(|failure| about("input", &port.name, failure))?;
    let request = Request { inputs: vec![(port.name.clone(), tensor)], ..Request::default() };
    Ok((request, Forms { binary: true, by_output: BTreeMap::new() }))
}

fn raw_input(dtype: DType, dims: &[Option<usize>], batched: bool, body: Bytes) -> Result<Tensor, Failure> {
    let one_row = dims.contains(&None);
    let rows = batched.then_some(if one_row { Some(1) } else { None });
    let dims: Vec<Option<usize>> = rows.into_iter().chain(dims.iter().copied()).collect();
    let elements = match dtype {
        DType::String => Some(1),
        dtype => dtype.bytes_of(1).map(|size| body.len() / size),
    };
    let known = dims.iter().flatten().try_fold(1usize, |n, &dim| n.checked_mul(dim));
    let open = match (dims.iter().filter(|dim| dim.is_none()).count(), elements, known) {
        (0, ..) => Some(0),
        (1, Some(elements), Some(known)) => elements.checked_div(known).map(|open| open.max(1)),
        _ => None,
    };
    let open =
        open.ok_or_else(|| Failure::invalid("the body does not say its shape; send it with a JSON header"))?;
    let shape: Vec<usize> = dims.iter().map(|dim| dim.unwrap_or(open)).collect();
    if dtype != DType::String {
        return raw::tensor(dtype, &shape, body);
    }
    let text = std::str::from_utf8(&body)
        .map_err(|_| Failure::invalid("the body is no UTF-8, as the strings of a model are"))?;
    Tensor::from_strings(&shape, vec![text.to_owned()]).map_err(|_| {
        Failure::invalid(format!("the body is one string, and shape {shape:?} has more or fewer"))
    })
}

/// `failure`, with the tensor that it is about.
pub(in crate::http) fn about(kind: &str, name: &str, failure: Failure) -> Failure {
    Failure { text: format!("{kind} '{name}': {}", failure.text), ..failure }
}

/// What a body of JSON says.
///
/// # Errors
/// [`Reason::Invalid`]. What the parser says may repeat long parts of the body, and is cut off.
pub(in crate::http) fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        let text: String = error.to_string().chars().take(300).collect();
        Failure::invalid(format!("the body is no request in JSON: {text}"))
    })
}

#[derive(Deserialize)]
struct Message<'a> {
    id: Option<String>,
    parameters: Option<Values>,
    #[serde(borrow, deserialize_with = "few")]
    inputs: Vec<Input<'a>>,
    #[serde(default, deserialize_with = "few_or_none")]
    outputs: Option<Vec<Output>>,
}

/// The members of a list at most, whatever the limits are: a list takes many times as many bytes as its text.
const MANY: usize = 1 << 14;

/// A list that is refused before it takes much.
fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = list.next_element()? {
                if members.len() == MANY {
                    return Err(A::Error::custom(format!("a list of more than {MANY} members")));
                }
                members.push(member);
            }
            Ok(members)
        }
    }
    deserializer.deserialize_seq(Few(PhantomData))
}

/// A list, or `null`.
fn few_or_none<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Vec<T>>, D::Error> {
    struct List<T>(Vec<T>);
    impl<'de, T: Deserialize<'de>> Deserialize<'de> for List<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<List<T>, D::Error> {
            few(deserializer).map(List)
        }
    }
    Ok(Option::<List<T>>::deserialize(deserializer)?.map(|List(list)| list))
}

#[derive(Deserialize)]
struct Input<'a> {
    name: String,
    #[serde(deserialize_with = "few")]
    shape: Vec<i64>,
    datatype: String,
    parameters: Option<Values>,
    /// As text, since the datatype may come after it. Nothing is copied.
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    parameters: Option<Values>,
}

impl Message<'_> {
    fn check(&self, limits: &Limits) -> Result<(), Failure> {
        let outputs = self.outputs.as_deref().unwrap_or_default();
        let above = |kind: &str, count: usize, limit: usize| {
            let text = format!("the request has {count} {kind}, and this server takes {limit}");
            if count > limit { Err(Failure::new(Reason::TooLarge, text)) } else { Ok(()) }
        };
        above("inputs", self.inputs.len(), limits.tensors)?;
        above("outputs", outputs.len(), limits.tensors)?;
        let inputs = self.inputs.iter().map(|input| &input.parameters);
        let outputs = outputs.iter().map(|output| &output.parameters);
        for values in std::iter::once(&self.parameters).chain(inputs).chain(outputs).flatten() {
            above("parameters in one place", values.0.len(), limits.parameters)?;
        }
        Ok(())
    }
}

impl Input<'_> {
    /// The tensor, for which bytes are taken from `binary` if they lie there.
    fn tensor(self, binary: &mut Bytes, memory: &SharedMemory) -> Result<Tensor, Failure> {
        let shape = raw::shape(&self.shape)?;
        let dtype = datatype::parse(&self.datatype).ok_or_else(|| {
            Failure::invalid(format!("'{:.40}' is no datatype of the protocol", self.datatype))
        })?;
        let mut parameters = self.parameters.unwrap_or_default().0;
        let size = parameters::number(&mut parameters, "binary_data_size")?;
        let region = Region::of(&mut parameters)?;
        match (self.data, size, region) {
            (Some(data), None, None) => json::tensor(dtype, &shape, data.get()),
            (None, Some(size), None) => {
                let bytes =
                    usize::try_from(size).ok().filter(|size| *size <= binary.len()).ok_or_else(|| {
                        Failure::invalid(format!(
                            "binary_data_size is {size}, and the body has {} bytes left",
                            binary.len()
                        ))
                    })?;
                raw::tensor(dtype, &shape, binary.split_to(bytes))
            }
            (None, None, Some(region)) => raw::tensor(dtype, &shape, memory.read(&region)?),
            (None, None, None) => {
                Err(Failure::invalid("it has neither data, nor binary_data_size, nor shared_memory_region"))
            }
            _ => Err(Failure::invalid("data, binary_data_size and shared_memory_region exclude each other")),
        }
    }
}

impl Output {
    fn form(self, binary: bool) -> Result<(usize, Form), Failure> {
        let mut parameters = self.parameters.unwrap_or_default().0;
        let classes = parameters::number(&mut parameters, "classification")?;
        let classes = usize::try_from(classes.unwrap_or(0)).unwrap_or(usize::MAX);
        let binary = parameters::truth(&mut parameters, "binary_data")?.unwrap_or(binary);
        match Region::of(&mut parameters)? {
            Some(_) if classes > 0 => {
                Err(Failure::invalid("classification and shared_memory_region exclude each other"))
            }
            Some(region) => Ok((0, Form::Shared(region))),
            None => Ok((classes, if binary { Form::Binary } else { Form::Json })),
        }
    }
}

/// Parameters as JSON: an object of truth values, numbers and texts.
#[derive(Default)]
pub(super) struct Values(pub(super) Parameters);

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Values, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Values;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of parameters")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Values, A::Error> {
                let mut values = Parameters::new();
                while let Some((name, Value(value))) = map.next_entry::<String, Value>()? {
                    if values.insert(name, value).is_some() {
                        return Err(A::Error::custom("a parameter is given twice"));
                    }
                    if values.len() > MANY {
                        return Err(A::Error::custom(format!("more than {MANY} parameters in one place")));
                    }
                }
                Ok(Values(values))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The value of a parameter.
pub(super) struct Value(pub(super) Parameter);

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        struct Scalar;
        impl Visitor<'_> for Scalar {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a truth value, a number or a text")
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
                Ok(Value(Parameter::Bool(value)))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
                Ok(Value(Parameter::Int(value)))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
                let above = |_| E::custom("a number above the greatest int64; send it as a text");
                i64::try_from(value).map(|value| Value(Parameter::Int(value))).map_err(above)
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
                Ok(Value(Parameter::Double(value)))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
                Ok(Value(Parameter::Text(value.to_owned())))
            }
        }
        deserializer.deserialize_any(Scalar)
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
