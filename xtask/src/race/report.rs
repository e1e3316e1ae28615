//! What the runs of a workload say together: medians, spread, ratios, and whether targets are met.

use std::fmt::Write;
use std::fs;

use serde_json::{Value, json};

/// A workload that was raced.
pub(super) struct Raced {
    /// As the contestants' program lists it.
    pub(super) workload: Value,
    /// A score of each contestant for each round.
    pub(super) rounds: Vec<Vec<Value>>,
}

impl Raced {
    /// What [`Raced::json`] made.
    pub(super) fn from_json(json: &Value) -> Self {
        let rounds = json["rounds"].as_array().into_iter().flatten();
        let scores = |round: &Value| round.as_array().cloned().unwrap_or_default();
        Self { workload: json["workload"].clone(), rounds: rounds.map(scores).collect() }
    }

    /// A line for each contestant, and one for each target.
    pub(super) fn table(&self) -> String {
        let mut table = String::new();
        let workload = &self.workload;
        let _ = writeln!(table, "\n{}: {}", text(workload, "name"), text(workload, "what"));
        let unit = format!("{}/s", text(workload, "unit"));
        let _ = writeln!(
            table,
            "  {:<26} {:>14} {:>25} {:>9} {:>9} {:>11} {:>9}  level",
            "", unit, "min..max", "rfs is", "p99, us", "bytes", "requests"
        );
        for (index, contestant) in self.contestants().iter().enumerate() {
            let name = text(contestant, "name");
            if let Some(why) = self.missing(index) {
                let _ = writeln!(table, "  {name:<26} missing: {why}");
                continue;
            }
            let of = |figure: &str| median(self.figures_of(index, figure)).map(short).unwrap_or_default();
            let ratio = if index == 0 {
                String::new()
            } else {
                self.ratio(0, index, "rate").map(times).unwrap_or_default()
            };
            let _ = writeln!(
                table,
                "  {name:<26} {:>14} {:>25} {ratio:>9} {:>9} {:>11} {:>9}  {}",
                of("rate"),
                self.spread(index),
                of("p99_us"),
                of("bytes"),
                of("requests"),
                text(contestant, "level"),
            );
            if let Some(value) = median(self.figures_of(index, "value")) {
                let _ = writeln!(table, "  {name:<26} {value:>14.1} (the figure that counts)");
            }
        }
        for (said, met) in self.verdicts() {
            let _ = writeln!(table, "  {} {said}", if met { "met    " } else { "NOT MET" });
        }
        table
    }

    /// As [`Raced::table`], for a document.
    fn figures(&self) -> String {
        let mut rows = String::new();
        for (index, contestant) in self.contestants().iter().enumerate() {
            let of = |figure: &str| median(self.figures_of(index, figure)).map(short).unwrap_or_default();
            let workload = if index == 0 { text(&self.workload, "name") } else { "" };
            let _ =
                write!(rows, "| {workload} | {} | {} ", text(contestant, "name"), text(contestant, "level"));
            let _ = match self.missing(index) {
                Some(why) => writeln!(rows, "| missing: {why} | | | | | |"),
                None => writeln!(
                    rows,
                    "| {} | {} | {} | {} | {} | {} |",
                    of("rate"),
                    self.spread(index),
                    self.ratio(0, index, "rate").filter(|_| index > 0).map(times).unwrap_or_default(),
                    of("p99_us"),
                    of("requests"),
                    of("bytes"),
                ),
            };
        }
        rows
    }

    /// The targets that are not met.
    pub(super) fn missed(&self) -> Vec<String> {
        let name = text(&self.workload, "name");
        let missed = self.verdicts().into_iter().filter(|(_, met)| !met);
        missed.map(|(said, _)| format!("{name}: {said}")).collect()
    }

