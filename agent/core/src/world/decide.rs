//! What is to be done about one Service, and about the nodes. Knows the world as it is; changes only what has been told.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use nave_api::{NodeSet, NodeSetSpec, TCPLoadBalancer, names, node_set};

use super::{Decision, Plan, Step, Target, Work, World, hub_key};
use crate::backends::{self, Mode, Ways};
use crate::events::Word;
use crate::ownership::{self, Claim};
use crate::places::Places;
use crate::status::Topic;
use crate::{Key, Notice, Problem, Tenancy, intent, status};

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

    fn nodes_step(&mut self) -> Option<Step> {
        let key = hub_key(names::DEFAULT_NODE_SET);
        let present = self.node_sets.find(&key);
        let spec = NodeSetSpec { nodes: self.nodes_wanted(present) };
        let there = self.tenancy == Tenancy::There;
        if self.policy.leaving {
            return present.filter(|_| there).map(|_| Step::DeleteNodes);
        }
        if self.node_sets.unreadable(&key).is_some() {
            return None;
        }
        let same = present.is_some_and(|present| {
            present.spec == spec || self.asked_nodes.is_done(&key, &spec, present.metadata.generation)
        });
        if same || !there {
            return None;
        }
        self.asked_nodes.ask(&key, &spec);
        Some(Step::ApplyNodes(Box::new(NodeSet::new(names::DEFAULT_NODE_SET, spec))))
    }

    /// The nodes that get traffic. What is in the hub of a node that we have never been able to read stays.
    fn nodes_wanted(&self, present: Option<&NodeSet>) -> Vec<node_set::Node> {
        let unknown = |name: &String| self.unreadable_nodes.contains(name) && !self.nodes.contains_key(name);
        let there = present.into_iter().flat_map(|present| &present.spec.nodes);
        let kept = there.filter(|node| unknown(&node.name)).map(|node| (node.name.clone(), node.clone()));
        let all: BTreeMap<String, node_set::Node> = self.nodes.clone().into_iter().chain(kept).collect();
        all.into_values().collect()
    }

    fn decide_service(&mut self, key: &Key) -> Decision {
        let unreadable = self.services.unreadable(key).is_some();
        let Some(service) = self.services.find(key).cloned() else {
            let nothing = Decision { plan: Plan::InTurn(Vec::new()), notices: Vec::new() };
            if unreadable {
                return nothing;
            }
            self.forget(key);
            return Decision { plan: self.clean_up(key), ..nothing };
        };
        let mut decision = self.decide_on(key, service);
        if unreadable {
            decision.plan.leave_spoke_alone();
        }
        decision
    }

    fn decide_on(&mut self, key: &Key, service: Service) -> Decision {
        let going = self.policy.leaving || ownership::is_deleted(&service);
        let claim = if going { Claim::None } else { ownership::claim(&service, &self.policy) };
        let mode = match claim {
            Claim::None => {
                self.forget(key);
                return Decision { plan: self.disclaim(key, &service), notices: Vec::new() };
            }
            Claim::Whole(mode) | Claim::Beside(mode) => mode,
        };
        self.want_names(key, &service, mode);
        let (mut intent, mut problems) = intent::intent(&service, mode, &self.ways(key));
        self.keep_unknown_backends(key, intent.as_mut());
        let plan = match intent {
            Some(_) if self.tenancy == Tenancy::There && self.unreadable_intent(key).is_some() => {
                problems.extend(self.unreadable_intent(key).map(|why| Problem::UnreadableIntent { why }));
                Plan::Together(self.verdict(key, &service, &problems, true).into_iter().collect())
            }
            Some(intent) if self.tenancy == Tenancy::There => {
                let (mut steps, current) = self.keep(key, &service, intent);
                let cloud = claim == Claim::Whole(mode) && ownership::is_held_by_cloud(&service);
                problems.extend(cloud.then_some(Problem::CloudHolds));
                steps.extend(self.verdict(key, &service, &problems, true));
                let present = match claim {
                    Claim::Whole(_) => self.show(key, &service, current, &mut problems).into_iter().collect(),
                    Claim::Beside(_) | Claim::None => self.say(key, &service, current),
                };
                steps.extend(present);
                Plan::Together(steps)
            }
            None if self.tenancy == Tenancy::There => {
                let verdict = self.verdict(key, &service, &problems, false);
                Plan::InTurn(verdict.into_iter().chain(self.let_go(key, &service)).collect())
            }
            Some(_) | None => Plan::InTurn(self.let_go(key, &service)),
        };
        let uid = service.uid().unwrap_or_default();
        Decision { plan, notices: self.tell(key, &uid, problems) }
    }

    /// While a slice of the Service was never read, the hub keeps the backends that it has.
    fn keep_unknown_backends(&self, key: &Key, wanted: Option<&mut TCPLoadBalancer>) {
        let Some(present) = self.intent_of(key).filter(|_| !self.endpoints.are_known(key)) else { return };
        if let Some(wanted) = wanted {
            wanted.spec.backends = present.spec.backends.clone();
        }
    }

    /// Nothing of it is ours.
    fn disclaim(&self, key: &Key, service: &Service) -> Plan {
        let mut steps = self.let_go(key, service);
        if !ownership::is_deleted(service) && status::said(service, Topic::Accepted).is_some() {
            steps.insert(0, Step::Hush(target(key, service), Topic::Accepted));
        }
        Plan::InTurn(steps)
    }

    /// It is nobody's any more: what was remembered of it goes.
    fn forget(&mut self, key: &Key) {
        self.told.remove(key);
        self.refusals.remove(key);
        self.contests.remove(key);
        self.asked.forget(key);
        self.names.retain(|_, services| {
            services.remove(key);
            !services.is_empty()
        });
        self.resolved.retain(|name, _| self.names.contains_key(name));
    }

    fn want_names(&mut self, key: &Key, service: &Service, mode: Mode) {
        let given = self.given(key);
        let wanted: BTreeSet<&str> =
            if mode == Mode::Provider { backends::hostnames(service, &given).collect() } else { BTreeSet::new() };
        self.names.retain(|name, services| {
            if !wanted.contains(name.as_str()) {
                services.remove(key);
            }
            !services.is_empty()
        });
        self.resolved.retain(|name, _| self.names.contains_key(name));
        for name in wanted {
            self.names.entry(name.to_owned()).or_default().insert(key.clone());
        }
    }

    fn ways(&self, key: &Key) -> Ways<'_> {
        Ways { slices: self.endpoints.slices(key), resolved: Some(&self.resolved), given: self.given(key) }
    }

    /// The Service is ours and there to stay: hold it, ask the hub. With it the generation of what we ask, when the hub has
    /// heard all of it: what the hub says of an older wish is no answer to this one.
    fn keep(&mut self, key: &Key, service: &Service, wanted: TCPLoadBalancer) -> (Vec<Step>, Option<i64>) {
        let present = self.intent_of(key);
        let mut steps = Vec::new();
        if !ownership::is_held(service) {
            steps.push(Step::Hold(target(key, service)));
        }
        // One that is ending must be gone before it can be made again.
        let ending = present.is_some_and(|present| present.metadata.deletion_timestamp.is_some());
        let current = present.is_some_and(|present| !self.differs(key, present, &wanted));
        let generation = present.filter(|_| current).and_then(|present| present.metadata.generation);
        if !ending && !current {
            self.asked.ask(key, &wanted.spec);
            steps.push(Step::Apply(Box::new(wanted)));
        }
        (steps, generation)
    }

    /// The hub's answer in the Service's load balancer status. Where another controller writes the same, we say so, and do
    /// not go on for ever.
    fn show(
        &mut self,
        key: &Key,
        service: &Service,
        current: Option<i64>,
        problems: &mut Vec<Problem>,
    ) -> Option<Step> {
        let shown = status::shown(service);
        let answer = self.intent_of(key).and_then(|present| present.status.as_ref());
        let wish = status::wanted(shown, answer, current);
        let verdict = self.contests.entry(key.clone()).or_default().judge(shown, &wish);
        problems.extend(verdict.contested.then_some(Problem::ContestedStatus));
        verdict.write.then(|| Step::Show(target(key, service), wish))
    }

    /// The hub's answer as a condition of the Service. What we showed while its status was ours goes.
    fn say(&self, key: &Key, service: &Service, current: Option<i64>) -> Vec<Step> {
        let answer = self.intent_of(key).and_then(|present| present.status.as_ref());
        let saying = answer.and_then(|answer| status::saying(service, answer, current));
        let left = answer.is_some() && self.is_shown_by_us(key, service);
        let clear = left.then(|| Step::Show(target(key, service), Vec::new()));
        clear.into_iter().chain(saying.map(|saying| Step::Say(target(key, service), saying))).collect()
    }

    /// What is not done of the Service, as a condition that stays as long. A contest is no part of it: it is seen over time,
    /// and told as an Event.
    fn verdict(&self, key: &Key, service: &Service, problems: &[Problem], served: bool) -> Option<Step> {
        let refused = self.refusals.get(key).map(|message| Problem::Refused { message: message.clone() });
        // What the hub took before it refused goes on being served.
        let served = served && (refused.is_none() || self.intent_of(key).is_some());
        let problems: BTreeSet<Problem> = problems.iter().cloned().chain(refused).collect();
        if problems.is_empty() {
            let said = status::said(service, Topic::Accepted);
            return said.map(|_| Step::Hush(target(key, service), Topic::Accepted));
        }
        let saying = status::verdict(service, &problems, served)?;
        Some(Step::Say(target(key, service), saying))
    }

    /// The Service is deleted, not ours any more, or cannot be served: the hub lets go first, then we do. A hub that no
    /// longer knows us need not be asked.
    fn let_go(&self, key: &Key, service: &Service) -> Vec<Step> {
        let target = target(key, service);
        let held = ownership::is_held(service);
        let mut steps = Vec::new();
        match (self.tenancy, self.intent_of(key)) {
            (Tenancy::There, Some(present)) if present.metadata.deletion_timestamp.is_some() => {
                return steps; // its end will bring us back
            }
            (Tenancy::There, Some(_)) => steps.push(Step::Delete(intent::name(key))),
            (Tenancy::There, None) if held => steps.push(Step::Delete(intent::name(key))),
            (Tenancy::There | Tenancy::Refused | Tenancy::Ended, _) => {}
        }
        // A hub that merely refuses us may still serve the address.
        let ended = self.tenancy != Tenancy::Refused && !ownership::is_deleted(service);
        if held && ended && self.is_shown_by_us(key, service) {
            steps.push(Step::Show(target.clone(), Vec::new()));
        }
        if held && ended && status::said(service, Topic::Programmed).is_some() {
            steps.push(Step::Hush(target.clone(), Topic::Programmed));
        }
        if held {
            steps.push(Step::Release(target));
        }
        steps
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

    /// What the hub gave the Service.
    fn given(&self, key: &Key) -> Places {
        let answer = self.intent_of(key).and_then(|intent| intent.status.as_ref());
        answer.map(Places::given).unwrap_or_default()
    }

    /// Whether it is ours to clear what the Service shows: all of it is what the hub gave. When the hub has forgotten, it is
    /// ours unless it may be a cloud's.
    fn is_shown_by_us(&self, key: &Key, service: &Service) -> bool {
        let shown = status::shown(service);
        let answer = self.intent_of(key).and_then(|intent| intent.status.as_ref());
        match answer {
            Some(answer) => Places::given(answer).hold(shown),
            None => !ownership::is_foreign(service) && status::may_be_ours(shown),
        }
    }

    /// Whether what is there is not what we ask: in its spec, or in a label of ours.
    fn differs(&self, key: &Key, present: &TCPLoadBalancer, wanted: &TCPLoadBalancer) -> bool {
        let labelled = wanted.labels().iter().all(|(name, value)| present.labels().get(name) == Some(value));
        let same = present.spec == wanted.spec || self.asked.is_done(key, &wanted.spec, present.metadata.generation);
        !labelled || !same
    }

    /// Why the load balancer that stands for a Service cannot be read.
    fn unreadable_intent(&self, service: &Key) -> Option<String> {
        self.intents.unreadable(&hub_key(&intent::name(service))).map(str::to_owned)
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
