//! Pictures from files. `tests/files` has one picture of 32 x 16 pixels, with quarters of red, green, blue and white, as PNG, as lossy
//! and lossless WebP, and as JPEG; and one JPEG of 16 x 32 pixels that its Exif data turn to the same.
#![allow(clippy::unwrap_used)] // A test that cannot go on has failed.

use std::path::PathBuf;

use sardonyx_pictures::Picture;

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/files").join(name)
}

#[test]
fn every_format_shows_the_same_picture() {
    for name in
        ["quarters.png", "grey-alpha.png", "quarters.jpg", "turned.jpg", "lossy.webp", "lossless.webp"]
    {
        let picture = Picture::open(file(name)).unwrap();
        assert_eq!((picture.width(), picture.height()), (32, 16), "{name}");
        let quarters = [(8, 4), (24, 4), (8, 12), (24, 12)].map(|(x, y)| picture.pixel(x, y));
        // The half that is transparent in black shows the white below.
        let expected = match name {
            "grey-alpha.png" => [[0; 3], [255; 3], [0; 3], [255; 3]],
            _ => [[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]],
        };
        for (pixel, expected) in quarters.iter().zip(expected) {
            // Lossy formats are off by a few steps.
            let near = pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(b) <= 12);
            assert!(near, "{name}: {pixel:?} for {expected:?}");
        }
    }
}

#[test]
fn a_picture_that_is_written_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("picture.png");
    let picture = Picture::from_fn(5, 3, |x, y| [x as u8 * 50, y as u8 * 100, 3]);
    picture.save_png(&path).unwrap();
    assert_eq!(Picture::open(&path).unwrap(), picture);
    let nowhere = picture.save_png(folder.path().join("no/such.png")).unwrap_err().to_string();
    assert!(nowhere.contains("such.png: No such file"), "{nowhere}");
}

#[test]
fn errors_name_the_file_and_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let error_of = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let error = Picture::open(&path).unwrap_err().to_string();
        error.strip_prefix(&format!("{}: ", path.display())).unwrap().to_string()
    };
    assert_eq!(error_of("page.bmp", b"BM1234"), "is no picture that can be read; PNG, JPEG and WebP can");
    assert_eq!(error_of("empty.png", b""), "the file is empty");
    for (name, format) in [("quarters.png", "PNG"), ("quarters.jpg", "JPEG"), ("lossless.webp", "WebP")] {
        let whole = std::fs::read(file(name)).unwrap();
        let error = error_of(name, &whole[..whole.len() / 3]);
        assert!(error.starts_with(&format!("cannot be read as {format}: ")), "{error}");
    }
    let missing = Picture::open(folder.path().join("missing.png")).unwrap_err().to_string();
    assert!(missing.ends_with("missing.png: there is no such file"), "{missing}");
    let of_folder = Picture::open(folder.path()).unwrap_err().to_string();
    assert!(of_folder.ends_with(": is a folder, not a picture"), "{of_folder}");
}

#[test]
fn a_header_that_claims_too_many_pixels_is_refused() {
    let mut bytes = std::fs::read(file("quarters.png")).unwrap();
    bytes[16..20].copy_from_slice(&100_000u32.to_be_bytes());
    bytes[20..24].copy_from_slice(&100_000u32.to_be_bytes());
    // The checksum of the header, IHDR included.
    let checksum = crc(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large.png");
    std::fs::write(&path, bytes).unwrap();
    let error = Picture::open(&path).unwrap_err().to_string();
    assert!(error.ends_with("it has 10000000000 pixels, and at most 134217728 are read"), "{error}");
}

/// PNG's CRC-32.
fn crc(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(
            crc ^ u32::from(byte),
            |crc, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 },
        )
    })
}
