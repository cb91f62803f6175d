//! `sardonyx bench-worker MODEL INPUTS OUTPUTS`: a runtime that another program controls by lines of text, to compare several
//! runtimes.
//!
//! The folder INPUTS has `in_0.npy`, `in_1.npy`, ... in the order of the model's inputs. After the first run, `out_0.npy`, ...
//! are in the folder OUTPUTS as float32, and the line `READY {"load_s":..,"first_s":..,"rss_mb":..,"note":..}` is printed. The
//! line `run N` on standard input is answered by `LAT [ms, ...]`, the latencies of N runs, each with upload and read-back; the
//! line `quit` by `DONE {"rss_mb":..}`. An error is answered by `FAIL "text"`.

use std::io::BufRead;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::device::DeviceArgs;
use super::model::ModelArgs;
use super::{Failure, Verdict, numpy, print, process};
use sardonyx::{DType, Outputs, Session, SessionOptions, Tensor, shown};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    model: ModelArgs,
    inputs: PathBuf,
    outputs: PathBuf,
    #[command(flatten)]
    device: DeviceArgs,
}

pub(super) fn main(args: &Args) -> Verdict {
    let served = serve(args);
    if let Err(failure) = &served {
        print(&format!("FAIL {}\n", json!(failure.to_string())))?;
    }
    served.map(|()| true)
}

fn serve(args: &Args) -> Result<(), Failure> {
    let start = Instant::now();
    let model = args.model.load()?;
    let device = args.device.open()?;
    let session = Session::new(&device, &model, SessionOptions::default())?;
    let load = start.elapsed().as_secs_f64();
    let mut tensors = Vec::new();
    let required = || model.inputs().iter().filter(|info| !info.has_default);
    for (i, info) in required().enumerate() {
        tensors.push(numpy::read_npy(&args.inputs.join(format!("in_{i}.npy")), info.dtype)?);
    }
    let names = required().map(|info| info.name.as_str());
    let inputs: Vec<(&str, &Tensor)> = names.zip(&tensors).collect();
    let start = Instant::now();
    let outputs = session.run(&inputs)?;
    let first = start.elapsed().as_secs_f64();
    write(&args.outputs, &outputs)?;
    let ready = json!({ "load_s": load, "first_s": first, "rss_mb": megabytes(), "note": device.name() });
    print(&format!("READY {ready}\n"))?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some(("run", count)) => {
                let count: usize =
                    count.trim().parse().map_err(|_| format!("'{}': no number", shown(&line)))?;
                let mut latencies = Vec::new();
                for _ in 0..count {
                    let start = Instant::now();
                    session.run(&inputs)?;
                    latencies.push(start.elapsed().as_secs_f64() * 1e3);
                }
                print(&format!("LAT {}\n", json!(latencies)))?;
            }
            _ if line.trim() == "quit" => break,
            _ => return Err(format!("'{}': neither 'run N' nor 'quit'", shown(&line)).into()),
        }
    }
    print(&format!("DONE {}\n", json!({ "rss_mb": megabytes() })))
}

fn megabytes() -> Option<u64> {
    process::peak_memory().map(|bytes| bytes >> 20)
}

fn write(folder: &Path, outputs: &Outputs) -> Result<(), Failure> {
    for (i, (name, tensor)) in outputs.iter().enumerate() {
        let floats = tensor.cast(DType::F32).map_err(|error| format!("output '{}': {error}", shown(name)))?;
        numpy::write_npy(&folder.join(format!("out_{i}.npy")), &floats)?;
    }
    Ok(())
}
