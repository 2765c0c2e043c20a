//! Golden cases: for each directory of `cases/`, what becomes of `in.yaml` is `out.yaml`. Knows how to tell a story of the
//! hub; knows no behaviour. `UPDATE_GOLDEN=1` records anew and deletes what has no input.

#![allow(clippy::expect_used, clippy::panic, reason = "what cannot be read or is not there ends the test")]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use envoy_types::pb::envoy::config::core::v3::address::Address;
use envoy_types::pb::envoy::config::core::v3::socket_address::PortSpecifier;
use envoy_types::pb::envoy::config::endpoint::v3::{ClusterLoadAssignment, lb_endpoint::HostIdentifier};
use nave_api::condition::Condition;
use nave_xds::resource::{Resource, ResourceType};
use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use support::hub::Hub;

/// What happens: the hub as it is at first, then one thing after the other, each until nothing follows.
#[derive(Deserialize, Clone)]
struct Story {
    objects: Vec<Value>,
    #[serde(default)]
    then: Vec<Turn>,
    /// The Envoys of the fleet `default` at first.
    #[serde(default = "one_envoy")]
    envoys: Vec<String>,
}

fn one_envoy() -> Vec<String> {
    vec!["edge-1".to_owned()]
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
enum Turn {
    Put(Value),
    Delete {
        kind: String,
        #[serde(default)]
        namespace: String,
        name: String,
    },
    Connect(String),
    Disconnect(String),
    Refuse {
        node: String,
        listener: String,
        message: String,
    },
    Restart,
}

fn tell(story: &Story, shuffled: bool) -> String {
    let mut hub = Hub::default();
    let mut objects = story.objects.clone();
    if shuffled {
        objects.reverse();
        hub.list_all();
        for object in objects {
            hub.observe_value(object);
        }
    } else {
        for object in objects {
            hub.load(object);
        }
        hub.list_all();
    }
    story.envoys.iter().for_each(|node| hub.connect("default", node));
    hub.settle();
    for turn in &story.then {
        hub.now += 60;
        match turn.clone() {
            Turn::Put(object) => hub.observe_value(object),
            Turn::Delete { kind, namespace, name } => hub.delete(&kind, &namespace, &name),
            Turn::Connect(node) => hub.connect("default", &node),
            Turn::Disconnect(node) => hub.disconnect("default", &node),
            Turn::Refuse { node, listener, message } => {
                hub.refuse("default", &node, &listener, &message);
                hub.decide().iter().for_each(|step| hub.perform(step));
                continue;
            }
            Turn::Restart => hub.restart(),
        }
        hub.settle();
    }
    hub.engine.replan();
    let again = hub.decide();
    assert!(again.is_empty(), "told twice, something follows: {again:#?}");
    outcome(&hub)
}

/// The hub as people read it.
fn outcome(hub: &Hub) -> String {
    let mut out = String::new();
    section(
        &mut out,
        "loadBalancers",
        hub.balancers.iter().map(|(key, object)| {
            let status = object.status.clone().unwrap_or_default();
            let addresses: Vec<String> = status
                .addresses
                .iter()
                .map(|a| {
                    let ports: Vec<String> =
                        a.ports.iter().map(|p| format!("{}/{}", p.protocol.as_str(), p.port)).collect();
                    format!("{} {}", a.value, ports.join(" "))
                })
                .collect();
            let backends = status.backends.unwrap_or_default();
            let mut lines = vec![
                format!("addresses: [{}]", addresses.join(", ")),
                format!("backends: {} of {}", backends.ready, backends.total),
            ];
            lines.extend(conditions(&status.conditions));
            (key.to_string(), lines)
        }),
    );
    section(
        &mut out,
        "pools",
        hub.pools.iter().map(|(key, object)| {
            let status = object.status.clone().unwrap_or_default();
            let (total, free) = (status.total.unwrap_or_default(), status.free.unwrap_or_default());
            let mut lines =
                vec![format!("counts: {total} total, {free} free, {} used, {} held", status.used, status.held)];
            lines.extend(conditions(&status.conditions));
            (key.to_string(), lines)
        }),
    );
    section(
        &mut out,
        "tenants",
        hub.tenants.iter().map(|(key, object)| {
            let used = object.status.clone().unwrap_or_default().used.unwrap_or_default();
            let line = format!(
                "used: {} load balancers, {} addresses, {} ports, {} endpoints",
                used.load_balancers, used.addresses, used.ports, used.endpoints
            );
            (key.to_string(), vec![line])
        }),
    );
    section(
        &mut out,
        "allocations",
        hub.allocations.values().map(|object| {
            let owners = object.spec.owners.iter().map(|o| {
                let ports: Vec<String> =
                    o.ports.iter().map(|p| format!("{}/{}", p.protocol.as_str(), p.port)).collect();
                format!("{}/{}: {}", o.namespace, o.name, ports.join(" "))
            });
            let mut lines = vec![format!("pool: {}", object.spec.pool)];
            lines.extend(owners);
            (object.spec.address.clone().or_else(|| object.metadata.name.clone()).unwrap_or_default(), lines)
        }),
    );
    let served: BTreeMap<_, _> = hub.served.iter().filter(|(_, served)| !served.is_empty()).collect();
    section(
        &mut out,
        "serves",
        served.into_iter().map(|(fleet, served)| (fleet.clone(), served.values().map(line).collect())),
    );
    let events = hub.announced.iter().map(|a| {
        let about = format!("{} {}", a.about.kind.as_deref().unwrap_or(""), a.about.name.as_deref().unwrap_or(""));
        format!("{:?} {}: {}", a.tone, a.reason, a.message).replace('\n', " ") + &format!(" ({about})")
    });
    let mut events: Vec<String> = events.collect();
    events.sort();
    section(&mut out, "events", [("all".to_owned(), events)].into_iter());
    out
}

fn section(out: &mut String, name: &str, entries: impl Iterator<Item = (String, Vec<String>)>) {
    let _ = writeln!(out, "{name}:");
    for (title, lines) in entries.filter(|(_, lines)| !lines.is_empty()) {
        let _ = writeln!(out, "  {title}:");
        for line in lines {
            let _ = writeln!(out, "  - {}", serde_json::to_string(&line).expect("a string"));
        }
    }
}

fn conditions(conditions: &[Condition]) -> Vec<String> {
    conditions.iter().map(|c| format!("{}={} {}: {}", c.type_, c.status, c.reason, c.message)).collect()
}

/// A resource in a line; endpoints with their addresses, for those are what changes most.
fn line(resource: &Resource) -> String {
    let head = format!("{} {}", resource.kind(), resource.name());
    match resource.kind() {
        ResourceType::Endpoints => format!("{head}: {}", sockets(resource)),
        ResourceType::Cluster | ResourceType::Listener | ResourceType::Route | ResourceType::Runtime => {
            format!("{head} @{}", resource.version())
        }
    }
}

/// The addresses, those of each lower priority behind a bar.
fn sockets(resource: &Resource) -> String {
    let assignment = ClusterLoadAssignment::decode(resource.body()).expect("our own bytes");
    let all = assignment.endpoints.iter().map(|locality| {
        let hosts = locality.lb_endpoints.iter().map(|host| host.host_identifier.as_ref());
        let addresses = hosts.filter_map(|host| match host {
            Some(HostIdentifier::Endpoint(endpoint)) => endpoint.address.as_ref()?.address.as_ref(),
            Some(HostIdentifier::EndpointName(_)) | None => None,
        });
        addresses.map(socket).collect::<Vec<_>>().join(" ")
    });
    all.collect::<Vec<_>>().join(" | ")
}

fn socket(address: &Address) -> String {
    match address {
        Address::SocketAddress(socket) => match socket.port_specifier {
            Some(PortSpecifier::PortValue(port)) => format!("{}:{port}", socket.address),
            Some(PortSpecifier::NamedPort(_)) | None => socket.address.clone(),
        },
        other => format!("{other:?}"),
    }
}

fn cases() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let mut cases: Vec<PathBuf> =
        fs::read_dir(root).expect("the cases").map(|entry| entry.expect("an entry").path()).collect();
    cases.sort();
    cases
}

fn is_recording() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some_and(|value| value == "1")
}

#[test]
fn every_case_ends_as_recorded_whatever_the_order_of_its_objects() {
    let mut wrong = Vec::new();
    for case in cases() {
        let Ok(text) = fs::read_to_string(case.join("in.yaml")) else {
            assert!(is_recording(), "{} has no in.yaml", case.display());
            fs::remove_dir_all(&case).expect("an orphan can be removed");
            continue;
        };
        assert!(text.starts_with("# "), "{}: the first line says why the case exists", case.display());
        let story: Story = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", case.display()));
        let told = tell(&story, false);
        assert_eq!(tell(&story, true), told, "{}: told in another order", case.display());
        let path = case.join("out.yaml");
        if is_recording() {
            fs::write(&path, &told).expect("out.yaml can be written");
        }
        let recorded = fs::read_to_string(&path).unwrap_or_default();
        if recorded != told {
            wrong.push(format!(
                "{}\n{}",
                case.display(),
                similar::TextDiff::from_lines(&recorded, &told).unified_diff()
            ));
        }
    }
    assert!(wrong.is_empty(), "UPDATE_GOLDEN=1 records anew\n{}", wrong.join("\n"));
}
