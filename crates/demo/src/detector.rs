//! Where on the page the lines are.

use std::error::Error;

use sardonyx_pictures::{Layout, Normalisation, Picture};

use crate::lines::{self, Line};
use crate::network::{Latency, Network};

/// The length to which the page's longer side is brought: small print must be large enough to be found.
const LONG_SIDE: u32 = 960;

/// The length on the CPU reference, which is slow.
const LONG_SIDE_OF_REFERENCE: u32 = 480;

/// The detector halves its input five times.
const MULTIPLE: u32 = 32;

/// The size that the detector is given for a page.
pub fn size(detector: &Network, page: &Picture) -> (u32, u32) {
    let long_side = if detector.is_on_gpu() { LONG_SIDE } else { LONG_SIDE_OF_REFERENCE };
    let scale = long_side as f32 / page.width().max(page.height()) as f32;
    let side = |length: u32| (((length as f32 * scale) / MULTIPLE as f32).round() as u32).max(1) * MULTIPLE;
    (side(page.width()), side(page.height()))
}

/// What the detector found, and how.
pub struct Found {
    /// The lines, in the order of reading.
    pub lines: Vec<Line>,
    pub latency: Latency,
    pub placement: String,
}

pub fn detect(detector: &Network, page: &Picture) -> Result<Found, Box<dyn Error>> {
    let (width, height) = size(detector, page);
    let x = page.resized(width, height)?.to_tensor(Layout::Nchw, Normalisation::IMAGENET)?;
    let (map, first) = detector.run(&x)?;
    let steady = if detector.is_on_gpu() { Some(detector.run(&x)?.1) } else { None };
    let scale = (page.width() as f32 / width as f32, page.height() as f32 / height as f32);
    Ok(Found {
        lines: lines::lines(map.as_slice()?, width as usize, scale),
        latency: Latency { first, steady },
        placement: detector.placement(&x)?,
    })
}
