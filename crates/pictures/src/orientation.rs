//! How a camera was held: tag 0x0112 of a JPEG's Exif data, which is a TIFF file.

use crate::Picture;

/// How the stored pixels are turned to stand upright.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Orientation {
    Upright,
    Mirrored,
    UpsideDown,
    UpsideDownMirrored,
    /// A transposition, with the rows or the columns of the result reversed or not.
    Transposed {
        columns_reversed: bool,
        rows_reversed: bool,
    },
}

/// The tag's number in Exif.
const TAG: u16 = 0x0112;

/// The orientation that the data say; upright if they say none.
pub(crate) fn of(exif: &[u8]) -> Orientation {
    use Orientation::*;
    match tag(exif) {
        Some(2) => Mirrored,
        Some(3) => UpsideDown,
        Some(4) => UpsideDownMirrored,
        Some(5) => Transposed { columns_reversed: false, rows_reversed: false },
        Some(6) => Transposed { columns_reversed: true, rows_reversed: false },
        Some(7) => Transposed { columns_reversed: true, rows_reversed: true },
        Some(8) => Transposed { columns_reversed: false, rows_reversed: true },
        _ => Upright,
    }
}

/// The tag's value in the first directory.
fn tag(exif: &[u8]) -> Option<u16> {
    let big = exif.starts_with(b"MM");
    let bytes = |at: usize, count: usize| exif.get(at..at.checked_add(count)?);
    let short = |at: usize| {
        let pair: [u8; 2] = bytes(at, 2)?.try_into().ok()?;
        Some(if big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
    };
    let four: [u8; 4] = bytes(4, 4)?.try_into().ok()?;
    let directory = if big { u32::from_be_bytes(four) } else { u32::from_le_bytes(four) } as usize;
    let first = directory.checked_add(2)?;
    let mut entries = (0..usize::from(short(directory)?)).map(|i| first + i * 12);
    let entry = entries.find(|&at| short(at) == Some(TAG))?;
    short(entry + 8)
}

impl Picture {
    pub(crate) fn turned(self, orientation: Orientation) -> Picture {
        let (width, height) = (self.width, self.height);
        let (right, bottom) = (width - 1, height - 1);
        match orientation {
            Orientation::Upright => self,
            Orientation::Mirrored => Picture::from_fn(width, height, |x, y| self.pixel(right - x, y)),
            Orientation::UpsideDown => {
                Picture::from_fn(width, height, |x, y| self.pixel(right - x, bottom - y))
            }
            Orientation::UpsideDownMirrored => {
                Picture::from_fn(width, height, |x, y| self.pixel(x, bottom - y))
            }
            Orientation::Transposed { columns_reversed, rows_reversed } => {
                Picture::from_fn(height, width, |x, y| {
                    let x = if columns_reversed { bottom - x } else { x };
                    let y = if rows_reversed { right - y } else { y };
                    self.pixel(y, x)
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Exif data with one tag, in either byte order.
    fn exif(big: bool, value: u16) -> Vec<u8> {
        let short = |n: u16| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let long = |n: u32| if big { n.to_be_bytes() } else { n.to_le_bytes() };
        let mut data = if big { b"MM".to_vec() } else { b"II".to_vec() };
        data.extend(short(42));
        data.extend(long(8));
        for n in [1, TAG, 3] {
            data.extend(short(n));
        }
        data.extend(long(1));
        data.extend(short(value));
        data
    }

    /// The eight ways to store a picture of one bright corner, as Exif 2.3 numbers them: the side at which line 0 lies, and the side
    /// at which column 0 lies.
    #[test]
    fn every_orientation_brings_the_first_pixel_where_exif_says() {
        // A picture of 3 x 2 pixels, of which the first is bright.
        let stored = Picture::from_fn(3, 2, |x, y| [if (x, y) == (0, 0) { 255 } else { 0 }; 3]);
        let bright = |picture: &Picture| {
            let at = picture.pixels().iter().position(|pixel| pixel[0] == 255).unwrap_or(99) as u32;
            (picture.width(), picture.height(), at % picture.width(), at / picture.width())
        };
        // 1: top, left; 2: top, right; 3: bottom, right; 4: bottom, left; 5: left, top; 6: right, top; 7: right, bottom; 8: left, bottom
        let expected = [
            (3, 2, 0, 0),
            (3, 2, 2, 0),
            (3, 2, 2, 1),
            (3, 2, 0, 1),
            (2, 3, 0, 0),
            (2, 3, 1, 0),
            (2, 3, 1, 2),
            (2, 3, 0, 2),
        ];
        for (value, expected) in (1..).zip(expected) {
            for big in [false, true] {
                assert_eq!(bright(&stored.clone().turned(of(&exif(big, value)))), expected, "{value}");
            }
        }
        let second = stored.clone().turned(of(&exif(true, 6)));
        assert_eq!(second.pixel(0, 0), stored.pixel(0, 1));
    }

    #[test]
    fn data_that_say_nothing_leave_the_picture_upright() {
        let whole = exif(true, 6);
        for length in 0..whole.len() {
            assert_eq!(of(&whole[..length]), Orientation::Upright, "{length}");
        }
        assert_eq!(of(&[0xff; 64]), Orientation::Upright);
    }
}
