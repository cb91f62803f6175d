//! Reads a page: finds its lines with a PP-OCR detector, reads them with a recogniser, and draws what it found.
//! `scripts/demo.sh` fetches the models and a page, and starts it.

mod arguments;
mod detector;
mod lines;
mod network;
mod recogniser;
mod sheet;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use sardonyx::{Device, DeviceOptions, Tensor};
use sardonyx_pictures::Picture;

use arguments::{Arguments, Request};
use lines::Line;
use network::{Latency, Network};
use recogniser::{Reading, Recogniser};
use sheet::Entry;

const DETECTOR: &str = "PP-OCRv6_det_tiny.onnx";
const RECOGNISER: &str = "PP-OCRv6_rec_small.onnx";

/// Lines whose characters have a lower mean probability are not to be believed: parts of lines that an edge cuts off, drawings, dirt.
const CERTAIN: f32 = 0.9;

fn main() -> ExitCode {
    let outcome = match arguments::parse(std::env::args().skip(1)) {
        Ok(Request::Help) => {
            print!("{}", arguments::HELP);
            Ok(())
        }
        Ok(Request::Read(arguments)) => read_page(&arguments),
        Err(reason) => Err(reason.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}

fn read_page(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let page = Picture::open(&arguments.picture)?;
    let device = Device::new(DeviceOptions::new().select(arguments.device.clone()))?;
    let (picture, device_name) = (arguments.picture.display(), describe(&device));
    println!("page        {picture}, {}x{} pixels", page.width(), page.height());
    println!("device      {device_name}");
    let detector = Network::load(&device, &arguments.folder.join(DETECTOR))?;
    let recogniser = Recogniser::new(Network::load(&device, &arguments.folder.join(RECOGNISER))?)?;

    let (width, height) = detector::size(&detector, &page);
    println!(
        "\nfinding lines with {} at {width}x{height}; the first run also plans and compiles ...",
        detector.name
    );
    let found = detector::detect(&detector, &page)?;
    println!("  {} regions; {}", found.lines.len(), found.latency);
    println!("  {}", found.placement);

    println!(
        "\nreading them with {}; the first run of a width also plans and compiles ...",
        recogniser.network.name
    );
    println!("confidence and text of each line:");
    let (entries, latency) = read_lines(&recogniser, &page, &found.lines)?;
    let read = entries.iter().filter(|entry| entry.certain).count();
    println!("  {read} lines read, {} uncertain (grey in the picture)", entries.len() - read);
    let mut notes = vec![
        format!("device      {device_name}"),
        format!("detector    {} at {width}x{height}: {}", detector.name, found.latency),
    ];
    if let Some(latency) = latency {
        println!("  {latency} for a line (median)");
        notes.push(format!("recogniser  {}, for each line: {latency}", recogniser.network.name));
    }
    if let Some(line) = found.lines.first() {
        println!("  {}", recogniser.network.placement(&recogniser::input(&page, line)?)?);
    }

    sheet::draw(&page, &entries, &notes).save_png(&arguments.out)?;
    println!("\npicture     {}", arguments.out.display());
    Ok(())
}

/// The device's name, and whether it is what one hoped for.
fn describe(device: &Device) -> String {
    match device.adapter() {
        None => format!("{}, which is slow: the page is read at half the size", device.name()),
        Some(adapter) if adapter.software => format!("{}, a GPU in software", device.name()),
        Some(_) => device.name(),
    }
}

/// Reads each line, and on a GPU all of them once more, to see how long that takes when everything is there.
fn read_lines(
    recogniser: &Recogniser,
    page: &Picture,
    lines: &[Line],
) -> Result<(Vec<Entry>, Option<Latency>), Box<dyn Error>> {
    let inputs: Vec<Tensor> =
        lines.iter().map(|line| recogniser::input(page, line)).collect::<Result<_, _>>()?;
    let (mut entries, mut first) = (Vec::new(), None);
    for (line, x) in lines.iter().zip(&inputs) {
        let reading = recogniser.read(x)?;
        first.get_or_insert(reading.spent);
        let Reading { text, confidence, .. } = reading;
        let certain = confidence >= CERTAIN;
        println!("  {confidence:.2}  {text}{}", if certain { "" } else { "   (uncertain)" });
        entries.push(Entry { line: *line, text, confidence, certain });
    }
    let again = if recogniser.network.is_on_gpu() { inputs.as_slice() } else { &[] };
    let again: Vec<Reading> = again.iter().map(|x| recogniser.read(x)).collect::<Result<_, _>>()?;
    let steady = median(again.iter().map(|reading| reading.spent).collect());
    let latency = first.map(|first| Latency { first, steady });
    Ok((entries, latency))
}

/// The middle one of some times, or the later of two.
fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort();
    times.get(times.len() / 2).copied()
}
