//! ImageDecoder: the pixels of an image file, `[height, width, channels]`.
//!
//! History: 20. The formats are BMP, JPEG, PNG, PNM, TIFF and WebP; JPEG 2000 is not supported. Transparency is left out. Gray is
//! the luma of ITU-R BT.601. JPEG decoders differ by a few units, as the specification allows. The feature `images` of this crate
//! holds the decoders; without it the node is not supported.

use super::case::Case;
use super::non_zero::known_facts;
use super::{
    Array, DType, NodeDef, Op, Operator, Row, Why, Work, of_elements, onnx, refuse, required, types,
};
use crate::facts::{Fact, check_sizes};
use crate::heap;

/// ImageDecoder, with what a pixel has.
#[derive(Clone, Debug)]
pub(crate) enum ImageDecoder {
    Rgb,
    Bgr,
    Grayscale,
}

pub(crate) const ROWS: &[Row] = &[onnx("ImageDecoder", 20, types![uint8 -> uint8], parse, cases)];

fn parse(def: &NodeDef) -> Result<Op, Why> {
    let decoder = match def.attributes.string_or("pixel_format", "RGB")?.as_str() {
        "RGB" => ImageDecoder::Rgb,
        "BGR" => ImageDecoder::Bgr,
        "Grayscale" => ImageDecoder::Grayscale,
        other => refuse!("pixel_format is '{other}', and must be RGB, BGR or Grayscale"),
    };
    match cfg!(feature = "images") {
        true => Ok(decoder.into()),
        false => {
            Ok(Op::Unsupported("turn on the feature `images` of sardonyx, which reads image files".into()))
        }
    }
}

impl ImageDecoder {
    fn channels(&self) -> usize {
        match self {
            ImageDecoder::Rgb | ImageDecoder::Bgr => 3,
            ImageDecoder::Grayscale => 1,
        }
    }

    /// What the output has of a pixel.
    fn of_pixel(&self, [r, g, b]: [u8; 3]) -> impl Iterator<Item = i128> {
        let luma = || (u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16;
        let all = match self {
            ImageDecoder::Rgb => [r, g, b].map(i128::from),
            ImageDecoder::Bgr => [b, g, r].map(i128::from),
            ImageDecoder::Grayscale => [i128::from(luma()); 3],
        };
        all.into_iter().take(self.channels())
    }

    /// The output's shape, as the file's head has it.
    fn shape(&self, file: &File) -> [usize; 3] {
        [file.height, file.width, self.channels()]
    }
}

fn bytes(x: &Array) -> Result<Vec<u8>, Why> {
    match x.shape.len() {
        1 => Ok(x.ints()?.iter().map(|&byte| byte as u8).collect()),
        _ => refuse!("the file has shape {:?}, and must be a list of bytes", x.shape),
    }
}

impl Operator for ImageDecoder {
    fn shapes_depend_on_data(&self) -> bool {
        true
    }

    fn infer(&self, inputs: &[Option<&Fact>]) -> Result<Vec<Fact>, Why> {
        known_facts(self, inputs)
    }

    fn eval(&self, inputs: &[Option<&Array>]) -> Result<Vec<Array>, Why> {
        let bytes = bytes(required(inputs, 0)?)?;
        let file = File::of(&bytes)?;
        let shape = self.shape(&file);
        check_sizes(&[Fact::new(DType::U8, shape.as_slice())])?;
        let mut y = heap::reserved("the pixels of an image", shape.iter().product())?;
        y.extend(file.pixels()?.into_iter().flat_map(|pixel| self.of_pixel(pixel)));
        Ok(vec![Array::int(DType::U8, &shape, y)])
    }

    fn work(&self, inputs: &[Option<&Fact>], outputs: &[Fact]) -> Result<Work, Why> {
        let known = required(inputs, 0)?.value.as_ref();
        let shape = match known.map(|known| bytes(&known.array)).transpose()? {
            Some(bytes) => self.shape(&File::of(&bytes)?),
            None => [0; 3],
        };
        // The decoder holds what the file has of each pixel, and its pixels as red, green and blue.
        Ok(of_elements(inputs, outputs).steps(&[shape[0], shape[1], 16]).temporary(shape[0] * shape[1], 80))
    }

