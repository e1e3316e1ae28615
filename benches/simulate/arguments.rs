//! What is to be simulated.

pub(crate) struct Arguments {
    pub(crate) seeds: u64,
    pub(crate) from: u64,
    pub(crate) jobs: u64,
    /// Each seed is run twice, and must do the same.
    pub(crate) twice: bool,
}

impl Arguments {
    pub(crate) fn parse(words: impl Iterator<Item = String>) -> Result<Self, String> {
        let jobs = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        let mut arguments = Self { seeds: 20, from: 0, jobs, twice: false };
        let mut words = words.filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            if word == "--twice" {
                arguments.twice = true;
                continue;
            }
            let field = match word.as_str() {
                "--seeds" => &mut arguments.seeds,
                "--from" => &mut arguments.from,
                "--jobs" => &mut arguments.jobs,
                _ => return Err(format!("takes [--seeds N] [--from S] [--jobs J] [--twice], not {word}")),
            };
            let value = words.next().ok_or_else(|| format!("{word} takes a number"))?;
            let number = value.replace('_', "").parse();
            *field = number.map_err(|_| format!("{word} takes a number, not {value:?}"))?;
        }
        Ok(arguments)
    }
}
