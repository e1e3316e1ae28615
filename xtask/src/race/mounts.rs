//! What the workloads on mounted directories need: the programs that mount, and something to do.

use std::path::Path;
use std::process::Command;

use crate::servers::{self, JUICEFS, RCLONE, SEAWEEDFS};
use crate::suites::{sandbox, tools};
use crate::{Outcome, process, workspace};

/// How long a run may take, in seconds: some peers hang where they don't know better.
const LIMIT_SECONDS: u32 = 240;
/// What is unpacked and cloned: source code of several sizes.
const TREE: [&str; 4] = ["src", "rfs-core", "rfs-journal", "docs"];

/// Why nothing can be mounted on this machine, or nothing.
pub(super) fn missing() -> Option<String> {
    sandbox::missing(true)
}

/// Installs and builds all that is needed, and gives the variables by which the contestants find it.
pub(super) fn prepare(
    peers: bool,
    server: Option<&servers::Running>,
) -> Result<Vec<(String, String)>, String> {
    tools::build_rfs()?;
    let directory = workspace::task_directory();
    let tree = directory.join("race/tree.tar");
    let mut archive = Command::new("git");
    archive.current_dir(workspace::root()).args(["archive", "--format=tar", "HEAD", "--output"]);
    process::capture(archive.arg(&tree).args(TREE))?;
    let variable = |name: &str, value: &Path| (format!("RFS_RACE_{name}"), value.display().to_string());
    let mut variables = vec![variable("RFS", &tools::built_rfs()), variable("TREE", &tree)];
    if peers {
        install()?;
        for (name, package) in
            [("JUICEFS", &JUICEFS), ("RCLONE", RCLONE.package()), ("WEED", SEAWEEDFS.package())]
        {
            variables.push(variable(name, &package.installed_program(&directory)?));
        }
    }
    variables.extend(server.map(|server| ("RFS_RACE_FILER".to_owned(), server.filer())));
    Ok(variables)
}

fn install() -> Outcome {
    tools::install(&[tools::system(&[("bindfs", "bindfs"), ("s3fs", "s3fs"), ("fio", "fio")])])
}

/// A command that runs a program in namespaces of its own, as root: nothing that it starts or mounts outlives it.
pub(super) fn apart(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare", "--mount", "--propagation", "private"]);
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc", "--"]);
    command.args(["timeout", "--kill-after", "5", &LIMIT_SECONDS.to_string()]).arg(program);
    command
}
