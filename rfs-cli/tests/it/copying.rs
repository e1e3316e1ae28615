//! `rfs cp` and `rfs restore`.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::common::{Place, failure, json, run, said};

/// What a shell prints.
fn shell(script: &str, dir: &Path) -> String {
    let output = Command::new("sh").args(["-ec", script]).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "{script}: {output:?}");
    // Names may be any bytes.
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All that `find` sees of a tree; not how large a directory is, nor when it was looked at.
fn seen(dir: &Path) -> String {
    let entries = shell(
        "find . -type d -printf '%p %y %m %U %G %T@\\n' -o -printf '%p %y %m %U %G %T@ %s %n %l\\n' | sort",
        dir,
    );
    entries + &shell("find . -type f -exec sha256sum {} + | sort", dir)
}

/// A host directory with some of everything.
fn tree(place: &Place) -> std::path::PathBuf {
    let dir = place.root.path().join("tree");
    let made = "mkdir -p sub/below empty; echo one > one; ln one sub/same; ln -s ../one sub/link
        printf x > odd\"$(printf '\\377\\n')\"; mkfifo -m 640 sub/fifo
        truncate -s 20M sparse; printf middle | dd of=sparse bs=1 seek=10000000 conv=notrunc 2>&1
        head -c 3000000 /dev/zero | tr '\\0' x > sub/below/large
        chmod 4751 one; chmod 1555 sub/below
        touch -d '2020-02-02 02:02:02.123456789 UTC' one sub/below; touch -h -d '2001-01-01 UTC' sub/link
        touch -d '1999-09-09 09:09:09.9 UTC' . sub";
    fs::create_dir(&dir).unwrap();
    shell(made, &dir);
    rustix::fs::setxattr(dir.join("sub"), "user.of-dir", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    shell("touch -d '1999-09-09 09:09:09.9 UTC' . sub", &dir);
    dir
}

fn volume(place: &Place) -> String {
    let url = place.url();
    said(&["create", &url]);
    url
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_tree_goes_in_and_comes_out_the_same() {
    let place = Place::new();
    let (url, tree) = (volume(&place), tree(&place));
    let copied = json(&["cp", "-r", text(&tree), &format!("{url}:/job")]);
    assert_eq!((&copied["files"], &copied["directories"]), (&7.into(), &4.into()));
    let bytes = copied["bytes"].as_u64().unwrap();
    assert!(bytes < 4_000_000, "{bytes}: holes are not copied");
    assert_eq!(json(&["stat", &url, "/job/sparse"])["size"], 20 << 20);
    assert_eq!(json(&["stat", &url, "/job/sub"])["xattrs"][0], "user.of-dir");

    let out = place.root.path().join("out");
    said(&["cp", "-r", &format!("{url}:/job"), text(&out)]);
    assert_eq!(seen(&out), seen(&tree));
    assert!(shell("du -k sparse", &out).starts_with(|digit: char| digit.is_ascii_digit()));
    let blocks = std::os::unix::fs::MetadataExt::blocks(&fs::metadata(out.join("sparse")).unwrap());
    assert!(blocks * 512 < 1 << 20, "{blocks}");
    let mut value = [0; 8];
    assert_eq!(rustix::fs::getxattr(out.join("sub"), "user.of-dir", &mut value[..]), Ok(1));

    // Into a directory that is there, under its own name.
    fs::create_dir(place.root.path().join("there")).unwrap();
    let there = place.root.path().join("there");
    said(&["cp", "-r", &format!("{url}:/job"), text(&there)]);
    assert_eq!(seen(&there.join("job")), seen(&tree));
    said(&["cp", "-r", text(&tree), &format!("{url}:/job")]);
    assert_eq!(said(&["cat", &url, "/job/tree/one"]), "one\n");
}

#[test]
fn a_deep_tree_goes_in_and_comes_out() {
    let place = Place::new();
    let url = volume(&place);
    let tree = place.root.path().join("tree");
    fs::create_dir(&tree).unwrap();
    // Deeper than directories are kept open.
    let made = "for n in $(seq 150); do mkdir d; touch d/before; cd d; done; pwd > f
        for n in $(seq 150); do touch z; cd ..; done";
    shell(made, &tree);
    said(&["cp", "-r", text(&tree), &format!("{url}:/deep")]);
    let out = place.root.path().join("out");
    let copied = json(&["cp", "-r", &format!("{url}:/deep"), text(&out)]);
    assert_eq!(copied["directories"], 151);
    assert_eq!(seen(&out), seen(&tree));
}

#[test]
fn files_go_in_and_out() {
    let place = Place::new();
    let url = volume(&place);
    let here = |name: &str| place.root.path().join(name);
    fs::write(here("a"), "a").unwrap();
    fs::write(here("b"), "b").unwrap();
    assert_eq!(
        said(&["cp", text(&here("a")), &format!("{url}:/x")]),
        "copied 1 file and 0 directories, 1 B\n"
    );
    said(&["cp", text(&here("b")), &format!("{url}:/x")]);
    assert_eq!(said(&["cat", &url, "/x"]), "b");
    said(&["cp", text(&here("a")), text(&here("b")), &format!("{url}:/")]);
    assert_eq!(said(&["ls", &url]), "a\nb\nx\n");
    said(&["cp", &format!("{url}:/a"), text(&here("b"))]);
    assert_eq!(fs::read(here("b")).unwrap(), b"a");
    said(&["cp", &format!("{url}:/x"), &format!("{url}:/b"), text(&here("mnt"))]);
    assert_eq!(shell("cat x b", &here("mnt")), "bb");

    let at = |path: &str| format!("{url}:{path}");
    shell("mkfifo pipe", place.root.path());
    for (arguments, code, words) in [
        (&["cp", &at("/a"), text(&here("pipe"))] as &[&str], 1, "neither a file nor a symlink"),
        (&["cp", text(&here("mnt")), &at("/")], 2, "-r copies it"),
        (&["cp", &at("/"), text(&here("new"))], 2, "-r copies it"),
        (&["cp", text(&here("none")), &at("/")], 3, "none"),
        (&["cp", &at("/none"), text(&here("new"))], 3, "none"),
        (&["cp", text(&here("a")), text(&here("b"))], 2, "one side"),
        (&["cp", &at("/a"), &at("/b")], 2, "one side"),
        (&["cp", text(&here("a")), &url], 2, "say where in it"),
        (&["cp", text(&here("a")), &at("/no/where")], 3, "/no/where"),
        (&["cp", &at("/a"), text(&here("no/where"))], 3, "make it first"),
        (&["cp", &at("/a"), &at("/b"), text(&here("new"))], 2, "no directory"),
        (&["cp", "--at", "head", text(&here("a"))], 2, "2"),
        (&["cp", "--at", "x", text(&here("a")), &at("/")], 2, "--at"),
    ] {
        let (found, told) = failure(arguments);
        assert!(found == code && told.contains(words), "{arguments:?}: {found}, {told}");
    }
}

#[test]
fn a_state_is_restored() {
    let place = Place::new();
    let (url, tree) = (volume(&place), tree(&place));
    said(&["cp", "-r", &format!("{}/.", text(&tree)), &format!("{url}:/")]);
    said(&["checkpoint", &url, "first"]);
    let expected = seen(&tree);
    fs::write(tree.join("one"), "changed").unwrap();
    said(&["cp", text(&tree.join("one")), &format!("{url}:/")]);

    let dir = place.root.path().join("restored");
    let restored = json(&["restore", "--at", "first", &url, text(&dir)]);
    assert_eq!((&restored["entries"], &restored["kept"]), (&7.into(), &0.into()));
    assert_eq!(restored["missing"], Value::Array(Vec::new()));
    assert_eq!(seen(&dir), expected);
    let (code, told) = failure(&["restore", &url, text(&dir)]);
    assert!(code == 2 && told.contains("not empty"), "{told}");

    let one = place.root.path().join("one");
    let arguments = ["restore", &url, text(&one), "/one"];
    assert_eq!(said(&arguments), "restored 1 file and 0 directories, 7 B\n");
    assert_eq!(fs::read(one.join("one")).unwrap(), b"changed");
    let (code, told) = failure(&arguments);
    assert!(code == 1 && told.contains("EEXIST"), "{told}");
    said(&[&arguments as &[&str], &["--replace", "--at", "first"]].concat());
    assert_eq!(fs::read(one.join("one")).unwrap(), b"one\n");
}

#[test]
fn what_is_damaged_is_named_and_restored_when_it_is_mended() {
    let place = Place::new();
    let (url, tree) = (volume(&place), tree(&place));
    said(&["cp", "-r", &format!("{}/.", text(&tree)), &format!("{url}:/")]);
    let objects = json(&["inspect", &url]);
    let mut segments = objects.as_array().unwrap().iter().filter(|object| object["role"] == "segment");
    let key = segments.next().unwrap()["key"].as_str().unwrap();
    let object = place.root.path().join("store").join(key);
    let whole = fs::read(&object).unwrap();
    let mut damaged = whole.clone();
    let place_of_content = damaged.windows(8).position(|window| window == b"xxxxxxxx").unwrap();
    damaged[place_of_content + 1000] ^= 1;
    fs::write(&object, damaged).unwrap();
    let dir = place.root.path().join("restored");
    let output = run(&["restore", &url, text(&dir)]);
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(4), "{told}");
    assert!(told.contains("/sub/below/large: missing") && told.contains(key), "{told}");
    fs::write(&object, whole).unwrap();
    let said = said(&["restore", &url, text(&dir)]);
    assert!(said.contains("of these from before: 6 files"), "{said}");
    assert_eq!(seen(&dir), seen(&tree));
}
