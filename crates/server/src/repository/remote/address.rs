//! `Address`: where a repository is, as its URL says, and what there is to do when it does not answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientConfigKey, Error, ObjectStore, RetryConfig};

use crate::{Failure, Reason};

/// The forms of URLs.
const FORMS: &str = "s3://BUCKET/PREFIX, s3://https://HOST:PORT/BUCKET/PREFIX, gs://BUCKET/PREFIX, as://ACCOUNT/CONTAINER/PREFIX or file:///FOLDER";

/// How often a question is asked again, and for how long; what is asked in vain is asked anew with the next look.
const RETRIES: usize = 5;
const RETRYING: Duration = Duration::from_secs(60);

/// How long a store may send nothing, and how long one answer may take: models have gigabytes.
const SILENCE: &str = "30 seconds";
const ANSWER: &str = "1 day";

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    kind: Kind,
    /// The bucket or container, with its scheme, as errors name it.
    root: String,
    prefix: Path,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    S3 { endpoint: Option<String>, bucket: String },
    Google { bucket: String },
    Azure { account: String, container: String },
    Files { folder: String },
}

impl Address {
    /// The address that a URL says.
    pub(super) fn parse(url: &str) -> Result<Address, Failure> {
        let wrong =
            |what: &str| Failure::invalid(format!("{url}: {what}; a repository is a folder, {FORMS}"));
        let (scheme, rest) = url.split_once("://").ok_or_else(|| wrong("this is no URL"))?;
        // Who reads the log would see what is said there.
        if url.contains(['@', '?', '#']) {
            let text = format!(
                "the URL of a repository has no '@', '?' and '#': credentials are taken from the environment alone; write {FORMS}"
            );
            return Err(Failure::invalid(text));
        }
        let (kind, root, prefix) = match scheme {
            "s3" => {
                let (endpoint, place) = match rest.split_once("://") {
                    Some((scheme @ ("http" | "https"), rest)) => {
                        let (host, place) = rest.split_once('/').unwrap_or((rest, ""));
                        (Some((scheme, host)), place)
                    }
                    Some(_) => return Err(wrong("the endpoint is neither http:// nor https://")),
                    // As Triton has it: a port, and no TLS.
                    None => match rest.split_once('/') {
                        Some((host, place)) if host.contains(':') => (Some(("http", host)), place),
                        _ => (None, rest),
                    },
                };
                if endpoint.is_some_and(|(_, host)| host.is_empty()) {
                    return Err(wrong("the endpoint has no host"));
                }
                let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
                let endpoint = endpoint.map(|(scheme, host)| format!("{scheme}://{host}"));
                let root = match &endpoint {
                    Some(endpoint) => format!("s3://{endpoint}/{bucket}"),
                    None => format!("s3://{bucket}"),
                };
                (Kind::S3 { endpoint, bucket: bucket.into() }, root, prefix)
            }
            "gs" => {
                let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
                (Kind::Google { bucket: bucket.into() }, format!("gs://{bucket}"), prefix)
            }
            "as" => {
                let (account, place) = rest.split_once('/').unwrap_or((rest, ""));
                let (container, prefix) = place.split_once('/').unwrap_or((place, ""));
                let kind = Kind::Azure { account: account.into(), container: container.into() };
                (kind, format!("as://{account}/{container}"), prefix)
            }
            "file" => (Kind::Files { folder: rest.into() }, url.trim_end_matches('/').into(), ""),
            _ => return Err(wrong(&format!("there are no repositories at '{scheme}://'"))),
        };
        match &kind {
            Kind::S3 { bucket, .. } | Kind::Google { bucket } if !is_name(bucket) => {
                return Err(wrong("the bucket is missing, or has letters that no bucket has"));
            }
            Kind::Azure { account, container } if !is_name(account) || !is_name(container) => {
                return Err(wrong("the account or the container is missing, or has letters that none has"));
            }
            Kind::Files { folder } if !folder.starts_with('/') => {
                return Err(wrong("the folder's path does not begin with '/'"));
            }
            _ => {}
        }
        let prefix = Path::parse(prefix).map_err(|error| wrong(&error.to_string()))?;
        Ok(Address { kind, root, prefix })
    }

