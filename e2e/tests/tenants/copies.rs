//! Copies of certificates that an agent created: the manager deletes those that no load balancer names, and nothing else.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use nave_api::HTTPLoadBalancer;
use serde_json::json;

use super::code;
use super::hub::{Hub, eventually};

const NAMESPACE: &str = "tenant-shop";

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_no_load_balancer_names_is_deleted_and_no_other_secret() {
    let hub = Hub::with_flags(&["--unnamed-copies-last=1s"]).await;
    hub.admitted("shop").await;
    let agent = hub.agent("shop").await;
    let balancers: Api<HTTPLoadBalancer> = Api::namespaced(agent.clone(), NAMESPACE);
    let spec = json!({"hostnames": ["a.example.com"], "rules": [{}], "tls": [{"secretName": "copy-named"}]});
    let balancer = HTTPLoadBalancer::new("web", serde_json::from_value(spec).unwrap());
    eventually("the agent may write", async || {
        balancers.create(&PostParams::default(), &balancer).await.map(drop).map_err(|error| error.to_string())
    })
    .await;
    let (secrets, seen): (Api<Secret>, Api<Secret>) =
        (Api::namespaced(agent, NAMESPACE), Api::namespaced(hub.client(), NAMESPACE));
    for name in ["copy-named", "copy-unnamed"] {
        let copy = json!({
            "metadata": {"name": name}, "type": "Opaque", "immutable": true, "data": {"ca.crt": "eA=="},
        });
        secrets.create(&PostParams::default(), &serde_json::from_value(copy).unwrap()).await.unwrap();
    }
    let others = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "others", "namespace": NAMESPACE}});
    hub.apply(others).await;
    let names = async || -> Vec<String> {
        let all = seen.list(&kube::api::ListParams::default()).await.unwrap();
        all.iter().map(ResourceExt::name_any).collect()
    };
    let become_ = async |expected: &[&str]| {
        eventually(&format!("there are {expected:?}"), async || {
            let names = names().await;
            if names == expected { Ok(()) } else { Err(format!("{names:?}")) }
        })
        .await;
    };
    become_(&["agent", "copy-named", "others"]).await;
    assert_eq!(code(secrets.delete("copy-named", &DeleteParams::default()).await), 403);
    balancers.delete("web", &DeleteParams::default()).await.unwrap();
    become_(&["agent", "others"]).await;
}
