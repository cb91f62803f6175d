//! Pictures for models: files of PNG, JPEG and WebP become RGB pixels, and pixels become tensors.
//!
//! ```no_run
//! use sardonyx_pictures::{Layout, Normalisation, Picture};
//!
//! let photo = Picture::open("photo.jpg")?.resized(224, 224)?;
//! let x = photo.to_tensor(Layout::Nchw, Normalisation::IMAGENET)?;
//! assert_eq!(x.shape(), [1, 3, 224, 224]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod decode;
mod heap;
mod orientation;
mod resize;
mod tensor;

use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

pub use tensor::{Layout, Normalisation};

/// Red, green and blue, 0 to 255 each.
pub type Rgb = [u8; 3];

/// A picture of 8-bit RGB pixels, with at least one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    /// Line by line, from the upper left corner.
    pixels: Vec<Rgb>,
}

/// Why a picture could not be read or written: a sentence with the file's path.
#[derive(Debug)]
pub struct PictureError {
    path: PathBuf,
    reason: String,
}

impl Display for PictureError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for PictureError {}

impl Picture {
    /// The most pixels of a picture that is read.
    pub const MOST_PIXELS: u64 = 1 << 27;

    /// A picture of one colour. A side of 0 is taken as 1.
    pub fn new(width: u32, height: u32, colour: Rgb) -> Picture {
        let (width, height) = (width.max(1), height.max(1));
        Picture { width, height, pixels: vec![colour; width as usize * height as usize] }
    }

    /// A picture whose pixel at column `x` of line `y` is `pixel(x, y)`. A side of 0 is taken as 1.
    pub fn from_fn(width: u32, height: u32, pixel: impl Fn(u32, u32) -> Rgb) -> Picture {
        let (width, height) = (width.max(1), height.max(1));
        let pixel = &pixel;
        let pixels = (0..height).flat_map(|y| (0..width).map(move |x| pixel(x, y))).collect();
        Picture { width, height, pixels }
    }

    /// Reads a PNG, JPEG or WebP file; its first bytes say which it is. Transparent pixels lie on white. A JPEG is turned as its
    /// camera was held.
    ///
    /// # Errors
    ///
    /// The file cannot be read, is neither of the three, is damaged, or has more than [`Picture::MOST_PIXELS`]; or the host lacks memory
    /// for it.
    pub fn open(path: impl AsRef<Path>) -> Result<Picture, PictureError> {
        let path = path.as_ref();
        decode::open(path).map_err(|reason| PictureError { path: path.into(), reason })
    }

    /// Writes a PNG file.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn save_png(&self, path: impl AsRef<Path>) -> Result<(), PictureError> {
        let path = path.as_ref();
        decode::save_png(self, path).map_err(|reason| PictureError { path: path.into(), reason })
    }

    /// Columns.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Lines.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// All pixels, line by line.
    pub fn pixels(&self) -> &[Rgb] {
        &self.pixels
    }

    /// The pixel at column `x` of line `y`, or the nearest one on the edge.
    pub fn pixel(&self, x: u32, y: u32) -> Rgb {
        let (x, y) = (x.min(self.width - 1) as usize, y.min(self.height - 1) as usize);
        self.pixels[y * self.width as usize + x]
    }

    /// Sets a pixel; one that is outside of the picture is left out.
    pub fn set(&mut self, x: u32, y: u32, colour: Rgb) {
        if x < self.width && y < self.height {
            self.pixels[y as usize * self.width as usize + x as usize] = colour;
        }
    }

    /// The colour at a point, between the four nearest pixels. A pixel's middle is at a half: (0.5, 0.5) for the first.
    pub fn sample(&self, x: f32, y: f32) -> Rgb {
        let (x, y) =
            ((x - 0.5).clamp(0.0, (self.width - 1) as f32), (y - 0.5).clamp(0.0, (self.height - 1) as f32));
        let (left, top) = (x as u32, y as u32);
        let (right, below) = (x - left as f32, y - top as f32);
        let near = [(0, 0), (1, 0), (0, 1), (1, 1)].map(|(i, j)| self.pixel(left + i, top + j));
        std::array::from_fn(|channel| {
            let [a, b, c, d] = near.map(|pixel| f32::from(pixel[channel]));
            let (upper, lower) = (a + (b - a) * right, c + (d - c) * right);
            (upper + (lower - upper) * below).round() as u8
        })
    }

    /// Copies `other` to column `x` of line `y`; what lies outside is left out.
    pub fn paste(&mut self, other: &Picture, x: u32, y: u32) {
        for (i, &pixel) in other.pixels.iter().enumerate() {
            let (column, line) = (i as u32 % other.width, i as u32 / other.width);
            self.set(x.saturating_add(column), y.saturating_add(line), pixel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_between_pixels_has_a_colour_between_theirs() {
        let picture = Picture::from_fn(2, 2, |x, y| [x as u8 * 100, y as u8 * 200, 7]);
        assert_eq!(picture.sample(0.5, 0.5), [0, 0, 7]);
        assert_eq!(picture.sample(1.0, 1.5), [50, 200, 7]);
        assert_eq!(picture.sample(1.25, 0.75), [75, 50, 7]);
        assert_eq!(picture.sample(-9.0, 99.0), [0, 200, 7]);
    }

    #[test]
    fn what_lies_outside_is_left_out() {
        let mut picture = Picture::new(2, 1, [0; 3]);
        picture.paste(&Picture::new(5, 5, [9; 3]), 1, 0);
        picture.set(0, 1, [1; 3]);
        assert_eq!(picture.pixels(), [[0; 3], [9; 3]]);
    }
}
