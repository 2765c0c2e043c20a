//! Holds `docs/compatibility.md` against the tests that it names, and the tests of this suite against the page. Knows both
//! as text; knows nothing of what they say.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Rows that are shown by a test of their own name.
const SHOWN: [&str; 57] = [
    "P1", "P2", "P3", "P4", "P5", "P6", "P7", "P17", "P18", "P19", "P20", "P21", "P26", "K3", "K4", "K5", "K6", "K7",
    "K8", "K15", "K16", "K17", "K18", "K22", "L2", "L5", "L6", "L7", "L8", "L11", "L12", "F1", "F2", "F3", "F4", "F5",
    "F6", "F7", "F8", "f01", "f02", "f03", "f04", "f05", "f06", "f07", "f08", "f09", "f10", "f11", "f12", "f13", "f14",
    "f15", "f16", "f17", "f18",
];
const KUBELB: [&str; 6] = ["B3", "B4", "B5", "B6", "B7", "B8"];
/// How many mistakes of each system are known.
const MISTAKES: [(&str, usize); 5] = [("P", 11), ("K", 7), ("L", 5), ("F", 5), ("B", 12)];

/// A line of one of the page's tables.
struct Row {
    id: String,
    cells: Vec<String>,
}

impl Row {
    /// The tests that the last cell names, as file and function.
    fn tests(&self) -> Vec<(PathBuf, String)> {
        let last = self.cells.last().expect("a row has cells");
        let spans = last.split('`').skip(1).step_by(2);
        let named = spans.filter_map(|span| span.split_once("::"));
        named.map(|(file, function)| (source(file), function.to_owned())).collect()
    }
}

/// A file of this suite by its name, any other by its path in the repository.
fn source(file: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if file.contains('/') { root.join("..").join(file) } else { root.join("tests/compatibility").join(file) }
}

fn rows() -> Vec<Row> {
    let page = std::fs::read_to_string(source("docs/compatibility.md")).unwrap();
    let cells = |line: &str| line.trim_matches('|').split(" |").map(|cell| cell.trim().to_owned()).collect();
    let lines = page.lines().filter(|line| line.starts_with("| "));
    let rows = lines.map(|line| {
        let mut cells: Vec<String> = cells(line);
        Row { id: cells.remove(0), cells }
    });
    rows.filter(|row| row.id.chars().any(|c| c.is_ascii_digit())).collect()
}

/// The names of the functions in a file that are tests.
fn tests(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut found = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines().map(str::trim) {
        let function = line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        match function {
            Some(name) if is_test => is_test = !found.insert(name.to_owned()),
            Some(_) => {}
            None => is_test |= line == "#[test]" || line.starts_with("#[tokio::test"),
        }
    }
    found
}

#[test]
fn every_row_is_there_once() {
    let ids: Vec<String> = rows().into_iter().map(|row| row.id).collect();
    let unique: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(unique.len(), ids.len(), "a row is there twice");
    for id in SHOWN.iter().chain(&KUBELB) {
        assert!(ids.iter().any(|present| present == id), "{id} is missing");
    }
    for (system, count) in [("P", 28), ("K", 26), ("L", 13), ("F", 12), ("B", 11)] {
        for number in 1..=count {
            assert!(ids.contains(&format!("{system}{number}")), "{system}{number} is missing");
        }
    }
    for (system, count) in MISTAKES {
        for number in 1..=count {
            assert!(ids.contains(&format!("{system}-{number}")), "mistake {system}-{number} is missing");
        }
    }
}

#[test]
fn every_row_names_tests_that_exist_or_says_why_there_is_none() {
    for row in rows() {
        let tests_named = row.tests();
        for (file, function) in &tests_named {
            assert!(tests(file).contains(function), "{}: no test {function} in {}", row.id, file.display());
        }
        let prefix = format!("{}_", row.id.to_lowercase());
        let is_shown = SHOWN.iter().chain(&KUBELB).any(|id| *id == row.id);
        let own = tests_named.iter().any(|(_, function)| function.starts_with(&prefix));
        assert!(own || !is_shown, "{}: no test is named after it", row.id);
        let last = row.cells.last().map(String::as_str).unwrap_or_default();
        let excused = ["not yet", "no: ", "not shown: ", "cannot happen: "].iter().any(|word| last.starts_with(word));
        assert!(excused || !tests_named.is_empty(), "{}: names no test and does not say why", row.id);
    }
}

#[test]
fn every_test_of_the_suite_is_named_by_a_row() {
    let named: BTreeSet<(PathBuf, String)> = rows().iter().flat_map(Row::tests).collect();
    for file in ["plenus.rs", "k8slb.rs", "paper.rs", "feitnomore.rs", "matrix.rs", "kubelb.rs"] {
        for function in tests(&source(file)) {
            assert!(named.contains(&(source(file), function.clone())), "{file}::{function} is named by no row");
        }
    }
}
