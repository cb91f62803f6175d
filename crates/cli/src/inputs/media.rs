//! Inputs from pictures and sounds.

use std::path::Path;

use clap::ValueEnum;
use clap_complete::engine::ArgValueCompleter;
use sardonyx::{DType, Dim, Tensor, ValueInfo, shown};
use sardonyx_pictures::{Layout, Normalisation, Picture};

use super::wav;
use crate::completions::InputNames;
use crate::{Failure, files};

#[derive(Debug, clap::Args)]
pub(super) struct MediaArgs {
    /// One input, from a PNG, JPEG or WebP file, in the size that the model takes; may be repeated.
    #[arg(long, value_name = "NAME=FILE", add = ArgValueCompleter::new(InputNames))]
    pub(super) image: Vec<String>,
    /// How an image's bytes become numbers: imagenet (0 to 1, with the means and deviations of ImageNet), unit (0 to 1), signed
    /// (-1 to 1), bytes (0 to 255).
    #[arg(long, value_name = "PRESET", value_enum, default_value_t = Preset::Imagenet)]
    image_preset: Preset,
    /// The factor of an image's bytes, before the mean is subtracted, in place of the preset's.
    #[arg(long, value_name = "X")]
    image_scale: Option<f32>,
    /// The mean of an image's channels (one number, or R,G,B), in place of the preset's.
    #[arg(long, value_name = "R,G,B", value_delimiter = ',', allow_negative_numbers = true)]
    image_mean: Vec<f32>,
    /// The standard deviation of an image's channels (one number, or R,G,B), in place of the preset's.
    #[arg(long, value_name = "R,G,B", value_delimiter = ',')]
    image_std: Vec<f32>,
    /// Whether channels come before height and width or after them; without it, the model's shape decides.
    #[arg(long, value_enum)]
    image_layout: Option<LayoutName>,
    /// One input, from a WAV file, as float32 from -1 to 1, several channels mixed to one; may be repeated.
    #[arg(long, value_name = "NAME=F.wav", add = ArgValueCompleter::new(InputNames))]
    pub(super) wav: Vec<String>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Preset {
    Imagenet,
    Unit,
    Signed,
    Bytes,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum LayoutName {
    Nchw,
    Nhwc,
}

/// The width and the height of a model's pictures, where it fixes them.
type FixedSides = (Option<u32>, Option<u32>);

/// The width and height in which a picture of the size `own` is given: what the model fixes, and otherwise in proportion.
fn fitting(own: (u32, u32), fixed: FixedSides) -> (u32, u32) {
    let scaled = |side: u32, by: u32, of: u32| {
        let length = u64::from(side) * u64::from(by) / u64::from(of.max(1));
        u32::try_from(length).unwrap_or(u32::MAX).max(1)
    };
    match fixed {
        (Some(width), Some(height)) => (width, height),
        (Some(width), None) => (width, scaled(own.1, width, own.0)),
        (None, Some(height)) => (scaled(own.0, height, own.1), height),
        (None, None) => own,
    }
}

/// Refuses sizes that no picture is given in.
fn check(info: &ValueInfo, (width, height): (u32, u32)) -> Result<(u32, u32), Failure> {
    match u64::from(width) * u64::from(height) {
        0..=Picture::MOST_PIXELS => Ok((width, height)),
        _ => Err(format!(
            "--image: input {info} would take a picture of {width} x {height} pixels, and at most {} are made",
            Picture::MOST_PIXELS
        )
        .into()),
    }
}

impl MediaArgs {
    fn normalisation(&self) -> Result<Normalisation, Failure> {
        let mut normalisation = match self.image_preset {
            Preset::Imagenet => Normalisation::IMAGENET,
            Preset::Unit => Normalisation::UNIT,
            Preset::Signed => Normalisation::SIGNED,
            Preset::Bytes => Normalisation::BYTES,
        };
        let three = |flag: &str, given: &[f32], preset: [f32; 3]| match *given {
            [] => Ok(preset),
            [one] => Ok([one; 3]),
            [r, g, b] => Ok([r, g, b]),
            _ => Err(Failure::from(format!("{flag}: takes one number, or three as in 0.485,0.456,0.406"))),
        };
        normalisation.scale = self.image_scale.unwrap_or(normalisation.scale);
        normalisation.mean = three("--image-mean", &self.image_mean, normalisation.mean)?;
        normalisation.deviation = three("--image-std", &self.image_std, normalisation.deviation)?;
        if normalisation.deviation.contains(&0.0) {
            return Err("--image-std: is 0, and nothing can be divided by it".into());
        }
        Ok(normalisation)
    }

    /// The picture as the model takes it.
    pub(super) fn picture(&self, info: &ValueInfo, path: &Path) -> Result<Tensor, Failure> {
        let normalisation = self.normalisation()?;
        let (layout, size) = self.geometry(info)?;
        drop(files::open(path)?);
        let picture = Picture::open(path)?;
        let (width, height) = check(info, fitting((picture.width(), picture.height()), size))?;
        let tensor = picture.resized(width, height).to_tensor(layout, normalisation)?;
        Ok(match info.dtype {
            Some(dtype) if dtype != DType::F32 => tensor.cast(dtype)?,
            _ => tensor,
        })
    }

    /// The layout, and the width and the height where the model fixes them.
    fn geometry(&self, info: &ValueInfo) -> Result<(Layout, FixedSides), Failure> {
        let refused = |why: &str| Failure::from(format!("--image: input {info} {why}"));
        let dims = info.shape.as_deref().unwrap_or(&[Dim::Unknown, Dim::Unknown, Dim::Unknown, Dim::Unknown]);
        let [_, first, second, third] = dims else {
            return Err(refused("has not the four dimensions of images"));
        };
        let layout = match self.image_layout {
            Some(LayoutName::Nchw) => Layout::Nchw,
            Some(LayoutName::Nhwc) => Layout::Nhwc,
            None if *third == Dim::Known(3) && *first != Dim::Known(3) => Layout::Nhwc,
            None => Layout::Nchw,
        };
        let (channels, height, width) = match layout {
            Layout::Nchw => (first, second, third),
            Layout::Nhwc => (third, first, second),
        };
        match channels {
            Dim::Known(3) | Dim::Symbol(_) | Dim::Unknown => {}
            Dim::Known(count) => {
                return Err(refused(&format!(
                    "has {count} channels, and pictures have 3; --image-layout tells which axis they are"
                )));
            }
        }
        let known = |dim: &Dim| match dim {
            Dim::Known(size) => u32::try_from(*size).ok(),
            _ => None,
        };
        Ok((layout, (known(width), known(height))))
    }

    /// The sound in the shape that the model declares: its samples along the last axis.
    pub(super) fn sound(&self, info: &ValueInfo, path: &Path) -> Result<Tensor, Failure> {
        let sound = wav::decode(&files::read(path)?).map_err(|reason| files::failed(path, reason))?;
        let rank = info.shape.as_ref().map_or(2, Vec::len).max(1);
        let shape: Vec<usize> = std::iter::repeat_n(1, rank - 1).chain([sound.len()]).collect();
        let tensor = Tensor::from_vec(&shape, sound)?;
        match info.dtype {
            Some(dtype) if dtype != DType::F32 && dtype.is_float() => Ok(tensor.cast(dtype)?),
            Some(DType::F32) | None => Ok(tensor),
            Some(dtype) => {
                Err(format!("--wav: input '{}' takes {dtype}, and sounds are floats", shown(&info.name))
                    .into())
            }
        }
    }
}