    /// The path of all objects of the repository.
    pub(super) fn prefix(&self) -> &Path {
        &self.prefix
    }

    /// How an object is named in errors.
    pub(super) fn named(&self, object: &str) -> String {
        match (self.prefix.as_ref(), object) {
            ("", "") => self.root.clone(),
            ("", object) => format!("{}/{object}", self.root),
            (prefix, "") => format!("{}/{prefix}", self.root),
            (prefix, object) => format!("{}/{prefix}/{object}", self.root),
        }
    }

    /// The store, with the credentials and the settings of the environment.
    pub(super) fn store(&self) -> Result<Arc<dyn ObjectStore>, Failure> {
        // Without a choice, the client of HTTP panics. A program that has chosen keeps what it has.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let retry = RetryConfig { max_retries: RETRIES, retry_timeout: RETRYING, ..RetryConfig::default() };
        let times = [(ClientConfigKey::ReadTimeout, SILENCE), (ClientConfigKey::Timeout, ANSWER)];
        let store: Result<Arc<dyn ObjectStore>, Error> = match &self.kind {
            Kind::S3 { endpoint, bucket } => {
                let mut builder =
                    times.into_iter().fold(AmazonS3Builder::from_env(), |builder, (key, value)| {
                        builder.with_config(AmazonS3ConfigKey::Client(key), value)
                    });
                if let Some(endpoint) = endpoint {
                    // A variable of the environment for S3 alone would win against the URL.
                    builder = builder
                        .with_config(AmazonS3ConfigKey::S3Endpoint, endpoint)
                        .with_endpoint(endpoint)
                        .with_allow_http(endpoint.starts_with("http://"));
                }
                let builder = builder.with_bucket_name(bucket).with_retry(retry);
                builder.build().map(|store| Arc::new(store) as _)
            }
            Kind::Google { bucket } => {
                let builder =
                    times.into_iter().fold(GoogleCloudStorageBuilder::from_env(), |builder, (key, value)| {
                        builder.with_config(GoogleConfigKey::Client(key), value)
                    });
                builder.with_bucket_name(bucket).with_retry(retry).build().map(|store| Arc::new(store) as _)
            }
            Kind::Azure { account, container } => {
                let builder =
                    times.into_iter().fold(MicrosoftAzureBuilder::from_env(), |builder, (key, value)| {
                        builder.with_config(AzureConfigKey::Client(key), value)
                    });
                let builder = builder.with_account(account).with_container_name(container).with_retry(retry);
                builder.build().map(|store| Arc::new(store) as _)
            }
            Kind::Files { folder } => {
                LocalFileSystem::new_with_prefix(folder).map(|store| Arc::new(store) as _)
            }
        };
        store.map_err(|error| self.failure("", &error))
    }

    /// Refuses a folder that is not there: a listing takes it for one without objects, as a disk that is not mounted would be.
    pub(super) fn check(&self) -> Result<(), Failure> {
        match &self.kind {
            Kind::Files { folder } if !std::path::Path::new(folder).is_dir() => Err(Failure::new(
                Reason::Unavailable,
                format!("{self}: there is no such folder; see that the disk is mounted"),
            )),
            _ => Ok(()),
        }
    }

