//! What the stores behind an HTTP client share: where their settings come from, and how the client is made.

use crate::{
    Store, StoreError, StoreErrorKind, StoreOptions,
    labelled::{Labelled, Labels},
};
use object_store::{
    Certificate, ClientOptions, ObjectStore, RetryConfig, TagSet, multipart::MultipartStore, path::Path,
};
use std::{collections::BTreeMap, env, fs::File, io::Read, sync::Arc, time::Duration};

/// A setting's name, and the variables that complete it, the first that is set.
pub(crate) type Completed = (&'static str, &'static [&'static str]);

/// How a platform's settings are called.
pub(crate) struct Platform {
    /// What may stand before a name.
    pub(crate) prefixes: &'static [&'static str],
    /// Other names of a setting, each with the one that it has here.
    pub(crate) aliases: &'static [(&'static str, &'static str)],
    /// The settings that make up a credential. It comes whole from one side: a key from here with a session token from
    /// there would be refused as a forgery.
    pub(crate) credential: &'static [Completed],
    /// The further ones that the environment completes. The first of a variable of `allow_http` is named in errors.
    pub(crate) others: &'static [Completed],
    /// Whether its objects can have tags.
    pub(crate) has_tags: bool,
    /// Whether `object_store` lets an upload whose parts can be sent again have a storage class and tags.
    pub(crate) labels_parts: bool,
}

/// The settings of one store, as far as they are not used up.
pub(crate) struct Settings<'a> {
    platform: &'a Platform,
    url: &'a str,
    values: BTreeMap<String, String>,
}

/// Our own settings, which the builders do not know.
const OURS: [&str; 3] = ["allow_http", "ca_file", "storage_class"];

/// What a tag's name follows.
const TAG: &str = "tag:";

/// No bundle of certificates is larger, in bytes.
const LARGEST_BUNDLE: u64 = 4 << 20;

/// How long a connection may take to be made, unless it is said.
const CONNECT: Duration = Duration::from_secs(5);

/// What `allow_http` and the like may be.
const TRUE: [&str; 4] = ["true", "1", "yes", "on"];
const FALSE: [&str; 5] = ["false", "0", "no", "off", ""];

impl Platform {
    /// The explicit settings, completed from the environment.
    pub(crate) fn settings<'a>(&'a self, url: &'a str, options: &StoreOptions) -> Settings<'a> {
        let values = self.complete(&options.platform, |name| env::var(name).ok());
        Settings { platform: self, url, values }
    }

    fn complete(
        &self,
        explicit: &BTreeMap<String, String>,
        environment: impl Fn(&str) -> Option<String>,
    ) -> BTreeMap<String, String> {
        let given = |variables: &[&str]| {
            variables.iter().find_map(|variable| environment(variable).filter(|value| !value.is_empty()))
        };
        let mut values: BTreeMap<_, _> =
            explicit.iter().map(|(name, value)| (self.canonical(name), value.clone())).collect();
        let mut completed = self.others.to_vec();
        if !self.credential.iter().any(|(name, _)| values.contains_key(*name)) {
            completed.extend_from_slice(self.credential);
        }
        for (name, variables) in completed {
            if !values.contains_key(name)
                && let Some(value) = given(variables)
            {
                values.insert(name.to_owned(), value);
            }
        }
        values
    }

    /// One name per setting, whether it was written as `aws_region` or `region`.
    fn canonical(&self, name: &str) -> String {
        // A tag is called what its owner calls it.
        if name.starts_with(TAG) {
            return name.to_owned();
        }
        let name = name.to_ascii_lowercase();
        let short = self.prefixes.iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(&name);
        if let Some((_, known)) = self.aliases.iter().find(|(alias, _)| *alias == short) {
            return (*known).to_owned();
        }
        let known = self.credential.iter().chain(self.others).any(|(known, _)| *known == short);
        if known || OURS.contains(&short) { short.to_owned() } else { name }
    }
}

