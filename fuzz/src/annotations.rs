//! Annotations of a Service, ours and those of other systems. Knows lines `name=value`; knows nothing else of a Service.

use std::collections::BTreeMap;

use nave_agent_core::annotations::read;
use nave_api::limits::SOURCE_RANGES;

/// Whatever annotations say, what is asked for stays within the hub's limits, and reading twice gives the same.
pub fn hold(input: &[u8]) {
    let Some(text) = super::text(input) else { return };
    let annotations: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let (asked, problems) = read(&annotations);
    assert!(asked.source_ranges.iter().all(|ranges| ranges.len() <= SOURCE_RANGES), "too many source ranges");
    assert!(asked.addresses.iter().all(|addresses| addresses.len() <= 2), "too many addresses");
    assert!(asked.pool.iter().all(|pool| (1..=63).contains(&pool.len())), "no name of a pool: {:?}", asked.pool);
    let durations = [&asked.idle_timeout, &asked.connect_timeout, &asked.health_check_interval];
    for duration in durations.into_iter().flatten() {
        assert!(duration.0.len() <= 32 && duration.parse().is_ok(), "the hub refuses {duration:?}");
    }
    assert_eq!(read(&annotations), (asked, problems));
}
