//! Text in a picture. The font has the letters of Latin scripts; what it lacks is written in letters that it has, where that reads the
//! same, and otherwise as an empty box.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use sardonyx_pictures::{Picture, Rgb};

/// A size of the font, in one weight.
#[derive(Clone, Copy)]
pub struct Size(RasterHeight, FontWeight);

pub const SMALL: Size = Size(RasterHeight::Size20, FontWeight::Regular);
pub const MIDDLE: Size = Size(RasterHeight::Size24, FontWeight::Regular);
pub const LARGE: Size = Size(RasterHeight::Size32, FontWeight::Bold);

impl Size {
    /// The height of a line, in pixels.
    pub fn height(self) -> u32 {
        self.0.val() as u32
    }

    /// The width of a character; all have the same.
    fn advance(self) -> u32 {
        get_raster_width(self.1, self.0) as u32
    }
}

/// The width of a text, in pixels.
pub fn width(text: &str, size: Size) -> u32 {
    size.advance() * spelled(text).chars().count() as u32
}

/// Writes a text whose upper left corner is at `place`.
pub fn write(picture: &mut Picture, (x, y): (u32, u32), text: &str, size: Size, ink: Rgb) {
    for (i, character) in (0..).zip(spelled(text).chars()) {
        let left = x + i * size.advance();
        match get_raster(character, size.1, size.0) {
            Some(glyph) => {
                for (line, row) in (y..).zip(glyph.rows()) {
                    for (column, &cover) in (left..).zip(row.iter()) {
                        let below = picture.pixel(column, line);
                        picture.set(column, line, std::array::from_fn(|c| mix(below[c], ink[c], cover)));
                    }
                }
            }
            None => empty_box(picture, (left + 1, y + 3), (size.advance() - 2, size.height() - 7), ink),
        }
    }
}

/// Whether the font has all letters of a text, or others that read the same.
pub fn is_written_in_full(text: &str) -> bool {
    spelled(text).chars().all(|character| get_raster(character, SMALL.1, SMALL.0).is_some())
}

fn empty_box(picture: &mut Picture, (left, top): (u32, u32), (wide, high): (u32, u32), ink: Rgb) {
    for x in left..left + wide {
        [top, top + high].into_iter().for_each(|y| picture.set(x, y, ink));
    }
    for y in top..=top + high {
        [left, left + wide - 1].into_iter().for_each(|x| picture.set(x, y, ink));
    }
}

fn mix(below: u8, above: u8, cover: u8) -> u8 {
    let (below, above, cover) = (u32::from(below), u32::from(above), u32::from(cover));
    // A mean of two bytes is a byte.
    ((below * (255 - cover) + above * cover) / 255) as u8
}

/// The text in characters that the font has, as far as there are any.
fn spelled(text: &str) -> String {
    let mut spelled = String::new();
    for character in text.chars() {
        match character {
            '\u{2010}'..='\u{2015}' | '\u{2212}' => spelled.push('-'),
            '\u{2018}' | '\u{2019}' | '\u{201b}' | '\u{2032}' => spelled.push('\''),
            '\u{201a}' => spelled.push(','),
            '\u{201c}'..='\u{201f}' | '\u{2033}' => spelled.push('"'),
            '\u{2026}' => spelled += "...",
            '\u{2022}' | '\u{25cf}' => spelled.push('\u{b7}'),
            '\u{20ac}' => spelled += "EUR",
            '\u{2122}' => spelled += "(TM)",
            '\u{2264}' => spelled += "<=",
            '\u{2265}' => spelled += ">=",
            '\u{2190}' => spelled += "<-",
            '\u{2192}' => spelled += "->",
            '\u{fb01}' => spelled += "fi",
            '\u{fb02}' => spelled += "fl",
            '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => spelled.push(' '),
            '\u{3002}' => spelled.push('.'),
            '\u{3001}' => spelled.push(','),
            // Full-width forms of ASCII.
            '\u{ff01}'..='\u{ff5e}' => spelled.extend(char::from_u32(u32::from(character) - 0xfee0)),
            _ => spelled.push(character),
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_font_lacks_is_spelled_out() {
        assert_eq!(spelled("Köln – “naïve” … 10 €"), "Köln - \"naïve\" ... 10 EUR");
        assert_eq!(spelled("ＡＢＣ，１２３。"), "ABC,123.");
        for text in ["Grüße aus Köln – naïve café", "Łódź, Dvořák, Erdoğan", "‘a’ — “b” • c™"]
        {
            assert!(is_written_in_full(text), "{text}");
        }
        assert!(!is_written_in_full("中文"));
    }

    #[test]
    fn every_character_leaves_a_mark() {
        for text in ["a", "ö", "–", "ł", "中"] {
            let mut picture = Picture::new(40, 40, [255; 3]);
            write(&mut picture, (2, 2), text, MIDDLE, [0; 3]);
            assert!(picture.pixels().iter().any(|pixel| pixel[0] < 90), "{text}");
            assert_eq!(width(text, MIDDLE), MIDDLE.advance());
        }
    }
}
