//! Names of models: they are names of folders, parts of URLs, and labels of metrics.

use crate::Failure;

/// The letters of a name at most.
const LONGEST: usize = 128;

/// Refuses a name that is none of a model: it has 1 to 128 letters, digits, `.`, `_` and `-`, and no `..`.
///
/// ```
/// use sardonyx_server::config::check_name;
/// assert!(check_name("resnet50-v1.5").is_ok());
/// assert!(check_name("../etc").is_err());
/// ```
///
/// # Errors
/// [`Reason::Invalid`](crate::Reason::Invalid), with the rule.
pub fn check_name(name: &str) -> Result<(), Failure> {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if (1..=LONGEST).contains(&name.len()) && name.bytes().all(letter) && name != "." && !name.contains("..")
    {
        return Ok(());
    }
    let shown: String = name.chars().take(LONGEST).flat_map(char::escape_default).collect();
    Err(Failure::invalid(format!(
        "'{shown}' is no name of a model: a name has 1 to {LONGEST} letters, digits, '.', '_' and '-', and no '..'"
    )))
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_lead_nowhere_else() {
        for name in ["a", "a.b", "_", "-", &"x".repeat(128)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        for name in ["", ".", "..", "a..b", "a/b", "a\\b", "a b", "ä", "a\0", "a\n", &"x".repeat(129)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
