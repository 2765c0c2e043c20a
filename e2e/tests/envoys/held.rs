//! TCP connections of one tenant up to the budget of an Envoy: the tenant is held to half, the other one connects.

use std::net::{IpAddr, SocketAddr};

use kube::Api;
use nave_api::fleet::{HeldPort, HeldTenant};
use nave_api::{ConditionType, Fleet, condition, names};
use nave_e2e::{Lab, Protocol, client};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::eventually;

/// An Envoy with so many files accepts 300 connections.
const FILES: u32 = 2000;
/// More than 70 % of them.
const OPENED: usize = 240;
/// Less than 50 % of them.
const KEPT: usize = 100;
const HALF: u32 = 150;

#[tokio::test(flavor = "multi_thread")]
async fn g1_a_tenant_that_fills_an_envoy_is_held_to_half_of_it_while_another_connects() {
    let lab = Lab::light().spokes(2).managers(2).files(FILES).start().await.unwrap();
    let busy = lab.spokes[0].sample("busy", &[(Protocol::Tcp, 8080), (Protocol::Tcp, 8081)]).await.unwrap();
    let quiet = lab.spokes[1].sample("quiet", &[(Protocol::Tcp, 8090)]).await.unwrap();
    let (at, other) = (busy.address().await.unwrap(), quiet.address().await.unwrap());
    busy.answers(at).await.unwrap();
    quiet.answers(other).await.unwrap();
    let listeners = listeners(&lab).await;

    let mut open = Vec::new();
    for _ in 0..OPENED {
        open.push(connect(at, 8080).await.expect("below the budget every connection is served"));
    }
    eventually("the Fleet names the tenant", async || {
        let (held, says) = held(&lab).await;
        let load_balancer = names::intent_name("Service", "default", "busy");
        let ports = vec![HeldPort { load_balancer, port: 8080, connections: HALF - HALF / 10 }];
        let expected = vec![HeldTenant { tenant: "spoke-1".to_owned(), connections: HALF, ports }];
        if held == expected && says { Ok(()) } else { Err(format!("{held:?} {says}")) }
    })
    .await;
    eventually("a new connection of the tenant is refused", async || match connect(at, 8080).await {
        None => Ok(()),
        Some(_) => Err("it is served".to_owned()),
    })
    .await;
    // The other ports of the tenant share the tenth that is left.
    let mut besides = Vec::new();
    for _ in 0..HALF {
        besides.extend(connect(at, 8081).await);
    }
    assert!((1..=15).contains(&besides.len()), "{} connections at the tenant's other port", besides.len());
    drop(besides);
    for _ in 0..20 {
        lab.ask(other, 8090).await.expect("another tenant connects meanwhile");
    }
    for stream in &mut open {
        echo(stream).await.expect("what is open stays open");
    }
    assert_eq!(self::listeners(&lab).await, listeners, "no listener was changed");

    open.truncate(KEPT);
    eventually("the hold ends", async || {
        let (held, says) = held(&lab).await;
        if held.is_empty() && !says { Ok(()) } else { Err(format!("{held:?} {says}")) }
    })
    .await;
    let mut again = Vec::new();
    eventually("the tenant connects again", async || match connect(at, 8080).await {
        Some(_) => Ok(()),
        None => Err("it is refused".to_owned()),
    })
    .await;
    for _ in 0..HALF - 50 {
        again.push(connect(at, 8080).await.expect("no limit is left: 200 of 300 are less than 70 %"));
    }
    for stream in open.iter_mut().chain(&mut again) {
        echo(stream).await.expect("what is open stays open");
    }
    assert_eq!(self::listeners(&lab).await, listeners, "no listener was changed");
    assert_eq!(lab.hub.edges[0].refusals().await.unwrap(), 0, "Envoy takes a limit and its end");
}

/// A connection that the backend greets; nothing where it is closed instead.
async fn connect(address: IpAddr, port: u16) -> Option<BufReader<TcpStream>> {
    let mut stream = BufReader::new(client::connect(SocketAddr::new(address, port)).await.unwrap());
    let read = stream.read_line(&mut String::new()).await;
    read.is_ok_and(|bytes| bytes > 0).then_some(stream)
}

async fn echo(stream: &mut BufReader<TcpStream>) -> std::io::Result<()> {
    stream.write_all(b"x").await?;
    let mut answer = [0];
    stream.read_exact(&mut answer).await.map(drop)
}

/// How many listeners the Envoy added, changed and removed.
async fn listeners(lab: &Lab) -> Vec<u64> {
    let mut counts = Vec::new();
    for count in ["listener_added", "listener_modified", "listener_in_place_updated", "listener_removed"] {
        counts.push(lab.hub.edges[0].stat(&format!("listener_manager.{count}")).await.unwrap());
    }
    counts
}

/// Which tenants are held at the one Envoy, and whether the condition says that there are any.
async fn held(lab: &Lab) -> (Vec<HeldTenant>, bool) {
    let fleets: Api<Fleet> = Api::all(lab.hub.client());
    let status = fleets.get("default").await.unwrap().status.unwrap_or_default();
    let says = condition::is_true(&status.conditions, ConditionType::TenantHeld);
    (status.nodes.into_iter().flat_map(|node| node.held).collect(), says)
}
