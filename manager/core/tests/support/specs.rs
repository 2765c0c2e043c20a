//! What the objects of random histories ask for: a few of each kind that meet every rule. Knows specs; knows no history.

use serde_json::{Value, json};

/// The pools of a history; each has specs of its own.
pub const POOLS: [&str; 7] = ["public", "spare", "six", "shared", "ranged", "cloud", "everybodys"];

/// How many specs of load balancers there are.
pub const BALANCERS: usize = 21;

pub fn balancer_spec(which: usize) -> Value {
    let specs = [
        json!({}),
        json!({}),
        json!({"ports": [{"port": 80, "backendPort": 1}, {"port": 53, "protocol": "UDP", "backendPort": 2}]}),
        json!({"address": {"pool": "spare"}}),
        json!({"address": {"requested": ["203.0.113.2"]}}),
        json!({"address": {"families": ["IPv6"]}}),
        json!({"address": {"familyPolicy": "PreferDualStack"}}),
        json!({"address": {"pool": "public", "familyPolicy": "RequireDualStack"}}),
        json!({"address": {"requested": ["nonsense"]}}),
        json!({"address": {"pool": "shared"}}),
        json!({"address": {"pool": "shared"}, "ports": [{"port": 81, "backendPort": 1}, {"port": 53, "protocol": "UDP", "backendPort": 2}]}),
        json!({"address": {"requested": ["203.0.113.64"]}, "ports": [{"port": 82, "backendPort": 1}]}),
        json!({"address": {"pool": "ranged"}}),
        json!({"address": {"pool": "ranged"}, "ports": [{"port": 8101, "backendPort": 1}, {"port": 443, "backendPort": 1}]}),
        json!({"address": {"pool": "shared", "familyPolicy": "RequireDualStack"}, "ports": [{"port": 83, "backendPort": 1}]}),
        json!({"backends": {"endpoints": [{"addresses": ["10.1.1.1", "127.0.0.1", "junk"]}]}}),
        json!({"traffic": {"balancing": {"policy": "Maglev"}, "sourceRanges": ["198.51.100.0/24"], "timeouts": {"idle": "x"}}}),
        json!({"address": {"pool": "cloud"}}),
        json!({"address": {"pool": "cloud"}, "ports": [{"port": 81, "backendPort": 1}, {"port": 53, "protocol": "UDP", "backendPort": 2}]}),
        json!({"address": {"pool": "everybodys"}}),
        json!({"address": {"pool": "everybodys"}, "ports": [{"port": 81, "backendPort": 1}, {"port": 82, "backendPort": 2}]}),
    ];
    specs[which % specs.len()].clone()
}

/// What asks for one address of each family, which may lie in different pools, or for what a pool made again has.
pub fn pair_spec(which: usize) -> Value {
    let specs = [
        json!({"address": {"familyPolicy": "RequireDualStack"}}),
        json!({"address": {"requested": ["203.0.113.3", "2001:db8:6::1"]}}),
        json!({"address": {"requested": ["2001:db8:6::2"], "familyPolicy": "RequireDualStack"}}),
        json!({"address": {"requested": ["203.0.113.17", "2001:db8:6::"], "familyPolicy": "PreferDualStack"}}),
        json!({"address": {"pool": AGAIN}}),
        json!({"address": {"pool": AGAIN, "requested": ["203.0.113.2"]}}),
    ];
    specs[which % specs.len()].clone()
}

/// The name under which deleted pools are made again.
pub const AGAIN: &str = "again";

pub fn pool_spec(which: usize, spec: usize) -> Value {
    let specs: &[Value] = &match which % POOLS.len() {
        0 => [
            json!({"addresses": {"include": ["203.0.113.0/29", "2001:db8::/126"]}}),
            json!({"addresses": {"include": ["203.0.113.0/30"]}}),
            json!({"addresses": {"include": ["203.0.113.0/29"], "exclude": ["203.0.113.1"], "dynamic": ["203.0.113.4/30"]}}),
            json!({"addresses": {"include": ["203.0.113.9-203.0.113.1"]}}),
        ],
        1 => [
            json!({"addresses": {"include": ["203.0.113.16/31"]}, "holdFor": "7s"}),
            json!({"addresses": {"include": ["203.0.113.4/30"]}}),
            json!({"addresses": {"include": ["203.0.113.16/31"]}, "use": {"tenants": {"names": ["shop"]}}}),
            json!({"source": {"service": {"envoyPorts": {"low": 20001, "high": 20009}}}}),
        ],
        2 => [
            json!({"addresses": {"include": ["2001:db8:6::/126"]}, "use": {"default": true, "priority": -1}}),
            json!({"addresses": {"include": ["2001:db8:6::/127"]}}),
            json!({"addresses": {"include": ["2001:db8:6::/127", "203.0.113.32"]}, "fleet": "other"}),
            json!({"addresses": {"include": ["2001:db8::/125"]}}),
        ],
        3 => [
            json!({"addresses": {"include": ["203.0.113.64/31", "2001:db8:7::/127"]}, "sharing": "ByPort", "use": {}}),
            json!({"addresses": {"include": ["203.0.113.64/31"]}, "sharing": "ByPort"}),
            json!({"addresses": {"include": ["203.0.113.64/31"]}, "sharing": "Exclusive"}),
            json!({"addresses": {"include": ["203.0.113.64"]}, "sharing": "ByPort", "portRange": {"low": 50, "high": 60}}),
        ],
        5 => [
            json!({"source": {"service": {"envoyPorts": {"low": 20000, "high": 20002}}}, "use": {}}),
            json!({"source": {"service": {"annotations": {"cloud/size": "small"}}}, "use": {}}),
            json!({"source": {"service": {"envoyPorts": {"low": 20005, "high": 20005}}}, "use": {"default": true}}),
            json!({"source": {"service": {"per": "Fleet"}}, "use": {}}),
        ],
        6 => [
            json!({"addresses": {"include": ["203.0.113.140"]}, "sharing": "ByPortAcrossTenants", "use": {}}),
            json!({"addresses": {"include": ["203.0.113.140/31"]}, "sharing": "ByPortAcrossTenants", "use": {}}),
            json!({"addresses": {"include": ["203.0.113.140"]}, "sharing": "ByPortAcrossTenants", "portRange": {"low": 81, "high": 83}, "use": {}}),
            json!({"addresses": {"include": ["203.0.113.141"]}, "sharing": "ByPort", "use": {}}),
        ],
        _ => [
            json!({"addresses": {"include": ["203.0.113.128"]}, "sharing": "ByPort", "portRange": {"low": 8100, "high": 8102}, "use": {}}),
            json!({"addresses": {"include": ["203.0.113.128"]}, "sharing": "ByPort", "portRange": {"low": 80, "high": 80}, "use": {}}),
            json!({"addresses": {"include": ["203.0.113.128/31"]}, "portRange": {"low": 8100, "high": 8102}, "use": {}}),
            json!({"addresses": {"include": ["203.0.113.128/31"]}, "use": {}}),
        ],
    };
    specs[spec % specs.len()].clone()
}

pub fn tenant_spec(which: usize) -> Value {
    let specs = [
        json!({}),
        json!({}),
        json!({"state": "Suspended"}),
        json!({"quota": {"loadBalancers": 2, "addresses": 2}}),
        json!({"quota": {"ports": 3, "endpoints": 4}}),
        json!({"backends": null}),
        json!({"backends": {"allow": ["10.20.0.0/16"]}}),
        json!({"pools": ["spare"]}),
        json!({"fleet": "other"}),
    ];
    specs[which % specs.len()].clone()
}
