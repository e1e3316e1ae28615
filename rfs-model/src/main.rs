//! Explores one size given on the command line: a check of larger bounds than the tests'.

use std::process::ExitCode;

use rfs_model::{Bounds, Protocol, Without, explore};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match parse(&arguments) {
        Ok(protocol) => {
            let found = explore(protocol);
            println!("{protocol:?}\n{found}");
            if found.loss.is_some() == protocol.without.is_some() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(message) => {
            eprintln!("{message}");
            ExitCode::from(2)
        }
    }
}

/// `name=number ...`, and `without=SAFEGUARD`.
fn parse(arguments: &[String]) -> Result<Protocol, String> {
    let mut bounds = Bounds::LEAST;
    let mut without = None;
    for argument in arguments {
        let (name, value) =
            argument.split_once('=').ok_or_else(|| format!("{argument:?} is not name=number"))?;
        let number = || value.parse::<u8>().map_err(|error| format!("{argument}: {error}"));
        match name {
            "writers" => bounds.writers = usize::from(number()?),
            "epochs" => bounds.epochs = u64::from(number()?),
            "commits" => bounds.commits = u64::from(number()?),
            "crashes" => bounds.crashes = number()?,
            "images" => bounds.images = number()?,
            "segments" => bounds.segments = number()?,
            "names" => bounds.names = number()?,
            "rewinds" => bounds.rewinds = number()?,
            "pins" => bounds.pins = number()?,
            "collections" => bounds.collections = number()?,
            "without" => {
                let known = Without::ALL.into_iter().find(|safeguard| format!("{safeguard:?}") == value);
                without = Some(known.ok_or_else(|| format!("{value} is none of {:?}", Without::ALL))?);
            }
            _ => return Err(format!("there is no bound {name}; they are those of {:?}", Bounds::LEAST)),
        }
    }
    Ok(Protocol { bounds, without })
}
