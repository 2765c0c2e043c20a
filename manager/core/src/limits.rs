//! What a tenant's load balancers may have of its limits: what runs goes on, then the older come first. Knows what each asks
//! for and has; knows no address and no Envoy.

use std::collections::{BTreeMap, BTreeSet};

use nave_api::tenant::{Quota, Usage};

use crate::ports::Door;
use crate::{Key, Timestamp};

/// Who comes first: what runs (`false` sorts before `true`), then the older, then the lower name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    pub waits: bool,
    pub born: Timestamp,
    pub key: Key,
}

/// What a load balancer asks for, and has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Claim {
    pub ports: BTreeSet<Door>,
    /// The ports that are recorded for it, or were granted since.
    pub has: BTreeSet<Door>,
    /// Backend addresses, each with every port, and how many of them get traffic: as its status says, or as was decided since.
    pub backends: u32,
    pub served: u32,
}

/// Whose word it is what each got of the backends that a limit leaves: who got something keeps it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Say {
    /// Ours: we go on from what we decided before.
    Ours,
    /// A leader's: whenever something changes, we go on from what a status says, and come to what he came to.
    Leaders,
}

impl Claim {
    fn asks(&self) -> Usage {
        let ports = length(self.ports.len());
        Usage { load_balancers: 1, addresses: 0, ports, endpoints: self.backends.saturating_mul(ports) }
    }

    /// It runs, and gets what was decided.
    fn get(&mut self, verdict: &Verdict) {
        self.has = self.ports.difference(&verdict.withheld).copied().collect();
        self.served = verdict.backends.unwrap_or(self.backends);
    }
}

/// What it does not get.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The limit because of which it gets nothing: the field of the quota, and its value.
    pub refused: Option<(&'static str, u32)>,
    /// Ports that it does not get, and the limit.
    pub withheld: BTreeSet<Door>,
    pub ports: Option<u32>,
    /// How many of its backends get traffic, where these are not all, and the limit.
    pub backends: Option<u32>,
    pub endpoints: Option<u32>,
}

/// The load balancers of a tenant in their order.
#[derive(Debug, Default)]
pub(crate) struct Line {
    members: BTreeMap<Rank, (Claim, Verdict)>,
    /// Who asked for something since the last decision.
    fresh: BTreeSet<Rank>,
    /// What all ask for, and what those get of it whom a limit touches.
    asked: Usage,
    limited: Option<Usage>,
}

impl Line {
    /// From now on this is its place and its claim.
    pub fn put(&mut self, before: Option<&Rank>, rank: Rank, mut claim: Claim, say: Say) {
        let known = before.and_then(|before| Some((before.waits, self.remove(before)?)));
        if let (Some((false, (known, _))), Say::Ours) = (&known, say) {
            claim.served = known.served;
        }
        let verdict = known.map(|(_, (_, verdict))| verdict).unwrap_or_default();
        self.asked = add(self.asked, claim.asks());
        self.fresh.insert(rank.clone());
        self.members.insert(rank, (claim, verdict));
    }

    /// It asks for nothing any more.
    pub fn remove(&mut self, rank: &Rank) -> Option<(Claim, Verdict)> {
        let (claim, verdict) = self.members.remove(rank)?;
        self.fresh.remove(rank);
        let Usage { load_balancers, addresses: _, ports, endpoints } = claim.asks();
        self.asked.load_balancers = self.asked.load_balancers.saturating_sub(load_balancers);
        self.asked.ports = self.asked.ports.saturating_sub(ports);
        self.asked.endpoints = self.asked.endpoints.saturating_sub(endpoints);
        Some((claim, verdict))
    }

    /// It is being given an address: it runs from now on, with what it was granted.
    pub fn begin(&mut self, rank: &mut Rank) {
        let Some((mut claim, verdict)) = self.members.remove(rank) else { return };
        let is_fresh = self.fresh.remove(rank);
        claim.has = claim.ports.difference(&verdict.withheld).copied().collect();
        claim.served = verdict.backends.unwrap_or(claim.backends);
        rank.waits = false;
        self.members.insert(rank.clone(), (claim, verdict));
        self.fresh.extend(is_fresh.then(|| rank.clone()));
    }

