//! The port: accepts connections, proves who they are from, and hands them to tonic. Certificates may be replaced while
//! it serves.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::Routes;
use tonic::transport::server::{Connected, TcpIncoming};
use tracing::{debug, info};

use super::lobby::Lobby;
use super::register::{self, End, Place, Register};
use super::{Caller, Server};
use crate::identity::{Certified, IdentityError, Peer};

/// How long a client may take to prove who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection stays whose certificate was revoked, so that its streams can say why they end.
const FAREWELL: Duration = Duration::from_millis(250);
/// How long open streams have to end when the server shuts down.
const GRACE: Duration = Duration::from_secs(5);
/// Connections whose handshake is done and that wait to be served.
const BACKLOG: usize = 16;
const KEEPALIVE: Duration = Duration::from_secs(30);
/// Between one failure to accept and the next try, at first; each rest is twice as long as the last, up to the longest.
const REST: Duration = Duration::from_millis(100);
const LONGEST_REST: Duration = Duration::from_secs(2);
/// What a client may send before it is read: a client that comes back lists all that it holds.
const WINDOW: u32 = 1024 * 1024;
/// Bytes of headers that a request may have: gRPC needs a few hundred.
const HEADERS: u32 = 16 * 1024;

/// How clients prove who they are.
#[derive(Clone)]
pub enum TlsSource {
    /// By a certificate. Each new connection uses the latest settings; see [`crate::identity::server_config`].
    Mutual(watch::Receiver<Arc<ServerConfig>>),
    /// Not at all: everybody is this peer, without the limits of one peer. For sockets that nobody else can reach.
    Insecure(Peer),
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport failed.
    #[error("serve discovery streams")]
    Serve(#[source] tonic::transport::Error),
}

/// Why a connection was turned away.
#[derive(Debug, thiserror::Error)]
enum HandshakeError {
    #[error("shake hands")]
    Shake(#[source] io::Error),
    #[error("shake hands in time")]
    Late,
    #[error("see a client certificate")]
    Anonymous,
    #[error("know the client")]
    Identify(#[source] IdentityError),
    /// The first time that this node comes with it.
    #[error("let in {0}, whose certificate is revoked")]
    Revoked(Peer),
    #[error("let in {0}")]
    Refuse(Peer, #[source] register::Refusal),
    #[error("wait for a proof beside so many other connections")]
    Crowded,
}

impl Server {
    /// Serves these routes, [`Server::service`] among them, until told to shut down; then ends all streams and waits a
    /// few seconds for connections to close.
    pub async fn serve(
        &self,
        listener: TcpListener,
        tls: TlsSource,
        routes: Routes,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let (connections, incoming) = mpsc::channel(BACKLOG);
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&self.shared.register), connections));
        let mut closing = self.shared.closing.subscribe();
        let serving = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(KEEPALIVE))
            .http2_keepalive_timeout(Some(Duration::from_secs(20)))
            .initial_stream_window_size(Some(WINDOW))
            .initial_connection_window_size(Some(WINDOW))
            .max_concurrent_streams(Some(self.shared.register.limits().streams_on_one))
            .http2_max_header_list_size(Some(HEADERS))
            .add_routes(routes)
            .serve_with_incoming_shutdown(ReceiverStream::new(incoming), async move {
                let _ = closing.wait_for(|closing| *closing).await;
            });
        tokio::pin!(serving);
        let ended = tokio::select! {
            ended = &mut serving => Some(ended),
            () = shutdown => None,
        };
        self.close();
        accepting.abort();
        let ended = match ended {
            Some(ended) => ended,
            None => tokio::time::timeout(GRACE, serving).await.unwrap_or(Ok(())),
        };
        ended.map_err(ServeError::Serve)
    }
}

/// The rest after a failure to accept, by how many failures came before it in a row.
fn rest(failures: u32) -> Duration {
    REST.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST_REST)
}

