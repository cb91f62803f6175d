//! Inputs from pictures and sounds.

use std::path::Path;

use clap::ValueEnum;
use clap_complete::engine::ArgValueCompleter;
use sardonyx::{DType, Dim, Tensor, ValueInfo, shown};
use sardonyx_pictures::{Layout, Normalisation, Picture};

use super::sizes::{Chosen, Sizes};
use super::{fixed, wav};
use crate::completions::InputNames;
use crate::{Failure, counted, files, number};

/// The heading of these options in a command's help.
const HEADING: &str = "Pictures and sounds";

#[derive(Debug, clap::Args)]
pub(super) struct MediaArgs {
    /// One input, from a PNG, JPEG or WebP file; may be repeated. It is resized to what the model, --shape or --dim say; a side that
    /// nobody says becomes a multiple of 32 where the model does not take the picture's own.
    #[arg(long, value_name = "NAME=FILE", help_heading = HEADING, add = ArgValueCompleter::new(InputNames))]
    pub(super) image: Vec<String>,
    /// How an image's bytes become numbers: imagenet (0 to 1, with the means and deviations of ImageNet; the default for colours),
    /// unit (0 to 1; the default for one channel, which takes the brightness), signed (-1 to 1), bytes (0 to 255).
    #[arg(long, value_name = "PRESET", value_enum, requires = "image", help_heading = HEADING)]
    image_preset: Option<Preset>,
    /// The factor of an image's bytes, before the mean is subtracted, in place of the preset's.
    #[arg(long, value_name = "X", requires = "image", help_heading = HEADING, value_parser = number::real, allow_negative_numbers = true)]
    image_scale: Option<f64>,
    /// The mean of an image's channels (one number, or R,G,B), in place of the preset's.
    #[arg(long, value_name = "R,G,B", value_parser = three, requires = "image", help_heading = HEADING, allow_hyphen_values = true)]
    image_mean: Option<[f32; 3]>,
    /// The standard deviation of an image's channels (one number, or R,G,B), in place of the preset's.
    #[arg(long, value_name = "R,G,B", value_parser = three, requires = "image", help_heading = HEADING, allow_hyphen_values = true)]
    image_std: Option<[f32; 3]>,
    /// Whether channels come before height and width or after them; without it, the model's shape decides.
    #[arg(long, value_enum, requires = "image", help_heading = HEADING)]
    image_layout: Option<LayoutName>,
    /// One input, from a WAV file, as float32 from -1 to 1 at the file's own rate, several channels mixed to one; may be repeated.
    #[arg(long, value_name = "NAME=F.wav", help_heading = HEADING, add = ArgValueCompleter::new(InputNames))]
    pub(super) wav: Vec<String>,
}

