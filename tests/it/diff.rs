//! How two states of a volume differ.
#![expect(clippy::single_range_in_vec_init, reason = "content is a list of ranges")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rfs::backends::RequestKind;
use rfs::{At, Difference, DifferenceKind, Options, Store, Volume, XattrMode};

use crate::common::{memory_url, options, sim};

async fn all(from: &Volume, to: &Volume) -> Vec<Difference> {
    let mut diff = from.diff(to).unwrap();
    let mut all = Vec::new();
    while let Some(difference) = diff.next().await.unwrap() {
        all.push(difference);
    }
    all
}

async fn at(store: &Store, seed: u64, checkpoint: &str) -> Volume {
    let at = At::Checkpoint(checkpoint.to_owned());
    Volume::open_read_only("sim://", options(seed).with_store(store.clone()), at).await.unwrap()
}

fn of<'a>(all: &'a [Difference], path: &str) -> &'a Difference {
    all.iter().find(|difference| difference.path == Path::new(path)).unwrap_or_else(|| panic!("{all:#?}"))
}

#[tokio::test]
async fn each_kind_of_difference_is_told() {
    for seed in [1, 2] {
        let (_, store) = sim();
        let volume = Volume::create("sim://", options(seed).with_store(store.clone())).await.unwrap();
        let fs = volume.fs();
        fs.create_dir_all("/dir/below").await.unwrap();
        fs.write("/dir/below/stays", b"as it is").await.unwrap();
        fs.write("/dir/changes", b"0123456789").await.unwrap();
        fs.write("/dir/moves", b"moves").await.unwrap();
        fs.write("/goes", b"goes").await.unwrap();
        fs.hard_link("/goes", "/dir/goes too").await.unwrap();
        fs.write("/linked", b"linked").await.unwrap();
        fs.write("/becomes", b"a directory").await.unwrap();
        volume.checkpoint("one").await.unwrap().wait().await.unwrap();

        let file = rfs::OpenOptions::new().write(true).open(&fs, "/dir/changes").await.unwrap();
        file.write_all_at(b"xx", 4).await.unwrap();
        drop(file);
        fs.set_xattr("/dir/changes", "user.why", b"because", XattrMode::Set).await.unwrap();
        fs.rename("/dir/moves", "/moved").await.unwrap();
        fs.rename("/dir", "/renamed").await.unwrap();
        fs.remove_file("/goes").await.unwrap();
        fs.remove_file("/renamed/goes too").await.unwrap();
        fs.hard_link("/linked", "/renamed/linked").await.unwrap();
        fs.remove_file("/becomes").await.unwrap();
        fs.create_dir("/becomes").await.unwrap();
        fs.write("/becomes/new", b"new").await.unwrap();
        volume.checkpoint("two").await.unwrap().wait().await.unwrap();

        let (one, two) = (at(&store, seed, "one").await, at(&store, seed, "two").await);
        let found = all(&one, &two).await;
        let changed = of(&found, "/renamed/changes");
        assert_eq!((changed.kind, changed.content.clone()), (DifferenceKind::Changed, vec![4..6]));
        assert_eq!(changed.xattrs[0].as_bytes(), b"user.why");
        assert!(changed.renamed.is_empty() && changed.linked.is_empty() && changed.unlinked.is_empty());
        let renamed = |from: &str, to: &str| vec![(PathBuf::from(from), PathBuf::from(to))];
        assert_eq!(of(&found, "/moved").renamed, renamed("/dir/moves", "/moved"));
        assert!(of(&found, "/moved").content.is_empty());
        assert_eq!(of(&found, "/renamed").renamed, renamed("/dir", "/renamed"));
        let gone = of(&found, "/goes");
        assert_eq!((gone.kind, gone.unlinked.len()), (DifferenceKind::Removed, 2), "{gone:?}");
        assert!(gone.unlinked.contains(&PathBuf::from("/dir/goes too")));
        assert_eq!(of(&found, "/renamed/linked").linked, [PathBuf::from("/renamed/linked")]);
        let replaced: Vec<_> = found.iter().filter(|found| found.path == Path::new("/becomes")).collect();
        let kinds: Vec<_> = replaced.iter().map(|found| found.kind).collect();
        assert_eq!(kinds, [DifferenceKind::Removed, DifferenceKind::Created]);
        assert_eq!(of(&found, "/becomes/new").content, [0..3]);
        assert!(!found.iter().any(|found| found.path.ends_with("stays") || found.path.ends_with("below")));

        // The other way round, each is the opposite.
        let back = all(&two, &one).await;
        assert_eq!(back.len(), found.len());
        assert_eq!(of(&back, "/dir/moves").renamed, renamed("/moved", "/dir/moves"));
        assert_eq!(of(&back, "/dir/changes").content, [4..6]);
        assert_eq!(of(&back, "/goes").kind, DifferenceKind::Created);

        // The writer itself, against a state that is committed. What is not committed counts.
        assert_eq!(all(&two, &volume).await, []);
        fs.write("/renamed/changes", b"").await.unwrap();
        let now = all(&two, &volume).await;
        assert_eq!(now.len(), 1, "{now:#?}");
        assert_eq!((now[0].path.clone(), now[0].content.clone()), ("/renamed/changes".into(), vec![0..10]));
        assert_eq!(all(&one, &one).await, []);
        volume.close().await.unwrap();
    }
}