impl Settings<'_> {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// Takes out what concerns the HTTP client, and refuses an endpoint without TLS that nobody allowed.
    pub(crate) fn client(&mut self, options: &StoreOptions) -> Result<ClientOptions, StoreError> {
        let allow_http = self.take_flag("allow_http")?;
        let endpoint = self.get("endpoint").unwrap_or(self.url);
        if endpoint.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("http://")) && !allow_http {
            let variable = self.platform.others.iter().find(|(name, _)| *name == "allow_http");
            let or = variable.and_then(|(_, names)| names.first());
            let or = or.map(|variable| format!(" or {variable}")).unwrap_or_default();
            return Err(
                self.refuse(format!("the endpoint is plain HTTP: set StoreOptions::with_allow_http{or}"))
            );
        }
        let mut client = ClientOptions::new()
            .with_allow_http(allow_http)
            .with_connect_timeout(options.attempt_timeout.min(CONNECT))
            // Each attempt is timed by us, by its size.
            .with_timeout_disabled();
        if let Some(file) = self.values.remove("ca_file") {
            for certificate in self.certificates(&file)? {
                client = client.with_root_certificate(certificate);
            }
        }
        Ok(client)
    }

    /// Takes out storage class and tags.
    pub(crate) fn labels(&mut self) -> Result<Labels, StoreError> {
        let storage_class = self.values.remove("storage_class");
        let names: Vec<String> = self.values.keys().filter(|name| name.starts_with(TAG)).cloned().collect();
        let mut tags = None;
        for name in names {
            if !self.platform.has_tags {
                return Err(self.refuse("objects of this platform have no tags"));
            }
            let value = self.values.remove(&name).unwrap_or_default();
            tags.get_or_insert_with(TagSet::default).push(name.trim_start_matches(TAG), &value);
        }
        Ok(Labels { storage_class, tags, in_parts: self.platform.labels_parts })
    }

    /// Hands each remaining setting to the platform's builder, by the builder's own key.
    ///
    /// `named_by_url` are the keys that the URL decides.
    pub(crate) fn apply<B, K>(
        self,
        mut builder: B,
        named_by_url: &[K],
        with: impl Fn(B, K, String) -> B,
    ) -> Result<B, StoreError>
    where
        K: std::str::FromStr + PartialEq,
    {
        let (url, values) = (self.url, self.values);
        for (name, value) in values {
            let Ok(key) = name.parse::<K>() else {
                return Err(StoreError::bad_url(url, format!("unknown setting {name:?}")));
            };
            if named_by_url.contains(&key) {
                return Err(StoreError::bad_url(url, format!("the URL decides what {name:?} is to")));
            }
            builder = with(builder, key, value);
        }
        Ok(builder)
    }

    #[cfg(feature = "gcs")]
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if let Some(value) = self.values.remove(from) {
            self.values.insert(to.to_owned(), value);
        }
    }

    fn refuse(&self, detail: impl AsRef<str>) -> StoreError {
        StoreError::bad_url(self.url, detail)
    }

    fn take_flag(&mut self, name: &str) -> Result<bool, StoreError> {
        let Some(value) = self.values.remove(name) else { return Ok(false) };
        match value.to_ascii_lowercase().as_str() {
            yes if TRUE.contains(&yes) => Ok(true),
            no if FALSE.contains(&no) => Ok(false),
            _ => Err(self.refuse(format!("{name} is neither true nor false"))),
        }
    }

    fn certificates(&self, file: &str) -> Result<Vec<Certificate>, StoreError> {
        let cannot = |why: String| self.refuse(format!("the certificates in ca_file {file:?}: {why}"));
        let mut bundle = Vec::new();
        File::open(file)
            .and_then(|opened| opened.take(LARGEST_BUNDLE + 1).read_to_end(&mut bundle))
            .map_err(|error| cannot(error.to_string()))?;
        if bundle.len() as u64 > LARGEST_BUNDLE {
            return Err(cannot(format!("over {LARGEST_BUNDLE} bytes")));
        }
        let certificates =
            Certificate::from_pem_bundle(&bundle).map_err(|error| cannot(error.to_string()))?;
        if certificates.is_empty() { Err(cannot("there is none".to_owned())) } else { Ok(certificates) }
    }
}

/// The client below retries nothing: that is [`Store`]'s.
pub(crate) fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// The store over what a builder made.
pub(crate) fn finish<S: ObjectStore + MultipartStore>(
    url: &str,
    built: object_store::Result<S>,
    labels: Labels,
    prefix: Path,
    options: StoreOptions,
) -> Result<Store, StoreError> {
    let backend = accepted(url, built)?;
    if labels.is_empty() {
        let backend = Arc::new(backend);
        return Ok(Store::new(Arc::<S>::clone(&backend), url, prefix, options).with_multipart(backend));
    }
    let in_parts = labels.in_parts;
    let backend = Arc::new(Labelled::new(backend, labels));
    let store = Store::new(Arc::<Labelled<S>>::clone(&backend), url, prefix, options);
    Ok(if in_parts { store.with_multipart(backend) } else { store })
}

