//! `Tenant`: who asks, and what it may.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use sardonyx::Tensor;

use super::limits::{Account, InFlight, Limits, Now, Refusal};
use crate::{Failure, Reason};

/// Who asks: the name of a key, or the one that a token tells. Tenants of one name are the same.
///
/// ```
/// use sardonyx_server::access::Tenant;
/// let tenant = Tenant::from("shop");
/// assert_eq!((&*tenant, tenant.may_use("cat")), ("shop", true));
/// ```
#[derive(Clone)]
pub struct Tenant {
    name: Arc<str>,
    pub(super) admin: bool,
    /// All of these must have a model's name.
    pub(super) models: Vec<Models>,
    pub(super) limits: Arc<Limits>,
    pub(super) account: Arc<Account>,
}

/// Patterns of models' names, of which one suffices; `*` stands for any letters.
#[derive(Clone, Debug)]
pub(super) struct Models(Arc<[String]>);

impl Models {
    /// # Errors
    /// A text, if a pattern has a letter that no name has.
    pub(super) fn new(patterns: Vec<String>) -> Result<Models, String> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._-*".contains(&byte);
        match patterns.iter().find(|pattern| pattern.is_empty() || !pattern.bytes().all(fits)) {
            Some(pattern) => Err(format!(
                "models: '{pattern:.128}' is no pattern of names: letters, digits, '.', '_', '-', and '*' for any of them"
            )),
            None => Ok(Models(patterns.into())),
        }
    }

    fn have(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern.as_bytes(), name.as_bytes()))
    }
}

/// Whether `name` is what `pattern` says. Each `*` is tried once only: the latest takes more, as those before it need not.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut of) = (0, 0);
    let mut star = None;
    while let Some(letter) = name.get(of) {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, of));
                at += 1;
            }
            Some(same) if same == letter => (at, of) = (at + 1, of + 1),
            _ => match star {
                None => return false,
                Some((place, taken)) => {
                    star = Some((place, taken + 1));
                    (at, of) = (place + 1, taken + 1);
                }
            },
        }
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

impl Tenant {
    pub(super) fn new(name: Arc<str>, limits: Arc<Limits>, account: Arc<Account>) -> Tenant {
        Tenant { name, admin: false, models: Vec::new(), limits, account }
    }

    /// Whether it may use the model `name`.
    pub fn may_use(&self, name: &str) -> bool {
        self.models.iter().all(|models| models.have(name))
    }

    /// Refuses a model that the tenant may not use, and counts that.
    pub(crate) fn allow(&self, model: &str) -> Result<(), Failure> {
        if self.may_use(model) {
            return Ok(());
        }
        self.account.count(Refusal::Model);
        let text = format!("'{}' may not use model '{model:.128}'", self.name);
        Err(Failure::new(Reason::Forbidden, text))
    }

    /// Takes in a request, if the tenant may have one more now.
    pub(crate) fn begin(&self) -> Result<InFlight, Failure> {
        self.account.begin(&self.limits, Now::get()).map_err(|failure| self.named(failure))
    }

    /// Counts a stream, whose requests begin for themselves.
    pub(super) fn ask(&self) -> Result<(), Failure> {
        self.account.ask(&self.limits, Now::get()).map_err(|failure| self.named(failure))
    }

    /// Counts the tensors of a request.
    pub(crate) fn spend(&self, tensors: &[(String, Tensor)]) -> Result<(), Failure> {
        match self.limits.bytes {
            None => Ok(()),
            Some(_) => self
                .account
                .spend(&self.limits, Now::get(), bytes(tensors))
                .map_err(|failure| self.named(failure)),
        }
    }

    /// Counts the tensors of an answer.
    pub(crate) fn receive(&self, tensors: &[(String, Tensor)]) {
        if self.limits.bytes.is_some() {
            self.account.receive(&self.limits, Now::get(), bytes(tensors));
        }
    }

    fn named(&self, failure: Failure) -> Failure {
        Failure { text: format!("'{}': {}", self.name, failure.text), ..failure }
    }
}

fn bytes(tensors: &[(String, Tensor)]) -> u64 {
    let bytes = |tensor: &Tensor| match tensor.strings() {
        Some(strings) => strings.iter().map(|string| string.len() as u64 + 4).sum(),
        None => tensor.bytes().len() as u64,
    };
    tensors.iter().map(|(_, tensor)| bytes(tensor)).sum()
}

/// A tenant without limits.
impl From<&str> for Tenant {
    fn from(name: &str) -> Tenant {
        Tenant::new(name.into(), Arc::default(), Arc::default())
    }
}

/// The name.
impl Deref for Tenant {
    type Target = str;

    fn deref(&self) -> &str {
        &self.name
    }
}

impl PartialEq for Tenant {
    fn eq(&self, other: &Tenant) -> bool {
        self.name == other.name
    }
}

impl Eq for Tenant {}

impl Hash for Tenant {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl fmt::Debug for Tenant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tenant").field(&self.name).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests {
    use super::*;

    #[test]
    fn patterns_of_names() {
        for (pattern, name, fits) in [
            ("cat", "cat", true),
            ("cat", "cats", false),
            ("cat", "ca", false),
            ("cat*", "cat", true),
            ("cat*", "cats", true),
            ("*", "anything", true),
            ("*cat", "a-cat", true),
            ("*cat", "a-cat-b", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**a", "bba", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), fits, "{pattern} {name}");
        }
        assert!(Models::new(vec!["a/b".into()]).is_err() && Models::new(vec![String::new()]).is_err());
    }

    #[test]
    fn all_lists_must_have_a_model() {
        let mut tenant = Tenant::from("shop");
        tenant.models = ["cat*", "*-v2"].map(|pattern| Models::new(vec![pattern.into()]).unwrap()).into();
        assert!(tenant.may_use("cat-v2"));
        assert!(!tenant.may_use("cat-v1") && !tenant.may_use("dog-v2"));
        let failure = tenant.allow("dog").unwrap_err();
        assert_eq!(
            (failure.reason, failure.text.as_str()),
            (Reason::Forbidden, "'shop' may not use model 'dog'")
        );
        assert_eq!(tenant.account.counted(Refusal::Model), 1);
    }
}