fn small(store: &Store) -> Options {
    options(1).with_store(store.clone()).with_cache(0, 0)
}

#[tokio::test]
async fn the_cost_follows_the_difference() {
    const FILES: u64 = 100_000;
    let (_, store) = sim();
    let volume = Volume::create("sim://", small(&store)).await.unwrap();
    let fs = volume.fs();
    for dir in 0..FILES / 1000 {
        fs.create_dir(format!("/{dir}")).await.unwrap();
        for file in 0..1000 {
            fs.write(format!("/{dir}/{file}"), b"").await.unwrap();
        }
    }
    volume.close().await.unwrap();
    let volume = Volume::open("sim://", small(&store)).await.unwrap();
    volume.checkpoint("all").await.unwrap().wait().await.unwrap();
    let fs = volume.fs();
    for number in 0..10 {
        fs.write(format!("/{}/{}", number * 7, number * 93), b"changed").await.unwrap();
    }
    volume.checkpoint("ten").await.unwrap().wait().await.unwrap();
    volume.close().await.unwrap();

    let open = async |name: &str| {
        let at = At::Checkpoint(name.to_owned());
        Volume::open_read_only("sim://", small(&store), at).await.unwrap()
    };
    let (old, new) = (open("all").await, open("ten").await);
    let gets = |volume: &Volume| volume.metered().of(RequestKind::Get);
    let before = gets(&old);
    let found = all(&old, &new).await;
    let after = gets(&old);
    let (requests, bytes) = (after.requests - before.requests, after.bytes - before.bytes);
    let paths: BTreeMap<_, _> = found.iter().map(|found| (found.path.clone(), &found.content)).collect();
    assert_eq!(paths.len(), 10, "{paths:?}");
    for number in 0..10 {
        let path = PathBuf::from(format!("/{}/{}", number * 7, number * 93));
        assert_eq!(paths[&path].as_slice(), [0..7], "{paths:?}");
    }
    // Of each file a page of the inodes in both states, one that tells its name, one with the name, and those above.
    assert!(requests < 100 && bytes < 1 << 20, "{requests} gets of {bytes} bytes");
    println!("{requests} gets of {bytes} bytes");
}

/// A fork and what it was made from number their segments alike: the same place holds other bytes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn forks_are_told_apart() {
    let (one, two) = (memory_url("diff-fork/one"), memory_url("diff-fork/two"));
    let volume = Volume::create(&one, options(1)).await.unwrap();
    volume.fs().write("/both", b"from before").await.unwrap();
    volume.fs().write("/same", b"as it was").await.unwrap();
    volume.commit().await.unwrap();
    volume.fork(&two, &At::Head).await.unwrap();
    let fork = Volume::open(&two, options(3)).await.unwrap();
    for (volume, content) in [(&volume, b"of the one"), (&fork, b"of another")] {
        volume.fs().write("/both", content).await.unwrap();
        volume.commit().await.unwrap();
    }
    for (from, to, content) in [(&volume, &fork, b"of another"), (&fork, &volume, b"of the one")] {
        let found = all(from, to).await;
        assert_eq!(of(&found, "/both").content, [0..10]);
        assert!(!found.iter().any(|found| found.path == Path::new("/same")), "{found:?}");
        let host = tempfile::tempdir().unwrap();
        let dir = host.path().join("dir");
        let _ = from.restore(&dir, rfs::RestoreOptions::new()).await.unwrap();
        let _ = from.apply_to(&dir, to, rfs::ApplyOptions::new()).await.unwrap();
        assert_eq!(std::fs::read(dir.join("both")).unwrap(), content);
    }
    fork.close().await.unwrap();
    volume.close().await.unwrap();
}
