//! Which variant of a model answers a request that names no version, and copies of requests for a variant that only shadows.
//!
//! The configuration of the model says it ([`crate::config::Traffic`]), so that it is loaded, kept and shown with the model. A caller
//! stays with its variant: the variant is a function of the caller's key.

mod choose;
mod compare;
mod metrics;
mod shadow;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that cannot go on has failed.
mod tests;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use metrics::families;

use crate::config::{Config, Shadow, Target, different_texts};
use crate::serving::{Models, Served, Unanswered};
use crate::{Failure, Reason, Request, Response, texts};
use shadow::Shadows;

/// The header, and the metadata of gRPC, whose value keeps a caller with one variant.
pub const KEY: &str = "x-sardonyx-key";

/// The header, and the metadata of gRPC, that asks for a variant.
pub const VARIANT: &str = "x-sardonyx-variant";

/// What a caller says of the variant that is to answer.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Preference {
    /// Requests with equal keys are answered by the same variant, as long as it serves.
    pub key: Option<Arc<[u8]>>,
    /// A variant, as the configuration writes it, or a version of the model.
    pub variant: Option<Arc<str>>,
}

impl Preference {
    /// What the headers say.
    pub(crate) fn of<'a>(header: impl Fn(&str) -> Option<&'a [u8]>) -> Preference {
        let given = |name| header(name).filter(|value| !value.is_empty());
        Preference {
            key: given(KEY).map(Arc::from),
            variant: given(VARIANT).map(|value| String::from_utf8_lossy(value).trim().into()),
        }
    }
}

/// Chooses variants, and keeps what is known of shadows.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    random: RandomState,
    /// The number of random numbers that were drawn.
    drawn: AtomicU64,
    shadows: Arc<Shadows>,
}

impl Traffic {
    /// Lets a variant of the model that the request names answer it, and a copy of it run afterwards where a shadow wants one. If the
    /// future is dropped before the request's turn, it is never run.
    ///
    /// # Errors
    /// Why there is no answer.
    pub(crate) async fn infer(
        &self,
        models: Arc<dyn Models>,
        mut request: Request,
    ) -> Result<Response, Failure> {
        let asked = request.model.clone();
        loop {
            let (served, config) = self.route(models.as_ref(), &asked, &request)?;
            let shadow = config.as_ref().and_then(|config| config.traffic.as_ref()?.shadow.as_ref());
            // A part of a sequence means nothing to who has not seen the others.
            let is_copied = |shadow: &&Shadow| request.sequence.is_none() && self.unit() < shadow.share;
            let copy = shadow.filter(is_copied).and_then(|shadow| {
                let target = find(models.as_ref(), &asked, &shadow.target).ok()?;
                self.shadows.copy(&asked, &served, (shadow, target), &request)
            });
            request.model.clone_from(&served.config().name);
            match served.infer(request).await {
                Ok(response) => {
                    if let Some(copy) = copy {
                        copy.start(&response);
                    }
                    return Ok(response);
                }
                Err(Unanswered::Failed(failure)) => return Err(failure),
                // The model was loaded anew meanwhile.
                Err(Unanswered::Closed(unanswered)) => request = *unanswered,
            }
            tokio::task::yield_now().await;
        }
    }

    /// What answers, and the configuration whose traffic has chosen it, if any has.
    fn route(
        &self,
        models: &dyn Models,
        model: &str,
        request: &Request,
    ) -> Result<(Arc<Served>, Option<Arc<Config>>), Failure> {
        if !request.version.is_empty() {
            return Ok((models.find(model, &request.version)?, None));
        }
        let default = models.find(model, "")?;
        let config = Some(default.config().clone()).filter(|config| config.traffic.is_some());
        let traffic = config.as_ref().and_then(|config| config.traffic.as_ref());
        if let Some(name) = request.preference.variant.as_deref() {
            let target = traffic.and_then(|traffic| traffic.named(name));
            let served =
                target.map_or_else(|| models.find(model, name), |target| find(models, model, target))?;
            refuse_other_texts(&default, &served, Reason::Invalid)?;
            return Ok((served, config));
        }
        let variants = traffic.into_iter().flat_map(|traffic| &traffic.variants);
        // One that does not serve now leaves its share to the others.
        let serving = variants.filter_map(|variant| {
            let served = find(models, model, &variant.target).ok().filter(|served| served.ready().is_ok())?;
            Some((variant.target.name.as_str(), variant.weight, served))
        });
        let serving: Vec<_> = serving.collect();
        let drawn;
        let key = match (&request.sequence, &request.preference.key) {
            // All requests of a sequence find its state.
            (Some(sequence), _) => format!("{:?}", sequence.id).into_bytes(),
            (None, Some(key)) => key.to_vec(),
            (None, None) if !request.id.is_empty() => request.id.clone().into_bytes(),
            (None, None) => {
                drawn = self.draw().to_le_bytes();
                drawn.to_vec()
            }
        };
        let shares = serving.iter().map(|(name, weight, _)| (*name, *weight));
        let chosen = choose::choose(model, &key, shares).and_then(|chosen| serving.get(chosen));
        let served = chosen.map_or(&default, |(_, _, served)| served);
        refuse_other_texts(&default, served, Reason::Internal)?;
        Ok((served.clone(), config))
    }

    /// A random number.
    fn draw(&self) -> u64 {
        self.random.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// A random number from 0 to below 1.
    fn unit(&self) -> f64 {
        (self.draw() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Refuses a version that takes texts otherwise than `default`, by whose files texts have become tokens.
fn refuse_other_texts(default: &Arc<Served>, served: &Arc<Served>, reason: Reason) -> Result<(), Failure> {
    let of = |served: &Served| (served.config().clone(), served.version());
    let what = || texts::difference(default.config(), served.config());
    match (!Arc::ptr_eq(default, served)).then(what).flatten() {
        None => Ok(()),
        Some(what) => {
            let (a, b) = (of(default), of(served));
            let text = different_texts((&a.0.name, a.1), (&b.0.name, b.1), what);
            Err(Failure::new(reason, format!("{text}; name the model and the version that are to answer")))
        }
    }
}

/// The version that a target of `model` stands for.
fn find(models: &dyn Models, model: &str, target: &Target) -> Result<Arc<Served>, Failure> {
    models.find(target.model.as_deref().unwrap_or(model), &target.version)
}
