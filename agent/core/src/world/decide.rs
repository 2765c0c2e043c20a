//! What is to be done about one Service, and about the nodes. Knows the world as it is; changes only what has been told.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use nave_api::{NodeSet, NodeSetSpec, TCPLoadBalancer, names};

use super::{Decision, Plan, Step, Target, Work, World, hub_key};
use crate::events::Word;
use crate::{Key, Notice, Problem, Tenancy, intent, ownership, slices, status};

impl World {
    /// What is to be done. Nothing before all is listed, and nothing when all is as it should be.
    pub fn decide(&mut self, work: &Work) -> Decision {
        let nothing = Decision { plan: Plan::Together(Vec::new()), notices: Vec::new() };
        if !self.missing().is_empty() && self.tenancy == Tenancy::There {
            return nothing;
        }
        match work {
            Work::NodeSet => Decision { plan: Plan::Together(self.nodes_step().into_iter().collect()), ..nothing },
            Work::Service(key) => self.decide_service(key),
        }
    }

    fn nodes_step(&self) -> Option<Step> {
        let spec = NodeSetSpec { nodes: self.nodes.values().cloned().collect() };
        let present = self.node_sets.find(&hub_key(names::DEFAULT_NODE_SET));
        let same = present.is_some_and(|present| present.spec == spec);
        let there = self.tenancy == Tenancy::There;
        (there && !same).then(|| Step::ApplyNodes(Box::new(NodeSet::new(names::DEFAULT_NODE_SET, spec))))
    }

    fn decide_service(&mut self, key: &Key) -> Decision {
        let Some(service) = self.services.find(key) else {
            self.told.remove(key);
            self.refusals.remove(key);
            return Decision { plan: self.clean_up(key), notices: Vec::new() };
        };
        let wanted = !ownership::is_deleted(service) && ownership::is_ours(service, &self.policy);
        if !wanted {
            let plan = self.let_go(key, service);
            self.told.remove(key);
            return Decision { plan, notices: Vec::new() };
        }
        let (intent, problems) = intent::intent(service, &self.local(key, service));
        let uid = service.uid().unwrap_or_default();
        let plan = match intent {
            Some(intent) if self.tenancy == Tenancy::There => Plan::Together(self.keep(key, service, intent)),
            Some(_) | None => self.let_go(key, service),
        };
        Decision { plan, notices: self.tell(key, &uid, problems) }
    }

    fn local(&self, key: &Key, service: &Service) -> Vec<String> {
        if !intent::is_local(service) {
            return Vec::new();
        }
        let ours = self.slices_of.get(key).into_iter().flatten();
        slices::local(ours.filter_map(|slice| self.slices.get(slice)))
    }

    /// The Service is ours and there to stay: hold it, ask the hub, show what the hub says.
    fn keep(&self, key: &Key, service: &Service, wanted: TCPLoadBalancer) -> Vec<Step> {
        let target = target(key, service);
        let present = self.intent_of(key);
        let mut steps = Vec::new();
        if !ownership::is_held(service) {
            steps.push(Step::Hold(target.clone()));
        }
        // One that is ending must be gone before it can be made again.
        let ending = present.is_some_and(|present| present.metadata.deletion_timestamp.is_some());
        let current = present.is_some_and(|present| !differs(present, &wanted));
        if !ending && !current {
            steps.push(Step::Apply(Box::new(wanted)));
        }
        let shown = status::shown(service);
        // What the hub says of an older wish is no answer to this one.
        let generation = present.filter(|_| current).and_then(|present| present.metadata.generation);
        let ingress = status::wanted(shown, present.and_then(|present| present.status.as_ref()), generation);
        if shown != ingress {
            steps.push(Step::Show(target, ingress));
        }
        steps
    }

    /// The Service is deleted, not ours any more, or cannot be served: the hub lets go first, then we do. A hub that no
    /// longer knows us need not be asked.
    fn let_go(&self, key: &Key, service: &Service) -> Plan {
        let target = target(key, service);
        let held = ownership::is_held(service);
        let mut steps = Vec::new();
        match (self.tenancy, self.intent_of(key)) {
            (Tenancy::There, Some(present)) if present.metadata.deletion_timestamp.is_some() => {
                return Plan::InTurn(steps); // its end will bring us back
            }
            (Tenancy::There, Some(_)) => steps.push(Step::Delete(intent::name(key))),
            (Tenancy::There, None) if held => steps.push(Step::Delete(intent::name(key))),
            (Tenancy::There | Tenancy::Refused | Tenancy::Ended, _) => {}
        }
        // A hub that merely refuses us may still serve the address.
        let ended = self.tenancy != Tenancy::Refused && !ownership::is_deleted(service);
        if held && ended && status::is_ours(status::shown(service)) {
            steps.push(Step::Show(target.clone(), Vec::new()));
        }
        if held {
            steps.push(Step::Release(target));
        }
        Plan::InTurn(steps)
    }

    /// There is no such Service. That what stands for it goes is final, so the spoke is asked once more.
    fn clean_up(&self, key: &Key) -> Plan {
        let stale = self.intent_of(key).filter(|present| present.metadata.deletion_timestamp.is_none());
        match stale {
            Some(intent) if self.tenancy == Tenancy::There => {
                Plan::InTurn(vec![Step::Confirm(key.clone()), Step::Delete(intent.name_any())])
            }
            Some(_) | None => Plan::InTurn(Vec::new()),
        }
    }

    fn intent_of(&self, service: &Key) -> Option<&TCPLoadBalancer> {
        self.intents.find(&hub_key(&intent::name(service)))
    }

    fn tell(&mut self, key: &Key, uid: &str, problems: Vec<Problem>) -> Vec<Notice> {
        let problems: BTreeSet<Problem> = problems.into_iter().collect();
        let known = self.told.remove(key).unwrap_or_default();
        let notices = problems.difference(&known).map(|problem| Word::from(problem).on(key, uid)).collect();
        if !problems.is_empty() {
            self.told.insert(key.clone(), problems);
        }
        notices
    }
}

fn target(key: &Key, service: &Service) -> Target {
    Target { key: key.clone(), uid: service.uid().unwrap_or_default() }
}

/// Whether what is there is not what we ask: in its spec, or in a label of ours.
fn differs(present: &TCPLoadBalancer, wanted: &TCPLoadBalancer) -> bool {
    let labelled = wanted.labels().iter().all(|(name, value)| present.labels().get(name) == Some(value));
    present.spec != wanted.spec || !labelled
}
