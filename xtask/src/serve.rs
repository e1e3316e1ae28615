//! `cargo xtask serve`: one of the servers of the tests in the foreground, for use by hand.

use std::io::Read;

use crate::servers::{AZURITE, GCS, MINISTACK, MOTO, RCLONE, SEAWEEDFS, Server};
use crate::{Outcome, workspace};

/// What the command takes.
pub const USAGE: &str = "[SERVER] [--port PORT]";

const SERVERS: [&Server; 6] = [&MINISTACK, &SEAWEEDFS, &AZURITE, &GCS, &MOTO, &RCLONE];

/// Serves until the standard input ends or the task is interrupted.
pub fn run(arguments: &[String]) -> Outcome {
    let (server, arguments) = server(arguments)?;
    let running = server.start(&workspace::task_directory(), port(arguments)?)?;
    for (name, value) in running.platform_environment() {
        println!("export {name}='{value}'");
    }
    let url = running.url();
    println!("# volume URLs begin with {url}/, for example {url}/try");
    println!("# the data goes when the server stops: close the standard input (Ctrl-D) or press Ctrl-C");

    let mut chunk = [0; 4096];
    while std::io::stdin().read(&mut chunk).map_err(|error| format!("reading the standard input: {error}"))?
        > 0
    {}
    running.stop()
}

/// The server that is named first, or that of S3.
fn server(arguments: &[String]) -> Result<(&'static Server, &[String]), String> {
    match arguments {
        [name, rest @ ..] if !name.starts_with('-') => {
            let known = SERVERS.iter().find(|server| server.name == name);
            let names = || SERVERS.map(|server| server.name).join(", ");
            known
                .map(|known| (*known, rest))
                .ok_or_else(|| format!("no server {name:?}; there are {}", names()))
        }
        rest => Ok((&MINISTACK, rest)),
    }
}

fn port(arguments: &[String]) -> Result<Option<u16>, String> {
    match arguments {
        [] => Ok(None),
        [flag, value] if flag == "--port" => match value.parse() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(format!("--port takes a number from 1 to 65535, not {value:?}")),
        },
        _ => Err(format!("takes {USAGE}, not {arguments:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers() {
        let named = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            server(&words).map(|(server, rest)| (server.name, rest.len()))
        };
        assert_eq!(named(&["--port", "1"]), Ok(("ministack", 2)));
        assert_eq!(named(&["azurite", "--port", "1"]), Ok(("azurite", 2)));
        assert!(named(&["minio"]).unwrap_err().contains("ministack, seaweedfs, azurite"));
    }

    #[test]
    fn ports() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(port(&[]), Ok(None));
        assert_eq!(port(&words("--port 9000")), Ok(Some(9000)));
        for wrong in ["--port", "--port 0", "--port 65536", "--port x", "--ports 1"] {
            assert!(port(&words(wrong)).is_err(), "{wrong}");
        }
    }
}
