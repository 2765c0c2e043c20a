//! Bounds before the real API server: moments in a status, and objects that are too large to be stored. Knows sizes; what else is
//! refused is in bad.yaml.

use kube::api::{Api, Patch, PatchParams, PostParams};
use nave_api::Tenant;
use serde_json::{Value, json};

use crate::api;
use crate::empty::with_kinds;

#[test]
fn a_status_has_the_moments_that_its_type_can_hold_and_no_others() {
    with_kinds(async |client| {
        let tenants: Api<Tenant> = Api::all(client);
        tenants.create(&PostParams::default(), &Tenant::new("moments", nave_api::TenantSpec::default())).await.unwrap();
        let seen = async |time: &str| {
            let status = json!({"status": {"agent": {"seenAt": time}}});
            match tenants.patch_status("moments", &PatchParams::default(), &Patch::Merge(status)).await {
                Ok(tenant) => tenant.status.unwrap().agent.unwrap().seen_at.map(|time| time.0.to_string()),
                Err(kube::Error::Api(_)) => None,
                Err(error) => panic!("{time}: {error}"),
            }
        };
        assert_eq!(seen("2026-01-01T00:00:00Z").await.as_deref(), Some("2026-01-01T00:00:00Z"));
        assert_eq!(seen("9998-12-31T23:59:59-23:59").await.as_deref(), Some("9999-01-01T23:58:59Z"));
        assert_eq!(seen("0000-01-01T00:00:00Z").await.as_deref(), Some("0000-01-01T00:00:00Z"));
        let text = format!("2026-01-01T00:00:00Zt{}", "x".repeat(1000));
        for beyond in ["9999-12-31T23:59:59Z", "2026-01-01T00:00:00+99:00", "2026-01-01T00:00:00x5Z", text.as_str()] {
            assert_eq!(seen(beyond).await, None, "{beyond}");
        }
    });
}

#[test]
fn an_object_that_the_schema_admits_and_no_store_takes_is_refused() {
    with_kinds(async |client| {
        let refusal = async |length: usize, addresses: usize| {
            let addresses = vec!["x".repeat(45); addresses];
            let nodes = (0..5000).map(|at| json!({"name": format!("{at:0>length$}"), "addresses": addresses}));
            let nodes: Vec<Value> = nodes.collect();
            let object = json!({
                "apiVersion": "nave.dev/v1alpha1", "kind": "NodeSet",
                "metadata": {"name": "large", "namespace": "default"}, "spec": {"nodes": nodes},
            });
            let typed = serde_json::from_value(object.clone()).unwrap();
            // No dry run: it stores nothing, and would not meet the limit of the store.
            match api(&client, &object).create(&PostParams::default(), &typed).await {
                Ok(_) => None,
                Err(kube::Error::Api(status)) => Some(status.message),
                Err(error) => panic!("the API server does not answer: {error}"),
            }
        };
        for (bytes, addresses) in [("1.9 MB", 2), ("2.1 MB", 3), ("3.3 MB", 8)] {
            let said = refusal(253, addresses).await.unwrap_or_else(|| panic!("{bytes} are stored"));
            // The limits of etcd, of the API server's connection to etcd, and of the API server.
            let is_size = said.to_lowercase().contains("too large") || said.contains("larger than max");
            assert!(is_size, "{bytes}: {said}");
        }
        assert_eq!(refusal(63, 1).await, None, "5000 nodes with names as they are in clouds");
    });
}