    /// Why something of an object, or of the whole repository, cannot be had, and what to do.
    pub(super) fn failure(&self, object: &str, error: &Error) -> Failure {
        let variables = match &self.kind {
            Kind::S3 { .. } => "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, AWS_REGION",
            Kind::Google { .. } => "GOOGLE_APPLICATION_CREDENTIALS or GOOGLE_SERVICE_ACCOUNT",
            Kind::Azure { .. } => "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN",
            Kind::Files { .. } => "none",
        };
        const NOT_FOUND: &str =
            "see that the bucket and the prefix are right, and the region and the endpoint too";
        let refused =
            || format!("set credentials that may list and read it ({variables}) before the server starts");
        let mut text = error.to_string();
        // What an error of HTTP leaves out: that nobody listens, or whose certificate is unknown.
        let mut cause: &dyn std::error::Error = error;
        while let Some(next) = cause.source() {
            cause = next;
        }
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        let text = without_queries(&text);
        // Listings have no errors of their own kinds.
        let answered =
            |codes: &[u16]| codes.iter().any(|code| text.contains(&format!("status code: {code} ")));
        let advice = match (error, &self.kind) {
            (Error::Precondition { .. } | Error::NotModified { .. }, _) => {
                "it changed while it was read; load the model again when its files are complete".to_string()
            }
            (Error::InvalidPath { .. }, _) => {
                "remove the object: a key has no empty part, no '.' and no '..'".to_string()
            }
            (_, Kind::Files { .. }) => "see that the folder is there and can be read".to_string(),
            (Error::NotFound { .. }, _) => NOT_FOUND.to_string(),
            _ if answered(&[404]) => NOT_FOUND.to_string(),
            (Error::PermissionDenied { .. } | Error::Unauthenticated { .. }, _) => refused(),
            _ if answered(&[401, 403]) => refused(),
            _ => format!("see that the endpoint can be reached, and the credentials are set ({variables})"),
        };
        Failure::new(Reason::Unavailable, format!("{}: {text}; {advice}", self.named(object)))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.named(""))
    }
}

/// Whether a text can be a bucket, a container or an account.
fn is_name(text: &str) -> bool {
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=255).contains(&text.len()) && text.bytes().all(letter) && !text.contains("..")
}

/// A text without the queries of the URLs in it: they may have signatures.
fn without_queries(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('?') {
        kept.push_str(before);
        let is_url =
            before.rsplit(|c: char| c.is_whitespace()).next().is_some_and(|word| word.contains("://"));
        rest = match (is_url, after.find(|c: char| c.is_whitespace() || matches!(c, '"' | ')' | ',' | '>'))) {
            (true, Some(end)) => &after[end..],
            (true, None) => "",
            (false, _) => {
                kept.push('?');
                after
            }
        };
    }
    kept.push_str(rest);
    kept
}

#[cfg(test)]
mod tests {
    use super::{Address, without_queries};

    #[test]
    fn urls_say_where_a_repository_is() {
        for (url, named, prefix) in [
            ("s3://models", "s3://models/x", ""),
            ("s3://models/", "s3://models/x", ""),
            ("s3://models/of/cats/", "s3://models/of/cats/x", "of/cats"),
            ("s3://https://minio:9000/models/a", "s3://https://minio:9000/models/a/x", "a"),
            ("s3://minio:9000/models/a", "s3://http://minio:9000/models/a/x", "a"),
            ("gs://models/a/b", "gs://models/a/b/x", "a/b"),
            ("as://account/models/a", "as://account/models/a/x", "a"),
            ("file:///srv/models/", "file:///srv/models/x", ""),
        ] {
            let address = Address::parse(url).unwrap_or_else(|failure| panic!("{failure}"));
            assert_eq!((address.named("x").as_str(), address.prefix().as_ref()), (named, prefix), "{url}");
        }
        for (url, part) in [
            ("s3://", "the bucket is missing"),
            ("s3:///models", "the bucket is missing"),
            ("s3://a b/c", "letters that no bucket has"),
            ("s3://ftp://host/bucket", "neither http:// nor https://"),
            ("s3://https:///bucket", "no host"),
            ("s3://https://host", "the bucket is missing"),
            ("s3://bucket/a/../b", ".."),
            ("as://account", "the container is missing"),
            ("file://srv", "begin with '/'"),
            ("hdfs://host/models", "no repositories at 'hdfs://'"),
        ] {
            let text = Address::parse(url).unwrap_err().text;
            assert!(text.starts_with(url) && text.contains(part) && text.contains("gs://BUCKET"), "{text}");
        }
        for url in ["s3://https://me:secret@host/bucket", "s3://bucket/a?token=secret", "as://a/b#secret"] {
            let text = Address::parse(url).unwrap_err().text;
            assert!(text.contains("from the environment") && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn errors_tell_no_signatures() {
        let text = "error for url (https://a.net/c/x?sig=secret&se=1): what? GET http://b/?k=secret";
        assert_eq!(without_queries(text), "error for url (https://a.net/c/x): what? GET http://b/");
    }
}
