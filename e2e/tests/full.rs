//! The path with nothing left out: pods on real nodes, kube-proxy, Envoy on an edge node of its own. Only what the light lab
//! cannot show; `path` has the rest.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::net::IpAddr;

use nave_e2e::Protocol::{Tcp, Udp};
use nave_e2e::lab::{Weight, heaviest};
use nave_e2e::wait::PATIENCE;
use nave_e2e::{Lab, wait};

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_two_spokes_answer_through_the_edge_and_go_on_while_the_hubs_api_is_away() {
    if !possible() {
        return;
    }
    let lab = Lab::full().spokes(2).nodes(1).start().await.unwrap();
    let web = lab.spokes[0].sample("web", &[(Tcp, 8080)]).await.unwrap();
    let voice = lab.spokes[1].sample("voice", &[(Tcp, 8080), (Udp, 5353)]).await.unwrap();
    for (sample, banner) in [(&web, "spoke-1/web on node-1 in web-"), (&voice, "spoke-2/voice on node-1 in voice-")] {
        let address = sample.address().await.unwrap();
        let banners = sample.answers(address).await.unwrap();
        assert!(banners.iter().all(|seen| seen.starts_with(banner)), "{banners:?}");
    }
    let address = web.address().await.unwrap();
    lab.hub.plane.stop_api();
    assert!(lab.ask(address, 8080).await.unwrap().starts_with("spoke-1/web "));
    lab.hub.plane.start_api().await.unwrap();
    let late = lab.spokes[0].sample("late", &[(Tcp, 8080)]).await.unwrap();
    late.answers(late.address().await.unwrap()).await.unwrap();
    assert_eq!(web.address().await.unwrap(), address);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_power_leaves_rotation_and_comes_back() {
    if !possible() {
        return;
    }
    let lab = Lab::full().nodes(2).start().await.unwrap();
    let spoke = &lab.spokes[0];
    let web = spoke.sample("web", &[(Tcp, 8080)]).await.unwrap();
    let address = web.address().await.unwrap();
    answers(&lab, address, &["node-1", "node-2"]).await;
    spoke.nodes[1].power_off().await.unwrap();
    spoke.nodes[1].is_ready(false).await.unwrap();
    answers(&lab, address, &["node-1"]).await;
    spoke.nodes[1].power_on().await.unwrap();
    answers(&lab, address, &["node-1", "node-2"]).await;
}

/// Waits until twenty connections in a row succeed and are answered by pods on exactly these nodes.
async fn answers(lab: &Lab, address: IpAddr, nodes: &[&str]) {
    let wanted: BTreeSet<String> = nodes.iter().map(|node| format!("spoke-1/web on {node}")).collect();
    wait::until(&format!("pods on {nodes:?} answer"), PATIENCE, || async {
        let mut seen = BTreeSet::new();
        for _ in 0..20 {
            let banner = lab.ask(address, 8080).await.map_err(|error| format!("{error:?}"))?;
            seen.extend(banner.split(" in ").next().map(str::to_owned));
        }
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await
    .unwrap();
}

fn possible() -> bool {
    let (weight, why) = heaviest();
    if weight == Weight::Light {
        eprintln!("not tried: {why}");
    }
    weight == Weight::Full
}
