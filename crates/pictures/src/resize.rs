//! Pictures of other sizes.

use sardonyx::Result;

use crate::{Picture, Rgb, heap};

/// The share of each source pixel in one pixel of the result.
struct Weights {
    first: u32,
    weights: Vec<f32>,
}

/// For each of `to` pixels, those of `from` pixels that it covers: a triangle whose base is two pixels of the result, or of the source
/// where the picture grows.
fn weights(from: u32, to: u32) -> Vec<Weights> {
    let scale = from as f32 / to as f32;
    let reach = scale.max(1.0);
    let of = |i: u32| {
        let middle = (i as f32 + 0.5) * scale;
        let first = (middle - reach).max(0.0) as u32;
        let last = ((middle + reach).ceil() as u32).clamp(first + 1, from);
        let weight = |j: u32| (1.0 - ((j as f32 + 0.5 - middle) / reach).abs()).max(0.0);
        let weights: Vec<f32> = (first..last).map(weight).collect();
        let sum: f32 = weights.iter().sum();
        Weights { first, weights: weights.into_iter().map(|weight| weight / sum).collect() }
    };
    (0..to).map(of).collect()
}

impl Picture {
    /// The picture in another size, which need not keep its proportions. Where it becomes smaller, each pixel is a mean of all that it
    /// covers; where it grows, it is interpolated. A side of 0 is taken as 1.
    ///
    /// # Errors
    ///
    /// [`OutOfMemory`](sardonyx::Error::OutOfMemory) if the host does not have memory for it.
    pub fn resized(&self, width: u32, height: u32) -> Result<Picture> {
        let (width, height) = (width.max(1), height.max(1));
        let what = format!("a picture of {width} x {height} pixels");
        let mut pixels: Vec<Rgb> = heap::reserved(&what, (width as usize).saturating_mul(height as usize))?;
        if (width, height) == (self.width, self.height) {
            pixels.extend_from_slice(&self.pixels);
            return Ok(Picture { width, height, pixels });
        }
        heap::ask(&what, self.bytes_to_resize(width, height))?;
        let columns = weights(self.width, width);
        // The lines in between are floats, so that nothing is rounded twice.
        let line = |y: u32| -> Vec<[f32; 3]> {
            let start = y as usize * self.width as usize;
            let line = &self.pixels[start..start + self.width as usize];
            let mean = |column: &Weights| {
                let pixels = &line[column.first as usize..];
                weighted(&column.weights, |i| pixels[i].map(f32::from))
            };
            columns.iter().map(mean).collect()
        };
        let mut kept: Vec<(u32, Vec<[f32; 3]>)> = Vec::new();
        for row in weights(self.height, height) {
            kept.retain(|(y, _)| *y >= row.first);
            let next = kept.last().map_or(row.first, |(y, _)| y + 1);
            kept.extend((next..row.first + row.weights.len() as u32).map(|y| (y, line(y))));
            for x in 0..width as usize {
                let mean = weighted(&row.weights, |i| kept[i].1[x]);
                pixels.push(mean.map(|value| value.round() as u8));
            }
        }
        Ok(Picture { width, height, pixels })
    }

    /// What `resized` takes besides the result, in bytes: the weights of both axes, and the lines from which one line is made.
    fn bytes_to_resize(&self, width: u32, height: u32) -> u64 {
        let of_axis = |from: u32, to: u32| {
            let pixels = u64::from(to) * most_covered(from, to);
            pixels * size_of::<f32>() as u64 + u64::from(to) * size_of::<Weights>() as u64
        };
        let lines = most_covered(self.height, height) + 1;
        let of_lines = lines.saturating_mul(u64::from(width) * size_of::<[f32; 3]>() as u64);
        of_axis(self.width, width).saturating_add(of_axis(self.height, height)).saturating_add(of_lines)
    }
}

/// The most of `from` pixels that one of `to` pixels covers.
fn most_covered(from: u32, to: u32) -> u64 {
    let reach = u64::from(from.div_ceil(to)).max(1);
    (2 * reach + 2).min(from.into())
}

fn weighted(weights: &[f32], pixel: impl Fn(usize) -> [f32; 3]) -> [f32; 3] {
    weights.iter().enumerate().fold([0.0; 3], |sum, (i, weight)| {
        let pixel = pixel(i);
        std::array::from_fn(|channel| sum[channel] + weight * pixel[channel])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn greys(picture: &Picture) -> Vec<u8> {
        picture.pixels().iter().map(|pixel| pixel[0]).collect()
    }

    #[test]
    fn a_picture_of_one_colour_stays_so() {
        let picture = Picture::new(7, 5, [1, 100, 255]);
        for (width, height) in [(1, 1), (3, 9), (200, 2), (7, 5), (0, 0)] {
            let resized = picture.resized(width, height).unwrap();
            assert_eq!((resized.width(), resized.height()), (width.max(1), height.max(1)));
            assert!(resized.pixels().iter().all(|pixel| *pixel == [1, 100, 255]));
        }
    }

    #[test]
    fn no_pixel_covers_more_than_is_asked_for() {
        for (from, to) in
            [(1, 1), (1, 9), (9, 1), (7, 3), (3, 7), (1000, 999), (1000, 1), (640, 639), (65_537, 32)]
        {
            let most = weights(from, to).iter().map(|of| of.weights.len() as u64).max();
            assert!(most <= Some(most_covered(from, to)), "{from} to {to}: {most:?}");
        }
    }

    #[test]
    fn a_picture_without_memory_is_an_error() {
        let error = Picture::new(1, 1, [0; 3]).resized(u32::MAX, u32::MAX).unwrap_err().to_string();
        assert!(error.starts_with("out of memory: a picture of 4294967295 x 4294967295 pixels"), "{error}");
    }

    #[test]
    fn twice_as_wide_is_interpolated_between_middles() {
        let picture = Picture::from_fn(2, 1, |x, _| [x as u8 * 100; 3]);
        assert_eq!(greys(&picture.resized(4, 1).unwrap()), [0, 25, 75, 100]);
        assert_eq!(greys(&picture.resized(4, 2).unwrap()), [0, 25, 75, 100, 0, 25, 75, 100]);
    }

    #[test]
    fn a_smaller_picture_looks_at_every_pixel() {
        // One bright column of eight: each brightens the result, and all together make it as bright as a white picture.
        let brightness = |bright: u32| -> u32 {
            let picture = Picture::from_fn(8, 3, |x, _| [if x == bright { 240 } else { 0 }; 3]);
            greys(&picture.resized(2, 1).unwrap()).iter().map(|&grey| u32::from(grey)).sum()
        };
        let all: Vec<u32> = (0..8).map(brightness).collect();
        assert!(all.iter().all(|&sum| sum > 30), "{all:?}");
        assert!(all.iter().sum::<u32>().abs_diff(2 * 240) <= 8, "{all:?}");
    }
}
