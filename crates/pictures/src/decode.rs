//! Files of PNG, JPEG and WebP.

use std::fmt::Display;
use std::io::{BufWriter, Cursor, ErrorKind, Write};
use std::path::Path;

use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use crate::orientation::{self, Orientation};
use crate::{Picture, Rgb, heap};

pub(crate) fn open(path: &Path) -> Result<Picture, String> {
    if path.is_dir() {
        return Err("is a folder, not a picture".into());
    }
    let bytes = std::fs::read(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => "there is no such file".into(),
        _ => error.to_string(),
    })?;
    match bytes.as_slice() {
        [0x89, b'P', b'N', b'G', ..] => png(&bytes).map_err(|e| damaged("PNG", &e)),
        [0xff, 0xd8, 0xff, ..] => jpeg(&bytes).map_err(|e| damaged("JPEG", &e)),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => {
            webp(&bytes).map_err(|e| damaged("WebP", &e))
        }
        [] => Err("the file is empty".into()),
        _ => Err("is no picture that can be read; PNG, JPEG and WebP can".into()),
    }
}

fn damaged(format: &str, error: &dyn Display) -> String {
    format!("cannot be read as {format}: {error}")
}

type Decoded = Result<Picture, Box<dyn std::error::Error>>;

fn png(bytes: &[u8]) -> Decoded {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let (width, height) = decoder.read_header_info()?.size();
    check(width, height)?;
    let mut reader = decoder.read_info()?;
    let mut raw = vec![0; reader.output_buffer_size().ok_or("too large")?];
    let frame = reader.next_frame(&mut raw)?;
    raw.truncate(frame.buffer_size());
    picture(width, height, frame.color_type.samples(), &raw)
}

fn jpeg(bytes: &[u8]) -> Decoded {
    let options = DecoderOptions::new_safe().jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(Cursor::new(bytes), options);
    decoder.decode_headers()?;
    let info = decoder.info().ok_or("it has no header")?;
    let (width, height) = (info.width.into(), info.height.into());
    check(width, height)?;
    let raw = decoder.decode()?;
    let orientation = decoder.exif().map_or(Orientation::Upright, |exif| orientation::of(exif));
    Ok(picture(width, height, 3, &raw)?.turned(orientation))
}

fn webp(bytes: &[u8]) -> Decoded {
    let mut decoder = image_webp::WebPDecoder::new(Cursor::new(bytes))?;
    let (width, height) = decoder.dimensions();
    check(width, height)?;
    let mut raw = vec![0; decoder.output_buffer_size().ok_or("too large")?];
    decoder.read_image(&mut raw)?;
    picture(width, height, if decoder.has_alpha() { 4 } else { 3 }, &raw)
}

fn check(width: u32, height: u32) -> Result<(), String> {
    match u64::from(width) * u64::from(height) {
        0 => Err("it has no pixels".into()),
        count @ 1..=Picture::MOST_PIXELS => {
            // Up to 6 bytes of a progressive JPEG's coefficients, 4 as decoded, 3 of the picture, and 3 of the picture turned.
            heap::ask("a picture of this size", count * 16).map_err(|error| error.to_string())
        }
        count => Err(format!("it has {count} pixels, and at most {} are read", Picture::MOST_PIXELS)),
    }
}

/// Pixels of grey, grey and alpha, RGB, or RGB and alpha.
fn picture(width: u32, height: u32, channels: usize, raw: &[u8]) -> Decoded {
    let pixels: Vec<Rgb> = raw
        .chunks_exact(channels)
        .map(|pixel| match *pixel {
            [grey] => [grey; 3],
            [grey, alpha] => [on_white(grey, alpha); 3],
            [r, g, b] => [r, g, b],
            [r, g, b, alpha] => [r, g, b].map(|value| on_white(value, alpha)),
            _ => [0; 3],
        })
        .collect();
    match pixels.len() == width as usize * height as usize {
        true => Ok(Picture { width, height, pixels }),
        false => Err("it has another number of pixels than it says".into()),
    }
}

fn on_white(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    // At most 255, as a mean of two bytes.
    ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

pub(crate) fn save_png(picture: &Picture, path: &Path) -> Result<(), String> {
    let file = std::fs::File::create(path).map_err(|error| error.to_string())?;
    let write = |mut to: BufWriter<_>| -> Result<(), Box<dyn std::error::Error>> {
        let mut encoder = png::Encoder::new(&mut to, picture.width, picture.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(picture.pixels.as_flattened())?;
        Ok(to.flush()?)
    };
    write(BufWriter::new(file)).map_err(|error| error.to_string())
}
