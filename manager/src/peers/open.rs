//! What is open at an Envoy, as managers tell each other. Knows the message; knows no stream.

use std::sync::Arc;

use nave_manager_core::{Open, OpenOfTenant};
use nave_proto::fleet::envoy_report::Event as Wire;
use nave_proto::fleet::{self, EnvoyReport, OpenAtPort};
use nave_xds::identity;

use super::NAME;

/// As it goes to the leader.
pub(super) fn write(open: Open) -> EnvoyReport {
    let Open { fleet, node, total, tenants } = open;
    let tenant = |(namespace, OpenOfTenant { total, ports }): (Arc<str>, OpenOfTenant)| fleet::OpenOfTenant {
        namespace: namespace.to_string(),
        total,
        ports: ports.into_iter().map(|(cluster, open)| OpenAtPort { cluster: cluster.to_string(), open }).collect(),
    };
    let open = fleet::Open { total, tenants: tenants.into_iter().map(tenant).collect() };
    EnvoyReport { fleet: fleet.to_string(), node: node.to_string(), stream: 0, event: Some(Wire::Open(open)) }
}

/// As the engine takes it; nothing where the message says something else, or names what cannot be.
pub(super) fn read(report: &EnvoyReport) -> Option<Open> {
    let EnvoyReport { fleet, node, stream: _, event } = report;
    let Some(Wire::Open(fleet::Open { total, tenants })) = event else { return None };
    let tenant = |fleet::OpenOfTenant { namespace, total, ports }: &fleet::OpenOfTenant| {
        let ports = ports.iter().take(Open::PORTS).filter(|port| port.cluster.len() <= NAME);
        let ports = ports.map(|OpenAtPort { cluster, open }| (cluster.as_str().into(), *open)).collect();
        (namespace.as_str().into(), OpenOfTenant { total: *total, ports })
    };
    let named = tenants.iter().take(Open::TENANTS).filter(|tenant| tenant.namespace.len() <= NAME);
    let is_named = identity::is_name(fleet) && identity::is_name(node);
    is_named.then(|| Open {
        fleet: fleet.as_str().into(),
        node: node.as_str().into(),
        total: *total,
        tenants: named.map(tenant).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> Open {
        let ports = [("tenant-shop/web/tcp/80".into(), 7)].into();
        let tenants = [("tenant-shop".into(), OpenOfTenant { total: 9, ports })].into();
        Open { fleet: "default".into(), node: "edge-1".into(), total: 11, tenants }
    }

    #[test]
    fn what_is_open_reads_back_as_it_was_written_and_is_no_report_of_a_stream() {
        assert_eq!(read(&write(open())), Some(open()));
        assert_eq!(super::super::read(write(open())), None);
    }

    #[test]
    fn c3_what_another_manager_says_is_open_is_checked_and_cut() {
        let mut message = write(open());
        if let Some(Wire::Open(open)) = &mut message.event {
            let ports = (0..1000).map(|n| OpenAtPort { cluster: format!("{n}"), open: 1 }).collect();
            open.tenants.push(fleet::OpenOfTenant { namespace: "a".repeat(NAME + 1), total: 1, ports: Vec::new() });
            open.tenants.push(fleet::OpenOfTenant { namespace: "tenant-b".to_owned(), total: 1, ports });
        }
        let tenants = read(&message).unwrap().tenants;
        assert_eq!(tenants.values().map(|tenant| tenant.ports.len()).collect::<Vec<_>>(), [Open::PORTS, 1]);
        message.node = "edge-1\nspoofed".to_owned();
        assert_eq!(read(&message), None);
    }
}
