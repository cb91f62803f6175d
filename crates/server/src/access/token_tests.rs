//! Tokens that are signed here are taken as they should be; the examples of the standards prove the algorithms.

use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

use super::*;

const NOW: u64 = 1_800_000_000;

fn base64(bytes: impl AsRef<[u8]>) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// A key for signatures, and the set that has it.
struct Issuer(Ed25519KeyPair);

impl Issuer {
    fn new() -> Issuer {
        Issuer(Ed25519KeyPair::from_seed_unchecked(&[7; 32]).unwrap())
    }

    fn jwk(&self) -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "kid": "one", "alg": "EdDSA", "x": base64(self.0.public_key())})
    }

    fn token(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        format!("{signed}.{}", base64(self.0.sign(signed.as_bytes())))
    }
}

fn tokens(keys: &[Value]) -> Tokens {
    let rules = TokenRules {
        keys: PathBuf::new(),
        audience: "models".into(),
        issuer: Some("https://issuer".into()),
        leeway: Duration::from_secs(60),
    };
    let set = json!({ "keys": keys }).to_string();
    Tokens { keys: keyset::read(set.as_bytes()).unwrap(), rules }
}

fn header() -> Value {
    json!({"alg": "EdDSA", "typ": "JWT", "kid": "one"})
}

fn claims() -> Value {
    json!({"iss": "https://issuer", "aud": "models", "sub": "shop", "exp": NOW + 100, "nbf": NOW - 100})
}

fn with(mut of: Value, name: &str, value: Value) -> Value {
    match value {
        Value::Null => drop(of.as_object_mut().unwrap().remove(name)),
        value => of[name] = value,
    }
    of
}

const NONE: &str = "this key is not known, and no token that this server takes";

#[test]
fn claims_say_who_asks() {
    let issuer = Issuer::new();
    let tokens = tokens(&[issuer.jwk()]);
    let verified = |claims: Value| tokens.verify(&issuer.token(&header(), &claims), Duration::from_secs(NOW));
    let shop = |admin, models: Option<Vec<String>>| Ok(Claims { tenant: "shop".into(), admin, models });
    assert_eq!(verified(claims()), shop(false, None));
    assert_eq!(verified(with(claims(), "aud", json!(["x", "models"]))), shop(false, None));
    let claimed = with(with(claims(), "admin", json!(true)), "models", json!(["cat*"]));
    assert_eq!(verified(claimed), shop(true, Some(vec!["cat*".into()])));
    let named = with(with(claims(), "tenant", json!("shop")), "sub", json!("somebody"));
    assert_eq!(verified(named), shop(false, None));
    // The leeway.
    assert!(verified(with(claims(), "exp", json!(NOW - 59))).is_ok());
    assert!(verified(with(claims(), "nbf", json!(NOW + 60))).is_ok());
    for (name, value, text) in [
        ("exp", json!(NOW - 60), "expired"),
        ("exp", Value::Null, "no 'exp'"),
        ("nbf", json!(NOW + 61), "'nbf'"),
        ("aud", json!("others"), "'aud'"),
        ("aud", json!(["others"]), "'aud'"),
        ("aud", Value::Null, "'aud'"),
        ("iss", json!("https://other"), "'iss'"),
        ("iss", Value::Null, "'iss'"),
        ("sub", Value::Null, "'sub'"),
        ("sub", json!("a\nb"), "'sub'"),
        ("exp", json!("tomorrow"), "types"),
        ("admin", json!("true"), "types"),
        ("models", json!("cat"), "types"),
    ] {
        let wrong = verified(with(claims(), name, value.clone())).unwrap_err();
        assert!(wrong.contains(text), "{name} {value}: {wrong}");
    }
}

