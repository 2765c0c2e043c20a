//! What each step writes, and what its answer means. Knows the API's verbs and errors; knows no order and no retry.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource};
use nave_api::{ConditionType, Fleet, IPAllocation, IPPool, TCPLoadBalancer, TCPLoadBalancerStatus, Tenant, names};
use nave_manager_core::{Key, Kind, Order, Seen, Step, UnreadableReport};
use nave_watch::{Decoded, Metadata};
use serde::Serialize;
use serde_json::{Value, json};

use crate::conductor::Input;
use crate::provider::{Ending, Providers};
use crate::watch;

/// What came of a write.
pub(super) enum Written {
    /// It is done; the watch will tell.
    Done,
    /// It is done, and this is how things are now: nobody need wait for the watch.
    Learnt(Vec<Input>),
    /// It cannot be done, because this is how things are.
    Impossible(Vec<Input>),
    /// It cannot be done, and nobody knows better yet: the object has ended and the watch has yet to tell, or the API refuses
    /// what it says. Who decides at once decides the same again.
    Hopeless,
    /// Not now; perhaps later.
    NotNow,
    /// It is refused as it is; this says so. Perhaps not later.
    Refused(Input),
    /// The object would be larger than the API's store takes. It stays as it is until the step says something else.
    TooLarge,
}

/// Writes to the hub's API.
pub(super) struct Writer {
    client: Client,
    allocations: Api<Decoded<IPAllocation>>,
    providers: Arc<Providers>,
}

impl Writer {
    /// A writer with this client.
    pub(super) fn new(client: Client, providers: Arc<Providers>) -> Self {
        Self { allocations: Api::all(client.clone()), client, providers }
    }

    /// Writes once.
    pub(super) async fn write(&self, step: &Step) -> Written {
        match step {
            Step::CreateAllocation(allocation) => {
                let object = Decoded::Object(allocation.clone());
                let created = self.allocations.create(&PostParams::default(), &object).await;
                self.recorded(name_of(allocation), created).await
            }
            Step::ReplaceAllocation(allocation) => {
                let name = name_of(allocation);
                let object = Decoded::Object(allocation.clone());
                let replaced = self.allocations.replace(name, &PostParams::default(), &object).await;
                self.recorded(name, replaced).await
            }
            Step::ReleaseAllocation { name, uid, resource_version } => self.release(name, uid, resource_version).await,
            Step::WriteLoadBalancerStatus { key, uid, generation: _, status, patience: _ } => {
                let Key { namespace, name } = key;
                let api = Api::<Metadata<TCPLoadBalancer>>::namespaced(self.client.clone(), namespace);
                match self.status(&api, ENGINE, name, uid, status).await {
                    Written::TooLarge => self.status(&api, ENGINE, name, uid, &shortened(status)).await,
                    written => written,
                }
            }
            Step::WritePoolStatus { name, uid, status, patience: _ } => {
                self.status(&self.cluster::<IPPool>(), ENGINE, name, uid, status).await
            }
            Step::WriteTenantStatus { name, uid, used, conditions, patience: _ } => {
                let status = json!({"used": used, "conditions": conditions});
                self.status(&self.cluster::<Tenant>(), ENGINE, name, uid, &status).await
            }
            Step::WriteFleetStatus { name, uid, status, patience: _ } => {
                self.status(&self.cluster::<Fleet>(), ENGINE, name, uid, status).await
            }
            Step::ReportUnreadable(report) => self.report(report).await,
            Step::Order(order) => match self.providers.order(order).await {
                Ok(()) => Written::Learnt(vec![answer(order, None)]),
                Err(error) => {
                    let not_now = not_now("order an address", &order.id, &error);
                    refusal(&error).map_or(not_now, |words| Written::Refused(answer(order, Some(words))))
                }
            },
            Step::Withdraw { id } => match self.providers.withdraw(id).await {
                Ok(Ending::Begun) => Written::Done,
                Ok(Ending::Over) => Written::Learnt(vec![Input::Seen(Box::new(Seen::Delivery(id.clone(), None)))]),
                Err(error) => not_now("withdraw an order", id, &error),
            },
            Step::Announce(_) => Written::Done, // Invariant: Events go by their own way, `Performer::perform`
        }
    }

