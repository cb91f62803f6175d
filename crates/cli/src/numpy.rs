//! numpy's `.npy` and `.npz` files. Big-endian and Fortran-ordered arrays are converted. Types that numpy does not have are
//! written as ml_dtypes writes them: bfloat16 and 8-bit floats as void, 4- and 2-bit integers with one element in a byte.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use zip::result::ZipError;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::{Failure, files};
use sardonyx::{DType, Outputs, Tensor, shown};

const MAGIC: &[u8] = b"\x93NUMPY";

/// The longest header that is read, in bytes; numpy reads 10,000.
const LONGEST_HEADER: u64 = 1 << 16;

/// The most elements of an array that is read; sessions take no more.
const MOST_ELEMENTS: usize = (1 << 30) - 1;

/// The longest array of strings that is written, in bytes: numpy pads all strings to the length of the longest.
const LONGEST_TEXT: usize = 1 << 30;

/// What a text of a tensor takes besides its characters, while a list of them is copied.
pub(super) const TEXT_BYTES: usize = 2 * size_of::<String>() + 32;

/// An empty vector for `count` items. A vector that cannot grow would end the process.
pub(super) fn reserved<T>(count: usize) -> Result<Vec<T>, String> {
    let mut all = Vec::new();
    let bytes = count.saturating_mul(size_of::<T>());
    all.try_reserve_exact(count)
        .map_err(|_| format!("out of memory: it needs {}", super::bytes(bytes as u64)))?;
    Ok(all)
}

/// The number of elements of `shape`; `None` if a `usize` cannot hold it.
pub(super) fn count(shape: &[usize]) -> Option<usize> {
    // A zero anywhere makes the array empty, however large the other dimensions are.
    if shape.contains(&0) { Some(0) } else { shape.iter().try_fold(1usize, |n, &size| n.checked_mul(size)) }
}

/// The dtype that an array of this name should have, which decides between dtypes that numpy cannot tell apart.
type Wanted<'a> = &'a dyn Fn(&str) -> Option<DType>;

/// Reads the array of an `.npy` file.
pub(super) fn read_npy(path: &Path, wanted: Option<DType>) -> Result<Tensor, Failure> {
    let file = files::open(path)?;
    let length = file.metadata().map_err(|error| files::failed(path, error))?.len();
    decode(&mut BufReader::new(file), wanted, length).map_err(|reason| files::failed(path, reason))
}

