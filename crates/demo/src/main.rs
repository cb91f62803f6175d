//! Reads a page: finds its lines with a PP-OCR detector, reads them with a recogniser, and draws what it found.
//! `scripts/demo.sh` fetches the models and a page, and starts it.

mod arguments;
mod detector;
mod lines;
mod network;
mod output;
mod recogniser;
mod sheet;
mod writing;

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use sardonyx::{Device, DeviceOptions, Tensor};
use sardonyx_pictures::Picture;

use arguments::{Arguments, Request};
use lines::Line;
use network::{Latency, Network};
use output::{check_target, counted, say};
use recogniser::{Reading, Recogniser};
use sheet::{Captions, Entry};

const DETECTOR: &str = "PP-OCRv6_det_tiny.onnx";
const RECOGNISER: &str = "PP-OCRv6_rec_small.onnx";

/// Lines whose characters have a lower mean probability are not to be believed: parts of lines that an edge cuts off, drawings, dirt.
const CERTAIN: f32 = 0.9;

fn main() -> ExitCode {
    output::without_complaints_about_displays();
    let outcome = match arguments::parse(std::env::args().skip(1)) {
        Ok(Request::Help) => {
            say(arguments::HELP.trim_end());
            Ok(())
        }
        Ok(Request::Read(arguments)) => read_page(&arguments),
        Err(reason) => Err(reason.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The library's advice, in the words of this command line.
            eprintln!("error: {}", error.to_string().replace("(`Device::reference()`)", "(--device cpu)"));
            ExitCode::from(2)
        }
    }
}

fn read_page(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    check_target(&arguments.out)?;
    let page = Picture::open(&arguments.picture)?;
    let device = Device::new(DeviceOptions::new().select(arguments.device.clone()))?;
    let (picture, device_name) = (arguments.picture.display(), describe(&device));
    say(&format!("page        {picture}, {}x{} pixels", page.width(), page.height()));
    say(&format!("device      {device_name}"));
    let detector = Network::load(&device, &arguments.folder.join(DETECTOR))?;
    let recogniser = Recogniser::new(Network::load(&device, &arguments.folder.join(RECOGNISER))?)?;

    let (width, height) = detector::size(&detector, &page);
    let also = if detector.is_on_gpu() { "; the first run also plans and compiles" } else { "" };
    say(&format!("\nfinding lines with {} at {width}x{height}{also} ...", detector.name));
    let found = detector::detect(&detector, &page)?;
    say(&format!("  {}; {}", counted(found.lines.len(), "region"), found.latency));
    say(&format!("  {}", found.placement));
    let mut notes = vec![
        format!("device      {device_name}"),
        format!("detector    {} at {width}x{height}: {}", detector.name, found.latency),
    ];

    let entries = match found.lines.first() {
        None => {
            say(
                "\nno text was found; lines must be nearly horizontal, and their letters at least some pixels high",
            );
            vec![]
        }
        Some(first) => {
            say(&format!("\nreading them with {} ...", recogniser.network.name));
            say("confidence and text of each line:");
            let (entries, latency) = read_lines(&recogniser, &page, &found.lines)?;
            let certain = entries.iter().filter(|entry| entry.certain).count();
            say(&format!(
                "  {} read, {} uncertain (grey in the picture)",
                counted(certain, "line"),
                entries.len() - certain
            ));
            say(&format!("  {latency} for a line (median)"));
            say(&format!("  {}", recogniser.network.placement(&recogniser::input(&page, first)?)?));
            notes.push(format!("recogniser  {}, for each line: {latency}", recogniser.network.name));
            entries
        }
    };
    if entries.iter().any(|entry| !writing::is_written_in_full(&entry.text)) {
        notes.push("An empty box stands for a character that this picture has no letters for; the terminal shows it.".into());
    }
    let name = arguments.picture.file_name().unwrap_or_default().to_string_lossy();
    let captions = Captions {
        title: format!("{name}, read with Sardonyx"),
        legend: [
            format!("confidence of at least {CERTAIN}"),
            "less: not to be believed (cut off, dirt, a drawing)".into(),
        ],
        notes,
    };
    sheet::draw(&page, &entries, &captions)?.save_png(&arguments.out)?;
    say(&format!("\npicture     {}", arguments.out.display()));
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
) -> Result<(Vec<Entry>, Latency), Box<dyn Error>> {
    let inputs: Vec<Tensor> =
        lines.iter().map(|line| recogniser::input(page, line)).collect::<Result<_, _>>()?;
    let (mut entries, mut times) = (Vec::new(), Vec::new());
    for (line, x) in lines.iter().zip(&inputs) {
        let reading = recogniser.read(x)?;
        times.push(reading.spent);
        let Reading { text, confidence, .. } = reading;
        let certain = confidence >= CERTAIN;
        say(&format!("  {confidence:.2}  {text}{}", if certain { "" } else { "   (uncertain)" }));
        entries.push(Entry { line: *line, text, confidence, certain });
    }
    if !recogniser.network.is_on_gpu() {
        return Ok((entries, Latency { first: median(times), steady: None }));
    }
    let again: Vec<Reading> = inputs.iter().map(|x| recogniser.read(x)).collect::<Result<_, _>>()?;
    let steady = median(again.iter().map(|reading| reading.spent).collect());
    Ok((entries, Latency { first: times[0], steady: Some(steady) }))
}

/// The middle one of some times, or the later of two.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times.get(times.len() / 2).copied().unwrap_or_default()
}
