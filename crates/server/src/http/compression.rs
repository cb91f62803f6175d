//! gzip and deflate: bodies that clients have compressed, and answers that they want so. `deflate` is the form of zlib (RFC 9110,
//! 8.4.1.2).

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use flate2::write::{GzEncoder, ZlibEncoder};

use super::Limits;
use crate::{Failure, Reason};

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Gzip,
    Deflate,
}

/// What a body may become whatever its ratio.
const FREE: usize = 16 << 20;

/// The bytes that are decompressed before the next ones are charged.
const PART: usize = 1 << 20;

impl Coding {
    /// The name in headers.
    pub(super) fn name(self) -> &'static str {
        match self {
            Coding::Gzip => "gzip",
            Coding::Deflate => "deflate",
        }
    }

    /// The coding that a header `Content-Encoding` names; `None` for a body that is not compressed.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if the server does not know it.
    pub(super) fn of_content(header: &str) -> Result<Option<Coding>, Failure> {
        match header.trim().to_ascii_lowercase().as_str() {
            "" | "identity" => Ok(None),
            "gzip" | "x-gzip" => Ok(Some(Coding::Gzip)),
            "deflate" => Ok(Some(Coding::Deflate)),
            other => {
                let text = format!("Content-Encoding '{other:.40}' is not known; use gzip, deflate or none");
                Err(Failure::invalid(text))
            }
        }
    }

    /// The coding that a header `Accept-Encoding` likes best among those of the server; gzip, if it likes both.
    pub(super) fn accepted(header: &str) -> Option<Coding> {
        let weight = |name: &str| {
            let item = header
                .split(',')
                .find(|item| item.split(';').next().is_some_and(|of| of.trim().eq_ignore_ascii_case(name)))?;
            let weight = item.split(';').skip(1).find_map(|parameter| parameter.trim().strip_prefix("q="));
            Some(weight.map_or(1.0, |weight| weight.trim().parse().unwrap_or(0.0)))
        };
        let codings =
            [Coding::Deflate, Coding::Gzip].map(|coding| (weight(coding.name()).unwrap_or(0.0), coding));
        let [(deflate, _), (gzip, _)] = codings;
        let best = if deflate > gzip { codings[0] } else { codings[1] };
        (best.0 > 0.0).then_some(best.1)
    }

    /// What `body` was before it was compressed.
    ///
    /// # Errors
    /// [`Reason::Invalid`] if it is not compressed so; [`Reason::TooLarge`] if the result is above a limit; [`Reason::Unavailable`] if the server
    /// holds too many bytes already.
    pub(crate) fn decompressed(self, body: &[u8], limits: &Limits) -> Result<Bytes, Failure> {
        let by_ratio = body.len().saturating_mul(limits.decompression_ratio).max(FREE);
        let most = limits.decompressed_bytes.min(by_ratio);
        let (mut out, mut charge) = (Vec::new(), limits.in_all.charge());
        let mut decoder: Box<dyn Read + '_> = match self {
            Coding::Gzip => Box::new(MultiGzDecoder::new(body)),
            Coding::Deflate => Box::new(ZlibDecoder::new(body)),
        };
        let mut read = Ok(1);
        while matches!(read, Ok(1..)) && out.len() <= most {
            let part = (most - out.len()).saturating_add(1).min(PART) as u64;
            read = decoder.by_ref().take(part).read_to_end(&mut out);
            charge.grow(*read.as_ref().unwrap_or(&0))?;
        }
        if out.len() > most {
            let text = format!(
                "the body decompresses to more than {most} bytes, which is this server's limit for its size"
            );
            return Err(Failure::new(Reason::TooLarge, text));
        }
        read.map_err(|_| {
            Failure::invalid(format!("the body is no whole {} stream, as Content-Encoding says", self.name()))
        })?;
        Ok(charge.of(out))
    }

    /// `parts`, one after the other, compressed.
    pub(crate) fn compressed(self, parts: &[Bytes]) -> Vec<u8> {
        fn into<W: Write>(mut encoder: W, parts: &[Bytes]) -> W {
            for part in parts {
                // A vector takes all bytes.
                let _ = encoder.write_all(part);
            }
            encoder
        }
        let level = Compression::fast();
        match self {
            Coding::Gzip => into(GzEncoder::new(Vec::new(), level), parts).finish(),
            Coding::Deflate => into(ZlibEncoder::new(Vec::new(), level), parts).finish(),
        }
        .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Python's `gzip.compress(b"cat" * 3, mtime=0)` and `zlib.compress(b"cat" * 3)` make.
    const GZIP: &[u8] = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\x03KN,I\x06#\x00\xaas\xf1(\t\x00\x00\x00";
    const ZLIB: &[u8] = b"x\x9cKN,I\x06#\x00\x12\x1e\x03\xa9";

    #[test]
    fn bodies_of_python() {
        let limits = Limits::default();
        assert_eq!(Coding::Gzip.decompressed(GZIP, &limits).unwrap(), &b"catcatcat"[..]);
        assert_eq!(Coding::Deflate.decompressed(ZLIB, &limits).unwrap(), &b"catcatcat"[..]);
        let cut = Coding::Gzip.decompressed(&GZIP[..GZIP.len() - 3], &limits).unwrap_err();
        assert_eq!(cut.text, "the body is no whole gzip stream, as Content-Encoding says");
        assert!(Coding::Deflate.decompressed(GZIP, &limits).is_err());
        assert!(Coding::Gzip.decompressed(b"", &limits).is_err());
    }

    #[test]
    fn there_and_back() {
        let parts = [Bytes::from_static(b"cat"), Bytes::new(), Bytes::from_static(b"dog")];
        for coding in [Coding::Gzip, Coding::Deflate] {
            let compressed = coding.compressed(&parts);
            assert_eq!(coding.decompressed(&compressed, &Limits::default()).unwrap(), &b"catdog"[..]);
        }
    }

    #[test]
    fn bombs() {
        let zeros = Bytes::from(vec![0; FREE + 1]);
        for coding in [Coding::Gzip, Coding::Deflate] {
            let bomb = coding.compressed(std::slice::from_ref(&zeros));
            assert!(bomb.len() * 100 < FREE);
            let failure = coding.decompressed(&bomb, &Limits::default()).unwrap_err();
            assert_eq!(
                (failure.reason, failure.text.contains("more than 16777216 bytes")),
                (Reason::TooLarge, true)
            );
            let trusting = Limits { decompression_ratio: 2000, ..Limits::default() };
            assert_eq!(coding.decompressed(&bomb, &trusting).unwrap(), zeros);
            let small = Limits { decompressed_bytes: 100, decompression_ratio: 2000, ..Limits::default() };
            assert_eq!(coding.decompressed(&bomb, &small).unwrap_err().reason, Reason::TooLarge);
        }
    }

    #[test]
    fn headers() {
        assert_eq!(Coding::of_content("gzip").unwrap(), Some(Coding::Gzip));
        assert_eq!(Coding::of_content("Deflate").unwrap(), Some(Coding::Deflate));
        assert_eq!(Coding::of_content("identity").unwrap(), None);
        assert!(Coding::of_content("br").is_err() && Coding::of_content("gzip, gzip").is_err());
        assert_eq!(Coding::accepted("gzip"), Some(Coding::Gzip));
        assert_eq!(Coding::accepted("deflate"), Some(Coding::Deflate));
        assert_eq!(Coding::accepted("gzip, deflate, br"), Some(Coding::Gzip));
        assert_eq!(Coding::accepted("gzip;q=0.5, deflate;q=0.8"), Some(Coding::Deflate));
        assert_eq!(Coding::accepted("gzip;q=0, identity"), None);
        assert_eq!(Coding::accepted("br, *"), None);
        assert_eq!(Coding::accepted(""), None);
    }
}