/// The backend, if its settings were in order.
pub(crate) fn accepted<S>(url: &str, built: object_store::Result<S>) -> Result<S, StoreError> {
    built.map_err(|error| {
        StoreError::new(StoreErrorKind::BadUrl, "opening", url, error.to_string(), Some(error.into()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLATFORM: Platform = Platform {
        prefixes: &["aws_"],
        aliases: &[("endpoint_url", "endpoint"), ("token", "session_token")],
        credential: &[
            ("access_key_id", &["AWS_ACCESS_KEY_ID"]),
            ("secret_access_key", &["AWS_SECRET_ACCESS_KEY"]),
            ("session_token", &["AWS_SESSION_TOKEN"]),
        ],
        others: &[
            ("endpoint", &["AWS_ENDPOINT_URL", "AWS_ENDPOINT"]),
            ("region", &["AWS_REGION"]),
            ("allow_http", &["AWS_ALLOW_HTTP"]),
        ],
        has_tags: false,
        labels_parts: false,
    };

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
        PLATFORM.complete(&explicit, |name| {
            ENVIRONMENT.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn settings(explicit: &[(&str, &str)]) -> Settings<'static> {
        let explicit = explicit.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let values = PLATFORM.complete(&explicit.collect(), |_| None);
        Settings { platform: &PLATFORM, url: "s3://bucket", values }
    }

    #[test]
    fn the_environment_completes_what_is_not_explicit() {
        let settings = resolve(&[("aws_region", "us-east-1")]);
        assert_eq!(settings["region"], "us-east-1");
        assert_eq!(settings["endpoint"], "http://127.0.0.1:1");
        assert_eq!(settings["session_token"], "env-token");
        assert!(!settings.contains_key("allow_http"));
        assert_eq!(resolve(&[("AWS_Endpoint_URL", "https://there")])["endpoint"], "https://there");
    }

    #[test]
    fn a_credential_is_never_mixed() {
        let settings = resolve(&[("access_key_id", "mine"), ("secret_access_key", "my secret")]);
        assert_eq!(settings["access_key_id"], "mine");
        assert!(!settings.contains_key("session_token"));
        assert!(!resolve(&[("token", "mine")]).contains_key("access_key_id"));
    }

    #[test]
    fn plain_http_has_to_be_allowed() {
        let options = StoreOptions::default();
        let refused = |settings: &[(&str, &str)]| {
            self::settings(settings).client(&options).expect_err("refused").to_string()
        };
        let plain = refused(&[("endpoint", "HTTP://127.0.0.1:1")]);
        assert!(plain.contains("with_allow_http or AWS_ALLOW_HTTP"), "{plain}");
        assert!(refused(&[("allow_http", "perhaps")]).contains("neither true nor false"));
        assert!(
            settings(&[("endpoint", "http://127.0.0.1:1"), ("allow_http", "YES")]).client(&options).is_ok()
        );
        assert!(settings(&[("endpoint", "https://127.0.0.1:1")]).client(&options).is_ok());
    }

    #[test]
    fn certificates_come_from_a_file_of_them() {
        let dir = tempfile::tempdir().expect("made");
        let file = dir.path().join("ca.pem");
        let refused = || {
            let named = file.to_string_lossy().into_owned();
            let mut settings = settings(&[("ca_file", &named)]);
            settings.client(&StoreOptions::default()).expect_err("refused").to_string()
        };
        assert!(refused().contains("No such file"), "{}", refused());
        std::fs::write(&file, "").expect("written");
        assert!(refused().contains("there is none"), "{}", refused());
        File::create(&file).and_then(|file| file.set_len(LARGEST_BUNDLE + 1)).expect("written");
        assert!(refused().contains("over 4194304 bytes"), "{}", refused());
    }

    #[test]
    fn tags_keep_their_names_and_need_a_platform_that_has_them() {
        let tagged = [("tag:Team", "a b"), ("storage_class", "STANDARD_IA")];
        let refused = settings(&tagged).labels().expect_err("refused").to_string();
        assert!(refused.contains("no tags"), "{refused}");
        let platform = Platform { has_tags: true, ..PLATFORM };
        let mut tagged = Settings { platform: &platform, ..settings(&tagged) };
        let labels = tagged.labels().expect("accepted");
        assert_eq!(labels.storage_class.as_deref(), Some("STANDARD_IA"));
        assert_eq!(labels.tags.expect("given").encoded(), "Team=a+b");
        assert!(tagged.values.is_empty());
        assert!(settings(&[]).labels().expect("accepted").is_empty());
    }
}
