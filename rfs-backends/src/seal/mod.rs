//! Encrypted stores: every object but the one with the key is sealed, its length and its name are all that shows.
//!
//! An object is sealed in blocks, each of which is authenticated with the object's name, its number and whether it is the
//! last one. So a range is read by whole blocks, and bytes that were changed, moved, cut or put under another name are an
//! error, never data.
//!
//! **Nonces cannot repeat**, whatever crashes, forks or random numbers do: each block is encrypted under a key of its own,
//! which is derived from a salt that is itself a keyed hash of name, number and plaintext (a synthetic initialisation
//! vector, as in RFC 5297 and RFC 8452). The same block sealed again gives the same bytes, and any other block has another
//! key. What that shows is whether a block was written again unchanged under the same name.

mod block;
mod envelope;
mod key;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::{PutMode, path::Path};
use std::ops::Range;

pub use block::Algorithm;
pub(crate) use block::Cipher;
use block::{HEADER_LEN, is_sealed};

use crate::classify::Failure;
use crate::store::Inner;
use crate::{Store, StoreError, StoreErrorKind};

/// The object, beside the superblock, that holds the volume's key, wrapped by the caller's.
const KEY_OBJECT: &str = "encryption";

/// Wraps the key of a volume by one that never leaves a key service.
#[async_trait]
pub trait KeyWrapper: fmt::Debug + Send + Sync {
    /// The key, so that only [`unwrap`](Self::unwrap) tells it: at most 4096 bytes.
    async fn wrap(&self, key: &[u8; 32]) -> Result<Vec<u8>, Box<dyn std::error::Error + Send + Sync>>;
    /// The key that was wrapped.
    async fn unwrap(&self, wrapped: &[u8]) -> Result<[u8; 32], Box<dyn std::error::Error + Send + Sync>>;
}

/// How a store is encrypted, and by whose key. The volume's own key is random and stands, wrapped by this one, beside the
/// superblock; so that this one can be [replaced](Store::rotate_key) without writing anything else again.
///
/// ```
/// use rfs_backends::{Encryption, Store, StoreErrorKind, StoreOptions};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
/// let with = |encryption| StoreOptions::default().with_encryption(encryption);
/// let store = Store::from_url("memory://sealed", with(Encryption::by_key([7; 32])))?;
/// store.put("a", "nobody's business".into()).await?;
/// assert_eq!(store.get_range("a", 0..6).await?, "nobody");
/// let other = Store::from_url("memory://sealed", with(Encryption::by_key([8; 32])))?;
/// assert_eq!(other.get("a").await.unwrap_err().kind(), StoreErrorKind::WrongKey);
/// # Ok::<(), rfs_backends::StoreError>(())
/// # }).unwrap();
/// ```
#[derive(Clone)]
pub struct Encryption {
    algorithm: Algorithm,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Key([u8; 32]),
    Passphrase(Arc<str>),
    Wrapper(Arc<dyn KeyWrapper>),
}

impl Encryption {
    /// The caller's key, of 32 random bytes.
    #[must_use]
    pub fn by_key(key: [u8; 32]) -> Self {
        Self { algorithm: Algorithm::Aes256Gcm, source: Source::Key(key) }
    }

    /// A passphrase, from which the key is derived by Argon2id (RFC 9106) with 64 MiB and three passes: a tenth of a
    /// second and more for each opening, and for each guess.
    #[must_use]
    pub fn by_passphrase(passphrase: &str) -> Self {
        Self { algorithm: Algorithm::Aes256Gcm, source: Source::Passphrase(passphrase.into()) }
    }

    /// A key service.
    #[must_use]
    pub fn by_wrapper(wrapper: Arc<dyn KeyWrapper>) -> Self {
        Self { algorithm: Algorithm::Aes256Gcm, source: Source::Wrapper(wrapper) }
    }

    /// What a new volume is encrypted with (AES-256-GCM). One that is there says so itself.
    #[must_use]
    pub fn with_algorithm(mut self, algorithm: Algorithm) -> Self {
        self.algorithm = algorithm;
        self
    }
}

impl fmt::Debug for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let source = match &self.source {
            Source::Key(_) => "a key",
            Source::Passphrase(_) => "a passphrase",
            Source::Wrapper(_) => "a key service",
        };
        f.debug_struct("Encryption").field("algorithm", &self.algorithm).field("by", &source).finish()
    }
}

impl Store {
    /// Wraps the key of an encrypted volume by another of the caller's: one object is replaced, and who has the old key
    /// does not open the volume any more. Who has seen the volume's own key, or a copy of the object that was replaced,
    /// still can: for that make a new volume.
    ///
    /// # Errors
    /// [`WrongKey`](StoreErrorKind::WrongKey) when this store does not open the volume, or is not encrypted.
    pub async fn rotate_key(&self, new: &Encryption) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let fail = |detail: &str| {
            let failure = Failure::last(StoreErrorKind::WrongKey, detail);
            failure.into_error("replacing the key of", self.url().to_owned())
        };
        let Some(cipher) = inner.cipher(false).await? else { return Err(fail("it is not encrypted")) };
        let object = envelope::wrap(cipher.algorithm(), cipher.key(), &new.source).await;
        let object = object.map_err(|detail| fail(&detail))?;
        let path = inner.path("writing", KEY_OBJECT)?;
        let mut call = inner.call("writing", KEY_OBJECT, object.len() as u64);
        call.run(|limit| inner.attempt_put(&path, object.clone().into(), PutMode::Overwrite, limit)).await
    }
}

