//! WAV files: PCM of 8 to 32 bits, and float32.

use crate::{counted, number, numpy};

/// What a file sounds like.
#[derive(Debug, PartialEq)]
pub(super) struct Sound {
    /// From -1 to 1; several channels are mixed to one.
    pub(super) samples: Vec<f32>,
    channels: usize,
    /// Samples in a second.
    rate: u32,
}

impl Sound {
    pub(super) fn text(&self) -> String {
        let seconds = number::short(self.samples.len() as f64 / f64::from(self.rate.max(1)));
        let mixed = if self.channels > 1 { " mixed to one" } else { "" };
        format!("{} Hz, {}{mixed}, {seconds} s", self.rate, counted(self.channels, "channel"))
    }
}

/// Reads a WAV file.
pub(super) fn decode(bytes: &[u8]) -> Result<Sound, String> {
    if !(bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WAVE")) {
        return Err("is no WAV file".into());
    }
    let (mut format, mut rest) = (None, &bytes[12..]);
    while let Some((head, body)) = rest.split_at_checked(8) {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        match &head[..4] {
            b"fmt " => format = Some(Format::read(body.get(..length).ok_or("is cut short")?)?),
            b"data" => {
                let format = format.ok_or("has no format before its samples")?;
                return format
                    .sound(body.get(..length).ok_or("is cut short: it has fewer samples than it says")?);
            }
            _ => {}
        }
        // Chunks begin at even places.
        rest = body.get(length.saturating_add(length % 2)..).ok_or("is cut short")?;
    }
    Err("has no samples".into())
}

struct Format {
    float: bool,
    channels: usize,
    bytes: usize,
    rate: u32,
}

impl Format {
    fn read(chunk: &[u8]) -> Result<Format, String> {
        let short = |at: usize| chunk.get(at..at + 2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        let missing = || "has no format".to_string();
        let (code, channels, bits) =
            (short(0).ok_or_else(missing)?, short(2).ok_or_else(missing)?, short(14).ok_or_else(missing)?);
        let (low, high) = (short(4).ok_or_else(missing)?, short(6).ok_or_else(missing)?);
        let rate = u32::from(high) << 16 | u32::from(low);
        // The extended format has the code at the beginning of a GUID.
        let code = if code == 0xfffe { short(24).ok_or_else(missing)? } else { code };
        let float = match (code, bits) {
            (1, 8 | 16 | 24 | 32) => false,
            (3, 32) => true,
            _ => {
                return Err(format!(
                    "has {bits}-bit samples of format {code}; PCM of 8 to 32 bits and float32 are read"
                ));
            }
        };
        match channels {
            0 => Err("has no channels".into()),
            _ => Ok(Format { float, channels: channels.into(), bytes: usize::from(bits / 8), rate }),
        }
    }

    fn sound(&self, data: &[u8]) -> Result<Sound, String> {
        let frames = data.chunks_exact(self.bytes * self.channels);
        let mixed = |frame: &[u8]| {
            let sum: f32 = frame.chunks_exact(self.bytes).map(|sample| self.value(sample)).sum();
            sum / self.channels as f32
        };
        let mut samples = numpy::reserved(frames.len())?;
        samples.extend(frames.map(mixed));
        match samples.is_empty() {
            true => Err("has no samples".into()),
            false => Ok(Sound { samples, channels: self.channels, rate: self.rate }),
        }
    }

    fn value(&self, sample: &[u8]) -> f32 {
        match *sample {
            [byte] => (f32::from(byte) - 128.0) / 128.0,
            [a, b, c, d] if self.float => f32::from_le_bytes([a, b, c, d]),
            // The bytes become the upper ones of 32 bits.
            _ => {
                let mut upper = [0; 4];
                upper[4 - sample.len()..].copy_from_slice(sample);
                (f64::from(i32::from_le_bytes(upper)) / 2f64.powi(31)) as f32
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(code: u16, channels: u16, bits: u16, data: &[u8]) -> Vec<u8> {
        let mut fmt = [code.to_le_bytes(), channels.to_le_bytes()].concat();
        fmt.extend([16_000u32.to_le_bytes().as_slice(), &[0; 6]].concat());
        fmt.extend(bits.to_le_bytes());
        let chunk = |name: &[u8], body: &[u8]| {
            let odd = if body.len() % 2 == 1 { &[0][..] } else { &[] };
            [name, &(body.len() as u32).to_le_bytes(), body, odd].concat()
        };
        let chunks = [chunk(b"fmt ", &fmt), chunk(b"LIST", b"odd"), chunk(b"data", data)].concat();
        [b"RIFF".as_slice(), &[0; 4], b"WAVE", &chunks].concat()
    }

    /// Format, channels, bits, bytes, and the samples that they mean.
    type SoundCase<'a> = (u16, u16, u16, &'a [u8], &'a [f32]);

    #[test]
    fn samples_of_every_width() {
        let half = 0.5f32.to_le_bytes();
        let cases: [SoundCase; 6] = [
            (1, 1, 8, &[0, 128, 192], &[-1.0, 0.0, 0.5]),
            (1, 1, 16, &[0, 0x80, 0, 0x40], &[-1.0, 0.5]),
            (1, 1, 24, &[0, 0, 0x40, 0, 0, 0x80], &[0.5, -1.0]),
            (1, 1, 32, &[0, 0, 0, 0x40], &[0.5]),
            (3, 1, 32, &half, &[0.5]),
            (1, 2, 16, &[0, 0x40, 0, 0], &[0.25]),
        ];
        for (code, channels, bits, data, expected) in cases {
            let sound = Sound { samples: expected.into(), channels: channels.into(), rate: 16_000 };
            assert_eq!(decode(&wav(code, channels, bits, data)), Ok(sound), "{bits}");
        }
    }

    #[test]
    fn a_sound_says_its_rate_and_channels() {
        let stereo = decode(&wav(1, 2, 16, &[0; 32_000])).map(|sound| sound.text());
        assert_eq!(stereo.as_deref(), Ok("16000 Hz, 2 channels mixed to one, 0.5 s"));
    }

    #[test]
    fn what_is_no_wav_is_told() {
        assert_eq!(decode(b"text"), Err("is no WAV file".into()));
        assert_eq!(decode(&wav(1, 1, 16, &[])), Err("has no samples".into()));
        let whole = wav(1, 1, 16, &[0; 8]);
        for length in 12..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "{length}");
        }
        let packed = decode(&wav(85, 1, 16, &[0; 8]));
        assert!(packed.is_err_and(|reason| reason.contains("format 85")));
    }
}
