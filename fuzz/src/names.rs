//! Names of objects, and URLs.

use std::cell::RefCell;

use rfs_backends::{Store, StoreOptions};
use rfs_recovery::Keys;

use crate::VOLUME;

/// A key: what it names is named so.
pub fn key(input: &[u8]) {
    let Ok(key) = std::str::from_utf8(input) else { return };
    let keys = Keys(VOLUME);
    if let Some(id) = keys.parse_commit(key) {
        assert_eq!(keys.commit(id), key);
    }
    if let Some(object) = keys.parse_pages(key) {
        assert_eq!(keys.pages_of(object), key);
    }
    if let Some(pin) = keys.parse_pin(key) {
        assert_eq!(keys.pin(pin), key);
    }
    if let Some(id) = keys.parse_segment(key) {
        assert!(key.starts_with(&format!("{}/{:016x}", keys.segments(), id.0)));
    }
    assert!(keys.aside(key).starts_with(&keys.all_aside()));
    let _ = keys.is_named(key);
}

/// A URL, opened, and looked for beside other stores. Nothing is sent; of `file` URLs, whose directory would be made,
/// only the directory is found out.
pub fn url(input: &[u8]) {
    thread_local! {
        static STORES: RefCell<Vec<Store>> = const { RefCell::new(Vec::new()) };
    }
    let Ok(url) = std::str::from_utf8(input) else { return };
    if let Some(rest) = url.strip_prefix("file://") {
        if let Ok(directory) = rfs_backends::fuzzing::directory(url, rest) {
            assert!(
                directory.is_absolute() && directory.components().all(is_plain),
                "{}",
                directory.display()
            );
        }
        return;
    }
    STORES.with_borrow_mut(|stores| {
        if stores.is_empty() {
            let open = |url| Store::from_url(url, StoreOptions::default()).expect("the URL is right");
            stores.extend(["memory://one/two"].map(open));
        }
        for store in stores {
            if let Ok(sibling) = store.sibling(url) {
                assert_eq!(sibling.url(), url);
            }
        }
    });
    if let Ok(store) = Store::from_url(url, StoreOptions::default()) {
        assert_eq!(store.url(), url);
        let _ = format!("{:?} {}", store, store.prefix());
    }
}

fn is_plain(part: std::path::Component<'_>) -> bool {
    !matches!(part, std::path::Component::ParentDir | std::path::Component::CurDir)
}