    pub(super) fn json(&self) -> Value {
        let verdicts = self.verdicts().into_iter().map(|(said, met)| json!({ "target": said, "met": met }));
        json!({
            "workload": self.workload,
            "rounds": self.rounds,
            "verdicts": verdicts.collect::<Vec<_>>(),
        })
    }

    fn contestants(&self) -> &[Value] {
        self.workload["contestants"].as_array().map(Vec::as_slice).unwrap_or_default()
    }

    /// Each target in words, with what was found, and whether that is enough. None of a contestant that is missing.
    fn verdicts(&self) -> Vec<(String, bool)> {
        let targets = self.workload["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        let verdict = |target: &Value| {
            let figure = target["figure"].as_str()?;
            let index_of = |name: &str| self.contestants().iter().position(|one| one["name"] == name);
            let (who, whose) = match target["who"].as_str() {
                Some(who) => (index_of(who)?, format!("{who}'s {figure}")),
                None => (0, figure.to_owned()),
            };
            let (found, of_what) = match target["against"].as_str() {
                Some(against) => {
                    (self.ratio(who, index_of(against)?, figure)?, format!("{whose}, of {against}'s"))
                }
                None => (median(self.figures_of(who, figure))?, whose),
            };
            let (word, bound, met) =
                match (target["bound"]["at_least"].as_f64(), target["bound"]["at_most"].as_f64()) {
                    (Some(bound), _) => ("at least", bound, found >= bound),
                    (None, Some(bound)) => ("at most", bound, found <= bound),
                    (None, None) => return None,
                };
            Some((format!("{of_what}: {}, {word} {}", short(found), short(bound)), met))
        };
        targets.iter().filter_map(verdict).collect()
    }

    fn missing(&self, contestant: usize) -> Option<&str> {
        self.rounds.first()?.get(contestant)?["missing"].as_str()
    }

    /// The slowest and the fastest round of a contestant.
    fn spread(&self, contestant: usize) -> String {
        let rates = self.figures_of(contestant, "rate");
        let (low, high) =
            rates.iter().fold((f64::MAX, 0.0_f64), |(low, high), rate| (low.min(*rate), high.max(*rate)));
        format!("{}..{}", short(low), short(high))
    }

    /// A figure of a contestant in each round.
    fn figures_of(&self, contestant: usize, figure: &str) -> Vec<f64> {
        self.rounds.iter().filter_map(|scores| figure_of(scores.get(contestant)?, figure)).collect()
    }

    /// The median of what a contestant's figure is of another's, round by round.
    fn ratio(&self, one: usize, other: usize, figure: &str) -> Option<f64> {
        let ratio = |scores: &Vec<Value>| {
            let other = figure_of(scores.get(other)?, figure)?;
            Some(figure_of(scores.get(one)?, figure)? / other)
        };
        median(self.rounds.iter().filter_map(ratio).collect())
    }
}

/// All that was raced, for a document.
pub(super) fn figures(machine: &str, raced: &[Raced]) -> String {
    let mut out = format!("Measured on {machine}.\n\n");
    out += "| workload | who | level | a second, median | min..max | rfs is | p99, us | requests | bytes |\n";
    out += "|---|---|---|---|---|---|---|---|---|\n";
    out.extend(raced.iter().map(Raced::figures));
    out += "\n| workload | target | found |\n|---|---|---|\n";
    for one in raced {
        for (said, met) in one.verdicts() {
            let verdict = if met { "met" } else { "**not met**" };
            let _ = writeln!(out, "| {} | {said} | {verdict} |", text(&one.workload, "name"));
        }
    }
    out += "\nWhat each workload does:\n\n";
    for one in raced {
        let field = |field| text(&one.workload, field);
        let _ = writeln!(out, "- `{}`: {}. Counted are {}.", field("name"), field("what"), field("unit"));
    }
    out
}

/// A field that holds text.
fn text<'a>(of: &'a Value, field: &str) -> &'a str {
    of[field].as_str().unwrap_or_default()
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2} x")
}

