//! `shaders/math.wgsl`, `shaders/math_f64.wgsl` and `shaders/math_i64.wgsl`: the functions that a kernel calls, and the functions that these call in turn.

use std::collections::BTreeSet;

const SOURCE: &str = include_str!("../../shaders/math.wgsl");
const SOURCE_F64: &str = include_str!("../../shaders/math_f64.wgsl");
const SOURCE_I64: &str = include_str!("../../shaders/math_i64.wgsl");

/// The functions of all files as (name, text).
fn functions() -> impl Iterator<Item = (&'static str, &'static str)> {
    let parts = [SOURCE, SOURCE_F64, SOURCE_I64].into_iter().flat_map(|source| source.split("\nfn ").skip(1));
    parts.filter_map(|part| {
        let name = part.split('(').next()?;
        let end = part.find("\n}")?;
        Some((name, &part[..end + 2]))
    })
}

/// The WGSL text of the functions `used`, and of those that they call.
pub(crate) fn functions_for(used: &BTreeSet<&'static str>) -> String {
    let mut wanted = used.clone();
    loop {
        let before = wanted.len();
        for (name, text) in functions() {
            if wanted.contains(name) {
                let calls = |other: &str| text.contains(&format!("{other}("));
                wanted.extend(functions().map(|f| f.0).filter(|other| calls(other)));
            }
        }
        if wanted.len() == before {
            break;
        }
    }
    let texts = functions().filter(|(name, _)| wanted.contains(name)).map(|(_, text)| format!("fn {text}\n"));
    texts.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A loop would count against the iterations of the loop that calls the function.
    #[test]
    fn functions_have_no_loops() {
        for (name, text) in
            functions().filter(|(name, _)| !["fmod_f64", "divided_u64", "pow_u64"].contains(name))
        {
            assert!(!["for (", "while ", "loop {"].iter().any(|word| text.contains(word)), "{name}");
        }
    }

    #[test]
    fn takes_what_is_called() {
        let text = functions_for(&BTreeSet::from(["max_full"]));
        assert!(text.contains("fn max_full(") && text.contains("fn is_nan(") && !text.contains("fn erf("));
    }
}
