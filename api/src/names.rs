//! Names, labels, annotations and finalizers: one place where each is spelled. Knows no object.

use std::net::IpAddr;

use sha2::{Digest, Sha256};

use crate::cluster::Mark;

/// The namespace of the hub in which a tenant lives: `tenant-` and the tenant's name.
pub fn tenant_namespace(tenant: &str) -> String {
    format!("{TENANT_NAMESPACE_PREFIX}{tenant}")
}

/// The tenant whose namespace this is.
pub fn tenant_of(namespace: &str) -> Option<&str> {
    namespace.strip_prefix(TENANT_NAMESPACE_PREFIX)
}

const TENANT_NAMESPACE_PREFIX: &str = "tenant-";

/// The Secret in a tenant's namespace that holds the agent's kubeconfig, under [`KUBECONFIG_KEY`]; also its service account.
pub const AGENT: &str = "agent";
/// The manager's service account in its own namespace, and the RoleBinding of its rights in each tenant's.
pub const MANAGER: &str = "nave-manager";
/// The ClusterRole of the manager's rights in a tenant's namespace.
pub const MANAGER_TENANTS: &str = "nave-manager-tenants";
/// How the names of the Secrets begin that an agent creates in the hub: copies of certificates, which never change.
pub const COPY_PREFIX: &str = "copy-";
/// The key of a kubeconfig in a Secret.
pub const KUBECONFIG_KEY: &str = "kubeconfig";
/// The fleet that is meant when nothing is said.
pub const DEFAULT_FLEET: &str = "default";
/// The NodeSet that holds all ready nodes of a spoke.
pub const DEFAULT_NODE_SET: &str = "default";
/// `spec.loadBalancerClass` of Services that are ours.
pub const LOAD_BALANCER_CLASS: &str = "nave.dev/load-balancer";

/// The agent's finalizer on a user's Service. Not the cloud controllers' own: they would take our Service for theirs.
pub const AGENT_FINALIZER: &str = "nave.dev/agent";
/// The manager's finalizer on a Tenant.
pub const TENANT_FINALIZER: &str = "nave.dev/tenant";
/// The manager's finalizer on an IPAllocation: an address in use cannot be deleted by hand.
pub const RELEASE_FINALIZER: &str = "nave.dev/release";

/// Label: which tenant an object of the hub belongs to.
pub const TENANT_LABEL: &str = "nave.dev/tenant";
/// Label: the uid of the Tenant for which the manager made an object of the hub. On a namespace, an administrator's word that this very Tenant
/// takes it over.
pub const TENANT_UID_LABEL: &str = "nave.dev/tenant-uid";
/// Label: the uid of the spoke's object that an intent stands for.
pub const ORIGIN_UID_LABEL: &str = "nave.dev/origin-uid";
/// Label: the cluster to which an object of a tenant's namespace belongs, by its [`Mark`]: on the
/// agent's Lease, on NodeSets and on load balancers. Annotation of a Tenant: the cluster to which an administrator gives it.
pub const CLUSTER: &str = "nave.dev/cluster";
/// Annotation of the agent's Lease: another cluster whose agent has the same credential, and when it looked last.
pub const OTHER_CLUSTER_ANNOTATION: &str = "nave.dev/other-cluster";
/// Label: on nodes, the fleet they are edge nodes of; on an IPAllocation, nothing.
pub const FLEET_LABEL: &str = "nave.dev/fleet";
/// Label: the pool of an IPAllocation, or of a Service by which the hub's cloud gives an address.
pub const POOL_LABEL: &str = "nave.dev/pool";

/// Annotation: the load balancer for which a Service in the hub was made, `<namespace>/<name>`.
pub const OWNER_ANNOTATION: &str = "nave.dev/owner";
/// Annotation: the uid of that load balancer.
pub const OWNER_UID_ANNOTATION: &str = "nave.dev/owner-uid";
/// Annotation: the digest of the order by which a Service in the hub was written.
pub const ORDER_ANNOTATION: &str = "nave.dev/order";

/// Annotation of such a Service: a hash of what we set in its spec, so that what others change there shows.
pub const ORDERED_SPEC_ANNOTATION: &str = "nave.dev/ordered-spec";

