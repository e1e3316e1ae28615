//! rfs in thirty lines: write, append, rename, checkpoint, go on, and look back. Run it with
//! `cargo run --example quickstart`.

use rfs::{At, OpenOptions, Options, Volume};

#[tokio::main]
async fn main() -> rfs::Result<()> {
    // The same with file:///directory or s3://bucket/prefix; memory:// lives as long as this process.
    let url = "memory://quickstart";
    let volume = Volume::create(url, Options::new()).await?;
    let fs = volume.fs();

    fs.create_dir_all("/logs").await?;
    let log = OpenOptions::new().append(true).create(true).open(&fs, "/logs/today.csv").await?;
    log.append(b"first\n").await?;
    log.append(b"second\n").await?;

    // Readers see the old report or the new one, never a half.
    fs.write("/report.tmp", b"2 lines").await?;
    fs.rename("/report.tmp", "/report").await?;

    // Durable in the store from here on: one put.
    let receipt = volume.checkpoint("two-lines").await?.wait().await?;
    println!("commit {}: {} bytes", receipt.commit, receipt.bytes);

    log.append(b"third\n").await?;
    fs.remove_file("/report").await?;
    drop(log);
    volume.close().await?;

    for at in [At::Checkpoint("two-lines".to_owned()), At::Head] {
        let past = Volume::open_read_only(url, Options::new(), at.clone()).await?;
        let lines = past.fs().read_to_string("/logs/today.csv").await?.lines().count();
        println!("{at}: {lines} lines, report there: {}", past.fs().try_exists("/report").await?);
    }
    Ok(())
}
