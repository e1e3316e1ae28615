//! The programs that suites need: from the system's packages, from crates.io, and from this workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, process, workspace};

/// Something that must be there before a suite starts.
#[derive(Clone, Copy)]
pub(crate) struct Need {
    /// Programs of the system, each with the Debian package that has it.
    programs: &'static [(&'static str, &'static str)],
    /// A header of the system that the build needs, with its Debian package.
    header: Option<(&'static str, &'static str)>,
    build: Option<Build>,
}

#[derive(Clone, Copy)]
enum Build {
    /// A program of crates.io: name and version.
    Crate(&'static str, &'static str),
    EditedFsx,
    Pathconf,
}

const FSX_VERSION: &str = "0.3.2";

pub(super) const PJDFSTEST: Need = Need {
    programs: &[("mkfs.ext4", "e2fsprogs")],
    header: Some(("/usr/include/sys/acl.h", "libacl1-dev")),
    build: Some(Build::Crate("pjdfstest", "0.2.2")),
};
pub(super) const FSX: Need = Need { programs: &[], header: None, build: Some(Build::EditedFsx) };
/// See `suites/pathconf.c`.
pub(super) const PATHCONF: Need =
    Need { programs: &[("cc", "gcc")], header: None, build: Some(Build::Pathconf) };
pub(super) const STRESS_NG: Need = system(&[("stress-ng", "stress-ng"), ("mkfs.ext4", "e2fsprogs")]);

/// Programs of the system.
pub(crate) const fn system(programs: &'static [(&'static str, &'static str)]) -> Need {
    Need { programs, header: None, build: None }
}

/// Installs what is not there.
pub(crate) fn install(needs: &[Need]) -> Outcome {
    install_packages(needs)?;
    for need in needs {
        match need.build {
            Some(Build::Crate(name, version)) => install_crate(name, version)?,
            Some(Build::EditedFsx) => build_edited_fsx()?,
            Some(Build::Pathconf) => build_pathconf()?,
            None => {}
        }
    }
    Ok(())
}

/// Builds the command-line tool.
pub(crate) fn build_rfs() -> Outcome {
    process::run(workspace::cargo().args(["build", "--release", "--locked", "--package", "rfs-cli"]))
}

/// As [`build_rfs`], in the profile in which the tests are built: with them, it is built already.
pub(super) fn build_checked_rfs() -> Result<PathBuf, String> {
    process::run(workspace::cargo().args(["build", "--locked", "--package", "rfs-cli"]))?;
    Ok(target_directory().join("debug/rfs"))
}

/// The command-line tool of this workspace.
pub(crate) fn built_rfs() -> PathBuf {
    target_directory().join("release/rfs")
}

/// The library of [`PATHCONF`].
pub(super) fn pathconf() -> PathBuf {
    directory().join("pathconf.so")
}

/// An installed program of crates.io.
pub(super) fn installed(program: &str) -> PathBuf {
    directory().join("bin").join(program)
}

/// Cargo's directory of this workspace.
pub(super) fn target_directory() -> PathBuf {
    let tasks = workspace::task_directory();
    tasks.parent().map_or_else(|| tasks.clone(), Path::to_path_buf)
}

fn directory() -> PathBuf {
    target_directory().join("suite-tools")
}

fn install_packages(needs: &[Need]) -> Outcome {
    let mut missing = Vec::new();
    for need in needs {
        let programs = need.programs.iter().filter(|(program, _)| !on_path(program));
        let headers = need.header.iter().filter(|(header, _)| !Path::new(header).exists());
        missing.extend(programs.chain(headers).map(|(_, package)| *package));
    }
    missing.sort_unstable();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !on_path("apt-get") {
        return Err(format!("install what your system calls these Debian packages: {list}"));
    }
    eprintln!("installing {list}");
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments);
        process::capture(&mut command)
            .map_err(|error| format!("cannot install {list}; install them yourself\n{error}"))
    };
    apt(&["update"])?;
    apt(&[&["install", "--yes", "--no-install-recommends"], missing.as_slice()].concat())?;
    Ok(())
}

fn on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Where the system's own programs are, which the path of a plain user leaves out.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|directory| directory.join(program).is_file())
}

fn install_crate(name: &str, version: &str) -> Outcome {
    let said = process::capture(Command::new(installed(name)).arg("--version")).unwrap_or_default();
    if String::from_utf8_lossy(&said).trim() == format!("{name} {version}") {
        return Ok(());
    }
    eprintln!("installing {name} {version}");
    cargo_install(&[name, "--version", version])
}

