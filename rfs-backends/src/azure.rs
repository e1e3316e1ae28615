//! Azure Blob Storage.

use crate::{
    Store, StoreError, StoreOptions,
    answer::Connector,
    platform::{Platform, finish, no_retries},
    url::name_and_prefix,
};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

const AZURE: Platform = Platform {
    prefixes: &["azure_storage_", "azure_"],
    aliases: &[
        ("access_key_id", "account_name"),
        ("account", "account_name"),
        ("secret_access_key", "account_key"),
        ("access_key", "account_key"),
        ("key", "account_key"),
        ("master_key", "account_key"),
        ("sas_key", "sas_token"),
        ("token", "bearer_token"),
        ("authority_id", "tenant_id"),
        ("identity_endpoint", "msi_endpoint"),
    ],
    credential: &[
        ("account_key", &["AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_KEY"]),
        ("sas_token", &["AZURE_STORAGE_SAS_TOKEN"]),
        ("bearer_token", &["AZURE_STORAGE_TOKEN"]),
        ("client_id", &["AZURE_CLIENT_ID"]),
        ("client_secret", &["AZURE_CLIENT_SECRET"]),
        ("tenant_id", &["AZURE_TENANT_ID"]),
        ("federated_token_file", &["AZURE_FEDERATED_TOKEN_FILE"]),
        ("authority_host", &["AZURE_AUTHORITY_HOST"]),
        ("msi_endpoint", &["IDENTITY_ENDPOINT"]),
        ("use_azure_cli", &["AZURE_USE_AZURE_CLI"]),
    ],
    others: &[
        ("account_name", &["AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"]),
        ("endpoint", &["AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"]),
        ("allow_http", &["AZURE_ALLOW_HTTP"]),
    ],
    has_tags: true,
    // They are given where the parts are put together, which it asks for without.
    labels_parts: false,
};

pub(crate) fn open(url: &str, rest: &str, options: StoreOptions) -> Result<Store, StoreError> {
    let (container, prefix) = name_and_prefix(url, rest, "container")?;
    let mut settings = AZURE.settings(url, &options);
    if settings.get("account_name").is_none() {
        let detail = "the storage account is not said: set StoreOptions::with_access_key_id or \
                      AZURE_STORAGE_ACCOUNT_NAME";
        return Err(StoreError::bad_url(url, detail));
    }
    let (client, labels) = (settings.client(&options)?, settings.labels()?);
    let builder = MicrosoftAzureBuilder::new()
        .with_container_name(container)
        .with_retry(no_retries())
        .with_client_options(client)
        .with_http_connector(Connector);
    let builder =
        settings.apply(builder, &[AzureConfigKey::ContainerName], MicrosoftAzureBuilder::with_config)?;
    finish(url, builder.build(), labels, prefix, options)
}