#[test]
fn forgeries() {
    let issuer = Issuer::new();
    // The public key is known to everybody: as a secret, it would sign whatever one likes.
    let public = issuer.0.public_key().as_ref().to_vec();
    let mut plain = issuer.jwk();
    plain.as_object_mut().unwrap().remove("alg");
    for jwk in [issuer.jwk(), plain] {
        let tokens = tokens(&[jwk]);
        let refused =
            |token: &str| assert_eq!(tokens.verify(token, Duration::from_secs(NOW)), Err(NONE), "{token}");
        let good = issuer.token(&header(), &claims());
        assert!(tokens.verify(&good, Duration::from_secs(NOW)).is_ok());
        let (signed, _) = good.rsplit_once('.').unwrap();
        let part = |value: &Value| base64(value.to_string());
        for alg in ["none", "None", "NONE", "", "HS256", "RS256", "eddsa"] {
            let header = with(header(), "alg", json!(alg));
            let unsigned = format!("{}.{}", part(&header), part(&claims()));
            refused(&format!("{unsigned}."));
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &public);
            refused(&format!("{unsigned}.{}", base64(ring::hmac::sign(&key, unsigned.as_bytes()))));
            refused(&issuer.token(&header, &claims()));
        }
        let other = with(claims(), "sub", json!("operations"));
        let signature = good.rsplit_once('.').unwrap().1;
        refused(&format!("{}.{}.{signature}", part(&header()), part(&other)));
        refused(&issuer.token(&with(header(), "kid", json!("two")), &claims()));
        for cut in [
            "",
            ".",
            "..",
            "...",
            "a.b.c",
            signed,
            &good[..good.len() - 4],
            &format!("{good}="),
            &format!("{good}."),
        ] {
            refused(cut);
        }
        let critical = with(header(), "crit", json!(["b64"]));
        let failure = tokens.verify(&issuer.token(&critical, &claims()), Duration::from_secs(NOW));
        assert!(failure.unwrap_err().contains("critical"));
        let doubled = format!("{{\"sub\":\"a\",{}", &claims().to_string()[1..]);
        let signed = format!("{}.{}", part(&header()), base64(doubled));
        let doubled = format!("{signed}.{}", base64(issuer.0.sign(signed.as_bytes())));
        assert!(tokens.verify(&doubled, Duration::from_secs(NOW)).unwrap_err().contains("types"));
        let long = with(claims(), "x", json!("x".repeat(LONGEST)));
        refused(&issuer.token(&header(), &long));
    }
}

