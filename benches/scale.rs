//! What a volume with many files costs: `cargo xtask scale` runs this, once for each step, so that the memory of one
//! step is not counted for another.
//!
//! ```text
//! scale build URL FILES TREE_BYTES     makes the volume: empty and small files, 1,000 in a directory
//! scale change URL FILES TREE_BYTES    opens it, looks at one file, reads one, changes ten, commits
//! scale load URL FILES TREE_BYTES      has all of its tree in memory
//! scale back URL FILES TREE_BYTES      builds one in memory, forks it, and goes back by ten thousand changed files
//! ```
//! Each step prints one line of JSON.

#![expect(clippy::cast_precision_loss, reason = "figures are printed with a few digits")]

use std::time::{Duration, Instant};

use rfs::backends::{MeterSnapshot, RequestKind};
use rfs::model::At;
use rfs::{Access, Credential, Ino, Op, OpenFlags, Options, Outcome, Target, Volume, WriteAt};

const FILES_PER_DIRECTORY: u64 = 1000;
/// Every so many files one has content.
const SMALL_EVERY: u64 = 4;
/// Files that are made in one step.
const BATCH: u64 = 500;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let [step, url, files, tree_bytes] = arguments.as_slice() else {
        eprintln!("scale STEP URL FILES TREE_BYTES: `cargo xtask scale` runs it");
        return Ok(());
    };
    let options = Options::new()
        .with_commit_interval(None)
        .with_level(rfs::Level::Memory)
        .with_cache(32 << 20, 0)
        .with_retention(1, Duration::ZERO)
        .with_auto_collect(true)
        .with_tree_memory(tree_bytes.parse()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match step.as_str() {
            "build" => build(url, options, files.parse()?).await,
            "change" => Box::pin(change(url, options, files.parse()?)).await,
            "load" => load(url, options, files.parse()?).await,
            "back" => Box::pin(back(options, files.parse()?)).await,
            other => Err(format!("there is no step {other:?}").into()),
        }
    })
}

async fn build(url: &str, options: Options, files: u64) -> Result<()> {
    let start = now();
    let volume = Volume::create(url, options).await?;
    fill(&volume, files).await?;
    let metered = volume.metered();
    volume.close().await?;
    let fields = [
        ("seconds", start.elapsed().as_secs_f64()),
        ("put_mib", metered.of(RequestKind::Put).bytes as f64 / f64::from(1 << 20)),
        ("peak_rss_mib", peak_rss_mib()?),
    ];
    print("build", files, &fields);
    Ok(())
}

/// How much memory the whole tree takes: what the process has grown by.
async fn load(url: &str, options: Options, files: u64) -> Result<()> {
    let options = options.with_tree_memory(u64::MAX / 4).with_cache(0, 0);
    let volume = Volume::open_read_only(url, options, rfs::At::Head).await?;
    volume.fs().metadata("/").await?;
    let before = rss_mib()?;
    volume.check().await?;
    let bytes = (rss_mib()? - before) * f64::from(1 << 20) / files as f64;
    let maps = volume.tree_memory().map(|(map, held)| (map, (held.clean + held.dirty) as f64 / files as f64));
    let fields: Vec<_> = [("bytes_per_file", bytes)].into_iter().chain(maps).collect();
    print("load", files, &fields);
    Ok(())
}

/// What forking and going back cost, on a store that answers at once.
async fn back(options: Options, files: u64) -> Result<()> {
    const CHANGED: u64 = 10_000;
    let url = "memory://scale/volume";
    let volume = Volume::create(url, options.clone()).await?;
    fill(&volume, files).await?;
    volume.close().await?;
    let volume = Volume::open(url, options.clone()).await?;
    volume.checkpoint("before").await?.wait().await?;
    for number in 0..CHANGED.min(files) {
        volume.fs().write(path(number * files / CHANGED.min(files)), b"changed").await?;
    }
    volume.commit().await?;
    let before = rfs::At::Checkpoint("before".to_owned());
    let (metered, start) = (volume.metered(), now());
    volume.fork("memory://scale/fork", &before).await?;
    let (fork_ms, fork) = (start.elapsed().as_secs_f64() * 1e3, volume.metered() - metered);
    let start = now();
    let forked = Volume::open("memory://scale/fork", options).await?;
    forked.fs().metadata(path(files / 2)).await?;
    let open_ms = start.elapsed().as_secs_f64() * 1e3;
    let (metered, start) = (volume.metered(), now());
    volume.rewind(&before).await?;
    let (rewind_ms, rewind) = (start.elapsed().as_secs_f64() * 1e3, volume.metered() - metered);
    if volume.fs().read(path(0)).await? == b"changed" {
        return Err("it did not go back".into());
    }
    let fields = [
        ("fork_requests", fork.requests() as f64),
        ("fork_ms", fork_ms),
        ("fork_open_ms", open_ms),
        ("rewind_requests", rewind.requests() as f64),
        ("rewind_ms", rewind_ms),
    ];
    print("back", files, &fields);
    Ok(())
}

