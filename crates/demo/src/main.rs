//! Reads a page: finds its lines with a PP-OCR detector, reads them with a recogniser, and draws what it found.
//!
//! `sardonyx-demo FOLDER [--device NAME] [PICTURE.png]`: FOLDER holds `det.onnx`, `rec.onnx` and
//! `page.png`, as `scripts/demo.sh` makes it.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use image::imageops::{self, FilterType};
use image::{Rgb, RgbImage};
use sardonyx::{Device, DeviceOptions, Model, Select, Session, SessionOptions, Tensor};

/// The probability above which the detector's pixel is text, and the mean above which a box is kept.
const PIXEL: f32 = 0.2;
const BOX: f32 = 0.4;
/// The detector marks the core of each line, so boxes grow by this share of area over perimeter.
const UNCLIP: f32 = 1.6;
/// The height that the recogniser takes, and the step of its widths: lines of similar lengths share a plan.
const LINE_HEIGHT: u32 = 48;
const WIDTH_STEP: u32 = 80;
/// Small print is enlarged to about this length before detection.
const LONG_SIDE: u32 = 960;
/// The length on the CPU reference, which is slow.
const LONG_SIDE_OF_REFERENCE: u32 = 480;
/// Lines whose characters have a lower mean probability count as not read.
const READ: f32 = 0.5;

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

/// A line of text on the page: a rectangle in pixels of the picture, rotated like the line.
#[derive(Clone, Copy)]
struct Line {
    /// The upper left corner of the first character.
    corner: (f32, f32),
    /// The direction of reading, as a vector of length 1.
    along: (f32, f32),
    width: f32,
    height: f32,
}

impl Line {
    /// The point of the page at (`x`, `y`) of the rectangle.
    fn at(&self, x: f32, y: f32) -> (f32, f32) {
        let ((left, top), (ax, ay)) = (self.corner, self.along);
        (left + x * ax - y * ay, top + x * ay + y * ax)
    }

