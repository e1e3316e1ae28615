//! Compressed objects, as a store reads them.

use std::sync::Arc;

use rfs_backends::object_store::{ObjectStoreExt, memory::InMemory, path::Path};
use rfs_backends::{Store, StoreOptions};

use crate::store::wait;
use crate::{choices, mend};

/// A compressed object: what is read whole is what is read in ranges, and comes back when it is written again.
pub fn compressed(input: &[u8]) {
    let (choice, object) = choices(input);
    let mut object = object.to_vec();
    if choice & 1 == 1 {
        mend::compressed(&mut object);
    }
    let backend = Arc::new(InMemory::new());
    wait(backend.put(&Path::from("a.z"), object.into())).expect("a store in memory takes an object");
    let new = || {
        let options = StoreOptions::default().with_max_object_bytes(64 << 20);
        Store::new(Arc::clone(&backend) as _, "fuzz://", Path::default(), options)
    };
    let Ok(content) = wait(new().get("a.z")) else {
        let _ = wait(new().get_range("a.z", 0..70_000));
        return;
    };
    let len = content.len() as u64;
    if len > 0 {
        let middle = len / 2..len.min(len / 2 + 70_000);
        let read =
            wait(new().get_range("a.z", middle.clone())).expect("what is read whole can be read in ranges");
        assert_eq!(read, content[middle.start as usize..middle.end as usize]);
    }
    assert!(wait(new().get_range("a.z", len..len + 1)).is_err(), "there is nothing behind the end");
    wait(new().put("b.z", content.clone())).expect("a store in memory takes an object");
    assert_eq!(wait(new().get("b.z")).expect("it was put"), content);
}
