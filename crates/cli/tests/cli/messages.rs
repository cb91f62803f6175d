//! What the command line says to someone who has made a mistake, or wants to see results: a table of messages.

use std::fs;

use sardonyx_testing::onnx::build::*;
use sardonyx_testing::onnx::proto::TensorProto;
use serde_json::Value;

use crate::npy::{array, save_npz};
use crate::program::{Ended, ModelFolder, output, program, run};

impl ModelFolder {
    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Runs the model on the reference.
    fn run(&self, arguments: &[&str]) -> Ended {
        run(&[&["run", &self.model, "--device", "cpu"], arguments].concat())
    }

    fn text(&self, arguments: &[&str]) -> String {
        output(&[&["run", &self.model, "--device", "cpu"], arguments].concat())
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.text(&[arguments, &["--json"]].concat())).unwrap()
    }
}

/// `y = OP(x)`.
fn unary(op: &str, dims: &[&str]) -> ModelFolder {
    let mut main = graph(&[], vec![node(op, &["x"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, dims)];
    ModelFolder::of(&model(17, main))
}

/// `y = relu(x)` and `b = relu(a)`.
fn two(x: &[&str], a: &[&str]) -> ModelFolder {
    let nodes = vec![node("Relu", &["x"], &["y"]), node("Relu", &["a"], &["b"])];
    let mut main = graph(&[], nodes, &["y", "b"]);
    main.input = vec![value("x", FLOAT, x), value("a", FLOAT, a)];
    ModelFolder::of(&model(17, main))
}

fn floats(shape: &str, values: &[f32]) -> Vec<u8> {
    array("<f4", false, shape, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>())
}

#[test]
fn a_wrong_file_is_named_and_told_what_it_is() {
    let place = unary("Relu", &["2"]);
    let npy = place.file("x.npy", &floats("(2,)", &[1.0, 2.0]));
    let npz = place.path("x.npz");
    save_npz(&npz, &[("x".into(), floats("(2,)", &[1.0, 2.0]))]);
    let whole = fs::read(&npz).unwrap();
    let cut = place.file("cut.npz", &whole[..whole.len() - 30]);
    let text = place.file("notes.txt", b"some words");
    let html = place.file("page.onnx", b"<!DOCTYPE html><html>");
    let lfs = place.file("lfs.onnx", b"version https://git-lfs.github.com/spec/v1\n");
    let empty = place.file("empty.onnx", b"");
    let folder = place.path("");
    let wide = place.file("wide.npy", &array("<f8", false, "(2,)", &[0; 16]));
    let missing = place.path("missing.npz");
    let nowhere = place.path("no/such/y.npz");
    let named = |path: &str| format!("x={path}");
    let cases: Vec<(Vec<String>, &str, &str)> = vec![
        (
            vec!["--inputs".into(), npy.clone()],
            &npy,
            "is an .npy file, which holds one array: give it as -i NAME=F.npy",
        ),
        (vec!["--inputs".into(), cut.clone()], &cut, "is a damaged .npz archive, perhaps cut short"),
        (vec!["--inputs".into(), text.clone()], &text, "is a text file, and no .npz archive"),
        (vec!["--inputs".into(), folder.clone()], &folder, "is a folder"),
        (vec!["--inputs".into(), missing.clone()], &missing, "there is no such file"),
        (
            vec!["-i".into(), named(&npz)],
            &npz,
            "it is no .npy file but an archive: give it as --inputs F.npz",
        ),
        (vec!["-i".into(), named(&text)], &text, "it is no .npy file but a text file"),
        (
            vec!["-i".into(), named(&wide)],
            &wide,
            "input 'x': is float64, and the model takes float32; --cast converts it",
        ),
        (vec!["--outputs".into(), nowhere.clone()], &nowhere, "there is no folder"),
        (vec!["--expect".into(), text.clone()], &text, "is a text file, and no .npz archive"),
        (
            vec!["--image".into(), named(&text)],
            "",
            "--image: input x: float32[2] has not the four dimensions of images",
        ),
        (vec!["--wav".into(), named(&text)], &text, "is no WAV file"),
    ];
    for (arguments, file, words) in &cases {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let ended = place.run(&arguments);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{arguments:?}: {ended:?}");
        assert!(ended.err.starts_with(&format!("error: {file}")), "{arguments:?}: {ended:?}");
        assert!(ended.err.contains(words), "{arguments:?}: {words}: {ended:?}");
    }
    for (path, words) in [
        (&html, "is a web page, perhaps of a failed download, and not an ONNX model"),
        (&lfs, "is a pointer of Git LFS"),
        (&npz, "is a zip archive, and not an ONNX model"),
        (&empty, "is an empty file, and not an ONNX model"),
        (&folder, "is a folder"),
        (&missing, "there is no such file"),
    ] {
        for command in ["run", "inspect", "bench", "verify"] {
            let ended = run(&[command, path]);
            assert_eq!(ended.code, 2, "{ended:?}");
            assert!(
                ended.err.starts_with(&format!("error: {path}: {words}")),
                "{command} {words}: {ended:?}"
            );
        }
    }
}

#[test]
fn wrong_and_missing_names_are_told_all_at_once() {
    let place = two(&["2"], &["3"]);
    let npz = place.path("in.npz");
    let two = || floats("(2,)", &[0.0; 2]);
    save_npz(&npz, &[("pixels".into(), two()), ("x".into(), two()), ("other".into(), two())]);
    let ended = place.run(&["--inputs", &npz]);
    let expected = format!(
        "error: {npz}: 'pixels', 'other': the model has no such input; the file holds 'pixels', 'x', 'other', \
         and the model takes x: float32[2], a: float32[3]\n"
    );
    assert_eq!((ended.code, ended.err), (2, expected));
    save_npz(&npz, &[("x".into(), two())]);
    let ended = place.run(&["--inputs", &npz]);
    let expected = "error: the files give x: float32[2], and the model also takes a: float32[3]: give that too \
                    (--inputs F.npz, -i 'a=F.npy'), or a --shape 'a=...' for random values\n";
    assert_eq!((ended.code, ended.err.as_str()), (2, expected));
    assert_eq!(place.run(&["--inputs", &npz, "--shape", "a=3"]).code, 0);
}

#[test]
fn errors_are_json_where_results_would_be() {
    let place = unary("Frobnicate", &["2"]);
    let error = |arguments: &[&str]| {
        let ended = run(&[arguments, &["--json"]].concat());
        assert_eq!((ended.code, ended.err.as_str()), (2, ""), "{ended:?}");
        serde_json::from_str::<Value>(&ended.out).unwrap()["error"].clone()
    };
    let missing = error(&["run", "no-such.onnx"]);
    assert_eq!(
        (missing["kind"].as_str(), missing["message"].as_str()),
        (Some("file"), Some("no-such.onnx: there is no such file"))
    );
    let unsupported = error(&["run", &place.model, "--device", "cpu"]);
    assert_eq!(
        (unsupported["kind"].as_str(), unsupported["nodes"][0]["op"].as_str()),
        (Some("unsupported"), Some("Frobnicate"))
    );
    let profiled = error(&["bench", &place.model, "--device", "cpu", "--profile"]);
    assert!(profiled["message"].as_str().unwrap().starts_with("--profile measures the time on a GPU"));
}

#[test]
fn unsupported_nodes_are_counted_alike_and_something_can_be_done() {
    let nodes = vec![
        node("Frobnicate", &["x"], &["v"]),
        node("Frobnicate", &["v"], &["y"]),
        node("Gizmo", &["x"], &["z"]),
    ];
    let mut main = graph(&[], nodes, &["y", "z"]);
    main.input = vec![value("x", FLOAT, &["2"])];
    let place = ModelFolder::of(&model(17, main));
    let card = run(&["inspect", &place.model]);
    assert_eq!(card.code, 1);
    for command in ["run", "bench", "verify"] {
        let ended = run(&[command, &place.model]);
        assert_eq!(ended.code, 2);
        let listed = ended.err.strip_prefix("error: ").unwrap().trim_end();
        assert!(listed.starts_with("unsupported: 3 nodes\n"), "{listed}");
        assert!(listed.contains("what can be done: export the model without this operator"), "{listed}");
        assert!(card.out.contains(listed), "{}\n{listed}", card.out);
    }
}

#[test]
fn sizes_are_said_once_learned_or_chosen() {
    let place = two(&["batch", "n"], &["batch", "past", "4"]);
    let shapes = |arguments: &[&str]| {
        let ran = place.json(arguments);
        let of = |input: &Value| input["shape"].to_string();
        ran["inputs"].as_array().unwrap().iter().map(of).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shapes(&["--dim", "batch=2", "--dim", "past=0", "--dim", "n=5"]), "[2,5] [2,0,4]");
    assert_eq!(shapes(&["--dim", "past=3", "--shape", "x=[7, 2]"]), "[7,2] [7,3,4]");
    // Without a word: a batch of one, an empty cache, and 128 of the rest. An output without elements shows nothing, so sizes are
    // tried on until the model fills all of them, or none does.
    assert_eq!(shapes(&[]), "[1,128] [1,0,4]");
    let text = place.text(&["--dim", "batch=2"]);
    assert!(
        text.contains(
            "sizes     n 128, past 0 were chosen; --dim NAME=N or --shape NAME=1x3x224x224 says another"
        ),
        "{text}"
    );
    for (arguments, words) in [
        (&["--dim", "batch"][..], "--dim 'batch': is written as --dim 'batch=1'"),
        (&["--dim", "height=3"], "no dimension of this name; their names are: batch, n, past"),
        (
            &["--dim", "batch=2", "--shape", "x=3x1"],
            "dimension 'batch' cannot have two sizes: --dim batch=2 says 2, and --shape x [3, 1] says 3",
        ),
        (&["--shape", "x=2*3"], "'2*3' is no size; a shape is written as 1x128 or [1,128]"),
    ] {
        let ended = place.run(arguments);
        assert!(ended.code == 2 && ended.err.contains(words), "{words}: {ended:?}");
    }
}

#[test]
fn every_command_chooses_the_same_sizes() {
    let place = unary("Relu", &["batch", "3", "height", "width"]);
    let words = "batch 1, height 224, width 224 were chosen";
    for command in ["run", "inspect", "verify", "bench"] {
        let text = output(&[command, &place.model]);
        assert!(text.contains(words), "{command}: {text}");
    }
    let card: Value = serde_json::from_str(&output(&["inspect", &place.model, "--json"])).unwrap();
    assert_eq!(card["plan"]["shapes"][0][1], serde_json::json!([1, 3, 224, 224]));
}

#[test]
fn outputs_are_printed_as_people_read_numbers() {
    let place = unary("Relu", &["1", "4"]);
    let npz = place.path("in.npz");
    save_npz(&npz, &[("x".into(), floats("(1, 4)", &[1e-7, 2.5, -1.0, 1234567.0]))]);
    let text = place.text(&["--inputs", &npz, "--print"]);
    assert!(text.contains("output    y: float32[1, 4] min 0 max 1.23457e+06 mean 308642\n"), "{text}");
    assert!(text.contains("y: float32[1, 4]\n        1e-07         2.5           0 1.23457e+06\n"), "{text}");
    let labels = place.file("labels.txt", b"cat\ndog\nbird\nfish\n");
    let text = place.text(&["--inputs", &npz, "--top", "2", "--labels", &labels]);
    assert!(
        text.contains("top       y\n   1.23457e+06      3  fish\n           2.5      1  dog\n"),
        "{text}"
    );
    let short = place.file("short.txt", b"cat\n");
    let ended = place.run(&["--inputs", &npz, "--top", "2", "--labels", &short]);
    assert!(
        ended.code == 2 && ended.err.contains("has 1 line, and output 'y' has 4 places in a row"),
        "{ended:?}"
    );
}

#[test]
fn outputs_are_compared_with_what_is_expected() {
    let place = unary("Relu", &["3"]);
    let (inputs, expected) = (place.path("in.npz"), place.path("expected.npz"));
    save_npz(&inputs, &[("x".into(), floats("(3,)", &[1.0, -1.0, 3.0]))]);
    let expect = |name: &str, values: &[f32], more: &[&str]| {
        save_npz(&expected, &[(name.into(), floats("(3,)", values))]);
        place.run(&[&["--inputs", &inputs, "--expect", &expected], more].concat())
    };
    let good = expect("y", &[1.0, 0.0, 3.0], &[]);
    assert!(
        good.code == 0
            && good.out.contains(
                "expect    y: as expected, within 0.001 + 0.001 * |expected|; the greatest difference is 0\n"
            ),
        "{good:?}"
    );
    let bad = expect("y", &[1.0, 0.5, 3.0], &[]);
    let words = "expect    y: not as expected: element 1: expected 0.5, got 0; 1 of 3 elements differ, at most by 0.5\n";
    assert!(bad.code == 1 && bad.out.contains(words), "{bad:?}");
    assert_eq!(expect("y", &[1.0, 0.5, 3.0], &["--tolerance", "0.5"]).code, 0);
    let other = expect("z", &[1.0, 0.5, 3.0], &[]);
    assert!(
        other.code == 2 && other.err.contains("'z': the model has no such output; it has 'y'"),
        "{other:?}"
    );
}

#[test]
fn numbers_that_are_none_do_not_pass_in_silence() {
    let place = unary("Log", &["2"]);
    let inputs = place.path("in.npz");
    let on = |values: &[f32], more: &[&str]| {
        save_npz(&inputs, &[("x".into(), floats("(2,)", values))]);
        place.run(&[&["--inputs", &inputs], more].concat())
    };
    let warned = on(&[-1.0, 1.0], &[]);
    assert_eq!(
        (warned.code, warned.err.as_str()),
        (0, "warning: NaN or infinity, which no input has: output 'y' has 1\n")
    );
    assert_eq!(on(&[0.0, 1.0], &["--fail-on-nan"]).code, 1);
    let given = on(&[f32::NAN, 1.0], &["--fail-on-nan"]);
    assert_eq!((given.code, given.err.as_str()), (0, ""));
    assert_eq!(on(&[2.0, 1.0], &["--fail-on-nan"]).code, 0);
}

#[test]
fn arrays_are_cast_where_one_asks_for_it() {
    let place = unary("Relu", &["2"]);
    let bytes: Vec<u8> = [1.5f64, -2.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let wide = place.file("x.npy", &array("<f8", false, "(2,)", &bytes));
    let text = place.text(&["-i", &format!("x={wide}"), "--cast", "--print"]);
    assert!(text.contains("  1.5   0\n"), "{text}");
}

#[test]
fn tensors_pictures_and_sounds_are_inputs() {
    let place = unary("Identity", &["1", "3", "height", "width"]);
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/../pictures/tests/files/quarters.png");
    let image = |more: &[&str]| {
        place.json(&[&["--image", &format!("x={picture}")], more].concat())["outputs"][0].clone()
    };
    // Red, green, blue and white: each channel is bright in half of the picture.
    let bytes = image(&["--image-preset", "bytes"]);
    assert_eq!(
        (bytes["shape"].to_string(), bytes["max"].as_f64(), bytes["mean"].as_f64()),
        ("[1,3,16,32]".into(), Some(255.0), Some(127.5))
    );
    let signed = image(&["--image-preset", "signed"]);
    assert_eq!((signed["min"].as_f64(), signed["max"].as_f64()), (Some(-1.0), Some(1.0)));
    let own = image(&["--image-scale", "1", "--image-mean", "55", "--image-std", "2"]);
    assert_eq!((own["min"].as_f64(), own["max"].as_f64()), (Some(-27.5), Some(100.0)));
    let fixed = unary("Identity", &["1", "3", "8", "4"]);
    assert_eq!(
        fixed.json(&["--image", &format!("x={picture}")])["outputs"][0]["shape"].to_string(),
        "[1,3,8,4]"
    );
    let lines = unary("Identity", &["1", "3", "8", "width"]);
    assert_eq!(
        lines.json(&["--image", &format!("x={picture}")])["outputs"][0]["shape"].to_string(),
        "[1,3,8,16]"
    );
    let huge = unary("Identity", &["1", "3", "65536", "65536"]).run(&["--image", &format!("x={picture}")]);
    assert!(
        huge.code == 2 && huge.err.contains("a picture of 65536 x 65536 pixels, and at most 134217728"),
        "{huge:?}"
    );
    let last = unary("Identity", &["1", "8", "4", "3"]);
    assert_eq!(
        last.json(&["--image", &format!("x={picture}")])["outputs"][0]["shape"].to_string(),
        "[1,8,4,3]"
    );
    // The brightness of red, green, blue and white, a quarter each, is 0.299, 0.587, 0.114 and 1.
    let grey = unary("Identity", &["1", "1", "8", "4"]).json(&["--image", &format!("x={picture}")]);
    let mean = grey["outputs"][0]["mean"].as_f64().unwrap();
    assert!((mean - 0.5).abs() < 1e-3, "{grey}");
    let four = unary("Identity", &["1", "4", "8", "6"]).run(&["--image", &format!("x={picture}")]);
    assert!(four.code == 2 && four.err.contains("has 4 channels, and pictures have 3, or 1 of"), "{four:?}");

    let sound = unary("Identity", &["batch", "samples"]);
    // 16-bit PCM of one channel: a half, and minus one.
    let fmt = [[1, 0, 1, 0].as_slice(), &[0; 10], &[16, 0]].concat();
    let wav =
        [b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0".as_slice(), &fmt, b"data\x04\0\0\0\x00\x40\x00\x80"].concat();
    let wav = sound.file("sound.wav", &wav);
    let heard = &sound.json(&["--wav", &format!("x={wav}")])["outputs"][0];
    assert_eq!(
        (heard["shape"].to_string(), heard["min"].as_f64(), heard["max"].as_f64()),
        ("[1,2]".into(), Some(-1.0), Some(0.5))
    );

    let tensor = unary("Relu", &["2"]);
    let values = [3.0f32, -1.0].map(f32::to_le_bytes).concat();
    // TensorProto: dims 2, data type 1 (float), raw data.
    let pb = [&[0x08, 2, 0x10, 1, 0x4a, 8], values.as_slice()].concat();
    let pb = tensor.file("x.pb", &pb);
    assert!(tensor.text(&["-i", &format!("x={pb}"), "--print"]).contains("  3 0\n"));
}

#[test]
fn ids_are_below_what_the_model_has_places_for() {
    // One table of 50 places and one of 40, read by ids that are cast and flattened before.
    let nodes = vec![
        node("Gather", &["large", "ids"], &["a"]),
        node("Cast", &["ids"], &["cast"]).with(int("to", 6)),
        node("Flatten", &["cast"], &["flat"]),
        node("Gather", &["small", "flat"], &["b"]),
    ];
    let mut main = graph(&[], nodes, &["a", "b"]);
    main.input = vec![value("ids", 7, &["1", "500"])];
    main.initializer = vec![weights("large", &[50, 1], &[1.0; 50]), weights("small", &[40, 1], &[1.0; 40])];
    let ran = ModelFolder::of(&model(17, main)).json(&[]);
    let ids = &ran["inputs"][0];
    assert_eq!((ids["min"].as_f64(), ids["max"].as_f64()), (Some(0.0), Some(39.0)));
    // A table of bytes, which is cast and scaled.
    let nodes = vec![
        node("Cast", &["bytes"], &["floats"]).with(int("to", 1)),
        node("Mul", &["floats", "scale"], &["table"]),
        node("Gather", &["table", "ids"], &["y"]),
    ];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("ids", 7, &["1", "500"])];
    let bytes = TensorProto { raw_data: Some(vec![1; 60].into()), ..empty("bytes", 3, &[60, 1]) };
    main.initializer = vec![bytes, weights("scale", &[60, 1], &[1.0; 60])];
    let ran = ModelFolder::of(&model(17, main)).json(&[]);
    assert_eq!(ran["inputs"][0]["max"].as_f64(), Some(59.0));
}

#[test]
fn a_limit_is_told_with_the_option_that_raises_it() {
    // The target of the reshape is the sum of a million zeros, which stands for the input's own size.
    let nodes = vec![
        node("ConstantOfShape", &["million"], &["zeros"]),
        node("ReduceSum", &["zeros"], &["sum"]),
        node("Cast", &["sum"], &["target"]).with(int("to", 7)),
        node("Reshape", &["x", "target"], &["y"]),
    ];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", FLOAT, &["1"])];
    let million = 1_000_000i64.to_le_bytes().to_vec();
    main.initializer = vec![TensorProto { raw_data: Some(million.into()), ..empty("million", 7, &[1]) }];
    let place = ModelFolder::of(&model(17, main));
    assert_eq!(run(&["run", &place.model]).code, 0);
    let ended = run(&["run", &place.model, "--limit-steps", "1000"]);
    assert!(ended.code == 2 && ended.err.contains("raise --limit-steps"), "{ended:?}");
}

#[test]
fn masks_are_ones() {
    let nodes = vec![node("Identity", &["attention_mask"], &["y"])];
    let mut main = graph(&[], nodes, &[]);
    main.input = vec![value("attention_mask", 7, &["1", "50"])];
    main.output = vec![value("y", 7, &["1", "50"])];
    let place = ModelFolder::of(&model(17, main));
    let ran = place.json(&[]);
    assert_eq!(
        (ran["outputs"][0]["min"].as_f64(), ran["outputs"][0]["max"].as_f64()),
        (Some(1.0), Some(1.0))
    );
}

#[test]
fn the_first_run_is_told_apart_from_the_next() {
    let place = unary("Relu", &["2"]);
    let text = output(&["run", &place.model]);
    for word in ["first run ", "planning ", "compiling 1 kernel ", "uploading ", "again     "] {
        assert!(text.contains(word), "{word}: {text}");
    }
    let once = output(&["run", &place.model, "--once"]);
    assert!(!once.contains("again"), "{once}");
    let ran: Value = serde_json::from_str(&output(&["run", &place.model, "--json"])).unwrap();
    for key in ["first_ms", "plan_ms", "prepare_ms", "compile_ms", "upload_ms", "run_ms", "again_ms"] {
        assert!(ran[key].is_number(), "{key}: {ran}");
    }
}

#[test]
fn what_the_device_cannot_take_is_refused_before_data_are_made() {
    // 800 MB of input, which nobody draws. One row is not computed in parts.
    let place = unary("Softmax", &["n"]);
    let ended = run(&["run", &place.model, "--shape", "x=200000000"]);
    assert!(ended.code == 2 && ended.err.contains("allows"), "{ended:?}");
}

#[test]
fn help_shows_examples_and_the_program_its_seven_things() {
    for command in ["run", "inspect", "verify", "bench", "convert", "devices", "suite", "completions"] {
        let help = output(&["help", command]);
        assert!(help.contains("Examples:\n  sardonyx "), "{command}: {help}");
    }
    let nothing = run::<&str>(&[]);
    assert_eq!((nothing.code, nothing.out.as_str()), (2, ""));
    for word in [
        "sardonyx inspect",
        "sardonyx run",
        "--image",
        "sardonyx verify",
        "sardonyx bench",
        "sardonyx convert",
        "sardonyx devices",
    ] {
        assert!(nothing.err.contains(word), "{word}: {}", nothing.err);
    }
    let man = output(&["man"]);
    for word in [".TH sardonyx", ".SH \"SARDONYX RUN\"", "SARDONYX INSPECT", "Examples:", "\\-\\-expect"] {
        assert!(man.contains(word), "{word}: {man}");
    }
}

#[test]
fn completions_offer_adapters_and_the_models_names() {
    let place = two(&["batch", "3"], &["batch"]);
    // As the script for fish asks.
    let offered = |line: &[&str]| {
        let mut command = program();
        command.env("COMPLETE", "fish").args([&["--", "sardonyx"], line].concat());
        let ended: Ended = command.output().unwrap().into();
        assert_eq!(ended.code, 0, "{line:?}: {ended:?}");
        ended.out.lines().map(|line| line.split('\t').next().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(offered(&["run", &place.model, "--shape", ""]), ["x=", "a="]);
    assert_eq!(offered(&["bench", &place.model, "--dim", ""]), ["batch="]);
    let devices = offered(&["run", &place.model, "--device", ""]);
    let expected = ["auto", "gpu", "cpu", "0"];
    assert!(expected.iter().all(|name| devices.iter().any(|device| device == name)), "{devices:?}");
    assert!(offered(&["ins"]).contains(&"inspect".to_string()));
}

#[test]
fn with_json_wrong_arguments_are_json_too() {
    for (arguments, words) in [
        (vec!["run", "m.onnx", "--jsn", "--json"], "'--jsn'"),
        (vec!["--json", "rnu"], "'rnu'"),
        (vec!["bench", "--json"], "<MODEL>"),
        (vec!["inspect", "m.onnx", "--stage", "wgls", "--json"], "wgsl"),
    ] {
        let ended = run(&arguments);
        let error: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!((ended.code, &error["error"]["kind"]), (2, &"usage".into()), "{arguments:?}");
        let message = error["error"]["message"].as_str().unwrap();
        assert!(message.contains(words) && !message.starts_with("error"), "{arguments:?}: {message}");
        assert_eq!(ended.err, "");
    }
    // Without the flag, and for what is no mistake, there is text.
    assert!(run(&["rnu"]).err.starts_with("error: "));
    assert!(run(&["run", "--help", "--json"]).out.contains("Examples:"));
}

#[test]
fn printed_outputs_and_chosen_sizes_are_in_the_json_too() {
    let place = unary("Log", &["batch", "3"]);
    let npz = place.path("in.npz");
    save_npz(&npz, &[("x".into(), floats("(1, 3)", &[1.0, 0.0, -1.0]))]);
    let ran = place.json(&["--inputs", &npz, "--print"]);
    assert_eq!(ran["print"]["y"]["elements"].to_string(), r#"[0.0,"-inf","NaN"]"#);
    assert_eq!((&ran["print"]["y"]["left_out"], &ran["chosen"]), (&0.into(), &serde_json::json!([])));
    let many = unary("Relu", &["n"]).json(&["--print", "--dim", "n=1500"]);
    assert_eq!(many["print"]["y"]["elements"].as_array().unwrap().len(), 1000);
    assert_eq!(many["print"]["y"]["left_out"], 500);
    for command in ["run", "bench", "verify"] {
        let json: Value = serde_json::from_str(&output(&[command, &place.model, "--json"])).unwrap();
        assert_eq!(json["chosen"], serde_json::json!([["batch", 1]]), "{command}");
        assert!(json["software"].is_boolean(), "{command}");
    }
    let whole: Value = serde_json::from_str(&output(&["run", &place.model, "--json"])).unwrap();
    assert!(whole["pipelines"].is_u64() && whole["uploaded_bytes"].is_u64(), "{whole}");
}

#[test]
fn a_place_where_nothing_can_be_written_is_told_before_the_run() {
    // The element is no number, so that a run would fail for this reason.
    let place = unary("Gizmo", &["2"]);
    let file = place.file("file", b"");
    for (target, words) in [
        (place.path("no/such/y.npz"), "there is no folder"),
        ("/proc/y.npz".into(), "nothing can be written in the folder /proc"),
        (place.path(""), "is no regular file"),
        (format!("{file}/y.npz"), "file"),
    ] {
        let ended = place.run(&["--outputs", &target]);
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{ended:?}");
        let named = ended.err.starts_with(&format!("error: {target}: "));
        assert!(named && ended.err.contains(words), "{words}: {ended:?}");
    }
    let place = unary("Relu", &["2"]);
    let out = place.path("y.npz");
    assert!(place.text(&["--outputs", &out]).contains(&format!("written   {out}\n")));
    assert_eq!(fs::read_dir(place.folder.path()).unwrap().count(), 2, "nothing else is left there");
}

#[test]
fn a_picture_gets_a_size_that_the_model_takes() {
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/../pictures/tests/files/quarters.png");
    let named = format!("x={picture}");
    // Channels are moved into a grid of 32 x 32 and the sides are added up again: sides must be multiples of 32, and the grid 1 x 1.
    let nodes = vec![node("SpaceToDepth", &["x"], &["y"]).with(int("blocksize", 32))];
    let mut main = graph(&[], nodes, &["y"]);
    main.input = vec![value("x", FLOAT, &["n", "3", "height", "width"])];
    let strict = ModelFolder::of(&model(17, main));
    for device in ["auto", "cpu"] {
        let text = output(&["run", &strict.model, "--image", &named, "--device", device]);
        assert!(text.contains("sizes     height 32 was chosen; "), "{text}");
        assert!(text.contains("input     x: float32[1, 3, 32, 32]"), "{text}");
        assert!(text.contains(&format!("({picture}, 32 x 16 pixels)\n")), "{text}");
    }
    // A model that takes the picture as it is gets it so.
    let open = unary("Relu", &["n", "3", "height", "width"]);
    let shape = |place: &ModelFolder, more: &[&str]| {
        place.json(&[&["--image", &named], more].concat())["inputs"][0]["shape"].to_string()
    };
    assert_eq!(shape(&open, &[]), "[1,3,16,32]");
    assert_eq!(shape(&open, &["--shape", "x=1x3x64x96"]), "[1,3,64,96]");
    assert_eq!(shape(&open, &["--dim", "height=64"]), "[1,3,64,128]");
    assert_eq!(shape(&open, &["--dim", "height=64", "--dim", "width=5"]), "[1,3,64,5]");
    for (place, more, words) in [
        (&open, &["--dim", "n=2"][..], "takes 2 pictures at once, and --image gives one; give an array (-i)"),
        (&open, &["--shape", "x=1x1x4x4"], "takes x: float32[n, 3, height, width]"),
        (&unary("Relu", &["10", "3", "4", "4"]), &[], "takes 10 pictures at once"),
        (&open, &["--image-std", "0"], "--image-std: is 0"),
        (&open, &["--image-mean", "-1,x,0"], "takes one number, or three"),
    ] {
        let ended = place.run(&[&["--image", &named], more].concat());
        assert!(ended.code == 2 && ended.err.contains(words), "{words}: {ended:?}");
    }
    let shifted = open.json(&["--image", &named, "--image-preset", "bytes", "--image-mean", "-1,-2,-3"]);
    assert_eq!(shifted["inputs"][0]["max"].as_f64(), Some(258.0));
    let alone = open.run(&["--image-mean", "1"]);
    assert!(alone.code == 2 && alone.err.contains("--image <NAME=FILE>"), "{alone:?}");
}

#[test]
fn advice_fits_what_one_did() {
    let place = unary("Relu", &["n"]);
    let npy = place.file("x.npy", &floats("(2,)", &[1.0, 2.0]));
    let complex = place.file("c.npy", &array("<c8", false, "(1,)", &[0; 8]));
    let text = place.file("s.npy", &array("<U1", false, "(1,)", &[97, 0, 0, 0]));
    let noise = place.file("bad.pb", &[0xff; 100]);
    let words = place.file("words.pb", b"some words");
    let picture = concat!(env!("CARGO_MANIFEST_DIR"), "/../pictures/tests/files/quarters.png");
    let wide = place.file("wide.npy", &floats("(1, 2)", &[1.0, 2.0]));
    for (arguments, words) in [
        (vec!["--expect", &npy], "which holds one array: numpy.savez(F, **{'y': array}) writes one"),
        (
            vec!["-i", &complex],
            "is complex64, and the model takes float32; complex numbers are not converted",
        ),
        (vec!["-i", &complex, "--cast"], "c.npy: input 'x': is complex64"),
        (vec!["-i", &text, "--cast"], "s.npy: input 'x': is string, and the model takes float32, and --cast"),
        (vec!["-i", &noise], "bad.pb: is no ONNX tensor (a TensorProto): "),
        (vec!["-i", &words], "words.pb: is a text file, and no ONNX tensor"),
        (vec!["-i", picture], "give it as --image NAME=FILE"),
        (vec!["-i", &wide], "wide.npy: input 'x': has shape [1, 2], and the model takes [n]"),
        (vec!["--cast"], "--cast converts arrays, and none is given"),
        (vec!["--dim", "n=-1"], "--dim 'n=-1': '-1' is no size; write --dim 'n=1'"),
        (vec!["--top", "-1"], "'-1' for '--top <N>': is no whole number of at least 1"),
        (vec!["--top", "0"], "is no whole number of at least 1"),
        (vec!["--seed", "1e3"], "is no whole number of at least 0"),
        (vec!["--expect", "f", "--tolerance", "nan"], "is no number of at least 0, as 1e-3 is"),
        (vec!["--expect", "f", "--tolerance", "-1"], "is no number of at least 0"),
        (vec!["--tpo", "3"], "a similar argument exists: '--top'"),
    ] {
        let ended = place.run(&arguments);
        assert!(ended.code == 2 && ended.err.contains(words), "{words}: {ended:?}");
        assert!(!ended.err.contains("use '-- -"), "{ended:?}");
    }
    let empty = run(&["run", &place.model, "--device", ""]);
    assert!(empty.code == 2 && empty.err.contains("is empty; auto is what"), "{empty:?}");
    // The name may be left out where there is one input.
    assert!(place.text(&["-i", &npy, "--print"]).contains("  1 2\n"));
    let several = two(&["2"], &["3"]);
    let ended = several.run(&["-i", &npy]);
    assert!(ended.err.contains(&format!("-i '{npy}': an input's name and '=' come first")), "{ended:?}");
    let ended = several.run(&["-i", &format!("A={npy}")]);
    assert!(ended.err.contains(&format!("as in -i 'a={npy}'; the inputs are x, a")), "{ended:?}");
    let fixed = several.run(&["--dim", "n=1"]);
    assert!(fixed.err.contains("the model's inputs have no named dimensions; --shape says"), "{fixed:?}");
    let ranks = several.run(&["--shape", "x=1x3"]);
    assert!(
        ranks.err.contains("the model takes x: float32[2]; a shape for it is written as 2 or [2]"),
        "{ranks:?}"
    );
}

#[test]
fn what_the_model_does_not_take_is_told_with_the_ways_on() {
    let mut main = graph(&[], vec![node("Add", &["x", "table"], &["y"])], &["y"]);
    main.input = vec![value("x", FLOAT, &["batch", "length"])];
    main.initializer = vec![weights("table", &[1, 512], &[0.0; 512])];
    let place = ModelFolder::of(&model(17, main));
    for command in ["run", "bench", "verify", "inspect"] {
        let ended = run(&[command, &place.model, "--dim", "length=600"]);
        let words = "the inputs are x [1, 600]; other sizes are said as --dim 'batch=N' or --shape 'x=1x128'";
        assert_eq!((ended.code, ended.out.as_str()), (2, ""), "{command}: {ended:?}");
        assert!(ended.err.contains(words), "{command}: {ended:?}");
    }
    let large = unary("Softmax", &["n"]);
    let ended = run(&["run", &large.model, "--shape", "x=200000000"]);
    assert!(ended.err.contains("762.9 MiB (800000000 bytes), and the device allows "), "{ended:?}");
    assert!(ended.err.trim_end().ends_with("--shape 'x=128', or another device: --device"), "{ended:?}");
    // A model that does not say its input's rank has a card.
    let main = graph(&["x"], vec![node("Relu", &["x"], &["y"])], &["y"]);
    let unknown = ModelFolder::of(&model(17, main));
    let card = output(&["inspect", &unknown.model]);
    assert!(
        card.contains("no plan   input 'x': the model does not say how many dimensions it has"),
        "{card}"
    );
    let wrong = run(&["inspect", &place.model, "--shape", "x=1"]);
    assert!(wrong.code == 2 && wrong.err.contains("a shape for it is written as 1x128"), "{wrong:?}");
}

#[test]
fn an_id_beyond_32_bits_is_computed() {
    let mut main = graph(&[], vec![node("Neg", &["i"], &["y"])], &[]);
    main.input = vec![value("i", 7, &["1"])];
    main.output = vec![value("y", 7, &["1"])];
    let place = ModelFolder::of(&model(17, main));
    let huge = place.file("huge.npy", &array("<i8", false, "(1,)", &(1i64 << 40).to_le_bytes()));
    let ended = run(&["run", &place.model, "-i", &huge, "--print"]);
    assert!(ended.code == 0 && ended.out.contains("-1099511627776"), "{ended:?}");
    assert_eq!(place.run(&["-i", &huge]).code, 0);
    let half = place.file("half.npy", &array("<f4", false, "(1,)", &1.75f32.to_le_bytes()));
    let cast = place.run(&["-i", &half, "--cast"]);
    let warning = "warning: --cast changed 1 number on the way to int64: 1.75 became 1\n";
    assert_eq!((cast.code, cast.err.as_str()), (0, warning));
}

#[test]
fn results_are_checked_against_the_model_before_the_run() {
    // Nothing here could run, so the complaint is from before.
    let mut main = graph(&[], vec![node("Gizmo", &["x"], &["y"])], &[]);
    main.input = vec![value("x", FLOAT, &["3"])];
    main.output = vec![value("y", FLOAT, &["1", "3"])];
    let place = ModelFolder::of(&model(17, main));
    let labels = place.file("labels.txt", b"a\n");
    let other = place.path("other.npz");
    save_npz(&other, &[("z".into(), floats("(1,)", &[0.0]))]);
    for (arguments, words) in [
        (vec!["--top", "1", "--labels", &labels], "has 1 line, and output 'y' has 3 places in a row"),
        (vec!["--expect", &other], "'z': the model has no such output; it has 'y'"),
    ] {
        let ended = place.run(&arguments);
        assert!(ended.code == 2 && ended.err.contains(words), "{words}: {ended:?}");
    }
}

#[test]
fn a_wrong_command_is_answered_with_the_right_one() {
    let place = unary("Relu", &["2"]);
    for (written, tip) in [
        ("rnu", "a similar subcommand exists: 'run'"),
        ("benhc", "a similar subcommand exists: 'bench'"),
        (place.model.as_str(), &format!("'sardonyx run {}'", place.model)),
    ] {
        let ended = run(&[written]);
        assert!(ended.code == 2 && ended.err.contains(tip), "{tip}: {ended:?}");
        assert!(!ended.err.contains("bench-worker"), "{ended:?}");
    }
}

#[test]
fn one_is_no_plural_and_two_are() {
    let place = unary("Relu", &["1"]);
    let is_plural = |words: &[&str]| {
        let word = words[1].trim_matches(|c: char| !c.is_alphabetic());
        words[0] == "1" && word.len() > 2 && word.ends_with('s') && !word.ends_with("ss")
    };
    for arguments in [
        &["run"][..],
        &["run", "--print", "--top", "1"],
        &["bench", "--runs", "1", "--warmup", "1"],
        &["verify", "--all"],
        &["inspect"],
        &["inspect", "--stage", "program"],
        &["inspect", "--stage", "wgsl"],
        &["inspect", "--stage", "memory"],
    ] {
        let text = output(&[&[arguments[0], &place.model], &arguments[1..]].concat());
        let wrong =
            text.lines().filter(|line| line.split_whitespace().collect::<Vec<_>>().windows(2).any(is_plural));
        let wrong: Vec<&str> = wrong.collect();
        assert!(wrong.is_empty(), "{arguments:?}: {wrong:?}: {text}");
    }
}