/// Reads one number, or three for red, green and blue.
fn three(text: &str) -> Result<[f32; 3], String> {
    let wrong = || "takes one number, or three as in 0.485,0.456,0.406".to_string();
    let numbers: Vec<f32> = text
        .split(',')
        .map(|part| number::real(part).map(|x| x as f32))
        .collect::<Result<_, _>>()
        .map_err(|_| wrong())?;
    match *numbers {
        [one] => Ok([one; 3]),
        [r, g, b] => Ok([r, g, b]),
        _ => Err(wrong()),
    }
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

/// A picture's width and height, where something fixes them.
type FixedSides = (Option<u32>, Option<u32>);

/// The width and height in which a picture of the size `own` is given: what is fixed, and otherwise in proportion, in multiples of
/// `multiple`.
fn fitting(own: (u32, u32), fixed: FixedSides, multiple: u32) -> (u32, u32) {
    let scaled = |side: u32, by: u32, of: u32| {
        let length = f64::from(side) * f64::from(by) / f64::from(of.max(1));
        let multiple = f64::from(multiple);
        // At most the greatest number, which a cast stops at.
        ((length / multiple).round().max(1.0) * multiple) as u32
    };
    match fixed {
        (Some(width), Some(height)) => (width, height),
        (Some(width), None) => (width, scaled(own.1, width, own.0)),
        (None, Some(height)) => (scaled(own.0, height, own.1), height),
        (None, None) => (scaled(own.0, 1, 1), scaled(own.1, 1, 1)),
    }
}

/// Refuses sizes that no picture is given in.
fn check(info: &ValueInfo, (width, height): (u32, u32)) -> Result<(), Failure> {
    match u64::from(width) * u64::from(height) {
        0..=Picture::MOST_PIXELS => Ok(()),
        _ => Err(format!(
            "--image: input {info} would take a picture of {width} x {height} pixels, and at most {} are made",
            Picture::MOST_PIXELS
        )
        .into()),
    }
}

/// A picture from a file, which becomes an input when its size is settled.
pub(super) struct OpenPicture {
    picture: Picture,
    layout: Layout,
    /// Whether the model takes the brightness alone.
    grey: bool,
    normalisation: Normalisation,
    dtype: Option<DType>,
}

/// A side of a picture that nothing fixes.
pub(super) struct OpenSide {
    pub(super) chosen: Chosen,
    /// Whether it is another than the picture's own.
    pub(super) changed: bool,
}

impl OpenPicture {
    /// What a line on the input says.
    pub(super) fn text(&self, path: &Path) -> String {
        let (width, height) = (self.picture.width(), self.picture.height());
        format!("{}, {width} x {height} pixels", shown(&path.to_string_lossy()))
    }

    /// The axes of height, width and channels.
    fn axes(&self) -> (usize, usize, usize) {
        axes(self.layout)
    }

    /// The input's shape: the sides that the model fixes, or that --shape (`said`) or --dim (`sizes`) say; others are the picture's
    /// own, in multiples of `multiple`, and are returned too.
    pub(super) fn shape(
        &self,
        info: &ValueInfo,
        said: Option<&[usize]>,
        sizes: &Sizes,
        multiple: u32,
    ) -> Result<(Vec<usize>, Vec<OpenSide>), Failure> {
        let (height, width, channels) = self.axes();
        let dim = |axis: usize| info.shape.as_ref().and_then(|dims| dims.get(axis)).unwrap_or(&Dim::Unknown);
        let known = |axis: usize| {
            said.map(|shape| shape[axis]).or_else(|| match dim(axis) {
                Dim::Symbol(name) => sizes.of(name),
                dim => fixed(dim),
            })
        };
        let refused = |why: String| Failure::from(format!("--image: input {info} {why}"));
        if let Some(batch) = known(0).filter(|batch| *batch != 1) {
            return Err(refused(format!(
                "takes {batch} pictures at once, and --image gives one; give an array (-i)"
            )));
        }
        let count = if self.grey { 1 } else { 3 };
        if let Some(other) = known(channels).filter(|other| *other != count) {
            return Err(refused(format!(
                "would have {}, and the picture has {count}",
                counted(other, "channel")
            )));
        }
        let side = |axis: usize| match known(axis).map(u32::try_from).transpose() {
            Ok(side) if side != Some(0) => Ok(side),
            _ => Err(refused("would take a picture of no size".into())),
        };
        let own = (self.picture.width(), self.picture.height());
        let fixed_sides = (side(width)?, side(height)?);
        let size = fitting(own, fixed_sides, multiple);
        check(info, size)?;
        let mut shape = vec![1; 4];
        (shape[channels], shape[height], shape[width]) = (count, size.1 as usize, size.0 as usize);
        let open = [(height, fixed_sides.1, own.1), (width, fixed_sides.0, own.0)].into_iter();
        let open = open.filter(|(_, fixed, _)| fixed.is_none()).map(|(axis, _, own)| {
            let name = match dim(axis) {
                Dim::Symbol(name) => shown(name).to_string(),
                _ => format!("axis {axis} of {}", shown(&info.name)),
            };
            OpenSide { chosen: (name, shape[axis]), changed: shape[axis] != own as usize }
        });
        let open = open.collect();
        Ok((shape, open))
    }

    /// The input of this shape.
    pub(super) fn tensor(&self, shape: &[usize]) -> Result<Tensor, Failure> {
        let (height, width, _) = self.axes();
        let side = |axis: usize| shape.get(axis).and_then(|side| u32::try_from(*side).ok()).unwrap_or(1);
        let resized = self.picture.resized(side(width), side(height))?;
        let tensor = match self.grey {
            true => resized.to_grey_tensor(self.layout, self.normalisation)?,
            false => resized.to_tensor(self.layout, self.normalisation)?,
        };
        Ok(match self.dtype {
            Some(dtype) if dtype != DType::F32 => tensor.cast(dtype)?,
            _ => tensor,
        })
    }
}

/// The axes of height, width and channels.
fn axes(layout: Layout) -> (usize, usize, usize) {
    match layout {
        Layout::Nchw => (2, 3, 1),
        Layout::Nhwc => (1, 2, 3),
    }
}

impl MediaArgs {
    fn normalisation(&self, grey: bool) -> Result<Normalisation, Failure> {
        let usual = if grey { Preset::Unit } else { Preset::Imagenet };
        let mut normalisation = match self.image_preset.unwrap_or(usual) {
            Preset::Imagenet => Normalisation::IMAGENET,
            Preset::Unit => Normalisation::UNIT,
            Preset::Signed => Normalisation::SIGNED,
            Preset::Bytes => Normalisation::BYTES,
        };
        normalisation.scale = self.image_scale.map_or(normalisation.scale, |scale| scale as f32);
        normalisation.mean = self.image_mean.unwrap_or(normalisation.mean);
        normalisation.deviation = self.image_std.unwrap_or(normalisation.deviation);
        if normalisation.deviation.contains(&0.0) {
            return Err("--image-std: is 0, and nothing can be divided by it".into());
        }
        Ok(normalisation)
    }

    /// The picture in a file.
    pub(super) fn picture(&self, info: &ValueInfo, path: &Path) -> Result<OpenPicture, Failure> {
        let (layout, grey) = self.geometry(info)?;
        let normalisation = self.normalisation(grey)?;
        drop(files::open(path)?);
        Ok(OpenPicture { picture: Picture::open(path)?, layout, grey, normalisation, dtype: info.dtype })
    }

    /// The layout, and whether the model takes one channel.
    fn geometry(&self, info: &ValueInfo) -> Result<(Layout, bool), Failure> {
        let refused = |why: &str| Failure::from(format!("--image: input {info} {why}"));
        let dims = info.shape.as_deref().unwrap_or(&[Dim::Unknown, Dim::Unknown, Dim::Unknown, Dim::Unknown]);
        let [_, first, _, third] = dims else {
            return Err(refused("has not the four dimensions of images"));
        };
        let is_channels = |dim: &Dim| matches!(dim, Dim::Known(1 | 3));
        let layout = match self.image_layout {
            Some(LayoutName::Nchw) => Layout::Nchw,
            Some(LayoutName::Nhwc) => Layout::Nhwc,
            None if is_channels(third) && !is_channels(first) => Layout::Nhwc,
            None => Layout::Nchw,
        };
        match dims[axes(layout).2] {
            Dim::Known(1) => Ok((layout, true)),
            Dim::Known(3) | Dim::Symbol(_) | Dim::Unknown => Ok((layout, false)),
            Dim::Known(count) => Err(refused(&format!(
                "has {}, and pictures have 3, or 1 of brightness; --image-layout tells which axis they are",
                counted(count, "channel")
            ))),
        }
    }

    /// The sound in the shape that the model declares, its samples along the last axis; and what the file is, in words.
    pub(super) fn sound(&self, info: &ValueInfo, path: &Path) -> Result<(Tensor, String), Failure> {
        let sound = wav::decode(&files::read(path)?).map_err(|reason| files::failed(path, reason))?;
        let what = format!("{}, {}", shown(&path.to_string_lossy()), sound.text());
        let rank = info.shape.as_ref().map_or(2, Vec::len).max(1);
        let shape: Vec<usize> = std::iter::repeat_n(1, rank - 1).chain([sound.samples.len()]).collect();
        if !super::shapes::fits(info, &shape) {
            let given = counted(sound.samples.len(), "sample");
            return Err(files::failed(path, format!("has {given} ({what}), and the model takes {info}")));
        }
        let tensor = Tensor::from_vec(&shape, sound.samples)?;
        match info.dtype {
            Some(dtype) if dtype != DType::F32 && dtype.is_float() => Ok((tensor.cast(dtype)?, what)),
            Some(DType::F32) | None => Ok((tensor, what)),
            Some(dtype) => {
                Err(format!("--wav: input '{}' takes {dtype}, and sounds are floats", shown(&info.name))
                    .into())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_sides_keep_the_proportion_in_whole_multiples() {
        assert_eq!(fitting((900, 420), (None, None), 1), (900, 420));
        assert_eq!(fitting((900, 420), (None, None), 32), (896, 416));
        assert_eq!(fitting((10, 1000), (None, None), 32), (32, 992));
        assert_eq!(fitting((900, 420), (None, Some(48)), 1), (103, 48));
        assert_eq!(fitting((900, 420), (Some(300), None), 32), (300, 128));
        assert_eq!(fitting((900, 420), (Some(5), Some(7)), 32), (5, 7));
        assert_eq!(fitting((1, 3_000_000_000), (Some(3_000_000_000), None), 1).1, u32::MAX);
    }

    #[test]
    fn three_numbers_or_one() {
        assert_eq!(three("-1,0.5,2"), Ok([-1.0, 0.5, 2.0]));
        assert_eq!(three("0.13"), Ok([0.13; 3]));
        for wrong in ["", "1,2", "1,2,3,4", "a", "nan"] {
            assert!(three(wrong).is_err(), "{wrong}");
        }
    }
}
