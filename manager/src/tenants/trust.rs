//! Whose rights hold in a tenant's namespace: the manager's own, which it binds there, and those of accounts that were made for this very
//! Tenant and are not being deleted. Knows rights and uids; issues nothing.

use std::fmt::Debug;
use std::time::Instant;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use nave_watch::{Decoded, Metadata};
use serde::de::DeserializeOwned;

use super::call::{Error, call, call_if_same, call_if_there};
use super::children::{self, Owner};
use super::keep::Keeper;
use super::reconcile::apply;
use super::release::take_off;
use super::view::Room;

/// Binds the manager's rights in the tenant's namespace; whether they hold already.
pub(super) async fn entrust(owner: &Owner, room: &Room, keeper: &Keeper) -> Result<bool, Error> {
    let looks = &keeper.view.looks;
    let wanted = children::managers_binding(owner, &keeper.settings.namespace);
    if !room.managers.as_deref().is_some_and(|present| children::same_binding(present, &wanted)) {
        looks.forget(&owner.name);
        bind(owner, room.managers.as_deref(), &wanted, keeper).await?;
    }
    // What an API server hears of a binding it hears a moment later: until then it would refuse what the binding gives.
    if !looks.is_entrusted(&owner.name) {
        if !holds(&keeper.client, &owner.namespace()).await? {
            return Ok(false);
        }
        looks.entrust(&owner.name);
    }
    Ok(true)
}

/// Makes a binding as it is wanted. One to another role cannot be changed, only replaced.
pub(super) async fn bind(
    owner: &Owner,
    present: Option<&RoleBinding>,
    wanted: &RoleBinding,
    keeper: &Keeper,
) -> Result<(), Error> {
    if let Some(present) = present
        && present.role_ref != wanted.role_ref
    {
        let bindings: Api<Metadata<RoleBinding>> = Api::namespaced(keeper.client.clone(), &owner.namespace());
        let name = wanted.metadata.name.as_deref().unwrap_or_default();
        call_if_there("delete a binding to another role", bindings.delete(name, &DeleteParams::default())).await?;
    }
    apply(keeper, owner, "apply a binding", wanted).await
}

/// Whether the API grants the manager what its binding in a namespace gives.
async fn holds(client: &Client, namespace: &str) -> Result<bool, Error> {
    let attributes = ResourceAttributes {
        verb: Some("create".to_owned()),
        resource: Some("secrets".to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = Decoded::Object(SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() });
    let reviews: Api<Decoded<SelfSubjectAccessReview>> = Api::all(client.clone());
    let answer = call("ask for our rights", reviews.create(&PostParams::default(), &review)).await?;
    Ok(answer.readable().and_then(|review| review.status).is_some_and(|status| status.allowed))
}

/// Ends what is a credential no more: an account of an earlier Tenant of this name, and an account or Secret that somebody deletes and a
/// finalizer holds. An API server believes tokens of the latter for a minute yet. Whether there was any.
pub(super) async fn dismiss(owner: &Owner, room: &Room, keeper: &Keeper) -> Result<bool, Error> {
    let namespace = owner.namespace();
    let account = room.account.as_ref().map(|account| &account.metadata);
    let accounts: Api<Metadata<ServiceAccount>> = Api::namespaced(keeper.client.clone(), &namespace);
    let is_former = disown(owner, room, keeper).await?;
    let secrets: Api<Metadata<Secret>> = Api::namespaced(keeper.client.clone(), &namespace);
    let ends = [drop_held(&accounts, account).await?, drop_held(&secrets, room.secret.as_ref()).await?];
    if ends[1] {
        keeper.view.looks.note(&owner.name, None); // The API is asked, until it was looked at again.
    }
    Ok(is_former || ends.contains(&true))
}

/// Deletes the account of an earlier Tenant of this name, and with it all its tokens; whether there was one.
pub(super) async fn disown(owner: &Owner, room: &Room, keeper: &Keeper) -> Result<bool, Error> {
    let account = room.account.as_ref().map(|account| &account.metadata);
    let Some(former) = account.filter(|account| owner.has_name(account) && !owner.trusts(account)) else {
        return Ok(false);
    };
    let accounts: Api<Metadata<ServiceAccount>> = Api::namespaced(keeper.client.clone(), &owner.namespace());
    remove(&accounts, "delete the account of an earlier Tenant", former).await?;
    tracing::warn!(tenant = owner.name, "deleted the account of an earlier Tenant of this name");
    keeper.void(&owner.name, Some(Instant::now()));
    Ok(true)
}

/// Deletes the object that was seen, whatever finalizers it has.
async fn remove<K>(objects: &Api<Metadata<K>>, act: &'static str, seen: &ObjectMeta) -> Result<(), Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let preconditions = Some(Preconditions { uid: seen.uid.clone(), resource_version: None });
    let exactly = DeleteParams { preconditions, ..DeleteParams::default() };
    let name = seen.name.as_deref().unwrap_or_default();
    call_if_same(act, objects.delete(name, &exactly)).await.map(drop)
}

/// Takes the finalizers off an object that is being deleted; whether it is.
async fn drop_held<K>(objects: &Api<Metadata<K>>, seen: Option<&ObjectMeta>) -> Result<bool, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let Some(seen) = seen.filter(|seen| seen.deletion_timestamp.is_some()) else { return Ok(false) };
    take_off(objects, seen).await?;
    Ok(true)
}
