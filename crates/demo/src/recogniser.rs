//! What the lines say.

use std::error::Error;
use std::time::Duration;

use sardonyx::{Model, Tensor};
use sardonyx_pictures::{Layout, Normalisation, Picture};

use crate::lines::Line;
use crate::network::Network;

/// The height of the recogniser's input, and the step of its widths: lines of similar lengths share a plan.
const HEIGHT: u32 = 48;
const WIDTH_STEP: u32 = 80;

/// The recogniser was trained on lines that are followed by this grey, which is 0 after normalisation.
const PADDING: [u8; 3] = [128; 3];

pub struct Recogniser {
    pub network: Network,
    /// The text of each class: nothing for the blank, the characters in the model's metadata, and the space.
    characters: Vec<String>,
}

/// A text, and the mean probability of its characters.
pub struct Reading {
    pub text: String,
    pub confidence: f32,
    /// The time of the run.
    pub spent: Duration,
}

impl Recogniser {
    pub fn new(network: Network) -> Result<Recogniser, Box<dyn Error>> {
        let characters = characters(&network.model)
            .ok_or_else(|| format!("{} has no list of characters in its metadata", network.name))?;
        Ok(Recogniser { network, characters })
    }

    pub fn read(&self, x: &Tensor) -> Result<Reading, Box<dyn Error>> {
        let (output, spent) = self.network.run(x)?;
        let classes = output.shape().last().copied().unwrap_or(0);
        let (text, confidence) = decode(output.as_slice()?, classes, &self.characters);
        Ok(Reading { text, confidence, spent })
    }
}

fn characters(model: &Model) -> Option<Vec<String>> {
    let listed = model.metadata().get("character")?;
    let characters = listed.lines().map(str::to_string);
    Some(std::iter::once(String::new()).chain(characters).chain([" ".into()]).collect())
}

/// A line of the page as the recogniser's input: upright, and of a fixed height.
pub fn input(page: &Picture, line: &Line) -> Result<Tensor, sardonyx::Error> {
    let width = (line.width * HEIGHT as f32 / line.height).ceil().max(1.0) as u32;
    let part = |i: u32, of: u32| (i as f32 + 0.5) / of as f32;
    let upright = Picture::from_fn(width, HEIGHT, |x, y| {
        let (x, y) = line.at(part(x, width) * line.width, part(y, HEIGHT) * line.height);
        page.sample(x, y)
    });
    let mut padded = Picture::new(width.next_multiple_of(WIDTH_STEP), HEIGHT, PADDING);
    padded.paste(&upright, 0, 0);
    padded.to_tensor(Layout::Nchw, Normalisation::SIGNED)
}

/// The likeliest class of each step, without repetitions and blanks (greedy CTC), and the mean probability of the steps that remain.
fn decode(probabilities: &[f32], classes: usize, characters: &[String]) -> (String, f32) {
    let mut text = String::new();
    let (mut sum, mut count, mut last) = (0.0, 0, 0);
    for step in probabilities.chunks_exact(classes.max(1)) {
        let (best, &probability) =
            step.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap_or((0, &0.0));
        if best != 0 && best != last {
            text += characters.get(best).map_or("\u{fffd}", String::as_str);
            sum += probability;
            count += 1;
        }
        last = best;
    }
    (text, if count == 0 { 0.0 } else { sum / count as f32 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_and_blanks_are_dropped() {
        let characters = ["", "a", "b"].map(String::from);
        // Steps: a a blank a b, with probabilities that only count where a character begins.
        let steps = [[0.1, 0.9, 0.0], [0.2, 0.8, 0.0], [1.0, 0.0, 0.0], [0.3, 0.7, 0.0], [0.4, 0.1, 0.5]];
        let (text, confidence) = decode(steps.as_flattened(), 3, &characters);
        assert_eq!(text, "aab");
        assert!((confidence - (0.9 + 0.7 + 0.5) / 3.0).abs() < 1e-6, "{confidence}");
        assert_eq!(decode(&[], 0, &characters), (String::new(), 0.0));
        assert_eq!(decode(&[0.0, 0.0, 0.0, 1.0], 4, &characters).0, "\u{fffd}");
    }
}
