//! Reads a page: finds its lines with a PP-OCR detector, reads them with a recogniser, and draws what it found.
//!
//! `cargo run --release --example ocr -- FOLDER [--device NAME] [PICTURE.png]`: FOLDER holds `det.onnx`, `rec.onnx` and
//! `page.png`, as `scripts/demo.sh` makes it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use sardonyx::{Device, DeviceOptions, Model, Select, Session, SessionOptions, Tensor};

/// The detector's probability above which a pixel is text, and a box's mean above which it is kept.
const PIXEL: f32 = 0.2;
const BOX: f32 = 0.4;
/// Boxes grow by this share of area over perimeter: the detector marks the core of each line.
const UNCLIP: f32 = 1.6;
/// The height that the recogniser takes, and the step of its widths: lines of similar lengths share a plan.
const LINE_HEIGHT: u32 = 48;
const WIDTH_STEP: u32 = 80;
/// Small print is enlarged to about this length before detection.
const LONG_SIDE: u32 = 960;

struct Arguments {
    folder: PathBuf,
    picture: PathBuf,
    device: Select,
}

fn arguments() -> Result<Arguments, Box<dyn Error>> {
    let mut folder = None;
    let mut picture = None;
    let mut device = Select::Auto;
    let mut rest = std::env::args().skip(1);
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "--device" => device = rest.next().ok_or("--device needs a name")?.parse()?,
            _ if folder.is_none() => folder = Some(PathBuf::from(argument)),
            _ => picture = Some(PathBuf::from(argument)),
        }
    }
    let folder = folder.ok_or("usage: ocr FOLDER [--device NAME] [PICTURE.png]")?;
    let picture = picture.unwrap_or_else(|| folder.join("page.png"));
    Ok(Arguments { folder, picture, device })
}

/// A line of text on the page, in pixels of the picture.
struct Line {
    x: u32,
    y: u32,
    width: u32,
    height: u32,
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { folder, picture, device } = arguments()?;
    let device = Device::new(DeviceOptions { select: device })?;
    println!("device      {}", device.name());
    if device.is_reference() {
        println!("            no GPU adapter was found: everything runs on the CPU reference, slowly");
    }
    let page = image::open(&picture)?.to_rgb8();

    let detector = Model::load(folder.join("det.onnx"))?;
    let detector = Reader::new(&device, &detector, "detector")?;
    let lines = detect(&detector, &page)?;

    let model = Model::load(folder.join("rec.onnx"))?;
    let characters = characters(&model)?;
    let recogniser = Reader::new(&device, &model, "recogniser")?;
    println!("\n{} lines:", lines.len());
    let mut spent = Duration::ZERO;
    for line in &lines {
        let start = Instant::now();
        let (text, confidence) = recognise(&recogniser, &page, line, &characters)?;
        spent += start.elapsed();
        println!("  {confidence:.2}  {text}");
    }
    println!(
        "\nlatency     recogniser {:.1} ms for each line, first runs included",
        millis(spent) / lines.len().max(1) as f64
    );

    let annotated = folder.join("annotated.png");
    draw(&page, &lines, &annotated)?;
    println!("picture     {}", annotated.display());
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A session with its one input.
struct Reader {
    session: Session,
    input: String,
    on_gpu: bool,
    name: &'static str,
}

impl Reader {
    fn new(device: &Device, model: &Model, name: &'static str) -> Result<Reader, Box<dyn Error>> {
        let input = model.inputs().first().ok_or("the model has no input")?.name.clone();
        let session = Session::new(device, model, SessionOptions::default())?;
        Ok(Reader { session, input, on_gpu: !device.is_reference(), name })
    }

    fn run(&self, x: &Tensor) -> Result<Tensor, Box<dyn Error>> {
        let outputs = self.session.run(&[(&self.input, x)])?;
        Ok(outputs.into_iter().next().ok_or("the model has no output")?.1)
    }