/// Reads the arrays of an `.npz` file, by name. `one_array` says what to do with an `.npy` file; `expected` refuses names, before
/// anything is unpacked.
pub(super) fn read_npz(
    path: &Path,
    wanted: Wanted,
    one_array: &str,
    expected: impl FnOnce(&[String]) -> Result<(), Failure>,
) -> Result<Vec<(String, Tensor)>, Failure> {
    let failed = |reason: &dyn std::fmt::Display| files::failed(path, reason);
    let mut file = files::open(path)?;
    let start = files::beginning(path, &mut file)?;
    if let Some(what) = not_an_archive(&start, one_array) {
        return Err(failed(&what));
    }
    let damaged = |error: zip::result::ZipError| match error {
        // Its words are about the parts of archives.
        ZipError::InvalidArchive(_) => failed(&"is a damaged .npz archive, perhaps cut short"),
        error => failed(&format!("is a damaged .npz archive, perhaps cut short: {error}")),
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut names = Vec::new();
    for i in 0..archive.len() {
        let entry = archive.by_index_raw(i).map_err(damaged)?;
        let file = entry.name().map_err(damaged)?.into_owned();
        names.extend(file.strip_suffix(".npy").map(|name| (i, name.to_string())));
    }
    expected(&names.iter().map(|(_, name)| name.clone()).collect::<Vec<_>>())?;
    let mut arrays = Vec::new();
    for (i, name) in names {
        let mut entry = archive.by_index(i).map_err(|e| failed(&e))?;
        let length = entry.size();
        let tensor = decode(&mut entry, wanted(&name), length);
        arrays.push((name.clone(), tensor.map_err(|e| failed(&format!("'{}': {e}", shown(&name))))?));
    }
    Ok(arrays)
}

/// What a file is that is no archive of arrays, by its first bytes.
fn not_an_archive(start: &[u8], one_array: &str) -> Option<String> {
    match files::kind(start) {
        files::Kind::Zip => None,
        files::Kind::Npy => Some(format!("is an .npy file, which holds one array: {one_array}")),
        kind => Some(format!("is {kind}, and no .npz archive; numpy.savez writes one")),
    }
}

/// Writes an `.npz` file, not compressed.
pub(super) fn write_npz(path: &Path, arrays: &Outputs, more: &[(String, Tensor)]) -> Result<(), Failure> {
    files::write(path, |file| {
        let mut archive = ZipWriter::new(file);
        // A model may list a value as an output twice.
        let mut written = HashSet::new();
        let arrays = arrays.iter().chain(more.iter().map(|(name, tensor)| (name.as_str(), tensor)));
        for (name, tensor) in arrays.filter(|(name, _)| written.insert(*name)) {
            let array = |reason: &dyn std::fmt::Display| format!("'{}': {reason}", shown(name));
            let encoded = Encoded::new(tensor).map_err(|e| array(&e))?;
            let options = SimpleFileOptions::default()
                .compression_method(CompressionMethod::Stored)
                .large_file(u32::try_from(encoded.len()).is_err());
            archive.start_file(format!("{name}.npy"), options).map_err(|e| array(&e))?;
            encoded.write(&mut archive).map_err(|e| array(&e))?;
        }
        archive.finish().map_err(|e| e.to_string())?;
        Ok(())
    })
}

/// Writes an `.npy` file.
pub(super) fn write_npy(path: &Path, tensor: &Tensor) -> Result<(), Failure> {
    files::write(path, |file| Encoded::new(tensor)?.write(file).map_err(|e| e.to_string()))
}

/// The header that stands before an array's elements.
struct Header {
    /// The header's own bytes.
    length: u64,
    big_endian: bool,
    /// numpy's letter for the kind of type.
    kind: char,
    /// The number after the letter: bytes, or the characters of a unicode string.
    size: usize,
    fortran_order: bool,
    shape: Vec<usize>,
}

impl Header {
    fn read(source: &mut dyn Read) -> Result<Header, String> {
        let mut start = [0; 8];
        source.read_exact(&mut start).map_err(|_| "it is no .npy file: too short")?;
        if !start.starts_with(MAGIC) {
            return Err(match files::kind(&start) {
                files::Kind::Zip => "it is no .npy file but an archive: give it as --inputs F.npz".into(),
                kind @ files::Kind::Picture => {
                    format!("it is no .npy file but {kind}: give it as --image NAME=FILE")
                }
                kind @ files::Kind::Sound => {
                    format!("it is no .npy file but {kind}: give it as --wav NAME=FILE")
                }
                kind => format!("it is no .npy file but {kind}; numpy.save writes one"),
            });
        }
        let prefix = if start[6] == 1 { 2 } else { 4 };
        let mut length = vec![0; prefix];
        source.read_exact(&mut length).map_err(|_| "it is cut short")?;
        let length = length.iter().rev().fold(0u64, |n, &byte| n << 8 | u64::from(byte));
        if length > LONGEST_HEADER {
            return Err(format!(
                "its header has {}, and at most {} are read",
                super::bytes(length),
                super::bytes(LONGEST_HEADER)
            ));
        }
        let mut text = Vec::new();
        source.take(length).read_to_end(&mut text).map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&text);
        let mut header = Header::parse(&text)
            .ok_or_else(|| format!("its header cannot be read: {}", shown(text.trim())))?;
        header.length = start.len() as u64 + prefix as u64 + length;
        Ok(header)
    }

    /// Parses `{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4), }`.
    fn parse(text: &str) -> Option<Header> {
        let field = |key: &str| {
            let (_, rest) = text.split_once(key)?;
            Some(rest.trim_start().strip_prefix(':')?.trim_start())
        };
        let descr = field("'descr'")?.strip_prefix('\'')?.split_once('\'')?.0;
        let mut letters = descr.chars();
        let (endian, kind) = (letters.next()?, letters.next()?);
        // `O` has no number, `M8[ns]` has a unit after it.
        let digits = letters.as_str().split(|c: char| !c.is_ascii_digit()).next()?;
        let shape = field("'shape'")?.strip_prefix('(')?.split_once(')')?.0;
        let dims = shape.split(',').map(str::trim).filter(|dim| !dim.is_empty());
        Some(Header {
            length: 0,
            big_endian: endian == '>',
            kind,
            size: digits.parse().unwrap_or(0),
            fortran_order: field("'fortran_order'")?.starts_with("True"),
            shape: dims.map(|dim| dim.trim_end_matches('L').parse().ok()).collect::<Option<_>>()?,
        })
    }

    /// Bytes of an element.
    fn item(&self) -> Option<usize> {
        if self.kind == 'U' { self.size.checked_mul(4) } else { Some(self.size) }
    }

    /// Bytes of the unit that a change of byte order reverses.
    fn unit(&self) -> usize {
        match self.kind {
            'U' => 4,
            'c' => self.size / 2,
            'S' | 'V' => 1,
            _ => self.size,
        }
    }

    fn dtype(&self, wanted: Option<DType>) -> Result<DType, String> {
        use DType::*;
        Ok(match (self.kind, self.size) {
            ('b', 1) => Bool,
            ('i', 1) => I8,
            ('i', 2) => I16,
            ('i', 4) => I32,
            ('i', 8) => I64,
            ('u', 1) => U8,
            ('u', 2) => U16,
            ('u', 4) => U32,
            ('u', 8) => U64,
            ('f', 2) => F16,
            ('f', 4) => F32,
            ('f', 8) => F64,
            ('c', 8) => C64,
            ('c', 16) => C128,
            ('U' | 'S', _) => String,
            ('V', size) => match wanted {
                Some(dtype) if dtype.bits().div_ceil(8) == size => dtype,
                _ => return Err(format!("which {size}-byte type its void elements are cannot be known")),
            },
            ('O', _) => return Err("it holds Python objects; store strings with dtype '<U'".into()),
            (kind, size) => return Err(format!("it has the element type {kind}{size}, which ONNX has not")),
        })
    }
}

