//! The charts: Helm finds nothing to complain about, the API server takes all that they render, and the programs know every
//! flag and variable that they set. Knows no template.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;
use std::process::Command;

use nave_e2e::control_plane::{ControlPlane, Options};
use nave_e2e::{apply, tools};
use serde_json::{Value, json};

const NAMESPACE: &str = "nave-system";
/// The oldest Kubernetes that the charts allow.
const OLDEST: &str = "1.31.0";

/// A chart, the program that it installs, and values that set everything that has no default.
const CHARTS: [(&str, &[&str], &str); 2] = [
    (
        "manager",
        &["nave-manager", "run"],
        r#"{"metrics": {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}]},
            "hubApiUrl": "https://hub.example.com:6443", "hubNetworks": ["10.0.0.0/8", "fd00::/8"], "xds": {"names": ["hub.example.com"],
            "service": {"type": "LoadBalancer", "annotations": {"example.com/a": "b"}}}"#,
    ),
    (
        "agent",
        &["nave-agent"],
        r#"{"hubKubeconfig": "apiVersion: v1\nkind: Config\n", "defaultLoadBalancer": true, "nodeLabels": ["role=web"], "nameServers": ["10.96.0.10"], "cleanup": true"#,
    ),
];

/// What both charts have.
const COMMON: &str = r#", "image": {"tag": "1.2.3"}, "imagePullSecrets": [{"name": "pull"}], "podAnnotations": {"example.com/a": "b"},
    "nodeSelector": {"role": "edge"}, "tolerations": [{"key": "edge", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}}}"#;

#[test]
fn helm_has_nothing_to_complain_about() {
    for (chart, _, values) in CHARTS {
        helm(&["lint", "--strict", path(chart).to_str().unwrap()], "{}");
        helm(&["lint", "--strict", path(chart).to_str().unwrap()], &format!("{values}{COMMON}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_takes_what_the_charts_render() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    apply(&plane.client(), &json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}))
        .await
        .unwrap();
    for (chart, _, values) in CHARTS {
        for values in ["{}".to_owned(), format!("{values}{COMMON}")] {
            let objects = render(chart, &values);
            assert!(objects.iter().any(|object| object["kind"] == "Deployment"), "{chart} installs something");
            for object in objects {
                // By server-side apply a field that the kind does not have is an error.
                apply(&plane.client(), &object).await.unwrap_or_else(|error| panic!("{object}: {error:?}"));
            }
        }
    }
}

#[test]
fn the_programs_know_what_the_charts_tell_them() {
    for (chart, command, values) in CHARTS {
        let mut program = Command::new(tools::own(command[0]).unwrap());
        let help = program.args(&command[1..]).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let objects = render(chart, &format!("{values}{COMMON}"));
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        let list = |key: &str| container[key].as_array().cloned().unwrap_or_default();
        let variables = list("env").into_iter().map(|variable| variable["name"].as_str().unwrap().to_owned());
        for variable in variables.filter(|name| name.starts_with("NAVE_")) {
            assert!(help.contains(&format!("{variable}=")), "{chart}: {variable}");
        }
        let arguments = list("args").into_iter().map(|argument| argument.as_str().unwrap().to_owned());
        for flag in arguments.filter(|argument| argument.starts_with("--")) {
            let flag = flag.split('=').next().unwrap();
            assert!(help.contains(flag), "{chart}: {flag}");
        }
    }
}

fn render(chart: &str, values: &str) -> Vec<Value> {
    let text = helm(
        &["template", "nave", path(chart).to_str().unwrap(), "--namespace", NAMESPACE, "--kube-version", OLDEST],
        values,
    );
    let documents = text.split("\n---\n").map(|document| document.trim_start_matches("---\n"));
    let objects = documents.map(|document| serde_saphyr::from_str::<Option<Value>>(document).unwrap());
    objects.flatten().filter(|object| !object.is_null()).collect()
}

fn helm(arguments: &[&str], values: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("values.yaml");
    std::fs::write(&file, values).unwrap();
    let mut helm = Command::new(tools::helm().unwrap());
    let output = helm.args(arguments).arg("--values").arg(&file).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn path(chart: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../charts").join(chart)
}
