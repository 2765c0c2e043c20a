//! What the API server refuses by the credential's rights alone. Knows the requests; knows no manager.

use serde_json::{Value, json};

use super::attempt::{Attempt, Expect, OWN, VICTIM, balancer, intents};

const CORE: &str = "/api/v1";
const OURS: &str = "/apis/nave.dev/v1alpha1";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

/// All of them; `victim` is the name of the victim's load balancer, `address` its address.
pub fn attempts(victim: &str, address: &str) -> Vec<Attempt> {
    let mut all = in_the_victims_room(victim);
    all.extend(on_what_the_manager_says(address));
    all.extend(on_credentials());
    all.extend(on_its_own_tokens());
    all.extend(on_rights());
    all.extend(on_the_hub());
    all
}

fn in_the_victims_room(victim: &str) -> Vec<Attempt> {
    let theirs = format!("{}/{victim}", intents(VICTIM));
    let mut made = balancer("mine", "203.0.113.9");
    made["metadata"]["namespace"] = json!(VICTIM);
    let ports = json!({"spec": {"ports": [{"port": 9999, "backendPort": 1}]}});
    let sets = format!("{OURS}/namespaces/{VICTIM}/nodesets");
    vec![
        Attempt::get("read the victim's load balancer", &theirs),
        Attempt::get("read its status", &format!("{theirs}/status")),
        Attempt::get("list the victim's load balancers", &intents(VICTIM)),
        Attempt::get("watch them", &format!("{}?watch=true", intents(VICTIM))),
        Attempt::get("list everybody's load balancers", &format!("{OURS}/tcploadbalancers")),
        Attempt::get(
            "find the victim by its origin",
            &format!("{OURS}/tcploadbalancers?labelSelector=nave.dev/origin-uid"),
        ),
        Attempt::post("create a load balancer in the victim's room", &intents(VICTIM), made.clone()),
        Attempt::apply("apply over the victim's load balancer", &theirs, made),
        Attempt::patch("patch the victim's ports", &theirs, ports),
        Attempt::patch("take the victim's finalizers", &theirs, json!({"metadata": {"finalizers": null}})),
        Attempt::delete("delete the victim's load balancer", &theirs),
        Attempt::delete("delete all of the victim's load balancers", &intents(VICTIM)),
        Attempt::get("read the victim's nodes", &format!("{sets}/default")),
        Attempt::patch("empty the victim's nodes", &format!("{sets}/default"), json!({"spec": {"nodes": []}})),
        Attempt::delete("delete the victim's nodes", &format!("{sets}/default")),
        Attempt::get("read the victim's namespace", &format!("{CORE}/namespaces/{VICTIM}")),
    ]
}

fn on_what_the_manager_says(address: &str) -> Vec<Attempt> {
    let own = format!("{}/any/status", intents(OWN));
    let status =
        json!({"status": {"addresses": [{"value": address, "pool": "public", "family": "IPv4", "ports": []}]}});
    let allocation = format!("{OURS}/ipallocations/{address}");
    let stolen = json!({"spec": {"owners": [{"namespace": OWN, "name": "any"}]}});
    vec![
        Attempt::patch("give itself the victim's address in its own status", &own, status),
        Attempt::get("read who has which address", &format!("{OURS}/ipallocations")),
        Attempt::patch("make the victim's allocation its own", &allocation, stolen),
        Attempt::delete("delete the victim's allocation", &allocation),
        Attempt::get("read the pools", &format!("{OURS}/ippools")),
        Attempt::patch(
            "open a pool for itself",
            &format!("{OURS}/ippools/public"),
            json!({"spec": {"use": {"tenants": null}}}),
        ),
        Attempt::get("list the tenants", &format!("{OURS}/tenants")),
        Attempt::patch("lift its own quota", &format!("{OURS}/tenants/spoke-2"), json!({"spec": {"quota": null}})),
        Attempt::patch(
            "allow itself every backend",
            &format!("{OURS}/tenants/spoke-2"),
            json!({"spec": {"backends": {"allow": ["0.0.0.0/0"]}}}),
        ),
        Attempt::delete("delete the victim's Tenant", &format!("{OURS}/tenants/spoke-1")),
        Attempt::get("read the fleets", &format!("{OURS}/fleets")),
        Attempt::get("read the groups of addresses", &format!("{OURS}/addressgroups")),
        Attempt::delete("lift the ResourceQuota", &format!("{CORE}/namespaces/{OWN}/resourcequotas/agent")),
        Attempt::delete("delete all of its own at once", &intents(OWN)),
    ]
}

fn on_credentials() -> Vec<Attempt> {
    let secrets = |namespace: &str| format!("{CORE}/namespaces/{namespace}/secrets");
    let token =
        |namespace: &str, account: &str| format!("{CORE}/namespaces/{namespace}/serviceaccounts/{account}/token");
    let request =
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    vec![
        Attempt::get("read its own kubeconfig in the hub", &format!("{}/agent", secrets(OWN))),
        Attempt::get("list its own Secrets", &secrets(OWN)),
        Attempt::get("read the victim's kubeconfig", &format!("{}/agent", secrets(VICTIM))),
        Attempt::get("read the key of the fleets' authority", &format!("{}/nave-ca", secrets("nave-system"))),
        Attempt::post("get a token of the victim's agent", &token(VICTIM, "agent"), request.clone()),
        Attempt::post("get a token of the manager", &token("nave-system", "nave-manager"), request.clone()),
        Attempt::post("get a token of another account of its own room", &token(OWN, "default"), request),
        Attempt::get("be the administrator", &secrets(VICTIM)).header("Impersonate-User", "system:admin"),
        Attempt::get("be one of the masters", &secrets(VICTIM))
            .header("Impersonate-User", "anybody")
            .header("Impersonate-Group", "system:masters"),
        Attempt::get("be the victim's agent", &intents(VICTIM))
            .header("Impersonate-User", "system:serviceaccount:tenant-spoke-1:agent"),
    ]
}

