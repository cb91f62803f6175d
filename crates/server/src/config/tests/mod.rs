//! Configurations as people write them, completed from small ONNX files.

mod hostile;
mod lengths;

use std::collections::BTreeMap;

use sardonyx::Model;
use sardonyx_testing::onnx::build::{FLOAT, INT64, STRING, bytes, graph, model, node, sequence, value};
use sardonyx_testing::onnx::proto::ValueInfoProto;

use super::*;

/// Files in memory.
#[derive(Default)]
struct Memory(BTreeMap<&'static str, Vec<u8>>);

impl Files for Memory {
    fn read(&self, path: &str) -> Result<Option<Bytes>, Failure> {
        Ok(self.0.get(path).map(|bytes| Bytes::from(bytes.clone())))
    }
}

/// A model with these inputs and outputs.
fn ports(inputs: Vec<ValueInfoProto>, outputs: Vec<ValueInfoProto>) -> Model {
    let first = inputs[0].name.clone();
    let nodes = outputs.iter().map(|output| node("Identity", &[&first], &[&output.name]));
    let mut graph = graph(&[], nodes.collect(), &[]);
    (graph.input, graph.output) = (inputs, outputs);
    Model::from_bytes(bytes(&model(17, graph))).unwrap()
}

/// `x: float32[batch, 3, width]` to `y: float32[batch, 3, width]`.
fn batched() -> Model {
    let of = |name: &str| value(name, FLOAT, &["batch", "3", "width"]);
    ports(vec![of("x")], vec![of("y")])
}

/// `x: float32[1, 3]` to `y: float32[1, 3]`.
fn single() -> Model {
    ports(vec![value("x", FLOAT, &["1", "3"])], vec![value("y", FLOAT, &["1", "3"])])
}

fn complete(pbtxt: &str, model: &Model) -> Result<Config, String> {
    let given = from_pbtxt(pbtxt).map_err(|failure| failure.text)?;
    Config::complete(given, "m", Some(model), &Memory::default()).map_err(|failure| failure.text)
}

fn refused(pbtxt: &str, model: &Model, part: &str) {
    let text = complete(pbtxt, model).unwrap_err();
    assert!(text.contains(part), "{pbtxt}: {text}");
}

#[test]
fn a_model_that_names_its_batch_needs_no_configuration() {
    let config = complete("", &batched()).unwrap();
    assert_eq!(config.max_batch, 4);
    assert_eq!(config.scheduling, Scheduling::Batched(Batching::default()));
    assert_eq!((config.inputs[0].dtype, &config.inputs[0].dims[..]), (DType::F32, &[Some(3), None][..]));
    assert_eq!(config.outputs[0].name, "y");
    assert_eq!((config.file.as_str(), &config.versions), ("model.onnx", &VersionPolicy::Latest(1)));
    assert_eq!(config.instances, [InstanceGroup { count: 1, place: Placement::Any }]);
    assert_eq!(config.shown.input[0].dims, [3, -1]);
}

#[test]
fn requests_are_joined_only_along_a_batch() {
    let float = |name: &str, dims: &[&str]| value(name, FLOAT, dims);
    let pair = |x: &[&str], y: &[&str]| ports(vec![float("x", x)], vec![float("y", y)]);
    let max_batch = |model: &Model| complete("", model).unwrap().max_batch;
    assert_eq!(max_batch(&pair(&["N", "3"], &["N", "3"])), 4);
    // The sizes are fixed; they have other names; one is no batch; one is a size of each row too.
    assert_eq!(max_batch(&single()), 0);
    assert_eq!(max_batch(&pair(&["N", "3"], &["M", "3"])), 0);
    assert_eq!(max_batch(&pair(&["sequence_length", "3"], &["sequence_length", "3"])), 0);
    assert_eq!(max_batch(&pair(&["N", "N"], &["N", "N"])), 0);
    let mixed = ports(vec![float("x", &["N", "3"]), float("scale", &["1"])], vec![float("y", &["N", "3"])]);
    assert_eq!(max_batch(&mixed), 0);
    let config = complete("", &pair(&["M", "3"], &["N", "3"])).unwrap();
    assert_eq!(config.inputs[0].dims, [None, Some(3)]);
    assert_eq!(config.scheduling, Scheduling::Single(QueuePolicy::default()));
}

#[test]
fn a_configuration_with_all_dims_turns_batches_off() {
    let input = r#"input { name: "x" data_type: TYPE_FP32 dims: [ -1, 3, -1 ] }"#;
    let config = complete(input, &batched()).unwrap();
    assert_eq!((config.max_batch, config.inputs[0].dims.len()), (0, 3));
    // Without the batch's dimension, the configuration means one.
    let config = complete(r#"input { name: "x" dims: [ 3, 224 ] }"#, &batched()).unwrap();
    assert_eq!((config.max_batch, &config.inputs[0].dims[..]), (4, &[Some(3), Some(224)][..]));
}

#[test]
fn what_a_configuration_says_is_kept() {
    let config = complete(
        r#"
        # A comment.
        name: "m" platform: "onnxruntime_onnx" max_batch_size: 16
        input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] allow_ragged_batch: true } ]
        output [ { name: "y" data_type: TYPE_FP32 dims: [ 3, -1 ] } ]
        instance_group [ { kind: KIND_GPU count: 2 gpus: [ 0, 1 ] }, { kind: KIND_CPU } ]
        version_policy { specific { versions: [ 3, 1 ] } }
        dynamic_batching {
            preferred_batch_size: [ 8, 4, 8 ] max_queue_delay_microseconds: 500 preserve_ordering: true
            priority_levels: 2 default_priority_level: 2
            default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 100 max_queue_size: 7 }
            priority_queue_policy { key: 1 value { allow_timeout_override: true } }
        }
        response_cache { enable: true }
        parameters { key: "pad_to_preferred" value { string_value: "true" } }
        parameters { key: "version_labels" value { string_value: "stable=1" } }
        parameters { key: "device_memory_limit" value { string_value: "1GiB" } }
        parameters { key: "mine" value { string_value: "kept" } }
        optimization { cuda { graphs: true } }
        "#,
        &batched(),
    )
    .unwrap();
    let ms = Duration::from_micros;
    let policy = QueuePolicy { max_size: 7, timeout: Some(ms(100)), may_shorten: false, delays: true };
    assert_eq!(
        config.scheduling,
        Scheduling::Batched(Batching {
            preferred: vec![4, 8],
            delay: ms(500),
            keep_order: true,
            levels: 2,
            default_level: 2,
            policy,
            policies: BTreeMap::from([(1, QueuePolicy { may_shorten: true, ..QueuePolicy::default() })]),
            pad: true,
        })
    );
    assert_eq!(
        config.instances,
        [
            InstanceGroup { count: 2, place: Placement::Devices(vec![0, 1]) },
            InstanceGroup { count: 1, place: Placement::Reference }
        ]
    );
    assert!(config.inputs[0].ragged && config.response_cache);
    assert_eq!(config.versions, VersionPolicy::Specific(vec![1, 3]));
    assert_eq!(config.version_labels["stable"], 1);
    assert_eq!(config.device_memory_limit, Some(1 << 30));
    assert_eq!(config.parameters["mine"], "kept");
}

