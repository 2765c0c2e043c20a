//! Clients of API servers whose connections notice a path that lost their state: a NAT, a load balancer or a firewall that
//! forgot them passes nothing and ends nothing. Knows sockets and kube's layers; knows no call and no watch.
//!
//! kube's own client sets no option on its sockets: a watch would wait for its timeout, a write for that of its call.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::{Client, Config, Error};
use tower::{BoxError, ServiceBuilder, service_fn};

/// A connection on which nothing came for so long is asked whether it lives; that keeps it known on its path, too.
const IDLE: Duration = Duration::from_secs(2);
/// How often it is asked until it answers.
const PROBE: Duration = Duration::from_secs(1);
/// A connection whose bytes or questions have had no answer for so long is given up, by the kernel. Three questions fit in
/// it: on a path that loses every hundredth packet, they are lost together once in days.
const SILENT: Duration = Duration::from_secs(5);
/// What ends an idle connection in a kernel that does not apply [`SILENT`] to it.
const PROBES: u32 = 3;

/// A client as [`Client::try_from`] makes it, with the same authentication, TLS, headers and timeouts, whose
/// connections are given up at most five seconds after their path went silent, used or not. It speaks HTTP/1.1, as kube's
/// does: there are no pings besides.
///
/// A refusal is an answer: kube's own client would ask up to 15 times more, at first after 5 ms and in the end after minutes, under
/// every loop that tries again.
///
/// # Errors
/// What the configuration says makes no client. A proxy is refused, as kube built without proxies does.
pub fn client(config: Config) -> Result<Client, Error> {
    if config.proxy_url.is_some() {
        return Client::try_from(config);
    }
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp())?);
    connector.set_connect_timeout(config.connect_timeout);
    connector.set_read_timeout(config.read_timeout);
    connector.set_write_timeout(config.write_timeout);
    connector.set_reset_reader_on_write(config.reset_reader_on_write);
    let pool = Arc::new(Pool::new(connector));
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(service_fn(move |request| Arc::clone(&pool).ask(request)));
    Ok(Client::new(service, config.default_namespace))
}

/// Connects, and has the kernel watch over what it connected.
fn tcp() -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true); // the end of a request must not wait for the acknowledgement of its beginning
    tcp.set_keepalive(Some(IDLE));
    tcp.set_keepalive_interval(Some(PROBE));
    tcp.set_keepalive_retries(Some(PROBES));
    tcp.set_tcp_user_timeout(Some(SILENT));
    tcp
}

/// Connections to one server. When one of them fails, those that are idle are not used again: they may have been lost with
/// it, and each would cost its user [`SILENT`] to find out.
struct Pool<C> {
    connector: C,
    now: Mutex<Generation<C>>,
}

/// The connections that were made since one failed.
struct Generation<C> {
    number: u64,
    http: legacy::Client<C, Body>,
}

impl<C: Connect + Clone + Send + Sync + 'static> Pool<C> {
    fn new(connector: C) -> Self {
        let first = Generation { number: 0, http: fresh(connector.clone()) };
        Self { connector, now: Mutex::new(first) }
    }

    async fn ask(
        self: Arc<Self>,
        request: Request<Body>,
    ) -> Result<Response<impl BodyExt<Data = Bytes, Error: Into<BoxError>> + Send + 'static>, legacy::Error> {
        let (number, http) = {
            let Generation { number, http } = &*self.now.lock().unwrap_or_else(PoisonError::into_inner);
            (*number, http.clone())
        };
        let answer = http.request(request).await.inspect_err(|_| self.leave(number))?;
        // A watch is a body that goes on: its end says as much as that of a request.
        let seen = move |error| {
            self.leave(number);
            error
        };
        Ok(answer.map(|body| body.map_err(seen)))
    }

    /// Nothing is asked any more on connections of this generation.
    fn leave(&self, number: u64) {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        if now.number == number {
            *now = Generation { number: number + 1, http: fresh(self.connector.clone()) };
        }
    }
}

