//! Performs one step. Knows the calls; why a step is taken is the core's matter.

use jiff::Timestamp;
use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{LoadBalancerIngress, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::response::Status;
use kube::{Api, Client, Resource};
use nave_agent_core::cluster::{self, Standing};
use nave_agent_core::status::Topic;
use nave_agent_core::{Change, Doomed, Plan, Saying, Step, Target};
use nave_api::{NodeSet, TCPLoadBalancer, names};
use nave_watch::{Decoded, Metadata};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::connect::limited;
use crate::error::{APPLY, Error, line};
use crate::hub::{Hub, Session};
use crate::identity::Identity;
use crate::metrics::{Metrics, Outcome, StepLabels};
use crate::watch::{Sight, seen, strip};

/// What became of a step.
enum Done {
    /// It is done, and this is what the API answered.
    Done(Option<Sight>),
    /// It is under way, or it no longer fits what is there: a watch will bring us back.
    Waits,
}

/// What became of a plan.
#[derive(Debug, Default)]
pub struct Report {
    /// What the APIs answered.
    pub sights: Vec<Sight>,
    /// What failed first.
    pub error: Option<Error>,
}

/// Whom to ask.
#[derive(Clone)]
pub struct Performer {
    /// The spoke.
    pub spoke: Client,
    /// The hub.
    pub hub: Hub,
    /// Which cluster the spoke is.
    pub identity: Identity,
    /// Counts.
    pub metrics: Metrics,
}

impl Performer {
    /// Performs a plan.
    pub async fn perform(&self, plan: Plan) -> Report {
        let mut report = Report::default();
        match plan {
            Plan::Together(steps) => {
                for outcome in futures::future::join_all(steps.into_iter().map(|step| self.step(step))).await {
                    report.take(outcome);
                }
            }
            Plan::InTurn(steps) => {
                for step in steps {
                    if !report.take(self.step(step).await) {
                        break;
                    }
                }
            }
        }
        report
    }

    async fn step(&self, step: Step) -> Result<Done, Error> {
        let name = name(&step);
        let outcome = match step {
            Step::Hold(target) => self.hold(&target).await,
            Step::Release(target) => self.release(&target).await,
            Step::Show(target, ingress) => self.show(&target, &ingress).await,
            Step::Say(target, saying) => self.say(&target, saying).await,
            Step::Hush(target, topic) => self.hush(&target, topic).await,
            Step::Confirm(key) => self.confirm(&Target { key, uid: String::new() }).await,
            Step::Apply(intent) => self.apply(&intent).await,
            Step::Adopt(intent) => self.adopt(&intent).await,
            Step::ApplyNodes(nodes) => self.apply_nodes(&nodes).await,
            Step::Delete(doomed) => self.delete::<TCPLoadBalancer>(&doomed).await,
            Step::DeleteNodes(name) => self.delete::<NodeSet>(&Doomed { name, seen: None }).await,
        };
        let outcome_label = match &outcome {
            Ok(Done::Done(_)) => Outcome::Done,
            Ok(Done::Waits) => Outcome::Waits,
            Err(_) => Outcome::Failed,
        };
        self.metrics.steps.get_or_create(&StepLabels { step: name, outcome: outcome_label }).inc();
        outcome
    }

    /// A strategic merge adds to the set of finalizers, whoever else writes it; the uid says which Service we mean.
    async fn hold(&self, target: &Target) -> Result<Done, Error> {
        let patch = Patch::Strategic(json!({"metadata": {"uid": target.uid, "finalizers": [names::AGENT_FINALIZER]}}));
        let (services, params) = (self.services(target), PatchParams::default());
        let call = services.patch(&target.key.name, &params, &patch);
        let answer = limited("put our finalizer on a Service", call).await;
        answered(answer)
    }

    async fn release(&self, target: &Target) -> Result<Done, Error> {
        let finalizers = json!({"uid": target.uid, "$deleteFromPrimitiveList/finalizers": [names::AGENT_FINALIZER]});
        let patch = Patch::Strategic(json!({"metadata": finalizers}));
        let (services, params) = (self.services(target), PatchParams::default());
        let call = services.patch(&target.key.name, &params, &patch);
        let answer = limited("take our finalizer from a Service", call).await;
        answered(answer)
    }

    async fn show(&self, target: &Target, ingress: &[LoadBalancerIngress]) -> Result<Done, Error> {
        let list = if ingress.is_empty() { Value::Null } else { json!(ingress) };
        let status = json!({"loadBalancer": {"ingress": list}});
        let patch = Patch::Merge(json!({"metadata": {"uid": target.uid}, "status": status}));
        let (services, params) = (self.services(target), PatchParams::default());
        let call = services.patch_status(&target.key.name, &params, &patch);
        let answer = limited("show a Service's addresses", call).await;
        answered(answer)
    }

    /// Conditions are merged by their type: those of others stay.
    async fn say(&self, target: &Target, saying: Saying) -> Result<Done, Error> {
        let Saying { topic, status, reason, message, since } = saying;
        let since = since.unwrap_or_else(|| Time(Timestamp::now()));
        let type_ = topic.as_str().to_owned();
        let said = Condition { type_, status, reason, message, last_transition_time: since, observed_generation: None };
        self.conditions(target, json!(said)).await
    }

    async fn hush(&self, target: &Target, topic: Topic) -> Result<Done, Error> {
        self.conditions(target, json!({"$patch": "delete", "type": topic.as_str()})).await
    }

    async fn conditions(&self, target: &Target, change: Value) -> Result<Done, Error> {
        let status = json!({"conditions": [change]});
        let patch = Patch::Strategic(json!({"metadata": {"uid": target.uid}, "status": status}));
        let (services, params) = (self.services(target), PatchParams::default());
        let call = services.patch_status(&target.key.name, &params, &patch);
        answered(limited("write a condition of a Service", call).await)
    }

    /// Goes on only when there is no such Service; one that is there will be seen.
    async fn confirm(&self, target: &Target) -> Result<Done, Error> {
        self.identity.confirm().await?;
        let services: Api<Metadata<Service>> = Api::namespaced(self.spoke.clone(), &target.key.namespace);
        let answer = limited("look for a Service", services.get_opt(&target.key.name)).await?;
        Ok(answer.map_or(Done::Done(None), |_| Done::Waits))
    }

    async fn apply(&self, intent: &TCPLoadBalancer) -> Result<Done, Error> {
        let session = self.session(APPLY)?;
        let name = intent.metadata.name.as_deref().unwrap_or_default();
        let (intents, params) =
            (session.api::<Decoded<TCPLoadBalancer>>(), PatchParams::apply(names::AGENT_MANAGER).force());
        let patch = Patch::Apply(intent);
        let answer = self.hub.judged(limited(APPLY, intents.patch(name, &params, &patch)).await)?;
        Ok(Done::Done(Some(Sight::Intent(Box::new(seen(answer, Change::Answered))))))
    }

    /// Takes over what another cluster made, when the hub says that the namespace is ours.
    async fn adopt(&self, intent: &TCPLoadBalancer) -> Result<Done, Error> {
        let session = self.session(APPLY)?;
        let leases = session.api::<Metadata<Lease>>();
        let lease = self.hub.judged(limited("read our Lease in the hub", leases.get(names::AGENT)).await)?;
        match cluster::judge(&self.identity.mark().await?, lease.meta()) {
            Standing::Ours => self.apply(intent).await,
            Standing::Free | Standing::Other(_) => Ok(Done::Waits), // the next heartbeat tells the core
        }
    }

    async fn apply_nodes(&self, nodes: &NodeSet) -> Result<Done, Error> {
        let session = self.session("apply the nodes in the hub")?;
        let name = nodes.metadata.name.as_deref().unwrap_or_default();
        let (sets, params) = (session.api::<Decoded<NodeSet>>(), PatchParams::apply(names::AGENT_MANAGER).force());
        let patch = Patch::Apply(nodes);
        let answer = self.hub.judged(limited("apply the nodes in the hub", sets.patch(name, &params, &patch)).await)?;
        Ok(Done::Done(Some(Sight::NodeSet(Box::new(seen(answer, Change::Answered))))))
    }

    /// The last thing that an agent does which leaves for good: nobody shall wait for its heartbeat. Whether there is no more
    /// to do; a hub that refuses keeps the Lease.
    pub async fn farewell(&self) -> bool {
        match self.let_lease_go().await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error = line(&error), "our Lease is still in the hub");
                matches!(error, Error::Call { source, .. } if matches!(*source, kube::Error::Api(_)))
            }
        }
    }

    /// The Lease of another cluster stays.
    async fn let_lease_go(&self) -> Result<(), Error> {
        let leases = self.session("delete our Lease in the hub")?.api::<Metadata<Lease>>();
        let lease = self.hub.judged(limited("read our Lease in the hub", leases.get_opt(names::AGENT)).await)?;
        let Some(lease) = lease else { return Ok(()) };
        let metadata = lease.meta();
        match cluster::judge(&self.identity.mark().await?, metadata) {
            Standing::Other(_) => return Ok(()),
            Standing::Free | Standing::Ours => {}
        }
        let seen = metadata.uid.clone().zip(metadata.resource_version.clone());
        self.delete::<Lease>(&Doomed { name: names::AGENT.to_owned(), seen }).await.map(drop)
    }

    /// Done when the hub says that it is gone; while it is going, or is not what was seen last, we wait.
    async fn delete<K>(&self, doomed: &Doomed) -> Result<Done, Error>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let session = self.session("delete an object in the hub")?;
        let preconditions =
            doomed.seen.clone().map(|(uid, version)| Preconditions { uid: Some(uid), resource_version: Some(version) });
        let (objects, params) =
            (session.api::<Decoded<K>>(), DeleteParams { preconditions, ..DeleteParams::default() });
        let answer = limited("delete an object in the hub", objects.delete(&doomed.name, &params)).await;
        if answer.as_ref().is_err_and(Error::is_conflict) {
            return Ok(Done::Waits); // the watch brings what it is now
        }
        Ok(match self.hub.judged(answer.map(Some).or_else(absent))? {
            None => Done::Done(None),
            Some(answer) => answer.either(|_| Done::Waits, |_: Status| Done::Done(None)),
        })
    }

    fn services(&self, target: &Target) -> Api<Decoded<Service>> {
        Api::namespaced(self.spoke.clone(), &target.key.namespace)
    }

    fn session(&self, act: &'static str) -> Result<std::sync::Arc<Session>, Error> {
        self.hub.session().ok_or(Error::NoHub { act })
    }
}