async fn fill(volume: &Volume, files: u64) -> Result<()> {
    let (inodes, root) = (volume.inodes(), Credential::root());
    let content = [7; 100];
    let mut made = 0;
    while made < files {
        let directory = format!("d{:06}", made / FILES_PER_DIRECTORY);
        let at = At { base: Ino::ROOT, path: directory.clone().into_bytes() };
        let Outcome::Made { ino: dir } = inodes.run(&root, &Op::Mkdir { at, mode: 0o755 }, &[]).await? else {
            return Err("a directory was not made".into());
        };
        let last = files.min(made + FILES_PER_DIRECTORY);
        while made < last {
            let (mut ops, mut payloads): (Vec<Op>, Vec<&[u8]>) = (Vec::new(), Vec::new());
            for number in made..last.min(made + BATCH) {
                let at = At { base: dir, path: name(number).into_bytes() };
                let flags = OpenFlags { create: true, ..OpenFlags::default() };
                let access = Access { read: true, write: true };
                ops.push(Op::Open { at: at.clone(), access, flags, mode: 0o644 });
                if number % SMALL_EVERY == 0 {
                    let target = Target::Path { at, follow: false };
                    let len = content.len() as u64;
                    ops.push(Op::Write { target, at: WriteAt::Offset(0), len });
                    payloads.push(&content);
                }
            }
            inodes.run_batch(&root, &ops, &payloads).await?;
            made = last.min(made + BATCH);
        }
    }
    volume.commit().await?;
    volume.fs().write("/read-me", vec![1; 64 << 10]).await?;
    volume.commit().await?;
    Ok(())
}

async fn change(url: &str, options: Options, files: u64) -> Result<()> {
    let start = now();
    let volume = Volume::open_read_only(url, options.clone(), rfs::At::Head).await?;
    let some = files / 2;
    volume.fs().metadata(path(some)).await?;
    let stat = start.elapsed();
    let mut first = vec![0; 4096];
    volume.fs().open("/read-me").await?.read_at(&mut first, 0).await?;
    let read = start.elapsed();
    let opened = volume.metered();
    drop(volume);

    let volume = Volume::open(url, options).await?;
    let fs = volume.fs();
    for number in 0..10 {
        fs.write(path(number * files / 10 / SMALL_EVERY * SMALL_EVERY), [9; 100]).await?;
    }
    let before = volume.metered();
    let start = now();
    volume.commit().await?;
    let commit_time = start.elapsed();
    let commit = volume.metered() - before;
    let usage = fs.stat_fs().await?;
    if usage.inodes - usage.inodes_free < files {
        return Err(format!("there are {} inodes only", usage.inodes - usage.inodes_free).into());
    }
    volume.close().await?;
    let requests = |of: &MeterSnapshot, kind| of.of(kind).requests as f64;
    let fields = [
        ("open_to_stat_ms", stat.as_secs_f64() * 1e3),
        ("open_to_read_ms", read.as_secs_f64() * 1e3),
        ("open_lists", requests(&opened, RequestKind::List)),
        ("open_gets", requests(&opened, RequestKind::Get)),
        ("open_kib", opened.bytes() as f64 / 1024.0),
        ("commit_requests", commit.requests() as f64),
        ("commit_bytes", commit.bytes() as f64),
        ("commit_ms", commit_time.as_secs_f64() * 1e3),
        ("peak_rss_mib", peak_rss_mib()?),
    ];
    print("change", files, &fields);
    Ok(())
}

fn name(number: u64) -> String {
    format!("file-{:03}", number % FILES_PER_DIRECTORY)
}

fn path(number: u64) -> String {
    format!("/d{:06}/{}", number / FILES_PER_DIRECTORY, name(number))
}

#[expect(clippy::disallowed_methods, reason = "it measures; nothing here is replayed")]
fn now() -> Instant {
    Instant::now()
}

/// The most memory that this process had.
fn peak_rss_mib() -> Result<f64> {
    status_mib("VmHWM:")
}

/// The memory that it has.
fn rss_mib() -> Result<f64> {
    status_mib("VmRSS:")
}

fn status_mib(field: &str) -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let line = line.ok_or_else(|| format!("no {field}"))?;
    Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}

fn print(step: &str, files: u64, fields: &[(&str, f64)]) {
    let fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value:.3}")).collect();
    println!("{{\"step\":\"{step}\",\"files\":{files},{}}}", fields.join(","));
}
