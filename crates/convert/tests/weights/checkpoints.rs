//! Checkpoints: what people save beside a state dictionary, or in its place.
//!
//! PyTorch 1.13 wrote `checkpoint.pt`:
//!
//! ```python
//! w = torch.tensor([[9., 1, 4], [9, 2, 5], [9, 3, 6]])[:, 1:].t()
//! b = torch.nn.Parameter(torch.tensor([0.5, 9, 0.25, 9, 0.125])[::2])
//! weights = collections.OrderedDict([("module.w", torch.nn.Parameter(w)), ("module.b", b)])
//! weights._metadata = {"": {"version": 1}}
//! torch.save({
//!     "epoch": 3, "loss": torch.tensor(0.5, dtype=torch.float16), "accuracy": numpy.float64(0.75), "best": numpy.zeros(2),
//!     "args": argparse.Namespace(rate=0.1, layers=[1, 2]), "device": torch.device("cpu"), "size": torch.Size([1, 2]),
//!     "type": torch.float32, "set": {1}, "large": 2**70, "counts": collections.defaultdict(list, {1: [2]}), "bytes": b"ab",
//!     "optimizer": torch.optim.SGD([b], lr=0.1).state_dict(), "model_state_dict": weights,
//! }, "checkpoint.pt")
//! ```

use super::pickled::{Stored, dictionary, global, int, item, of_pickle, text};
use super::*;

const B: Stored =
    Stored { name: "b", storage: "FloatStorage", key: "0", offset: 6, sizes: &[3], strides: &[1] };
const W: Stored =
    Stored { name: "w", storage: "FloatStorage", key: "0", offset: 0, sizes: &[2, 3], strides: &[3, 1] };

#[test]
fn a_checkpoint_of_pytorch_has_more_than_weights() {
    let (made, report) = with_weights(model(), include_bytes!("checkpoint.pt")).unwrap();
    assert_eq!(report.replaced, ["w", "b"]);
    assert_eq!(outcome(&made), OUTCOME);
}

/// A dictionary of dictionaries that are made of these items.
fn of_dictionaries(within: &[(&str, &[Stored])]) -> Vec<u8> {
    let made = |items: &[Stored]| {
        let items: Vec<u8> = items.iter().flat_map(item).collect();
        [&b"}("[..], &items, b"u"].concat()
    };
    let items: Vec<u8> = within.iter().flat_map(|(name, items)| [text(name), made(items)].concat()).collect();
    of_pickle(&dictionary(&items), &[("0", &floats(&NUMBERS))])
}

#[test]
fn the_only_dictionary_of_tensors_is_taken() {
    let (made, _) = with_weights(model(), &of_dictionaries(&[("params", &[W, B]), ("empty", &[])])).unwrap();
    assert_eq!(outcome(&made), OUTCOME);
    let chosen = of_dictionaries(&[("ema", &[B]), ("state_dict", &[W, B])]);
    assert_eq!(outcome(&with_weights(model(), &chosen).unwrap().0), OUTCOME);
    expect_error(
        &of_dictionaries(&[("encoder", &[W]), ("decoder", &[B])]),
        "several state dictionaries, as 'encoder' and 'decoder'",
    );
}

#[test]
fn words_before_all_names_are_left_out() {
    let named = |w: &str, b: &str| {
        safetensors(
            &HEADER.replace("\"w\"", &format!("\"{w}\"")).replace("\"b\"", &format!("\"{b}\"")),
            &floats(&NUMBERS),
        )
    };
    let (made, _) = with_weights(model(), &named("_orig_mod.module.w", "_orig_mod.module.b")).unwrap();
    assert_eq!(outcome(&made), OUTCOME);
    // A name that matches as it is decides, and names of several modules stay.
    let (_, report) = with_weights(model(), &named("w", "w.b")).unwrap();
    assert_eq!((report.kept, report.unused), (vec!["b".to_string()], vec!["w.b".to_string()]));
    expect_error(&named("m.w", "n.b"), "the file has 'm.w', 'n.b'");
    expect_error(&named("m.v", "m.c"), "the file has 'm.c', 'm.v'");
}

/// The types that came with PyTorch 2 have storages without one: the tensor says which it is.
#[test]
fn a_tensor_may_name_its_type() {
    let of_type = |of: &str, properties: &[u8]| {
        let ints = |numbers: &[u32]| {
            [b"(".to_vec(), numbers.iter().flat_map(|&n| int(n)).collect(), b"t".to_vec()].concat()
        };
        let hooks = [global("collections", "OrderedDict"), b")R".to_vec()].concat();
        let storage = [
            &b"("[..],
            &text("storage"),
            &global("torch.storage", "UntypedStorage"),
            &text("0"),
            &text("cpu"),
            &int(36),
            b"tQ",
        ];
        let item = [
            text("b"),
            global("torch._utils", "_rebuild_tensor_v3"),
            b"(".to_vec(),
            storage.concat(),
            int(6),
            ints(&[3]),
            ints(&[1]),
            b"\x89".to_vec(),
            hooks,
            global("torch", of),
            properties.to_vec(),
            b"tR".to_vec(),
        ];
        of_pickle(&dictionary(&item.concat()), &[("0", &floats(&NUMBERS))])
    };
    // The model's w is [[0, 0, 0], [0, 0, 0]].
    assert_eq!(outcome(&with_weights(model(), &of_type("float32", b"}")).unwrap().0), [0.5, 0.25, 0.125]);
    let negated = [b"}".to_vec(), text("neg"), b"\x88s".to_vec()].concat();
    expect_error(&of_type("float32", &negated), "'b' is a view that changes signs");
    expect_error(&of_type("uint16", b"}"), "'b' is float32 in the model, and uint16 in the file");
    expect_error(&of_type("float8_e4m3fn", b"}"), "and float8e4m3fn in the file");
}

#[test]
fn errors_say_what_to_save() {
    let call =
        |module: &str, name: &str| [b"\x80\x02".to_vec(), global(module, name), b")\x81.".to_vec()].concat();
    expect_error(
        &of_pickle(&call("__main__", "Net"), &[]),
        "torch.save(model) writes such files, with the model's classes; save `model.state_dict()`",
    );
    expect_error(
        &of_pickle(&call("torch._utils", "_rebuild_qtensor"), &[]),
        "a tensor of this kind is not supported",
    );
    expect_error(
        &of_pickle(&call("torch", "ComplexFloatStorage"), &[]),
        "a tensor of this kind is not supported",
    );
    let script = [("m/data.pkl", &b"."[..]), ("m/constants.pkl", b".")];
    expect_error(&zip(&script, ::zip::CompressionMethod::Stored), "torch.jit.load");
    let error = with_weights(&b"no model"[..], &safetensors(HEADER, &floats(&NUMBERS))).unwrap_err();
    assert!(matches!(error, Error::Model(_)), "{error}");
}

/// The length of a header begins with the byte of a pickle once in 32 files.
#[test]
fn a_header_may_be_as_long_as_a_pickle_begins() {
    for length in [256, 256 + 128, 1024 + 128] {
        let header = format!("{HEADER}{}", " ".repeat(length - HEADER.len()));
        let (made, _) = with_weights(model(), &safetensors(&header, &floats(&NUMBERS))).unwrap();
        assert_eq!(outcome(&made), OUTCOME);
    }
}
