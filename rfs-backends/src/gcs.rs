//! Google Cloud Storage.

use crate::{
    Store, StoreError, StoreOptions,
    answer::Connector,
    platform::{Platform, finish, no_retries},
    url::name_and_prefix,
};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};

const GCS: Platform = Platform {
    prefixes: &["google_"],
    aliases: &[("base_url", "endpoint"), ("service_account_path", "service_account")],
    credential: &[
        ("service_account", &["GOOGLE_SERVICE_ACCOUNT", "GOOGLE_SERVICE_ACCOUNT_PATH"]),
        ("service_account_key", &["GOOGLE_SERVICE_ACCOUNT_KEY"]),
        ("application_credentials", &["GOOGLE_APPLICATION_CREDENTIALS"]),
        ("bearer_token", &["GOOGLE_BEARER_TOKEN"]),
    ],
    others: &[("endpoint", &["GOOGLE_BASE_URL"]), ("allow_http", &["GOOGLE_ALLOW_HTTP"])],
    has_tags: false,
    labels_parts: true,
};

pub(crate) fn open(url: &str, rest: &str, options: StoreOptions) -> Result<Store, StoreError> {
    let (bucket, prefix) = name_and_prefix(url, rest, "bucket")?;
    let mut settings = GCS.settings(url, &options);
    if settings.get("access_key_id").or(settings.get("secret_access_key")).is_some() {
        let detail = "a key of two halves opens no gs:// store: set StoreOptions::with_platform(\
                      \"service_account\", FILE) or GOOGLE_SERVICE_ACCOUNT";
        return Err(StoreError::bad_url(url, detail));
    }
    let (client, labels) = (settings.client(&options)?, settings.labels()?);
    settings.rename("endpoint", "base_url");
    let builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .with_client_options(client)
        .with_http_connector(Connector);
    let builder =
        settings.apply(builder, &[GoogleConfigKey::Bucket], GoogleCloudStorageBuilder::with_config)?;
    finish(url, builder.build(), labels, prefix, options)
}
