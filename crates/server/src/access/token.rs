//! JSON Web Tokens (RFC 7519): signatures, and what tokens claim.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::keyset::{self, VerifyingKey};

/// Which tokens are taken. A token says who asks by its claim `tenant`, or else `sub`; it may have `admin: true`, and `models`, a list of
/// patterns of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRules {
    /// A file of the keys: a set of JSON Web Keys, or public keys in PEM form.
    pub keys: PathBuf,
    /// What `aud` must have: tokens for others are not for this server.
    pub audience: String,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// How much the clocks may differ.
    pub leeway: Duration,
}

/// Tokens that are taken now.
#[derive(Debug)]
pub(super) struct Tokens {
    keys: Vec<VerifyingKey>,
    rules: TokenRules,
}

/// What a token of a known key claims.
#[derive(Debug, PartialEq)]
pub(super) struct Claims {
    pub(super) tenant: String,
    pub(super) admin: bool,
    pub(super) models: Option<Vec<String>>,
}

/// The bytes of a token at most.
const LONGEST: usize = 8 << 10;

/// The bytes of a tenant's name at most.
const NAME: usize = 128;

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that must be understood; none is.
    crit: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Payload {
    iss: Option<String>,
    aud: Option<Audience>,
    exp: Option<f64>,
    nbf: Option<f64>,
    sub: Option<String>,
    tenant: Option<String>,
    #[serde(default)]
    admin: bool,
    models: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

impl Tokens {
    /// # Errors
    /// A text, without the file's name.
    pub(super) fn read(rules: &TokenRules) -> Result<Tokens, String> {
        let text = std::fs::read(&rules.keys).map_err(|error| error.to_string())?;
        Ok(Tokens { keys: keyset::read(&text)?, rules: rules.clone() })
    }

    /// What `token` claims, `since_1970` being the time.
    ///
    /// # Errors
    /// What is wrong with it. Of a token whose signature is not verified, nothing is told.
    pub(super) fn verify(&self, token: &str, since_1970: Duration) -> Result<Claims, &'static str> {
        const NONE: &str = "this key is not known, and no token that this server takes";
        let parts = || {
            let (signed, signature) = token.rsplit_once('.')?;
            let (header, payload) = signed.split_once('.')?;
            Some((signed, header, payload, BASE64_URL_SAFE_NO_PAD.decode(signature).ok()?))
        };
        let (signed, header, payload, signature) = parts().filter(|_| token.len() <= LONGEST).ok_or(NONE)?;
        let header: Header = json(header).ok_or(NONE)?;
        if header.crit.is_some() {
            return Err("the token has critical extensions, of which this server knows none");
        }
        let by_id = |key: &&VerifyingKey| match (&header.kid, &key.id) {
            (Some(wanted), Some(id)) => wanted == id,
            // A key of PEM form has no id.
            _ => true,
        };
        let verified =
            self.keys.iter().filter(by_id).any(|key| key.verify(&header.alg, signed.as_bytes(), &signature));
        if !verified {
            return Err(NONE);
        }
        let payload: Payload =
            json(payload).ok_or("the token's claims are not of the types that they are to be")?;
        self.check(payload, since_1970)
    }

    fn check(&self, payload: Payload, since_1970: Duration) -> Result<Claims, &'static str> {
        let Payload { iss, aud, exp, nbf, sub, tenant, admin, models } = payload;
        let (now, leeway) = (since_1970.as_secs_f64(), self.rules.leeway.as_secs_f64());
        let exp = exp.ok_or("the token has no 'exp', and would be for ever")?;
        if now >= exp + leeway {
            return Err("the token has expired; ask its issuer for a new one");
        }
        if nbf.is_some_and(|nbf| now + leeway < nbf) {
            return Err("the token is not yet to be used, as its 'nbf' says");
        }
        let audience = &self.rules.audience;
        let for_us = match aud {
            Some(Audience::One(one)) => one == *audience,
            Some(Audience::Many(many)) => many.contains(audience),
            None => false,
        };
        if !for_us {
            return Err("the token's 'aud' does not have this server");
        }
        if self.rules.issuer.is_some() && self.rules.issuer != iss {
            return Err("the token's 'iss' is not the issuer whose tokens this server takes");
        }
        let is_name = |name: &String| (1..=NAME).contains(&name.len()) && !name.contains(char::is_control);
        let tenant = tenant.or(sub).filter(is_name);
        let tenant =
            tenant.ok_or("the token says by neither 'tenant' nor 'sub' who asks, in 1 to 128 bytes")?;
        Ok(Claims { tenant, admin, models })
    }
}

fn json<T: serde::de::DeserializeOwned>(part: &str) -> Option<T> {
    serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(part).ok()?).ok()
}

#[cfg(test)]
#[path = "token_tests.rs"]
mod tests;
