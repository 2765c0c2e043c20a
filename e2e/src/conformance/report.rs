//! What the test binary says: which tests there are, and what came of one. Knows Ginkgo's JSON reports; starts nothing but
//! their listing.
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::expect::{Pace, pace};
use crate::error::{Act, Error, Result};
use crate::tools::{self, Suite};

/// The tests of Services of type LoadBalancer: those of loadbalancer.go, and the one of service.go, which has no label.
const LOAD_BALANCERS: &str = "\\[Feature:LoadBalancer\\]|on Type LoadBalancer";

/// A test of the suite.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// Where it is: `loadbalancer.go:132`.
    pub place: String,
    /// Its own name, without those of the groups around it.
    pub name: String,
}

impl Test {
    /// How long it takes.
    pub fn pace(&self) -> Pace {
        pace(&self.name)
    }
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It passed after so many seconds. `rates` are the shares of requests that succeeded in each rolling update, where the
    /// test measures them.
    Passed {
        /// How long it took.
        seconds: f64,
        /// In percent.
        rates: Vec<String>,
    },
    /// It failed.
    Failed {
        /// How long it took.
        seconds: f64,
        /// In percent.
        rates: Vec<String>,
        /// Its own words, or what ended it.
        why: String,
    },
    /// It skipped itself.
    Skipped(String),
    /// The lane does not run it.
    LeftOut(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Suites {
    spec_reports: Option<Vec<Spec>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Spec {
    leaf_node_type: String,
    leaf_node_location: Location,
    leaf_node_text: String,
    state: String,
    #[serde(default)]
    run_time: u64,
    #[serde(default)]
    failure: Failure,
    #[serde(default)]
    captured_ginkgo_writer_output: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Location {
    #[serde(default)]
    file_name: String,
    #[serde(default)]
    line_number: u32,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    #[serde(default)]
    message: String,
}

impl Spec {
    fn test(&self) -> Test {
        let file = self.leaf_node_location.file_name.rsplit('/').next().unwrap_or_default();
        Test { place: format!("{file}:{}", self.leaf_node_location.line_number), name: self.leaf_node_text.clone() }
    }

    fn is_test(&self) -> bool {
        self.leaf_node_type == "It"
    }

    fn outcome(&self) -> Outcome {
        #[expect(clippy::cast_precision_loss, reason = "seconds, for a table")]
        let seconds = self.run_time as f64 / 1e9;
        let rates = self.captured_ginkgo_writer_output.lines();
        let rates =
            rates.filter_map(|line| Some(line.split_once("Success rate: ")?.1.trim_end_matches('%').to_owned()));
        let (rates, why) = (rates.collect(), self.failure.message.trim().to_owned());
        match self.state.as_str() {
            "passed" => Outcome::Passed { seconds, rates },
            "skipped" => Outcome::Skipped(why.lines().next().unwrap_or_default().to_owned()),
            state => Outcome::Failed { seconds, rates, why: format!("{state}: {why}") },
        }
    }
}

/// The tests that a regular expression chooses, in the order of the suite's files.
pub(super) fn list(suite: &Suite, focus: Option<&str>, out: &Path) -> Result<Vec<Test>> {
    let report = out.join("all.json");
    let mut tests = Command::new(&suite.tests);
    tests.args(["--provider=skeleton", "--ginkgo.dry-run", "--ginkgo.succinct", "--ginkgo.no-color"]);
    tests.arg(format!("--ginkgo.focus={}", focus.unwrap_or(LOAD_BALANCERS)));
    tests.arg(format!("--ginkgo.json-report={}", report.display()));
    tools::run(&mut tests, "list Kubernetes' tests")?;
    let specs = read(&report)?;
    let mut tests: Vec<Test> =
        specs.iter().filter(|spec| spec.is_test() && spec.state == "passed").map(Spec::test).collect();
    tests.sort_by_key(|test| {
        let (file, line) = test.place.split_once(':').unwrap_or_default();
        (file.to_owned(), line.parse::<u32>().unwrap_or(0))
    });
    Ok(tests)
}

/// What came of a test that was run by itself.
pub(super) fn outcome(report: &Path, test: &Test) -> Result<Outcome> {
    let specs = read(report)?;
    let ran = specs.iter().find(|spec| spec.is_test() && spec.test() == *test);
    let ran = ran.ok_or_else(|| Error::new(format!("find {} in its report", test.place)))?;
    let before = specs.iter().find(|spec| !spec.is_test() && spec.state != "passed");
    match before {
        // The test itself is then said to be skipped.
        Some(failed) => Ok(Outcome::Failed {
            seconds: 0.0,
            rates: Vec::new(),
            why: format!("{}: {}", failed.leaf_node_type, failed.failure.message),
        }),
        None => Ok(ran.outcome()),
    }
}

fn read(report: &Path) -> Result<Vec<Spec>> {
    let text = std::fs::read(report).act(|| format!("read {}", report.display()))?;
    let suites: Vec<Suites> = serde_json::from_slice(&text).act(|| format!("understand {}", report.display()))?;
    Ok(suites.into_iter().filter_map(|suite| suite.spec_reports).flatten().collect())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(state: &str, message: &str, output: &str) -> Spec {
        let location =
            json!({"FileName": "k8s.io/kubernetes@v1.36.3/test/e2e/network/loadbalancer.go", "LineNumber": 975});
        let spec = json!({
            "LeafNodeType": "It", "LeafNodeLocation": location, "LeafNodeText": "should not be disrupted [Slow]", "State": state,
            "RunTime": 1_500_000_000_u64, "Failure": {"Message": message}, "CapturedGinkgoWriterOutput": output,
        });
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn a_test_is_named_by_its_file_and_line() {
        let test = spec("passed", "", "").test();
        assert_eq!(test.place, "loadbalancer.go:975");
        assert_eq!(test.name, "should not be disrupted [Slow]");
    }

    #[test]
    fn the_rates_of_rolling_updates_are_read_from_what_the_test_wrote() {
        let output = "I1130 Success rate: 100.00%\nI1130 Network errors: 3\nI1130 Success rate: 94.77%";
        let rates = vec!["100.00".to_owned(), "94.77".to_owned()];
        let failed = Outcome::Failed { seconds: 1.5, rates, why: "failed: too many errors".to_owned() };
        assert_eq!(spec("failed", "too many errors", output).outcome(), failed);
    }

    #[test]
    fn a_test_that_skips_itself_says_why() {
        let why = Outcome::Skipped("LoadBalancer uses 'Proxy' IPMode".to_owned());
        assert_eq!(spec("skipped", "LoadBalancer uses 'Proxy' IPMode\nat line 1", "").outcome(), why);
    }

    #[test]
    fn a_test_that_ran_out_of_time_has_failed() {
        assert!(matches!(spec("timedout", "", "").outcome(), Outcome::Failed { .. }));
        assert!(matches!(spec("interrupted", "", "").outcome(), Outcome::Failed { .. }));
    }
}
