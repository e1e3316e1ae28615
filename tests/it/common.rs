//! What the tests share.

use std::path::Path;

use rfs::{Entropy, Fs, Options, Volume};

/// Options under which one seed replays one run, and nothing is committed unless asked for.
pub(crate) fn options(seed: u64) -> Options {
    Options::new().with_entropy(Entropy::seeded(seed)).with_commit_interval(None).with_one_thread()
}

/// A name that no other test of this process uses.
pub(crate) fn memory_url(test: &str) -> String {
    format!("memory://{test}")
}

/// Everything in a volume, as text: path, kind and content.
pub(crate) async fn listing(volume: &Volume) -> Vec<String> {
    let fs = volume.fs();
    let mut lines = Vec::new();
    let mut dirs = vec![Path::new("/").to_path_buf()];
    while let Some(dir) = dirs.pop() {
        let mut entries = fs.read_dir(&dir).await.unwrap();
        while let Some(entry) = entries.next_entry().unwrap() {
            lines.push(line(&fs, &entry).await);
            if entry.file_type().is_dir() {
                dirs.push(entry.path());
            }
        }
    }
    lines.sort();
    lines
}

async fn line(fs: &Fs, entry: &rfs::DirEntry) -> String {
    let path = entry.path();
    let metadata = entry.metadata().unwrap();
    let what = if metadata.is_dir() {
        "dir".to_owned()
    } else if metadata.is_symlink() {
        format!("-> {}", fs.read_link(&path).await.unwrap().display())
    } else {
        let content = fs.read(&path).await.unwrap();
        assert_eq!(content.len() as u64, metadata.len());
        format!("{} bytes {:x?}", content.len(), &content[..content.len().min(16)])
    };
    format!("{} {:o} {}:{} {what}", path.display(), metadata.mode(), metadata.uid(), metadata.gid())
}

/// The S3 server of `cargo xtask test`, as a URL below which this test has its own prefix, with the store's options.
/// Without the server the test says in one line that it did not run.
pub(crate) fn s3(test: &str) -> Option<(String, rfs::StoreOptions)> {
    let Ok(endpoint) = std::env::var("RFS_TEST_S3_ENDPOINT") else {
        assert!(std::env::var_os("RFS_TEST_REQUIRE_SERVERS").is_none(), "the servers were to be there");
        eprintln!("SKIPPED (no S3 server; run `cargo xtask test`): {test}");
        return None;
    };
    let var = |name: &str| std::env::var(name).unwrap();
    let options = rfs::StoreOptions::default()
        .with_endpoint(endpoint)
        .with_region("us-east-1")
        .with_access_key_id(var("RFS_TEST_S3_ACCESS_KEY"))
        .with_secret_access_key(var("RFS_TEST_S3_SECRET_KEY"))
        .with_allow_http(true);
    Some((format!("s3://{}/rfs-{}/{test}", var("RFS_TEST_S3_BUCKET"), std::process::id()), options))
}
