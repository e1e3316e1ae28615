//! `cargo xtask flights-weather`: the main job on an S3 server, behind a proxy that makes bad weather.

use crate::servers::{ACCESS_KEY, BUCKET, MINISTACK, REGION, SECRET_KEY};
use crate::{Outcome, process, test, workspace};

/// What may follow the name of the task.
pub const USAGE: &str = "[-- ARGS]";

/// Starts the server, runs the job, stops the server. What follows `--` goes to the job, behind these arguments.
pub fn run(arguments: &[String]) -> Outcome {
    let further = match arguments {
        [] => arguments,
        [separator, rest @ ..] if separator == "--" => rest,
        _ => return Err(format!("takes {USAGE}, not {arguments:?}")),
    };
    let server = MINISTACK.start(&workspace::task_directory(), None)?;
    let environment = [
        ("AWS_ENDPOINT_URL", server.endpoint()),
        ("AWS_ALLOW_HTTP", "true".to_owned()),
        ("AWS_REGION", REGION.to_owned()),
        ("AWS_ACCESS_KEY_ID", ACCESS_KEY.to_owned()),
        ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.to_owned()),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value));
    let mut job = test::cargo(&["run", "--release", "--example", "flights", "--"], &environment);
    job.arg("--store").arg(format!("s3://{BUCKET}/flights")).args(["--kills", "10"]);
    job.args(["--weather", "ttfb=30,fail=2,lost=1"]).args(further);
    let outcome = process::run(&mut job);
    server.stop()?;
    outcome
}