    /// After a write of an allocation: its answer is as good as the watch, and sooner.
    async fn recorded(&self, name: &str, answer: Result<Decoded<IPAllocation>, kube::Error>) -> Written {
        match answer {
            Ok(allocation) => Written::Learnt(vec![watch::allocation(allocation)]),
            Err(error) if is(&error, CONFLICT) || is(&error, NOT_FOUND) => self.impossible(name).await,
            Err(error) if is_too_large(&error) || is(&error, INVALID) => {
                tracing::error!(name, error = &error as &dyn std::error::Error, "the API refuses a record");
                Written::Hopeless
            }
            Err(error) => not_now("record an allocation", name, &error),
        }
    }

    /// The step is impossible as things are: look how they are.
    async fn impossible(&self, name: &str) -> Written {
        match self.allocations.get_opt(name).await {
            Ok(Some(allocation)) => Written::Impossible(vec![watch::allocation(allocation)]),
            Ok(None) => Written::Hopeless,
            Err(error) => not_now("look at an allocation", name, &error),
        }
    }

    /// Deletes what was looked at and nothing newer, then lets go of it.
    async fn release(&self, name: &str, uid: &str, version: &str) -> Written {
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: Some(version.to_owned()) };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let deleted = match self.allocations.delete(name, &params).await {
            Ok(deleted) => deleted.left(),
            Err(error) if is(&error, CONFLICT) => return self.finish_or_learn(name, uid).await,
            Err(error) if is(&error, NOT_FOUND) => return self.impossible(name).await,
            Err(error) => return not_now("release an allocation", name, &error),
        };
        match deleted {
            Some(allocation) => self.let_go(name, allocation.meta()).await,
            None => Written::Done, // it had no finalizer and is gone
        }
    }

    /// It has changed since the engine looked: either our own deletion half done, or news.
    async fn finish_or_learn(&self, name: &str, uid: &str) -> Written {
        match self.allocations.get_opt(name).await {
            Ok(Some(allocation))
                if allocation.meta().deletion_timestamp.is_some() && allocation.meta().uid.as_deref() == Some(uid) =>
            {
                self.let_go(name, allocation.meta()).await
            }
            Ok(Some(allocation)) => Written::Impossible(vec![watch::allocation(allocation)]),
            Ok(None) => Written::Hopeless,
            Err(error) => not_now("look at an allocation", name, &error),
        }
    }

    /// Takes our finalizer off, from this very version of it.
    async fn let_go(&self, name: &str, metadata: &ObjectMeta) -> Written {
        let others: Vec<&String> =
            metadata.finalizers.iter().flatten().filter(|f| *f != names::RELEASE_FINALIZER).collect();
        let patch = json!({"metadata": {
            "uid": metadata.uid, "resourceVersion": metadata.resource_version, "finalizers": others,
        }});
        match self.allocations.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await {
            Ok(left) if others.is_empty() => Written::Learnt(vec![watch::gone(left.meta().clone())]),
            Ok(left) => Written::Learnt(vec![watch::allocation(left)]),
            Err(error) if is(&error, NOT_FOUND) => Written::Done,
            Err(error) if is(&error, CONFLICT) => Written::NotNow,
            Err(error) => not_now("let go of an allocation", name, &error),
        }
    }

    fn cluster<K: Resource<DynamicType = ()>>(&self) -> Api<Metadata<K>> {
        Api::all(self.client.clone())
    }

    /// Says on an object that it cannot be read. An object that the API does not let have a status is left as it is.
    async fn report(&self, report: &UnreadableReport) -> Written {
        let UnreadableReport { kind, key: Key { namespace, name }, uid, condition } = report;
        let status = json!({"conditions": [condition]});
        match kind {
            Kind::LoadBalancer => {
                let api = Api::<Metadata<TCPLoadBalancer>>::namespaced(self.client.clone(), namespace);
                self.status(&api, UNREADABLE, name, uid, &status).await
            }
            Kind::Pool => self.status(&self.cluster::<IPPool>(), UNREADABLE, name, uid, &status).await,
            Kind::Tenant => self.status(&self.cluster::<Tenant>(), UNREADABLE, name, uid, &status).await,
            Kind::Fleet => self.status(&self.cluster::<Fleet>(), UNREADABLE, name, uid, &status).await,
            Kind::Allocation => self.status(&self.cluster::<IPAllocation>(), UNREADABLE, name, uid, &status).await,
        }
    }

    /// A status belongs to one object: another of the same name, made since, gets its own.
    async fn status<K>(&self, api: &Api<K>, writer: &str, name: &str, uid: &str, status: &impl Serialize) -> Written
    where
        K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let patch: Value = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"uid": uid}, "status": status,
        });
        let params = PatchParams::apply(writer).force();
        match api.patch_status(name, &params, &Patch::Apply(patch)).await {
            Ok(_) => Written::Done,
            Err(error) if is(&error, NOT_FOUND) => Written::Done,
            Err(error) if writer == UNREADABLE && is(&error, INVALID) => {
                tracing::warn!(name, error = &error as &dyn std::error::Error, "nothing can be said on an object");
                Written::Done
            }
            Err(error) if is(&error, CONFLICT) => after_conflict(api, name, uid, &error).await,
            Err(error) if is_too_large(&error) => {
                tracing::warn!(name, error = &error as &dyn std::error::Error, "an object has no room for a status");
                Written::TooLarge
            }
            Err(error) => not_now("write a status", name, &error),
        }
    }
}

