//! `rfs completions`: what a shell needs to complete commands.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Done;
use crate::args::Args;
use crate::output::Out;

/// Write the completions of a shell to the standard output.
///
/// bash: rfs completions bash > ~/.local/share/bash-completion/completions/rfs
#[derive(Debug, clap::Args)]
pub(crate) struct Completions {
    /// Which shell.
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(&self) -> Done {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Args::command(), "rfs", &mut script);
        let mut out = Out::new();
        out.bytes(&script)?;
        out.end()
    }
}
