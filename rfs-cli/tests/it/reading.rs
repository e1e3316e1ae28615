//! The commands that look at a volume, and those that change what is kept of it.

use std::io::Read;
use std::process::Stdio;

use rfs::{Options, Volume, XattrMode};
use serde_json::Value;

use crate::common::{Place, failure, json, rfs, run, said};

/// A volume with two checkpoints, and some of everything.
async fn filled(place: &Place) {
    let volume = Volume::create(&place.url(), Options::new().with_commit_interval(None)).await.unwrap();
    let fs = volume.fs();
    fs.create_dir_all("/dir/below").await.unwrap();
    fs.write("/dir/one", b"one\n").await.unwrap();
    fs.hard_link("/dir/one", "/dir/same").await.unwrap();
    fs.symlink("one", "/dir/link").await.unwrap();
    fs.write("/dir/below/two", vec![b'2'; 3000]).await.unwrap();
    fs.truncate("/dir/below/two", 1 << 20).await.unwrap();
    fs.set_xattr("/dir/one", "user.source", b"sensor", XattrMode::Set).await.unwrap();
    volume.checkpoint("first").await.unwrap().wait().await.unwrap();
    fs.write("/dir/one", b"changed\n").await.unwrap();
    fs.write(std::ffi::OsStr::new("/escape\u{1b}[2J\n"), b"").await.unwrap();
    volume.checkpoint("second").await.unwrap().wait().await.unwrap();
    fs.remove_file("/dir/below/two").await.unwrap();
    volume.close().await.unwrap();
}

async fn place() -> Place {
    let place = Place::new();
    filled(&place).await;
    place
}

#[tokio::test]
async fn directories_are_listed_by_name() {
    let place = place().await;
    let url = place.url();
    assert_eq!(said(&["ls", &url]), "dir\nescape\\x1b[2J\\x0a\n");
    assert_eq!(said(&["ls", &url, "/dir"]), "below\nlink\none\nsame\n");
    assert_eq!(said(&["ls", &url, "dir/one"]), "dir/one\n");
    assert_eq!(
        said(&["ls", "-R", "--at", "first", &url]),
        "/:\ndir\n\n/dir:\nbelow\nlink\none\nsame\n\n/dir/below:\ntwo\n"
    );
    let long = said(&["ls", "-l", &url, "/dir"]);
    let lines: Vec<Vec<&str>> = long.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][0], "drwxr-xr-x");
    assert_eq!(lines[1][6..], ["link", "->", "one"]);
    assert_eq!(lines[2][..5], ["-rw-r--r--", "2", "0", "0", "8"]);
    let listed = json(&["ls", "-R", &url, "/dir"]);
    assert_eq!(listed[1]["path"], "/dir/link");
    assert_eq!(listed[1]["target"], "one");
    assert_eq!(listed[2]["ino"], listed[3]["ino"]);
    assert_eq!((&listed[2]["mode"], &listed[2]["kind"]), (&"0644".into(), &"file".into()));
}

#[tokio::test]
async fn each_state_is_read() {
    let place = place().await;
    let url = place.url();
    assert_eq!(said(&["cat", &url, "/dir/one"]), "changed\n");
    assert_eq!(said(&["cat", "--at", "first", &url, "/dir/one", "dir/same", "/dir/link"]), "one\n".repeat(3));
    let checkpoints = json(&["checkpoints", &url]);
    assert_eq!(checkpoints[0]["name"], "first");
    let number = checkpoints[0]["commit"].as_str().unwrap();
    assert_eq!(said(&["cat", "--at", number, &url, "/dir/one"]), "one\n");
    assert_eq!(said(&["cat", "--at", "checkpoint:second", &url, "/dir/one"]), "changed\n");
    let table = said(&["checkpoints", &url]);
    assert!(table.starts_with("NAME    COMMIT  TIME\nfirst"), "{table}");
    // Nobody took the volume over: the end of epoch 0, two checkpoints, and at close a commit and one that names an image.
    assert_eq!(json(&["log", &url]).as_array().unwrap().len(), 5);
}

