//! Running other programs: every failure names the command line and what to do.

use std::process::{Command, Output, Stdio};

use crate::Outcome;

/// Runs a command with this task's input and output; anything but success is an error.
pub fn run(command: &mut Command) -> Outcome {
    let line = command_line(command);
    let status = command.status().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{line}` failed: {status}")) }
}

/// Runs a command without input and returns its standard output; on failure the error carries what it said.
pub fn capture(command: &mut Command) -> Result<Vec<u8>, String> {
    let line = command_line(command);
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().map_err(|error| format!("cannot start `{line}`: {error}"))?;
    if status.success() {
        return Ok(stdout);
    }
    Err(format!("`{line}` failed: {status}\n{}", String::from_utf8_lossy(&stderr).trim_end()))
}

/// The command as one would type it.
pub fn command_line(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|word| word.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_command() {
        let missing = run(&mut Command::new("no-such-program-of-rfs")).unwrap_err();
        assert!(missing.contains("cannot start `no-such-program-of-rfs`"), "{missing}");
        let refused = capture(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert!(refused.contains("exit status: 3") && refused.ends_with("why"), "{refused}");
    }
}
