//! The object that holds the volume's key, wrapped.
//!
//! ```text
//! "RFS-KEYS", version u16 = 1, algorithm u8, by u8 (0 a key, 1 a passphrase, 2 a key service),
//! Argon2id: memory u32 in KiB, passes u32, lanes u32; salt 32 bytes; length u16, wrapped key; BLAKE3 of all before
//! ```
//! All numbers are little-endian. By a key or a passphrase, the volume's key is wrapped as one sealed block, under a key
//! that is derived from the caller's and the salt.

use argon2::{Argon2, Params, Version};

use super::Source;
use super::block::{Algorithm, Cipher};
use super::key::{self, Fields};
use crate::StoreErrorKind;

/// The cost of Argon2id for new passphrases: the second choice of RFC 9106.
const MEMORY_KIB: u32 = 64 << 10;
const PASSES: u32 = 3;
const LANES: u32 = 4;
/// What is paid at most for an object that somebody else may have written.
const MEMORY_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;

/// The object that holds `key`. The error says why there is none.
pub(super) async fn wrap(
    algorithm: Algorithm,
    volume_key: &[u8; 32],
    source: &Source,
) -> Result<Vec<u8>, String> {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).map_err(|error| format!("no random numbers: {error}"))?;
    let (memory, passes, lanes) = match source {
        Source::Passphrase(_) => (MEMORY_KIB, PASSES, LANES),
        _ => (0, 0, 0),
    };
    let mut fields = Fields { algorithm, by: by(source), memory, passes, lanes, salt, wrapped: Vec::new() };
    fields.wrapped = match source {
        Source::Wrapper(wrapper) => {
            wrapper.wrap(volume_key).await.map_err(|error| format!("the key service failed: {error}"))?
        }
        _ => wrapping(source, &fields)?.seal_key(volume_key),
    };
    key::encode(&fields)
}

/// The algorithm and key that an object holds.
pub(super) async fn unwrap(
    object: &[u8],
    source: &Source,
) -> Result<(Algorithm, [u8; 32]), (StoreErrorKind, String)> {
    let fields = key::decode(object).map_err(|what| (StoreErrorKind::Damaged, what))?;
    let wrong = |what: String| (StoreErrorKind::WrongKey, what);
    if fields.by != by(source) {
        let ways = ["a key", "a passphrase", "a key service"];
        let way = ways.get(usize::from(fields.by)).unwrap_or(&"what this version does not know");
        return Err(wrong(format!("the volume's key is wrapped by {way}")));
    }
    let key = match source {
        Source::Wrapper(wrapper) => wrapper
            .unwrap(&fields.wrapped)
            .await
            .map_err(|error| wrong(format!("the key service does not unwrap the volume's key: {error}")))?,
        _ => {
            let wrapping = wrapping(source, &fields).map_err(wrong)?;
            wrapping
                .open_key(&fields.wrapped)
                .ok_or_else(|| wrong("it does not open the volume's key".to_owned()))?
        }
    };
    Ok((fields.algorithm, key))
}

const fn by(source: &Source) -> u8 {
    match source {
        Source::Key(_) => 0,
        Source::Passphrase(_) => 1,
        Source::Wrapper(_) => 2,
    }
}

/// What the volume's key is wrapped with.
fn wrapping(source: &Source, fields: &Fields) -> Result<Cipher, String> {
    let callers = match source {
        Source::Key(key) => *key,
        Source::Passphrase(passphrase) => {
            if fields.memory > MEMORY_MAX || fields.passes > PASSES_MAX || fields.lanes > 64 {
                return Err("it asks for more memory or time than a passphrase may take".to_owned());
            }
            let parameters = Params::new(fields.memory, fields.passes, fields.lanes, Some(32));
            let parameters =
                parameters.map_err(|error| format!("Argon2id does not take its cost: {error}"))?;
            let argon = Argon2::new(argon2::Algorithm::Argon2id, Version::V0x13, parameters);
            let mut key = [0; 32];
            argon
                .hash_password_into(passphrase.as_bytes(), &fields.salt, &mut key)
                .map_err(|error| format!("Argon2id failed: {error}"))?;
            key
        }
        Source::Wrapper(_) => return Err("a key service wraps by itself".to_owned()),
    };
    let mut hasher = blake3::Hasher::new_keyed(&callers);
    hasher.update(&fields.salt);
    Ok(Cipher::new(fields.algorithm, *hasher.finalize().as_bytes()))
}
