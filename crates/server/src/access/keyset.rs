//! Keys that tokens are signed with: a set of JSON Web Keys (RFC 7517), or public keys in PEM form.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use ring::{hmac, signature};
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;

/// The kind of a key. A token's algorithm must be one of its key's kind, so that no public key is ever taken for a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
    Secret,
}

/// A key, and what its file says of it.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    pub(super) id: Option<String>,
    kind: Kind,
    /// The only algorithm that it is for.
    algorithm: Option<String>,
    /// As `ring` takes it: the sequence of modulus and exponent of RSA, a point, or the secret.
    bytes: Vec<u8>,
}

type Verification = &'static dyn signature::VerificationAlgorithm;

/// The algorithms that are verified by a public key (RFC 7518, 3.1, and RFC 8037).
static ALGORITHMS: [(&str, Kind, Verification); 9] = [
    ("RS256", Kind::Rsa, &signature::RSA_PKCS1_2048_8192_SHA256),
    ("RS384", Kind::Rsa, &signature::RSA_PKCS1_2048_8192_SHA384),
    ("RS512", Kind::Rsa, &signature::RSA_PKCS1_2048_8192_SHA512),
    ("PS256", Kind::Rsa, &signature::RSA_PSS_2048_8192_SHA256),
    ("PS384", Kind::Rsa, &signature::RSA_PSS_2048_8192_SHA384),
    ("PS512", Kind::Rsa, &signature::RSA_PSS_2048_8192_SHA512),
    ("ES256", Kind::P256, &signature::ECDSA_P256_SHA256_FIXED),
    ("ES384", Kind::P384, &signature::ECDSA_P384_SHA384_FIXED),
    ("EdDSA", Kind::Ed25519, &signature::ED25519),
];

/// The bytes of a secret at least (RFC 7518, 3.2).
const SECRET: usize = 32;

impl VerifyingKey {
    /// Whether `algorithm` is one that this key is for.
    pub(super) fn is_for(&self, algorithm: &str) -> bool {
        let of_kind = match self.kind {
            Kind::Secret => algorithm == "HS256",
            kind => ALGORITHMS.iter().any(|(name, of, _)| *name == algorithm && *of == kind),
        };
        of_kind && self.algorithm.as_ref().is_none_or(|only| only == algorithm)
    }

    /// Whether `signature` is that of `message` by this key. False for an algorithm that the key is not for.
    pub(super) fn verify(&self, algorithm: &str, message: &[u8], signature: &[u8]) -> bool {
        if !self.is_for(algorithm) {
            return false;
        }
        if self.kind == Kind::Secret {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &self.bytes);
            return hmac::verify(&key, message, signature).is_ok();
        }
        ALGORITHMS.iter().find(|(name, ..)| *name == algorithm).is_some_and(|(_, _, verification)| {
            signature::UnparsedPublicKey::new(*verification, &self.bytes).verify(message, signature).is_ok()
        })
    }
}

