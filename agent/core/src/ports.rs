//! The ports of a Service as a load balancer opens them. Knows protocols, node ports and target ports; knows no backend.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nave_api::limits::PORTS;
use nave_api::tcp_load_balancer::{Port, Protocol};

use crate::Problem;
use crate::backends::Mode;

/// The ports that can be served, in the Service's order, and why others cannot.
pub fn ports(service: &Service, mode: Mode) -> (Vec<Port>, Vec<Problem>) {
    let asked = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let mut ports = Vec::new();
    let mut problems = Vec::new();
    for port in asked {
        match translate(port, mode) {
            Ok(port) => ports.push(port),
            Err(problem) => problems.push(problem),
        }
    }
    // An API server takes no port twice; who reads from elsewhere gets the first.
    let mut seen = BTreeSet::new();
    ports.retain(|port: &Port| seen.insert((port.protocol, port.port)));
    if ports.len() > PORTS {
        problems.push(Problem::TooManyPorts { served: PORTS, present: ports.len() });
        ports.truncate(PORTS);
    }
    (ports, problems)
}

fn translate(port: &ServicePort, mode: Mode) -> Result<Port, Problem> {
    let unserved = || {
        let protocol = port.protocol.clone().unwrap_or_default();
        Problem::UnsupportedProtocol { protocol, port: port.port }
    };
    let protocol = Protocol::of_service(port.protocol.as_deref()).ok_or_else(unserved)?;
    let without = || Problem::NoNodePort { port: port.port };
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
    // The API server admits 1 to 65535 alone.
    let front = number(port.port).ok_or_else(without)?;
    let backend_port = match (mode, &port.target_port) {
        (Mode::NodePort, _) => port.node_port.and_then(number).ok_or_else(without)?,
        // Slices say each pod's own port; this is for those that do not.
        (Mode::PodIp, Some(IntOrString::Int(target))) => number(*target).unwrap_or(front),
        (Mode::PodIp, Some(IntOrString::String(_)) | None) | (Mode::Provider, _) => front,
    };
    Ok(Port { name: port.name.clone().filter(|name| !name.is_empty()), protocol, port: front, backend_port })
}
