//! Which of many nodes a load balancer uses (rendezvous hashing, Thaler and Ravishankar 1998). Knows names and zones; knows no
//! address.
//!
//! Each pair of load balancer and node has a weight of its own, and the heaviest nodes are used, from each zone as many as from
//! the others. When a node comes or goes, a load balancer exchanges at most that node for one other, and nearly all load
//! balancers exchange none.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::Key;

/// The load balancer's part of all its weights.
pub(super) fn seed(key: &Key) -> u64 {
    xxh3_64_with_seed(key.name.as_bytes(), xxh3_64_with_seed(key.namespace.as_bytes(), 0))
}

/// One node that may be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate<'a, T> {
    pub name: &'a str,
    pub zone: Option<&'a str>,
    /// What the caller wants to have back.
    pub node: T,
}

/// The heaviest `size` of the candidates, all when they are no more than that. In no order.
pub(super) fn heaviest<T: Copy>(seed: u64, size: usize, candidates: Vec<Candidate<'_, T>>) -> Vec<T> {
    if candidates.len() <= size {
        return candidates.into_iter().map(|candidate| candidate.node).collect();
    }
    let mut zones: BTreeMap<Option<&str>, Vec<(Reverse<u64>, T)>> = BTreeMap::new();
    for Candidate { name, zone, node } in candidates {
        zones.entry(zone).or_default().push((Reverse(xxh3_64_with_seed(name.as_bytes(), seed)), node));
    }
    let mut ranked = Vec::new();
    for mut nodes in zones.into_values() {
        if nodes.len() > size {
            nodes.select_nth_unstable_by_key(size, |(weight, _)| *weight);
            nodes.truncate(size);
        }
        nodes.sort_unstable_by_key(|(weight, _)| *weight);
        ranked.extend(nodes.into_iter().enumerate().map(|(rank, (weight, node))| (rank, weight, node)));
    }
    if ranked.len() > size {
        ranked.select_nth_unstable_by_key(size, |(rank, weight, _)| (*rank, *weight));
        ranked.truncate(size);
    }
    ranked.into_iter().map(|(_, _, node)| node).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The names of the nodes that a load balancer uses, of so many in so many zones, without one.
    fn chosen(balancer: u32, nodes: usize, zones: usize, without: Option<usize>) -> BTreeSet<String> {
        let all: Vec<(String, String)> = (0..nodes)
            .filter(|number| Some(*number) != without)
            .map(|number| (format!("node-{number}"), format!("zone-{}", number % zones)))
            .collect();
        let candidates =
            all.iter().map(|(name, zone)| Candidate { name, zone: Some(zone), node: name.as_str() }).collect();
        let seed = seed(&Key::new("tenant-shop", format!("web-{balancer}")));
        heaviest(seed, 32, candidates).into_iter().map(str::to_owned).collect()
    }

    #[test]
    fn b_few_nodes_are_all_used() {
        assert_eq!((chosen(0, 32, 3, None).len(), chosen(0, 5, 3, None).len()), (32, 5));
    }

    #[test]
    fn b_a_node_that_leaves_is_exchanged_for_one_other_by_those_that_used_it() {
        for zones in [1, 3, 300] {
            let mut users = 0;
            for balancer in 0..300 {
                let (before, after) = (chosen(balancer, 300, zones, None), chosen(balancer, 300, zones, Some(7)));
                let had_it = before.contains("node-7");
                users += u32::from(had_it);
                assert_eq!(before.difference(&after).count(), usize::from(had_it), "{balancer} in {zones} zones");
                assert_eq!(after.len(), 32);
            }
            // 32 of 300 nodes: 32 of 300 load balancers use one node, more or less.
            assert!((12..=60).contains(&users), "{users} in {zones} zones");
        }
    }

    #[test]
    fn b_every_zone_has_as_many_as_another() {
        for balancer in 0..50 {
            let mut by_zone = [0; 3];
            for name in chosen(balancer, 300, 3, None) {
                by_zone[name.trim_start_matches("node-").parse::<usize>().unwrap() % 3] += 1;
            }
            assert!(by_zone.iter().all(|count| (10..=11).contains(count)), "{by_zone:?}");
        }
    }
}