/// Server-side apply: who writes intents.
pub const AGENT_MANAGER: &str = "nave-agent";
/// Server-side apply: who writes statuses and allocations.
pub const MANAGER_MANAGER: &str = "nave-manager";

/// The name in the hub of what a spoke calls `kind` `namespace`/`name`: readable, unambiguous (`a-b`/`c` and `a`/`b-c`
/// differ by the hash of the three parts) and at most 63 characters, a DNS label.
pub fn intent_name(kind: &str, namespace: &str, name: &str) -> String {
    let mut hash = Sha256::new();
    for part in [kind, namespace, name] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let readable: String = format!("{namespace}-{name}")
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
        .take(MAX_LABEL - HASH_DIGITS - 1)
        .collect();
    let digits: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).take(HASH_DIGITS / 2).collect();
    // A DNS label of the intents' kind begins with a letter or digit, as every namespace does.
    format!("{}-{digits}", readable.trim_end_matches('-'))
}

/// The NodeSet of a cluster in a namespace where another cluster's is called [`DEFAULT_NODE_SET`].
pub fn node_set_of(cluster: &Mark) -> String {
    intent_name("NodeSet", DEFAULT_NODE_SET, cluster.as_str())
}

const MAX_LABEL: usize = 63;
const HASH_DIGITS: usize = 10;

/// The name of the IPAllocation of an address: the address itself, IPv6 in full with dashes for colons. Creating the
/// object of this name is the lock on the address.
pub fn allocation_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => v6.segments().map(|s| format!("{s:04x}")).join("-"),
    }
}

/// The address of the IPAllocation of this name, where it is named after one.
pub fn allocation_address(name: &str) -> Option<IpAddr> {
    let address = name.parse().or_else(|_| name.replace('-', ":").parse()).ok()?;
    (allocation_name(address) == name).then_some(address)
}

/// The name of the IPAllocation that records the Envoy ports of a pool whose addresses the hub's cloud gives. No address
/// has a name like it.
pub fn service_allocation_name(pool: &str) -> String {
    format!("service.{pool}")
}

/// The pool whose Envoy ports the IPAllocation of this name records, where it records any.
pub fn service_allocation_pool(name: &str) -> Option<&str> {
    name.strip_prefix("service.")
}

/// The name of the Service in the hub by which its cloud gives an address of the pool: to this load balancer, or to all.
pub fn hub_service_name(pool: &str, balancer: Option<(&str, &str)>) -> String {
    let (namespace, name) = balancer.unwrap_or(("", ""));
    // Services are DNS labels that begin with a letter.
    let unique = intent_name(pool, namespace, name);
    let digits = &unique[unique.len() - HASH_DIGITS..];
    let readable: String = format!("nave-{pool}-{name}").chars().take(MAX_LABEL - HASH_DIGITS - 1).collect();
    format!("{}-{digits}", readable.trim_end_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_join_alike_differ() {
        assert_ne!(intent_name("Service", "a-b", "c"), intent_name("Service", "a", "b-c"));
        assert_ne!(intent_name("Service", "a", "b"), intent_name("Ingress", "a", "b"));
    }

    #[test]
    fn a_name_is_a_dns_label_however_long_its_parts() {
        let name = intent_name("Service", &"n".repeat(63), &"s".repeat(63));
        assert_eq!(name.len(), 63);
        assert!(intent_name("Service", "shop", "web").starts_with("shop-web-"));
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
    }

    #[test]
    fn an_allocation_is_named_after_its_address() {
        let names = ["203.0.113.7", "2001:db8::7"].map(|a| allocation_name(a.parse().unwrap()));
        assert_eq!(names, ["203.0.113.7", "2001-0db8-0000-0000-0000-0000-0000-0007"]);
        let addresses = names.map(|name| allocation_address(&name).map(|address| address.to_string()));
        assert_eq!(addresses, [Some("203.0.113.7".to_owned()), Some("2001:db8::7".to_owned())]);
        assert_eq!(["2001-db8--7", "service.cloud", "203.0.113.07", ""].map(allocation_address), [None; 4]);
    }
}