    /// Placement and memory of the plan for `x`.
    fn report(&self, x: &Tensor) -> Result<(), Box<dyn Error>> {
        if self.on_gpu {
            let plan = self.session.plan(&[(&self.input, x)])?;
            println!(
                "{:11} {} nodes on the GPU in {} dispatches, {} computed while planning, 0 on the CPU",
                self.name,
                plan.nodes - plan.planned_nodes,
                plan.dispatches,
                plan.planned_nodes
            );
            println!(
                "{:11} arena {:.2} MB, bound {:.2} MB, without reuse {:.2} MB; weights {:.2} MB",
                "",
                plan.arena_bytes as f64 / 1e6,
                plan.max_live_bytes as f64 / 1e6,
                plan.without_reuse_bytes as f64 / 1e6,
                plan.weight_bytes as f64 / 1e6
            );
        }
        Ok(())
    }
}

/// A picture as a float tensor of shape (1, 3, height, width), each channel `(value / 255 - mean) / deviation`.
fn tensor(picture: &RgbImage, mean: [f32; 3], deviation: [f32; 3]) -> Result<Tensor, sardonyx::Error> {
    let (width, height) = picture.dimensions();
    let mut values = Vec::with_capacity(3 * (width * height) as usize);
    for channel in 0..3 {
        values.extend(
            picture.pixels().map(|p| (f32::from(p[channel]) / 255.0 - mean[channel]) / deviation[channel]),
        );
    }
    Tensor::from_slice(&[1, 3, height as usize, width as usize], &values)
}

fn detect(detector: &Reader, page: &RgbImage) -> Result<Vec<Line>, Box<dyn Error>> {
    let scale = LONG_SIDE as f32 / page.width().max(page.height()) as f32;
    // The detector halves its input five times.
    let side = |length: u32| (((length as f32 * scale) / 32.0).round() as u32).max(1) * 32;
    let (width, height) = (side(page.width()), side(page.height()));
    let resized = imageops::resize(page, width, height, FilterType::Triangle);
    let x = tensor(&resized, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])?;
    let start = Instant::now();
    detector.run(&x)?;
    let first = start.elapsed();
    let start = Instant::now();
    let probabilities = detector.run(&x)?.to_vec::<f32>()?;
    println!(
        "latency     detector {:.1} ms at {width}x{height}, first run {:.1} ms",
        millis(start.elapsed()),
        millis(first)
    );
    detector.report(&x)?;
    let to_page = (page.width() as f32 / width as f32, page.height() as f32 / height as f32);
    let mut lines: Vec<Line> = regions(&probabilities, width as usize, height as usize)
        .into_iter()
        .filter_map(|region| region.line(to_page, page))
        .collect();
    lines.sort_by_key(|line| (line.y + line.height / 2, line.x));
    Ok(lines)
}

/// A connected region of text pixels.
struct Region {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
    sum: f32,
    count: usize,
}

impl Region {
    fn line(&self, (sx, sy): (f32, f32), page: &RgbImage) -> Option<Line> {
        let (width, height) = ((self.right - self.left + 1) as f32, (self.bottom - self.top + 1) as f32);
        if self.sum / (self.count as f32) < BOX || width.min(height) < 3.0 {
            return None;
        }
        let grow = width * height * UNCLIP / (2.0 * (width + height));
        let x = ((self.left as f32 - grow).max(0.0) * sx) as u32;
        let y = ((self.top as f32 - grow).max(0.0) * sy) as u32;
        let right = (((self.right as f32 + 1.0 + grow) * sx) as u32).min(page.width());
        let bottom = (((self.bottom as f32 + 1.0 + grow) * sy) as u32).min(page.height());
        (right > x && bottom > y).then(|| Line { x, y, width: right - x, height: bottom - y })
    }
}

