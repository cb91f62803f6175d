//! Pictures as the inputs of models.

use sardonyx::{Result, Tensor};

use crate::{Picture, heap};

/// The order of a picture's axes in a tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Layout {
    /// `[1, 3, height, width]`
    #[default]
    Nchw,
    /// `[1, height, width, 3]`
    Nhwc,
}

/// How a byte becomes a number: `(byte * scale - mean) / deviation`, with a mean and a deviation for each of red, green and blue.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normalisation {
    /// The factor of the byte.
    pub scale: f32,
    /// What is subtracted.
    pub mean: [f32; 3],
    /// What the difference is divided by.
    pub deviation: [f32; 3],
}

impl Normalisation {
    /// Bytes as they are, 0 to 255.
    pub const BYTES: Normalisation = Normalisation { scale: 1.0, mean: [0.0; 3], deviation: [1.0; 3] };
    /// 0 to 1.
    pub const UNIT: Normalisation = Normalisation { scale: 1.0 / 255.0, ..Normalisation::BYTES };
    /// -1 to 1.
    pub const SIGNED: Normalisation =
        Normalisation { mean: [0.5; 3], deviation: [0.5; 3], ..Normalisation::UNIT };
    /// With the means and deviations of ImageNet's pictures.
    pub const IMAGENET: Normalisation = Normalisation {
        mean: [0.485, 0.456, 0.406],
        deviation: [0.229, 0.224, 0.225],
        ..Normalisation::UNIT
    };

    fn apply(&self, byte: u8, channel: usize) -> f32 {
        (f32::from(byte) * self.scale - self.mean[channel]) / self.deviation[channel]
    }

    /// The same for a brightness, by the averages of the three means and deviations.
    fn apply_to_grey(&self, brightness: f32) -> f32 {
        let average = |of: [f32; 3]| of.iter().sum::<f32>() / 3.0;
        (brightness * self.scale - average(self.mean)) / average(self.deviation)
    }
}

impl Picture {
    /// The picture as a float32 tensor with a batch of one.
    ///
    /// # Errors
    ///
    /// The picture has more elements than a tensor can have, or the host does not have memory for it.
    pub fn to_tensor(&self, layout: Layout, normalisation: Normalisation) -> Result<Tensor> {
        let (width, height) = (self.width() as usize, self.height() as usize);
        let value = |pixel: &[u8; 3], channel: usize| normalisation.apply(pixel[channel], channel);
        let mut values = heap::reserved("a picture's tensor", 3 * self.pixels().len())?;
        match layout {
            Layout::Nchw => {
                for channel in 0..3 {
                    values.extend(self.pixels().iter().map(|pixel| value(pixel, channel)));
                }
                Tensor::from_vec(&[1, 3, height, width], values)
            }
            Layout::Nhwc => {
                for pixel in self.pixels() {
                    values.extend((0..3).map(|channel| value(pixel, channel)));
                }
                Tensor::from_vec(&[1, height, width, 3], values)
            }
        }
    }
}

/// The brightness of a colour, 0 to 255, as television weighs red, green and blue (ITU-R BT.601).
fn brightness(&[r, g, b]: &[u8; 3]) -> f32 {
    0.299 * f32::from(r) + 0.587 * f32::from(g) + 0.114 * f32::from(b)
}

impl Picture {
    /// The picture's brightness as a float32 tensor of one channel, with a batch of one: `[1, 1, height, width]`, or `[1, height,
    /// width, 1]`. Of a normalisation, the averages of its means and of its deviations count.
    ///
    /// # Errors
    ///
    /// The picture has more elements than a tensor can have, or the host does not have memory for it.
    pub fn to_grey_tensor(&self, layout: Layout, normalisation: Normalisation) -> Result<Tensor> {
        let (width, height) = (self.width() as usize, self.height() as usize);
        let shape = match layout {
            Layout::Nchw => [1, 1, height, width],
            Layout::Nhwc => [1, height, width, 1],
        };
        let mut values = heap::reserved("a picture's tensor", self.pixels().len())?;
        values.extend(self.pixels().iter().map(|pixel| normalisation.apply_to_grey(brightness(pixel))));
        Tensor::from_vec(&shape, values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_and_normalisations() -> Result<()> {
        let picture = Picture::from_fn(2, 1, |x, _| [x as u8 * 255, 51, 102]);
        let values = |layout, normalisation| picture.to_tensor(layout, normalisation)?.to_vec::<f32>();
        assert_eq!(picture.to_tensor(Layout::Nchw, Normalisation::BYTES)?.shape(), [1, 3, 1, 2]);
        assert_eq!(picture.to_tensor(Layout::Nhwc, Normalisation::BYTES)?.shape(), [1, 1, 2, 3]);
        assert_eq!(values(Layout::Nchw, Normalisation::BYTES)?, [0.0, 255.0, 51.0, 51.0, 102.0, 102.0]);
        assert_eq!(values(Layout::Nhwc, Normalisation::BYTES)?, [0.0, 51.0, 102.0, 255.0, 51.0, 102.0]);
        let signed = values(Layout::Nhwc, Normalisation::SIGNED)?;
        let expected = [-1.0, -0.6, -0.2, 1.0, -0.6, -0.2];
        assert!(signed.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{signed:?}");
        let red = values(Layout::Nchw, Normalisation::IMAGENET)?[1];
        assert!((red - (1.0 - 0.485) / 0.229).abs() < 1e-5, "{red}");
        Ok(())
    }

    #[test]
    fn brightness_is_one_channel() -> Result<()> {
        let picture = Picture::from_fn(2, 1, |x, _| [[255, 255, 255], [100, 0, 0]][x as usize]);
        let grey = picture.to_grey_tensor(Layout::Nchw, Normalisation::BYTES)?;
        let values = grey.to_vec::<f32>()?;
        assert_eq!(grey.shape(), [1, 1, 1, 2]);
        assert!((values[0] - 255.0).abs() < 1e-3 && (values[1] - 29.9).abs() < 1e-3, "{values:?}");
        let last = picture.to_grey_tensor(Layout::Nhwc, Normalisation::SIGNED)?;
        assert_eq!(last.shape(), [1, 1, 2, 1]);
        assert!((last.to_vec::<f32>()?[0] - 1.0).abs() < 1e-6);
        Ok(())
    }
}
