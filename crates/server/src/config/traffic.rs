//! Which variants of a model answer the requests that name no version, and which one only shadows them.

use std::collections::BTreeMap;

use super::{Config, check_name, parameters};
use crate::texts;

/// The variants of a model at most.
const MOST: usize = 64;

/// The copies that may wait or run at once at most.
const MOST_IN_FLIGHT: usize = 1024;

/// Copies in flight, where the configuration does not say how many.
const DEFAULT_IN_FLIGHT: usize = 4;

/// By how much two answers may differ, where the configuration does not say.
const DEFAULT_TOLERANCE: f64 = 1e-3;

/// Which variants answer requests that name no version.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traffic {
    /// The variants that share the requests; none if all requests go to the version of the policy.
    pub variants: Vec<Variant>,
    /// The variant that gets copies of requests.
    pub shadow: Option<Shadow>,
}

/// A variant and its share.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// What answers.
    pub target: Target,
    /// The share, in relation to the other variants'; 0 for one that only a header asks for.
    pub weight: f64,
}

/// A version of the model, or another model.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// As the configuration writes it: `3`, `stable`, `other/` or `other/2`.
    pub name: String,
    /// The other model.
    pub model: Option<String>,
    /// The version's number or label; empty for that of the other model's policy.
    pub version: String,
}

/// A variant that gets copies of requests, and whose answers are compared with those that clients got.
#[derive(Clone, Debug, PartialEq)]
pub struct Shadow {
    /// What gets the copies.
    pub target: Target,
    /// The share of the requests that are copied, up to 1.
    pub share: f64,
    /// Two numbers differ if they lie further apart than this, and than this part of the one that the client got.
    pub tolerance: f64,
    /// The copies that may wait or run at once; further ones are dropped.
    pub in_flight: usize,
}

impl Traffic {
    /// What the parameters of the model `name` say; `None` if they say nothing.
    pub(super) fn of(name: &str, given: &BTreeMap<String, String>) -> Result<Option<Traffic>, String> {
        let text = |key: &str| given.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
        let variants = text(parameters::TRAFFIC).map_or(Ok(Vec::new()), |text| variants(name, text))?;
        let numbers = [parameters::SHADOW_SHARE, parameters::SHADOW_TOLERANCE, parameters::SHADOW_IN_FLIGHT];
        let Some(shadow) = text(parameters::SHADOW) else {
            return match numbers.iter().find(|key| given.contains_key(**key)) {
                Some(key) => {
                    Err(format!("the parameter {key} is given, and no parameter {}", parameters::SHADOW))
                }
                None => Ok((!variants.is_empty()).then_some(Traffic { variants, shadow: None })),
            };
        };
        let number = |key: &str, default: f64, most: f64| match text(key) {
            None => Ok(default),
            Some(text) => match text.parse() {
                Ok(number) if (0.0..=most).contains(&number) => Ok(number),
                _ => Err(format!(
                    "the parameter {key} is '{}'; it is a number between 0 and {most}",
                    text.escape_default()
                )),
            },
        };
        let in_flight =
            number(parameters::SHADOW_IN_FLIGHT, DEFAULT_IN_FLIGHT as f64, MOST_IN_FLIGHT as f64)?;
        let shadow = Shadow {
            target: Target::of(name, shadow)
                .map_err(|text| format!("the parameter {}: {text}", parameters::SHADOW))?,
            share: number(parameters::SHADOW_SHARE, 1.0, 1.0)?,
            tolerance: number(parameters::SHADOW_TOLERANCE, DEFAULT_TOLERANCE, f64::MAX)?,
            in_flight: in_flight as usize,
        };
        Ok(Some(Traffic { variants, shadow: Some(shadow) }))
    }

    /// The variant that the configuration calls so.
    pub fn named(&self, name: &str) -> Option<&Target> {
        let shadow = self.shadow.iter().map(|shadow| &shadow.target);
        self.variants.iter().map(|variant| &variant.target).chain(shadow).find(|target| target.name == name)
    }
}

impl Config {
    /// Refuses traffic for versions of the model, among `others`, to which texts say something else than to this one, which is the one that
    /// serves who names none: it makes tokens of texts, and embeddings of outputs, whoever answers. Other models are not looked for.
    ///
    /// # Errors
    /// A text that names both versions, and what differs.
    pub(crate) fn check_texts(&self, version: u64, others: &[(u64, &Config)]) -> Result<(), String> {
        let Some(traffic) = &self.traffic else { return Ok(()) };
        let shadow = traffic.shadow.iter().map(|shadow| &shadow.target);
        for target in traffic.variants.iter().map(|variant| &variant.target).chain(shadow) {
            let number = self.number(target);
            let other = others.iter().find(|(of, _)| Some(*of) == number);
            if let Some((of, other)) = other
                && let Some(what) = texts::difference(self, other)
            {
                let text = different_texts((&self.name, version), (&other.name, *of), what);
                return Err(format!(
                    "{text}; give both the same, or serve one of them as a model without traffic"
                ));
            }
        }
        Ok(())
    }

    /// The number of the version of this model that `target` stands for.
    fn number(&self, target: &Target) -> Option<u64> {
        match &target.model {
            Some(_) => None,
            None => target.version.parse().ok().or_else(|| self.version_labels.get(&target.version).copied()),
        }
    }