    /// What it asked for and was granted when this was decided last.
    pub fn granted(&self, rank: &Rank) -> BTreeSet<Door> {
        let found = self.members.get(rank);
        found.map(|(claim, verdict)| claim.ports.difference(&verdict.withheld).copied().collect()).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What is used of the limits; addresses are counted elsewhere.
    pub fn used(&self) -> Usage {
        self.limited.unwrap_or(self.asked)
    }

    /// Decides anew; returns the verdicts that changed. Costs nothing for the others where all that is asked for is within the
    /// limits.
    pub fn decide(&mut self, quota: Option<&Quota>) -> Vec<(Key, Verdict)> {
        let is_within = quota.is_none_or(|quota| exceeded(quota, &self.asked).is_none());
        let fresh = std::mem::take(&mut self.fresh);
        if is_within && self.limited.is_none() {
            for rank in fresh.iter().filter(|rank| !rank.waits) {
                if let Some((claim, verdict)) = self.members.get_mut(rank) {
                    claim.get(verdict);
                }
            }
            return Vec::new();
        }
        let none = Quota::default();
        let (verdicts, used) = self.judge(quota.unwrap_or(&none));
        self.limited = (!is_within).then_some(used);
        let mut changed = Vec::new();
        for ((rank, (claim, said)), verdict) in self.members.iter_mut().zip(verdicts) {
            if !rank.waits {
                claim.get(&verdict);
            }
            if *said != verdict {
                changed.push((rank.key.clone(), verdict.clone()));
                *said = verdict;
            }
        }
        changed
    }

    /// A verdict on each, in their order, and what they use.
    fn judge(&self, quota: &Quota) -> (Vec<Verdict>, Usage) {
        let running: Vec<&Claim> =
            self.members.iter().filter(|(rank, _)| !rank.waits).map(|(_, (claim, _))| claim).collect();
        let mut sum = Usage { load_balancers: length(running.len()), ..Usage::default() };
        sum.ports = running.iter().map(|claim| length(claim.has.len())).fold(0, u32::saturating_add);
        let mut verdicts: Vec<Verdict> = Vec::new();
        for claim in &running {
            let more = claim.ports.difference(&claim.has).copied();
            let room = quota.ports.map_or(u32::MAX, |limit| limit.saturating_sub(sum.ports));
            let withheld: BTreeSet<Door> = more.skip(room as usize).collect();
            sum.ports = sum.ports.saturating_add(length(claim.ports.len() - claim.has.len() - withheld.len()));
            let ports = quota.ports.filter(|_| !withheld.is_empty());
            verdicts.push(Verdict { withheld, ports, ..Verdict::default() });
        }
        let open = |(claim, verdict): (&&Claim, &Verdict)| Backends {
            ports: length(claim.ports.len() - verdict.withheld.len()),
            asked: claim.backends,
            served: claim.served,
        };
        let asked: Vec<Backends> = running.iter().zip(&verdicts).map(open).collect();
        let shared = share(quota.endpoints, &asked);
        for ((verdict, asked), served) in verdicts.iter_mut().zip(&asked).zip(shared) {
            verdict.backends = (served < asked.asked).then_some(served);
            verdict.endpoints = quota.endpoints.filter(|_| verdict.backends.is_some());
            sum.endpoints = sum.endpoints.saturating_add(served.saturating_mul(asked.ports));
        }
        for (_, (claim, _)) in self.members.iter().filter(|(rank, _)| rank.waits) {
            let with = add(sum, claim.asks());
            let refused = exceeded(quota, &with);
            sum = if refused.is_some() { sum } else { with };
            verdicts.push(Verdict { refused, ..Verdict::default() });
        }
        (verdicts, sum)
    }
}

/// The backends of a load balancer that runs: on so many ports, so many there are, so many got traffic until now.
struct Backends {
    ports: u32,
    asked: u32,
    served: u32,
}

/// How many backends of each get traffic where a limit counts backends times ports. What gets traffic goes on getting it, and
/// who has any has one; what there is room for beyond goes to all alike, and the rest to the first.
fn share(limit: Option<u32>, all: &[Backends]) -> Vec<u32> {
    let cost =
        |served: &[u32]| -> u64 { served.iter().zip(all).map(|(n, b)| u64::from(*n) * u64::from(b.ports)).sum() };
    let everything: Vec<u32> = all.iter().map(|backends| backends.asked).collect();
    let Some(limit) = limit.map(u64::from).filter(|limit| cost(&everything) > *limit) else { return everything };
    let floor: Vec<u32> = all.iter().map(|b| b.served.max(1).min(b.asked)).collect();
    let raised = |level: u32| -> Vec<u32> {
        floor.iter().zip(all).map(|(floor, b)| floor.saturating_add(level).min(b.asked)).collect()
    };
    let (mut low, mut high) = (0, everything.iter().copied().max().unwrap_or(0));
    while low < high {
        let middle = low + (high - low).div_ceil(2);
        if cost(&raised(middle)) <= limit {
            low = middle;
        } else {
            high = middle - 1;
        }
    }
    let mut served = raised(low);
    let mut room = limit.saturating_sub(cost(&served));
    for (served, backends) in served.iter_mut().zip(all) {
        let ports = u64::from(backends.ports).max(1);
        let more = u32::try_from(room / ports).unwrap_or(u32::MAX).min(backends.asked - *served);
        *served += more;
        room -= u64::from(more) * u64::from(backends.ports);
    }
    served
}

fn add(one: Usage, other: Usage) -> Usage {
    Usage {
        load_balancers: one.load_balancers.saturating_add(other.load_balancers),
        addresses: one.addresses.saturating_add(other.addresses),
        ports: one.ports.saturating_add(other.ports),
        endpoints: one.endpoints.saturating_add(other.endpoints),
    }
}

/// The first limit that the usage exceeds. Addresses are limited where they are given, hostnames and connections elsewhere.
fn exceeded(quota: &Quota, usage: &Usage) -> Option<(&'static str, u32)> {
    let Quota { load_balancers, addresses: _, ports, endpoints, hostnames: _, connections: _ } = quota;
    let limits = [
        ("loadBalancers", load_balancers, usage.load_balancers),
        ("ports", ports, usage.ports),
        ("endpoints", endpoints, usage.endpoints),
    ];
    limits.into_iter().find_map(|(field, limit, used)| limit.filter(|limit| used > *limit).map(|limit| (field, limit)))
}

fn length(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nave_api::tcp_load_balancer::Protocol;
    use proptest::prelude::*;

    fn doors(ports: &[u16]) -> BTreeSet<Door> {
        ports.iter().map(|port| (Protocol::Tcp, *port)).collect()
    }

    fn rank(waits: bool, name: &str) -> Rank {
        Rank { waits, born: Timestamp::UNIX_EPOCH, key: Key::new("tenant-shop", name) }
    }

    fn claim(ports: &[u16], has: &[u16], backends: u32, served: u32) -> Claim {
        Claim { ports: doors(ports), has: doors(has), backends, served }
    }

    fn decided(line: &mut Line, quota: &Quota) -> Vec<(String, Verdict)> {
        line.decide(Some(quota)).into_iter().map(|(key, verdict)| (key.name.to_string(), verdict)).collect()
    }

    #[test]
    fn what_runs_keeps_its_ports_and_gets_more_while_there_is_room() {
        let mut line = Line::default();
        line.put(None, rank(false, "a"), claim(&[1, 2, 3], &[1], 0, 0), Say::Ours);
        line.put(None, rank(false, "b"), claim(&[1, 2], &[1, 2], 0, 0), Say::Ours);
        let quota = Quota { ports: Some(4), ..Quota::default() };
        let verdict = Verdict { withheld: doors(&[3]), ports: Some(4), ..Verdict::default() };
        assert_eq!(decided(&mut line, &quota), [("a".to_owned(), verdict)]);
        assert_eq!(line.used().ports, 4);
        let quota = Quota { ports: Some(1), ..Quota::default() };
        let verdict = Verdict { withheld: doors(&[3]), ports: Some(1), ..Verdict::default() };
        assert_eq!(decided(&mut line, &quota), [("a".to_owned(), verdict)], "a limit that was lowered closes nothing");
        assert_eq!(decided(&mut line, &Quota::default()), [("a".to_owned(), Verdict::default())]);
    }

    #[test]
    fn who_waits_is_refused_as_a_whole_and_a_smaller_one_may_fit() {
        let mut line = Line::default();
        line.put(None, rank(false, "a"), claim(&[1], &[1], 1, 1), Say::Ours);
        line.put(None, rank(true, "b"), claim(&[1, 2, 3], &[], 1, 0), Say::Ours);
        line.put(None, rank(true, "c"), claim(&[1], &[], 1, 0), Say::Ours);
        let quota = Quota { ports: Some(2), ..Quota::default() };
        let verdict = Verdict { refused: Some(("ports", 2)), ..Verdict::default() };
        assert_eq!(decided(&mut line, &quota), [("b".to_owned(), verdict)]);
        let mut c = rank(true, "c");
        line.begin(&mut c);
        assert_eq!(decided(&mut line, &quota), []);
        line.remove(&rank(false, "a"));
        line.remove(&c);
        assert_eq!(
            decided(&mut line, &Quota { ports: Some(3), ..Quota::default() }),
            [("b".to_owned(), Verdict::default())]
        );
    }

    #[test]
    fn what_runs_is_cut_as_before_when_it_gets_another_address() {
        let mut line = Line::default();
        line.put(None, rank(false, "a"), claim(&[1], &[1], 10, 5), Say::Ours);
        let quota = Quota { endpoints: Some(5), ..Quota::default() };
        assert_eq!(decided(&mut line, &quota)[0].1.backends, Some(5));
        line.begin(&mut rank(false, "a"));
        assert_eq!(decided(&mut line, &quota), []);
    }

    #[test]
    fn who_grows_takes_nothing_from_who_grew_within_the_limit() {
        let mut line = Line::default();
        let quota = Quota { endpoints: Some(20), ports: Some(4), ..Quota::default() };
        let ours = |line: &mut Line, before: bool, name: &str, claim: Claim| {
            line.put(before.then(|| rank(false, name)).as_ref(), rank(false, name), claim, Say::Ours);
        };
        ours(&mut line, false, "a", claim(&[1], &[1], 3, 3));
        ours(&mut line, false, "b", claim(&[1], &[1], 8, 8));
        assert_eq!(decided(&mut line, &quota), []);
        ours(&mut line, true, "a", claim(&[1], &[1], 10, 3));
        assert_eq!(decided(&mut line, &quota), []);
        ours(&mut line, true, "b", claim(&[1], &[1], 15, 8));
        let cut = Verdict { backends: Some(10), endpoints: Some(20), ..Verdict::default() };
        assert_eq!(decided(&mut line, &quota), [("b".to_owned(), cut)]);
    }

    #[test]
    fn a_port_that_was_granted_is_granted_to_nobody_else() {
        let mut line = Line::default();
        let quota = Quota { ports: Some(3), ..Quota::default() };
        line.put(None, rank(false, "new"), claim(&[80, 81], &[80], 1, 1), Say::Ours);
        line.put(None, rank(false, "a-older"), claim(&[80], &[80], 1, 1), Say::Ours);
        assert_eq!(decided(&mut line, &quota), []);
        line.put(Some(&rank(false, "a-older")), rank(false, "a-older"), claim(&[80, 81], &[80], 1, 1), Say::Ours);
        let verdict = Verdict { withheld: doors(&[81]), ports: Some(3), ..Verdict::default() };
        assert_eq!(decided(&mut line, &quota), [("a-older".to_owned(), verdict)]);
    }

    #[test]
    fn who_follows_does_as_the_leader_says() {
        let mut line = Line::default();
        let quota = Quota { endpoints: Some(5), ..Quota::default() };
        line.put(None, rank(false, "a"), claim(&[1], &[1], 10, 10), Say::Leaders);
        assert_eq!(line.decide(Some(&quota)), []);
        line.put(Some(&rank(false, "a")), rank(false, "a"), claim(&[1], &[1], 10, 7), Say::Leaders);
        assert_eq!(line.decide(Some(&quota))[0].1.backends, Some(7), "the limit came later");
        line.put(Some(&rank(false, "a")), rank(false, "a"), claim(&[1], &[1], 10, 0), Say::Leaders);
        assert_eq!(line.decide(Some(&quota))[0].1.backends, Some(5), "he has not seen the backends yet");
        let other = Quota { load_balancers: Some(0), ..Quota::default() };
        assert_eq!(line.decide(Some(&other))[0].1.backends, None, "another limit takes no backends");
    }

    #[test]
    fn backends_beyond_a_limit_are_shared_alike_and_take_nothing_from_anybody() {
        let all = |all: &[(u32, u32, u32)]| -> Vec<Backends> {
            all.iter()
                .map(|(ports, asked, served)| Backends { ports: *ports, asked: *asked, served: *served })
                .collect()
        };
        assert_eq!(share(Some(10), &all(&[(1, 6, 3), (1, 9, 3)])), [5, 5]);
        assert_eq!(share(Some(11), &all(&[(1, 6, 3), (1, 9, 3)])), [6, 5]);
        assert_eq!(share(Some(10), &all(&[(2, 6, 4), (1, 9, 4)])), [4, 4], "what is served goes on");
        assert_eq!(share(Some(1), &all(&[(1, 5, 0), (1, 0, 0)])), [1, 0], "who has any has one");
        assert_eq!(share(None, &all(&[(1, 5, 0)])), [5]);
    }

    proptest! {
        #[test]
        fn what_was_shared_once_stays_shared(
            limit in 0_u32..60, all in prop::collection::vec((1_u32..4, 0_u32..20, 0_u32..20), 0..6)
        ) {
            let once = |served: Vec<u32>| {
                let all = all.iter().zip(served).map(|((ports, asked, _), served)| Backends { ports: *ports, asked: *asked, served });
                share(Some(limit), &all.collect::<Vec<_>>())
            };
            let first = once(all.iter().map(|(_, _, served)| *served).collect());
            prop_assert_eq!(once(first.clone()), first);
        }
    }
}
