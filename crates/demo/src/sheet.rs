//! The picture that the demo ends with: the page with a frame around each line, the texts beside it, and how it was read below.

use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster, get_raster_width};
use sardonyx_pictures::{Picture, Rgb};

use crate::lines::Line;

const PAPER: Rgb = [250, 250, 247];
const INK: Rgb = [28, 30, 36];
const FAINT: Rgb = [120, 122, 128];
/// The frames' colours, in turn: neighbours overlap. All of them stand out from paper and from print.
const COLOURS: [Rgb; 4] = [[214, 40, 57], [0, 114, 188], [16, 138, 72], [214, 108, 0]];

/// The page's longer side on the sheet is at least this long.
const LONG_SIDE: u32 = 1100;
const MARGIN: u32 = 32;
/// Between the page and the texts.
const GAP: u32 = 72;
const STROKE: i32 = 1;
const SIZE: RasterHeight = RasterHeight::Size20;
const LINE_STEP: u32 = 30;

/// What the sheet shows of a line of text.
pub struct Entry {
    pub line: Line,
    pub text: String,
    pub confidence: f32,
    /// Whether the text is to be believed; otherwise the line is shown grey.
    pub certain: bool,
}

/// The page with its lines and their texts, and `notes` below.
pub fn draw(page: &Picture, entries: &[Entry], notes: &[String]) -> Picture {
    let scale = (LONG_SIDE as f32 / page.width().max(page.height()) as f32).max(1.0);
    let (width, height) = ((page.width() as f32 * scale) as u32, (page.height() as f32 * scale) as u32);
    let labels: Vec<String> = entries.iter().map(label).collect();
    let middles: Vec<u32> = entries
        .iter()
        .map(|entry| {
            MARGIN + (entry.line.at(entry.line.width, entry.line.height / 2.0).1.max(0.0) * scale) as u32
        })
        .collect();
    let places = spread(&middles);

    let longest = |texts: &[String]| texts.iter().map(|text| text_width(text)).max().unwrap_or(0);
    let beside = MARGIN + width + GAP;
    let below = (MARGIN + height).max(places.last().map_or(0, |place| place + LINE_STEP)) + MARGIN / 2;
    let sheet_width = (beside + longest(&labels)).max(MARGIN + longest(notes)) + MARGIN;
    let sheet_height = below + LINE_STEP * notes.len() as u32 + MARGIN / 2;

    let mut sheet = Picture::new(sheet_width, sheet_height, PAPER);
    sheet.paste(&page.resized(width, height), MARGIN, MARGIN);
    for (i, (entry, label)) in entries.iter().zip(&labels).enumerate() {
        let colour = if entry.certain { COLOURS[i % COLOURS.len()] } else { FAINT };
        let on_sheet = |(x, y): (f32, f32)| (MARGIN as f32 + x * scale, MARGIN as f32 + y * scale);
        let corners = entry.line.corners().map(on_sheet);
        (0..4).for_each(|i| stroke(&mut sheet, corners[i], corners[(i + 1) % 4], colour));
        // From the middle of the frame's right side to the text.
        let right = ((corners[1].0 + corners[2].0) / 2.0, (corners[1].1 + corners[2].1) / 2.0);
        let edge = ((MARGIN + width) as f32, right.1);
        let text = ((beside - 10) as f32, places[i] as f32);
        stroke(&mut sheet, right, edge, colour);
        stroke(&mut sheet, edge, text, colour);
        let ink = if entry.certain { INK } else { FAINT };
        write(&mut sheet, beside, places[i].saturating_sub(SIZE.val() as u32 / 2), label, ink);
    }
    for (i, note) in (0..).zip(notes) {
        write(&mut sheet, MARGIN, below + i * LINE_STEP, note, FAINT);
    }
    sheet
}

fn label(entry: &Entry) -> String {
    format!("{:.2}  {}", entry.confidence, entry.text)
}

/// The lines' heights, moved down where two would be closer than a line of text is high.
fn spread(middles: &[u32]) -> Vec<u32> {
    let mut least = 0;
    middles
        .iter()
        .map(|&middle| {
            let place = middle.max(least);
            least = place + LINE_STEP;
            place
        })
        .collect()
}

