//! The lab keeps its promises: it starts what is real, and leaves nothing behind.
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::Api;
use nave_e2e::control_plane::{ControlPlane, Options};
use nave_e2e::{sweep, wait};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn a_control_plane_answers_runs_its_controllers_and_is_gone_after_its_drop() {
    let plane = ControlPlane::start(Options { audit: true, ..Options::default() }).await.unwrap();
    let (id, dir) = (plane.supervisor().id().to_owned(), plane.supervisor().dir().to_owned());
    let namespaces: Api<Namespace> = Api::all(plane.client());
    assert!(namespaces.get("default").await.is_ok());
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.client(), "default");
    wait::until("the default service account exists", Duration::from_secs(30), || async {
        accounts.get("default").await.map_err(|error| error.to_string())
    })
    .await
    .unwrap();
    assert!(plane.audit().unwrap().contains("serviceaccounts"));
    assert_eq!(sweep::marked(sweep::MARK, &id).len(), 3);
    drop(plane);
    assert_eq!(sweep::marked(sweep::MARK, &id), Vec::<i32>::new());
    assert!(!dir.exists());
}