    /// Refuses traffic that these `versions` of the model, which are those that will serve, cannot take. Other models are not looked
    /// for: they may be loaded later.
    ///
    /// # Errors
    /// A text that says which version is missing.
    pub fn check_traffic(&self, versions: &[u64]) -> Result<(), String> {
        let Some(traffic) = &self.traffic else { return Ok(()) };
        let number = |target: &Target| self.number(target);
        let shadow = traffic.shadow.as_ref().map(|shadow| &shadow.target);
        for (target, key) in traffic
            .variants
            .iter()
            .map(|variant| (&variant.target, parameters::TRAFFIC))
            .chain(shadow.map(|target| (target, parameters::SHADOW)))
        {
            if target.model.is_none() && !number(target).is_some_and(|number| versions.contains(&number)) {
                return Err(format!(
                    "the parameter {key} names '{}', and the versions that serve are {versions:?}; let version_policy choose it (such \
                     as version_policy {{ specific {{ versions: [ ... ] }} }}), or name a label of the parameter {}",
                    target.name,
                    parameters::VERSION_LABELS
                ));
            }
        }
        let answers_all = |target: &Target| match traffic.variants.as_slice() {
            [] => number(target).is_some() && number(target) == versions.last().copied(),
            [only] => {
                only.target.model == target.model
                    && number(&only.target) == number(target)
                    && target.model.is_none()
            }
            _ => false,
        };
        match shadow {
            Some(target) if answers_all(target) => Err(format!(
                "the parameter {} names '{}', which answers all requests; let the parameter {} give them to another version",
                parameters::SHADOW,
                target.name,
                parameters::TRAFFIC
            )),
            _ => Ok(()),
        }
    }
}

/// Says that a version takes texts otherwise than the one that its requests are read for, by `what`.
pub(crate) fn different_texts(default: (&str, u64), other: (&str, u64), what: &str) -> String {
    format!(
        "version {} of model '{}' cannot answer for version {} of model '{}': their {what} differs, so that texts would be read for one \
         and answered by the other",
        other.1, other.0, default.1, default.0
    )
}

impl Target {
    fn of(model: &str, text: &str) -> Result<Target, String> {
        let wrong = || {
            format!(
                "'{}' is no variant; write the number of a version, a label, or another model with a slash, such as 3, stable, \
                 'other/' or 'other/2'",
                text.escape_default()
            )
        };
        let is_version = |text: &str| {
            let number = text.parse::<u64>().is_ok_and(|number| number > 0 && number.to_string() == text);
            number || check_name(text).is_ok() && !text.bytes().all(|byte| byte.is_ascii_digit())
        };
        let (other, version) = match text.split_once('/') {
            None => (None, text),
            Some((other, _)) if other == model => {
                return Err(format!("'{text}' names the model itself; write the version only"));
            }
            Some((other, version)) => (Some(other), version),
        };
        let fits = other.is_none_or(|other| check_name(other).is_ok());
        match fits && (is_version(version) || other.is_some() && version.is_empty()) {
            true => Ok(Target { name: text.into(), model: other.map(String::from), version: version.into() }),
            false => Err(wrong()),
        }
    }
}

fn variants(model: &str, text: &str) -> Result<Vec<Variant>, String> {
    let about = |text: String| format!("the parameter {}: {text}", parameters::TRAFFIC);
    let mut variants: Vec<Variant> = Vec::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let wrong =
            || about(format!("'{}' is no variant with its share, such as 3=90", pair.escape_default()));
        let (name, weight) = pair.split_once('=').ok_or_else(wrong)?;
        let target = Target::of(model, name.trim()).map_err(about)?;
        let weight: f64 = weight.trim().parse().map_err(|_| wrong())?;
        if !weight.is_finite() || weight < 0.0 {
            return Err(wrong());
        }
        if variants.iter().any(|variant| variant.target.name == target.name) {
            return Err(about(format!("'{}' is given twice", target.name)));
        }
        variants.push(Variant { target, weight });
    }
    match variants.iter().any(|variant| variant.weight > 0.0) {
        false => Err(about("no variant has a share above 0".into())),
        true if variants.len() > MOST => Err(about(format!("there are more than {MOST} variants"))),
        true => Ok(variants),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Result<Option<Traffic>, String> {
        let given = pairs.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        Traffic::of("m", &given)
    }

    #[test]
    fn variants_and_shares_are_read() {
        assert_eq!(of(&[]), Ok(None));
        let traffic = of(&[("traffic", "3=90, canary = 9.5, other/=0, other/2=1")]).unwrap().unwrap();
        let read: Vec<_> = traffic
            .variants
            .iter()
            .map(|variant| (variant.target.model.as_deref(), variant.target.version.as_str(), variant.weight))
            .collect();
        let wanted =
            [(None, "3", 90.0), (None, "canary", 9.5), (Some("other"), "", 0.0), (Some("other"), "2", 1.0)];
        assert_eq!(read, wanted);
        assert_eq!(traffic.named("other/2").unwrap().version, "2");
        assert_eq!(traffic.named("other"), None);
        for bad in [
            "3", "3=", "3=x", "3=-1", "3=inf", "3=NaN", "3=0", "03=1", "0=1", "=1", "3=1,3=2", "m/3=1",
            "a/b/c=1", "a b=1",
        ] {
            assert!(of(&[("traffic", bad)]).is_err(), "{bad}");
        }
    }

    #[test]
    fn shadows_are_read() {
        let shadow = of(&[("shadow", "4"), ("shadow_share", "0.25"), ("shadow_in_flight", "2")]);
        let shadow = shadow.unwrap().unwrap().shadow.unwrap();
        assert_eq!((shadow.target.version.as_str(), shadow.share, shadow.in_flight), ("4", 0.25, 2));
        assert_eq!(shadow.tolerance, DEFAULT_TOLERANCE);
        assert!(of(&[("shadow_share", "0.5")]).unwrap_err().contains("no parameter shadow"));
        for bad in ["1.5", "-0.1", "NaN", "x"] {
            assert!(of(&[("shadow", "4"), ("shadow_share", bad)]).is_err(), "{bad}");
        }
    }
}
