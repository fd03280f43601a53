//! The figures of a run: each is printed as it is measured, and goes as a line to the file that
//! `THIMBLE_FIGURES` names (`target/bench.tsv` under `make bench`), of which the table is made.

use std::fs::{self, File};
use std::io::Write;

use super::median;

/// Columns of the file, as its first line names them. [`Figure::record`] writes the others.
pub const COLUMNS: &str = "part\tname\tunit\tmedian\tlow\thigh\tpeer\tpeer median\tpeer low\tpeer high\tratio\ttarget\t\
                           verdict\tbudget\twithin budget\trounds\tload\tcommand";
/// A field that has nothing in it.
const NONE: &str = "-";

/// What a figure may be at most.
#[derive(Clone, Copy)]
pub enum Most {
    /// In the figure's own unit.
    Value(f64),
    /// Times its peer's.
    Ratio(f64),
}

impl Most {
    fn text(self) -> String {
        match self {
            Self::Value(most) => short(most),
            Self::Ratio(most) => format!("{most} x"),
        }
    }

    /// Whether the figure keeps it; nothing where there is no peer to compare it with.
    fn holds(self, value: f64, ratio: Option<f64>) -> Option<bool> {
        match self {
            Self::Value(most) => Some(value <= most),
            Self::Ratio(most) => ratio.map(|ratio| ratio <= most),
        }
    }
}

/// One figure: the values of several rounds, and those of a peer measured between them.
pub struct Figure {
    part: &'static str,
    name: String,
    unit: &'static str,
    ours: Vec<f64>,
    peer: Option<(String, Vec<f64>)>,
    target: Option<Most>,
    budget: Option<Most>,
}

impl Figure {
    /// A figure of a part of the bench, with the values of its rounds. Panics if there are none.
    pub fn new(part: &'static str, name: &str, unit: &'static str, ours: Vec<f64>) -> Self {
        assert!(!ours.is_empty(), "{name}: nothing was measured");
        Self { part, name: name.to_owned(), unit, ours, peer: None, target: None, budget: None }
    }

    /// The same, of a peer. Where there are as many values as of ours, they are of the same rounds.
    pub fn beside(mut self, peer: &str, values: Vec<f64>) -> Self {
        assert!(!values.is_empty(), "{peer}: nothing was measured");
        self.peer = Some((peer.to_owned(), values));
        self
    }

    /// What is aimed at. The table tells where it is missed.
    pub fn target(mut self, most: Most) -> Self {
        self.target = Some(most);
        self
    }

    /// What is promised (docs/architecture.md, "Budgets"). The bench fails where it is broken.
    pub fn budget(mut self, most: Most) -> Self {
        self.budget = Some(most);
        self
    }

    /// The median of the rounds' ratios: what else the machine does changes slowly, and so is the
    /// same for both sides of a round.
    fn ratio(&self) -> Option<f64> {
        let (_, theirs) = self.peer.as_ref()?;
        if theirs.len() == self.ours.len() {
            return Some(median(self.ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()));
        }
        Some(median(self.ours.clone()) / median(theirs.clone()))
    }

    /// Prints it, and adds it to the file.
    pub fn record(self) {
        let ratio = self.ratio();
        let value = median(self.ours.clone());
        let verdict = |most: Option<Most>, missed: &str| match most.and_then(|most| most.holds(value, ratio))
        {
            Some(true) => "met".to_owned(),
            Some(false) => missed.to_owned(),
            None => NONE.to_owned(),
        };
        let text = |most: Option<Most>| most.map_or(NONE.to_owned(), Most::text);
        let (verdict, within) = (verdict(self.target, "MISSED"), verdict(self.budget, "OVER"));
        let [low, high] = quartiles(&self.ours).map(short);
        let peer = match &self.peer {
            None => [NONE; 4].map(str::to_owned),
            Some((name, values)) => {
                let [low, high] = quartiles(values).map(short);
                [name.clone(), short(median(values.clone())), low, high]
            }
        };
        let beside = match (&self.peer, ratio) {
            (Some(_), Some(ratio)) => format!("; {} {}, ratio {}", peer[0], peer[1], short(ratio)),
            _ => String::new(),
        };
        let said = [(&verdict, self.target), (&within, self.budget)]
            .into_iter()
            .filter(|(verdict, _)| *verdict != NONE)
            .map(|(verdict, most)| format!(", at most {}: {verdict}", text(most)))
            .collect::<String>();
        println!("{}: {} {} ({low} .. {high}){beside}{said}", self.name, short(value), self.unit);
        let mut fields =
            vec![self.part.to_owned(), self.name.clone(), self.unit.to_owned(), short(value), low, high];
        fields.extend(peer);
        fields.extend([ratio.map_or(NONE.to_owned(), short), text(self.target), verdict]);
        fields.extend([text(self.budget), within, self.ours.len().to_string(), load()]);
        fields.push(format!("make bench PART={}", self.part));
        add(&fields);
    }
}

/// Tells that a figure could not be measured here, and why.
pub fn skipped(part: &'static str, name: &str, why: &str) {
    println!("SKIPPED: {name}: {why}");
    let mut fields = vec![part, name];
    fields.resize(12, NONE);
    let verdict = format!("SKIPPED: {why}");
    let load = load();
    let command = format!("make bench PART={part}");
    fields.extend([&*verdict, NONE, NONE, NONE, &load, &command]);
    add(&fields.into_iter().map(str::to_owned).collect::<Vec<_>>());
}

fn add(fields: &[String]) {
    assert_eq!(fields.len(), COLUMNS.split('\t').count());
    let Ok(path) = std::env::var("THIMBLE_FIGURES") else { return };
    let mut file =
        File::options().append(true).create(true).open(&path).expect("THIMBLE_FIGURES names a file");
    if file.metadata().unwrap().len() == 0 {
        file.write_all(format!("{COLUMNS}\n").as_bytes()).unwrap();
    }
    let line: Vec<_> = fields.iter().map(|field| field.replace(['\t', '\n'], " ")).collect();
    // One write: parts that run side by side do not mix their lines.
    file.write_all((line.join("\t") + "\n").as_bytes()).unwrap();
}

/// The quarter of the values that are lowest, and of those that are highest, begin behind these.
/// Of fewer than four values: the least and the greatest.
fn quartiles(values: &[f64]) -> [f64; 2] {
    let mut values = values.to_vec();
    values.sort_by(|a, b| a.partial_cmp(b).expect("values compare"));
    let last = values.len() - 1;
    let at = if values.len() < 4 { 0 } else { values.len() / 4 };
    [values[at], values[last - at]]
}

/// A number with the digits that a measurement has.
fn short(value: f64) -> String {
    if value == 0.0 || !value.is_finite() {
        return value.to_string();
    }
    let digits = (3 - value.abs().log10().floor() as i32).max(0);
    let scale = 10f64.powi(digits);
    let rounded = (value * scale).round() / scale;
    let shown = format!("{rounded:.*}", usize::try_from(digits).unwrap_or(0));
    if shown.contains('.') { shown.trim_end_matches('0').trim_end_matches('.').to_owned() } else { shown }
}

/// How many processes wanted to run in the last minute, on average.
fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or(NONE).to_owned()
}
