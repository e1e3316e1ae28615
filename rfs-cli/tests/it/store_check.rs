//! `rfs store check`.

use crate::common::{failure, json, said};

#[test]
fn a_directory_is_safe_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("file://{}/store", dir.path().display());
    let told = said(&["store", "check", &url]);
    assert!(told.contains("of racing creators exactly one wins"), "{told}");
    assert!(told.ends_with("of 22 hold: volumes are safe here\n"), "{told}");
    let told = json(&["store", "check", &url, "--seed", "7"]);
    assert_eq!((&told["safe"], told["checks"].as_array().unwrap().len()), (&true.into(), 22));
    let race = told["checks"].as_array().unwrap().iter().find(|check| check["check"] == "ranges are exact");
    let race = race.unwrap();
    assert_eq!((&race["needed"], &race["holds"]), (&true.into(), &true.into()), "{race}");
    let objects = |dir: &std::path::Path| {
        let mut files = 0;
        let mut dirs = vec![dir.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() { dirs.push(path) } else { files += 1 }
            }
        }
        files
    };
    assert_eq!(objects(dir.path()), 0);
}

/// What cannot be judged is no store on which volumes are unsafe.
#[test]
fn a_store_that_cannot_be_tried_is_told_apart() {
    let (code, told) = failure(&["store", "check", "ftp://host/dir"]);
    assert!(code == 1 && told.contains("unknown scheme"), "{code}: {told}");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let (code, told) = failure(&["store", "check", &format!("file://{}", file.display())]);
    assert!(code == 1 && told.contains("directory"), "{code}: {told}");
}

#[cfg(feature = "http")]
#[test]
fn a_web_server_is_for_reading_only() {
    // Nothing is sent: who listens there would wait for ever.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/dir", silent.local_addr().unwrap());
    let (code, told) = failure(&["store", "check", &url]);
    assert!(code == 1 && told.contains("for reading only"), "{code}: {told}");
    let (code, told) = failure(&["create", &url]);
    assert!(code == 1 && told.contains("for reading only"), "{code}: {told}");
}