#[test]
fn contradictions_to_the_onnx_file_are_named() {
    let x = |fields: &str| format!(r#"max_batch_size: 2 input {{ name: "x" {fields} }}"#);
    refused(
        &x("data_type: TYPE_INT32"),
        &batched(),
        "TYPE_INT32 in the configuration and TYPE_FP32 in the ONNX file",
    );
    refused(&x("dims: [ 4, -1 ]"), &batched(), "x: float32[batch, 3, width]");
    refused(&x("dims: [ -1, -1 ]"), &batched(), "dims [-1, -1]");
    refused(&x("dims: [ -1, 3, -1 ]"), &batched(), "of which the first is the batch");
    refused(&x("dims: [ 3, -2 ]"), &batched(), "-2");
    refused(&x("optional: true"), &batched(), "optional");
    refused(r#"input { name: "z" }"#, &batched(), "names input 'z', and the ONNX file has 'x'");
    refused(r#"output { name: "z" }"#, &batched(), "names output 'z', and the ONNX file has 'y'");
    refused(r#"input { name: "x" } input { name: "x" }"#, &batched(), "twice");
    refused("max_batch_size: 8", &single(), "export the model with a first dimension that has a name");
    refused("max_batch_size: -1", &batched(), "max_batch_size is -1");
    refused("name: 'other'", &batched(), "it is the folder's name");
    let two =
        ports(vec![value("x", FLOAT, &["N"]), value("k", INT64, &["N"])], vec![value("y", FLOAT, &["N"])]);
    refused(r#"input { name: "x" }"#, &two, "leaves out input 'k'");
}

#[test]
fn what_is_not_served_is_refused() {
    for (pbtxt, part) in [
        ("platform: 'tensorrt_plan'", "'tensorrt_plan'"),
        ("backend: 'python'", "'python'"),
        ("batch_input { kind: BATCH_ELEMENT_COUNT }", "batch_input"),
        ("batch_output { target_name: 'y' }", "batch_output"),
        ("model_transaction_policy { decoupled: true }", "decoupled"),
        ("cc_model_filenames { key: '8.0' value: 'x' }", "cc_model_filenames"),
        ("model_repository_agents { agents { name: 'checksum' } }", "model_repository_agents"),
        ("instance_group { kind: KIND_MODEL }", "KIND_MODEL"),
        ("instance_group { count: -1 }", "count is -1"),
        ("instance_group { count: 100000 }", "between 1 and 256"),
        ("instance_group { passive: true }", "passive"),
        ("instance_group { gpus: -1 }", "is -1"),
        ("input { name: 'x' is_shape_tensor: true }", "is_shape_tensor"),
        ("input { name: 'x' dims: [ 3, 1 ] reshape { shape: [ 3 ] } }", "reshape"),
        ("default_model_filename: '../x.onnx'", "default_model_filename"),
        ("version_policy { specific { versions: [ 0 ] } }", "version 0"),
        ("max_batch_size: 4 dynamic_batching { preferred_batch_size: 5 }", "between 1 and 4"),
        ("max_batch_size: 4 dynamic_batching { preferred_batch_size: -1 }", "preferred_batch_size is -1"),
        ("dynamic_batching { priority_levels: 2 }", "default_priority_level"),
        (
            "dynamic_batching { priority_levels: 18446744073709551615 default_priority_level: 1 }",
            "between 0 and 1024",
        ),
        ("dynamic_batching { priority_queue_policy { key: 3 } }", "level 3"),
        ("parameters { key: 'pad_to_preferred' value { string_value: 'x' } }", "'true' or 'false'"),
        (
            "model_warmup { name: 'w' inputs { key: 'x' value { data_type: TYPE_FP32 dims: [ 3, -1 ] } } }",
            "w",
        ),
        ("model_warmup { name: 'w' batch_size: 9 }", "batch_size is 9"),
        ("model_warmup { name: 'w' }", "has no input 'x'"),
        ("output { name: 'y' label_filename: 'labels.txt' }", "no such file"),
        ("platform: 'ensemble'", "ensemble_scheduling"),
    ] {
        refused(pbtxt, &batched(), part);
    }
}

#[test]
fn errors_say_where() {
    let text = |pbtxt: &str| from_pbtxt(pbtxt).unwrap_err().text;
    assert_eq!(
        text("name: 'a'\n  nme: 'b'"),
        "config.pbtxt:2:3: field 'nme' not found for message 'inference.ModelConfig'"
    );
    assert!(
        text("max_batch_size: 99999999999").starts_with("config.pbtxt:1:17: "),
        "{}",
        text("max_batch_size: 99999999999")
    );
    assert!(text("name: 'ä' input {").starts_with("config.pbtxt:1:18: "), "{}", text("name: 'ä' input {"));
    let text = from_toml("a = 1\nb = ").unwrap_err().text;
    assert!(text.starts_with("sardonyx.toml:2:"), "{text}");
    let text = from_toml("max_batch = 1").unwrap_err().text;
    assert!(text.contains("max_batch"), "{text}");
    let text = from_json("{\n\"name\": 3}").unwrap_err().text;
    assert!(text.contains("line 2"), "{text}");
}

#[test]
fn a_folder_has_one_configuration() {
    let pbtxt = ("config.pbtxt", b"max_batch_size: 2".to_vec());
    let toml = ("sardonyx.toml", b"max_batch_size = 3".to_vec());
    assert_eq!(read(&Memory(BTreeMap::from([pbtxt.clone()]))).unwrap().max_batch_size, 2);
    assert_eq!(read(&Memory(BTreeMap::from([toml.clone()]))).unwrap().max_batch_size, 3);
    assert!(read(&Memory(BTreeMap::from([pbtxt, toml]))).unwrap_err().text.contains("both"));
    assert_eq!(read(&Memory::default()).unwrap(), ModelConfig::default());
    assert!(
        read(&Memory(BTreeMap::from([("config.pbtxt", vec![b'\n', 0xff])])))
            .unwrap_err()
            .text
            .contains(":2:1:")
    );
}

#[test]
fn the_three_forms_say_the_same() {
    let pbtxt = from_pbtxt(
        "max_batch_size: 8 input { name: 'x' dims: [ 3, -1 ] } parameters { key: 'a' value { string_value: '1' } }",
    );
    let toml = from_toml("max_batch_size = 8\nparameters = { a = 1 }\n[[input]]\nname = 'x'\ndims = [3, -1]");
    let json = from_json(
        r#"{"max_batch_size": 8, "input": [{"name": "x", "dims": [3, "-1"]}], "parameters": {"a": {"string_value": "1"}}}"#,
    );
    assert_eq!(pbtxt, toml);
    assert_eq!(pbtxt, json);
}

#[test]
fn outputs_that_no_protocol_carries_are_left_out() {
    let outputs = vec![value("label", INT64, &["N"]), sequence(value("maps", FLOAT, &["N"]))];
    let nodes = vec![node("Identity", &["x"], &["label"]), node("SequenceConstruct", &["x"], &["maps"])];
    let mut graph = graph(&[], nodes, &[]);
    (graph.input, graph.output) = (vec![value("x", INT64, &["N"])], outputs);
    let model = Model::from_bytes(bytes(&model(17, graph))).unwrap();
    let config = complete("", &model).unwrap();
    assert_eq!(config.outputs.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["label"]);
    refused(r#"output { name: "maps" }"#, &model, "protocols carry tensors only");
}

#[test]
fn labels_and_warm_ups_come_from_files() {
    let files =
        Memory(BTreeMap::from([("labels.txt", b"cat\r\ndog\n".to_vec()), ("warmup/raw", vec![0; 24])]));
    let given = from_pbtxt(
        "output { name: 'y' label_filename: 'labels.txt' }
         model_warmup { name: 'w' batch_size: 2 inputs { key: 'x' value {
             data_type: TYPE_FP32 dims: [ 3, 1 ] input_data_file: 'raw' } } }",
    );
    let config = Config::complete(given.unwrap(), "m", Some(&batched()), &files).unwrap();
    assert_eq!(config.outputs[0].labels, ["cat", "dog"]);
    assert_eq!(config.warmups[0].inputs[0].values, WarmupValues::Data(vec![0; 24].into()));
    assert_eq!((config.warmups[0].rows, config.warmups[0].count), (2, 1));
}

#[test]
fn sequences_fill_inputs_and_keep_outputs() {
    let float = |name: &str, dims: &[&str]| value(name, FLOAT, dims);
    let model = ports(
        vec![
            float("x", &["N", "3"]),
            float("start", &["N", "1"]),
            value("id", INT64, &["N", "1"]),
            float("old", &["N", "2"]),
        ],
        vec![float("y", &["N", "3"]), float("new", &["N", "2"])],
    );
    let config = complete(
        "max_batch_size: 4 instance_group { count: 2 }
         sequence_batching {
             oldest { max_candidate_sequences: 8 }
             max_sequence_idle_microseconds: 5
             control_input { name: 'start' control { kind: CONTROL_SEQUENCE_START fp32_false_true: [ 0, 1 ] } }
             control_input { name: 'id' control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_INT64 } }
             state { input_name: 'old' output_name: 'new' initial_state { dims: [ 2 ] zero_data: true } }
         }",
        &model,
    )
    .unwrap();
    assert_eq!(config.inputs.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["x"]);
    assert_eq!(config.outputs.iter().map(|port| port.name.as_str()).collect::<Vec<_>>(), ["y"]);
    let Scheduling::Sequences(sequencing) = config.scheduling else { panic!("{:?}", config.scheduling) };
    assert_eq!((sequencing.idle, sequencing.max_sequences), (Duration::from_micros(5), 16));
    assert_eq!(sequencing.controls[0].no_yes, [0.0, 1.0]);
    assert_eq!(
        sequencing.controls[1],
        Control { input: "id".into(), dtype: DType::I64, kind: ControlKind::Id, no_yes: [0.0, 1.0] }
    );
    let state = &sequencing.states[0];
    assert_eq!((state.dtype, &state.dims[..]), (DType::F32, &[Some(2)][..]));
    assert_eq!(state.initial, Some((vec![2], vec![0; 8])));
    refused(
        "sequence_batching { control_input { name: 'q' control { int32_false_true: [ 0, 1 ] } } }",
        &model,
        "'q'",
    );
    refused(
        "sequence_batching { control_input { name: 'start' control { fp32_false_true: 0 } } }",
        &model,
        "two values",
    );
    refused("sequence_batching { state { input_name: 'old' output_name: 'y' } }", &model, "[3]");
    let listed = "input [ { name: 'x' }, { name: 'id' }, { name: 'start' }, { name: 'old' } ]
                  sequence_batching { state { input_name: 'old' output_name: 'new' } }";
    refused(listed, &model, "input 'old' is filled by the server");
    let huge = "sequence_batching { state { input_name: 'x' output_name: 'y' initial_state { dims: [ 1099511627776 ] } } }";
    refused(huge, &model, "more than");
}

#[test]
fn ensembles_are_complete_by_themselves() {
    let ensemble = |steps: &str| {
        let given = from_pbtxt(&format!(
            "platform: 'ensemble' max_batch_size: 4
             input {{ name: 'raw' data_type: TYPE_STRING dims: [ 1 ] }} output {{ name: 'out' data_type: TYPE_FP32 dims: [ 3 ] }}
             ensemble_scheduling {{ step [ {steps} ] }}"
        ));
        Config::complete(given.unwrap(), "e", None, &Memory::default()).map_err(|failure| failure.text)
    };
    let classify = "{ model_name: 'classify' model_version: 2 input_map { key: 'x' value: 'image' } \
                      output_map { key: 'y' value: 'out' } }";
    let decode = "{ model_name: 'decode' model_version: -1 input_map { key: 'b' value: 'raw' } \
                    output_map { key: 'i' value: 'image' } }";
    let config = ensemble(&format!("{classify}, {decode}")).unwrap();
    let Scheduling::Ensemble(steps) = config.scheduling else { panic!() };
    assert_eq!(
        steps.iter().map(|step| (step.model.as_str(), step.version)).collect::<Vec<_>>(),
        [("decode", None), ("classify", Some(2))]
    );
    assert!(config.instances.is_empty());
    assert!(ensemble(classify).unwrap_err().contains("'image'"));
    assert!(ensemble(decode).unwrap_err().contains("'out'"));
    assert!(ensemble(&format!("{decode}, {decode}, {classify}")).unwrap_err().contains("twice"));
    assert!(ensemble("").unwrap_err().contains("no step"));
}

/// Triton 2.51 gave the file for a model with this configuration.
#[test]
fn json_has_the_form_of_tritons() {
    let golden = include_str!("triton.json");
    let golden: serde_json::Value = serde_json::from_str(golden).unwrap();
    let given = from_pbtxt(
        "backend: 'onnxruntime' max_batch_size: 4
         input { name: 'X' data_type: TYPE_STRING dims: [ -1 ] } output { name: 'Y' data_type: TYPE_STRING dims: [ -1 ] }
         dynamic_batching {
             preferred_batch_size: 4 max_queue_delay_microseconds: 100 priority_levels: 2 default_priority_level: 2
             default_queue_policy { default_timeout_microseconds: 300000 allow_timeout_override: true max_queue_size: 4 } }
         instance_group { kind: KIND_CPU }",
    );
    let model = ports(vec![value("X", STRING, &["N", "D"])], vec![value("Y", STRING, &["N", "D"])]);
    let mut shown = Config::complete(given.unwrap(), "slow", Some(&model), &Memory::default())
        .unwrap()
        .to_json()
        .unwrap();
    for (key, ours, theirs) in [
        ("platform", "onnx_onnxv1", ""),
        ("backend", "onnxruntime", "python"),
        ("default_model_filename", "model.onnx", "model.py"),
    ] {
        assert_eq!((&shown[key], &golden[key]), (&ours.into(), &theirs.into()));
        shown[key] = theirs.into();
    }
    assert_eq!(shown, golden);
}