/// The 4-connected regions of a probability map.
fn regions(map: &[f32], width: usize, height: usize) -> Vec<Region> {
    let mut seen = vec![false; map.len()];
    let mut regions = Vec::new();
    for start in 0..map.len() {
        if seen[start] || map[start] < PIXEL {
            continue;
        }
        let mut region = Region { left: width, top: height, right: 0, bottom: 0, sum: 0.0, count: 0 };
        let mut waiting = vec![start];
        seen[start] = true;
        while let Some(at) = waiting.pop() {
            let (x, y) = (at % width, at / width);
            region.left = region.left.min(x);
            region.right = region.right.max(x);
            region.top = region.top.min(y);
            region.bottom = region.bottom.max(y);
            region.sum += map[at];
            region.count += 1;
            let mut visit = |inside: bool, next: usize| {
                if inside && !seen[next] && map[next] >= PIXEL {
                    seen[next] = true;
                    waiting.push(next);
                }
            };
            visit(x > 0, at.wrapping_sub(1));
            visit(x + 1 < width, at + 1);
            visit(y > 0, at.wrapping_sub(width));
            visit(y + 1 < height, at + width);
        }
        regions.push(region);
    }
    regions
}

/// The recogniser's classes: blank, the characters in the model's metadata, and the space.
fn characters(model: &Model) -> Result<Vec<String>, Box<dyn Error>> {
    let listed =
        model.metadata().get("character").ok_or("the recogniser has no characters in its metadata")?;
    let mut characters = vec![String::new()];
    characters.extend(listed.lines().map(str::to_string));
    characters.push(" ".into());
    Ok(characters)
}

fn recognise(
    recogniser: &Reader,
    page: &RgbImage,
    line: &Line,
    characters: &[String],
) -> Result<(String, f32), Box<dyn Error>> {
    let crop = imageops::crop_imm(page, line.x, line.y, line.width, line.height).to_image();
    let width = (line.width * LINE_HEIGHT).div_ceil(line.height).max(16);
    let resized = imageops::resize(&crop, width, LINE_HEIGHT, FilterType::CatmullRom);
    // The normalised value of the padding is 0: grey.
    let mut padded = RgbImage::from_pixel(width.next_multiple_of(WIDTH_STEP), LINE_HEIGHT, Rgb([128; 3]));
    imageops::replace(&mut padded, &resized, 0, 0);
    let x = tensor(&padded, [0.5; 3], [0.5; 3])?;
    let output = recogniser.run(&x)?;
    let classes = *output.shape().last().ok_or("the recogniser's output has no axes")?;
    Ok(decode(&output.to_vec::<f32>()?, classes, characters))
}

/// Greedy CTC: the likeliest class at each step, repetitions and blanks dropped; and the mean probability of the rest.
fn decode(probabilities: &[f32], classes: usize, characters: &[String]) -> (String, f32) {
    let mut text = String::new();
    let (mut sum, mut count, mut last) = (0.0, 0, 0);
    for step in probabilities.chunks_exact(classes.max(1)) {
        let (best, &probability) =
            step.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap_or((0, &0.0));
        if best != 0 && best != last {
            text += characters.get(best).map_or("?", String::as_str);
            sum += probability;
            count += 1;
        }
        last = best;
    }
    (text, if count == 0 { 0.0 } else { sum / count as f32 })
}

fn draw(page: &RgbImage, lines: &[Line], to: &Path) -> Result<(), Box<dyn Error>> {
    let mut picture = page.clone();
    let red = Rgb([220, 30, 30]);
    for line in lines {
        let (right, bottom) = (line.x + line.width - 1, line.y + line.height - 1);
        for x in line.x..=right {
            picture.put_pixel(x, line.y, red);
            picture.put_pixel(x, bottom, red);
        }
        for y in line.y..=bottom {
            picture.put_pixel(line.x, y, red);
            picture.put_pixel(right, y, red);
        }
    }
    picture.save(to)?;
    Ok(())
}
