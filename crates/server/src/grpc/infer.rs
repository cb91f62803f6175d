//! A `ModelInferRequest` as a `Request`, and a `Response` as a `ModelInferResponse`.

use std::collections::BTreeMap;

use bytes::Bytes;
use sardonyx::{DType, Element, Tensor};

use crate::http::Limits;
use crate::proto::infer_parameter::ParameterChoice;
use crate::proto::model_infer_request::InferInputTensor;
use crate::proto::model_infer_response::InferOutputTensor;
use crate::proto::{InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse};
use crate::shared_memory::{Region, SharedMemory};
use crate::{Failure, Parameter, Parameters, Reason, Request, Response, WantedOutput, datatype, raw};

/// What a response needs of its request.
#[derive(Debug, Default)]
pub(super) struct Form {
    /// The outputs that go to shared memory.
    regions: Vec<(String, Region)>,
}

/// Reads a request. Inputs in shared memory are copied, since the client may write to it at any time.
pub(super) fn request(message: ModelInferRequest, memory: &SharedMemory) -> Result<(Request, Form), Failure> {
    let ModelInferRequest { model_name, model_version, id, parameters, inputs, outputs, raw_input_contents } =
        message;
    let mut request = Request { model: model_name, version: model_version, id, ..Request::default() };
    for (name, value) in parameters {
        request.set_parameter(&name, parameter(&name, value)?)?;
    }
    let mut raw_contents = raw_input_contents.into_iter();
    let is_raw = raw_contents.len() > 0;
    for input in inputs {
        let name = input.name.clone();
        let tensor = tensor(input, is_raw, &mut raw_contents, memory)
            .map_err(|failure| Failure { text: format!("input '{name}': {}", failure.text), ..failure })?;
        request.inputs.push((name, tensor));
    }
    if raw_contents.next().is_some() {
        return Err(Failure::invalid(
            "raw_input_contents has more entries than there are inputs outside of shared memory",
        ));
    }
    let mut form = Form::default();
    for output in outputs {
        let mut parameters = typed(output.parameters)?;
        let classes = match parameters.remove("classification") {
            None => 0,
            Some(Parameter::Int(count)) => usize::try_from(count).map_err(|_| {
                Failure::invalid(format!("output '{}': classification is {count}", output.name))
            })?,
            Some(_) => {
                return Err(Failure::invalid(format!(
                    "output '{}': classification is a number",
                    output.name
                )));
            }
        };
        if let Some(region) = Region::of(&mut parameters)? {
            form.regions.push((output.name.clone(), region));
        }
        request.outputs.push(WantedOutput { name: output.name, classes });
    }
    Ok((request, form))
}

/// The bytes of tensors that are looked at one by one on the reactor.
const FEW: usize = 64 << 10;

/// Whether [`request`] takes long: raw numbers are not even looked at, but strings are copied, bools checked, and typed values put together.
pub(super) fn is_slow(message: &ModelInferRequest) -> bool {
    let typed: usize = message.inputs.iter().flat_map(|input| &input.contents).map(bytes_of).sum();
    let looked_at = [DType::String, DType::Bool].map(datatype::name);
    let is_looked_at = |input: &InferInputTensor| looked_at.contains(&Some(&input.datatype));
    let raw: usize = message.raw_input_contents.iter().map(Bytes::len).sum();
    typed > FEW || raw > FEW && message.inputs.iter().any(is_looked_at)
}

/// Whether [`response`] takes long.
pub(super) fn has_many_strings(response: &Response) -> bool {
    response.outputs.iter().any(|(_, tensor)| tensor.dtype() == DType::String && tensor.len() > FEW / 64)
}

fn bytes_of(contents: &InferTensorContents) -> usize {
    let InferTensorContents {
        bool_contents,
        int_contents,
        int64_contents,
        uint_contents,
        uint64_contents,
        fp32_contents,
        fp64_contents,
        bytes_contents,
    } = contents;
    let numbers = [
        size_of_val(&bool_contents[..]),
        size_of_val(&int_contents[..]),
        size_of_val(&int64_contents[..]),
        size_of_val(&uint_contents[..]),
        size_of_val(&uint64_contents[..]),
        size_of_val(&fp32_contents[..]),
        size_of_val(&fp64_contents[..]),
        size_of_val(&bytes_contents[..]),
    ];
    numbers.iter().sum::<usize>() + bytes_contents.iter().map(Bytes::len).sum::<usize>()
}