#[tokio::test]
async fn attributes_are_told() {
    let place = place().await;
    let url = place.url();
    let text = said(&["stat", &url, "/dir/one"]);
    for line in [
        "path       /dir/one",
        "size       8 (8 B)",
        "mode       0644 (-rw-r--r--)",
        "xattr      user.source",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    let entry = json(&["stat", &url, "/dir/link"]);
    assert_eq!((&entry["kind"], &entry["target"]), (&"symlink".into(), &"one".into()));
    assert!(entry["modified"].as_str().unwrap().ends_with('Z'));
    let two = json(&["stat", "--at", "first", &url, "/dir/below/two"]);
    assert_eq!((&two["size"], &two["allocated"]), (&(1 << 20).into(), &3000.into()));
}

#[tokio::test]
async fn what_is_taken_is_summed() {
    let place = place().await;
    let url = place.url();
    let lines = json(&["du", "--at", "first", &url]);
    let line = |index: usize| {
        (lines[index]["path"].clone(), lines[index]["allocated"].clone(), lines[index]["files"].clone())
    };
    assert_eq!(line(0), ("/dir/below".into(), 3000.into(), 1.into()));
    // A file with two names counts once; the symlink's target is its size, not what it has allocated.
    assert_eq!(line(1).2, 3);
    assert_eq!(lines.as_array().unwrap().len(), 3);
    let sum = said(&["du", "-s", "--at", "first", &url]);
    assert_eq!(sum.lines().count(), 2);
    assert!(sum.lines().next_back().unwrap().ends_with("3  /"), "{sum}");
    assert_eq!(json(&["du", &url, "/dir/one"])[0]["allocated"], 8);
}

#[tokio::test]
async fn the_log_tells_commits_and_what_was_done() {
    let place = place().await;
    let url = place.url();
    let log = json(&["log", &url]);
    let checkpoints: Vec<&Value> = log.as_array().unwrap().iter().map(|entry| &entry["checkpoint"]).collect();
    assert_eq!(checkpoints, [&Value::Null, &Value::Null, &"second".into(), &"first".into(), &Value::Null]);
    assert_eq!(log[4]["ends_epoch"], 0);
    for (entry, previous) in [(0, 1), (1, 2), (2, 3)] {
        assert_eq!(log[entry]["previous"], log[previous]["commit"]);
    }
    assert_eq!(log[0]["base"], log[0]["end"], "it only names an image");
    assert_eq!((&log[0]["state"], &log[0]["base"]), (&log[1]["state"], &log[1]["end"]));
    assert_ne!(log[1]["base"], log[1]["end"]);
    assert_eq!(json(&["log", "-n", "1", &url])[0], log[0]);
    let text = said(&["log", &url]);
    assert!(text.contains("checkpoint first") && text.contains("a new writer ends epoch 0"), "{text}");

    let history = json(&["log", &url, "/dir/one"]);
    let changes: Vec<&str> = history["records"]
        .as_array()
        .unwrap()
        .iter()
        .map(|record| record["change"].as_str().unwrap())
        .collect();
    assert_eq!(changes[..3], ["Create", "Write", "Link"]);
    assert_eq!(history["records"][0]["arguments"]["name"], "one");
    assert_eq!(history["complete_after"], 0);
    let text = said(&["log", &url, "/dir/one"]);
    assert!(text.contains("Write") && text.contains("len=4"), "{text}");
    assert!(
        changes.len()
            > json(&["log", "--at", "first", &url, "/dir/one"])["records"].as_array().unwrap().len()
    );
}

#[tokio::test]
async fn names_are_given_and_dropped_and_what_only_they_need_is_collected() {
    let place = place().await;
    let url = place.url();
    let made = json(&["checkpoint", &url, "third"]);
    assert_eq!(made["name"], "third");
    let (code, told) = failure(&["checkpoint", &url, "third"]);
    assert!(code == 1 && told.contains("rfs drop"), "{told}");
    assert_eq!(said(&["drop", &url, "first"]), "dropped checkpoint first\n");
    let (code, told) = failure(&["drop", &url, "first"]);
    assert!(code == 3 && told.contains("rfs checkpoints"), "{told}");
    assert_eq!(json(&["gc", &url])["objects"], 0, "all commits are young");
    let collected = json(&["gc", &url, "--keep-commits", "1", "--keep-for", "0s"]);
    assert!(collected["objects"].as_u64() > Some(0) && collected["bytes"].as_u64() > Some(0), "{collected}");
    assert_eq!(said(&["cat", "--at", "second", &url, "/dir/one"]), "changed\n");
    assert!(said(&["check", "--deep", &url]).contains("\nno problems found\n"));
}

#[tokio::test]
async fn any_object_is_shown() {
    let place = place().await;
    let url = place.url();
    let objects = json(&["inspect", &url]);
    let mut pages = 0;
    for object in objects.as_array().unwrap() {
        let key = object["key"].as_str().unwrap();
        let is_pages = key.contains("/pages/");
        pages += usize::from(is_pages);
        let starts = if is_pages {
            format!("object of pages, {} bytes;", object["bytes"])
        } else {
            "object hash".into()
        };
        assert!(said(&["inspect", &url, key]).starts_with(&starts), "{key}");
        assert_eq!(object["role"] == "image", is_pages, "{key}");
    }
    assert_eq!(pages, 1);
    let commit = said(&["inspect", &url, "1.0"]);
    assert!(commit.contains("first") && commit.contains("Write"), "{commit}");
    json(&["gc", &url, "--keep-commits", "1", "--keep-for", "0s"]);
    json(&["fork", &url, &format!("{url}-fork")]);
    let objects = json(&["inspect", &url]);
    for role in ["kept", "pin"] {
        let object = objects.as_array().unwrap().iter().find(|object| object["role"] == role);
        let key = object.unwrap_or_else(|| panic!("{role} in {objects}"))["key"].as_str().unwrap();
        assert!(said(&["inspect", &url, key]).contains("\n    volume: "), "{key}");
    }
    let (code, told) = failure(&["inspect", &url, "segments/0"]);
    assert!(code == 3 && told.contains("segments/0") && told.contains("rfs inspect URL"), "{told}");
}

#[tokio::test]
async fn what_is_held_is_counted() {
    let place = place().await;
    let counted = json(&["stats", "--at", "first", &place.url()]);
    for (field, count) in
        [("files", 2), ("directories", 3), ("symlinks", 1), ("others", 0), ("allocated", 3004)]
    {
        assert_eq!(counted[field], count, "{field}");
    }
    assert_eq!(counted["objects"]["superblock"]["objects"], 1);
    assert_eq!(counted["objects"]["commit"]["objects"], 5);
    assert_eq!(counted["objects"]["image"]["objects"], 1);
    assert!(counted["opening"]["get"]["requests"].as_u64().unwrap() > 0);
    assert!(said(&["stats", &place.url()]).contains("opening: get"));
}

#[tokio::test]
async fn damage_is_named() {
    let place = place().await;
    let url = place.url();
    let sound = said(&["check", &url]);
    assert!(sound.starts_with("STATE ") && sound.contains("\nno problems found\n"), "{sound}");
    let deep = json(&["check", "--deep", &url]);
    let states: Vec<&Value> =
        deep["states"].as_array().unwrap().iter().map(|state| &state["checkpoint"]).collect();
    assert_eq!(states, [&Value::Null, &"first".into(), &"second".into()]);
    let unreferenced = deep["unreferenced"].as_array().unwrap().len() as u64;
    assert_eq!((&deep["ok"], deep["objects"].as_u64().unwrap() + unreferenced), (&true.into(), 7));
    let objects = json(&["inspect", &url]);
    for object in objects.as_array().unwrap() {
        let key = object["key"].as_str().unwrap();
        let file = place.root.path().join("store").join(key);
        let mut bytes = std::fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
        let output = run(&["check", "--deep", &url]);
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(4) && text.contains(key), "{key}: {text}");
        bytes[middle] ^= 1;
        std::fs::write(&file, &bytes).unwrap();
    }
    assert!(run(&["check", "--deep", &url]).status.success());
}