    /// The line's pixels, upright, with `height` of them in each column. Beyond the page they are white.
    fn cut(&self, page: &RgbImage, height: u32) -> RgbImage {
        let width = (self.width * height as f32 / self.height).ceil().max(16.0) as u32;
        RgbImage::from_fn(width, height, |x, y| {
            let part = |i: u32, of: u32| (i as f32 + 0.5) / of as f32;
            let (x, y) = self.at(part(x, width) * self.width, part(y, height) * self.height);
            imageops::interpolate_bilinear(page, x - 0.5, y - 0.5).unwrap_or(Rgb([255; 3]))
        })
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let Arguments { folder, picture, device } = arguments()?;
    let device = Device::new(DeviceOptions::new().select(device))?;
    println!("device      {}", device.name());
    if device.is_reference() {
        println!(
            "            everything runs on the CPU reference, slowly: the page is read at half the size"
        );
    }
    let page = image::open(&picture)?.to_rgb8();
    println!("page        {}, {}x{} pixels", picture.display(), page.width(), page.height());

    let detector = Model::load(folder.join("det.onnx"))?;
    let detector = Reader::new(&device, &detector, "detector")?;
    let lines = detect(&detector, &page)?;

    let model = Model::load(folder.join("rec.onnx"))?;
    let characters = characters(&model)?;
    let recogniser = Reader::new(&device, &model, "recogniser")?;
    println!("\nprobability and text of each line:");
    let (mut spent, mut read) = (Duration::ZERO, Vec::new());
    for line in &lines {
        let start = Instant::now();
        let (text, probability) = recognise(&recogniser, &page, line, &characters)?;
        spent += start.elapsed();
        read.push(probability >= READ);
        if probability >= READ {
            println!("  {probability:.2}  {text}");
        }
    }
    let missed = read.iter().filter(|read| !**read).count();
    println!("{} lines read; {missed} more below {READ} (grey in the picture)", lines.len() - missed);
    println!(
        "\nlatency     recogniser {:.1} ms for each line, the first run of each width included",
        millis(spent) / lines.len().max(1) as f64
    );
    if let Some(line) = lines.first() {
        recogniser.report(&input_of(&page, line)?)?;
    }

    let annotated = folder.join("annotated.png");
    draw(&page, lines.iter().zip(&read), &annotated)?;
    println!("picture     {}", annotated.display());
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A session of a model with one input.
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

    /// Prints the placement and the memory of the plan for `x`.
    fn report(&self, x: &Tensor) -> Result<(), Box<dyn Error>> {
        if self.on_gpu {
            let plan = self.session.plan(&[(&self.input, x)])?;
            println!(
                "{:11} {} nodes on the GPU in {} dispatches, none on the CPU",
                self.name,
                plan.nodes - plan.planned_nodes,
                plan.dispatches
            );
            if plan.planned_nodes > 0 {
                println!(
                    "{:11} {} nodes that only shapes need, computed while planning",
                    "", plan.planned_nodes
                );
            }
            println!(
                "{:11} arena {:.2} MB (most bytes alive at once: {:.2} MB; without reuse: {:.2} MB), weights {:.2} MB",
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
    let long_side = if detector.on_gpu { LONG_SIDE } else { LONG_SIDE_OF_REFERENCE };
    let scale = long_side as f32 / page.width().max(page.height()) as f32;
    // The detector halves its input five times.
    let side = |length: u32| (((length as f32 * scale) / 32.0).round() as u32).max(1) * 32;
    let (width, height) = (side(page.width()), side(page.height()));
    let resized = imageops::resize(page, width, height, FilterType::Triangle);
    let x = tensor(&resized, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])?;
    let start = Instant::now();
    let mut probabilities = detector.run(&x)?;
    let first = millis(start.elapsed());
    if detector.on_gpu {
        let start = Instant::now();
        probabilities = detector.run(&x)?;
        let again = millis(start.elapsed());
        println!(
            "latency     detector {again:.1} ms at {width}x{height}; the first run, with compilation, {first:.1} ms"
        );
    } else {
        println!("latency     detector {first:.1} ms at {width}x{height}");
    }
    let probabilities = probabilities.to_vec::<f32>()?;
    detector.report(&x)?;
    let to_page = (page.width() as f32 / width as f32, page.height() as f32 / height as f32);
    let mut lines: Vec<Line> = regions(&probabilities, width as usize, height as usize)
        .into_iter()
        .filter_map(|region| region.line(to_page))
        .collect();
    lines.sort_by(|a, b| {
        let middle = |line: &Line| line.at(line.width / 2.0, line.height / 2.0).1;
        middle(a).total_cmp(&middle(b))
    });
    Ok(lines)
}

/// A connected region of text pixels.
#[derive(Default)]
struct Region {
    pixels: Vec<(usize, usize)>,
    /// The sum of the pixels' probabilities.
    sum: f32,
}

impl Region {
    /// The rectangle around the region along its longer axis, grown, and scaled by the two factors to the page.
    fn line(&self, (sx, sy): (f32, f32)) -> Option<Line> {
        let count = self.pixels.len() as f32;
        if self.sum / count < BOX {
            return None;
        }
        let points: Vec<(f32, f32)> =
            self.pixels.iter().map(|&(x, y)| ((x as f32 + 0.5) * sx, (y as f32 + 0.5) * sy)).collect();
        let mean = |f: &dyn Fn(&(f32, f32)) -> f32| points.iter().map(f).sum::<f32>() / count;
        let (mx, my) = (mean(&|p| p.0), mean(&|p| p.1));
        let (xx, yy) = (mean(&|p| (p.0 - mx).powi(2)), mean(&|p| (p.1 - my).powi(2)));
        let xy = mean(&|p| (p.0 - mx) * (p.1 - my));
        // The principal axis; a region that is about as high as wide has none.
        let angle = if xx > 4.0 * yy { (2.0 * xy).atan2(xx - yy) / 2.0 } else { 0.0 };
        let (ax, ay) = (angle.cos(), angle.sin());
        let range = |f: &dyn Fn(f32, f32) -> f32| {
            let values = || points.iter().map(|&(x, y)| f(x - mx, y - my));
            (values().fold(f32::INFINITY, f32::min), values().fold(f32::NEG_INFINITY, f32::max))
        };
        let (left, right) = range(&|x, y| x * ax + y * ay);
        let (top, bottom) = range(&|x, y| y * ax - x * ay);
        let (width, height) = (right - left + sx, bottom - top + sy);
        if (width / sx).min(height / sy) < 3.0 {
            return None;
        }
        let grow = width * height * UNCLIP / (2.0 * (width + height));
        let (left, top) = (left - sx / 2.0 - grow, top - sy / 2.0 - grow);
        let corner = (mx + left * ax - top * ay, my + left * ay + top * ax);
        Some(Line { corner, along: (ax, ay), width: width + 2.0 * grow, height: height + 2.0 * grow })
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
        let mut region = Region::default();
        let mut waiting = vec![start];
        seen[start] = true;
        while let Some(at) = waiting.pop() {
            let (x, y) = (at % width, at / width);
            region.pixels.push((x, y));
            region.sum += map[at];
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

/// A line as the recogniser's input.
fn input_of(page: &RgbImage, line: &Line) -> Result<Tensor, sardonyx::Error> {
    let cut = line.cut(page, LINE_HEIGHT);
    // The normalised value of the padding is 0, which is grey.
    let mut padded =
        RgbImage::from_pixel(cut.width().next_multiple_of(WIDTH_STEP), LINE_HEIGHT, Rgb([128; 3]));
    imageops::replace(&mut padded, &cut, 0, 0);
    tensor(&padded, [0.5; 3], [0.5; 3])
}

fn recognise(
    recogniser: &Reader,
    page: &RgbImage,
    line: &Line,
    characters: &[String],
) -> Result<(String, f32), Box<dyn Error>> {
    let x = input_of(page, line)?;
    let output = recogniser.run(&x)?;
    let classes = *output.shape().last().ok_or("the recogniser's output has no axes")?;
    Ok(decode(&output.to_vec::<f32>()?, classes, characters))
}

/// Greedy CTC: the likeliest class at each step, without repetitions and blanks; and the mean probability of the remaining
/// steps.
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

/// Writes the page with a frame around each line: red, or grey where it could not be read.
fn draw<'a>(
    page: &RgbImage,
    lines: impl Iterator<Item = (&'a Line, &'a bool)>,
    to: &Path,
) -> Result<(), Box<dyn Error>> {
    let mut picture = page.clone();
    for (line, &read) in lines {
        let colour = if read { Rgb([220, 30, 30]) } else { Rgb([128; 3]) };
        let (width, height) = (line.width, line.height);
        let corners = [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)].map(|(x, y)| line.at(x, y));
        for (i, (x0, y0)) in corners.into_iter().enumerate() {
            let (x1, y1) = corners[(i + 1) % 4];
            let steps = (x1 - x0).abs().max((y1 - y0).abs()).ceil().max(1.0);
            for step in 0..=steps as u32 {
                let part = step as f32 / steps;
                let (x, y) = (x0 + part * (x1 - x0), y0 + part * (y1 - y0));
                if x >= 0.0
                    && y >= 0.0
                    && let Some(pixel) = picture.get_pixel_mut_checked(x as u32, y as u32)
                {
                    *pixel = colour;
                }
            }
        }
    }
    picture.save(to)?;
    Ok(())
}
