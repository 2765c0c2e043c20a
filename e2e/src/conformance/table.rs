//! Results as text: a line for each as it comes, a table at the end. Knows how to write; judges nothing.
use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::report::Outcome;
use super::{Mode, Row};

/// The longest name that a table shows.
const NAME: usize = 100;

/// One result.
pub(super) fn line(row: &Row) -> String {
    let Row { run, test, mode, outcome } = row;
    format!("{mode:8}  {:24}  {}  (run {run}, {})", test.place, said(outcome), short(&test.name))
}

/// All results, a table in Markdown for each run, and the reasons below.
pub fn table(rows: &[Row]) -> String {
    let mut text = String::new();
    let runs = rows.iter().map(|row| row.run).max().unwrap_or(0);
    for run in 1..=runs {
        let _ = writeln!(text, "\n| test | name | {} | {} |\n|---|---|---|---|", Mode::NodePort, Mode::PodIp);
        let mut last = None;
        for row in rows.iter().filter(|row| row.run == run) {
            if last.replace(&row.test) == Some(&row.test) {
                continue;
            }
            let cells = Mode::ALL.map(|mode| {
                let of_mode = rows.iter().find(|other| (other.run, &other.test, other.mode) == (run, &row.test, mode));
                of_mode.map_or_else(|| "-".to_owned(), |found| said(&found.outcome))
            });
            let _ = writeln!(text, "| {} | {} | {} |", row.test.place, short(&row.test.name), cells.join(" | "));
        }
    }
    for (why, places) in reasons(rows) {
        let _ = writeln!(text, "\n{}: {why}", places.join(", "));
    }
    text
}

/// Why tests failed or were not run, and which.
fn reasons(rows: &[Row]) -> BTreeMap<String, Vec<String>> {
    let mut reasons: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Row { run: _, test, mode, outcome } in rows {
        let why = match outcome {
            Outcome::Passed { .. } => continue,
            Outcome::Failed { why, .. } | Outcome::Skipped(why) | Outcome::LeftOut(why) => why.clone(),
        };
        let places = reasons.entry(why).or_default();
        let place = format!("{} {mode}", test.place);
        if !places.contains(&place) {
            places.push(place);
        }
    }
    reasons
}

fn said(outcome: &Outcome) -> String {
    let measured = |rates: &[String]| match rates {
        [] => String::new(),
        rates => format!(" ({} %)", rates.join(", ")),
    };
    match outcome {
        Outcome::Passed { seconds, rates } => format!("pass {seconds:.0} s{}", measured(rates)),
        Outcome::Failed { seconds, rates, why: _ } => format!("**FAIL** {seconds:.0} s{}", measured(rates)),
        Outcome::Skipped(_) => "skips itself".to_owned(),
        Outcome::LeftOut(_) => "left out".to_owned(),
    }
}

/// Without the labels at its end.
fn short(name: &str) -> String {
    name.split(" [").next().unwrap_or(name).chars().take(NAME).collect()
}