/// With a timer, connections that nothing uses are closed after a while, as the API server would.
fn fresh<C: Connect + Clone>(connector: C) -> legacy::Client<C, Body> {
    legacy::Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    /// What the kernel's table of connections says of a timer that asks a peer whether it lives.
    const KEEPALIVE: &str = "02";

    fn config(server: SocketAddr) -> Config {
        Config::new(format!("http://{server}").parse().unwrap())
    }

    /// The timer of this machine's connection to a server, and after how many hundredths of a second it fires.
    fn timer(server: SocketAddr) -> Option<(String, u64)> {
        let IpAddr::V4(address) = server.ip() else { return None };
        let remote = format!("{:08X}:{:04X}", u32::from_le_bytes(address.octets()), server.port());
        let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
        let row = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let row = row.into_iter().find(|row| row.get(2) == Some(&remote.as_str()))?;
        let (kind, due) = row.get(5)?.split_once(':')?;
        Some((kind.to_owned(), u64::from_str_radix(due, 16).ok()?))
    }

    #[tokio::test]
    async fn a_connection_that_waits_for_an_answer_asks_its_peer_within_two_seconds() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        let client = client(config(server)).unwrap();
        let asking = tokio::spawn(async move { client.apiserver_version().await });
        let (mut connection, _) = listener.accept().await.unwrap();
        assert!(connection.read(&mut [0; 1024]).await.unwrap() > 0, "the request has come");
        let asks = async {
            loop {
                // Until the request is acknowledged, the timer is the one that sends it again.
                match timer(server) {
                    Some((kind, due)) if kind == KEEPALIVE && due <= 200 => return,
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let asks = tokio::time::timeout(Duration::from_secs(10), asks).await;
        assert!(asks.is_ok(), "the last timer: {:?}", timer(server));
        asking.abort();
    }

    /// Reads a request and answers it.
    async fn answer(connection: &mut TcpStream) {
        let body = r#"{"major": "1", "minor": "36", "gitVersion": "", "gitCommit": "", "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}"#;
        assert!(connection.read(&mut [0; 1024]).await.unwrap() > 0, "a request");
        let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        connection.write_all(answer.as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn idle_connections_are_not_used_after_another_one_failed() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = client(config(listener.local_addr().unwrap())).unwrap();
        let ask = || {
            tokio::spawn({
                let client = client.clone();
                async move { client.apiserver_version().await }
            })
        };
        let both = [ask(), ask()];
        let mut connections = [listener.accept().await.unwrap().0, listener.accept().await.unwrap().0];
        for connection in &mut connections {
            answer(connection).await;
        }
        for asked in both {
            asked.await.unwrap().unwrap();
        }
        // One of the two has the next request and is closed instead of an answer.
        let asked = ask();
        let [one, other] = &mut connections;
        let (mut first, mut second) = ([0; 1024], [0; 1024]);
        let closed_is_first = tokio::select! {
            read = one.read(&mut first) => { assert!(read.unwrap() > 0); true }
            read = other.read(&mut second) => { assert!(read.unwrap() > 0); false }
        };
        let [one, other] = connections;
        let silent = if closed_is_first {
            drop(one);
            other
        } else {
            drop(other);
            one
        };
        assert!(asked.await.unwrap().is_err());
        // The other one is silent: the next request comes on a new connection.
        let asked = ask();
        let accepted = tokio::time::timeout(Duration::from_secs(10), listener.accept()).await;
        answer(&mut accepted.expect("a new connection").unwrap().0).await;
        asked.await.unwrap().unwrap();
        drop(silent);
    }

    #[tokio::test]
    async fn d_a_call_that_a_busy_server_refuses_is_one_request() {
        for code in ["429 Too Many Requests", "503 Service Unavailable", "504 Gateway Timeout"] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let client = client(config(listener.local_addr().unwrap())).unwrap();
            let asked = tokio::spawn(async move { client.apiserver_version().await });
            let (mut connection, _) = listener.accept().await.unwrap();
            assert!(connection.read(&mut [0; 1024]).await.unwrap() > 0, "a request");
            let refusal = format!("HTTP/1.1 {code}\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n");
            connection.write_all(refusal.as_bytes()).await.unwrap();
            let outcome = tokio::time::timeout(Duration::from_secs(10), asked).await;
            assert!(outcome.expect("an answer").unwrap().is_err(), "{code}");
        }
    }

    #[tokio::test]
    async fn a_proxy_is_refused_and_not_passed_by() {
        let server = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        for proxy in ["http://192.0.2.1:3128", "https://192.0.2.1:3128", "socks5://192.0.2.1:1080"] {
            let mut config = config(server);
            config.proxy_url = Some(proxy.parse().unwrap());
            assert!(matches!(client(config), Err(Error::ProxyProtocolDisabled { .. })), "{proxy}");
        }
    }
}
