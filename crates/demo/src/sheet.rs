//! The picture that the demo ends with: the page with its lines marked and numbered, the texts beside it, and how it was read below.

use std::ops::Range;

use sardonyx_pictures::{Picture, Rgb};

use crate::lines::Line;
use crate::writing::{LARGE, MIDDLE, SMALL, Size, width, write};

const PAPER: Rgb = [250, 250, 247];
const INK: Rgb = [28, 30, 36];
const FAINT: Rgb = [110, 112, 118];
/// The mark of a line that is to be believed, and of one that is not.
const CERTAIN: Rgb = [0, 96, 176];
const UNCERTAIN: Rgb = [128, 128, 128];
const WHITE: Rgb = [255; 3];

/// The page's longer side on the sheet is at least this long.
const LONG_SIDE: u32 = 1100;
const MARGIN: u32 = 48;
/// Between the page and the texts.
const GAP: u32 = 48;
/// The height of the title above the page, and of the heading above the texts.
const HEAD: u32 = 72;
/// From one text to the next, and from one note to the next.
const TEXT_STEP: u32 = 40;
const NOTE_STEP: u32 = 32;
/// The share of a mark's colour in its inside and in its edge, through which letters can be read, and the width of the edge.
const TINT: f32 = 0.18;
const EDGE_TINT: f32 = 0.5;
const EDGE: f32 = 1.5;
/// The detector's boxes are wide enough for a recogniser, and neighbours overlap. Marks leave out this part of what the boxes have
/// grown by, so that no mark's edge lies on the letters of the next line.
const INSET: f32 = 0.3;

/// What the sheet shows of a line of text.
pub struct Entry {
    pub line: Line,
    pub text: String,
    pub confidence: f32,
    /// Whether the text is to be believed; otherwise the line is shown grey.
    pub certain: bool,
}

impl Entry {
    fn colour(&self) -> Rgb {
        if self.certain { CERTAIN } else { UNCERTAIN }
    }
}

/// What stands around the page.
pub struct Captions {
    pub title: String,
    /// What the colours mean, for certain and for uncertain lines.
    pub legend: [String; 2],
    /// How the page was read.
    pub notes: Vec<String>,
}

/// The columns beside the page: the number of a line, its confidence, and its text.
struct Columns {
    number: u32,
    confidence: u32,
    text: u32,
}

/// The page with its lines and their texts, and `captions` around it.
pub fn draw(page: &Picture, entries: &[Entry], captions: &Captions) -> sardonyx::Result<Picture> {
    let scale = (LONG_SIDE as f32 / page.width().max(page.height()) as f32).max(1.0);
    let (page_width, page_height) =
        ((page.width() as f32 * scale) as u32, (page.height() as f32 * scale) as u32);
    let top = MARGIN + HEAD;
    let places = spread(entries.iter().map(|entry| top as f32 + entry.line.middle().1 * scale), top);

    let number = MARGIN + page_width + GAP;
    let confidence = number + tag_width(entries.len()) + 24;
    let columns = Columns { number, confidence, text: confidence + width(CONFIDENCE, SMALL) + 28 };
    let longest = entries.iter().map(|entry| width(&entry.text, MIDDLE)).max();
    let texts = columns.text + longest.unwrap_or_else(|| width(NOTHING, MIDDLE));
    let notes = captions.notes.iter().map(|note| width(note, SMALL)).max().unwrap_or(0);
    let legend: u32 = captions.legend.iter().map(|text| width(text, SMALL) + 64).sum();
    let right = texts.max(MARGIN + width(&captions.title, LARGE).max(notes).max(legend));
    let below = (top + page_height).max(places.last().map_or(0, |place| place + TEXT_STEP)) + MARGIN;
    let lines_below = captions.notes.len() as u32 + 1;
    let mut sheet = Picture::new(right + MARGIN, below + NOTE_STEP * lines_below + MARGIN, PAPER);

    write(&mut sheet, (MARGIN, MARGIN), &captions.title, LARGE, INK);
    sheet.paste(&page.resized(page_width, page_height)?, MARGIN, top);
    for entry in entries {
        mark(&mut sheet, &entry.line, (MARGIN as f32, top as f32), scale, entry.colour());
    }
    for (i, entry) in entries.iter().enumerate() {
        let (x, y) = entry.line.at(0.0, entry.line.height / 2.0);
        let left = (MARGIN as f32 + x * scale - tag_width(entries.len()) as f32 - 2.0).max(2.0) as u32;
        tag(&mut sheet, (left, (top as f32 + y * scale).max(0.0) as u32), i, entries.len(), entry.colour());
    }
    texts_beside(&mut sheet, &columns, entries, &places);
    let mut x = MARGIN;
    for (text, colour) in captions.legend.iter().zip([CERTAIN, UNCERTAIN]) {
        fill(&mut sheet, x..x + 24, below + 2..below + 20, colour);
        write(&mut sheet, (x + 34, below), text, SMALL, FAINT);
        x += width(text, SMALL) + 64;
    }
    for (i, note) in (1..).zip(&captions.notes) {
        write(&mut sheet, (MARGIN, below + i * NOTE_STEP), note, SMALL, INK);
    }
    Ok(sheet)
}