/// The status of a load balancer that has room for no more: its addresses, and its conditions, of which one says why there is no more.
fn shortened(status: &TCPLoadBalancerStatus) -> TCPLoadBalancerStatus {
    let TCPLoadBalancerStatus { addresses, backends: _, sessions: _, conditions } = status;
    let short = |condition: &Condition| {
        let is_first = condition.type_ == ConditionType::Accepted.as_str();
        Condition { message: if is_first { NO_ROOM.to_owned() } else { String::new() }, ..condition.clone() }
    };
    TCPLoadBalancerStatus {
        addresses: addresses.clone(),
        backends: None,
        sessions: Vec::new(),
        conditions: conditions.iter().map(short).collect(),
    }
}

/// What the condition Accepted of such a load balancer says.
const NO_ROOM: &str = "The object is too large for its status: shorten spec or annotations";

/// API servers pass on what their store says of an object of more than 1.5 MB, which is no code of its own.
fn is_too_large(error: &kube::Error) -> bool {
    let kube::Error::Api(status) = error else { return false };
    let says_so = ["request is too large", "message larger than max"].iter().any(|text| status.message.contains(text));
    status.code == TOO_LARGE || (status.code >= 500 && says_so)
}

/// The API answers so for another object of the name, and for this one when others write it all the time.
async fn after_conflict<K>(api: &Api<K>, name: &str, uid: &str, conflict: &kube::Error) -> Written
where
    K: kube::Resource + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    match api.get(name).await {
        Ok(present) if present.meta().uid.as_deref() == Some(uid) => not_now("write a status", name, conflict),
        Ok(_) => Written::Done,
        Err(error) if is(&error, NOT_FOUND) => Written::Done,
        Err(error) => not_now("look whose status it is", name, &error),
    }
}

/// What the API says of what it refuses for what it says, or for who says it. An API that is away or busy refuses nothing.
fn refusal(error: &kube::Error) -> Option<String> {
    let kube::Error::Api(status) = error else { return None };
    let is_final = [BAD_REQUEST, FORBIDDEN, NOT_FOUND, TOO_LARGE, INVALID].contains(&status.code);
    is_final.then(|| status.message.chars().take(MESSAGE).collect())
}

fn answer(order: &Order, refusal: Option<String>) -> Input {
    Input::Seen(Box::new(Seen::Answered(order.answered(refusal))))
}

