//! A client that sends bytes through a load balancer and gets them back, all the time, on one connection.
//! Knows when the connection broke; knows nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the connection may stand still.
const PATIENCE: Duration = Duration::from_secs(20);

/// A running client.
pub struct Echo {
    bytes: watch::Receiver<u64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<std::io::Result<u64>>,
}

impl Echo {
    /// Connects, reads the banner and begins.
    pub async fn start(at: SocketAddr) -> std::io::Result<Self> {
        let mut stream = BufReader::new(TcpStream::connect(at).await?);
        if stream.read_line(&mut String::new()).await? == 0 {
            return Err(std::io::Error::new(std::io::ErrorKind::UnexpectedEof, "closed without a banner"));
        }
        let (counted, bytes) = watch::channel(0);
        let (stop, stopped) = watch::channel(false);
        Ok(Self { bytes, stop, task: tokio::spawn(exchange(stream, counted, stopped)) })
    }

    /// Waits until more bytes have come back than had when this was called.
    pub async fn moves_on(&self) {
        let mut bytes = self.bytes.clone();
        let before = *bytes.borrow_and_update();
        let moved = tokio::time::timeout(PATIENCE, bytes.wait_for(|now| *now > before)).await;
        moved.expect("the stream stands still").expect("the stream broke");
    }

    /// Ends it: how many bytes came back, or how it broke.
    pub async fn stop(self) -> std::io::Result<u64> {
        self.stop.send_replace(true);
        self.task.await.expect("the client ended in a panic")
    }
}

async fn exchange(
    mut stream: BufReader<TcpStream>,
    counted: watch::Sender<u64>,
    stopped: watch::Receiver<bool>,
) -> std::io::Result<u64> {
    let sent = [7_u8; 64];
    let mut back = [0_u8; 64];
    let mut bytes = 0;
    while !*stopped.borrow() {
        stream.write_all(&sent).await?;
        stream.read_exact(&mut back).await?;
        assert_eq!(back, sent, "what comes back is what was sent");
        bytes += 64;
        counted.send_replace(bytes);
        // A steady trickle, so that the machine has time for the rest.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(bytes)
}
