//! The demo: a hub and two spokes, sample Services that answer, and what to try with them. Knows how to tell; the lab does.
use std::fmt::Write as _;
use std::io::IsTerminal;
use std::net::IpAddr;
use std::time::Instant;

use tokio::signal::unix::{SignalKind, signal};

use crate::backend::Protocol;
use crate::error::{Act, Error, Result};
use crate::lab::{Builder, Lab, Sample, Weight, heaviest};

/// What the samples of the demo are: each spoke has one, the second speaks UDP as well.
const SAMPLES: [(&str, &[(Protocol, u16)]); 2] =
    [("web", &[(Protocol::Tcp, 8080)]), ("voice", &[(Protocol::Tcp, 8080), (Protocol::Udp, 5353)])];

/// When the demo ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// As soon as everything was seen to work.
    Checked,
    /// On Ctrl-C.
    Interrupted,
    /// On Enter or Ctrl-C, at once without a terminal.
    Read,
}

/// One Service of the demo that was seen to answer.
struct Shown {
    spoke: String,
    name: String,
    address: IpAddr,
    ports: Vec<(Protocol, u16)>,
    banners: Vec<String>,
}

/// Runs the demo; `weight` absent is the heaviest that works.
pub async fn run(weight: Option<Weight>, until: Until) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).act(|| "listen for Ctrl-C")?;
    let mut terminate = signal(SignalKind::terminate()).act(|| "listen for SIGTERM")?;
    tokio::select! {
        outcome = show(weight, until) => outcome,
        _ = interrupt.recv() => leave(until),
        _ = terminate.recv() => leave(until),
    }
}

/// The lab was dropped, which ends it. A check that was interrupted has not succeeded.
fn leave(until: Until) -> Result<()> {
    println!("\nended, everything is removed");
    match until {
        Until::Checked => Err(Error::new("the check was interrupted")),
        Until::Interrupted | Until::Read => Ok(()),
    }
}

async fn show(weight: Option<Weight>, until: Until) -> Result<()> {
    let started = Instant::now();
    let lab = start(weight).await?;
    println!("It is up after {} s. Two Services of type LoadBalancer ...", started.elapsed().as_secs());
    let outcome = check(&lab).await;
    let shown = lab.supervisor().judge(outcome)?;
    println!("{}", account(&lab, &shown, started.elapsed().as_secs()));
    match until {
        Until::Checked => println!("Both spokes answer through the hub."),
        Until::Interrupted => {
            println!("It stays up until Ctrl-C.");
            std::future::pending::<()>().await;
        }
        Until::Read => enter().await,
    }
    Ok(())
}

/// What looks possible may still fail: then the light lab is tried, unless the full one was asked for.
async fn start(asked: Option<Weight>) -> Result<Lab> {
    let (weight, why) = asked.map_or_else(heaviest, |weight| (weight, "as asked".to_owned()));
    println!("The {weight} lab ({why}): one hub, two spokes ...");
    let builder = builder(weight).spokes(2).nodes(2).managers(2);
    if asked.is_some() {
        return builder.start().await;
    }
    let (lab, failure) = builder.start_or_lighter().await?;
    if let Some(failure) = failure {
        println!("Real nodes do not work here, this is the light lab: {failure:?}");
    }
    Ok(lab)
}

fn builder(weight: Weight) -> Builder {
    match weight {
        Weight::Light => Lab::light(),
        Weight::Full => Lab::full(),
    }
}

/// Makes the samples and waits until every port of each answers a real client at the address that its status shows.
async fn check(lab: &Lab) -> Result<Vec<Shown>> {
    let mut shown = Vec::new();
    for (spoke, (name, ports)) in lab.spokes.iter().zip(SAMPLES) {
        let sample: Sample<'_> = spoke.sample(name, ports).await?;
        let address = sample.address().await?;
        let banners = sample.answers(address).await?;
        let expected = format!("{}/{name} ", spoke.name());
        if let Some(other) = banners.iter().find(|banner| !banner.starts_with(&expected)) {
            return Err(Error::new(format!("{address} belongs to {expected}but {other} answers")));
        }
        shown.push(Shown {
            spoke: spoke.name().to_owned(),
            name: name.to_owned(),
            address,
            ports: ports.to_vec(),
            banners,
        });
    }
    Ok(shown)
}

fn account(lab: &Lab, shown: &[Shown], seconds: u64) -> String {
    let mut text = String::from("\n");
    for Shown { spoke, name, address, ports, banners } in shown {
        let _ = writeln!(text, "  {spoke}: Service default/{name} has {address}");
        for ((protocol, port), banner) in ports.iter().zip(banners) {
            let _ = writeln!(text, "    {} {port}: \"{banner}\"", protocol.name());
        }
    }
    let _ = writeln!(text, "\nAll of it after {seconds} s. Try:");
    for Shown { address, ports, .. } in shown {
        for (protocol, port) in ports {
            let _ = match protocol {
                Protocol::Tcp => writeln!(text, "  nc {address} {port}                # says who answers, then echoes"),
                Protocol::Udp => writeln!(text, "  echo hello | nc -u -w1 {address} {port}"),
            };
        }
    }
    let _ = writeln!(
        text,
        "  kubectl --kubeconfig {} get tcplb,ipa,ippools,tenants,fleets -A",
        lab.hub.plane.kubeconfig().display()
    );
    for spoke in &lab.spokes {
        let _ =
            writeln!(text, "  kubectl --kubeconfig {} get services,nodes,events", spoke.plane.kubeconfig().display());
    }
    for edge in &lab.hub.edges {
        let _ = writeln!(text, "  curl --unix-socket {} http://admin/listeners", edge.admin_socket().display());
    }
    let _ = writeln!(
        text,
        "  tail -f {}/manager-1.log    # every process has a log there",
        lab.supervisor().logs().display()
    );
    text
}

/// Enter, or the end of input; without a terminal there is nobody to wait for.
async fn enter() {
    if std::io::stdin().is_terminal() {
        println!("Enter ends it (--keep leaves it up).");
        let read = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new()));
        let _ = read.await;
    }
}
