//! How values of annotations are read: each into its place, or not at all. Knows no annotation's name.

use std::net::IpAddr;

use ipnet::IpNet;
use nave_api::Duration;
use nave_api::limits::SOURCE_RANGES;
use nave_api::tcp_load_balancer::IpFamily;
use nave_api::tcp_load_balancer::bounds::Bounds;
use serde_json::Value;

use super::{Asked, Check};

/// What of a value is in force.
pub(super) enum Taken {
    /// All of it.
    Whole,
    /// It lies beyond a bound: this one, the nearest.
    Nearest(String),
}

pub(super) fn set<T>(place: &mut Option<T>, value: Option<T>) -> Option<Taken> {
    *place = Some(value?);
    Some(Taken::Whole)
}

/// A value of one of our own enums, spelled as its field is.
pub(super) fn named<T: serde::de::DeserializeOwned>(place: &mut Option<T>, text: &str) -> Option<Taken> {
    set(place, serde_json::from_value(Value::String(text.to_owned())).ok())
}

pub(super) fn any_duration(place: &mut Option<Duration>, text: &str) -> Option<Taken> {
    let duration = Duration(text.to_owned());
    let good = text.len() <= 32 && duration.parse().is_ok();
    set(place, good.then_some(duration))
}

/// One that is longer than nothing.
pub(super) fn duration(place: &mut Option<Duration>, text: &str) -> Option<Taken> {
    let length = Duration(text.to_owned()).parse().ok()?;
    if length.is_zero() { None } else { any_duration(place, text) }
}

/// One that is longer than nothing, or else the nearest bound.
pub(super) fn bounded(place: &mut Option<Duration>, text: &str, bounds: Bounds) -> Option<Taken> {
    let length = Duration(text.to_owned()).parse().ok().filter(|length| !length.is_zero())?;
    let nearest = bounds.nearest(length);
    if nearest == length {
        return any_duration(place, text);
    }
    let nearest = Duration::of(nearest);
    *place = Some(nearest.clone());
    Some(Taken::Nearest(nearest.0))
}

pub(super) fn count(place: &mut Option<u32>, text: &str, most: u32) -> Option<Taken> {
    set(place, text.parse().ok().filter(|number| (1..=most).contains(number)))
}

/// A number from 1 on, however large, or else the most there may be.
pub(super) fn number(place: &mut Option<u32>, text: &str, most: u32) -> Option<Taken> {
    let is_number = !text.is_empty() && text.len() <= 32 && text.bytes().all(|digit| digit.is_ascii_digit());
    let number = is_number.then(|| text.parse::<u128>().unwrap_or(u128::MAX)).filter(|number| *number > 0)?;
    if let Some(number) = u32::try_from(number).ok().filter(|number| *number <= most) {
        return set(place, Some(number));
    }
    *place = Some(most);
    Some(Taken::Nearest(most.to_string()))
}

pub(super) fn list<T>(text: &str, most: usize, read: impl Fn(&str) -> Option<T>) -> Option<Vec<T>> {
    let all: Vec<T> = text.split(',').map(|part| read(part.trim())).collect::<Option<_>>()?;
    (all.len() <= most).then_some(all)
}

pub(super) fn addresses(asked: &mut Asked, text: &str) -> Option<Taken> {
    let all = list(text, 2, |part| part.parse::<IpAddr>().ok().map(|address| address.to_canonical()))?;
    let distinct = all.len() < 2 || all[0].is_ipv4() != all[1].is_ipv4();
    set(&mut asked.addresses, distinct.then_some(all))
}

pub(super) fn families(asked: &mut Asked, text: &str) -> Option<Taken> {
    let all: Vec<IpFamily> = list(text, 2, |part| serde_json::from_value(Value::String(part.to_owned())).ok())?;
    let distinct = all.len() < 2 || all[0] != all[1];
    set(&mut asked.families, distinct.then_some(all))
}

pub(super) fn health_check(asked: &mut Asked, text: &str) -> Option<Taken> {
    let check = match text {
        "None" => Check::None,
        "TCP" => Check::Tcp,
        "HTTP" => Check::Http,
        _ => return None,
    };
    set(&mut asked.health_check, Some(check))
}

/// What parses stays in force, even when the rest does not: an empty list closes the door, it does not open it.
pub(super) fn source_ranges(asked: &mut Asked, text: &str) -> Option<Taken> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let good = parts.iter().filter_map(|part| part.parse::<IpNet>().ok());
    let ranges: Vec<IpNet> = good.map(plain).take(SOURCE_RANGES).collect();
    let all = ranges.len() == parts.len();
    asked.source_ranges = Some(ranges);
    all.then_some(Taken::Whole)
}

/// A network by its first address; IPv4 where IPv6 only wraps it, as the hub takes it no other way.
pub(crate) fn plain(network: IpNet) -> IpNet {
    let network = network.trunc();
    let within = |v6: ipnet::Ipv6Net| {
        let (address, length) = (v6.network().to_ipv4_mapped()?, v6.prefix_len().checked_sub(96)?);
        ipnet::Ipv4Net::new(address, length).ok()
    };
    match network {
        IpNet::V4(_) => network,
        IpNet::V6(v6) => within(v6).map_or(network, IpNet::V4),
    }
}

pub(super) fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&text.len()) && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}
