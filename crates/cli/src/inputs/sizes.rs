//! Sizes of the dimensions that a model leaves open: said once by `--dim`, learned from given inputs, or chosen.

use std::collections::BTreeMap;

use sardonyx::{Dim, Model, ValueInfo, shown};

use crate::Failure;

/// Sizes that are chosen for what nobody says, in the order in which they are tried: many models do not take every size.
pub(super) const TRIED: [Tried; 7] = [
    Tried { image: 224, length: 128, picture: 1 },
    Tried { image: 224, length: 128, picture: 32 },
    Tried { image: 320, length: 128, picture: 32 },
    Tried { image: 32, length: 32, picture: 32 },
    Tried { image: 640, length: 512, picture: 32 },
    Tried { image: 1024, length: 1024, picture: 32 },
    Tried { image: 1, length: 1, picture: 1 },
];

/// Sizes for what is open.
#[derive(Clone, Copy)]
pub(super) struct Tried {
    /// An image's height and width.
    image: usize,
    /// The length of everything else that is no batch and no channel.
    length: usize,
    /// The sides of a picture in a file become multiples of this: a model that halves its input takes no other.
    pub(super) picture: u32,
}

/// The channels of an image whose model does not say how many it takes.
const CHANNELS: usize = 3;

/// The sizes of the model's symbols, and who said them.
#[derive(Clone, Default)]
pub(super) struct Sizes<'m>(BTreeMap<&'m str, (usize, String)>);

/// A size that was chosen: the dimension as a person would call it, and the size.
pub(crate) type Chosen = (String, usize);

/// `batch 1, height 224 were chosen; ...`, if any were.
pub(crate) fn chosen_text(chosen: &[Chosen]) -> Option<String> {
    let sizes: Vec<String> = chosen.iter().map(|(name, size)| format!("{name} {size}")).collect();
    let were = if sizes.len() == 1 { "was" } else { "were" };
    let how = "--dim NAME=N or --shape NAME=1x3x224x224 says another";
    (!sizes.is_empty()).then(|| format!("{} {were} chosen; {how}", sizes.join(", ")))
}