impl Report {
    /// Whether the next step may be taken.
    fn take(&mut self, outcome: Result<Done, Error>) -> bool {
        match outcome {
            Ok(Done::Done(sight)) => {
                self.sights.extend(sight);
                true
            }
            Ok(Done::Waits) => false,
            Err(error) => {
                self.error.get_or_insert(error);
                false
            }
        }
    }
}

fn name(step: &Step) -> &'static str {
    match step {
        Step::Hold(_) => "hold",
        Step::Release(_) => "release",
        Step::Show(..) => "show",
        Step::Say(..) => "say",
        Step::Hush(..) => "hush",
        Step::Apply(_) => "apply",
        Step::Adopt(_) => "adopt",
        Step::ApplyNodes(_) => "apply_nodes",
        Step::DeleteNodes(_) => "delete_nodes",
        Step::Confirm(_) => "confirm",
        Step::Delete(_) => "delete",
    }
}

/// The Service as our write left it.
fn answered(answer: Result<Decoded<Service>, Error>) -> Result<Done, Error> {
    let known = |mut service| {
        strip(&mut service);
        Done::Done(Some(Sight::Service(Box::new(seen(service, Change::Answered)))))
    };
    Ok(present(answer)?.map_or(Done::Waits, known))
}

/// What is not there is none; a conflict means that another object of this name is there.
fn present<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    answer.map(Some).or_else(|error| match &error {
        Error::Call { source, .. } if matches!(&**source, kube::Error::Api(status) if status.is_conflict()) => Ok(None),
        Error::Call { .. } | Error::Silence { .. } | Error::NoHub { .. } | Error::OtherSpoke { .. } => absent(error),
    })
}

fn absent<T>(error: Error) -> Result<Option<T>, Error> {
    match &error {
        // A namespace that is not there holds nothing, either; but whether the tenant is gone is judged elsewhere.
        Error::Call { source, .. } if matches!(&**source, kube::Error::Api(status) if status.is_not_found()) => {
            Ok(None)
        }
        Error::Call { .. } | Error::Silence { .. } | Error::NoHub { .. } | Error::OtherSpoke { .. } => Err(error),
    }
}
