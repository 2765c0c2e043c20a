//! A sample Service with backends that answer, alike in both weights. Knows the sample backend; knows nothing of how a Service
//! gets its address.
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use kube::api::{Api, DeleteParams};
use serde_json::{Value, json};

use super::Spoke;
use crate::apply::apply;
use crate::backend::Protocol;
use crate::client;
use crate::error::{Act, Error, Result};
use crate::image;
use crate::node::Node;
use crate::wait;
use crate::wait::PATIENCE;

/// A sample Service of a spoke.
pub struct Sample<'spoke> {
    spoke: &'spoke Spoke,
    name: String,
    ports: Vec<(Protocol, u16)>,
}

impl Spoke {
    /// Makes the Service `default/<name>` of type LoadBalancer with these ports, and backends behind it. Their banner is
    /// `<spoke>/<name> on <node>`, on real nodes followed by ` in <pod>`.
    pub async fn sample(&self, name: &str, ports: &[(Protocol, u16)]) -> Result<Sample<'_>> {
        let entries: Vec<_> = ports
            .iter()
            .map(|(protocol, port)| {
                let key = format!("{}-{port}", protocol.name().to_lowercase());
                json!({"name": key, "protocol": protocol.name(), "port": port, "targetPort": port})
            })
            .collect();
        let metadata = json!({"namespace": "default", "name": name});
        // Where there are no pods, a selector would match none.
        let real = self.nodes.iter().any(Node::is_real);
        let selector = if real { json!({"app": name}) } else { Value::Null };
        let spec = json!({"type": "LoadBalancer", "ports": entries, "selector": selector});
        let made =
            apply(&self.client(), &json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec}))
                .await?;
        let service: Service = made.try_parse().act(|| format!("read the Service {name}"))?;
        if real {
            apply(&self.client(), &self.deployment(name, ports)).await?;
        } else {
            self.answer(name, &service).await?;
        }
        Ok(Sample { spoke: self, name: name.to_owned(), ports: ports.to_vec() })
    }

    /// One pod per node, whose readiness is that of its first TCP port.
    fn deployment(&self, name: &str, ports: &[(Protocol, u16)]) -> Value {
        let arguments: Vec<String> =
            ports.iter().map(|(protocol, port)| format!("{}/{port}", protocol.name().to_lowercase())).collect();
        let field = |path: &str| json!({"fieldRef": {"fieldPath": path}});
        let tcp = ports.iter().find(|(protocol, _)| *protocol == Protocol::Tcp);
        let probe = tcp.map(|(_, port)| json!({"tcpSocket": {"port": port}, "periodSeconds": 1}));
        let container = json!({
            "name": "backend", "image": image::BACKEND, "imagePullPolicy": "IfNotPresent", "args": arguments, "readinessProbe": probe,
            "env": [
                {"name": "NODE", "valueFrom": field("spec.nodeName")},
                {"name": "POD", "valueFrom": field("metadata.name")},
                {"name": "BANNER", "value": format!("{}/{name} on $(NODE) in $(POD)", self.name())},
            ],
        });
        let spread = json!({
            "maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway",
            "labelSelector": {"matchLabels": {"app": name}},
        });
        let pod = json!({
            "containers": [container], "terminationGracePeriodSeconds": 1, "enableServiceLinks": false,
            "automountServiceAccountToken": false, "topologySpreadConstraints": [spread],
        });
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "default", "name": name},
            "spec": {
                "replicas": self.nodes.len(), "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": pod},
            },
        })
    }

    /// Answers at every node port of the Service on every node.
    async fn answer(&self, name: &str, service: &Service) -> Result<()> {
        for port in service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()) {
            let protocol = if port.protocol.as_deref() == Some("UDP") { Protocol::Udp } else { Protocol::Tcp };
            let number = port.node_port.and_then(|number| u16::try_from(number).ok());
            let number = number.ok_or_else(|| Error::new(format!("the Service {name} has no node port")))?;
            for node in &self.nodes {
                node.serve(protocol, number, &format!("{}/{name} on {}", self.name(), node.name())).await?;
            }
        }
        Ok(())
    }
}

impl Sample<'_> {
    /// Its name in the namespace `default`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its ports.
    pub fn ports(&self) -> &[(Protocol, u16)] {
        &self.ports
    }

    /// Waits until the status shows an address, and returns the first.
    pub async fn address(&self) -> Result<IpAddr> {
        let addresses = self.spoke.addresses("default", &self.name).await?;
        addresses.first().copied().ok_or_else(|| Error::new("a Service without an address"))
    }

    /// Waits until every port answers at the address, and returns the banners.
    pub async fn answers(&self, address: IpAddr) -> Result<Vec<String>> {
        let mut banners = Vec::new();
        for (protocol, port) in self.ports.iter().copied() {
            let at = std::net::SocketAddr::new(address, port);
            let what = format!("{} {at} answers", protocol.name());
            let banner = wait::until(&what, PATIENCE, || async {
                let answer = match protocol {
                    Protocol::Tcp => client::ask(at).await,
                    Protocol::Udp => client::ask_udp(at, "anybody there?").await,
                };
                answer.map_err(|error| format!("{error:?}"))
            });
            banners.push(banner.await?);
        }
        Ok(banners)
    }

    /// Deletes the Service and waits until it is gone, finalizers and all.
    pub async fn delete(self) -> Result<()> {
        let services: Api<Service> = Api::namespaced(self.spoke.client(), "default");
        services
            .delete(&self.name, &DeleteParams::default())
            .await
            .act(|| format!("delete the Service {}", self.name))?;
        wait::until(&format!("the Service {} is gone", self.name), PATIENCE, || async {
            let left = services.get_opt(&self.name).await.map_err(|error| error.to_string())?;
            left.map_or(Ok(()), |service| Err(format!("finalizers {:?}", service.metadata.finalizers)))
        })
        .await
    }
}
