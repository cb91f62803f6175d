//! Shapes and sizes as they are written on the command line.

use std::collections::HashMap;

use sardonyx::{Dim, Model, ValueInfo, shown};

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

    /// Splits `NAME=VALUE`, the value of `flag`. A name may contain `=` too, so the names of the model's inputs decide where. Where
    /// the model has one input, its name may be left out.
    pub(super) fn split<'t>(&self, flag: &str, text: &'t str) -> Result<(&'m ValueInfo, &'t str), Failure> {
        let mut ends = text.match_indices('=');
        if let Some(found) = ends.find_map(|(at, _)| Some((self.get(&text[..at])?, &text[at + 1..]))) {
            return Ok(found);
        }
        let inputs = self.model.inputs();
        if let ([only], false) = (inputs, text.contains('=')) {
            return Ok((only, text));
        }
        let names: Vec<String> = inputs.iter().map(|info| shown(&info.name).to_string()).collect();
        let (name, value) = text.split_once('=').unwrap_or(("", text));
        let meant = inputs.iter().find(|info| alike(&info.name, name)).or(inputs.first());
        let example =
            meant.map_or(String::new(), |info| format!(", as in {flag} '{}={value}'", shown(&info.name)));
        Err(format!(
            "{flag} '{}': an input's name and '=' come first{}; the inputs are {}",
            shown(text),
            shown(&example),
            names.join(", ")
        )
        .into())
    }
}

/// Whether one name may be meant by the other: letters and digits are the same, upper and lower case alike.
fn alike(name: &str, written: &str) -> bool {
    let bare = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    bare(name) == bare(written)
}

/// Whether an input may have this shape.
pub(super) fn fits(info: &ValueInfo, shape: &[usize]) -> bool {
    let fits = |(dim, size): (&Dim, &usize)| super::fixed(dim).is_none_or(|fixed| fixed == *size);
    info.shape.as_ref().is_none_or(|dims| dims.len() == shape.len() && dims.iter().zip(shape).all(fits))
}

/// A shape as it is written on the command line: `1x3x224x224`.
pub(super) fn written(shape: &[usize]) -> String {
    shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x")
}

/// The dimensions of `1x3x224x224`, also written with `X` or commas, and in brackets or not; an empty text is a scalar.
pub(super) fn dimensions(text: &str, info: &ValueInfo) -> Result<Vec<usize>, String> {
    let trimmed = text.trim();
    let bare = trimmed
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .or_else(|| trimmed.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')))
        .unwrap_or(trimmed)
        .trim();
    let size = |dim: &str| {
        let size = dim.trim().parse();
        size.map_err(|_| format!("'{}' is no size; a shape is written as {}", shown(dim), example(info)))
    };
    bare.split(['x', 'X', ',']).filter(|_| !bare.is_empty()).map(size).collect()
}

/// A shape that the input may have, in both ways to write it.
pub(super) fn example(info: &ValueInfo) -> String {
    let shape = usual(info);
    format!("{} or {shape:?}", written(&shape)).replace(", ", ",")
}

/// A shape that the input may have.
pub(super) fn usual(info: &ValueInfo) -> Vec<usize> {
    let dims = info.shape.as_deref().unwrap_or(&[Dim::Unknown, Dim::Unknown]);
    let usual: &[usize] = match dims.len() {
        0 | 1 => &[128],
        2 => &[1, 128],
        3 => &[1, 128, 64],
        4 => &[1, 3, 224, 224],
        5 => &[1, 3, 16, 112, 112],
        _ => &[],
    };
    let size =
        |(axis, dim): (usize, &Dim)| super::fixed(dim).unwrap_or(usual.get(axis).copied().unwrap_or(1));
    dims.iter().enumerate().map(size).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(rank: usize) -> ValueInfo {
        ValueInfo {
            name: "x".into(),
            dtype: None,
            shape: Some(vec![Dim::Unknown; rank]),
            container: None,
            has_default: false,
        }
    }

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
            assert_eq!(dimensions(text, &input(4)), Ok(vec![1, 3, 64, 64]), "{text}");
        }
        for (text, shape) in [("", vec![]), ("[]", vec![]), ("7", vec![7]), ("0x4", vec![0, 4])] {
            assert_eq!(dimensions(text, &input(4)), Ok(shape), "{text}");
        }
    }

    #[test]
    fn what_is_no_shape_is_answered_with_an_example() {
        let cases = [
            ("batch", 2, "'batch' is no size; a shape is written as 1x128 or [1,128]"),
            ("1x3x", 4, "'' is no size; a shape is written as 1x3x224x224 or [1,3,224,224]"),
            ("1*3", 4, "'1*3' is no size; a shape is written as 1x3x224x224 or [1,3,224,224]"),
            ("-1x3", 2, "'-1' is no size; a shape is written as 1x128 or [1,128]"),
            ("[1,3", 2, "'[1' is no size; a shape is written as 1x128 or [1,128]"),
        ];
        for (text, rank, expected) in cases {
            assert_eq!(dimensions(text, &input(rank)), Err(expected.to_string()), "{text}");
        }
    }
}
