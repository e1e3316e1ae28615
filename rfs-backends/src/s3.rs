//! S3, and what speaks its protocol.

use crate::{Store, StoreError, StoreErrorKind, StoreOptions, s3_answer::Connector, url::name_and_prefix};
use object_store::{
    ClientOptions, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
};
use std::{collections::BTreeMap, env, sync::Arc, time::Duration};

pub(crate) fn open(url: &str, rest: &str, options: StoreOptions) -> Result<Store, StoreError> {
    let (bucket, prefix) = name_and_prefix(url, rest, "bucket")?;
    let settings = settings(&options.platform, |name| env::var(name).ok());
    let plain_http = settings.get("endpoint").is_some_and(|endpoint| endpoint.starts_with("http://"));
    let allow_http = match settings.get("allow_http").map(|text| text.to_ascii_lowercase()).as_deref() {
        Some("true" | "1" | "yes" | "on") => true,
        None | Some("false" | "0" | "no" | "off" | "") => false,
        Some(_) => return Err(StoreError::bad_url(url, "allow_http is neither true nor false")),
    };
    if plain_http && !allow_http {
        let detail = "the endpoint is plain HTTP: set StoreOptions::with_allow_http or AWS_ALLOW_HTTP";
        return Err(StoreError::bad_url(url, detail));
    }
    let connect = options.attempt_timeout.min(Duration::from_secs(5));
    let client = ClientOptions::new()
        .with_allow_http(allow_http)
        .with_connect_timeout(connect)
        // Each attempt is timed by us, by its size.
        .with_timeout_disabled();
    let retries = RetryConfig { max_retries: 0, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_retry(retries)
        .with_client_options(client)
        .with_http_connector(Connector)
        // One object at a time is deleted: the request that every server has.
        .with_disable_bulk_delete(true);
    for (name, value) in settings.into_iter().filter(|(name, _)| name != "allow_http") {
        let Ok(key) = name.parse::<AmazonS3ConfigKey>() else {
            return Err(StoreError::bad_url(url, format!("unknown setting {name:?}")));
        };
        builder = builder.with_config(key, value);
    }
    let backend = builder.build().map_err(|error| {
        StoreError::new(StoreErrorKind::BadUrl, "opening", url, error.to_string(), Some(error.into()))
    })?;
    Ok(Store::new(Arc::new(backend), url, prefix, options))
}

/// The explicit settings, completed from the environment. A credential comes whole from one side: a key from here
/// with a session token from there would be refused as a forgery.
fn settings(
    explicit: &BTreeMap<String, String>,
    environment: impl Fn(&str) -> Option<String>,
) -> BTreeMap<String, String> {
    const CREDENTIAL: [(&str, &str); 3] = [
        ("access_key_id", "AWS_ACCESS_KEY_ID"),
        ("secret_access_key", "AWS_SECRET_ACCESS_KEY"),
        ("session_token", "AWS_SESSION_TOKEN"),
    ];
    const OTHERS: [(&str, &[&str]); 3] = [
        ("endpoint", &["AWS_ENDPOINT_URL", "AWS_ENDPOINT"]),
        ("region", &["AWS_REGION"]),
        ("allow_http", &["AWS_ALLOW_HTTP"]),
    ];
    let given = |name: &str| environment(name).filter(|value| !value.is_empty());
    let mut settings: BTreeMap<_, _> =
        explicit.iter().map(|(name, value)| (canonical(name), value.clone())).collect();
    for (name, variables) in OTHERS {
        if !settings.contains_key(name)
            && let Some(value) = variables.iter().find_map(|variable| given(variable))
        {
            settings.insert(name.to_owned(), value);
        }
    }
    if !CREDENTIAL.iter().any(|(name, _)| settings.contains_key(*name)) {
        for (name, variable) in CREDENTIAL {
            if let Some(value) = given(variable) {
                settings.insert(name.to_owned(), value);
            }
        }
    }
    settings
}

/// One name per setting, whether it was written as `aws_region` or `region`.
fn canonical(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    match name.strip_prefix("aws_").unwrap_or(&name) {
        "endpoint_url" => "endpoint".to_owned(),
        "token" => "session_token".to_owned(),
        short @ ("endpoint" | "region" | "allow_http" | "access_key_id" | "secret_access_key"
        | "session_token") => short.to_owned(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENVIRONMENT: &[(&str, &str)] = &[
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ENDPOINT", "http://127.0.0.1:2"),
        ("AWS_REGION", "eu-west-1"),
        ("AWS_ACCESS_KEY_ID", "env-key"),
        ("AWS_SECRET_ACCESS_KEY", "env-secret"),
        ("AWS_SESSION_TOKEN", "env-token"),
        ("AWS_ALLOW_HTTP", ""),
    ];

    fn resolve(explicit: &[(&str, &str)]) -> BTreeMap<String, String> {
        let explicit =
            explicit.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        settings(&explicit, |name| {
            ENVIRONMENT.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_completes_what_is_not_explicit() {
        let settings = resolve(&[("aws_region", "us-east-1")]);
        assert_eq!(settings["region"], "us-east-1");
        assert_eq!(settings["endpoint"], "http://127.0.0.1:1");
        assert_eq!(settings["session_token"], "env-token");
        assert!(!settings.contains_key("allow_http"));
    }

    #[test]
    fn a_credential_is_never_mixed() {
        let settings = resolve(&[("access_key_id", "mine"), ("secret_access_key", "my secret")]);
        assert_eq!(settings["access_key_id"], "mine");
        assert!(!settings.contains_key("session_token"));
    }
}
