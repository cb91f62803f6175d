//! `sardonyx convert`: files of other kinds, and weights of other files.

use sardonyx_testing::onnx::build::{graph, model, node, weights};

use crate::program::{Ended, output, program, run, save};

const PMML: &str = r#"<PMML version="4.4"><DataDictionary><DataField name="x" optype="continuous" dataType="double"/>
<DataField name="y" optype="continuous" dataType="double"/></DataDictionary><RegressionModel functionName="regression">
<MiningSchema><MiningField name="x"/><MiningField name="y" usageType="target"/></MiningSchema><RegressionTable intercept="1">
<NumericPredictor name="x" coefficient="2"/></RegressionTable></RegressionModel></PMML>"#;

#[test]
fn pmml_becomes_a_model_that_runs() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    std::fs::write(at("m.pmml"), PMML).unwrap();
    assert!(output(&["convert", &at("m.pmml"), "-o", &at("m.onnx")]).starts_with("wrote     "));
    let ran = output(&["run", &at("m.onnx"), "--device", "cpu", "--shape", "x=1x1"]);
    assert!(ran.contains("prediction: float64[1, 1]"), "{ran}");
    std::fs::write(at("bad.pmml"), PMML.replace("\"2\"", "\"two\"")).unwrap();
    let ended = run(&["convert", &at("bad.pmml"), "-o", &at("bad.onnx")]);
    assert!(
        ended.code == 2 && ended.err.contains("line 4: NumericPredictor: 'two' is no number"),
        "{ended:?}"
    );
    assert!(!folder.path().join("bad.onnx").exists());
}

#[test]
fn weights_replace_initializers() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let mut given =
        graph(&["x"], vec![node("Add", &["x", "w"], &["s"]), node("Mul", &["s", "k"], &["y"])], &["y"]);
    given.initializer = vec![weights("w", &[2], &[0.0, 0.0]), weights("k", &[1], &[1.0])];
    let path = save(folder.path(), "m", &model(17, given));
    let header = r#"{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"v":{"dtype":"F32","shape":[0],"data_offsets":[8,8]}}"#;
    let file = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat();
    std::fs::write(at("w.safetensors"), &file).unwrap();
    let line = ["convert", path.to_str().unwrap(), "--weights", &at("w.safetensors"), "-o", &at("new.onnx")];
    let said = output(&line);
    for part in [
        "replaced  1 initializer\n",
        "kept      k\n",
        "unused    v\n",
        "note      what is kept has its old weights",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let said: serde_json::Value = serde_json::from_str(&output(&[&line[..], &["--json"]].concat())).unwrap();
    assert_eq!(said["replaced"], serde_json::json!(["w"]));
    // The file that is wrong is the one that is named.
    let ended =
        run(&["convert", &at("w.safetensors"), "--weights", &at("w.safetensors"), "-o", &at("x.onnx")]);
    assert!(ended.code == 2 && ended.err.contains("the model is no ONNX file"), "{ended:?}");
    std::fs::write(at("no.onnx"), "no model").unwrap();
    let ended = run(&["convert", &at("no.onnx"), "--weights", &at("w.safetensors"), "-o", &at("x.onnx")]);
    assert!(ended.code == 2 && ended.err.contains("no.onnx: the model is no ONNX file"), "{ended:?}");
}

#[test]
fn other_files_are_refused_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    for (name, expected) in [
        ("m.pkl", "reading one runs the code in it"),
        ("m.onnx", "is an ONNX model already; --weights FILE"),
        ("m.pth", "has weights, and no model"),
        ("m.bin", "is of a kind that is not converted"),
    ] {
        let path = folder.path().join(name);
        std::fs::write(&path, "...").unwrap();
        let out = folder.path().join("out.onnx");
        let ended = run(&["convert", path.to_str().unwrap(), "-o", out.to_str().unwrap()]);
        assert!(ended.code == 2 && ended.err.contains(expected), "{ended:?}");
    }
}

/// What this program asks of Python, answered by a shell.
#[cfg(unix)]
#[test]
fn python_converts_in_a_process_of_its_own() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    std::fs::write(at("m.tflite"), "flat").unwrap();
    let python = |script: &str| {
        std::fs::write(at("python"), format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(at("python"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = program();
        command.env("SARDONYX_PYTHON", at("python")).args(["convert", &at("m.tflite"), "-o", &at("m.onnx")]);
        Ended::from(command.output().unwrap())
    };
    let ended = python("case \"$2\" in *from_tflite*) cat \"$3\";; esac");
    assert_eq!(
        (ended.code, std::fs::read_to_string(at("m.onnx")).unwrap().as_str()),
        (0, "flat"),
        "{ended:?}"
    );
    let ended = python("echo noise >&2; echo 'No module named x; pip install sardonyx tf2onnx' >&2; exit 1");
    assert!(
        ended.code == 2 && ended.err.contains("Python could not convert it: No module named x; pip install"),
        "{ended:?}"
    );
    let ended = python("exit 0");
    assert!(ended.code == 2 && ended.err.contains("no model came back"), "{ended:?}");
    let mut command = program();
    command.env("SARDONYX_PYTHON", at("none")).args(["convert", &at("m.tflite"), "-o", &at("m.onnx")]);
    let ended = Ended::from(command.output().unwrap());
    assert!(ended.code == 2 && ended.err.contains("pip install sardonyx tf2onnx tensorflow"), "{ended:?}");
}
