//! Envoy as a child process, with its admin interface on a Unix socket.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use nave_xds::bootstrap::{Bootstrap, Rendered};
use nave_xds::files::Files;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::process::{Child, Command};

/// The Envoy to test with.
pub fn envoy() -> PathBuf {
    let path = std::env::var_os("ENVOY").map(PathBuf::from);
    let path = path.expect("tests against the real Envoy need its path in ENVOY; `cargo xtask test` sets it");
    assert!(path.exists(), "ENVOY names {}, which does not exist", path.display());
    path
}

/// An Envoy that runs until it is dropped.
pub struct Envoy {
    pub directory: TempDir,
    child: Child,
}

impl Envoy {
    pub fn start(servers: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let bootstrap = bootstrap(&directory, servers);
        Self::start_with(directory, &bootstrap)
    }

    pub fn start_with(directory: TempDir, bootstrap: &Bootstrap) -> Self {
        Self::start_rendered(directory, bootstrap.render())
    }

    pub fn start_rendered(directory: TempDir, rendered: Rendered) -> Self {
        let config = directory.path().join("envoy.json");
        std::fs::write(&config, rendered.bootstrap.to_string()).expect("writes");
        for (path, secret) in rendered.secrets {
            std::fs::write(path, secret.to_string()).expect("writes");
        }
        let log = std::fs::File::create(directory.path().join("log")).expect("a log");
        let child = Command::new(envoy())
            .arg("--config-path")
            .arg(&config)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "info"])
            .args(Bootstrap::arguments(Duration::from_secs(1)))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .expect("Envoy starts");
        Self { directory, child }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    pub async fn stop(mut self) {
        self.child.kill().await.expect("ends");
    }

    /// All statistics that Envoy keeps.
    pub async fn stats(&self) -> BTreeMap<String, u64> {
        let body = self.admin("/stats?format=json").await;
        let stats: Value = serde_json::from_str(&body).expect("JSON");
        let stats = stats["stats"].as_array().expect("a list").iter();
        stats.filter_map(|stat| Some((stat["name"].as_str()?.to_owned(), stat["value"].as_u64()?))).collect()
    }

    /// Updates that were refused or that failed.
    pub async fn failures(&self) -> BTreeMap<String, u64> {
        let mut stats = self.stats().await;
        stats.retain(|name, value| {
            (name.ends_with(".update_rejected") || name.ends_with(".update_failure")) && *value > 0
        });
        stats
    }

    pub async fn admin(&self, path: &str) -> String {
        let mut socket = UnixStream::connect(self.directory.path().join("admin")).await.expect("the admin socket");
        let request = format!("GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.expect("asks");
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.expect("answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").expect("HTTP");
        if head.to_ascii_lowercase().contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() }
    }
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        whole.push_str(&rest[..size]);
        body = rest[size..].trim_start_matches("\r\n");
        if size == 0 {
            break;
        }
    }
    whole
}

pub fn bootstrap(directory: &TempDir, servers: &[SocketAddr]) -> Bootstrap {
    Bootstrap {
        fleet: "default".to_owned(),
        node: "edge-1".to_owned(),
        xds_endpoints: servers.iter().map(|server| (server.ip().to_string(), server.port())).collect(),
        certificates: None,
        admin_socket: directory.path().join("admin"),
        metrics_every: None,
        heap_bytes: None,
        files: Files::of(20_000, 1).with_connections(1000),
    }
}

/// A backend that says its name to whoever connects.
pub async fn backend(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(greet(listener, name));
    address
}

/// Says a name to each connection of a listener, and closes it.
pub async fn greet(listener: TcpListener, name: &'static str) {
    while let Ok((mut stream, _)) = listener.accept().await {
        let _ = stream.write_all(name.as_bytes()).await;
    }
}

/// What a connection reads until it is closed.
pub async fn banner(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    let mut banner = String::new();
    stream.read_to_string(&mut banner).await?;
    Ok(banner)
}

/// Validates a file as Envoy's bootstrap, and returns what Envoy has to say against it.
pub async fn validate(config: &std::path::Path) -> Result<(), String> {
    let mut run = Command::new(envoy());
    run.args(["--mode", "validate", "--log-level", "error", "--config-path"]).arg(config);
    let output = run.stdin(Stdio::null()).output().await.expect("Envoy runs");
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
}

/// A test that failed shows what Envoy had to say.
impl Drop for Envoy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("Envoy's log:\n{}", self.log());
        }
    }
}

/// Opens connections, one after the other, until one is answered by the new backend. Envoy acknowledges endpoints and clusters when its main
/// thread has them. Its workers get them later: until then they connect to the old backend, and each connection must be answered
/// all the same. A worker that has connected to the new one does not go back.
pub async fn until_all_are_answered_by(address: SocketAddr, new: &str, old: &str) {
    let answers = async {
        loop {
            let answer = banner(address).await.expect("each connection is answered");
            if answer == new {
                return;
            }
            assert_eq!(answer, old);
        }
    };
    let answered = tokio::time::timeout(Duration::from_secs(20), answers).await;
    assert!(answered.is_ok(), "{new} did not answer within 20 s");
}

/// Opens connections, one after the other, until one is refused. Envoy acknowledges that a listener is removed before its workers
/// close it: until then each connection that is served must be served as before.
pub async fn until_refused(address: SocketAddr, before: &str) {
    let refusal = async {
        while let Ok(answer) = banner(address).await {
            assert_eq!(answer, before);
        }
    };
    let refused = tokio::time::timeout(Duration::from_secs(20), refusal).await;
    assert!(refused.is_ok(), "{address} still answers after 20 s");
}
