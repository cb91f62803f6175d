//! numpy's files, written and read here byte by byte after the format's description, so that the program is not compared with
//! itself.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// The bytes of an `.npy` file, version 1.0.
pub fn array(descr: &str, fortran: bool, shape: &str, raw: &[u8]) -> Vec<u8> {
    let fortran = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {fortran}, 'shape': {shape}, }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let length = (header.len() as u16).to_le_bytes();
    [b"\x93NUMPY\x01\x00", &length[..], header.as_bytes(), raw].concat()
}

/// The contents of an `.npy` file.
pub struct NpyFile {
    pub descr: String,
    pub fortran: bool,
    pub shape: String,
    pub raw: Vec<u8>,
}

fn parse(bytes: &[u8]) -> NpyFile {
    assert!(bytes.starts_with(b"\x93NUMPY\x01\x00"));
    let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    assert_eq!((10 + length) % 64, 0, "elements are aligned");
    let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
    assert!(header.ends_with('\n'));
    let field = |key: &str, end: &str| {
        let rest = header.split_once(key).unwrap().1;
        rest.split_once(end).unwrap().0.to_string()
    };
    NpyFile {
        descr: field("'descr': '", "'"),
        fortran: field("'fortran_order': ", ",") == "True",
        shape: field("'shape': ", ")") + ")",
        raw: bytes[10 + length..].to_vec(),
    }
}

/// Writes an `.npz` file, compressed as numpy's `savez_compressed` does.
pub fn save_npz(path: &str, arrays: &[(String, Vec<u8>)]) {
    let mut archive = zip::ZipWriter::new(File::create(path).unwrap());
    let options =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in arrays {
        archive.start_file(format!("{name}.npy"), options).unwrap();
        archive.write_all(bytes).unwrap();
    }
    archive.finish().unwrap();
}

/// The entries of an `.npz` file, in their order.
pub fn entries(path: &Path) -> Vec<(String, NpyFile)> {
    let mut archive = zip::ZipArchive::new(File::open(path).unwrap()).unwrap();
    let count = archive.len();
    let mut read = |i: usize| {
        let mut file = archive.by_index(i).unwrap();
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        (String::from_utf8(file.name_raw().to_vec()).unwrap(), parse(&bytes))
    };
    (0..count).map(&mut read).collect()
}
