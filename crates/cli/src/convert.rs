//! `sardonyx convert`: an ONNX model of a file of another kind, or a model with the weights of another file.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use super::{Failure, Verdict, counted, files, listed, print, print_json};
use sardonyx::shown;
use sardonyx_convert::{Error, WeightReport, from_pmml, with_weights};

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sardonyx convert model.pmml -o model.onnx                           PMML, converted by this program
  sardonyx convert model.tflite -o model.onnx                         by the Python package `sardonyx` and what it needs
  sardonyx convert model.onnx --weights fine.safetensors -o new.onnx  other weights, by the initializers' names

By Python: .tflite, .keras and .h5 (tf2onnx, tensorflow), .pdmodel (paddle2onnx, paddlepaddle), .cbm (catboost), .txt of LightGBM
(onnxmltools, lightgbm), .ubj and .json of XGBoost (onnxmltools, xgboost). SARDONYX_PYTHON names the Python to take instead of `python3`.")]
pub(super) struct Args {
    /// The file to convert.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The ONNX model to write.
    #[arg(short, long, value_name = "OUT.onnx")]
    output: PathBuf,
    /// Put the weights of this file (.safetensors, or a state dictionary of PyTorch in .pt or .pth) into the model FILE.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
}

pub(super) fn main(args: &Args, json: bool) -> Verdict {
    files::check_target(&args.output)?;
    let (model, report) = match &args.weights {
        Some(weights) => {
            let model = files::read(&args.file)?;
            let made = with_weights(model, &files::read(weights)?);
            let (model, report) = made.map_err(|error| match error {
                Error::Model(_) => files::failed(&args.file, error),
                _ => files::failed(weights, error),
            })?;
            (model, Some(report))
        }
        None => (converted(&args.file)?, None),
    };
    files::write(&args.output, |file| file.write_all(&model).map_err(|error| error.to_string()))?;
    tell(args, report, json)?;
    Ok(true)
}

/// Says what was written, and what became of weights.
fn tell(args: &Args, report: Option<WeightReport>, json: bool) -> Result<(), Failure> {
    let output = args.output.to_string_lossy();
    if json {
        let mut value = json!({ "output": output });
        if let Some(report) = report {
            value["replaced"] = json!(report.replaced);
            value["kept"] = json!(report.kept);
            value["unused"] = json!(report.unused);
        }
        return print_json(&value);
    }
    print(&format!("wrote     {}\n", shown(&output)))?;
    let Some(report) = report else { return Ok(()) };
    print(&format!("replaced  {}\n", counted(report.replaced.len(), "initializer")))?;
    for (label, names) in [("kept", &report.kept), ("unused", &report.unused)] {
        if !names.is_empty() {
            print(&format!("{}\n", listed(label, names.iter().map(String::as_str)).trim_end()))?;
        }
    }
    if !report.kept.is_empty() && !report.unused.is_empty() {
        print(
            "note      what is kept has its old weights. If the exporter made it of those that are unused, export again with\n\
             \x20         torch.onnx.export(..., do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE)\n",
        )?;
    }
    Ok(())
}

/// The kinds of files that Python converts: by extension, what must be installed, and the expression of the model's bytes.
const BY_PYTHON: [(&str, &str, &str); 8] = [
    ("tflite", "tf2onnx tensorflow", "convert.from_tflite(path)"),
    (
        "keras",
        "tf2onnx tensorflow",
        "convert.from_keras(__import__('tensorflow').keras.models.load_model(path))",
    ),
    (
        "h5",
        "tf2onnx tensorflow",
        "convert.from_keras(__import__('tensorflow').keras.models.load_model(path))",
    ),
    ("pdmodel", "paddle2onnx paddlepaddle", "convert.from_paddle(path)"),
    ("cbm", "onnx catboost", "convert.from_catboost(__import__('catboost').CatBoost().load_model(path))"),
    ("txt", "onnxmltools lightgbm", "convert.from_lightgbm(__import__('lightgbm').Booster(model_file=path))"),
    ("ubj", "onnxmltools xgboost", "convert.from_xgboost(__import__('xgboost').Booster(model_file=path))"),
    ("json", "onnxmltools xgboost", "convert.from_xgboost(__import__('xgboost').Booster(model_file=path))"),
];

/// The model of a file without weights of another.
fn converted(path: &Path) -> Result<Vec<u8>, Failure> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
    let extension = extension.unwrap_or_default();
    if let Some((_, packages, expression)) = BY_PYTHON.iter().find(|kind| kind.0 == extension) {
        files::open(path)?;
        return by_python(path, packages, expression);
    }
    let what = match extension.as_str() {
        "onnx" => "is an ONNX model already; --weights FILE puts other weights into it",
        "pt" | "pth" | "safetensors" => {
            "has weights, and no model: sardonyx convert MODEL.onnx --weights FILE -o OUT.onnx puts them into one (torch.onnx.export makes it)"
        }
        "pkl" | "pickle" | "joblib" | "dill" => {
            "is a pickle, and reading one runs the code in it. Load it in Python if you trust it, and call sardonyx.convert.from_sklearn"
        }
        "pmml" | "xml" => return pmml(path),
        _ if files::read(path)?.trim_ascii_start().starts_with(b"<") => return pmml(path),
        _ => "is of a kind that is not converted; see sardonyx convert --help",
    };
    files::open(path)?;
    Err(files::failed(path, what))
}

fn pmml(path: &Path) -> Result<Vec<u8>, Failure> {
    from_pmml(&files::read(path)?).map_err(|error| files::failed(path, error))
}

/// Runs the recipe of the Python package in a process of its own, as some of these libraries disturb others in theirs. What the
/// libraries print goes to standard error, so that standard output has the model alone.
fn by_python(path: &Path, packages: &str, expression: &str) -> Result<Vec<u8>, Failure> {
    let program = format!(
        "import os, sys\nmodel = os.fdopen(os.dup(1), 'wb')\nos.dup2(2, 1)\npath = sys.argv[1]\ntry:\n    from sardonyx import convert\n    \
         model.write({expression})\nexcept ImportError as error:\n    sys.exit(f'{{error}}; pip install sardonyx {packages}')\n"
    );
    let python = std::env::var_os("SARDONYX_PYTHON").unwrap_or_else(|| "python3".into());
    let named = python.to_string_lossy().into_owned();
    let started = Command::new(&python)
        .args(["-c", &program])
        .arg(path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = started.map_err(|error| {
        let advice = format!(
            "install Python and pip install sardonyx {packages}, or name a Python in SARDONYX_PYTHON"
        );
        files::failed(path, format!("is converted by Python, and {} does not start: {error}", shown(&named)))
            .advised(&advice)
    })?;
    // Both pipes are read, so that the process waits for neither.
    let errors = child.stderr.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut text = Vec::new();
            pipe.read_to_end(&mut text).map(|_| text)
        })
    });
    let output = child.wait_with_output().map_err(|error| files::failed(path, error))?;
    if output.status.success() && !output.stdout.is_empty() {
        return Ok(output.stdout);
    }
    let errors = errors.and_then(|thread| thread.join().ok()).and_then(Result::ok).unwrap_or_default();
    let errors = String::from_utf8_lossy(&errors);
    let last = errors.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("no model came back");
    Err(files::failed(path, format!("Python could not convert it: {}", shown(last))))
}
