//! Repositories that are said by a URL, and not by a folder's path.

use std::path::Path;

/// The text, if it is a URL: `SCHEME://...`.
pub(super) fn url(repository: &Path) -> Option<&str> {
    let text = repository.to_str()?;
    let (scheme, _) = text.split_once("://")?;
    let is_scheme = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    is_scheme.then_some(text)
}
