//! S3, and what speaks its protocol.

use crate::{
    Store, StoreError, StoreOptions,
    answer::Connector,
    platform::{Platform, finish, no_retries},
    url::name_and_prefix,
};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};

const S3: Platform = Platform {
    prefixes: &["aws_"],
    aliases: &[("endpoint_url", "endpoint"), ("endpoint_url_s3", "endpoint"), ("token", "session_token")],
    credential: &[
        ("access_key_id", &["AWS_ACCESS_KEY_ID"]),
        ("secret_access_key", &["AWS_SECRET_ACCESS_KEY"]),
        ("session_token", &["AWS_SESSION_TOKEN"]),
    ],
    others: &[
        ("endpoint", &["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"]),
        ("region", &["AWS_REGION", "AWS_DEFAULT_REGION"]),
        ("allow_http", &["AWS_ALLOW_HTTP"]),
        ("ca_file", &["AWS_CA_BUNDLE"]),
    ],
    has_tags: true,
    labels_parts: true,
};

pub(crate) fn open(url: &str, rest: &str, options: StoreOptions) -> Result<Store, StoreError> {
    let (bucket, prefix) = name_and_prefix(url, rest, "bucket")?;
    let mut settings = S3.settings(url, &options);
    let (client, labels) = (settings.client(&options)?, settings.labels()?);
    let builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_retry(no_retries())
        .with_client_options(client)
        .with_http_connector(Connector)
        // One object at a time is deleted: the request that every server has.
        .with_disable_bulk_delete(true);
    let builder = settings.apply(builder, &[AmazonS3ConfigKey::Bucket], AmazonS3Builder::with_config)?;
    finish(url, builder.build(), labels, prefix, options)
}