impl Inner {
    /// What objects are sealed with; none when the store is not encrypted. The key is read once. One that is not there is
    /// made if `make`.
    pub(crate) async fn cipher(&self, make: bool) -> Result<Option<&Cipher>, StoreError> {
        let Some(encryption) = &self.options.encryption else { return Ok(None) };
        if let Some(cipher) = self.cipher.get() {
            return Ok(Some(cipher));
        }
        let path = self.path("reading", KEY_OBJECT)?;
        let mut call = self.call("reading", KEY_OBJECT, 0);
        let object = match call.run(|limit| self.attempt_get(&path, None, limit)).await {
            Ok(object) => object,
            Err(error) if error.kind() == StoreErrorKind::NotFound && make => {
                self.make_key(&path, encryption).await?
            }
            Err(error) => return Err(error),
        };
        let unwrapped = envelope::unwrap(&object, &encryption.source).await;
        let (algorithm, key) = unwrapped.map_err(|(kind, detail)| call.fail(Failure::last(kind, detail)))?;
        Ok(Some(self.cipher.get_or_init(|| async { Cipher::new(algorithm, key) }).await))
    }

    /// Makes the volume's key, or finds that another made one meanwhile.
    async fn make_key(&self, path: &Path, encryption: &Encryption) -> Result<Bytes, StoreError> {
        let mut call = self.call("creating", KEY_OBJECT, 0);
        let made = async {
            let mut key = [0; 32];
            getrandom::fill(&mut key).map_err(|error| format!("no random numbers: {error}"))?;
            envelope::wrap(encryption.algorithm, &key, &encryption.source).await
        };
        let object: Bytes = match made.await {
            Ok(object) => object.into(),
            Err(detail) => {
                return Err(call.fail(Failure::last(StoreErrorKind::WrongKey, detail)));
            }
        };
        let put =
            call.run(|limit| self.attempt_put(path, object.clone().into(), PutMode::Create, limit)).await;
        if put.is_ok() {
            return Ok(object);
        }
        // It was made by another, or by an attempt whose answer was lost.
        self.call("reading", KEY_OBJECT, 0).run(|limit| self.attempt_get(path, None, limit)).await
    }

    /// The bytes to be put.
    pub(crate) async fn sealed(&self, key: &str, chunks: Vec<Bytes>) -> Result<Vec<Bytes>, StoreError> {
        Ok(match self.cipher(true).await? {
            Some(cipher) => cipher.seal(key, &chunks),
            None => chunks,
        })
    }

    /// The content of a whole object, of the bytes that stand there.
    pub(crate) async fn unsealed(&self, key: &str, stored: Bytes) -> Result<Bytes, StoreError> {
        let wrong = |detail: &str| {
            let failure = Failure::last(StoreErrorKind::WrongKey, detail);
            Err(self.call("reading", key, 0).fail(failure))
        };
        let Some(cipher) = self.cipher(false).await? else {
            return if is_sealed(&stored) {
                wrong("it is encrypted, and no key was given")
            } else {
                Ok(stored)
            };
        };
        if !is_sealed(&stored) {
            return wrong("it is not encrypted, though a key was given");
        }
        let opened = cipher.open(key, stored.get(HEADER_LEN..).unwrap_or_default(), 0, true);
        opened.map_err(|detail| self.damaged(key, &detail))
    }

    /// As [`Inner::unsealed`], of an object that is damaged: zeros stand for the blocks that do not open.
    pub(crate) async fn salvage_unsealed(&self, key: &str, stored: Bytes) -> Result<Bytes, StoreError> {
        match self.cipher(false).await? {
            Some(cipher) => Ok(cipher.salvage(key, stored.get(HEADER_LEN..).unwrap_or_default())),
            None => self.unsealed(key, stored).await,
        }
    }

    /// Which bytes of the stored object the bytes of its content are in: of all blocks that they touch.
    pub(crate) fn sealed_range(range: &Range<u64>) -> Range<u64> {
        block::stored_range(range)
    }

    /// The bytes of a range, of the stored bytes of the blocks that they are in.
    pub(crate) fn unsealed_range(
        &self,
        cipher: &Cipher,
        key: &str,
        range: &Range<u64>,
        stored: &[u8],
    ) -> Result<Bytes, StoreError> {
        let first = block::block_of(range.start);
        let opened = cipher.open(key, stored, first, false).map_err(|detail| self.damaged(key, &detail))?;
        let skip = usize::try_from(range.start - block::start_of(first)).unwrap_or(usize::MAX);
        let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        skip.checked_add(len).filter(|end| *end <= opened.len()).map_or_else(
            || {
                let have = block::start_of(first) + opened.len() as u64;
                let detail = format!("bytes {}..{} of an object of {have} bytes", range.start, range.end);
                Err(self.call("reading", key, 0).fail(Failure::last(StoreErrorKind::Truncated, detail)))
            },
            |end| Ok(opened.slice(skip..end)),
        )
    }

    /// What the first blocks of an object hold.
    pub(crate) fn unsealed_beginning(
        &self,
        cipher: &Cipher,
        key: &str,
        stored: &[u8],
    ) -> Result<Bytes, StoreError> {
        cipher.open(key, stored, 0, false).map_err(|detail| self.damaged(key, &detail))
    }

    /// How many bytes the content of an object has whose stored form has so many.
    pub(crate) fn content_len(&self, key: &str, stored: u64) -> u64 {
        let is_plain = self.options.encryption.is_none() || key == KEY_OBJECT;
        if is_plain { stored } else { block::content_len(stored) }
    }

    pub(crate) fn damaged(&self, key: &str, detail: &str) -> StoreError {
        let failure = Failure::last(StoreErrorKind::Damaged, detail);
        self.call("reading", key, 0).fail(failure)
    }
}