/// Reads an array of `length` bytes, its header included.
fn decode(source: &mut dyn Read, wanted: Option<DType>, length: u64) -> Result<Tensor, String> {
    let header = Header::read(source)?;
    let dtype = header.dtype(wanted)?;
    let (count, item) = (count(&header.shape), header.item());
    let size = count.zip(item).and_then(|(count, item)| count.checked_mul(item));
    let (Some(count @ ..=MOST_ELEMENTS), Some(item), Some(size)) = (count, item, size) else {
        return Err(format!(
            "its shape {:?} is too large: at most {MOST_ELEMENTS} elements can be read",
            header.shape
        ));
    };
    let longer = "it holds more bytes than its header says";
    if length.saturating_sub(header.length) > size as u64 {
        return Err(longer.into());
    }
    let mut raw = reserved(size)?;
    source.take(size as u64).read_to_end(&mut raw).map_err(|e| e.to_string())?;
    // An archive may say that an array is shorter than it is. At its end, the archive's checksum is compared.
    if raw.len() == size && source.read(&mut [0]).map_err(|e| e.to_string())? > 0 {
        return Err(longer.into());
    }
    if item == 0 && count > 0 {
        return Err("its strings have no characters; store them with dtype '<U1'".into());
    }
    if raw.len() != size {
        return Err(format!(
            "it is cut short: {count} elements take {}, and it has {}",
            super::bytes(size as u64),
            super::bytes(raw.len() as u64)
        ));
    }
    if header.fortran_order {
        raw = row_major(&raw, item, &header.shape)?;
    }
    if header.big_endian {
        raw.chunks_exact_mut(header.unit().max(1)).for_each(<[u8]>::reverse);
    }
    tensor(&header, dtype, wanted, raw)
}

