//! Files from strangers: errors, and neither a panic nor memory out of proportion.

use super::pickled::{Stored, archive, dictionary, global, int, item, of_pickle, text};
use super::*;

fn good() -> Vec<u8> {
    let storage = floats(&NUMBERS);
    let weights = [Stored {
        name: "w",
        storage: "FloatStorage",
        key: "0",
        offset: 0,
        sizes: &[2, 3],
        strides: &[3, 1],
    }];
    archive(&weights, &[("0", &storage)])
}

#[test]
fn what_is_no_weight_is_an_error() {
    expect_error(b"", "neither of safetensors nor");
    expect_error(b"PK\x03\x04", "the archive is wrong");
    expect_error(b"\x80\x02}q\x00.---", "a pickle by itself");
    expect_error(b"\x80\x02N.", "a pickle by itself");
    expect_error(&zip(&[("a", b"b")], ::zip::CompressionMethod::Stored), "none of PyTorch");
    let error = with_weights(&b"\x08\x08"[..], &good()).unwrap_err().to_string();
    assert!(error.contains("no ONNX file"), "{error}");
}

#[test]
fn headers_of_safetensors() {
    let data = floats(&NUMBERS);
    expect_error(&safetensors("{", &data), "header of safetensors is wrong");
    expect_error(&[&u64::MAX.to_le_bytes()[..], b"{}"].concat(), "neither of");
    expect_error(&safetensors(HEADER, &data[..30]), "bytes 24 to 36 are not in the file");
    expect_error(&safetensors(&HEADER.replace("[24,36]", "[20,32]"), &data), "overlap");
    expect_error(&safetensors(&HEADER.replace("[24,36]", "[36,24]"), &data), "not in the file");
    expect_error(
        &safetensors(&HEADER.replace("[24,36]", "[24,18446744073709551615]"), &data),
        "not in the file",
    );
    expect_error(&safetensors(&HEADER.replace("[3]", "[4294967296,4294967296,3]"), &data), "do not take");
    expect_error(&safetensors(&HEADER.replace("[3]", "[-3]"), &data), "header of safetensors is wrong");
    expect_error(&safetensors(&HEADER.replace("\"b\"", "\"w\""), &data), "two weights have the name 'w'");
    let nested = format!("{{\"w\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    expect_error(&safetensors(&nested, &data), "header of safetensors is wrong");
}

#[test]
fn pickles_execute_nothing() {
    let call = [global("os", "system"), b"(".to_vec(), text("echo"), b"tR.".to_vec()].concat();
    expect_error(&of_pickle(&[b"\x80\x02", &call[..]].concat(), &[]), "the pickle names 'os.system'");
    let stacked = [b"\x80\x04".to_vec(), text("builtins"), text("eval"), b"\x93.".to_vec()].concat();
    expect_error(&of_pickle(&stacked, &[]), "the pickle names 'builtins.eval'");
    // INST and OBJ call too, and an extension's number stands for a name.
    for opcode in [b'i', b'o', 0x92, 0x82, b'P'] {
        expect_error(&of_pickle(&[0x80, 2, b'(', opcode, b'.'], &[]), "which no state dictionary needs");
    }
}

#[test]
fn pickles_may_be_nonsense() {
    let nested = |open: &str, times: usize| {
        of_pickle(&[b"\x80\x02", open.repeat(times).as_bytes(), b"."].concat(), &[])
    };
    expect_error(&nested("]", 100_000), "no state dictionary");
    expect_error(
        &of_pickle(&[b")".to_vec(), vec![0x85; 200_000], b".".to_vec()].concat(), &[]),
        "no state dictionary",
    );
    // A list of itself, and a dictionary of itself.
    expect_error(&of_pickle(b"]q\x00h\x00a.", &[]), "no state dictionary");
    expect_error(
        &of_pickle(&[b"}q\x00".to_vec(), text("model"), b"h\x00s.".to_vec()].concat(), &[]),
        "no state dictionary",
    );
    expect_error(&of_pickle(b"r\xff\xff\xff\xff.", &[]), "broken off or wrong");
    expect_error(&of_pickle(b"Nr\xff\xff\xff\xff.", &[]), "broken off or wrong");
    expect_error(&of_pickle(b"X\xff\xff\xff\xff.", &[]), "broken off or wrong");
    expect_error(&of_pickle(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", &[]), "broken off or wrong");
    for bytes in [
        &b"t."[..],
        b"R.",
        b"Q.",
        b"u.",
        b"a.",
        b"(R.",
        b"((Q.",
        b"(\x85.",
        b"\x87.",
        b"h\x05.",
        b"b.",
        b"\x81.",
        b"(N\x81.",
        b"ctorch\nFloatStorage\n)\x81.",
        b"C\xff.",
        b"B\xff\xff\xff\xff.",
        b"c\n",
        b"\x93.",
    ] {
        expect_error(&of_pickle(bytes, &[]), "broken off or wrong");
    }
}

#[test]
fn tensors_stay_within_their_storage() {
    let storage = floats(&NUMBERS);
    let with = |offset: u32, sizes: &[u32], strides: &[u32], key: &str, of: &str| {
        archive(&[Stored { name: "w", storage: of, key, offset, sizes, strides }], &[("0", &storage)])
    };
    assert!(with_weights(model(), &with(3, &[2, 3], &[3, 1], "0", "FloatStorage")).is_ok());
    let wrong = "'w' is wrong or not in the archive";
    expect_error(&with(4, &[2, 3], &[3, 1], "0", "FloatStorage"), wrong);
    expect_error(&with(0, &[2, 3], &[7, 1], "0", "FloatStorage"), wrong);
    expect_error(&with(0, &[2, 3], &[0x7fff_ffff, 0x7fff_ffff], "0", "FloatStorage"), wrong);
    expect_error(&with(0xffff_ffff, &[2, 3], &[3, 1], "0", "FloatStorage"), wrong);
    expect_error(&with(0, &[2, 3], &[3], "0", "FloatStorage"), wrong);
    expect_error(&with(0, &[2, 3], &[3, 1], "1", "FloatStorage"), wrong);
    expect_error(&with(0, &[2, 3], &[3, 1], "../data.pkl", "FloatStorage"), wrong);
    expect_error(
        &with(0, &[2, 3], &[3, 1], "0", "UntypedStorage"),
        "the pickle names 'torch.UntypedStorage'",
    );
    // A tensor of few arguments.
    let few =
        [text("w"), global("torch._utils", "_rebuild_tensor_v2"), b"(".to_vec(), int(1), b"tR".to_vec()]
            .concat();
    expect_error(&of_pickle(&dictionary(&few), &[]), wrong);
}

/// A view repeats one element without memory of its own: a small file, and a model that says it is large.
#[test]
fn memory_is_in_proportion() {
    let large = [number(1, 127), number(1, 127), number(1, 127), number(2, 1), field(8, b"w")].concat();
    let model = [number(1, 8), field(7, &field(5, &large))].concat();
    let view = Stored {
        name: "w",
        storage: "FloatStorage",
        key: "0",
        offset: 0,
        sizes: &[127, 127, 127],
        strides: &[0, 0, 0],
    };
    let error = with_weights(model, &archive(&[view], &[("0", &[0; 4])])).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}

#[test]
fn compressed_archives_are_refused() {
    let mut file = good();
    // The method of the first entry, in its local header and in the directory.
    let directory = file.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    file[8] = 8;
    file[directory + 10] = 8;
    expect_error(&file, "is compressed");
}

/// Parts of good files, and good files with bent bytes: a model or an error.
#[test]
fn bent_files_do_not_panic() {
    let of_item =
        Stored { name: "b", storage: "FloatStorage", key: "0", offset: 0, sizes: &[3], strides: &[1] };
    let pickle = dictionary(&item(&of_item));
    let files = [
        good(),
        safetensors(HEADER, &floats(&NUMBERS)),
        of_pickle(&pickle, &[("0", &floats(&NUMBERS))]),
        include_bytes!("checkpoint.pt").to_vec(),
    ];
    let mut state = 7u64;
    for good in &files {
        for end in 0..good.len() {
            let _ = with_weights(model(), &good[..end]);
        }
        for _ in 0..20_000 {
            let mut bent = good.clone();
            for _ in 0..2 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let at = (state >> 33) as usize % bent.len();
                bent[at] = (state >> 20) as u8;
            }
            let _ = with_weights(model(), &bent);
        }
    }
    let good = model();
    for end in 0..good.len() {
        let _ = with_weights(good[..end].to_vec(), &files[0]);
    }
    for at in 0..good.len() {
        for byte in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bent = good.clone();
            bent[at] = byte;
            let _ = with_weights(bent, &files[0]);
        }
    }
}