    fn is_for_host(&self) -> bool {
        true
    }
}

#[cfg(feature = "images")]
use decoders::File;

#[cfg(feature = "images")]
mod decoders {
    use std::io::Cursor;

    use image::{DynamicImage, ImageDecoder as _, ImageReader};

    use crate::error::{Why, refuse};
    use crate::heap;

    /// An image file, whose head has been read.
    pub(super) struct File<'b> {
        decoder: Box<dyn image::ImageDecoder + 'b>,
        pub(super) width: usize,
        pub(super) height: usize,
    }

    impl File<'_> {
        pub(super) fn of(bytes: &[u8]) -> Result<File<'_>, Why> {
            let reader = match ImageReader::new(Cursor::new(bytes)).with_guessed_format() {
                Ok(reader) if reader.format().is_some() => reader,
                _ => refuse!("the bytes are no image of a known format"),
            };
            let decoder = match reader.into_decoder() {
                Ok(decoder) => decoder,
                Err(error) => refuse!("the image cannot be read: {error}"),
            };
            let (width, height) = decoder.dimensions();
            Ok(File { decoder: Box::new(decoder), width: width as usize, height: height as usize })
        }

        /// Red, green and blue of each pixel, row by row.
        pub(super) fn pixels(self) -> Result<Vec<[u8; 3]>, Why> {
            let pixels = (self.width as u64).saturating_mul(self.height as u64);
            heap::ask("an image", self.decoder.total_bytes().saturating_add(pixels.saturating_mul(6)))?;
            match DynamicImage::from_decoder(self.decoder) {
                Ok(image) => Ok(image.into_rgb8().pixels().map(|pixel| pixel.0).collect()),
                Err(error) => refuse!("the image cannot be read: {error}"),
            }
        }
    }
}

#[cfg(not(feature = "images"))]
struct File {
    width: usize,
    height: usize,
}

#[cfg(not(feature = "images"))]
impl File {
    fn of(_: &[u8]) -> Result<File, Why> {
        refuse!("the feature `images` is off")
    }

    fn pixels(self) -> Result<Vec<[u8; 3]>, Why> {
        refuse!("the feature `images` is off")
    }
}

/// Red and a mixed color, as a PNM.
#[cfg_attr(not(feature = "images"), allow(dead_code))]
const SMALL: &[u8] = b"P6\n2 1\n255\n\xff\x00\x00\x0a\x64\xc8";

fn cases() -> Vec<Case> {
    let new = |format: &str| {
        Case::new("ImageDecoder", format)
            .string("pixel_format", format)
            .constant(super::case::values(&[SMALL.len()], SMALL))
    };
    if cfg!(feature = "images") { ["RGB", "BGR", "Grayscale"].map(new).into() } else { Vec::new() }
}

#[cfg(all(test, feature = "images"))]
mod tests {
    use super::*;
    use crate::ops::case;

    fn of(format: &str, bytes: &[u8]) -> Result<Array, String> {
        let case = Case::new("ImageDecoder", "").string("pixel_format", format);
        case::evaluated(&case.constant(case::values(&[bytes.len()], bytes))).map(|mut all| all.remove(0))
    }

    #[test]
    fn pixels_are_as_the_format_says() {
        let pixels = |format| of(format, SMALL).unwrap();
        assert_eq!(pixels("RGB"), Array::int(DType::U8, &[1, 2, 3], vec![255, 0, 0, 10, 100, 200]));
        assert_eq!(pixels("BGR"), Array::int(DType::U8, &[1, 2, 3], vec![0, 0, 255, 200, 100, 10]));
        // 0.299 * 255, and 0.299 * 10 + 0.587 * 100 + 0.114 * 200.
        assert_eq!(pixels("Grayscale"), Array::int(DType::U8, &[1, 2, 1], vec![76, 84]));
    }

    #[test]
    fn what_is_no_image_is_refused() {
        assert!(of("RGB", b"nothing").unwrap_err().contains("no image"));
        assert!(of("RGB", &SMALL[..SMALL.len() - 1]).unwrap_err().contains("cannot be read"));
        assert!(of("RGB", b"").is_err());
        assert!(of("CMYK", SMALL).unwrap_err().contains("pixel_format"));
    }
}
