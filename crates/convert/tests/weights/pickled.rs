//! Archives as PyTorch writes them: the pickle of a state dictionary in protocol 2.

use super::zip;

/// A tensor of a state dictionary.
pub(super) struct Stored<'a> {
    pub(super) name: &'a str,
    pub(super) storage: &'a str,
    pub(super) key: &'a str,
    pub(super) offset: u32,
    pub(super) sizes: &'a [u32],
    pub(super) strides: &'a [u32],
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub(super) fn int(number: u32) -> Vec<u8> {
    [b"J", &number.to_le_bytes()[..]].concat()
}

pub(super) fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn ints(numbers: &[u32]) -> Vec<u8> {
    let numbers: Vec<u8> = numbers.iter().flat_map(|&number| int(number)).collect();
    [b"(", &numbers[..], b"t"].concat()
}

/// An OrderedDict, which is made by a call, with what `items` puts on the stack, and the attributes that PyTorch gives it.
pub(super) fn dictionary(items: &[u8]) -> Vec<u8> {
    let made = [global("collections", "OrderedDict"), b")Rq\x01(".to_vec()].concat();
    let attributes = [b"}".to_vec(), text("_metadata"), b"h\x01sb.".to_vec()].concat();
    [b"\x80\x02", &made[..], items, b"u", &attributes].concat()
}

pub(super) fn item(stored: &Stored) -> Vec<u8> {
    let storage = [
        b"(".to_vec(),
        text("storage"),
        global("torch", stored.storage),
        text(stored.key),
        text("cpu"),
        int(10),
        b"tQ".to_vec(),
    ];
    [
        text(stored.name),
        global("torch._utils", "_rebuild_tensor_v2"),
        b"(".to_vec(),
        storage.concat(),
        int(stored.offset),
        ints(stored.sizes),
        ints(stored.strides),
        b"\x89".to_vec(),
        [global("collections", "OrderedDict"), b")R".to_vec()].concat(),
        b"tR".to_vec(),
    ]
    .concat()
}

pub(super) fn archive(weights: &[Stored], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let items: Vec<u8> = weights.iter().flat_map(item).collect();
    of_pickle(&dictionary(&items), storages)
}

pub(super) fn of_pickle(pickle: &[u8], storages: &[(&str, &[u8])]) -> Vec<u8> {
    let names: Vec<String> = storages.iter().map(|(key, _)| format!("archive/data/{key}")).collect();
    let mut files = vec![("archive/data.pkl", pickle), ("archive/byteorder", b"little")];
    files.extend(names.iter().map(String::as_str).zip(storages.iter().map(|storage| storage.1)));
    zip(&files, ::zip::CompressionMethod::Stored)
}