fn figure_of(score: &Value, figure: &str) -> Option<f64> {
    if score["missing"].is_string() {
        return None;
    }
    let field = |name: &str| score[name].as_f64();
    match figure {
        "rate" => Some(field("units")? / field("seconds")?),
        "time" => Some(field("seconds")? / field("units")?),
        other => field(other),
    }
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        len if len % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Three digits that count, and a unit for what is large.
fn short(number: f64) -> String {
    let (number, unit) = match number {
        number if number >= 1e9 => (number / 1e9, " G"),
        number if number >= 1e6 => (number / 1e6, " M"),
        number if number >= 1e4 => (number / 1e3, " k"),
        number => (number, ""),
    };
    let digits = if number >= 100.0 || number.fract() == 0.0 {
        0
    } else if number >= 10.0 {
        1
    } else {
        2
    };
    format!("{number:.digits$}{unit}")
}

/// What ran all this: processor, cores, memory, kernel.
pub(super) fn machine() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.split(':').nth(1))
            .map_or_else(|| "?".to_owned(), |value| value.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let load = read("/proc/loadavg");
    format!(
        "{}, {cores} cores, memory {}, Linux {}, load {}",
        field(&read("/proc/cpuinfo"), "model name"),
        field(&read("/proc/meminfo"), "MemTotal"),
        kernel.trim(),
        load.split(' ').next().unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raced() -> Raced {
        let workload = json!({
            "name": "append", "what": "appends", "unit": "appends",
            "contestants": [{"name": "rfs", "level": "Memory"}, {"name": "limit", "level": "-"}, {"name": "peer", "level": "-"}],
            "targets": [
                {"against": "limit", "figure": "rate", "bound": {"at_least": 3.0}},
                {"against": "limit", "figure": "time", "bound": {"at_most": 0.1}},
                {"against": "peer", "figure": "rate", "bound": {"at_least": 1.0}},
                {"against": null, "figure": "value", "bound": {"at_most": 7.0}},
                {"who": "limit", "against": "rfs", "figure": "rate", "bound": {"at_least": 0.5}},
            ],
        });
        let round = |rfs: f64, limit: f64| {
            vec![
                json!({"seconds": rfs, "units": 10, "value": 6.5}),
                json!({"seconds": limit, "units": 10}),
                json!({"seconds": 0.0, "units": 0, "missing": "it was not built"}),
            ]
        };
        Raced { workload, rounds: vec![round(1.0, 4.0), round(10.0, 50.0), round(1.0, 2.0)] }
    }

    #[test]
    fn what_is_compared_is_of_one_round() {
        let raced = raced();
        assert_eq!(raced.ratio(0, 1, "rate"), Some(4.0));
        assert_eq!(raced.ratio(0, 1, "time"), Some(0.25));
        assert_eq!(raced.ratio(0, 2, "rate"), None);
        let verdicts = raced.verdicts();
        assert_eq!(verdicts.iter().map(|(_, met)| *met).collect::<Vec<_>>(), [true, false, true, false]);
        assert_eq!(
            raced.missed(),
            [
                "append: time, of limit's: 0.25, at most 0.10",
                "append: limit's rate, of rfs's: 0.25, at least 0.50"
            ]
        );
        let table = raced.table();
        assert!(table.contains("missing: it was not built") && table.contains("NOT MET"), "{table}");
        let again = Raced::from_json(&raced.json());
        assert_eq!(again.table(), table);
        let document = figures("a machine", &[again]);
        for row in
            ["| append | rfs | Memory |", "missing: it was not built", "**not met**", "- `append`: appends."]
        {
            assert!(document.contains(row), "{document}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let numbers = [0.256, 3.0, 12.34, 999.5, 12_340.0, 5e6, 1.234e9];
        assert_eq!(numbers.map(short), ["0.26", "3", "12.3", "1000", "12.3 k", "5 M", "1.23 G"]);
    }
}
