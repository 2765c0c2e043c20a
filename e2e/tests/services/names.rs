//! A name server of the tests' own. Knows the names that it is told; knows no load balancer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, ResponseCode};
use hickory_resolver::proto::rr::rdata::A;
use hickory_resolver::proto::rr::{RData, Record, RecordType};
use tokio::net::UdpSocket;

/// What a name means and for how many seconds; `None`: nothing is answered at all.
type Zone = BTreeMap<String, Option<(Ipv4Addr, u32)>>;

/// The server; it ends with the process.
pub struct NameServer {
    address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    asked: Arc<AtomicUsize>,
}

impl NameServer {
    pub async fn start() -> Self {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let server =
            Self { address: socket.local_addr().expect("an address"), zone: Arc::default(), asked: Arc::default() };
        tokio::spawn(serve(socket, server.zone.clone(), server.asked.clone()));
        server
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the name means this address, for so many seconds.
    pub fn say(&self, name: &str, address: IpAddr, seconds: u32) {
        let IpAddr::V4(address) = address else { panic!("{address} is no IPv4 address") };
        self.zone.lock().expect("nobody panicked").insert(format!("{name}."), Some((address, seconds)));
    }

    /// From now on whoever asks for the name hears nothing.
    pub fn fall_silent(&self, name: &str) {
        self.zone.lock().expect("nobody panicked").insert(format!("{name}."), None);
    }

    /// How often somebody asked.
    pub fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

async fn serve(socket: UdpSocket, zone: Arc<Mutex<Zone>>, asked: Arc<AtomicUsize>) {
    let mut buffer = [0; 1500];
    loop {
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        asked.fetch_add(1, Ordering::SeqCst);
        let answer = answer(&buffer[..length], &zone.lock().expect("nobody panicked"));
        if let Some(answer) = answer {
            let _ = socket.send_to(&answer, client).await;
        }
    }
}

fn answer(question: &[u8], zone: &Zone) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let known = zone.get(&query.name().to_string().to_lowercase()).copied();
    let mut answer = Message::response(question.id, question.op_code);
    answer.add_query(query.clone());
    match known {
        None => answer.metadata.response_code = ResponseCode::NXDomain,
        Some(None) => return None,
        Some(Some((address, seconds))) if query.query_type() == RecordType::A => {
            answer.add_answer(Record::from_rdata(query.name().clone(), seconds, RData::A(A(address))));
        }
        Some(Some(_)) => {}
    }
    answer.to_vec().ok()
}
