//! From the detector's map of probabilities to lines of text on the page.

/// The probability above which a pixel of the map is text, and the mean above which a region is a line.
const PIXEL: f32 = 0.2;
const REGION: f32 = 0.4;

/// The detector marks the core of each line. A box grows by its area over its perimeter, times this number.
const UNCLIP: f32 = 1.6;

/// The least height and width of a region, in pixels of the map.
const LEAST: f32 = 3.0;

/// A region this many times as long as high, measured by its variances, has a direction; others are taken as level.
const DIRECTED: f32 = 4.0;

/// A line of text: a rectangle in pixels of the page, turned like the line.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The upper left corner of the first character.
    corner: (f32, f32),
    /// The direction of reading, as a vector of length 1.
    along: (f32, f32),
    pub width: f32,
    pub height: f32,
    /// How far each side lies outside of what the detector marked.
    pub grown: f32,
}

impl Line {
    /// The point of the page at (`x`, `y`) of the rectangle.
    pub fn at(&self, x: f32, y: f32) -> (f32, f32) {
        let ((left, top), (ax, ay)) = (self.corner, self.along);
        (left + x * ax - y * ay, top + x * ay + y * ax)
    }

    /// The place in the rectangle of a point of the page: the reverse of [`Line::at`].
    pub fn inside(&self, x: f32, y: f32) -> (f32, f32) {
        let ((left, top), (ax, ay)) = (self.corner, self.along);
        let (x, y) = (x - left, y - top);
        (x * ax + y * ay, y * ax - x * ay)
    }

    /// The corners in clockwise order, the upper left one first.
    pub fn corners(&self) -> [(f32, f32); 4] {
        let (width, height) = (self.width, self.height);
        [(0.0, 0.0), (width, 0.0), (width, height), (0.0, height)].map(|(x, y)| self.at(x, y))
    }

    pub fn middle(&self) -> (f32, f32) {
        self.at(self.width / 2.0, self.height / 2.0)
    }
}

/// The lines in `map`, a row-major map of probabilities of `width` columns, in the order of reading. `scale` is the size of the map's
/// pixels in pixels of the page.
pub fn lines(map: &[f32], width: usize, scale: (f32, f32)) -> Vec<Line> {
    let mut lines: Vec<Line> =
        regions(map, width).into_iter().filter_map(|region| region.line(scale)).collect();
    lines.sort_by(|a, b| a.middle().1.total_cmp(&b.middle().1));
    for row in lines.chunk_by_mut(|a, b| b.middle().1 - a.middle().1 < a.height.min(b.height) / 2.0) {
        row.sort_by(|a, b| a.middle().0.total_cmp(&b.middle().0));
    }
    lines
}

/// A connected region of text pixels.
#[derive(Default)]
struct Region {
    pixels: Vec<(usize, usize)>,
    /// The sum of the pixels' probabilities.
    sum: f32,
}

impl Region {
    /// The rectangle around the region along its longer axis, grown, on the page.
    fn line(&self, (sx, sy): (f32, f32)) -> Option<Line> {
        let count = self.pixels.len() as f32;
        if self.sum / count < REGION {
            return None;
        }
        let points: Vec<(f32, f32)> =
            self.pixels.iter().map(|&(x, y)| ((x as f32 + 0.5) * sx, (y as f32 + 0.5) * sy)).collect();
        let (middle, (ax, ay)) = axis(&points);
        let range = |f: &dyn Fn(f32, f32) -> f32| {
            let values = points.iter().map(|&(x, y)| f(x - middle.0, y - middle.1));
            values.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), v| (low.min(v), high.max(v)))
        };
        let (left, right) = range(&|x, y| x * ax + y * ay);
        let (top, bottom) = range(&|x, y| y * ax - x * ay);
        let (width, height) = (right - left + sx, bottom - top + sy);
        if (width / sx).min(height / sy) < LEAST {
            return None;
        }
        let grow = width * height * UNCLIP / (2.0 * (width + height));
        let (left, top) = (left - sx / 2.0 - grow, top - sy / 2.0 - grow);
        let corner = (middle.0 + left * ax - top * ay, middle.1 + left * ay + top * ax);
        Some(Line {
            corner,
            along: (ax, ay),
            width: width + 2.0 * grow,
            height: height + 2.0 * grow,
            grown: grow,
        })
    }
}

