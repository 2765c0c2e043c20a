//! Which addresses in the hub a Service asks for. Knows the fields and annotations that say so; knows no pool.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;
use nave_api::tcp_load_balancer::{AddressRequest, FamilyPolicy, IpFamily};

use crate::Problem;
use crate::annotations::{Asked, excerpt};

/// Something of a request cannot be read.
struct Unreadable;

/// What a Service asks for. `None`: something of it cannot be read, which is not the same as no wish.
pub fn request(spec: &ServiceSpec, asked: &Asked, problems: &mut Vec<Problem>) -> Option<AddressRequest> {
    let requested = match &asked.addresses {
        Some(addresses) => Ok(addresses.clone()),
        None => requested(spec, problems),
    };
    let families = match &asked.families {
        Some(families) => Ok(families.clone()),
        None => families(spec, problems),
    };
    let policy = match asked.family_policy {
        Some(policy) => Ok(Some(policy)),
        None => policy(spec, problems),
    };
    let (Ok(requested), Ok(families), Ok(family_policy)) = (requested, families, policy) else { return None };
    let requested = requested.iter().map(IpAddr::to_string).collect();
    let request = AddressRequest { pool: asked.pool.clone(), requested, families, family_policy };
    (!asked.unreadable_request).then_some(request)
}

/// The families of a Service in the spoke, each once; those that we do not know are left out.
pub fn known_families(spec: &ServiceSpec) -> Vec<IpFamily> {
    let mut families = Vec::new();
    for family in spec.ip_families.iter().flatten().filter_map(|text| family(text)) {
        if !families.contains(&family) {
            families.push(family);
        }
    }
    families
}

fn families(spec: &ServiceSpec, problems: &mut Vec<Problem>) -> Result<Vec<IpFamily>, Unreadable> {
    match spec.ip_families.iter().flatten().find(|text| family(text).is_none()) {
        Some(text) => Err(unreadable("spec.ipFamilies", text, "IPv4, IPv6", problems)),
        None => Ok(known_families(spec)),
    }
}

fn family(text: &str) -> Option<IpFamily> {
    match text {
        "IPv4" => Some(IpFamily::IPv4),
        "IPv6" => Some(IpFamily::IPv6),
        _ => None,
    }
}

fn policy(spec: &ServiceSpec, problems: &mut Vec<Problem>) -> Result<Option<FamilyPolicy>, Unreadable> {
    const ACCEPTED: &str = "SingleStack, PreferDualStack, RequireDualStack";
    match spec.ip_family_policy.as_deref() {
        None | Some("SingleStack") => Ok(None),
        Some("PreferDualStack") => Ok(Some(FamilyPolicy::PreferDualStack)),
        Some("RequireDualStack") => Ok(Some(FamilyPolicy::RequireDualStack)),
        Some(text) => Err(unreadable("spec.ipFamilyPolicy", text, ACCEPTED, problems)),
    }
}

/// `loadBalancerIP`, else `externalIPs`: the first of each family.
fn requested(spec: &ServiceSpec, problems: &mut Vec<Problem>) -> Result<Vec<IpAddr>, Unreadable> {
    let one = spec.load_balancer_ip.iter().map(|text| ("spec.loadBalancerIP", text.trim()));
    let many = spec.external_ips.iter().flatten().map(|text| ("spec.externalIPs", text.trim()));
    let written: Vec<_> = one.filter(|(_, text)| !text.is_empty()).collect();
    let written = if written.is_empty() { many.filter(|(_, text)| !text.is_empty()).collect() } else { written };
    let mut taken: Vec<IpAddr> = Vec::new();
    let mut readable = Ok(());
    for (field, text) in written {
        let Ok(address) = text.parse::<IpAddr>() else {
            readable = Err(unreadable(field, text, "an IPv4 or IPv6 address", problems));
            continue;
        };
        let address = address.to_canonical();
        if taken.iter().all(|other| other.is_ipv4() != address.is_ipv4()) {
            taken.push(address);
        } else {
            problems.push(Problem::InvalidAddress { field, value: excerpt(text) });
        }
    }
    readable.map(|()| taken)
}

fn unreadable(field: &str, value: &str, accepted: &str, problems: &mut Vec<Problem>) -> Unreadable {
    let (name, value, accepted) = (field.to_owned(), excerpt(value), accepted.to_owned());
    problems.push(Problem::UnreadableRequest { name, value, accepted });
    Unreadable
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(spec: Value) -> (Option<AddressRequest>, Vec<&'static str>) {
        let (spec, mut problems): (ServiceSpec, _) = (serde_json::from_value(spec).unwrap(), Vec::new());
        let request = request(&spec, &Asked::default(), &mut problems);
        (request, problems.iter().map(Problem::reason).collect())
    }

    #[test]
    fn kind_m_blanks_around_an_address_and_other_ways_to_write_it_are_read() {
        let requested = |spec: Value| read(spec).0.unwrap().requested;
        assert_eq!(requested(json!({"loadBalancerIP": " 203.0.113.70 "})), ["203.0.113.70"]);
        assert_eq!(requested(json!({"loadBalancerIP": "::ffff:203.0.113.70"})), ["203.0.113.70"]);
        assert_eq!(
            requested(json!({"externalIPs": ["2001:DB8:0::7\t", "203.0.113.7"]})),
            ["2001:db8::7", "203.0.113.7"]
        );
        assert_eq!(requested(json!({"loadBalancerIP": "  ", "externalIPs": ["203.0.113.7"]})), ["203.0.113.7"]);
    }

    #[test]
    fn kind_m_a_request_that_cannot_be_read_is_not_no_request() {
        let texts = ["203.0.113.70/32", "203.0.113.070", "203.0.113.70,203.0.113.71", "lb.example.com", "fe80::1%eth0"];
        for text in texts {
            assert_eq!(read(json!({"loadBalancerIP": text})), (None, vec!["InvalidAddress"]), "{text}");
        }
        assert_eq!(read(json!({"externalIPs": ["203.0.113.7", "x"]})), (None, vec!["InvalidAddress"]));
        assert_eq!(read(json!({"ipFamilies": ["IPv4", "IPv5"]})), (None, vec!["InvalidAddress"]));
        assert_eq!(read(json!({"ipFamilyPolicy": "TripleStack"})), (None, vec!["InvalidAddress"]));
    }
}