impl<'m> Sizes<'m> {
    /// Reads `--dim NAME=N`. The name must be one of the model's.
    pub(super) fn said(model: &'m Model, texts: &[String]) -> Result<Sizes<'m>, Failure> {
        let symbols = symbols(model);
        let mut sizes = Sizes::default();
        for text in texts {
            let refused = |why: String| Failure::from(format!("--dim '{}': {why}", shown(text)));
            let known: Vec<String> = symbols.iter().map(|symbol| shown(symbol).to_string()).collect();
            let Some(first) = known.first() else {
                return Err(refused(
                    "the model's inputs have no named dimensions; --shape says a shape".into(),
                ));
            };
            let Some((name, size)) = text.rsplit_once('=') else {
                return Err(refused(format!("is written as --dim '{first}=1'")));
            };
            let Ok(size) = size.trim().parse() else {
                return Err(refused(format!(
                    "'{}' is no size; write --dim '{}=1'",
                    shown(size),
                    shown(name)
                )));
            };
            let Some(symbol) = symbols.iter().find(|symbol| **symbol == name) else {
                return Err(refused(format!(
                    "the model's inputs have no dimension of this name; their names are: {}",
                    known.join(", ")
                )));
            };
            sizes.insert(symbol, size, format!("--dim {}", shown(text)))?;
        }
        Ok(sizes)
    }

    /// Learns the sizes of an input's named dimensions. `who` says where the shape is from.
    pub(super) fn learn(&mut self, info: &'m ValueInfo, shape: &[usize], who: &str) -> Result<(), Failure> {
        let dims = info.shape.iter().flatten();
        dims.zip(shape).try_for_each(|(dim, &size)| match dim {
            Dim::Symbol(name) => self.insert(name, size, format!("{who} {shape:?}")),
            _ => Ok(()),
        })
    }

    fn insert(&mut self, symbol: &'m str, size: usize, who: String) -> Result<(), Failure> {
        let (known, first) = self.0.entry(symbol).or_insert_with(|| (size, who.clone()));
        match *known == size {
            true => Ok(()),
            false => Err(format!(
                "dimension '{}' cannot have two sizes: {first} says {known}, and {who} says {size}",
                shown(symbol)
            )
            .into()),
        }
    }

    /// The size of a symbol. `past + 1` is the sum of its parts, as exporters write it.
    pub(super) fn of(&self, symbol: &str) -> Option<usize> {
        let known = |name: &str| self.0.get(name).map(|(size, _)| *size);
        known(symbol).or_else(|| {
            let mut parts = symbol.contains('+').then(|| symbol.split('+').map(str::trim))?;
            parts.try_fold(0usize, |sum, part| sum.checked_add(part.parse().ok().or_else(|| known(part))?))
        })
    }

    /// A shape for each of `inputs`, with chosen sizes where nothing is said, and the sizes that were chosen.
    pub(super) fn shapes(
        mut self,
        inputs: &[&'m ValueInfo],
        Tried { image, length, .. }: Tried,
    ) -> Result<(Vec<Vec<usize>>, Vec<Chosen>), Failure> {
        let mut chosen = Vec::new();
        // Sums come last, when their parts have sizes.
        let is_sum = |dim: &Dim| matches!(dim, Dim::Symbol(name) if name.contains('+'));
        for sums in [false, true] {
            for info in inputs {
                let dims = info.shape.as_deref().unwrap_or(&[]);
                for (axis, dim) in dims.iter().enumerate().filter(|(_, dim)| is_sum(dim) == sums) {
                    let Dim::Symbol(name) = dim else { continue };
                    if self.of(name).is_none() {
                        let size = sensible(dims, axis, image, length);
                        self.insert(name, size, String::new())?;
                        chosen.push((shown(name).to_string(), size));
                    }
                }
            }
        }
        let mut shapes = Vec::new();
        for info in inputs {
            // A container has no shape, and is none of those that can be random.
            let none = info.container.as_ref().map(|_| &[][..]);
            let Some(dims) = info.shape.as_deref().or(none) else {
                let name = shown(&info.name);
                return Err(format!(
                    "input '{name}': the model does not say how many dimensions it has; give it in a file, \
                     or --shape '{name}=1x128'"
                )
                .into());
            };
            let mut shape = Vec::new();
            for (axis, dim) in dims.iter().enumerate() {
                shape.push(match dim {
                    Dim::Known(size) => *size,
                    Dim::Symbol(name) => self.of(name).unwrap_or(1),
                    Dim::Unknown => {
                        let size = sensible(dims, axis, image, length);
                        chosen.push((format!("axis {axis} of {}", shown(&info.name)), size));
                        size
                    }
                });
            }
            shapes.push(shape);
        }
        Ok((shapes, chosen))
    }
}

/// The names of the inputs' dimensions, each once.
pub(crate) fn symbols(model: &Model) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for dim in model.inputs().iter().filter_map(|info| info.shape.as_ref()).flatten() {
        match dim {
            Dim::Symbol(name) if !names.contains(&name.as_str()) => names.push(name),
            _ => {}
        }
    }
    names
}

/// A size that many models take for a dimension that is open.
fn sensible(dims: &[Dim], axis: usize, image: usize, length: usize) -> usize {
    let few = |axis: usize| matches!(dims.get(axis), Some(Dim::Known(1..=4)));
    let channels = if few(dims.len().wrapping_sub(1)) && !few(1) { dims.len() - 1 } else { 1 };
    match &dims[axis] {
        Dim::Symbol(name) if name.to_lowercase().contains("past") => 0,
        _ if axis == 0 && dims.len() > 1 => 1,
        _ if dims.len() < 4 => length,
        _ if axis == channels => CHANNELS,
        _ => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(name: &str, dims: &[&str]) -> ValueInfo {
        let dim = |text: &&str| match text.parse() {
            Ok(size) => Dim::Known(size),
            Err(_) if *text == "?" => Dim::Unknown,
            Err(_) => Dim::Symbol(text.to_string()),
        };
        let shape = Some(dims.iter().map(dim).collect());
        ValueInfo { name: name.into(), dtype: None, shape, container: None, has_default: false }
    }

    fn chosen(infos: &[ValueInfo]) -> Vec<Vec<usize>> {
        let inputs: Vec<&ValueInfo> = infos.iter().collect();
        let (shapes, _) = Sizes::default().shapes(&inputs, TRIED[0]).unwrap_or_default();
        shapes
    }

    #[test]
    fn open_dimensions_get_sensible_sizes() {
        let cases: [(&[&str], &[usize]); 8] = [
            (&["N", "3", "H", "W"], &[1, 3, 224, 224]),
            (&["N", "H", "W", "3"], &[1, 224, 224, 3]),
            (&["N", "C", "H", "W"], &[1, 3, 224, 224]),
            (&["?", "1", "28", "28"], &[1, 1, 28, 28]),
            (&["batch", "sequence"], &[1, 128]),
            (&["batch", "80", "frames"], &[1, 80, 128]),
            (&["samples"], &[128]),
            (&["batch", "8", "past_length", "64"], &[1, 8, 0, 64]),
        ];
        for (dims, expected) in cases {
            assert_eq!(chosen(&[info("x", dims)]), [expected], "{dims:?}");
        }
    }

    #[test]
    fn a_sum_follows_from_its_parts() {
        let inputs = [
            info("mask", &["batch", "past + sequence"]),
            info("ids", &["batch", "sequence"]),
            info("cache", &["batch", "4", "past", "8"]),
            info("next", &["batch", "past + 1"]),
        ];
        assert_eq!(chosen(&inputs), [vec![1, 128], vec![1, 128], vec![1, 4, 0, 8], vec![1, 1]]);
    }

    #[test]
    fn one_name_has_one_size() {
        let (x, y) = (info("x", &["n", "3"]), info("y", &["n"]));
        let mut sizes = Sizes::default();
        assert!(sizes.learn(&x, &[5, 3], "--shape x").is_ok());
        let (shapes, chosen) = sizes.clone().shapes(&[&x, &y], TRIED[0]).unwrap_or_default();
        assert_eq!((shapes, chosen), (vec![vec![5, 3], vec![5]], vec![]));
        let refused = sizes.learn(&y, &[4], "--shape y").err().map(|failure| failure.to_string());
        let expected =
            "dimension 'n' cannot have two sizes: --shape x [5, 3] says 5, and --shape y [4] says 4";
        assert_eq!(refused.as_deref(), Some(expected));
    }
}