/// Tokens that would outlive the credential, and those by which an agent renews it.
fn on_its_own_tokens() -> Vec<Attempt> {
    let path = format!("{CORE}/namespaces/{OWN}/serviceaccounts/agent/token");
    let request = |holder: Value, seconds: Value| {
        let spec = json!({"boundObjectRef": holder, "expirationSeconds": seconds});
        json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec})
    };
    let held_by = |name: &str| json!({"apiVersion": "v1", "kind": "Secret", "name": name});
    let (week, year) = (7 * 24 * 3600, 365 * 24 * 3600);
    vec![
        Attempt::post("get a token that no Secret voids", &path, request(Value::Null, json!(600))),
        Attempt::post("get one that no Secret voids, for years", &path, request(Value::Null, json!(10 * year))),
        Attempt::post("get one for a year", &path, request(held_by("agent"), json!(year))),
        Attempt::post("get one for a second more than a week", &path, request(held_by("agent"), json!(week + 1))),
        Attempt::post("bind one to another Secret", &path, request(held_by("others"), json!(600))),
        Attempt::post("a token for a week is given", &path, request(held_by("agent"), json!(week)))
            .expecting(Expect::Done),
        Attempt::post("a token for the usual time is given", &path, request(held_by("agent"), Value::Null))
            .expecting(Expect::Done),
    ]
}

fn on_rights() -> Vec<Attempt> {
    let everything = json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]);
    let subjects = json!([{"kind": "ServiceAccount", "name": "agent", "namespace": OWN}]);
    let admin = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"});
    let object = |kind: &str| -> Value {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": {"name": "mine"},
        })
    };
    let (mut role, mut binding, mut all) = (object("Role"), object("RoleBinding"), object("ClusterRoleBinding"));
    role["rules"] = everything.clone();
    binding["roleRef"] = admin.clone();
    binding["subjects"] = subjects.clone();
    all["roleRef"] = admin;
    all["subjects"] = subjects;
    let own = format!("{RBAC}/namespaces/{OWN}");
    vec![
        Attempt::patch("widen its own Role", &format!("{own}/roles/agent"), json!({"rules": everything})),
        Attempt::post("make a Role with every right", &format!("{own}/roles"), role),
        Attempt::post("bind itself to cluster-admin in its room", &format!("{own}/rolebindings"), binding),
        Attempt::post("bind itself to cluster-admin everywhere", &format!("{RBAC}/clusterrolebindings"), all),
    ]
}

fn on_the_hub() -> Vec<Attempt> {
    let label = json!({"metadata": {"labels": {"nave.dev/tenant": "spoke-1"}}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "tenant-new"}});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "mine"},
        "spec": {"hostNetwork": true, "containers": [{"name": "mine", "image": "mine"}]},
    });
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "mine"}, "spec": {"ports": [{"port": 80}]}});
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "mine", "namespace": OWN},
        "involvedObject": {"kind": "Tenant", "name": "spoke-1"}, "reason": "Lie", "message": "all is well",
    });
    let kind = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/tcploadbalancers.nave.dev";
    let leases = |namespace: &str| format!("/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases");
    vec![
        Attempt::patch("give its namespace the victim's label", &format!("{CORE}/namespaces/{OWN}"), label),
        Attempt::post("make a namespace", &format!("{CORE}/namespaces"), namespace),
        Attempt::delete("delete the victim's namespace", &format!("{CORE}/namespaces/{VICTIM}")),
        Attempt::patch("change our kinds", kind, json!({"spec": {"conversion": null}})),
        Attempt::delete("delete our kinds", kind),
        Attempt::patch(
            "take the lead from the manager",
            &format!("{}/nave-manager", leases("nave-system")),
            json!({"spec": {"holderIdentity": "mine"}}),
        ),
        Attempt::patch(
            "speak for the victim's agent",
            &format!("{}/agent", leases(VICTIM)),
            json!({"spec": {"holderIdentity": "mine"}}),
        ),
        Attempt::post("run a pod on an edge node", &format!("{CORE}/namespaces/{OWN}/pods"), pod),
        Attempt::post(
            "enter a pod of the manager",
            &format!("{CORE}/namespaces/nave-system/pods/nave-manager-0/exec?command=sh"),
            Value::Null,
        ),
        Attempt::post("make a Service in the hub", &format!("{CORE}/namespaces/{OWN}/services"), service),
        Attempt::post("tell a lie about the victim in an Event", &format!("{CORE}/namespaces/{OWN}/events"), event),
        Attempt::get("list the hub's nodes", &format!("{CORE}/nodes")),
        Attempt::patch(
            "make a node an edge node of its own",
            &format!("{CORE}/nodes/edge-1"),
            json!({"metadata": {"labels": {"nave.dev/fleet": "mine"}}}),
        ),
    ]
}