fn tensor(header: &Header, dtype: DType, wanted: Option<DType>, mut raw: Vec<u8>) -> Result<Tensor, String> {
    let shape = &header.shape;
    if dtype == DType::String {
        // A text takes as many bytes as its code points at most.
        let texts = count(shape).unwrap_or(0);
        drop(reserved::<u8>(texts.saturating_mul(TEXT_BYTES).saturating_add(raw.len()))?);
    }
    let made = match (dtype, header.kind) {
        (DType::String, 'U') => {
            let texts = raw.chunks_exact(header.size.max(1) * 4).map(unicode);
            Tensor::from_strings(
                shape,
                texts.collect::<Option<_>>().ok_or("it has a string that is no text")?,
            )
        }
        (DType::String, _) => {
            let texts = raw.chunks_exact(header.size.max(1)).map(|text| {
                let end = text.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
                String::from_utf8(text[..end].to_vec())
            });
            Tensor::from_strings(shape, texts.collect::<Result<_, _>>().map_err(|e| e.to_string())?)
        }
        (DType::Bool, _) => {
            raw.iter_mut().for_each(|byte| *byte = u8::from(*byte != 0));
            Tensor::from_raw(dtype, shape, raw)
        }
        (_, 'V') if dtype.bits() < 8 => {
            // numpy has a byte for each code.
            Tensor::from_codes(dtype, shape, &raw)
        }
        _ => Tensor::from_raw(dtype, shape, raw),
    };
    let made = made.map_err(|e| e.to_string())?;
    match wanted {
        Some(small) if small.is_int() && small.bits() < 8 && dtype.is_int() => narrow(&made, small),
        _ => Ok(made),
    }
}

/// Integers of 8 bits and more as a 4- or 2-bit type; a number that does not fit is an error.
fn narrow(tensor: &Tensor, dtype: DType) -> Result<Tensor, String> {
    let fail = |error: sardonyx::Error| error.to_string();
    let narrow = tensor.cast(dtype).map_err(fail)?;
    let (before, after) = (tensor.to_f64().map_err(fail)?, narrow.to_f64().map_err(fail)?);
    match before.iter().zip(&after).find(|(before, after)| before != after) {
        Some((value, _)) => Err(format!("it holds {value}, which is no {dtype}")),
        None => Ok(narrow),
    }
}

/// The text of code points that are padded with zeros.
fn unicode(units: &[u8]) -> Option<String> {
    let codes: Vec<u32> =
        units.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
    let end = codes.iter().rposition(|&code| code != 0).map_or(0, |last| last + 1);
    codes[..end].iter().map(|&code| char::from_u32(code)).collect()
}

/// The elements, of `item` bytes each, reordered so that the last axis is fastest; in `raw` the first axis is.
fn row_major(raw: &[u8], item: usize, shape: &[usize]) -> Result<Vec<u8>, String> {
    let mut ordered = reserved(raw.len())?;
    for index in 0..count(shape).unwrap_or(0) {
        let (mut rest, mut stride, mut source) = (index, count(shape).unwrap_or(0), 0);
        for &size in shape.iter().rev() {
            stride /= size;
            source += rest % size * stride;
            rest /= size;
        }
        ordered.extend_from_slice(&raw[source * item..(source + 1) * item]);
    }
    Ok(ordered)
}

/// An array as the bytes of an `.npy` file.
struct Encoded<'t> {
    header: Vec<u8>,
    elements: Cow<'t, [u8]>,
}

