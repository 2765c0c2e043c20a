//! The ports of a Service as a load balancer opens them. Knows protocols and node ports; knows no backend.

use k8s_openapi::api::core::v1::{Service, ServicePort};
use nave_api::tcp_load_balancer::{Port, Protocol};

use crate::Problem;

/// A load balancer has at most so many ports.
const MOST: usize = 100;

/// The ports that can be served, in the Service's order, and why others cannot.
pub fn ports(service: &Service) -> (Vec<Port>, Vec<Problem>) {
    let asked = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let mut ports = Vec::new();
    let mut problems = Vec::new();
    for port in asked {
        match translate(port) {
            Ok(port) => ports.push(port),
            Err(problem) => problems.push(problem),
        }
    }
    if ports.len() > MOST {
        problems.push(Problem::TooManyPorts { served: MOST, present: ports.len() });
        ports.truncate(MOST);
    }
    (ports, problems)
}

fn translate(port: &ServicePort) -> Result<Port, Problem> {
    let protocol = match port.protocol.as_deref() {
        None | Some("TCP") => Protocol::Tcp,
        Some("UDP") => Protocol::Udp,
        Some(other) => return Err(Problem::UnsupportedProtocol { protocol: other.to_owned(), port: port.port }),
    };
    let without = || Problem::NoNodePort { port: port.port };
    let number = |number: i32| u16::try_from(number).ok().filter(|number| *number > 0);
    let backend_port = port.node_port.and_then(number).ok_or_else(without)?;
    // The API server admits 1 to 65535 alone.
    let front = number(port.port).ok_or_else(without)?;
    Ok(Port { name: port.name.clone().filter(|name| !name.is_empty()), protocol, port: front, backend_port })
}
