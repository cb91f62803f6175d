//! Shapes and sizes as they are written on the command line.

use std::collections::HashMap;

use sardonyx::{Model, ValueInfo, shown};

use crate::Failure;

/// The inputs that a model lists, by name.
pub(super) struct ListedInputs<'m> {
    by_name: HashMap<&'m str, &'m ValueInfo>,
    model: &'m Model,
}

impl<'m> ListedInputs<'m> {
    pub(super) fn of(model: &'m Model) -> ListedInputs<'m> {
        let by_name = model.inputs().iter().map(|info| (info.name.as_str(), info)).collect();
        ListedInputs { by_name, model }
    }

    pub(super) fn get(&self, name: &str) -> Option<&'m ValueInfo> {
        self.by_name.get(name).copied()
    }

    /// Splits `NAME=VALUE`. A name may contain `=` too, so the names of the model's inputs decide where.
    pub(super) fn split<'t>(&self, text: &'t str) -> Result<(&'m ValueInfo, &'t str), Failure> {
        let mut ends = text.match_indices('=');
        let found = ends.find_map(|(at, _)| Some((self.get(&text[..at])?, &text[at + 1..])));
        found.ok_or_else(|| {
            let inputs = self.model.inputs().iter();
            let names: Vec<String> = inputs.map(|info| shown(&info.name).to_string()).collect();
            let names = names.join(", ");
            format!("'{}' begins with no input's name and '='; the inputs are {names}", shown(text)).into()
        })
    }
}

/// The dimensions of `1x3x224x224`, also written with `X` or commas, and in brackets or not; an empty text is a scalar. `rank` is the
/// number of dimensions of the example in an error.
pub(super) fn dimensions(text: &str, rank: Option<usize>) -> Result<Vec<usize>, String> {
    let trimmed = text.trim();
    let bare = trimmed
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .or_else(|| trimmed.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')))
        .unwrap_or(trimmed)
        .trim();
    let size = |dim: &str| {
        let size = dim.trim().parse();
        size.map_err(|_| format!("'{}' is no size; a shape is written as {}", shown(dim), example(rank)))
    };
    bare.split(['x', 'X', ',']).filter(|_| !bare.is_empty()).map(size).collect()
}

fn example(rank: Option<usize>) -> String {
    let sizes = match rank {
        Some(1) => "128",
        Some(2) => "1x128",
        Some(3) => "1x128x64",
        Some(5) => "1x3x16x112x112",
        _ => "1x3x224x224",
    };
    format!("{sizes} or [{}]", sizes.replace('x', ","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_are_read_in_every_form() {
        for text in [
            "1x3x64x64",
            "1X3X64X64",
            "1,3,64,64",
            "[1,3,64,64]",
            "[1, 3, 64, 64]",
            "(1, 3, 64, 64)",
            " 1x3x64x64 ",
        ] {
            assert_eq!(dimensions(text, None), Ok(vec![1, 3, 64, 64]), "{text}");
        }
        for (text, shape) in [("", vec![]), ("[]", vec![]), ("7", vec![7]), ("0x4", vec![0, 4])] {
            assert_eq!(dimensions(text, None), Ok(shape), "{text}");
        }
    }

    #[test]
    fn what_is_no_shape_is_answered_with_an_example() {
        let cases = [
            ("batch", Some(2), "'batch' is no size; a shape is written as 1x128 or [1,128]"),
            ("1x3x", None, "'' is no size; a shape is written as 1x3x224x224 or [1,3,224,224]"),
            ("1*3", Some(4), "'1*3' is no size; a shape is written as 1x3x224x224 or [1,3,224,224]"),
            ("-1x3", Some(2), "'-1' is no size; a shape is written as 1x128 or [1,128]"),
            ("[1,3", Some(2), "'[1' is no size; a shape is written as 1x128 or [1,128]"),
        ];
        for (text, rank, expected) in cases {
            assert_eq!(dimensions(text, rank), Err(expected.to_string()), "{text}");
        }
    }
}