/// The heading of the confidences.
const CONFIDENCE: &str = "confidence";

/// What stands in the place of texts where there are none.
const NOTHING: &str = "no text was found";

fn texts_beside(sheet: &mut Picture, columns: &Columns, entries: &[Entry], places: &[u32]) {
    let head = MARGIN + HEAD - NOTE_STEP;
    if entries.is_empty() {
        return write(sheet, (columns.number, MARGIN + HEAD), NOTHING, MIDDLE, INK);
    }
    write(sheet, (columns.confidence, head), CONFIDENCE, SMALL, FAINT);
    write(sheet, (columns.text, head), "text", SMALL, FAINT);
    for (i, (entry, &place)) in entries.iter().zip(places).enumerate() {
        tag(sheet, (columns.number, place), i, entries.len(), entry.colour());
        let ink = if entry.certain { INK } else { FAINT };
        let y = place.saturating_sub(MIDDLE.height() / 2);
        write(sheet, (columns.confidence, y), &format!("{:.2}", entry.confidence), MIDDLE, FAINT);
        write(sheet, (columns.text, y), &entry.text, MIDDLE, ink);
    }
}

/// The lines' heights, moved down where two would be closer than a line of text is high.
fn spread(middles: impl Iterator<Item = f32>, top: u32) -> Vec<u32> {
    let mut least = top + MIDDLE.height() / 2;
    let place = |middle: f32| {
        let place = (middle.max(0.0) as u32).max(least);
        least = place + TEXT_STEP;
        place
    };
    middles.map(place).collect()
}

const TAG: Size = SMALL;

fn tag_width(count: usize) -> u32 {
    width(&count.to_string(), TAG) + 10
}

/// The number of line `i` of `count`, white on a ground of `colour`; `middle` is the height of its middle.
fn tag(sheet: &mut Picture, (left, middle): (u32, u32), i: usize, count: usize, colour: Rgb) {
    let (text, wide) = ((i + 1).to_string(), tag_width(count));
    let top = middle.saturating_sub(TAG.height() / 2 + 1);
    fill(sheet, left..left + wide, top..top + TAG.height() + 2, colour);
    write(sheet, (left + (wide - width(&text, TAG)) / 2, top + 1), &text, TAG, WHITE);
}

fn fill(sheet: &mut Picture, columns: Range<u32>, lines: Range<u32>, colour: Rgb) {
    for y in lines {
        columns.clone().for_each(|x| sheet.set(x, y, colour));
    }
}