/// Refuses a request of more tensors or parameters than `limits` allow.
pub(super) fn refuse_many(message: &ModelInferRequest, limits: &Limits) -> Result<(), Failure> {
    let above = |kind: &str, count: usize, limit: usize| {
        let text = format!("the request has {count} {kind}, and this server takes {limit}");
        if count > limit { Err(Failure::new(Reason::TooLarge, text)) } else { Ok(()) }
    };
    above("inputs", message.inputs.len(), limits.tensors)?;
    above("outputs", message.outputs.len(), limits.tensors)?;
    let inputs = message.inputs.iter().map(|input| input.parameters.len());
    let outputs = message.outputs.iter().map(|output| output.parameters.len());
    let most = inputs.chain(outputs).chain([message.parameters.len()]).max();
    above("parameters in one place", most.unwrap_or(0), limits.parameters)
}

/// Writes a response, and the outputs that go to shared memory there.
pub(super) fn response(
    response: Response,
    form: &Form,
    memory: &SharedMemory,
) -> Result<ModelInferResponse, Failure> {
    let mut outputs = Vec::with_capacity(response.outputs.len());
    let mut raw_output_contents = Vec::with_capacity(response.outputs.len());
    for (name, tensor) in response.outputs {
        let datatype = datatype::name(tensor.dtype()).ok_or_else(|| {
            let text = format!("output '{name}' is {}, which the protocol has no name for", tensor.dtype());
            Failure::new(Reason::Unimplemented, text)
        })?;
        let shape = tensor.shape().iter().map(|&dim| dim as i64).collect();
        let mut parameters = BTreeMap::new();
        let bytes = raw::bytes(tensor)?;
        match form.regions.iter().find(|(of, _)| *of == name) {
            None => raw_output_contents.push(bytes),
            Some((_, region)) => {
                memory.write(region, &bytes)?;
                parameters = region
                    .parameters(bytes.len())
                    .into_iter()
                    .map(|(name, value)| (name, shown(value)))
                    .collect();
                // Clients find the contents of an output by its place among all outputs.
                raw_output_contents.push(Bytes::new());
            }
        }
        outputs.push(InferOutputTensor {
            name,
            datatype: datatype.into(),
            shape,
            parameters,
            contents: None,
        });
    }
    Ok(ModelInferResponse {
        model_name: response.model,
        model_version: response.version,
        id: response.id,
        parameters: response.parameters.into_iter().map(|(name, value)| (name, shown(value))).collect(),
        outputs,
        raw_output_contents,
    })
}

fn tensor(
    input: InferInputTensor,
    is_raw: bool,
    raw_contents: &mut impl Iterator<Item = Bytes>,
    memory: &SharedMemory,
) -> Result<Tensor, Failure> {
    let dtype = datatype::parse(&input.datatype).ok_or_else(|| {
        Failure::invalid(format!("datatype '{}' is none of the protocol's", input.datatype))
    })?;
    let shape = raw::shape(&input.shape)?;
    if let Some(region) = Region::of(&mut typed(input.parameters)?)? {
        if input.contents.is_some() {
            return Err(Failure::invalid("it has contents, and lies in shared memory"));
        }
        return raw::tensor(dtype, &shape, memory.read(&region)?);
    }
    match input.contents {
        Some(_) if is_raw => {
            Err(Failure::invalid("it has contents, and the request has raw_input_contents; send one of them"))
        }
        Some(contents) => typed_contents(dtype, &shape, contents),
        None => match raw_contents.next() {
            Some(bytes) => raw::tensor(dtype, &shape, bytes),
            // An empty tensor has neither.
            None if shape.contains(&0) => raw::tensor(dtype, &shape, Bytes::new()),
            None => Err(Failure::invalid("it has no contents, and raw_input_contents has no entry for it")),
        },
    }
}

fn typed_contents(dtype: DType, shape: &[usize], contents: InferTensorContents) -> Result<Tensor, Failure> {
    Ok(match dtype {
        DType::Bool => Tensor::from_bools(shape, &contents.bool_contents)?,
        DType::I8 => narrowed::<i32, i8>(shape, contents.int_contents)?,
        DType::I16 => narrowed::<i32, i16>(shape, contents.int_contents)?,
        DType::I32 => Tensor::from_vec(shape, contents.int_contents)?,
        DType::I64 => Tensor::from_vec(shape, contents.int64_contents)?,
        DType::U8 => narrowed::<u32, u8>(shape, contents.uint_contents)?,
        DType::U16 => narrowed::<u32, u16>(shape, contents.uint_contents)?,
        DType::U32 => Tensor::from_vec(shape, contents.uint_contents)?,
        DType::U64 => Tensor::from_vec(shape, contents.uint64_contents)?,
        DType::F32 => Tensor::from_vec(shape, contents.fp32_contents)?,
        DType::F64 => Tensor::from_vec(shape, contents.fp64_contents)?,
        DType::String => {
            let text = |bytes: Bytes| {
                String::from_utf8(bytes.into())
                    .map_err(|_| Failure::invalid("a string is no UTF-8, as the strings of a model are"))
            };
            Tensor::from_strings(
                shape,
                contents.bytes_contents.into_iter().map(text).collect::<Result<_, _>>()?,
            )?
        }
        dtype => {
            let name = datatype::name(dtype).unwrap_or("this datatype");
            return Err(Failure::invalid(format!("{name} has no typed contents; use raw_input_contents")));
        }
    })
}

