//! A node's name server: the names of its cluster's Services, as pods ask for them. Knows DNS and Services; knows no zone but
//! `cluster.local`.
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use k8s_openapi::api::core::v1::Service;
use kube::Api;
use tokio::net::UdpSocket;
use tokio::task::AbortHandle;

use crate::error::{Act, Result};
use crate::network::Namespace;

/// The cluster's domain.
pub(super) const DOMAIN: &str = "cluster.local";
/// Where resolvers ask.
const PORT: u16 = 53;
/// The lifetime of an answer, in seconds: Services of a test come and go.
const LIFETIME: u32 = 1;

/// A running name server; dropping it ends it.
#[derive(Debug)]
pub(super) struct Names {
    task: AbortHandle,
}

impl Names {
    /// Answers in the namespace at its address.
    pub(super) fn start(client: &kube::Client, namespace: &Namespace) -> Result<Self> {
        let act = || format!("serve names in {}", namespace.name());
        let socket = namespace.datagrams(PORT)?;
        socket.set_nonblocking(true).act(act)?;
        let socket = Arc::new(UdpSocket::from_std(socket).act(act)?);
        let task = tokio::spawn(serve(socket, client.clone())).abort_handle();
        Ok(Self { task })
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(socket: Arc<UdpSocket>, client: kube::Client) {
    let mut buffer = [0; 1500];
    loop {
        let Ok((length, asker)) = socket.recv_from(&mut buffer).await else { continue };
        let Ok(question) = Message::from_vec(&buffer[..length]) else { continue };
        let (socket, client) = (Arc::clone(&socket), client.clone());
        tokio::spawn(async move {
            if let Some(answer) = answer(&client, &question).await {
                let _ = socket.send_to(&answer, asker).await;
            }
        });
    }
}

/// The answer to a question; none while the API server cannot be asked, so that the resolver asks again.
async fn answer(client: &kube::Client, question: &Message) -> Option<Vec<u8>> {
    let query = question.queries.first()?.clone();
    let mut answer = Message::response(question.id, question.op_code);
    answer.add_query(query.clone());
    match find(client, &query.name().to_ascii().to_lowercase()).await.ok()? {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(address) if query.query_type() == RecordType::A => {
            answer.add_answer(Record::from_rdata(query.name().clone(), LIFETIME, RData::A(A(address))));
        }
        Some(_) => {}
    }
    answer.to_vec().ok()
}

/// The cluster address that a name means.
async fn find(client: &kube::Client, name: &str) -> std::result::Result<Option<Ipv4Addr>, kube::Error> {
    let Some((service, namespace)) = parse(name) else { return Ok(None) };
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let address = services.get_opt(service).await?.and_then(|service| service.spec?.cluster_ip?.parse().ok());
    Ok(match address {
        Some(IpAddr::V4(address)) => Some(address),
        Some(IpAddr::V6(_)) | None => None,
    })
}

/// The Service and the namespace in `<service>.<namespace>.svc.cluster.local.`.
fn parse(name: &str) -> Option<(&str, &str)> {
    let rest = name.strip_suffix('.')?.strip_suffix(DOMAIN)?.strip_suffix(".svc.")?;
    rest.split_once('.').filter(|(_, namespace)| !namespace.contains('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_service_is_service_namespace_and_domain() {
        assert_eq!(parse("web.shop.svc.cluster.local."), Some(("web", "shop")));
        for other in ["web.shop.svc.cluster.local", "web.svc.cluster.local.", "a.web.shop.svc.cluster.local.", "a.b."] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