#[tokio::test]
async fn what_is_missing_is_repaired() {
    let place = place().await;
    let url = place.url();
    let receipt = json(&["drill", "--checkpoint", "first", &url]);
    assert_eq!((&receipt["checkpoint"], &receipt["replayed_from"]), (&"first".into(), &0.into()));
    assert!(said(&["drill", &url]).starts_with("restored checkpoint second, commit "));
    assert_eq!(said(&["repair", &url]), "nothing to be done\n");
    let objects = json(&["inspect", &url]);
    let image = objects.as_array().unwrap().iter().find(|object| object["role"] == "image").unwrap();
    let file = place.root.path().join("store").join(image["key"].as_str().unwrap());
    std::fs::remove_file(file).unwrap();
    let (code, _) = failure(&["check", &url]);
    assert_eq!(code, 4);
    let (code, _) = failure(&["repair", "--dry-run", &url]);
    assert_eq!(code, 0);
    let repaired = json(&["repair", &url]);
    assert!(repaired["commit"].is_string() && repaired["left"].as_array().unwrap().is_empty(), "{repaired}");
    assert!(said(&["check", "--deep", &url]).contains("\nno problems found\n"));
    assert_eq!(said(&["cat", "--at", "checkpoint:second", &url, "/dir/one"]), "changed\n");
}