pub(super) fn narrowed<W: Copy + std::fmt::Display, N: Element + TryFrom<W>>(
    shape: &[usize],
    values: Vec<W>,
) -> Result<Tensor, Failure> {
    let narrow = |value: W| {
        N::try_from(value).map_err(|_| Failure::invalid(format!("{value} does not fit {}", N::DTYPE)))
    };
    Ok(Tensor::from_vec(shape, values.into_iter().map(narrow).collect::<Result<Vec<N>, _>>()?)?)
}

fn typed(parameters: BTreeMap<String, InferParameter>) -> Result<Parameters, Failure> {
    let one = |(name, value): (String, InferParameter)| {
        let value = parameter(&name, value)?;
        Ok((name, value))
    };
    parameters.into_iter().map(one).collect()
}

fn parameter(name: &str, value: InferParameter) -> Result<Parameter, Failure> {
    match value.parameter_choice {
        Some(ParameterChoice::BoolParam(value)) => Ok(Parameter::Bool(value)),
        Some(ParameterChoice::Int64Param(value)) => Ok(Parameter::Int(value)),
        Some(ParameterChoice::Uint64Param(value)) => i64::try_from(value).map(Parameter::Int).map_err(|_| {
            Failure::invalid(format!("parameter '{name}': {value} is above the greatest int64"))
        }),
        Some(ParameterChoice::DoubleParam(value)) => Ok(Parameter::Double(value)),
        Some(ParameterChoice::StringParam(value)) => Ok(Parameter::Text(value)),
        None => Err(Failure::invalid(format!("parameter '{name}' has no value"))),
    }
}

pub(super) fn shown(value: Parameter) -> InferParameter {
    let choice = match value {
        Parameter::Bool(value) => ParameterChoice::BoolParam(value),
        Parameter::Int(value) => ParameterChoice::Int64Param(value),
        Parameter::Double(value) => ParameterChoice::DoubleParam(value),
        Parameter::Text(value) => ParameterChoice::StringParam(value),
    };
    InferParameter { parameter_choice: Some(choice) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_leaves_the_reactor() {
        let of = |datatype: &str, raw: usize, contents: InferTensorContents| {
            let contents = (contents != InferTensorContents::default()).then_some(contents);
            let input = InferInputTensor { datatype: datatype.into(), contents, ..Default::default() };
            let raw_input_contents = (raw > 0).then(|| vec![0; raw].into()).into_iter().collect();
            is_slow(&ModelInferRequest { inputs: vec![input], raw_input_contents, ..Default::default() })
        };
        let none = InferTensorContents::default;
        assert!(!of("FP32", 100 * FEW, none()), "raw numbers are not looked at");
        for datatype in ["BYTES", "BOOL"] {
            assert_eq!([FEW, FEW + 1].map(|bytes| of(datatype, bytes, none())), [false, true], "{datatype}");
        }
        let typed = |count| of("FP32", 0, InferTensorContents { fp32_contents: vec![0.0; count], ..none() });
        assert_eq!([FEW / 4, FEW / 4 + 1].map(typed), [false, true]);
        let many = vec![Bytes::new(); FEW / size_of::<Bytes>() + 1];
        assert!(of("BYTES", 0, InferTensorContents { bytes_contents: many, ..none() }));
        let long = vec![Bytes::from(vec![0; FEW])];
        assert!(of("BYTES", 0, InferTensorContents { bytes_contents: long, ..none() }));

        let answer = |tensor: Tensor| {
            has_many_strings(&Response {
                model: "m".into(),
                version: "1".into(),
                outputs: vec![("y".into(), tensor)],
                ..Response::default()
            })
        };
        let strings = |count| Tensor::from_strings(&[count], vec![String::new(); count]).unwrap();
        assert_eq!([FEW / 64, FEW / 64 + 1].map(|count| answer(strings(count))), [false, true]);
        assert!(!answer(Tensor::from_vec(&[FEW], vec![0.0f32; FEW]).unwrap()), "numbers are not copied");
    }
}
