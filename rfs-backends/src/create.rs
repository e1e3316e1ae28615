//! Creating an object only if it is absent, and finding out whether a store can.

use crate::{
    Store, StoreError, StoreErrorKind, call::Call, classify::Failure, compress::is_compressed, store::Inner,
};
use bytes::Bytes;
use futures::future::join_all;
use object_store::{PutMode, PutPayload, path::Path};

/// Racing creators of one probe key.
const RACERS: u64 = 8;

/// Keys raced for in one probe. A store whose check and write are two steps lets several creators through on most
/// keys, but not on each.
const RACES: u64 = 4;

/// The outcome of [`Store::put_new`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutNew {
    /// The object stands, with the caller's bytes.
    Created,
    /// Another's object stands there, with these bytes. The caller's were not written.
    Exists(Bytes),
}

impl Store {
    /// Creates an object only if it is absent, and says whose bytes stand there.
    ///
    /// `bytes` must be unique to this caller, for instance carry its writer id and a number: when the store says that
    /// the object exists, its bytes are read back, and equal bytes mean that an earlier attempt whose answer was lost
    /// has created it. A put that nothing disturbs is exactly one request.
    ///
    /// ```
    /// use rfs_backends::{PutNew, Store, StoreOptions};
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// let store = Store::from_url("memory://", StoreOptions::default())?;
    /// assert_eq!(store.put_new("commit/7", "by A".into()).await?, PutNew::Created);
    /// assert_eq!(store.put_new("commit/7", "by A".into()).await?, PutNew::Created);
    /// assert_eq!(store.put_new("commit/7", "by B".into()).await?, PutNew::Exists("by A".into()));
    /// # Ok::<(), rfs_backends::StoreError>(())
    /// # }).unwrap();
    /// ```
    ///
    /// # Errors
    /// An error says that the outcome is unknown, never that nothing was written. Call again with the same bytes.
    /// [`NoPutIfAbsent`](StoreErrorKind::NoPutIfAbsent) if the store says that it has no such put; one that silently
    /// ignores the condition is found by [`probe`](Self::probe) only.
    pub async fn put_new(&self, key: &str, bytes: Bytes) -> Result<PutNew, StoreError> {
        let inner = &*self.inner;
        let path = inner.path("creating", key)?;
        if is_compressed(key) {
            // Another version of the compressor may make other bytes of the same, which could not be told from a rival's.
            let detail = "names that end in .z are of compressed objects, which are not created exclusively";
            return Err(inner.call("creating", key, 0).fail(Failure::last(StoreErrorKind::BadKey, detail)));
        }
        // Sealed the same each time, so that what stands there can be compared.
        let bytes: Bytes = inner.sealed(key, vec![bytes]).await?.into_iter().collect::<PutPayload>().into();
        let mut call = inner.call("creating", key, bytes.len() as u64);
        loop {
            let put = call
                .once(|limit| inner.attempt_put(&path, bytes.clone().into(), PutMode::Create, limit))
                .await;
            let failure = match put {
                Ok(()) => return Ok(PutNew::Created),
                Err(failure) => failure,
            };
            if failure.conflict {
                match read_back(inner, &path, &mut call).await? {
                    Some(found) if found == bytes => return Ok(PutNew::Created),
                    Some(found) => return Ok(PutNew::Exists(inner.unsealed(key, found).await?)),
                    // Refused for a put that was under way and came to nothing: the key is free again.
                    None => call.pause(failure).await?,
                }
            } else if failure.kind == StoreErrorKind::Unsupported {
                return Err(call.fail(Failure { kind: StoreErrorKind::NoPutIfAbsent, ..failure }));
            } else {
                // Executed or not, nobody knows: the next attempt creates the object, or meets it.
                call.pause(failure).await?;
            }
        }
    }

    /// Finds out whether the store keeps its create-only put: of several that race to create one fresh key exactly one
    /// may win, its bytes must stand, and a later creator must be refused. Costs some forty puts and as many reads and
    /// deletes, leaves nothing behind, and belongs where a volume is created.
    ///
    /// `nonce` makes the keys fresh: a random number that no other probe of this store uses.
    ///
    /// # Errors
    /// [`NoPutIfAbsent`](StoreErrorKind::NoPutIfAbsent) if it does not, unless the options say
    /// [`with_assume_put_if_absent`](crate::StoreOptions::with_assume_put_if_absent): then the store is not asked.
    pub async fn probe(&self, nonce: u128) -> Result<(), StoreError> {
        if self.inner.options.assume_put_if_absent {
            tracing::warn!(store = %self.url(), "the store is taken to have put-if-absent; it was not probed");
            return Ok(());
        }
        // A limit on concurrent requests would turn the race into a queue.
        let racing = self.with_permits(usize::try_from(RACERS).unwrap_or(usize::MAX));
        for race in 0..RACES {
            let key = format!("probe/{nonce:032x}-{race:02}");
            let verdict = racing.race(&key, nonce).await;
            let cleaned = racing.delete(&key).await;
            verdict?;
            cleaned?;
        }
        Ok(())
    }

    async fn race(&self, key: &str, nonce: u128) -> Result<(), StoreError> {
        let bytes_of = |creator: u64| Bytes::from(format!("rfs probe {nonce:032x} creator {creator}"));
        let refuse = |detail: String| {
            let failure = Failure::last(StoreErrorKind::NoPutIfAbsent, detail);
            Err(failure.into_error("probing", format!("{} with {key}", self.url())))
        };
        let outcomes = join_all((0..RACERS).map(|creator| self.put_new(key, bytes_of(creator)))).await;
        let mut winners = Vec::new();
        let mut seen = Vec::new();
        for (creator, outcome) in (0..RACERS).zip(outcomes) {
            match outcome? {
                PutNew::Created => winners.push(creator),
                PutNew::Exists(bytes) => seen.push(bytes),
            }
        }
        let [winner] = winners[..] else {
            return refuse(format!("{} of {RACERS} racing creators were told that they won", winners.len()));
        };
        if seen.iter().any(|bytes| *bytes != bytes_of(winner)) {
            return refuse("a refused creator read other bytes than the winner's".to_owned());
        }
        match self.put_new(key, bytes_of(RACERS)).await? {
            PutNew::Exists(bytes) if bytes == bytes_of(winner) => Ok(()),
            PutNew::Exists(_) => refuse("the winner's bytes did not stay".to_owned()),
            PutNew::Created => refuse("an object that existed was created again".to_owned()),
        }
    }
}

/// What stands at a key that a put was refused for, or nothing.
async fn read_back(inner: &Inner, path: &Path, call: &mut Call<'_>) -> Result<Option<Bytes>, StoreError> {
    loop {
        match call.once(|limit| inner.attempt_get(path, None, limit)).await {
            Ok(bytes) => return Ok(Some(bytes)),
            Err(failure) if failure.kind == StoreErrorKind::NotFound => return Ok(None),
            Err(failure) => call.pause(failure).await?,
        }
    }
}
