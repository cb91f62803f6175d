//! The command line, as a user meets it: what it prints, its exit codes, its files.
//!
//! Commands that need an adapter need a Vulkan, Metal or DX12 one here; `scripts/test.sh` installs a software Vulkan.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Stdio;

use sardonyx::{Datum, Tensor};
use sardonyx_testing::models;
use sardonyx_testing::onnx::build::*;
use sardonyx_testing::onnx::proto::{ModelProto, TensorProto};
use serde_json::Value;

use crate::npy::{array, entries, save_npz};
use crate::program::{Ended, ModelFolder, output, program, run, save};

const STRING: i32 = 8;

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&output(arguments)).unwrap()
}

fn adapter() -> String {
    let devices = json(&["devices", "--json"]);
    let name = devices["adapters"][0]["name"].as_str();
    name.expect("these tests need an adapter: scripts/test.sh installs a software Vulkan").to_string()
}

/// Runs the program so that it finds no driver. This works on Linux only: elsewhere drivers are part of the system.
#[cfg(target_os = "linux")]
fn without_adapter(arguments: &[&str]) -> Ended {
    let nothing = [("VK_DRIVER_FILES", "/nonexistent"), ("VK_ICD_FILENAMES", "/nonexistent")];
    program().args(arguments).envs(nothing).env_remove("VK_ADD_DRIVER_FILES").output().unwrap().into()
}

