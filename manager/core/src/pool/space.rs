//! The addresses that a spec means. Knows networks and ranges; knows no other pool and nothing that is taken.

use nave_api::IPPoolSpec;
use nave_api::ip_pool::{Addresses, Source};

use super::{PoolProblem, Range, Spans, everywhere};

/// What a spec includes, what of it may be given, and what of that without being asked for.
pub(super) fn space(name: &str, spec: &IPPoolSpec) -> Result<(Spans, Spans, Spans), PoolProblem> {
    match &spec.source {
        Source::Static {} | Source::External {} => {}
        Source::Service(_) => {
            let mut place = Spans::default();
            place.insert(everywhere(name));
            return Ok((Spans::default(), place.clone(), place));
        }
    }
    let none = Addresses::default();
    let Addresses { include, exclude, dynamic } = spec.addresses.as_ref().unwrap_or(&none);
    let included = Spans::of(&ranges(include)?);
    let mut given = included.clone();
    for range in ranges(exclude)? {
        given.remove_range(&range);
    }
    let dynamic = match dynamic {
        Some(dynamic) => given.intersection(&within(&included, dynamic)?),
        None => given.clone(),
    };
    if let Some(address) = given.overlap(&never_given()) {
        return Err(PoolProblem::Forbidden { address });
    }
    if given == Spans::default() { Err(PoolProblem::NoAddresses) } else { Ok((included, given, dynamic)) }
}

/// What the texts say, each of which lies within a whole.
fn within(whole: &Spans, texts: &[String]) -> Result<Spans, PoolProblem> {
    let ranges = ranges(texts)?;
    for (range, text) in ranges.iter().zip(texts) {
        let span = Spans::of(std::slice::from_ref(range));
        if whole.intersection(&span) != span {
            return Err(PoolProblem::Outside { text: text.clone() });
        }
    }
    Ok(Spans::of(&ranges))
}

fn ranges(texts: &[String]) -> Result<Vec<Range>, PoolProblem> {
    let parse = |text: &String| text.parse().map_err(|why| PoolProblem::Invalid { text: text.clone(), why });
    texts.iter().map(parse).collect()
}

fn never_given() -> Spans {
    let ranges = ["0.0.0.0/8", "224.0.0.0/4", "255.255.255.255", "::", "ff00::/8"];
    Spans::of(ranges.iter().filter_map(|range| range.parse().ok()).collect::<Vec<Range>>().iter())
}
