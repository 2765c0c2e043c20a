//! The client's side: what an address answers. Knows the sample backend's banner and as much HTTP as an admin page needs.
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpStream, UdpSocket, UnixStream};

use crate::error::{Act, Error, Result};

/// How long an answer may take; what is not answered is closed or refused.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the answer to a datagram may take, which may be lost.
const DATAGRAM: Duration = Duration::from_secs(5);

/// Connects, within twenty seconds.
pub async fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = tokio::time::timeout(PATIENCE, TcpStream::connect(address)).await;
    let stream = stream.act(|| format!("connect to {address} in time"))?.act(|| format!("connect to {address}"))?;
    stream.set_nodelay(true).act(|| "turn off Nagle's algorithm")?;
    Ok(stream)
}

/// Connects and reads the banner: which backend answers.
pub async fn ask(address: SocketAddr) -> Result<String> {
    let mut line = String::new();
    let mut stream = BufReader::new(connect(address).await?);
    let read = tokio::time::timeout(PATIENCE, stream.read_line(&mut line)).await;
    match read
        .act(|| format!("read a banner from {address} in time"))?
        .act(|| format!("read a banner from {address}"))?
    {
        0 => Err(Error::new(format!("read a banner from {address}: closed without a word"))),
        _ => Ok(line.trim_end().to_owned()),
    }
}

/// Sends a datagram and returns the banner, after checking that the datagram came back behind it.
pub async fn ask_udp(address: SocketAddr, datagram: &str) -> Result<String> {
    let any = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).await.act(|| "open a datagram socket")?;
    socket.connect(address).await.act(|| format!("aim at {address}"))?;
    socket.send(datagram.as_bytes()).await.act(|| format!("send to {address}"))?;
    let mut buffer = vec![0; 65_535];
    let length = tokio::time::timeout(DATAGRAM, socket.recv(&mut buffer)).await;
    let length = length.act(|| format!("hear from {address} in time"))?.act(|| format!("hear from {address}"))?;
    let text = String::from_utf8_lossy(&buffer[..length]);
    match text.split_once('\n') {
        Some((banner, echo)) if echo == datagram => Ok(banner.to_owned()),
        _ => Err(Error::new(format!("{address} answered something else: {text:?}"))),
    }
}

/// GET over TCP: metrics and health. Anything but 200 is an error with the answer in it.
pub async fn get(address: SocketAddr, path: &str) -> Result<String> {
    exchange(connect(address).await?, path).await.act(|| format!("GET {path} from {address}"))
}

/// GET over a unix socket: Envoy's admin pages.
pub async fn get_unix(socket: &Path, path: &str) -> Result<String> {
    let stream = UnixStream::connect(socket).await.act(|| format!("connect to {}", socket.display()))?;
    exchange(stream, path).await.act(|| format!("GET {path} from {}", socket.display()))
}

async fn exchange(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: lab\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.act(|| "send the request")?;
    let mut answer = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await;
    read.act(|| "read the answer in time")?.act(|| "read the answer")?;
    let text = String::from_utf8_lossy(&answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return Err(Error::new(format!("read the answer: it ends early: {text:?}")));
    };
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    let status = head.lines().next().unwrap_or_default();
    if status.contains(" 200 ") { Ok(body) } else { Err(Error::new(format!("{status}: {}", body.trim()))) }
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16).unwrap_or(0);
        let Some(chunk) = after.get(..size).filter(|chunk| !chunk.is_empty()) else { break };
        body.push_str(chunk);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    body
}

#[cfg(test)]
mod tests {
    use super::unchunk;

    #[test]
    fn chunks_are_put_together_and_a_cut_one_is_left_out() {
        assert_eq!(unchunk("5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n"), "hello world");
        assert_eq!(unchunk("5\r\nhello\r\n6\r\n wo"), "hello");
    }
}