/// Accepts for ever. Each handshake is a task of its own: who dawdles keeps nobody waiting.
async fn accept(
    listener: TcpListener,
    tls: TlsSource,
    register: Arc<Register>,
    connections: mpsc::Sender<io::Result<Connection>>,
) {
    let mut incoming = TcpIncoming::from(listener).with_nodelay(Some(true)).with_keepalive(Some(KEEPALIVE));
    let lobby = Lobby::new(*register.limits());
    let mut failures = 0;
    while let Some(accepted) = incoming.next().await {
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                info!(%error, "cannot accept a connection");
                sleep(rest(failures)).await; // out of descriptors, likely: trying at once cannot help
                failures += 1;
                continue;
            }
        };
        failures = 0;
        let Ok(from) = stream.peer_addr() else { continue }; // it has gone already
        let (tls, register, connections) = (tls.clone(), Arc::clone(&register), connections.clone());
        let mut visit = lobby.enter(from.ip());
        tokio::spawn(async move {
            let proven = tokio::select! {
                proven = prove(stream, tls, &register) => proven,
                () = visit.sent_away() => Err(HandshakeError::Crowded),
            };
            match proven {
                Ok(connection) => drop(connections.send(Ok(connection)).await),
                Err(error) => turn_away(from, &error),
            }
        });
    }
}

fn turn_away(from: SocketAddr, error: &HandshakeError) {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    if let HandshakeError::Revoked(peer) = error {
        info!(%from, %peer, "an Envoy comes with a certificate that is revoked");
    } else {
        debug!(%from, %error, cause, "connection turned away");
    }
}

async fn prove(stream: TcpStream, tls: TlsSource, register: &Arc<Register>) -> Result<Connection, HandshakeError> {
    let config = match tls {
        TlsSource::Insecure(peer) => {
            let caller = Caller { peer, end: None };
            return Ok(Connection {
                io: Box::pin(stream),
                caller,
                end: Box::pin(std::future::pending()),
                _place: None,
            });
        }
        TlsSource::Mutual(config) => config,
    };
    let acceptor = TlsAcceptor::from(Arc::clone(&config.borrow()));
    let shaken = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await;
    let stream = shaken.map_err(|_| HandshakeError::Late)?.map_err(HandshakeError::Shake)?;
    let (_, session) = stream.get_ref();
    let leaf = session.peer_certificates().and_then(<[_]>::first).ok_or(HandshakeError::Anonymous)?;
    let certified = Certified::read(leaf).map_err(HandshakeError::Identify)?;
    let place = register.connect(&certified).map_err(|refusal| match refusal {
        register::Refusal::Revoked if register.is_news(&certified) => HandshakeError::Revoked(certified.peer.clone()),
        refusal => HandshakeError::Refuse(certified.peer.clone(), refusal),
    })?;
    let end = place.end.clone();
    let caller = Caller { peer: certified.peer, end: Some(end.clone()) };
    Ok(Connection { io: Box::pin(stream), caller, end: Box::pin(ended(end)), _place: Some(place) })
}

/// Ends when the connection has to.
async fn ended(mut end: watch::Receiver<Option<End>>) {
    match register::told(&mut end).await {
        End::Revoked => sleep(FAREWELL).await,
        End::Crowded => {}
    }
}

trait Io: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Io for T {}

/// A connection whose peer is known. Each of its requests carries the [`Caller`] in its extensions.
pub struct Connection {
    io: Pin<Box<dyn Io>>,
    caller: Caller,
    /// Ends when the server has to end the connection.
    end: Pin<Box<dyn Future<Output = ()> + Send>>,
    _place: Option<Place>,
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.end.as_mut().poll(context).is_ready() {
            // A future that has ended is not asked again.
            self.end = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.io.as_mut().poll_read(context, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.io.as_mut().poll_write(context, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.as_mut().poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d_a_port_that_cannot_accept_is_tried_less_and_less_often() {
        let rests = [0, 1, 2, 3, 4, 5, u32::MAX].map(|failures| rest(failures).as_millis());
        assert_eq!(rests, [100, 200, 400, 800, 1600, 2000, 2000]);
    }
}