/// So many characters of what the API says are shown.
const MESSAGE: usize = 400;
/// Whose the fields are that the engine decides; other rooms write other fields of the same objects.
const ENGINE: &str = "nave-manager/engine";
/// Whose the condition is of an object that cannot be read, where the engine writes no status of it.
const UNREADABLE: &str = "nave-manager/unreadable";
const BAD_REQUEST: u16 = 400;
const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;
const CONFLICT: u16 = 409;
const TOO_LARGE: u16 = 413;
const INVALID: u16 = 422;

fn is(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

fn not_now(act: &str, name: &str, error: &kube::Error) -> Written {
    tracing::warn!(name, error = error as &dyn std::error::Error, "cannot {act} now");
    Written::NotNow
}

fn name_of(allocation: &IPAllocation) -> &str {
    allocation.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use nave_api::IPPoolStatus;

    use super::*;
    use nave_watch::stub;

    /// What comes of a status of the object with the uid 1 when its write is a conflict and the API shows this.
    async fn after_conflict_with(shown: (u16, Value)) -> Written {
        let client =
            stub::client(move |asked| if asked.contains("/status") { stub::refusal(409) } else { shown.clone() });
        let writer = Writer::new(client.clone(), Arc::new(Providers::new(&client, "nave-system")));
        let (status, patience) = (IPPoolStatus::default(), Duration::ZERO);
        writer.write(&Step::WritePoolStatus { name: "public".into(), uid: "1".into(), status, patience }).await
    }

    fn pool(uid: &str) -> (u16, Value) {
        let metadata = json!({"name": "public", "uid": uid});
        (200, json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}))
    }

    #[tokio::test]
    async fn a_status_that_others_were_quicker_than_is_written_later() {
        assert!(matches!(after_conflict_with(pool("1")).await, Written::NotNow));
        assert!(matches!(after_conflict_with(stub::refusal(503)).await, Written::NotNow));
    }

    #[tokio::test]
    async fn a_status_of_an_object_that_is_gone_is_done_with() {
        assert!(matches!(after_conflict_with(pool("2")).await, Written::Done));
        assert!(matches!(after_conflict_with(stub::refusal(404)).await, Written::Done));
    }

    /// What comes of a load balancer's status when the API says so of everything that is longer than its short form, or of all.
    async fn without_room(for_all: bool) -> Written {
        let condition = |type_: &str, reason: &str| -> Condition {
            serde_json::from_value(
                json!({"type": type_, "status": "True", "reason": reason, "message": "long ".repeat(50),
                "lastTransitionTime": "2026-11-30T10:00:00Z"}),
            )
            .unwrap()
        };
        let conditions = vec![condition("Accepted", "Accepted"), condition("Programmed", "Programmed")];
        let status = TCPLoadBalancerStatus { conditions, ..TCPLoadBalancerStatus::default() };
        let short = shortened(&status);
        let messages: Vec<&str> = short.conditions.iter().map(|condition| condition.message.as_str()).collect();
        assert_eq!(messages, [NO_ROOM, ""]);
        let asked = std::sync::atomic::AtomicU32::new(0);
        let client = stub::client(move |_| {
            let is_first = asked.fetch_add(1, std::sync::atomic::Ordering::SeqCst) == 0;
            let refusal = json!({"kind": "Status", "status": "Failure", "code": 500, "message": "etcdserver: request is too large"});
            if is_first || for_all { (500, refusal) } else { pool("1") }
        });
        let writer = Writer::new(client.clone(), Arc::new(Providers::new(&client, "nave-system")));
        let (key, generation, patience) = (Key::new("tenant-shop", "web"), None, Duration::ZERO);
        writer.write(&Step::WriteLoadBalancerStatus { key, uid: "1".into(), generation, status, patience }).await
    }

    #[tokio::test]
    async fn p_a_status_that_an_object_has_no_room_for_is_written_shorter_and_not_tried_again_and_again() {
        assert!(matches!(without_room(false).await, Written::Done));
        assert!(matches!(without_room(true).await, Written::TooLarge));
    }
}
