//! A [`Response`] as the body of an answer: JSON, and after it the outputs that are wanted as binary data.

use bytes::Bytes;

use super::json;
use super::request::{Form, Forms, about};
use crate::shared_memory::SharedMemory;
use crate::{Failure, Parameter, Parameters, Reason, Response, datatype, raw};

/// The body of an answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Body {
    /// The JSON.
    pub(crate) json: Vec<u8>,
    /// What follows it, in order.
    pub(crate) binary: Vec<Bytes>,
}

/// The body that answers with `response`. Outputs in shared memory are written there.
///
/// # Errors
/// [`Reason::Invalid`] if an output has no form in JSON and is not wanted in another; the failures of [`SharedMemory::write`].
pub(crate) fn encode(response: Response, forms: &Forms, memory: &SharedMemory) -> Result<Body, Failure> {
    let mut body = Body::default();
    let out = &mut body.json;
    out.extend_from_slice(b"{\"model_name\":");
    json::string_into(out, &response.model);
    out.extend_from_slice(b",\"model_version\":");
    json::string_into(out, &response.version);
    if !response.id.is_empty() {
        out.extend_from_slice(b",\"id\":");
        json::string_into(out, &response.id);
    }
    parameters_into(out, &response.parameters);
    out.extend_from_slice(b",\"outputs\":[");
    let by_default = if forms.binary { Form::Binary } else { Form::Json };
    for (at, (name, tensor)) in response.outputs.into_iter().enumerate() {
        let datatype = datatype::name(tensor.dtype()).ok_or_else(|| {
            Failure::new(
                Reason::Internal,
                format!("output '{name}' is {}, which the protocol has no name for", tensor.dtype()),
            )
        })?;
        if at > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"name\":");
        json::string_into(out, &name);
        out.extend_from_slice(format!(",\"datatype\":\"{datatype}\",\"shape\":[").as_bytes());
        let sizes: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
        out.extend_from_slice(sizes.join(",").as_bytes());
        out.push(b']');
        match forms.by_output.get(&name).unwrap_or(&by_default) {
            Form::Json => {
                out.extend_from_slice(b",\"data\":");
                json::write(out, &tensor).map_err(|failure| about("output", &name, failure))?;
            }
            Form::Binary => {
                let bytes = raw::bytes(tensor)?;
                let size = Parameter::Int(bytes.len() as i64);
                parameters_into(out, &Parameters::from([("binary_data_size".to_owned(), size)]));
                body.binary.push(bytes);
            }
            Form::Shared(region) => {
                let bytes = raw::bytes(tensor)?;
                // The output has no parameters: Triton's client for C++ takes an output that has some for a binary tensor.
                memory.write(region, &bytes).map_err(|failure| about("output", &name, failure))?;
            }
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    Ok(body)
}

/// Appends the member `parameters`, if there are any.
fn parameters_into(out: &mut Vec<u8>, parameters: &Parameters) {
    if parameters.is_empty() {
        return;
    }
    out.extend_from_slice(b",\"parameters\":");
    for (at, (name, value)) in parameters.iter().enumerate() {
        out.push(if at == 0 { b'{' } else { b',' });
        json::string_into(out, name);
        out.push(b':');
        match value {
            Parameter::Bool(value) => json::value_into(out, value),
            Parameter::Int(value) => json::value_into(out, value),
            // What is not finite is `null`.
            Parameter::Double(value) => json::value_into(out, value),
            Parameter::Text(value) => json::string_into(out, value),
        }
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use sardonyx::Tensor;

    use super::super::request::decode;
    use super::*;
    use crate::http::Limits;

    fn response(outputs: Vec<(&str, Tensor)>) -> Response {
        Response {
            model: "cat \"1\"".into(),
            version: "3".into(),
            outputs: outputs.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect(),
            ..Response::default()
        }
    }

    fn forms(outputs: &str) -> Forms {
        let body = format!("{{\"inputs\":[],\"outputs\":[{outputs}]}}").into();
        decode(&body, None, &Limits::default(), &SharedMemory::default()).unwrap().1
    }

    fn text(response: Response, forms: &Forms) -> String {
        let body = encode(response, forms, &SharedMemory::default()).unwrap();
        assert_eq!(body.binary, [] as [Bytes; 0]);
        String::from_utf8(body.json).unwrap()
    }

    /// tritonclient 2.73 (`parse_response_body`) reads the expected text as the values below; the NaN, too.
    #[test]
    fn json() {
        let scores = Tensor::from_slice(&[2, 2], &[0.1f32, -1.0, f32::NAN, 16777216.0]).unwrap();
        let names = Tensor::from_strings(&[1], vec!["a\"\n\u{1}ö".into()]).unwrap();
        let flags = Tensor::from_bools(&[2], &[true, false]).unwrap();
        let large = Tensor::from_slice(&[2], &[u64::MAX, 0]).unwrap();
        let double = Tensor::from_slice(&[], &[0.1f64]).unwrap();
        let outputs = vec![("s", scores), ("n", names), ("f", flags), ("l", large), ("d", double)];
        let mut response = response(outputs);
        response.id = "7".into();
        response.parameters.insert("sequence_id".into(), Parameter::Int(-4));
        response.parameters.insert("x".into(), Parameter::Text("y".into()));
        let expected = concat!(
            r#"{"model_name":"cat \"1\"","model_version":"3","id":"7","parameters":{"sequence_id":-4,"x":"y"},"outputs":["#,
            r#"{"name":"s","datatype":"FP32","shape":[2,2],"data":[0.1,-1.0,null,16777216.0]},"#,
            r#"{"name":"n","datatype":"BYTES","shape":[1],"data":["a\"\n\u0001ö"]},"#,
            r#"{"name":"f","datatype":"BOOL","shape":[2],"data":[true,false]},"#,
            r#"{"name":"l","datatype":"UINT64","shape":[2],"data":[18446744073709551615,0]},"#,
            r#"{"name":"d","datatype":"FP64","shape":[],"data":[0.1]}]}"#
        );
        assert_eq!(text(response, &Forms::default()), expected);
    }

    #[test]
    fn binary_where_it_is_wanted() {
        let a = Tensor::from_slice(&[2], &[1i32, -1]).unwrap();
        let b = Tensor::from_strings(&[2], vec!["ab".into(), String::new()]).unwrap();
        let c = Tensor::from_slice(&[1], &[3u8]).unwrap();
        let forms = forms(
            r#"{"name":"a","parameters":{"binary_data":true}},{"name":"b","parameters":{"binary_data":true}},{"name":"c"}"#,
        );
        let body =
            encode(response(vec![("a", a), ("b", b), ("c", c)]), &forms, &SharedMemory::default()).unwrap();
        let expected = concat!(
            r#"{"model_name":"cat \"1\"","model_version":"3","outputs":["#,
            r#"{"name":"a","datatype":"INT32","shape":[2],"parameters":{"binary_data_size":8}},"#,
            r#"{"name":"b","datatype":"BYTES","shape":[2],"parameters":{"binary_data_size":10}},"#,
            r#"{"name":"c","datatype":"UINT8","shape":[1],"data":[3]}]}"#
        );
        assert_eq!(String::from_utf8(body.json).unwrap(), expected);
        assert_eq!(body.binary, [&b"\x01\0\0\0\xff\xff\xff\xff"[..], b"\x02\0\0\0ab\0\0\0\0"]);
    }

    #[test]
    fn what_json_has_no_form_for() {
        let failure = |tensor: Tensor| {
            encode(response(vec![("x", tensor)]), &Forms::default(), &SharedMemory::default())
                .unwrap_err()
                .text
        };
        let infinite = failure(Tensor::from_slice(&[1], &[f64::NEG_INFINITY]).unwrap());
        assert_eq!(
            infinite,
            "output 'x': it has an infinite number, which has no form in JSON; ask for binary data"
        );
        let half = failure(Tensor::zeros(sardonyx::DType::F16, &[1]).unwrap());
        assert_eq!(half, "output 'x': FP16 has no form in JSON; use binary data");
    }
}