/// The mean of the points, and the direction in which they vary most.
fn axis(points: &[(f32, f32)]) -> ((f32, f32), (f32, f32)) {
    let mean = |f: &dyn Fn(&(f32, f32)) -> f32| points.iter().map(f).sum::<f32>() / points.len() as f32;
    let (mx, my) = (mean(&|p| p.0), mean(&|p| p.1));
    let (xx, yy) = (mean(&|p| (p.0 - mx).powi(2)), mean(&|p| (p.1 - my).powi(2)));
    let xy = mean(&|p| (p.0 - mx) * (p.1 - my));
    let angle = if xx > DIRECTED * yy { (2.0 * xy).atan2(xx - yy) / 2.0 } else { 0.0 };
    ((mx, my), (angle.cos(), angle.sin()))
}

/// The regions of text pixels that touch each other at a side.
fn regions(map: &[f32], width: usize) -> Vec<Region> {
    let height = map.len() / width.max(1);
    let mut seen = vec![false; map.len()];
    let mut regions = Vec::new();
    for start in 0..map.len() {
        if seen[start] || map[start] < PIXEL {
            continue;
        }
        let mut region = Region::default();
        let mut waiting = vec![start];
        seen[start] = true;
        while let Some(at) = waiting.pop() {
            let (x, y) = (at % width, at / width);
            region.pixels.push((x, y));
            region.sum += map[at];
            let mut visit = |inside: bool, next: usize| {
                if inside && !seen[next] && map[next] >= PIXEL {
                    seen[next] = true;
                    waiting.push(next);
                }
            };
            visit(x > 0, at.wrapping_sub(1));
            visit(x + 1 < width, at + 1);
            visit(y > 0, at.wrapping_sub(width));
            visit(y + 1 < height, at + width);
        }
        regions.push(region);
    }
    regions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A map of 100 x 40 pixels with bars of text, each given by its left end, its upper end, its length and how far it falls.
    fn map(bars: &[(usize, usize, usize, f32)]) -> Vec<f32> {
        let mut map = vec![0.0; 4000];
        for &(left, top, length, fall) in bars {
            for x in 0..length {
                let top = top + (x as f32 * fall / length as f32) as usize;
                (top..top + 4).for_each(|y| map[y * 100 + left + x] = 0.9);
            }
        }
        map
    }

    #[test]
    fn lines_come_in_the_order_of_reading() {
        let lines = lines(&map(&[(60, 6, 30, 0.0), (10, 5, 30, 0.0), (10, 20, 80, 0.0)]), 100, (2.0, 2.0));
        let middles: Vec<_> = lines.iter().map(Line::middle).collect();
        assert_eq!(middles, [(50.0, 14.0), (150.0, 16.0), (100.0, 44.0)]);
    }

    #[test]
    fn a_box_grows_around_its_core_and_turns_with_it() {
        // 80 x 4 pixels: area 320, perimeter 168, so each side moves out by 320 * 1.6 / 168.
        let level = lines(&map(&[(10, 20, 80, 0.0)]), 100, (1.0, 1.0))[0];
        let grown = 320.0 * UNCLIP / 168.0;
        assert!(
            (level.width - 80.0 - 2.0 * grown).abs() < 1e-3
                && (level.height - 4.0 - 2.0 * grown).abs() < 1e-3
        );
        assert!((level.corners()[0].0 - 10.0 + grown).abs() < 1e-3);
        let falling = lines(&map(&[(10, 10, 80, 16.0)]), 100, (1.0, 1.0))[0];
        let slope = falling.along.1 / falling.along.0;
        assert!((slope - 0.2).abs() < 0.01, "{slope}");
        let (x, y) = falling.at(3.0, 5.0);
        let (u, v) = falling.inside(x, y);
        assert!((u - 3.0).abs() < 1e-3 && (v - 5.0).abs() < 1e-3, "{u} {v}");
    }

    #[test]
    fn specks_are_no_lines() {
        assert!(lines(&map(&[(10, 20, 2, 0.0)]), 100, (1.0, 1.0)).is_empty());
        assert!(lines(&[], 0, (1.0, 1.0)).is_empty());
    }
}
