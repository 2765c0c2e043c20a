//! What Services say to other load balancers, and what becomes of it here. Knows their annotations by name; knows nothing
//! of those systems otherwise.

use std::collections::BTreeMap;

use super::values::is_label;
use super::{Asked, Check, excerpt};
use crate::Problem;

/// How Services with node ports opted in to KubeLB, and do so here.
const OPT_IN: (&str, &str) = ("kubernetes.io/service.class", "kubelb");
/// Whose annotations these are: one that is not in the table is told.
const PREFIXES: [&str; 2] = ["loadbalancer/", "lb.paperlb.com/"];

/// One thing that a Service may say.
struct Row {
    name: &'static str,
    system: &'static str,
    /// For the guide.
    becomes: &'static str,
    read: fn(&str) -> Meaning,
}

/// What a value comes to.
#[derive(Debug)]
enum Meaning {
    /// It asks for what is done anyway.
    Done,
    /// A pool by name.
    Pool,
    /// Backends are not checked.
    Unchecked,
    /// It is not done, and what to do instead.
    Instead(&'static str),
    /// Nobody knows what it means; these are known.
    Unclear(&'static str),
    /// A pool whose name cannot be read; so a name is written.
    NoPool(&'static str),
}

const TERMINATE: &str = "TLS reaches the backend as the client sent it: give the backend the certificate";
const LOOK_INTO: &str = "bytes are passed on and HTTP is not looked into: let the backend speak it";
const ENCRYPT: &str = "bytes are passed on as they come: let the clients themselves speak TLS";
const REDIRECT: &str = "nothing is redirected: answer port 80 in the backend with a redirect";

/// Annotations of other systems. Among those that name a pool the first wins.
const TABLE: &[Row] = &[
    Row {
        name: "kubernetes.io/service.class",
        system: "KubeLB",
        becomes: "`kubelb`: a Service of type NodePort opts in; one that another controller balances is served beside it, as by `nave.dev/backends: Provider`",
        read: |_| Meaning::Done,
    },
    Row {
        name: "loadbalancer/mode",
        system: "k8slb",
        becomes: "empty or `false`: bytes are passed on, as always; `http`: an Event, let the backend speak HTTP",
        read: |value| match value {
            "" | "false" => Meaning::Done,
            "http" => Meaning::Instead(LOOK_INTO),
            _ => Meaning::Unclear("http, false, or nothing"),
        },
    },
    Row {
        name: "loadbalancer/nocheck",
        system: "k8slb",
        becomes: "`true`: `nave.dev/health-check: None`",
        read: |value| if flag(value) == Some(true) { Meaning::Unchecked } else { done_or(value, None) },
    },
    Row { name: "loadbalancer/pool", system: "k8slb", becomes: "`nave.dev/pool`", read: pool },
    Row {
        name: "loadbalancer/ssl",
        system: "k8slb",
        becomes: "`false`: TLS is passed on, as always; `true`: an Event, let the backend have the certificate",
        read: |value| done_or(value, Some(TERMINATE)),
    },
    Row {
        name: "loadbalancer/sslbackend",
        system: "k8slb",
        becomes: "`false`: bytes are passed on, as always; `true`: an Event, let clients speak TLS",
        read: |value| done_or(value, Some(ENCRYPT)),
    },
    Row {
        name: "loadbalancer/sslredirect",
        system: "k8slb",
        becomes: "`false`: nothing is redirected, as always; `true`: an Event, let the backend redirect",
        read: |value| done_or(value, Some(REDIRECT)),
    },
    Row {
        name: "lb.paperlb.com/config-name",
        system: "PaperLB",
        becomes: "`nave.dev/pool`: an IPPool with a `portRange` stands for a LoadBalancerConfig",
        read: pool,
    },
];

/// Whether a Service opts in by an annotation of another system.
pub fn opts_in(annotations: &BTreeMap<String, String>) -> bool {
    let (name, value) = OPT_IN;
    annotations.get(name).is_some_and(|text| text == value)
}

/// Reads them into what our own annotations left open.
pub(super) fn read(annotations: &BTreeMap<String, String>, asked: &mut Asked, problems: &mut Vec<Problem>) {
    // k8slb compares names without their case.
    let lower: BTreeMap<String, (&String, &str)> =
        annotations.iter().map(|(name, value)| (name.to_lowercase(), (name, value.trim()))).collect();
    for Row { name: known, system: _, becomes: _, read } in TABLE {
        let Some((name, value)) = lower.get(*known) else { continue };
        let (name, value) = ((*name).clone(), *value);
        match read(value) {
            Meaning::Done => {}
            Meaning::Pool => drop(asked.pool.get_or_insert_with(|| value.to_owned())),
            Meaning::Unchecked => drop(asked.health_check.get_or_insert(Check::None)),
            Meaning::Instead(instead) => {
                problems.push(Problem::NotDone { name, value: excerpt(value), instead: instead.to_owned() });
            }
            Meaning::NoPool(accepted) if asked.pool.is_none() => {
                asked.unreadable_request = true;
                let (value, accepted) = (excerpt(value), accepted.to_owned());
                problems.push(Problem::UnreadableRequest { name, value, accepted });
            }
            Meaning::Unclear(accepted) | Meaning::NoPool(accepted) => {
                let (value, accepted) = (excerpt(value), accepted.to_owned());
                problems.push(Problem::InvalidAnnotation { name, value, accepted });
            }
        }
    }
    let strange = |name: &String| {
        PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && TABLE.iter().all(|row| row.name != name)
    };
    let strangers = lower.iter().filter(|(name, _)| strange(name));
    problems.extend(strangers.map(|(_, (name, _))| Problem::UnknownElsewhere { name: (*name).clone() }));
}

/// The table as a document shows it.
pub(super) fn document() -> String {
    let line = |Row { name, system, becomes, read: _ }: &Row| format!("| `{name}` | {system} | {becomes} |\n");
    format!("| annotation | of | becomes |\n|---|---|---|\n{}", TABLE.iter().map(line).collect::<String>())
}

/// The names of all of them, for a message.
pub(crate) fn known() -> String {
    TABLE.iter().map(|row| row.name).collect::<Vec<_>>().join(", ")
}

fn pool(value: &str) -> Meaning {
    if is_label(value) { Meaning::Pool } else { Meaning::NoPool("the name of an IPPool of the hub") }
}

fn flag(value: &str) -> Option<bool> {
    value.to_lowercase().parse().ok()
}

/// `false` asks for what is done anyway.
fn done_or(value: &str, instead: Option<&'static str>) -> Meaning {
    match (flag(value), instead) {
        (Some(true), Some(instead)) => Meaning::Instead(instead),
        (Some(true | false), _) => Meaning::Done,
        (None, _) => Meaning::Unclear("true, false"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> (Asked, Vec<&'static str>) {
        let all = pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (asked, problems) = super::super::read(&all);
        (asked, problems.iter().map(Problem::reason).collect())
    }

    #[test]
    fn our_own_annotation_of_the_pool_wins_then_that_of_k8slb_then_that_of_paperlb() {
        let all = [("lb.paperlb.com/config-name", "paper"), ("loadbalancer/pool", "k8slb"), ("nave.dev/pool", "ours")];
        let pools: Vec<_> = (1..=3).map(|some| asked(&all[..some]).0.pool.unwrap()).collect();
        assert_eq!(pools, ["paper", "k8slb", "ours"]);
    }

    #[test]
    fn backends_go_unchecked_where_k8slb_would_not_check_unless_our_own_annotation_says_how() {
        let (unchecked, problems) = asked(&[("loadbalancer/NoCheck", "True")]);
        assert_eq!((unchecked.health_check, problems), (Some(Check::None), vec![]));
        let (checked, _) = asked(&[("loadbalancer/nocheck", "true"), ("nave.dev/health-check", "TCP")]);
        assert_eq!(checked.health_check, Some(Check::Tcp));
        assert_eq!(asked(&[("loadbalancer/nocheck", "false")]), (Asked::default(), vec![]));
    }

    #[test]
    fn what_is_done_anyway_is_no_problem_and_what_is_not_done_says_what_to_do_instead() {
        let passed = ["mode", "ssl", "sslbackend", "sslredirect"].map(|name| format!("loadbalancer/{name}"));
        for name in &passed {
            let wish = if name.ends_with("mode") { "http" } else { "true" };
            assert_eq!(asked(&[(name, "false")]), (Asked::default(), vec![]), "{name}");
            assert_eq!(asked(&[(name, wish)]), (Asked::default(), vec!["NotDone"]), "{name}");
            assert_eq!(asked(&[(name, "perhaps")]), (Asked::default(), vec!["InvalidAnnotation"]), "{name}");
        }
    }

    #[test]
    fn a_name_that_the_other_system_does_not_know_either_is_told() {
        assert_eq!(asked(&[("loadbalancer/sll", "true")]).1, ["UnknownAnnotation"]);
        assert_eq!(asked(&[("lb.paperlb.com/config", "a")]).1, ["UnknownAnnotation"]);
        assert_eq!(asked(&[("example.com/pool", "a"), ("kubernetes.io/service.class", "other")]).1, Vec::<&str>::new());
    }

    #[test]
    fn every_row_is_there_once_under_a_name_in_lower_case() {
        let names: std::collections::BTreeSet<&str> = TABLE.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), TABLE.len());
        assert!(names.iter().all(|name| *name == name.to_lowercase()));
    }
}