fn unary(op_type: &str, dims: &[&str]) -> ModelProto {
    let mut main = graph(&[], vec![node(op_type, &["x"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, dims)];
    model(17, main)
}

#[test]
fn exit_codes_and_help() {
    assert_eq!(run(&["--help"]).code, 0);
    let version = format!("sardonyx {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(output(&["--version"]), version);
    for wrong in [&["frobnicate"][..], &[], &["run"], &["bench", "no-such.onnx", "--runs", "x"]] {
        assert_eq!(run(wrong).code, 2, "{wrong:?}");
    }
    let ended = run(&["run", "no-such.onnx"]);
    assert_eq!((ended.code, ended.out.as_str()), (2, ""));
    assert!(ended.err.starts_with("error: no-such.onnx: "), "{ended:?}");
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("text.onnx");
    std::fs::write(&text, "this is no model").unwrap();
    let ended = run(&["inspect", text.to_str().unwrap()]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("not an ONNX model"), "{ended:?}");
}

#[test]
fn devices_say_what_matters() {
    let name = adapter();
    let devices = json(&["devices", "--json"]);
    let first = &devices["adapters"][0];
    for key in ["name", "backend", "driver", "kind"] {
        assert!(first[key].is_string(), "{key}: {first}");
    }
    for key in ["max_storage_buffer_binding_size", "max_buffer_size", "min_storage_buffer_offset_alignment"] {
        assert!(first[key].as_u64().unwrap() > 0, "{key}");
    }
    assert!(
        first["software"].is_boolean() && first["features"].is_array() && first["subgroup_sizes"].is_array()
    );
    let text = output(&["devices"]);
    for word in [name.as_str(), "backend", "driver", "features", "subgroups", "per binding"] {
        assert!(text.contains(word), "{word}: {text}");
    }
}

#[test]
fn a_device_is_named_by_a_part_of_its_name_or_by_its_backend() {
    let name = adapter();
    let backend = json(&["devices", "--json"])["adapters"][0]["backend"].as_str().unwrap().to_string();
    let place = ModelFolder::of(&unary("Relu", &["2"]));
    let part: String = name.chars().take(5).collect();
    for device in [name.as_str(), &part.to_uppercase(), &part.to_lowercase(), &backend, "gpu", "auto"] {
        let ran = json(&["run", &place.model, "--device", device, "--json"]);
        assert_ne!(ran["device"], "CPU reference", "{device}");
        assert_eq!(ran["plan"]["dispatches"], 1);
    }
    let ran = json(&["run", &place.model, "--device", "cpu", "--json"]);
    assert_eq!((ran["device"].as_str(), &ran["plan"]), (Some("CPU reference"), &Value::Null));
    let ended = run(&["run", &place.model, "--device", "no such device"]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("no GPU adapter matches 'no such device'"), "{ended:?}");
    let ended = run(&["run", &place.model, "--device", "cpu", "--require-gpu"]);
    assert_eq!(ended.code, 2);
}

#[test]
fn a_device_is_named_by_its_index() {
    adapter();
    let devices = json(&["devices", "--json"]);
    let adapters = devices["adapters"].as_array().unwrap();
    let place = ModelFolder::of(&unary("Relu", &["2"]));
    for (index, found) in adapters.iter().enumerate() {
        assert_eq!(found["index"], index);
        let ran = json(&["run", &place.model, "--device", &index.to_string(), "--json"]);
        assert_eq!(ran["device"], found["name"]);
        assert!(output(&["devices"]).contains(&format!("{index}: {}", found["name"].as_str().unwrap())));
    }
    let taken: Vec<&Value> = adapters.iter().filter(|found| found["auto"] == true).collect();
    assert_eq!(taken.len(), 1);
    assert!(output(&["devices"]).contains("(what `auto` takes)"));
    assert_eq!(json(&["run", &place.model, "--json"])["device"], taken[0]["name"]);
    // Software is taken only where there is nothing else, and lavapipe before other software.
    let hardware = adapters.iter().any(|found| found["software"] == false);
    assert_eq!(taken[0]["software"], !hardware);
    let is_lavapipe = |found: &&Value| found["name"].as_str().unwrap().contains("llvmpipe");
    if !hardware && adapters.iter().any(|found| is_lavapipe(&found)) {
        assert!(is_lavapipe(&taken[0]));
    }
    let ended = run(&["run", &place.model, "--device", "99"]);
    assert!(ended.code == 2 && ended.err.contains("no GPU adapter has the index 99: there "), "{ended:?}");
    let ended = run(&["run", &place.model, "--require-hardware"]);
    if hardware {
        assert_eq!(ended.code, 0);
    } else {
        assert!(ended.code == 2 && ended.err.contains("no GPU adapter is hardware"), "{ended:?}");
    }
    for found in adapters.iter().filter(|found| found["software"] == true) {
        let index = found["index"].to_string();
        let ended = run(&["bench", &place.model, "--require-hardware", "--device", &index]);
        assert!(ended.code == 2 && ended.err.contains("of those asked for is hardware"), "{ended:?}");
    }
    let ended = run(&["run", &place.model, "--device", "cpu", "--require-hardware"]);
    assert!(ended.code == 2 && ended.err.contains("exclude each other"), "{ended:?}");
}

#[cfg(target_os = "linux")]
#[test]
fn without_an_adapter_auto_says_so_in_one_line_and_gpu_says_what_to_install() {
    let place = ModelFolder::of(&unary("Relu", &["2"]));
    let ended = without_adapter(&["run", &place.model]);
    assert_eq!((ended.code, ended.err.lines().count()), (0, 1), "{ended:?}");
    assert!(ended.err.contains("CPU reference") && ended.err.contains("mesa-vulkan-drivers"), "{ended:?}");
    assert!(ended.out.contains("every node on the CPU reference"), "{ended:?}");
    let ended = without_adapter(&["run", &place.model, "--device", "cpu"]);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "who asks for the reference needs no notice");
    for refused in [&["--device", "gpu"][..], &["--require-gpu"], &["--device", "vulkan"]] {
        for command in ["run", "bench", "verify"] {
            let ended = without_adapter(&[&[command, &place.model], refused].concat());
            assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{command} {refused:?}");
            assert!(ended.err.contains("mesa-vulkan-drivers"), "{ended:?}");
        }
    }
    assert_eq!(without_adapter(&["verify", &place.model]).code, 2);
    let devices = without_adapter(&["devices", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&devices.out).unwrap()["adapters"], Value::Array(vec![]));
    assert!(without_adapter(&["devices"]).out.contains("no adapters"));
}

/// A model that returns each of its inputs: `out NAME` for `NAME`.
fn identities(inputs: &[(&str, i32, &[&str])]) -> ModelProto {
    let outputs: Vec<String> = inputs.iter().map(|(name, ..)| format!("{name}.out")).collect();
    let nodes = inputs.iter().zip(&outputs).map(|((name, ..), output)| node("Identity", &[name], &[output]));
    let mut main = graph(&[], nodes.collect(), &[]);
    main.input = inputs.iter().map(|(name, dtype, dims)| value(name, *dtype, dims)).collect();
    main.output =
        inputs.iter().zip(&outputs).map(|((_, dtype, dims), output)| value(output, *dtype, dims)).collect();
    model(21, main)
}

/// numpy's description, ONNX's number, and three elements as numpy stores them.
fn dtypes() -> Vec<(&'static str, i32, Vec<u8>)> {
    macro_rules! bytes {
        ($($value:expr),*) => { [$($value.to_le_bytes().to_vec()),*].concat() };
    }
    let text = |words: [&str; 3]| -> Vec<u8> {
        let padded =
            words.map(|word| word.chars().chain("\0".repeat(4).chars()).take(4).collect::<Vec<char>>());
        padded.concat().into_iter().flat_map(|c| u32::from(c).to_le_bytes()).collect()
    };
    vec![
        ("<f4", 1, bytes![1.5f32, f32::NAN, -0.0f32]),
        ("|u1", 2, vec![0, 128, 255]),
        ("|i1", 3, vec![0, 128, 127]),
        ("<u2", 4, bytes![0u16, 65_535u16, 1u16]),
        ("<i2", 5, bytes![i16::MIN, 0i16, i16::MAX]),
        ("<i4", 6, bytes![i32::MIN, 0i32, i32::MAX]),
        ("<i8", 7, bytes![i64::MIN, 0i64, i64::MAX]),
        ("<U4", 8, text(["onyx", "", "ß水🎉"])),
        ("|b1", 9, vec![0, 1, 1]),
        ("<f2", 10, bytes![0x3c00u16, 0x7c00u16, 0x0001u16]),
        ("<f8", 11, bytes![0.1f64, f64::NEG_INFINITY, 5e-324f64]),
        ("<u4", 12, bytes![0u32, u32::MAX, 1u32]),
        ("<u8", 13, bytes![0u64, u64::MAX, 1u64]),
        ("<c8", 14, bytes![1f32, 2f32, 3f32, 4f32, 5f32, 6f32]),
        ("<c16", 15, bytes![1f64, 2f64, 3f64, 4f64, 5f64, 6f64]),
    ]
}

#[test]
fn arrays_of_every_dtype_come_back_as_they_went() {
    let dtypes = dtypes();
    // Complex numbers are read and written, and the reference has no arithmetic for them.
    let real = || dtypes.iter().filter(|(descr, ..)| !descr.contains('c'));
    let inputs: Vec<(&str, i32, &[&str])> =
        real().map(|(descr, onnx, _)| (*descr, *onnx, &["3"] as &[&str])).collect();
    let place = ModelFolder::of(&identities(&inputs));
    let arrays: Vec<(String, Vec<u8>)> =
        real().map(|(descr, _, raw)| (descr.to_string(), array(descr, false, "(3,)", raw))).collect();
    save_npz(&place.path("in.npz"), &arrays);
    let files = ["--inputs", &place.path("in.npz"), "--outputs", &place.path("out.npz")];
    output(&[&["run", &place.model, "--device", "cpu"], &files[..]].concat());
    let written = entries(Path::new(&place.path("out.npz")));
    assert_eq!(written.len(), inputs.len());
    for ((name, entry), (descr, _, raw)) in written.iter().zip(real()) {
        assert_eq!(name, &format!("{descr}.out.npy"));
        assert_eq!(entry.descr, *descr);
        assert_eq!((entry.shape.as_str(), entry.fortran), ("(3,)", false));
        assert_eq!(&entry.raw, raw, "{descr}");
    }
}

#[test]
fn arrays_in_other_orders_are_converted() {
    let place = ModelFolder::of(&identities(&[
        ("f", FLOAT, &["2", "3"]),
        ("b", INT64, &["2"]),
        ("z", FLOAT, &["0", "4"]),
        ("s", FLOAT, &[]),
    ]));
    let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let arrays = [
        ("f", array("<f4", true, "(2, 3)", &floats(&[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]))),
        ("b", array(">i8", false, "(2,)", &[0, 0, 0, 0, 0, 0, 1, 2, 255, 255, 255, 255, 255, 255, 255, 254])),
        ("z", array("<f4", false, "(0, 4)", &[])),
        ("s", array("<f4", false, "()", &floats(&[7.5]))),
    ];
    save_npz(&place.path("in.npz"), &arrays.map(|(name, bytes)| (name.to_string(), bytes)));
    let files = ["--inputs", &place.path("in.npz"), "--outputs", &place.path("out.npz")];
    for device in ["cpu", &adapter()] {
        output(&[&["run", &place.model, "--device", device], &files[..]].concat());
        let written: Vec<_> =
            entries(Path::new(&place.path("out.npz"))).into_iter().map(|(_, e)| e).collect();
        assert_eq!(written[0].raw, floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
        assert_eq!(written[1].raw, [258i64, -2].map(i64::to_le_bytes).concat());
        assert_eq!((written[2].shape.as_str(), written[2].raw.len()), ("(0, 4)", 0));
        assert_eq!((written[3].shape.as_str(), &written[3].raw), ("()", &floats(&[7.5])));
    }
}

#[test]
fn arrays_that_cannot_be_are_refused_by_name() {
    let place = ModelFolder::of(&identities(&[("x", FLOAT, &["2"])]));
    let refused = |bytes: Vec<u8>, why: &str| {
        let file = place.path("x.npy");
        std::fs::write(&file, bytes).unwrap();
        let ended = run(&["run", &place.model, "-i", &format!("x={file}")]);
        assert_eq!(ended.code, 2);
        assert!(ended.err.contains(&file) && ended.err.contains(why), "{why}: {}", ended.err);
    };
    refused(vec![], "too short");
    refused(b"no numpy at all".to_vec(), "it is no .npy file but a text file");
    refused(array("<f4", false, "(2,)", &[0; 7]), "cut short");
    refused(array("<f4", false, "(4294967296, 4294967296)", &[0; 8]), "too large");
    refused(array("|O", false, "(2,)", &[0; 8]), "Python objects");
    refused(array("<M8[ns]", false, "(2,)", &[0; 16]), "M8");
    refused(array("<f16", false, "(2,)", &[0; 32]), "f16");
    refused(array("<U1", false, "(2,)", &[0, 0xd8, 0, 0, 0, 0, 0, 0]), "no text");
    refused(array("<V2", false, "(2,)", &[0; 4]), "void");
    refused([b"\x93NUMPY\x02\x00\xff\xff\xff\xff".as_slice(), &[b' '; 100]].concat(), "4.0 GiB");
    let file = place.path("x.npy");
    std::fs::write(&file, array("<f8", false, "(2,)", &[0; 16])).unwrap();
    let ended = run(&["run", &place.model, "-i", &format!("x={file}")]);
    assert!(ended.err.contains("input 'x': is float64, and the model takes float32"), "{ended:?}");
}

#[test]
fn names_may_have_any_characters() {
    let names = [
        "a/b",
        "serving:0",
        "x=1",
        "../up",
        "/root",
        "back\\slash",
        "two words",
        "ß水",
        "x.npy",
        "tab\t",
        "C:",
    ];
    let inputs: Vec<(&str, i32, &[&str])> =
        names.iter().map(|name| (*name, FLOAT, &["1"] as &[&str])).collect();
    let place = ModelFolder::of(&identities(&inputs));
    let one = |i: usize| array("<f4", false, "(1,)", &(i as f32).to_le_bytes());
    let arrays: Vec<(String, Vec<u8>)> =
        names.iter().enumerate().map(|(i, name)| (name.to_string(), one(i))).collect();
    save_npz(&place.path("in.npz"), &arrays);
    output(&[
        "run",
        &place.model,
        "--device",
        "cpu",
        "--inputs",
        &place.path("in.npz"),
        "--outputs",
        &place.path("out.npz"),
    ]);
    let written = entries(Path::new(&place.path("out.npz")));
    let found: Vec<String> = written.iter().map(|(name, _)| name.clone()).collect();
    assert_eq!(found, names.map(|name| format!("{name}.out.npy")));
    for (i, (_, entry)) in written.iter().enumerate() {
        assert_eq!(entry.raw, (i as f32).to_le_bytes());
    }
    // One by one, too: the first '=' that ends the name of an input counts.
    std::fs::write(place.path("one.npy"), one(1)).unwrap();
    let mut arguments = vec!["run".to_string(), place.model.clone(), "--device".into(), "cpu".into()];
    names
        .iter()
        .for_each(|name| arguments.extend(["-i".into(), format!("{name}={}", place.path("one.npy"))]));
    output(&arguments);
    let ended = run(&["run", &place.model, "-i", "y=z"]);
    assert!(ended.code == 2 && ended.err.contains("the inputs are a/b, serving:0"), "{ended:?}");
}

#[test]
fn random_inputs_follow_from_the_seed() {
    let place = ModelFolder::of(&unary("Identity", &["rows", "3"]));
    let y = |seed: &str, shape: &str| {
        output(&[
            "run",
            &place.model,
            "--device",
            "cpu",
            "--shape",
            shape,
            "--seed",
            seed,
            "--outputs",
            &place.path("y.npz"),
        ]);
        entries(Path::new(&place.path("y.npz"))).remove(0).1
    };
    let (first, again, other) = (y("1", "x=2x3"), y("1", "x=2x3"), y("2", "x=2x3"));
    assert_eq!(first.shape, "(2, 3)");
    assert_eq!(first.raw, again.raw);
    assert_ne!(first.raw, other.raw);
    for (shape, why) in [
        ("x=2x4", "the model takes x: float32[rows, 3]; a shape for it is written as 1x3"),
        ("x=2xthree", "'three' is no size"),
        ("z=1", "the inputs are x"),
    ] {
        let ended = run(&["run", &place.model, "--device", "cpu", "--shape", shape]);
        assert!(ended.code == 2 && ended.err.contains(why), "{ended:?}");
    }
}

/// `y = relu(x)` and `b = relu(a)`.
fn two_inputs(x: &[&str], a: &[&str]) -> ModelFolder {
    let nodes = vec![node("Relu", &["x"], &["y"]), node("Relu", &["a"], &["b"])];
    let mut main = graph(&[], nodes, &["y", "b"]);
    main.input = vec![value("x", FLOAT, x), value("a", FLOAT, a)];
    ModelFolder::of(&model(17, main))
}

#[test]
fn sizes_are_checked_before_data_are_made() {
    adapter();
    let (open, declared) = (two_inputs(&["n", "m"], &["k"]), two_inputs(&["65536", "65536"], &["2"]));
    let limit = "all inputs together may have 268435456 elements";
    let max = u64::MAX.to_string();
    let cases: [(&ModelFolder, &[&str], &[&str]); 8] = [
        (&open, &["x=1x2147483648", "a=1"], &["input x: float32[n, m]", "[1, 2147483648]", limit]),
        (&open, &["x=4294967296x4294967296", "a=1"], &["input x", "[4294967296, 4294967296]", limit]),
        // Each input is small enough, but both together are not.
        (&open, &["x=1x200000000", "a=200000000"], &["input a: float32[k]", "[200000000]", limit]),
        (&open, &["x=-1x3", "a=1"], &["--shape x=-1x3: '-1' is no size"]),
        (&open, &["x=99999999999999999999x3", "a=1"], &["'99999999999999999999' is no size"]),
        (&open, &["x=3x", "a=1"], &["'' is no size"]),
        // Nothing is drawn for this input, but kernels' tables for single axes would still be too large.
        (&open, &[&format!("x={max}x0"), "a=1"], &["input 'x'", &max, "more than 1073741823 elements"]),
        (&declared, &[], &["input x: float32[65536, 65536]", limit]),
    ];
    for (place, shapes, words) in cases {
        for command in
            [&["run", "--device", "cpu"][..], &["run"], &["bench", "--runs", "1"], &["verify"], &["inspect"]]
        {
            let mut arguments = [command, &[&place.model]].concat();
            shapes.iter().for_each(|shape| arguments.extend(["--shape", shape]));
            let ended = run(&arguments);
            // The card shows what it can of a model that has no plan.
            let text = if command[0] == "inspect" && ended.code == 0 { &ended.out } else { &ended.err };
            assert!(ended.code == 2 || command[0] == "inspect", "{arguments:?}: {ended:?}");
            for word in words {
                assert!(text.contains(word), "{arguments:?}: {word}: {ended:?}");
            }
        }
    }
}

#[test]
fn strings_are_counted_as_more_than_numbers() {
    let mut main = graph(&[], vec![node("Identity", &["x"], &["y"])], &["y"]);
    main.input = vec![value("x", STRING, &["n"])];
    let place = ModelFolder::of(&model(17, main));
    let ended = run(&["run", &place.model, "--device", "cpu", "--shape", "x=20000000"]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("input x: string[n]") && ended.err.contains("16777216 strings"), "{ended:?}");
    let ended = run(&["run", &place.model, "--device", "cpu", "--shape", "x=3"]);
    assert!(ended.out.contains(r#"["a", "a", "a"]"#), "{ended:?}");
}

/// Texts in capitals, the parts of a sequence without the first, and the first, negated.
#[test]
fn strings_and_containers_go_in_and_out() {
    let nodes = vec![
        node("StringNormalizer", &["texts"], &["upper"]).with(string("case_change_action", "UPPER")),
        node("SequenceErase", &["parts", "zero"], &["rest"]),
        node("SequenceAt", &["parts", "zero"], &["first"]),
        node("Neg", &["first"], &["negated"]),
    ];
    let mut main = graph(&[], nodes, &[]);
    main.input = vec![value("texts", STRING, &["n"]), sequence(value("parts", FLOAT, &["m"]))];
    main.output = vec![
        value("upper", STRING, &["n"]),
        sequence(value("rest", FLOAT, &["m"])),
        value("negated", FLOAT, &["m"]),
    ];
    main.initializer = vec![TensorProto { int64_data: vec![0], ..empty("zero", 7, &[]) }];
    let place = ModelFolder::of(&model(17, main));
    let texts = Tensor::from_strings(&[2], vec!["bay".into(), "Ash".into()]).unwrap();
    std::fs::write(place.path("texts.pb"), texts.to_onnx("texts")).unwrap();
    let part = |values: &[f32]| Datum::from(Tensor::from_slice(&[values.len()], values).unwrap());
    let parts = Datum::from(vec![part(&[1.5, -2.0]), part(&[3.0])]);
    std::fs::write(place.path("parts.pb"), parts.to_onnx("parts").unwrap()).unwrap();
    let (texts, parts) =
        (format!("texts={}", place.path("texts.pb")), format!("parts={}", place.path("parts.pb")));
    for device in ["cpu", &adapter()] {
        let given = ["run", &place.model, "--device", device, "-i", &texts, "-i", &parts, "--print"];
        let ended = run(&given);
        assert_eq!(ended.code, 0, "{ended:?}");
        for expected in
            ["input     parts: sequence [float32[2], float32[1]]", "output    rest: sequence [float32[1]]"]
        {
            assert!(ended.out.contains(expected), "{ended:?}");
        }
        assert!(ended.out.contains(r#""BAY" "ASH""#) && ended.out.contains("-1.5    2"), "{ended:?}");
        let ran = json(&[&given[..], &["--json", "--outputs", &place.path("out.npz")]].concat());
        assert_eq!(ran["inputs"][1]["kind"], "sequence");
        assert_eq!(
            (&ran["containers"][0]["name"], &ran["containers"][0]["length"]),
            (&"rest".into(), &1.into())
        );
        assert_eq!(ran["print"]["upper"]["elements"], serde_json::json!(["BAY", "ASH"]));
        let names: Vec<String> =
            entries(Path::new(&place.path("out.npz"))).into_iter().map(|(name, _)| name).collect();
        assert!(names.iter().any(|name| name.starts_with("rest.0")), "{names:?}");
    }
    // What takes tensors only, and what cannot be made, says so.
    let ended = run(&["run", &place.model, "--device", "cpu", "--shape", "texts=2"]);
    assert!(ended.code == 2 && ended.err.contains("-i 'parts=F.pb'"), "{ended:?}");
    let ended = run(&["bench", &place.model, "--device", &adapter(), "-i", &texts, "-i", &parts]);
    assert!(ended.code != 0 && ended.err.contains("`bench` takes tensors only"), "{ended:?}");
    let ended =
        run(&["run", &place.model, "--device", "cpu", "-i", &texts, "-i", &format!("parts={}", place.model)]);
    assert!(ended.code == 2 && ended.err.contains("parts: sequence(float32)"), "{ended:?}");
}

#[test]
fn strings_that_numpy_would_pad_beyond_measure_are_not_written() {
    let mut texts = vec!["a".to_string(); 5000];
    texts[7] = "b".repeat(60_000);
    let string_data = texts.into_iter().map(|text| text.into_bytes().into()).collect();
    let constant = TensorProto { string_data, ..empty("x", STRING, &[5000]) };
    let mut main = graph(&[], vec![node("Identity", &["x"], &["y"])], &[]);
    main.initializer = vec![constant];
    main.output = vec![value("y", STRING, &["5000"])];
    let place = ModelFolder::of(&model(17, main));
    let ended = run(&["run", &place.model, "--device", "cpu", "--outputs", &place.path("y.npz")]);
    assert_eq!(ended.code, 2);
    assert!(ended.err.contains("5000 strings of up to 60000 characters"), "{ended:?}");
}

#[test]
fn a_named_dimension_has_one_size_in_random_inputs_too() {
    let place = two_inputs(&["n", "3"], &["n"]);
    let ran = json(&["run", &place.model, "--device", "cpu", "--shape", "x=5x3", "--json"]);
    assert_eq!(ran["inputs"][1]["shape"], serde_json::json!([5]));
    let ran = json(&["run", &place.model, "--device", "cpu", "--shape", "a=4", "--json"]);
    assert_eq!(ran["inputs"][0]["shape"], serde_json::json!([4, 3]));
    let card = json(&["inspect", &place.model, "--json"]);
    assert_eq!(card["plan"]["shapes"], serde_json::json!([["x", [1, 3]], ["a", [1]]]));
    let ended = run(&["run", &place.model, "--device", "cpu", "--shape", "x=5x3", "--shape", "a=4"]);
    assert!(ended.code == 2 && ended.err.contains("dimension 'n' cannot have two sizes"), "{ended:?}");
}

#[test]
fn a_model_that_takes_none_of_the_sizes_tried_has_a_card() {
    // With five open dimensions of 224 each, the input has more elements than are drawn.
    let mut main = graph(&[], vec![node("MatMul", &["x", "w"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["a", "b", "c", "d", "e"])];
    main.initializer = vec![weights("w", &[7, 5], &[1.0; 35])];
    let place = ModelFolder::of(&model(17, main));
    let card = json(&["inspect", &place.model, "--json"]);
    assert!(card["plan"].is_null() && card["plan_error"].as_str().unwrap().contains("MatMul"), "{card}");
}

#[test]
fn a_run_says_what_ran_where() {
    let place = ModelFolder::of(&models::residual());
    let shape = ["--shape", "image=2x4x8x8", "--require-gpu"];
    let text = output(&[&["run", &place.model][..], &shape].concat());
    for word in [
        "device",
        "image: float32[2, 4, 8, 8]",
        "(random)",
        "scores: float32[2, 8, 8, 8]",
        "on the GPU",
        "arena",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let ran = json(&[&["run", &place.model, "--json"][..], &shape].concat());
    assert_eq!(ran["outputs"][0]["shape"], serde_json::json!([2, 8, 8, 8]));
    assert_eq!(ran["inputs"][0]["random"], true);
    assert_eq!(ran["plan"]["planned_nodes"], 0);
    assert!(ran["run_ms"].as_f64().unwrap() > 0.0);
}

/// A model with `count` nodes of two operators that do not exist, and hundreds of nodes of operators that do.
fn unsupported(count: usize) -> ModelProto {
    let mut nodes = vec![node("Relu", &["x"], &["v0"])];
    for i in 0..count {
        let op = if i % 2 == 0 { "Frobnicate" } else { "Gizmo" };
        let made = node(op, &[&format!("v{i}")], &[&format!("v{}", i + 1)]);
        nodes.push(if i % 2 == 0 { made } else { made.of("com.acme") });
    }
    for i in 0..400 {
        nodes.push(node("Relu", &[&format!("v{}", count + i)], &[&format!("v{}", count + i + 1)]));
    }
    let mut made = model(17, graph(&["x"], nodes, &[&format!("v{}", count + 400)]));
    made.opset_import.push(import("com.acme", 3));
    made
}

#[test]
fn the_card_lists_all_unsupported_nodes_on_one_page() {
    let place = ModelFolder::of(&unsupported(3));
    let ended = run(&["inspect", &place.model]);
    assert_eq!(ended.code, 1);
    for word in [
        "unsupported: 3 nodes",
        "2 Frobnicate (opset 17)",
        "1 com.acme.Gizmo (opset 3)",
        "v1, v3",
        "Relu 401",
    ] {
        assert!(ended.out.contains(word), "{word}: {}", ended.out);
    }
    let place = ModelFolder::of(&unsupported(300));
    let ended = run(&["inspect", &place.model]);
    assert!(ended.out.contains("and 138 more") && ended.out.lines().count() <= 40, "{}", ended.out);
    let ended = run(&["inspect", &place.model, "--json"]);
    let card: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.code, card["unsupported"].as_array().unwrap().len()), (1, 300));
    assert_eq!((card["nodes"].as_u64(), &card["plan"]), (Some(701), &Value::Null));
    assert_eq!(card["inputs"][0]["dtype"], "float32");
    // A run reports the same, before it asks for the files of inputs or for a device.
    let ended = run(&["run", &place.model, "--device", "cpu", "--shape", "x=1"]);
    assert!(ended.code == 2 && ended.err.starts_with("error: unsupported: 300 nodes\n"), "{}", ended.err);
}

#[test]
fn a_node_is_unsupported_for_its_own_reasons() {
    // A node that reads the value of a refused node is not refused for that reason.
    let nodes = vec![node("ConvTranspose", &["x", "w"], &["wide"]), node("Softmax", &["wide"], &["y"])];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = ["x", "w"].map(|name| value(name, FLOAT, &["1", "1", "2", "2", "2", "2"])).into();
    let place = ModelFolder::of(&model(17, main));
    let ended = run(&["run", &place.model, "--require-gpu", "--json"]);
    let told = if ended.out.is_empty() { &ended.err } else { &ended.out };
    let card: Value = serde_json::from_str(told).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    let unsupported: Vec<(&str, &str)> = card["error"]["nodes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|node| (node["node"].as_str().unwrap(), node["reason"].as_str().unwrap()))
        .collect();
    assert!(matches!(unsupported[..], [("wide", reason)] if reason.contains("4 axes")), "{card}");
}

#[test]
fn the_card_says_what_becomes_of_a_model() {
    let place = ModelFolder::of(&models::shapes());
    let text = output(&["inspect", &place.model, "--shape", "x=3x8"]);
    for word in [
        "opsets ai.onnx 17",
        "x: float32[batch, columns]",
        "Gather 2",
        "on the GPU",
        "computed while planning",
        "weights",
        "max live",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let card = json(&["inspect", &place.model, "--shape", "x=3x8", "--json"]);
    assert_eq!(card["operators"]["Gather"], 2);
    assert_eq!(card["plan"]["shapes"][0][1], serde_json::json!([3, 8]));
    assert!(card["plan"]["planned"].as_array().unwrap().iter().any(|name| name == "target"), "{card}");
    assert!(card["plan"]["arena_bytes"].is_u64() && card["plan"]["max_live_bytes"].is_u64());
    let card = json(&["inspect", &place.model, "--json"]);
    assert_eq!(card["plan"]["shapes"][0][1], serde_json::json!([1, 128]));
    // Sizes that a model does not take are left for the next.
    let mut main = graph(&[], vec![node("MatMul", &["x", "w"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["rows", "columns"])];
    main.initializer = vec![weights("w", &[32, 1], &[1.0; 32])];
    let narrow = ModelFolder::of(&model(17, main));
    let card = json(&["inspect", &narrow.model, "--json"]);
    assert_eq!(card["plan"]["shapes"][0][1], serde_json::json!([1, 32]));
    // If no size is accepted, the card says so, and what to do.
    let mut main = graph(&[], vec![node("MatMul", &["x", "w"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["rows", "columns"])];
    main.initializer = vec![weights("w", &[3, 1], &[1.0; 3])];
    let odd = ModelFolder::of(&model(17, main));
    let text = output(&["inspect", &odd.model]);
    assert!(
        text.contains("columns on the left do not match 3 rows") && text.contains("--shape 'x=1x128'"),
        "{text}"
    );
    let card = json(&["inspect", &place.model, "--device", &adapter(), "--shape", "x=3x8", "--json"]);
    assert_eq!(card["plan"]["target"], adapter());
}

#[test]
fn each_stage_has_a_text_and_a_structure() {
    let place = ModelFolder::of(&models::attention());
    // In each stage, a list, a key of its entries, and the words that the text puts before and after what the key holds.
    let stages = [
        ("model", "inputs", "name", ["", ": float32"]),
        ("graph", "nodes", "operator", ["= ", "-"]),
        ("passes", "nodes", "operator", ["= ", "-"]),
        ("program", "calls", "kernel", [": ", " on "]),
        ("memory", "blocks", "tensor", ["%", "\n"]),
        ("wgsl", "shaders", "source", ["", ""]),
    ];
    for (stage, list, key, [before, after]) in stages {
        let arguments = ["inspect", &place.model, "--stage", stage, "--shape", "tokens=1x6x16"];
        let text = output(&arguments);
        let report = json(&[&arguments[..], &["--json"]].concat());
        let entries = report[list].as_array().unwrap();
        assert!(!entries.is_empty(), "{stage}");
        for entry in entries {
            let words = format!("{before}{}{after}", entry[key].as_str().unwrap());
            assert!(text.contains(&words), "{stage}: no '{words}' in {text}");
        }
    }
    let program =
        json(&["inspect", &place.model, "--stage", "program", "--shape", "tokens=1x6x16", "--json"]);
    let memory = json(&["inspect", &place.model, "--stage", "memory", "--shape", "tokens=1x6x16", "--json"]);
    let card = json(&["inspect", &place.model, "--shape", "tokens=1x6x16", "--json"]);
    assert_eq!(program["calls"].as_array().unwrap().len() as u64, card["plan"]["dispatches"]);
    assert_eq!(memory["arena_bytes"], card["plan"]["arena_bytes"]);
    let names: Vec<&Value> = program["tensors"].as_array().unwrap().iter().map(|t| &t["name"]).collect();
    for call in program["calls"].as_array().unwrap() {
        let arguments = call["tensors"].as_array().unwrap();
        assert!(arguments.iter().all(|argument| names.contains(&&argument["tensor"])), "{call}");
        assert!(arguments.iter().any(|argument| argument["written"] == true), "{call}");
    }
}

#[test]
fn a_node_is_told_why_it_is_not_fused() {
    let place = ModelFolder::of(&models::attention());
    let arguments = ["inspect", &place.model, "--shape", "tokens=1x6x16", "--why", "normed"];
    let text = output(&arguments);
    assert!(text.contains("node      normed (LayerNormalization)"), "{text}");
    let why = json(&[&arguments[..], &["--json"]].concat());
    assert_eq!(why["kernel"], serde_json::json!(["normed"]));
    let findings = why["findings"].as_array().unwrap();
    assert!(
        findings
            .iter()
            .any(|f| f["saving"] == "fused" && f["saved"] == false && f["rule"] == "ComputesWhole")
    );
    assert!(findings.iter().all(|f| f["rule"].is_string() != f["saved"].as_bool().unwrap()), "{why}");
    let ended = run(&["inspect", &place.model, "--shape", "tokens=1x6x16", "--why", "normd"]);
    assert!(ended.code == 2 && ended.err.contains("names like it: normed"), "{ended:?}");
    let both = run(&["inspect", &place.model, "--stage", "graph", "--why", "normed"]);
    assert_eq!(both.code, 2);
}

#[test]
fn verify_holds_every_node_against_the_reference() {
    adapter();
    let place = ModelFolder::of(&models::attention());
    let arguments = ["verify", &place.model, "--shape", "tokens=1x6x16"];
    let text = output(&arguments);
    assert!(text.contains("no divergence") && text.contains("LayerNormalization"), "{text}");
    let found = json(&[&arguments[..], &["--json"]].concat());
    let values = found["values"].as_array().unwrap();
    assert_eq!(values.len(), 11);
    assert!(values.iter().all(|value| value["relative_error"].as_f64().unwrap() <= 1e-3));
    assert_eq!(found["first_divergence"], Value::Null);
    // f32 is not f64: with a tolerance of 0, the first node that rounds is named.
    let ended = run(&[&arguments[..], &["--tolerance", "0"]].concat());
    assert_eq!(ended.code, 1);
    assert!(ended.out.contains("divergence: look at node 'normed' (LayerNormalization)"), "{}", ended.out);
    let ended = run(&[&arguments[..], &["--tolerance", "0", "--json"]].concat());
    let found: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((ended.code, found["first_divergence"]["node"].as_str()), (1, Some("normed")));
    assert_eq!(
        run(&[&arguments[..], &["--device", "cpu"]].concat()).code,
        2,
        "the reference is not held against itself"
    );
}

/// `d = exp(x) - c`, where `c` differs from exp(x) in the fifth digit only: a rounding of float32 is a fifth of the
/// difference.
fn cancelling() -> ModelProto {
    let x: Vec<f32> = (0..4096).map(|i| i as f32 / 2048.0).collect();
    let c: Vec<f32> = x.iter().map(|&x| (f64::from(x).exp() - 1e-6) as f32).collect();
    let nodes = vec![node("Exp", &["x"], &["e"]), node("Sub", &["e", "c"], &["d"])];
    let mut main = graph(&[], nodes, &["d"]);
    (main.node[0].name, main.node[1].name) = ("grow".into(), "cancel".into());
    main.initializer = vec![weights("c", &[4096], &c), weights("x0", &[4096], &x)];
    main.node[0].input = vec!["x1".into()];
    // This reads an input, so that planning does not know all values.
    main.node.insert(0, node("Add", &["x0", "x"], &["x1"]));
    main.input = vec![value("x", FLOAT, &["1"])];
    model(17, main)
}

/// `exp(x)`, which is two and a half steps, quantised and back.
fn at_ties() -> ModelProto {
    let x: Vec<f32> = (0..4096).map(|i| i as f32 / 2048.0).collect();
    let scale: Vec<f32> = x.iter().map(|&x| f64::from(x).exp() as f32 / 2.5).collect();
    let nodes = vec![
        node("Add", &["x0", "x"], &["x1"]),
        node("Exp", &["x1"], &["e"]),
        node("QuantizeLinear", &["e", "scale"], &["q"]).with(int("axis", 0)),
        node("DequantizeLinear", &["q", "scale"], &["y"]).with(int("axis", 0)),
    ];
    let mut main = graph(&[], nodes, &["y"]);
    main.node[2].name = "quantise".into();
    main.initializer = vec![weights("x0", &[4096], &x), weights("scale", &[4096], &scale)];
    main.input = vec![value("x", FLOAT, &["1"])];
    model(17, main)
}

#[test]
fn verify_follows_an_output_that_is_off_to_where_its_error_comes_from() {
    let zero = array("<f4", false, "(1,)", &0f32.to_le_bytes());
    // The reference rounds exp(x) to the nearest float32; a device, whose error is 1.3 units, does not for every one of 4,096 elements.
    for (model, cause, look_at, before) in
        [(cancelling(), "accumulated", "cancel", 1e-6), (at_ties(), "flip", "quantise", 1e-6)]
    {
        let place = ModelFolder::of(&model);
        std::fs::write(place.path("x.npy"), &zero).unwrap();
        let input = format!("x={}", place.path("x.npy"));
        let arguments = ["verify", &place.model, "-i", &input];
        let ended = run(&[&arguments[..], &["--json"]].concat());
        let found: Value = serde_json::from_str(&ended.out).unwrap();
        let divergence = &found["divergence"];
        assert_eq!((ended.code, divergence["cause"].as_str()), (1, Some(cause)), "{found:#}");
        assert_eq!(divergence["value"]["node"], look_at);
        let error = |key: &str| divergence["value"][key].as_f64().unwrap();
        assert!(error("relative_error") <= 1e-3 && error("inherited_error") < before, "{divergence:#}");
        assert!(error("accumulated_error") > 1e-2, "{divergence:#}");
        assert!(divergence["output"]["relative_error"].as_f64().unwrap() > 1e-2, "{divergence:#}");
        let ended = run(&arguments);
        assert!(ended.code == 1 && ended.out.contains(&format!("look at node '{look_at}'")), "{ended:?}");
        let ended = run(&[&arguments[..], &["--output-tolerance", "10"]].concat());
        assert!(ended.code == 0 && ended.out.contains("no divergence"), "{ended:?}");
        let ended = run(&[&arguments[..], &["--allow-flips"]].concat());
        assert_eq!(ended.code, if cause == "flip" { 0 } else { 1 }, "{ended:?}");
    }
}

#[test]
fn bench_measures_and_nothing_is_created_after_warm_up() {
    adapter();
    let place = ModelFolder::of(&models::residual());
    let arguments = ["bench", &place.model, "--shape", "image=2x4x8x8", "--warmup", "2", "--runs", "7"];
    let ended = run(&arguments);
    assert_eq!((ended.code, ended.err.as_str()), (0, ""), "a progress bar is for terminals");
    for word in [
        "min",
        "median",
        "p90",
        "p99",
        "runs/s",
        "cold",
        "warm",
        "dispatches",
        "passes 1",
        "submits 1",
        "pipelines",
        "weights",
        "arena",
        "max live",
    ] {
        assert!(ended.out.contains(word), "{word}: {}", ended.out);
    }
    let report = json(&[&arguments[..], &["--json"]].concat());
    assert_eq!(report["wall_ms"].as_array().unwrap().len(), 7);
    for key in ["min", "median", "p90", "p99"] {
        assert!(report["latency_ms"][key].as_f64().unwrap() > 0.0, "{key}");
    }
    let during = &report["during_runs"];
    for key in ["buffers", "bind_groups", "pipelines", "bytes"] {
        assert_eq!(during[key], 0, "{key}");
    }
    assert_eq!((&during["passes"], &during["submits"]), (&7.into(), &7.into()));
    let dispatches = report["plan"]["dispatches"].as_u64().unwrap();
    assert_eq!(during["dispatches"], 7 * dispatches);
    for key in ["weight_bytes", "arena_bytes", "max_live_bytes"] {
        assert!(report["plan"][key].as_u64().unwrap() > 0, "{key}");
    }
    for key in ["cold_first_run_ms", "warm_first_run_ms", "runs_per_second"] {
        assert!(report[key].as_f64().unwrap() > 0.0, "{key}");
    }
    if cfg!(target_os = "linux") {
        assert_eq!(report["cpu_ms"].as_array().unwrap().len(), 7);
        assert!(report["host_peak_bytes"].as_u64().unwrap() > 1 << 20);
    }
    assert_eq!(run(&["bench", &place.model, "--shape", "image=2x4x8x8", "--runs", "0"]).code, 2);
    let features = json(&["devices", "--json"])["adapters"][0]["features"].to_string();
    if features.contains("TIMESTAMP_QUERY") {
        let profile = json(&[&arguments[..], &["--json", "--profile"]].concat());
        assert_eq!(profile["profile"].as_array().unwrap().len() as u64, dispatches);
        assert!(output(&[&arguments[..], &["--profile"]].concat()).contains("kernel"));
    }
}

#[test]
fn the_reference_can_be_measured_too() {
    let place = ModelFolder::of(&unary("Relu", &["4"]));
    let report = json(&["bench", &place.model, "--device", "cpu", "--runs", "3", "--json"]);
    assert_eq!(report["wall_ms"].as_array().unwrap().len(), 3);
    assert_eq!(report.get("plan"), None);
}

/// The file of one tensor, like those of ONNX's suite.
fn tensor_file(values: &[f32]) -> Vec<u8> {
    use prost::Message;
    TensorProto::encode_to_vec(&weights("t", &[values.len() as i64], values))
}

/// A folder of cases, and a list of them: `pass` is right, `wrong` expects a wrong result, `unknown` has an operator that does
/// not exist, `several` has two sets of data.
struct Suite {
    place: ModelFolder,
    list: String,
}

impl Suite {
    fn new() -> Suite {
        let place = ModelFolder::of(&unary("Relu", &["2"]));
        let case = |name: &str, op_type: &str, sets: &[[f32; 2]]| {
            let folder = place.folder.path().join("node").join(name);
            for (i, expected) in sets.iter().enumerate() {
                let set = folder.join(format!("test_data_set_{i}"));
                std::fs::create_dir_all(&set).unwrap();
                std::fs::write(set.join("input_0.pb"), tensor_file(&[-1.0, 2.0])).unwrap();
                std::fs::write(set.join("output_0.pb"), tensor_file(expected)).unwrap();
            }
            save(&folder, "model", &unary(op_type, &["2"]));
            format!("{{\"name\": \"{name}\", \"dir\": \"node/{name}\", \"rtol\": 1e-3, \"atol\": 1e-7}}\n")
        };
        let list: String = [
            case("pass", "Relu", &[[0.0, 2.0]]),
            case("unknown", "Frobnicate", &[[0.0, 2.0]]),
            case("wrong", "Relu", &[[0.0, 3.0]]),
            case("several", "Neg", &[[1.0, -2.0], [1.0, -2.0]]),
        ]
        .concat();
        std::fs::write(place.path("list.jsonl"), &list).unwrap();
        let list = place.path("list.jsonl");
        Suite { place, list }
    }

    fn run(&self, arguments: &[&str], out: Option<&str>) -> Ended {
        let mut program = program();
        program.arg("suite").arg(self.place.folder.path()).arg(&self.list).args(arguments);
        match out {
            Some(out) => program.env("CONFORMANCE_OUT", out),
            None => program.env_remove("CONFORMANCE_OUT"),
        };
        program.output().unwrap().into()
    }
}

#[test]
fn the_suite_judges_cases_in_the_lists_order() {
    let suite = Suite::new();
    let device = adapter();
    for device in [&["--device", "cpu"][..], &["--device", &device], &["--require-gpu"]] {
        let ended = suite.run(device, None);
        assert_eq!(ended.code, 1, "a case fails: {ended:?}");
        let lines: Vec<&str> = ended.out.lines().collect();
        assert_eq!(lines[0], "pass pass");
        assert!(lines[1].starts_with("unknown skip unsupported: Frobnicate-17"), "{lines:?}");
        assert!(
            lines[2].starts_with("wrong fail test_data_set_0, output 0 'y': element 1: expected 3, got 2"),
            "{lines:?}"
        );
        assert_eq!(lines[3..], ["several pass"]);
        assert!(ended.err.contains("4 cases") && ended.err.contains("2 pass, 1 skip, 1 fail"), "{ended:?}");
    }
    let ended = suite.run(&["--device", "cpu", "--json"], None);
    let lines: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines[1]["name"].as_str(), lines[1]["status"].as_str()), (Some("unknown"), Some("skip")));
}

#[test]
fn the_suite_leaves_judgement_to_another_where_it_is_told_a_folder() {
    let suite = Suite::new();
    let out = suite.place.path("out");
    let ended = suite.run(&["--device", "cpu"], Some(&out));
    assert_eq!(ended.code, 0, "{ended:?}");
    let statuses: Vec<&str> = ended.out.lines().filter_map(|line| line.split(' ').nth(1)).collect();
    assert_eq!(statuses, ["done", "skip", "done", "done"]);
    for (file, values) in [
        ("pass/test_data_set_0", [0.0f32, 2.0]),
        ("wrong/test_data_set_0", [0.0, 2.0]),
        ("several/test_data_set_1", [1.0, -2.0]),
    ] {
        let bytes = std::fs::read(format!("{out}/{file}/output_0.pb")).unwrap();
        let tensor = sardonyx::Tensor::from_onnx(&bytes).unwrap();
        assert_eq!(tensor.to_vec::<f32>().unwrap(), values);
    }
}

#[test]
fn the_suites_lines_are_flushed_one_by_one() {
    let suite = Suite::new();
    // Far more cases than a pipe's buffer can hold lines: the reader sees the first long before the last has run.
    let many: String = std::fs::read_to_string(&suite.list).unwrap().repeat(3000);
    std::fs::write(&suite.list, many).unwrap();
    let mut child = program()
        .args(["suite", suite.place.folder.path().to_str().unwrap(), &suite.list, "--device", "cpu"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = [0; 10];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"pass pass\n");
    assert!(child.try_wait().unwrap().is_none(), "the first line came before the end");
    // When the reader goes away, the program ends too, without a word.
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(141));
}

#[test]
fn a_suites_list_that_is_none_is_an_error() {
    let suite = Suite::new();
    for text in ["no json", "{\"name\": \"x\"}"] {
        std::fs::write(&suite.list, text).unwrap();
        let ended = suite.run(&["--device", "cpu"], None);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{ended:?}");
    }
    // A case that does not exist fails, and the others go on.
    std::fs::write(
        &suite.list,
        "{\"name\": \"gone\", \"dir\": \"gone\"}\n{\"name\": \"pass\", \"dir\": \"node/pass\"}\n",
    )
    .unwrap();
    let ended = suite.run(&["--device", "cpu"], None);
    assert_eq!(ended.code, 1);
    assert!(ended.out.starts_with("gone fail ") && ended.out.ends_with("pass pass\n"), "{ended:?}");
}

#[test]
fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let script = output(&["completions", shell]);
        for word in ["sardonyx", "COMPLETE"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    assert_eq!(run(&["completions", "no-shell"]).code, 2);
}

#[test]
fn a_reader_that_goes_away_ends_the_program_without_a_word() {
    let place = ModelFolder::of(&models::residual());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let ended = program()
        .args(["inspect", &place.model, "--stage", "wgsl"])
        .stdout(writer)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
        .wait_with_output()
        .unwrap();
    let ended = Ended::from(ended);
    assert_eq!((ended.code, ended.err.as_str()), (141, ""));
}

/// A server that is killed at the end of its test.
#[cfg(unix)]
struct Serving(std::process::Child);

#[cfg(unix)]
impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[cfg(unix)]
#[test]
fn a_server_tells_programs_where_it_listens_and_how_long_kernels_took() {
    let mut relu = unary("Relu", &["2"]);
    relu.graph.as_mut().unwrap().output = vec![value("y", FLOAT, &["2"])];
    let model = ModelFolder::of(&relu);
    let failed = run(&["serve", &model.path("nowhere"), "--log-format", "json", "--device", "cpu"]);
    let error: Value = serde_json::from_str(&failed.err).unwrap();
    assert_eq!((failed.code, &error["level"]), (2, &"ERROR".into()), "{error}");
    std::fs::create_dir_all(model.path("repository/relu/1")).unwrap();
    std::fs::copy(&model.model, model.path("repository/relu/1/model.onnx")).unwrap();
    let ports = ["--http-port", "--grpc-port", "--metrics-port"].map(|port| [port, "0"]).concat();
    let arguments = ["serve", &model.path("repository"), "--log-format", "json", "--device", "gpu"];
    let mut server = program();
    server.args(arguments).args(ports).stderr(Stdio::piped()).stdout(Stdio::piped());
    let mut server = Serving(server.spawn().unwrap());
    let lines = BufReader::new(server.0.stderr.take().unwrap()).lines();
    let lines = lines.map(Result::unwrap).map(|line| serde_json::from_str::<Value>(&line).expect(&line));
    let listening = lines.filter(|line| line["fields"]["message"] == "listening").take(3);
    let addresses: std::collections::BTreeMap<String, String> = listening
        .map(|line| {
            ["protocol", "address"].map(|name| line["fields"][name].as_str().unwrap().to_string()).into()
        })
        .collect();
    assert_eq!(addresses.keys().collect::<Vec<_>>(), ["HTTP", "gRPC", "metrics"]);

    let ask = |protocol: &str, request: String| {
        let port = addresses[protocol].rsplit_once(':').unwrap().1;
        let mut stream = TcpStream::connect(format!("localhost:{port}")).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    let body = r#"{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "data": [-1, 2]}]}"#;
    let head = "HTTP/1.1\r\nHost: test\r\nConnection: close\r\n";
    let answer =
        ask("HTTP", format!("POST /v2/models/relu/infer {head}Content-Length: {}\r\n\r\n{body}", body.len()));
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let metrics = ask("metrics", format!("GET /metrics {head}\r\n"));
    let seconds = metrics.lines().find_map(|line| line.strip_prefix("sardonyx_compile_seconds_total "));
    assert!(seconds.unwrap().parse::<f64>().unwrap() > 0.0, "{metrics}");
}
