//! `cargo xtask serve`: the S3 server of the tests in the foreground, for use by hand.

use std::io::Read;

use crate::server::{ACCESS_KEY, BUCKET, MINISTACK, REGION, SECRET_KEY};
use crate::{Outcome, workspace};

/// Serves until the standard input ends or the task is interrupted.
pub fn run(arguments: &[String]) -> Outcome {
    let port = port(arguments)?;
    let running = MINISTACK.start(&workspace::task_directory(), port)?;
    println!("export AWS_ENDPOINT={}", running.endpoint());
    println!("export AWS_ALLOW_HTTP=true");
    println!("export AWS_REGION={REGION}");
    println!("export AWS_ACCESS_KEY_ID={ACCESS_KEY}");
    println!("export AWS_SECRET_ACCESS_KEY={SECRET_KEY}");
    println!("# volume URLs begin with s3://{BUCKET}/, for example s3://{BUCKET}/try");
    println!("# the data goes when the server stops: close the standard input (Ctrl-D) or press Ctrl-C");

    let mut chunk = [0; 4096];
    while std::io::stdin().read(&mut chunk).map_err(|error| format!("reading the standard input: {error}"))?
        > 0
    {}
    running.stop()
}

fn port(arguments: &[String]) -> Result<Option<u16>, String> {
    match arguments {
        [] => Ok(None),
        [flag, value] if flag == "--port" => match value.parse() {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(format!("--port takes a number from 1 to 65535, not {value:?}")),
        },
        _ => Err(format!("takes [--port PORT], not {arguments:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports() {
        let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(port(&[]), Ok(None));
        assert_eq!(port(&words("--port 9000")), Ok(Some(9000)));
        for wrong in ["--port", "--port 0", "--port 65536", "--port x", "9000"] {
            assert!(port(&words(wrong)).is_err(), "{wrong}");
        }
    }
}