#[test]
fn secrets_only_where_the_file_has_one() {
    let secret = [9; 32];
    let tokens = tokens(&[json!({"kty": "oct", "k": base64(secret)})]);
    let signed = format!("{}.{}", base64(r#"{"alg":"HS256"}"#), base64(claims().to_string()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &secret);
    let token = format!("{signed}.{}", base64(ring::hmac::sign(&key, signed.as_bytes())));
    assert_eq!(tokens.verify(&token, Duration::from_secs(NOW)).unwrap().tenant, "shop");
    let wrong = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &[8; 32]);
    let token = format!("{signed}.{}", base64(ring::hmac::sign(&wrong, signed.as_bytes())));
    assert_eq!(tokens.verify(&token, Duration::from_secs(NOW)), Err(NONE));
    let short = json!({"kty": "oct", "k": base64([9; 31])}).to_string();
    assert!(keyset::read(short.as_bytes()).unwrap_err().contains("31 bytes"));
}

#[test]
fn an_elliptic_curve() {
    let random = SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let key = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8.as_ref(), &random).unwrap();
    let (x, y) = key.public_key().as_ref()[1..].split_at(32);
    let tokens = tokens(&[json!({"kty": "EC", "crv": "P-256", "x": base64(x), "y": base64(y)})]);
    let signed = format!("{}.{}", base64(r#"{"alg":"ES256"}"#), base64(claims().to_string()));
    let signature = key.sign(&random, signed.as_bytes()).unwrap();
    let token = format!("{signed}.{}", base64(signature));
    assert_eq!(tokens.verify(&token, Duration::from_secs(NOW)).unwrap().tenant, "shop");
    // r = s = 0 (CVE-2022-21449).
    let token = format!("{signed}.{}", base64([0; 64]));
    assert_eq!(tokens.verify(&token, Duration::from_secs(NOW)), Err(NONE));
}

/// Whether the key verifies what a standard has signed with it.
fn verifies(jwk: &str, algorithm: &str, token: &str) -> bool {
    let keys = keyset::read(jwk.as_bytes()).unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    keys[0].verify(algorithm, signed.as_bytes(), &BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap())
}

#[test]
fn examples_of_the_standards() {
    // RFC 7515, A.1 to A.3, and RFC 8037, A.4.
    let payload =
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let secret = r#"{"kty":"oct","k":"AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow"}"#;
    let hmac = format!(
        "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.{payload}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
    );
    assert!(verifies(secret, "HS256", &hmac));
    let rsa = r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#;
    let signature = "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";
    let signed = format!("eyJhbGciOiJSUzI1NiJ9.{payload}.{signature}");
    assert!(verifies(rsa, "RS256", &signed));
    assert!(!verifies(rsa, "RS512", &signed) && !verifies(rsa, "HS256", &signed));
    let curve = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;
    let signature = "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    assert!(verifies(curve, "ES256", &format!("eyJhbGciOiJFUzI1NiJ9.{payload}.{signature}")));
    let edwards = r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;
    let signed = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert!(verifies(edwards, "EdDSA", signed));
}

/// Public keys in PEM form, and the signatures of `signed by openssl`, all by openssl 3.
const PEM: [(&str, &str, &str); 3] = [
    (
        "RS256",
        "-----BEGIN PUBLIC KEY-----
MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEA+eMqmb4qJhug3Je6Uj7y
eNNhmGg2majUGsrtEl4MpNRSuvIGGWrlidqMggTuRFultfK9RzMAyvotThWFHezv
VbgjHn8BoHuuB91uEvASsvgCQXqvydxeHxerlSqqeN8S3y3zl2KeL6ND7l/ObPlU
9VBWuttVlWEmWTKfFaiZbhlVaysrSbRQYVEziJ3CpnxcYF1VjYyJzy3Ibqnk2wuk
sPL+jcUQoSF3tIaqvqv6QnGXC7OLJgO8MGXYNF4tnSjZKJwW8XiX5A0KKUI4jFC5
LcTb3KU4vHbtjXMDlqyXI45Ao4CxO9xxrBEKCkJl/m3eUW9ZoV/lSIgW+ZVmU3zB
DQIDAQAB
-----END PUBLIC KEY-----",
        "FatrjOcdfmePcPqcYgnW3UTfeNR8IVG78S4rrYZrueMQHOb-lpwYGuheZF0aFuuwLe50HKH_aL-kejLlw60tMuVUWTxXN1G3WInzkEAmIFBbx5j95NROacPE-oS-RjHWw4pI4FDvtjeOV0Pz2Cm2vG0qO8N0aEHyevzfpb3dHw0La_kqyjQz2bzYEg1qGQK75i8Qkrt6tnWjhCo5jYKk_wV49f0xiSxGKcEpcx2_R4c1O6RK7nwCSzJ1QYwM95e9Abrt0BvL35uLsRqF9UfliucVyKZ8451TOstVrbYIBGE-5iZ3INS4MtCHkHDR4NJZoJ97DS3cASGtJZ_syLAnCw",
    ),
    (
        "ES256",
        "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEA4E6rpVU7f3HJMJoT8UawhLkfGBv
IkaUmC2+B/tuYeI84AVigT9E8dw/QL+uElOqW/j7IC7ZrkFhiQu+z0U0Ag==
-----END PUBLIC KEY-----",
        "Zb2pJsjr1s6CfbEwIQjKR4USG7BRcqydFJ46vPr8YbU-xjaNONKsxeR9LGS29jeoiSoHcw9NJGARG5W0tLtXcg",
    ),
    (
        "EdDSA",
        "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAy2xRld1mprtBILVG1kI6YkDRYa1vWYXPvSZ7Hzw1/hY=
-----END PUBLIC KEY-----",
        "vVTHLxp7R9x93sr9jn1_DSZUGf3LNa4V06h7QLm0jKsqM4AB-0p18uOOh2rjShf1AzGw2kTymsEgerVE19aMAg",
    ),
];

#[test]
fn keys_in_pem_form() {
    let all: String = PEM.iter().map(|(_, pem, _)| format!("{pem}\n")).collect();
    let keys = keyset::read(all.as_bytes()).unwrap();
    assert_eq!(keys.len(), 3);
    for (algorithm, _, signature) in PEM {
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let by =
            |message: &[u8]| keys.iter().filter(|key| key.verify(algorithm, message, &signature)).count();
        assert_eq!((by(b"signed by openssl"), by(b"signed by others")), (1, 0), "{algorithm}");
    }
    // No public key is a secret.
    assert!(!keys.iter().any(|key| key.is_for("HS256") || key.is_for("none")));
    assert!(keyset::read(b"").is_err() && keyset::read(b"no key").is_err());
}

#[test]
fn files_of_keys() {
    let wrong = |text: &str| keyset::read(text.as_bytes()).unwrap_err();
    assert!(wrong(r#"{"keys": []}"#).contains("no key"));
    assert!(wrong(r#"{"keys": [{"kty": "quantum"}]}"#).contains("no key"));
    assert!(wrong(r#"{"kty": "RSA", "n": "AQAB", "e": "AQAB", "d": "AQAB"}"#).contains("private"));
    assert!(wrong(r#"{"kty": "RSA", "n": "AQAB"}"#).contains("lacks a part"));
    assert!(wrong(r#"{"kty": "EC", "crv": "P-256", "x": "AQAB", "y": "AQAB"}"#).contains("32 bytes"));
    assert!(wrong(r#"{"kty": "RSA", "use": "enc", "n": "AQAB", "e": "AQAB"}"#).contains("no key"));
}