#[tokio::test]
async fn failures_say_what_to_do_and_have_their_code() {
    let place = place().await;
    let url = place.url();
    let empty = format!("file://{}/mnt", place.root.path().display());
    for (arguments, code, words) in [
        (&["ls", &empty] as &[&str], 3, "rfs create"),
        (&["ls", &url, "/none"], 3, "/none"),
        (&["cat", &url, "/dir"], 1, "EISDIR"),
        (&["cat", &url], 2, "PATHS"),
        (&["ls", "--at", "none", &url], 3, "rfs checkpoints"),
        (&["ls", "--at", "7.7", &url], 3, "7.7"),
        (&["ls", "ftp://x"], 2, "ftp"),
        (&["create", &url], 2, "there is a volume already"),
        (&["checkpoint", &url, ""], 2, "1 to 255 bytes"),
        (&["gc", &url, "--keep-commits", "0"], 2, "1 or more"),
        (&["check", &empty], 3, "rfs create"),
    ] {
        let (found, told) = failure(arguments);
        assert!(found == code && told.contains(words), "{arguments:?}: {found}, {told}");
    }
}

#[tokio::test]
async fn a_volume_is_created_and_is_empty() {
    let place = Place::new();
    let url = place.url();
    assert!(said(&["create", &url]).ends_with(&format!(" at {url}\n")));
    assert_eq!(said(&["ls", &url]), "");
    assert_eq!(json(&["ls", &url]), Value::Array(Vec::new()));
    assert_eq!(json(&["stats", &url])["directories"], 1);
}

#[tokio::test]
async fn a_closed_pipe_is_no_failure() {
    let place = Place::new();
    let volume = Volume::create(&place.url(), Options::new()).await.unwrap();
    volume.fs().write("/large", vec![7; 8 << 20]).await.unwrap();
    volume.close().await.unwrap();
    let mut cat = rfs();
    cat.args(["cat", &place.url(), "/large"]).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut cat = cat.spawn().unwrap();
    let mut first = [0; 10];
    cat.stdout.take().unwrap().read_exact(&mut first).unwrap();
    let ended = cat.wait_with_output().unwrap();
    assert!(ended.status.success() && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn shells_complete() {
    for shell in ["bash", "zsh", "fish"] {
        let script = said(&["completions", shell]);
        assert!(script.contains("checkpoints") && script.contains("completions"), "{shell}");
    }
}

#[tokio::test]
async fn states_are_compared() {
    let place = place().await;
    let url = place.url();
    let told = said(&["diff", &url, "first", "second"]);
    let lines: Vec<Vec<&str>> = told.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(lines.contains(&vec!["M", "/dir/one", "content", "0..8,", "size", "4", "->", "8"]), "{told}");
    assert!(lines.contains(&vec!["+", "/escape\\x1b[2J\\x0a", "file"]), "{told}");
    assert_eq!(said(&["diff", &url, "second", "second"]), "");
    let gone = said(&["diff", &url, "second", "head", "/dir/below"]);
    assert!(gone.contains("/dir/below/two") && !gone.contains("escape"), "{gone}");
    let documents = said(&["diff", "--json", &url, "first", "second", "/dir"]);
    let documents: Vec<Value> = documents.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let one = documents.iter().find(|line| line["path"] == "/dir/one").unwrap();
    assert_eq!((&one["kind"], &one["content"][0][1]), (&"changed".into(), &8.into()));
    assert_eq!((&one["before"]["size"], &one["after"]["size"]), (&4.into(), &8.into()));

    let done = said(&["changes", &url, "first", "second"]);
    assert!(done.contains("Write") && done.contains("AddCheckpoint") && !done.contains("Unlink"), "{done}");
    let records = said(&["changes", "--json", &url, "first"]);
    let records: Vec<Value> = records.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(records.windows(2).all(|two| two[0]["position"].as_u64() < two[1]["position"].as_u64()));
    assert!(records.iter().any(|record| record["change"] == "Unlink"), "{records:?}");
    let (code, error) = failure(&["changes", &url, "second", "first"]);
    assert!(code == 2 && error.contains("older"), "{error}");
    assert_eq!(failure(&["diff", &url, "first", "third"]).0, 3);
}

#[tokio::test]
async fn a_directory_goes_from_state_to_state() {
    let place = place().await;
    let url = place.url();
    let host = tempfile::tempdir().unwrap();
    let dir = host.path().join("dir");
    let at = dir.to_str().unwrap();
    said(&["restore", "--at", "first", &url, at]);
    let report = json(&["apply", &url, at, "first", "second"]);
    assert_eq!((&report["created"], &report["changed"], &report["bytes"]), (&1.into(), &1.into(), &8.into()));
    assert_eq!(std::fs::read(dir.join("dir/one")).unwrap(), b"changed\n");
    assert!(said(&["apply", &url, at, "second", "head"]).contains("removed 1"));
    assert!(!dir.join("dir/below/two").exists());
    std::fs::write(dir.join("dir/one"), "CHANGED\n").unwrap();
    let (code, error) = failure(&["apply", &url, at, "head", "first"]);
    assert!(code == 2 && error.contains("/dir/one has other content"), "{error}");
    assert!(error.contains("nothing was changed"), "{error}");
}