fn cargo_install(what: &[&str]) -> Outcome {
    let mut command = workspace::cargo();
    command.args(["install", "--quiet", "--locked", "--force", "--target-dir"]);
    command.arg(directory().join("build")).arg("--root").arg(directory()).args(what);
    process::capture(&mut command).map(drop)
}

/// [`FSX`]'s program.
pub(super) fn edited_fsx() -> PathBuf {
    installed("fsx-edited")
}

/// What of fsx is replaced, and by what, so that it can run for long and go on with a file it has left.
///
/// The original's `-b` does the operations before the given one in memory only, and then writes the file anew from
/// that. Here it reads the file and compares it instead, so that the file under test is the one that was left.
const FSX_EDITS: &[(&str, &str)] = &[
    // The original keeps every mapping that it reads through: after 300,000 operations the system gives it no more.
    (
        ".copy_to(buf.as_mut_ptr(), size);\n            self.check_eofpage(offset, p.as_ptr(), size);\n",
        ".copy_to(buf.as_mut_ptr(), size);\n            self.check_eofpage(offset, p.as_ptr(), size);\n            \
         munmap(p, map_size).unwrap();\n",
    ),
    ("oo.create(true).truncate(true);", "oo.create(true).truncate(cli.opnum.get() == 1);"),
    (
        "            self.writefileimage();\n",
        "            let mut found = Vec::new();\n            \
         io::Read::read_to_end(&mut &self.file, &mut found).unwrap();\n            \
         if found[..] != self.good_buf[..self.file_size as usize] {\n                \
         error!(\"the file is not as operation {} left it\", self.steps);\n                \
         self.fail();\n            }\n",
    ),
    // The original copies within the file even for operations that it is to do in memory only.
    (
        "            self.do_copy_file_range(ioffset, ooffset, size)\n",
        "            if !self.skip() {\n                \
         self.do_copy_file_range(ioffset, ooffset, size)\n            }\n",
    ),
];

fn build_edited_fsx() -> Outcome {
    let sources = directory().join("fsx-edited");
    let main = sources.join("src/main.rs");
    // It is for its sources that the original is installed.
    install_crate("fsx", FSX_VERSION)?;
    let original = unpacked(&format!("fsx-{FSX_VERSION}"))?;
    let edited = edited(&original.join("src/main.rs"), FSX_EDITS)?;
    if edited_fsx().is_file() && fs::read_to_string(&main).is_ok_and(|built| built == edited) {
        return Ok(());
    }
    eprintln!("building fsx {FSX_VERSION} with edits");
    let program = edited_fsx();
    // Nothing that was built from other sources is left, should this be the last that works.
    for old in [&sources, &program] {
        process::capture(Command::new("rm").arg("-rf").arg(old))?;
    }
    process::capture(Command::new("cp").arg("-r").arg(original).arg(&sources))?;
    let manifest = sources.join("Cargo.toml");
    // The edition of the workspace around it is none of its business.
    let own = [
        ("[package]\n", "[workspace]\n\n[package]\n"),
        ("name = \"fsx\"\npath", "name = \"fsx-edited\"\npath"),
    ];
    write(&manifest, &self::edited(&manifest, &own)?)?;
    write(&main, &edited)?;
    let path = sources.to_string_lossy().into_owned();
    cargo_install(&["--path", &path, "--bin", "fsx-edited"])
}

fn build_pathconf() -> Outcome {
    let source = workspace::root().join("suites/pathconf.c");
    process::capture(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(pathconf()).arg(source))
        .map(drop)
}

/// Where cargo has unpacked the sources of an installed crate.
fn unpacked(name_and_version: &str) -> Result<PathBuf, String> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let registries = home.ok_or("neither CARGO_HOME nor HOME is set")?.join("registry/src");
    let entries = fs::read_dir(&registries)
        .map_err(|error| format!("cannot list the crates in {}: {error}", registries.display()))?;
    entries
        .filter_map(Result::ok)
        .map(|registry| registry.path().join(name_and_version))
        .find(|sources| sources.is_dir())
        .ok_or_else(|| {
            format!(
                "the sources of {name_and_version} are not in {}; delete {} to install it anew",
                registries.display(),
                directory().display()
            )
        })
}

fn edited(file: &Path, replacements: &[(&str, &str)]) -> Result<String, String> {
    let mut text =
        fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    for (original, ours) in replacements {
        if text.matches(original).count() != 1 {
            return Err(format!("{}: {original:?} is not there once", file.display()));
        }
        text = text.replace(original, ours);
    }
    Ok(text)
}

fn write(file: &Path, text: &str) -> Outcome {
    fs::write(file, text).map_err(|error| format!("cannot write {}: {error}", file.display()))
}
