//! Golden cases: what a spoke and the hub look like, and what the agent does about it. One directory for each behaviour in
//! `tests/cases`; `UPDATE_GOLDEN=1` writes the outputs anew.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test that cannot go on has failed")]

mod case;

use std::fs;
use std::path::{Path, PathBuf};

use case::Case;
use similar::TextDiff;

/// So many orders are tried of each case's objects.
const ORDERS: u64 = 8;

#[test]
fn every_case_gives_its_output_in_any_order_and_nothing_the_second_time() {
    let cases = cases();
    assert!(cases.len() >= 12, "only {} cases", cases.len());
    let mut failures = Vec::new();
    for directory in cases {
        let name = directory.file_name().unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(directory.join("in.yaml")).unwrap();
        assert!(text.starts_with("# "), "{name}: the first line says why the case exists");
        let case: Case = serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (out, again) = case.run(0);
        assert_eq!(again, Vec::<String>::new(), "{name}: nothing is to be done the second time");
        for order in 1..ORDERS {
            assert_eq!(case.run(order).0, out, "{name}: another order of the same objects");
        }
        failures.extend(compare(&name, &directory.join("out.yaml"), &out));
    }
    assert!(failures.is_empty(), "{}\nUPDATE_GOLDEN=1 records this", failures.join("\n"));
}

fn cases() -> Vec<PathBuf> {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<PathBuf> = fs::read_dir(all).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn compare(name: &str, path: &Path, out: &str) -> Option<String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, out).unwrap();
        return None;
    }
    let golden = fs::read_to_string(path).unwrap_or_default();
    (golden != out).then(|| format!("{name}:\n{}", TextDiff::from_lines(golden.as_str(), out).unified_diff()))
}
