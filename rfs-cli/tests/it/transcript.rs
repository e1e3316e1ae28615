//! The session in `docs/cli.md`: its commands are run, and have to print what stands there.
//!
//! What differs from run to run is not compared: times, ids, sizes (their tests are elsewhere), and how wide columns are.
//! `…` alone on a line stands for any lines. `RFS_TRANSCRIPT=write` writes the document anew.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the session takes place, for who reads it.
const HOME: &str = "/srv/ada";
const ANY: &str = "…";

#[test]
fn the_session_in_the_document_is_what_happens() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let document = std::fs::read_to_string(&file).unwrap();
    let session = Session::new();
    let (mut written, mut wrong) = (String::new(), String::new());
    let mut inside = false;
    let mut lines = document.lines().peekable();
    let mut commands = 0;
    while let Some(line) = lines.next() {
        writeln!(written, "{line}").unwrap();
        if line.starts_with("```") {
            inside = line == "```console";
        }
        let Some(command) = line.strip_prefix("$ ").filter(|_| inside) else { continue };
        commands += 1;
        let mut expected = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with("$ ") && !line.starts_with("```")) {
            expected.push(line);
        }
        let printed = session.run(command);
        let printed: Vec<&str> = printed.lines().collect();
        if !alike(&expected, &printed) {
            writeln!(wrong, "$ {command}\n{}", printed.join("\n")).unwrap();
        }
        let shown = expected.iter().position(|line| *line == ANY).unwrap_or(printed.len());
        for line in printed.iter().take(shown) {
            writeln!(written, "{line}").unwrap();
        }
        if shown < printed.len() {
            writeln!(written, "{ANY}").unwrap();
        }
    }
    assert!(commands > 20, "{commands}: it does not find the session");
    if std::env::var_os("RFS_TRANSCRIPT").is_some_and(|mode| mode == "write") {
        std::fs::write(&file, written).unwrap();
        return;
    }
    assert!(
        wrong.is_empty(),
        "docs/cli.md says otherwise; RFS_TRANSCRIPT=write writes it anew. What is printed now:\n{wrong}"
    );
}

struct Session {
    home: tempfile::TempDir,
    /// Where the commands are found.
    path: std::ffi::OsString,
}

impl Session {
    fn new() -> Self {
        let own = PathBuf::from(env!("CARGO_BIN_EXE_rfs")).parent().unwrap().to_path_buf();
        let others = std::env::var_os("PATH").unwrap_or_default();
        let path = std::env::join_paths([own].into_iter().chain(std::env::split_paths(&others))).unwrap();
        Self { home: tempfile::tempdir().unwrap(), path }
    }

    /// What a command prints on either output, as if it were at the home of the document.
    fn run(&self, command: &str) -> String {
        let home = self.home.path().to_str().unwrap();
        let script = format!("umask 022; exec 2>&1; {}", command.replace(HOME, home));
        let output =
            Command::new("sh").args(["-c", &script]).current_dir(home).env("PATH", &self.path).output();
        let printed = String::from_utf8(output.unwrap().stdout).unwrap().replace(home, HOME);
        printed.lines().fold(String::new(), |all, line| all + &owned_by_ada(line) + "\n")
    }
}

/// A line of a long listing, whoever runs the test.
fn owned_by_ada(line: &str) -> String {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if line.starts_with("owner ") {
        return line.replace(&format!("{uid}:{gid}"), "1000:1000");
    }
    let mode = line.split(' ').next().unwrap_or_default();
    let is_listing = mode.len() == 10 && mode.bytes().all(|letter| b"-dlrwxst".contains(&letter));
    if !is_listing {
        return line.to_owned();
    }
    line.replacen(&format!("  {uid}  {gid}  "), "  1000  1000  ", 1)
}

fn alike(expected: &[&str], printed: &[&str]) -> bool {
    let head = expected.iter().position(|line| *line == ANY);
    let same =
        |a: &[&str], b: &[&str]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| normal(a) == normal(b));
    match head {
        None => same(expected, printed),
        Some(head) => {
            let tail = expected.len() - head - 1;
            printed.len() >= head + tail
                && same(&expected[..head], &printed[..head])
                && same(&expected[head + 1..], &printed[printed.len() - tail..])
        }
    }
}

/// A line with what differs from run to run replaced.
fn normal(line: &str) -> String {
    let words: Vec<&str> = line.split_whitespace().collect();
    let mut normal = Vec::new();
    for (index, word) in words.iter().enumerate() {
        let next = words.get(index + 1).copied().unwrap_or_default();
        let before = index.checked_sub(1).map_or("", |before| words[before]);
        let is_unit = |word: &str| ["B", "KiB", "MiB", "GiB"].contains(&word.trim_end_matches(','));
        // How many objects there are depends on who runs the test: a volume's root is given away by a commit.
        let is_counted =
            next.starts_with("object") || before == "position" || index == 0 && next.ends_with('Z');
        normal.push(if word.starts_with("uid=") || word.starts_with("gid=") {
            "OWNER".to_owned()
        } else if is_counted && word.bytes().all(|byte| byte.is_ascii_digit()) {
            "COUNT".to_owned()
        } else if word.starts_with("object") {
            "objects".to_owned()
        } else if is_unit(next) {
            "SIZE".to_owned()
        } else if is_unit(word) {
            "UNIT".to_owned()
        } else {
            word.split_inclusive(['/', '"', ',', '-', ':']).map(part).collect()
        });
    }
    let line = normal.join(" ");
    time(&line)
}

/// An id, which is many hexadecimal digits.
fn part(part: &str) -> String {
    let digits = part.trim_end_matches(['/', '"', ',', '-', ':']);
    let is_id = digits.len() >= 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if is_id { part.replace(digits, "ID") } else { part.to_owned() }
}

/// Times, such as 2026-11-21T18:50:03.123456789Z, become a word.
fn time(line: &str) -> String {
    let form = b"dddd-dd-ddTdd:dd:dd";
    let mut out = String::new();
    let mut rest = line;
    while let Some(letter) = rest.chars().next() {
        let found = rest.len() >= form.len()
            && rest.bytes().zip(form).all(|(byte, form)| match form {
                b'd' => byte.is_ascii_digit(),
                form => byte == *form,
            });
        let taken = if found {
            out.push_str("TIME");
            let after = &rest[form.len()..];
            form.len() + after.find('Z').map_or(0, |end| end + 1)
        } else {
            out.push(letter);
            letter.len_utf8()
        };
        rest = &rest[taken..];
    }
    out
}
