//! `cargo xtask flights`: the main job, with 10 kills, on every store that starts here, and once in bad weather.

use crate::servers::{AZURITE, GCS, MINISTACK, Running, SEAWEEDFS, Server};
use crate::{Outcome, process, test, workspace};

/// What may follow the name of the task.
pub const USAGE: &str = "[--weather] [-- ARGS]";

/// What the proxy does: 30 ms more until an answer begins, 2 % of the requests failed, 1 % of the replies lost.
const WEATHER: &str = "ttfb=30,fail=2,lost=1";

/// Where the job runs.
struct Leg {
    /// None for the job's own directory.
    server: Option<&'static Server>,
    weather: bool,
}

const CALM: [Leg; 5] = [
    Leg { server: None, weather: false },
    Leg { server: Some(&MINISTACK), weather: false },
    Leg { server: Some(&SEAWEEDFS), weather: false },
    Leg { server: Some(&AZURITE), weather: false },
    Leg { server: Some(&GCS), weather: false },
];
const BAD: Leg = Leg { server: Some(&MINISTACK), weather: true };

/// Runs the job on each, and fails when it failed on one. With `--weather` it is run in bad weather only. What follows `--`
/// goes to the job, behind its own arguments.
pub fn run(arguments: &[String]) -> Outcome {
    let (only_bad, rest) = match arguments {
        [first, rest @ ..] if first == "--weather" => (true, rest),
        rest => (false, rest),
    };
    let further = match rest {
        [] => rest,
        [separator, rest @ ..] if separator == "--" => rest,
        _ => return Err(format!("takes {USAGE}, not {arguments:?}")),
    };
    let calm = if only_bad { &[][..] } else { &CALM[..] };
    let mut failed = Vec::new();
    for leg in calm.iter().chain([&BAD]) {
        let title = leg.title();
        println!("==> {title}");
        if let Err(why) = leg.run(further) {
            eprintln!("{title}: {why}");
            failed.push(title);
        }
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("not identical on {}", failed.join(", "))) }
}

impl Leg {
    fn title(&self) -> String {
        let server = self.server.map_or_else(|| "local directory".to_owned(), Server::title);
        format!("{server}{}", if self.weather { " in bad weather" } else { "" })
    }

    fn run(&self, further: &[String]) -> Outcome {
        let running = match self.server {
            Some(server) => Some(server.start(&workspace::task_directory(), None)?),
            None => None,
        };
        let environment = running.as_ref().map(Running::platform_environment).unwrap_or_default();
        let environment: Vec<_> =
            environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let mut job = test::cargo(
            &["run", "--quiet", "--release", "--locked", "--example", "flights", "--"],
            &environment,
        );
        if let Some(running) = &running {
            job.arg("--store").arg(format!("{}/flights", running.url()));
        }
        job.args(["--kills", "10"]);
        if self.weather {
            job.args(["--weather", WEATHER]);
        }
        let outcome = process::run(job.args(further));
        if let Some(running) = running {
            running.stop()?;
        }
        outcome
    }
}
