use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::{Sequence, SequenceId};

fn read(body: &str) -> Result<(Request, Forms), Failure> {
    read_binary(body.as_bytes(), None)
}

fn read_binary(body: &[u8], json_bytes: Option<usize>) -> Result<(Request, Forms), Failure> {
    decode(&Bytes::copy_from_slice(body), json_bytes, &Limits::default(), &SharedMemory::default())
}

/// The only input of a request with this datatype, shape and data.
fn input(datatype: &str, shape: &str, data: &str) -> Result<Tensor, String> {
    let body =
        format!(r#"{{"inputs":[{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}]}}"#);
    let (request, _) = read(&body).map_err(|failure| {
        assert_eq!(failure.reason, Reason::Invalid);
        failure.text
    })?;
    Ok(request.inputs[0].1.clone())
}

#[test]
fn flat_and_nested_data() {
    let expected = Tensor::from_slice(&[2, 3], &[1.0f32, -2.5, 3e-5, 0.0, 16777216.0, 0.1]).unwrap();
    for data in [
        "[1,-2.5,3e-5,0,16777217,0.1]",
        "[ [1, -2.5, 3E-5],\n[0, 16777217, 0.1] ]",
        "[[[1],[-2.5],[3e-5]],[[0],[16777217],[0.1]]]",
    ] {
        assert_eq!(input("FP32", "[2,3]", data).unwrap(), expected, "{data}");
    }
    assert_eq!(input("INT64", "[0,2]", "[]").unwrap(), Tensor::zeros(DType::I64, &[0, 2]).unwrap());
    assert_eq!(input("INT64", "[2,0]", "[[],[]]").unwrap(), Tensor::zeros(DType::I64, &[2, 0]).unwrap());
    assert_eq!(input("UINT8", "[]", "[7]").unwrap(), Tensor::from_slice(&[], &[7u8]).unwrap());
}

#[test]
fn every_datatype() {
    let list = |datatype: &str, data: &str| input(datatype, "[2]", data).unwrap();
    assert_eq!(list("BOOL", "[true,false]"), Tensor::from_bools(&[2], &[true, false]).unwrap());
    assert_eq!(list("UINT8", "[0,255]"), Tensor::from_slice(&[2], &[0u8, 255]).unwrap());
    assert_eq!(list("UINT16", "[0,65535]"), Tensor::from_slice(&[2], &[0u16, 65535]).unwrap());
    assert_eq!(list("UINT32", "[0,4294967295]"), Tensor::from_slice(&[2], &[0u32, u32::MAX]).unwrap());
    assert_eq!(
        list("UINT64", "[0,18446744073709551615]"),
        Tensor::from_slice(&[2], &[0u64, u64::MAX]).unwrap()
    );
    assert_eq!(list("INT8", "[-128,127]"), Tensor::from_slice(&[2], &[-128i8, 127]).unwrap());
    assert_eq!(list("INT16", "[-32768,1]"), Tensor::from_slice(&[2], &[i16::MIN, 1]).unwrap());
    assert_eq!(list("INT32", "[-2147483648,1]"), Tensor::from_slice(&[2], &[i32::MIN, 1]).unwrap());
    let expected = Tensor::from_slice(&[2], &[i64::MIN, 9007199254740993]).unwrap();
    assert_eq!(list("INT64", "[-9223372036854775808,9007199254740993]"), expected);
    assert_eq!(list("FP64", "[0.1,1e308]"), Tensor::from_slice(&[2], &[0.1f64, 1e308]).unwrap());
    let expected = Tensor::from_strings(&[2], vec!["a\"],[ö".into(), String::new()]).unwrap();
    assert_eq!(list("BYTES", r#"["a\"],[\u00f6",""]"#), expected);
}

#[test]
fn numbers_are_never_wrapped() {
    let text = |datatype: &str, data: &str| input(datatype, "[1]", data).unwrap_err();
    assert_eq!(text("UINT8", "[256]"), "input 'x': element 0 is 256, which is no UINT8");
    assert_eq!(text("INT8", "[-129]"), "input 'x': element 0 is -129, which is no INT8");
    assert_eq!(text("UINT64", "[-1]"), "input 'x': element 0 is -1, which is no UINT64");
    assert_eq!(
        text("INT64", "[9223372036854775808]"),
        "input 'x': element 0 is 9223372036854775808, which is no INT64"
    );
    assert_eq!(text("INT32", "[1.5]"), "input 'x': element 0 is 1.5, which is no INT32");
    assert_eq!(text("FP32", "[1e39]"), "input 'x': element 0 is 1e39, which is no FP32");
    assert_eq!(text("FP64", "[-1e309]"), "input 'x': element 0 is -1e309, which is no FP64");
    assert_eq!(text("FP32", "[null]"), "input 'x': element 0 is null, which is no FP32");
    assert_eq!(text("FP32", "[\"1\"]"), "input 'x': element 0 is \"1\", which is no FP32");
    assert_eq!(text("BOOL", "[1]"), "input 'x': element 0 is 1, which is no BOOL");
    assert_eq!(text("BYTES", "[1]"), "input 'x': element 0 is 1, which is no BYTES");
    assert_eq!(text("BYTES", r#"["\ud800"]"#), "input 'x': element 0 is \"\\ud800\", which is no BYTES");
    assert_eq!(text("FP16", "[1]"), "input 'x': FP16 has no form in JSON; use binary data");
    assert_eq!(text("BF16", "[1]"), "input 'x': BF16 has no form in JSON; use binary data");
    assert_eq!(text("FLOAT", "[1]"), "input 'x': 'FLOAT' is no datatype of the protocol");
    assert!(text("FP32", "[NaN]").starts_with("the body is no request in JSON: "));
}

#[test]
fn data_that_do_not_fit_the_shape() {
    let text = |shape: &str, data: &str| input("INT32", shape, data).unwrap_err();
    assert_eq!(text("[2]", "[1]"), "input 'x': shape [2] has 2 elements, and the data fewer");
    assert_eq!(text("[3]", "[  1, 2  ]"), "input 'x': shape [3] has 3 elements, and the data 2");
    assert_eq!(text("[2]", "[1,2,3]"), "input 'x': shape [2] has 2 elements, and the data more");
    assert_eq!(
        text("[9000000000,100000]", "[1]"),
        "input 'x': shape [9000000000, 100000] has 900000000000000 elements, and the data fewer"
    );
    assert!(text("[4294967296,4294967296]", "[1]").contains("too many elements"));
    assert!(text("[-1]", "[1]").contains("has -1"));
    assert_eq!(text("[1]", "1"), "input 'x': the data is no list");
    assert_eq!(text("[1]", "{\"a\":[1]}"), "input 'x': the data is no list");
    for data in
        ["[[1,2],[3]]", "[1,[2],3]", "[[1],2,3]", "[[1,2],[[3]]]", "[[],[1,2,3]]", "[[[1]],[[2],[3]]]"]
    {
        assert!(text("[3]", data).contains("the data is ragged"), "{data}");
    }
    assert!(text("[1]", "[{}]").contains("element 0 is {}, which is no INT32"));
    let deep = format!("{}1{}", "[".repeat(65), "]".repeat(65));
    assert!(text("[1]", &deep).contains("deeper than the 64 dimensions"));
    let deep = "[".repeat(1_000_000);
    assert!(text("[1]", &deep).starts_with("the body is no request in JSON: expected value"));
}

/// The bytes that tritonclient 2.73 makes (`InferenceServerClient.generate_request_body`) for an input of `[[0, 1, 2, 3]]`, one of
/// `["ab", ""]`, and two wanted outputs.
#[test]
fn binary_data() {
    let json = concat!(
        r#"{"id":"abc","inputs":[{"name":"INPUT0","shape":[1,4],"datatype":"FP32","parameters":{"binary_data_size":16}},"#,
        r#"{"name":"INPUT1","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":10}}],"#,
        r#""outputs":[{"name":"OUTPUT0","parameters":{"binary_data":true}},{"name":"OUTPUT1","parameters":{"classification":2,"binary_data":false}}],"#,
        r#""parameters":{"sequence_id":7,"sequence_start":true,"sequence_end":false,"priority":2,"timeout":1000}}"#
    );
    let data = b"\0\0\0\0\0\0\x80?\0\0\0@\0\0@@\x02\0\0\0ab\0\0\0\0";
    let body = [json.as_bytes(), data].concat();
    let (request, forms) = read_binary(&body, Some(json.len())).unwrap();
    assert_eq!((request.id.as_str(), request.priority), ("abc", 2));
    assert_eq!(request.timeout, Some(Duration::from_millis(1)));
    assert_eq!(request.sequence, Some(Sequence { id: SequenceId::Number(7), start: true, end: false }));
    let expected = [
        ("INPUT0".to_string(), Tensor::from_slice(&[1, 4], &[0.0f32, 1.0, 2.0, 3.0]).unwrap()),
        ("INPUT1".to_string(), Tensor::from_strings(&[2], vec!["ab".into(), String::new()]).unwrap()),
    ];
    assert_eq!(request.inputs, expected);
    let wanted = |name: &str, classes| WantedOutput { name: name.into(), classes };
    assert_eq!(request.outputs, [wanted("OUTPUT0", 0), wanted("OUTPUT1", 2)]);
    assert_eq!(forms.by_output["OUTPUT0"], Form::Binary);
    assert_eq!(forms.by_output["OUTPUT1"], Form::Json);

    let text = |body: &[u8], json_bytes| read_binary(body, Some(json_bytes)).unwrap_err().text;
    let short = text(&body[..body.len() - 1], json.len());
    assert_eq!(short, "input 'INPUT1': binary_data_size is 10, and the body has 9 bytes left");
    let long = text(&[&body[..], b"x"].concat(), json.len());
    assert_eq!(long, "the body has 1 bytes that no input's binary_data_size counts");
    assert!(text(&body, body.len() + 1).starts_with("Inference-Header-Content-Length is"));
    assert!(text(&body, json.len() - 1).starts_with("the body is no request in JSON: EOF"));
    assert!(text(&body, json.len() + 1).starts_with("the body is no request in JSON: trailing"));
}

#[test]
fn outputs_that_are_binary_by_default() {
    let (request, forms) =
        read(r#"{"parameters":{"binary_data_output":true},"inputs":[],"outputs":[{"name":"a"}]}"#).unwrap();
    assert!(forms.binary && request.parameters.is_empty());
    assert_eq!(forms.by_output["a"], Form::Binary);
}

#[test]
fn binary_data_are_not_copied() {
    let json =
        r#"{"inputs":[{"name":"x","shape":[3],"datatype":"UINT8","parameters":{"binary_data_size":3}}]}"#;
    let body = Bytes::from([json.as_bytes(), &[1, 2, 3]].concat());
    let (request, _) = decode(&body, Some(json.len()), &Limits::default(), &SharedMemory::default()).unwrap();
    assert_eq!(request.inputs[0].1.bytes().as_ptr(), body[json.len()..].as_ptr());
}

/// The data may come before the datatype and the shape.
#[test]
fn members_in_any_order() {
    let body = r#"{"outputs":null,"extra":{"a":[1]},"inputs":[{"data":[1,2],"shape":[2],"more":1,"datatype":"INT8","name":"x"}],"id":null}"#;
    let (request, _) = read(body).unwrap();
    assert_eq!(request.inputs[0].1, Tensor::from_slice(&[2], &[1i8, 2]).unwrap());
}

#[test]
fn parameters_of_a_request() {
    let body = r#"{"parameters":{"priority":1,"timeout":1000000,"sequence_id":"s","sequence_start":true,"sequence_end":false,
        "k":1,"s":"x","b":true,"d":0.5},"inputs":[]}"#;
    let (request, _) = read(body).unwrap();
    assert_eq!(
        request.sequence,
        Some(Sequence { id: SequenceId::Text("s".into()), start: true, end: false })
    );
    let kept = [
        ("b", Parameter::Bool(true)),
        ("d", Parameter::Double(0.5)),
        ("k", Parameter::Int(1)),
        ("s", Parameter::Text("x".into())),
    ];
    assert_eq!(request.parameters, kept.map(|(name, value)| (name.to_string(), value)).into());
    for parameters in [
        r#"{"a":null}"#,
        r#"{"a":[1]}"#,
        r#"{"a":{}}"#,
        r#"{"a":1,"a":2}"#,
        r#"{"a":9223372036854775808}"#,
        "[]",
    ] {
        let failure = read(&format!(r#"{{"parameters":{parameters},"inputs":[]}}"#)).unwrap_err();
        assert!(failure.text.starts_with("the body is no request in JSON: "), "{parameters}: {failure}");
    }
}

#[test]
fn what_is_given_twice_or_not_at_all() {
    let text = |body: &str| read(body).unwrap_err().text;
    let x = r#"{"name":"x","shape":[1],"datatype":"INT8","data":[1]}"#;
    assert_eq!(text(&format!(r#"{{"inputs":[{x},{x}]}}"#)), "input 'x' is given twice");
    assert_eq!(text(r#"{"inputs":[],"outputs":[{"name":"y"},{"name":"y"}]}"#), "output 'y' is wanted twice");
    let nothing = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8"}]}"#;
    assert_eq!(
        text(nothing),
        "input 'x': it has neither data, nor binary_data_size, nor shared_memory_region"
    );
    let both = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8","data":[1],"parameters":{"binary_data_size":1}}]}"#;
    assert_eq!(text(both), "input 'x': data, binary_data_size and shared_memory_region exclude each other");
    let shared = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"INT8",
        "parameters":{"shared_memory_region":"cat","shared_memory_byte_size":1}}]}"#;
    assert_eq!(text(shared), "input 'x': region 'cat' is not registered");
    for body in ["", "[]", "{}", "1", "{\"inputs\":{}}", "{\"inputs\":[],\"inputs\":[]}", "{\"inputs\":[]} x"]
    {
        assert!(text(body).starts_with("the body is no request in JSON: "), "{body}");
    }
}

#[test]
fn more_than_the_limits() {
    let limits = Limits { tensors: 1, parameters: 1, ..Limits::default() };
    let x = r#"{"name":"x","shape":[1],"datatype":"INT8","data":[1]}"#;
    let bodies = [
        format!(r#"{{"inputs":[{x},{x}]}}"#),
        r#"{"inputs":[],"outputs":[{"name":"a"},{"name":"b"}]}"#.into(),
        r#"{"inputs":[],"parameters":{"a":1,"b":2}}"#.into(),
        r#"{"inputs":[],"outputs":[{"name":"a","parameters":{"a":1,"b":2}}]}"#.into(),
    ];
    for body in bodies {
        let failure = decode(&body.clone().into(), None, &limits, &SharedMemory::default()).unwrap_err();
        assert_eq!(failure.reason, Reason::TooLarge, "{body}");
    }
}

#[test]
fn bodies_without_json() {
    let body = Bytes::from_static(b"\0\0\x80?\0\0\0@");
    let floats = [1.0f32, 2.0];
    let raw = |dtype, dims: &[Option<usize>], batched| raw_input(dtype, dims, batched, body.clone());
    let rows = Tensor::from_slice(&[2, 1], &floats).unwrap();
    assert_eq!(raw(DType::F32, &[Some(1)], true).unwrap(), rows);
    assert_eq!(raw(DType::F32, &[Some(2)], true).unwrap(), Tensor::from_slice(&[1, 2], &floats).unwrap());
    assert_eq!(
        raw(DType::F32, &[None, Some(1)], false).unwrap(),
        Tensor::from_slice(&[2, 1], &floats).unwrap()
    );
    assert!(raw(DType::F32, &[None, Some(3)], false).is_err());
    assert!(raw(DType::F32, &[None, Some(0)], false).is_err());
    assert!(raw(DType::F32, &[None, None], false).is_err());
    assert!(raw(DType::F32, &[Some(3)], false).is_err());
    assert!(raw(DType::F32, &[None, Some(usize::MAX), Some(usize::MAX)], false).is_err());
    let text = |dims: &[Option<usize>]| raw_input(DType::String, dims, true, Bytes::from_static(b"a cat"));
    let expected = Tensor::from_strings(&[1, 1], vec!["a cat".into()]).unwrap();
    assert_eq!(text(&[Some(1)]).unwrap(), expected);
    assert_eq!(text(&[None]).unwrap(), expected);
    assert!(text(&[Some(2)]).is_err());
}

/// A request with every feature, as JSON with binary data after it.
fn whole() -> (Vec<u8>, usize) {
    let json = concat!(
        r#"{"id":"a","parameters":{"timeout":5,"sequence_id":3,"x":1.5},"inputs":["#,
        r#"{"name":"a","shape":[2,2],"datatype":"FP32","data":[[1,2.5],[-3e2,4]]},"#,
        r#"{"name":"b","shape":[2],"datatype":"BYTES","parameters":{"binary_data_size":10}},"#,
        r#"{"name":"c","shape":[1],"datatype":"BYTES","data":["\u00e4\\"]},"#,
        r#"{"name":"d","shape":[2],"datatype":"INT16","parameters":{"binary_data_size":4}}],"#,
        r#""outputs":[{"name":"o","parameters":{"classification":1}}]}"#
    );
    ([json.as_bytes(), b"\x02\0\0\0ab\0\0\0\0\x01\0\xff\xff"].concat(), json.len())
}

#[test]
fn the_whole_request_is_one() {
    let (body, json_bytes) = whole();
    assert_eq!(read_binary(&body, Some(json_bytes)).unwrap().0.inputs.len(), 4);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

    /// Changed requests are read or refused, and what is read has the elements that it says.
    #[test]
    fn changed_requests(changes in prop::collection::vec((any::<prop::sample::Index>(), change()), 1..4), header in any::<u8>()) {
        let (mut body, json_bytes) = whole();
        for (at, change) in changes {
            let at = at.index(body.len().max(1));
            match change {
                Change::Put(byte) => { if let Some(place) = body.get_mut(at) { *place = byte } }
                Change::Insert(text) => { body.splice(at..at, text.bytes()); }
                Change::Cut(length) => { body.drain(at..(at + length).min(body.len())); }
            }
        }
        let json_bytes = match header {
            0..200 => Some(json_bytes),
            200..220 => None,
            _ => Some(usize::from(header)),
        };
        if let Ok((request, _)) = read_binary(&body, json_bytes) {
            for (_, tensor) in request.inputs {
                prop_assert!(tensor.dtype() == DType::String || tensor.dtype().bytes_of(tensor.len()) == Some(tensor.bytes().len()));
            }
        }
    }

    /// Any text in place of a tensor's data, too.
    #[test]
    fn any_data(data in "[\\[\\],0-9eE.\"\\\\a-f{}: -]{0,40}", datatype in 0usize..14, size in 0usize..9) {
        let names = ["BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP32", "FP64", "BYTES", "FP16", "BF16"];
        let dtype = datatype::parse(names[datatype]).unwrap();
        let _ = json::tensor(dtype, &[size], &data);
        let _ = input(names[datatype], &format!("[{size}]"), &data);
    }

    /// Numbers come back as they were sent.
    #[test]
    fn numbers_come_back(floats in prop::collection::vec(prop::num::f32::NORMAL | prop::num::f32::SUBNORMAL | prop::num::f32::ZERO, 0..20),
        doubles in prop::collection::vec(prop::num::f64::NORMAL | prop::num::f64::SUBNORMAL, 0..20), longs in prop::collection::vec(any::<i64>(), 0..20)) {
        let tensors = [
            Tensor::from_slice(&[floats.len()], &floats).unwrap(),
            Tensor::from_slice(&[doubles.len()], &doubles).unwrap(),
            Tensor::from_slice(&[longs.len()], &longs).unwrap(),
        ];
        for tensor in tensors {
            let mut text = Vec::new();
            json::write(&mut text, &tensor).unwrap();
            let text = String::from_utf8(text).unwrap();
            prop_assert_eq!(json::tensor(tensor.dtype(), tensor.shape(), &text).unwrap(), tensor);
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Put(u8),
    Insert(String),
    Cut(usize),
}

fn change() -> impl Strategy<Value = Change> {
    let pieces = [
        "[",
        "]",
        "{",
        "}",
        "\"",
        ",",
        ":",
        "null",
        "-1",
        "1e999",
        "18446744073709551615",
        "0",
        "\\",
        "true",
        "\"data\":",
        "\u{e4}",
    ];
    prop_oneof![
        any::<u8>().prop_map(Change::Put),
        prop::sample::select(pieces.to_vec()).prop_map(|piece| Change::Insert(piece.into())),
        (1usize..40).prop_map(Change::Cut),
    ]
}