fn text_width(text: &str) -> u32 {
    (text.chars().count() * get_raster_width(FontWeight::Regular, SIZE)) as u32
}

fn write(sheet: &mut Picture, x: u32, y: u32, text: &str, ink: Rgb) {
    let width = get_raster_width(FontWeight::Regular, SIZE) as u32;
    for (i, character) in (0..).zip(text.chars()) {
        let raster = |character| get_raster(character, FontWeight::Regular, SIZE);
        // The font has Latin letters only.
        let Some(glyph) = raster(character).or_else(|| raster('\u{fffd}')) else { continue };
        for (line, row) in (y..).zip(glyph.rows()) {
            for (column, &cover) in (x + i * width..).zip(row.iter()) {
                let below = sheet.pixel(column, line);
                sheet.set(column, line, std::array::from_fn(|c| mix(below[c], ink[c], cover)));
            }
        }
    }
}

fn mix(below: u8, above: u8, cover: u8) -> u8 {
    let (below, above, cover) = (u32::from(below), u32::from(above), u32::from(cover));
    // A mean of two bytes is a byte.
    ((below * (255 - cover) + above * cover) / 255) as u8
}

/// A straight line, `2 * STROKE + 1` pixels wide.
fn stroke(sheet: &mut Picture, (x0, y0): (f32, f32), (x1, y1): (f32, f32), colour: Rgb) {
    let steps = (x1 - x0).abs().max((y1 - y0).abs()).ceil().max(1.0);
    for step in 0..=steps as u32 {
        let part = step as f32 / steps;
        let (x, y) = ((x0 + part * (x1 - x0)) as i32, (y0 + part * (y1 - y0)) as i32);
        for (dx, dy) in (-STROKE..=STROKE).flat_map(|dx| (-STROKE..=STROKE).map(move |dy| (dx, dy))) {
            if let (Ok(x), Ok(y)) = ((x + dx).try_into(), (y + dy).try_into()) {
                sheet.set(x, y, colour);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::lines;

    #[test]
    fn texts_keep_their_height_unless_they_would_overlap() {
        assert_eq!(spread(&[10, 100, 105, 110, 300]), [10, 100, 130, 160, 300]);
    }

    #[test]
    fn the_sheet_holds_the_page_the_frames_the_texts_and_the_notes() {
        let mut map = vec![0.0; 4000];
        (20..24).for_each(|y| map[y * 100 + 10..y * 100 + 90].fill(0.9));
        let line = lines(&map, 100, (1.0, 1.0))[0];
        let page = Picture::new(100, 40, [7, 7, 7]);
        let entry = |certain| Entry { line, text: "a \u{4e2d}".into(), confidence: 0.5, certain };
        let notes =
            ["how it was read, in a line that is longer than the page and the texts are wide".repeat(2)];
        for (certain, colour) in [(true, COLOURS[0]), (false, FAINT)] {
            let sheet = draw(&page, &[entry(certain)], &notes);
            assert_eq!(sheet.width(), 2 * MARGIN + text_width(&notes[0]));
            assert_eq!(sheet.pixel(MARGIN + 20, MARGIN + 20), [7, 7, 7]);
            // The page is 11 times as large here.
            let (x, y) = line.corners()[0];
            assert_eq!(sheet.pixel(MARGIN + (x * 11.0) as u32, MARGIN + (y * 11.0) as u32), colour);
            let dark = |from: (u32, u32), to: (u32, u32)| {
                (from.0..to.0).any(|x| (from.1..to.1).any(|y| sheet.pixel(x, y)[0] < 140))
            };
            let beside = MARGIN + LONG_SIDE + GAP;
            assert!(dark((beside, MARGIN), (beside + 90, MARGIN + 440)), "the text");
            assert!(
                dark((MARGIN, sheet.height() - LINE_STEP - MARGIN / 2), (MARGIN + 90, sheet.height())),
                "the note"
            );
        }
    }

    #[test]
    fn a_page_without_lines_is_shown_too() {
        let sheet = draw(&Picture::new(3000, 2, [0; 3]), &[], &[]);
        assert_eq!(sheet.width(), 3000 + 2 * MARGIN + GAP);
    }
}