impl Encoded<'_> {
    fn new(tensor: &Tensor) -> Result<Encoded<'_>, String> {
        let (descr, elements) = encode(tensor)?;
        Ok(Encoded { header: header(&descr, tensor.shape()), elements })
    }

    fn len(&self) -> usize {
        self.header.len() + self.elements.len()
    }

    fn write(&self, to: &mut impl Write) -> std::io::Result<()> {
        to.write_all(&self.header)?;
        to.write_all(&self.elements)
    }
}

/// numpy's name of the tensor's dtype, and its elements as numpy has them.
fn encode(tensor: &Tensor) -> Result<(Cow<'static, str>, Cow<'_, [u8]>), String> {
    use DType::*;
    let fail = |error: sardonyx::Error| error.to_string();
    let widened = |dtype| -> Result<Cow<'_, [u8]>, std::string::String> {
        let wide = tensor.cast(dtype).map_err(fail)?;
        let mut bytes = reserved(wide.bytes().len())?;
        bytes.extend_from_slice(wide.bytes());
        Ok(bytes.into())
    };
    Ok(match tensor.dtype() {
        Bool => ("|b1".into(), tensor.bytes().into()),
        I8 => ("|i1".into(), tensor.bytes().into()),
        U8 => ("|u1".into(), tensor.bytes().into()),
        I16 => ("<i2".into(), tensor.bytes().into()),
        U16 => ("<u2".into(), tensor.bytes().into()),
        I32 => ("<i4".into(), tensor.bytes().into()),
        U32 => ("<u4".into(), tensor.bytes().into()),
        I64 => ("<i8".into(), tensor.bytes().into()),
        U64 => ("<u8".into(), tensor.bytes().into()),
        F16 => ("<f2".into(), tensor.bytes().into()),
        F32 => ("<f4".into(), tensor.bytes().into()),
        F64 => ("<f8".into(), tensor.bytes().into()),
        C64 => ("<c8".into(), tensor.bytes().into()),
        C128 => ("<c16".into(), tensor.bytes().into()),
        BF16 => ("<V2".into(), tensor.bytes().into()),
        String => {
            let texts = tensor.strings().unwrap_or_default();
            let width = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
            if width.checked_mul(4 * texts.len()).is_none_or(|size| size > LONGEST_TEXT) {
                return Err(format!(
                    "{} strings of up to {width} characters take more than {} in numpy's form",
                    texts.len(),
                    super::bytes(LONGEST_TEXT as u64)
                ));
            }
            let padded = |text: &std::string::String| {
                let codes: Vec<u32> = text.chars().map(u32::from).collect();
                (0..width).map(move |i| codes.get(i).copied().unwrap_or(0)).collect::<Vec<u32>>()
            };
            let mut units = reserved(width * 4 * texts.len())?;
            units.extend(texts.iter().flat_map(padded).flat_map(u32::to_le_bytes));
            (format!("<U{width}").into(), units.into())
        }
        I4 | I2 => ("|i1".into(), widened(I8)?),
        U4 | U2 => ("|u1".into(), widened(U8)?),
        F6E2M3 | F6E3M2 | F4E2M1 | F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F8E8M0 => {
            ("|V1".into(), tensor.codes().map_err(fail)?.into())
        }
        other => return Err(format!("numpy's files have no {other}")),
    })
}

fn header(descr: &str, shape: &[usize]) -> Vec<u8> {
    let dims: String = shape.iter().map(|dim| format!("{dim}, ")).collect();
    let dims = if shape.len() == 1 { dims.trim_end() } else { dims.trim_end_matches(", ") };
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({dims}), }}");
    // Elements begin at a multiple of 64 bytes.
    let start = MAGIC.len() + 4;
    let padding = (start + text.len() + 1).next_multiple_of(64) - (start + text.len() + 1);
    text.extend(std::iter::repeat_n(' ', padding));
    text.push('\n');
    // A shape that is long enough to overflow the 16-bit length cannot be written.
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    [MAGIC, &[1, 0], &length.to_le_bytes(), text.as_bytes()].concat()
}