/// Reads a file of keys.
///
/// # Errors
/// A text: no key that can be used, a private key, a secret that is too short.
pub(super) fn read(text: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    let keys = match text.trim_ascii_start().first() {
        Some(b'{') => from_json(text)?,
        _ => from_pem(text)?,
    };
    match keys.is_empty() {
        true => {
            Err("there is no key for RS256 to RS512, PS256 to PS512, ES256, ES384, EdDSA or HS256".into())
        }
        false => Ok(keys),
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Json {
    Set { keys: Vec<serde_json::Value> },
    One(Box<Jwk>),
}

/// A key as JSON.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    /// The private part.
    d: Option<serde::de::IgnoredAny>,
}

fn from_json(text: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    let json =
        serde_json::from_slice(text).map_err(|error| format!("it is no set of JSON Web Keys: {error}"))?;
    let keys = match json {
        Json::One(key) => vec![*key],
        // A set may have keys of kinds that are not known (RFC 7517, 5).
        Json::Set { keys } => keys.into_iter().filter_map(|key| serde_json::from_value(key).ok()).collect(),
    };
    let mut read = Vec::new();
    for key in keys {
        read.extend(from_jwk(key)?);
    }
    Ok(read)
}

/// `None` for a key of another kind, or one that is not for signatures.
fn from_jwk(key: Jwk) -> Result<Option<VerifyingKey>, String> {
    let named = key.kid.clone().unwrap_or_default();
    if key.d.is_some() {
        return Err(format!("key '{named}' has a private part; give the server public keys alone"));
    }
    if key.purpose.as_ref().is_some_and(|purpose| purpose != "sig") {
        return Ok(None);
    }
    let part = |part: &Option<String>| {
        let bytes = part.as_ref().and_then(|text| BASE64_URL_SAFE_NO_PAD.decode(text).ok());
        bytes.ok_or_else(|| {
            format!("key '{named}' lacks a part, or has one that is no base64url without padding")
        })
    };
    let (kind, bytes) = match (key.kty.as_str(), key.crv.as_deref()) {
        ("RSA", _) => (Kind::Rsa, rsa(&part(&key.n)?, &part(&key.e)?)),
        ("EC", Some("P-256")) => (Kind::P256, point(32, &part(&key.x)?, &part(&key.y)?, &named)?),
        ("EC", Some("P-384")) => (Kind::P384, point(48, &part(&key.x)?, &part(&key.y)?, &named)?),
        ("OKP", Some("Ed25519")) => (Kind::Ed25519, part(&key.x)?),
        ("oct", _) => {
            let secret = part(&key.k)?;
            if secret.len() < SECRET {
                return Err(format!(
                    "key '{named}' is a secret of {} bytes; it needs {SECRET}",
                    secret.len()
                ));
            }
            (Kind::Secret, secret)
        }
        _ => return Ok(None),
    };
    Ok(Some(VerifyingKey { id: key.kid, kind, algorithm: key.alg, bytes }))
}

fn point(size: usize, x: &[u8], y: &[u8], name: &str) -> Result<Vec<u8>, String> {
    match (x.len(), y.len()) == (size, size) {
        true => Ok([&[4], x, y].concat()),
        false => Err(format!("key '{name}' has coordinates that are not of its curve's {size} bytes")),
    }
}

/// `RSAPublicKey` of RFC 8017, A.1.1.
fn rsa(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let integer = |number: &[u8]| {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        // An integer whose first bit is set is negative.
        value(
            2,
            &[&[0], &number[zeros..]].concat()
                [usize::from(number.get(zeros).is_some_and(|byte| *byte < 128))..],
        )
    };
    value(0x30, &[integer(modulus), integer(exponent)].concat())
}

/// A value in DER.
fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    let zeros = length.iter().take_while(|byte| **byte == 0).count();
    let length = &length[zeros..];
    let short = content.len() < 128;
    let mut value = vec![tag];
    match short {
        true => value.push(content.len() as u8),
        false => {
            value.push(0x80 | length.len() as u8);
            value.extend(length);
        }
    }
    value.extend(content);
    value
}

fn from_pem(text: &[u8]) -> Result<Vec<VerifyingKey>, String> {
    let mut keys = Vec::new();
    for key in SubjectPublicKeyInfoDer::pem_slice_iter(text) {
        let key = key.map_err(|error| error.to_string())?;
        keys.extend(from_spki(&key));
    }
    Ok(keys)
}

const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
const P384: &[u8] = &[0x2b, 0x81, 0x04, 0x00, 0x22];
const ED25519: &[u8] = &[0x2b, 0x65, 0x70];

/// A `SubjectPublicKeyInfo` (RFC 5280, 4.1); `None` for a key of another kind.
fn from_spki(der: &[u8]) -> Option<VerifyingKey> {
    let (mut key, _) = content(0x30, der)?;
    let (algorithm, rest) = content(0x30, key)?;
    key = rest;
    let (identifier, parameters) = content(6, algorithm)?;
    let curve = content(6, parameters).map(|(curve, _)| curve);
    let (bits, _) = content(3, key)?;
    let (0, bytes) = bits.split_first().map(|(unused, bytes)| (*unused, bytes))? else { return None };
    let kind = match (identifier, curve) {
        (RSA, _) => Kind::Rsa,
        (EC, Some(P256)) => Kind::P256,
        (EC, Some(P384)) => Kind::P384,
        (ED25519, _) => Kind::Ed25519,
        _ => return None,
    };
    Some(VerifyingKey { id: None, kind, algorithm: None, bytes: bytes.to_vec() })
}

/// The content of the value of DER with which `bytes` begin, and what comes after it.
fn content(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let [first, length, rest @ ..] = bytes else { return None };
    let (length, rest) = match *length {
        short @ 0..128 => (usize::from(short), rest),
        long => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            let add = |length: usize, digit: &u8| length.checked_mul(256)?.checked_add(usize::from(*digit));
            (digits.iter().try_fold(0, add)?, rest)
        }
    };
    rest.split_at_checked(length).filter(|_| *first == tag)
}