/// A tint over a line, with an edge; the page's corner lies at `origin`.
fn mark(sheet: &mut Picture, line: &Line, (left, top): (f32, f32), scale: f32, colour: Rgb) {
    let inset = INSET * line.grown;
    let corners = line.corners();
    let bound = |of: &dyn Fn(&(f32, f32)) -> f32, origin: f32| {
        let ends = corners.iter().map(|corner| origin + of(corner) * scale);
        let (low, high) = ends.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
        low.floor().max(0.0) as u32..high.ceil().max(0.0) as u32
    };
    let (columns, lines) = (bound(&|corner| corner.0, left), bound(&|corner| corner.1, top));
    for y in lines.start..lines.end.min(sheet.height()) {
        for x in columns.start..columns.end.min(sheet.width()) {
            let (u, v) = line.inside((x as f32 + 0.5 - left) / scale, (y as f32 + 0.5 - top) / scale);
            let depth = (u.min(line.width - u).min(v).min(line.height - v) - inset) * scale;
            // Pixels that the border cuts are covered in part.
            let inside = (depth + 0.5).clamp(0.0, 1.0);
            let beyond_edge = (depth - EDGE + 0.5).clamp(0.0, 1.0);
            let share = EDGE_TINT * (inside - beyond_edge) + TINT * beyond_edge;
            if share > 0.0 {
                let below = sheet.pixel(x, y);
                sheet.set(x, y, std::array::from_fn(|c| mixed(below[c], colour[c], share)));
            }
        }
    }
}

fn mixed(below: u8, above: u8, share: f32) -> u8 {
    (f32::from(below) + (f32::from(above) - f32::from(below)) * share).round() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lines::lines;

    #[test]
    fn texts_keep_their_height_unless_they_would_overlap() {
        let places = spread([100.0, 300.0, 305.0, 310.0, 600.0].into_iter(), 0);
        assert_eq!(places, [100, 300, 340, 380, 600]);
        assert_eq!(spread([-5.0].into_iter(), 120), [132]);
    }

    fn captions() -> Captions {
        Captions {
            title: "a page".into(),
            legend: ["sure".into(), "unsure".into()],
            notes: vec![
                "how it was read, in a line that is longer than the page and the texts are".repeat(3),
            ],
        }
    }

    #[test]
    fn the_sheet_holds_the_page_the_marks_the_texts_and_the_notes() {
        let mut map = vec![0.0; 4000];
        (20..24).for_each(|y| map[y * 100 + 10..y * 100 + 90].fill(0.9));
        let line = lines(&map, 100, (1.0, 1.0))[0];
        let page = Picture::new(100, 40, [7, 7, 7]);
        let entry = |certain| Entry { line, text: "a \u{4e2d}".into(), confidence: 0.5, certain };
        for (certain, colour) in [(true, CERTAIN), (false, UNCERTAIN)] {
            let sheet = draw(&page, &[entry(certain)], &captions()).unwrap();
            assert_eq!(sheet.width(), 2 * MARGIN + width(&captions().notes[0], SMALL));
            let top = MARGIN + HEAD;
            assert_eq!(sheet.pixel(MARGIN + 20, top + 20), [7, 7, 7]);
            // The page is 11 times as large here. The line's middle is tinted, and its number stands before it.
            let on_sheet = |(x, y): (f32, f32)| (MARGIN + (x * 11.0) as u32, top + (y * 11.0) as u32);
            let (x, y) = on_sheet(line.middle());
            let tinted: Rgb = std::array::from_fn(|c| mixed(7, colour[c], TINT));
            assert_eq!(sheet.pixel(x, y), tinted);
            let (x, y) = on_sheet(line.at(0.0, line.height / 2.0));
            assert_eq!(sheet.pixel(x - 4, y - TAG.height() / 2), colour);
            let dark = |from: (u32, u32), to: (u32, u32)| {
                (from.0..to.0).any(|x| (from.1..to.1).any(|y| sheet.pixel(x, y)[0] < 120))
            };
            let beside = MARGIN + LONG_SIDE + GAP;
            assert!(dark((beside, top), (beside + 300, top + 440)), "the text");
            assert!(dark((MARGIN, MARGIN), (MARGIN + 90, MARGIN + 40)), "the title");
            assert!(
                dark((MARGIN, sheet.height() - MARGIN - NOTE_STEP), (MARGIN + 90, sheet.height())),
                "the note"
            );
        }
    }

    #[test]
    fn a_page_without_lines_says_so() {
        let page = Picture::new(3000, 2, [0; 3]);
        let sheet = draw(&page, &[], &captions()).unwrap();
        let beside = MARGIN + 3000 + GAP;
        let has_ink =
            (beside..sheet.width()).any(|x| (MARGIN..MARGIN + HEAD + 30).any(|y| sheet.pixel(x, y) != PAPER));
        assert!(has_ink && sheet.width() >= beside + width(NOTHING, MIDDLE));
    }
}
