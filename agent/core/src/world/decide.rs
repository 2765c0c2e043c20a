//! What is to be done about one Service, and about the nodes. Knows the world as it is; changes only what has been told.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt;
use nave_api::{TCPLoadBalancer, TCPLoadBalancerStatus};

use super::{Decision, Doomed, Plan, Step, Target, Work, World, hub_key};
use crate::backends::{self, Mode, Ways};
use crate::events::{Tone, Word};
use crate::ownership::{self, Claim};
use crate::places::Places;
use crate::status::Topic;
use crate::waiting::{self, Cause, Standing};
use crate::{Key, Notice, Problem, Tenancy, intent, status};

/// What the hub says where no backend is ready.
const NO_BACKENDS: &str = "NoBackends";
/// So many Events tell of new problems of one Service at a time.
const NOTICES: usize = 16;
/// Under this name a wait for the hub is remembered.
const HUB: &str = "the hub";

/// What the hub does not do as asked, and whether it does the rest.
#[derive(Default)]
pub(super) struct Hub {
    causes: Vec<Cause>,
    serves: bool,
}

impl Hub {
    fn of(answer: &TCPLoadBalancerStatus) -> Self {
        let (causes, serves) = waiting::verdict(answer);
        Self { causes, serves }
    }
}

impl World {
    /// What is to be done. Nothing before all is listed, and nothing when all is as it should be.
    pub fn decide(&mut self, work: &Work) -> Decision {
        let nothing = Decision { plan: Plan::Together(Vec::new()), notices: Vec::new() };
        if !self.missing().is_empty() && self.tenancy == Tenancy::There {
            return nothing;
        }
        match work {
            Work::NodeSet => Decision { plan: Plan::Together(self.nodes_steps()), ..nothing },
            Work::Service(key) => self.decide_service(key),
        }
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
        let mut decision = self.decide_on(key, &service);
        if unreadable {
            decision.plan.leave_spoke_alone();
        }
        decision
    }

    fn decide_on(&mut self, key: &Key, service: &Service) -> Decision {
        let going = self.policy.leaving || ownership::is_deleted(service);
        let claim = if going { Claim::None } else { ownership::claim(service, &self.policy) };
        let mode = match claim {
            Claim::None => {
                self.forget(key);
                return Decision { plan: self.disclaim(key, service), notices: Vec::new() };
            }
            Claim::Whole(mode) | Claim::Beside(mode) => mode,
        };
        if let Some(elsewhere) = self.elsewhere() {
            return self.decide_elsewhere(key, service, elsewhere);
        }
        self.want_names(key, service, mode);
        let present = self.intent_of(key).map(|present| &present.spec);
        let (mut intent, mut problems) = intent::intent(service, mode, &self.ways(key), present);
        self.keep_unknown_backends(key, intent.as_mut());
        self.mark(intent.as_mut());
        let there = self.tenancy == Tenancy::There;
        let known = there && self.endpoints.are_known(key);
        problems.retain(|problem| known || !problem.is_passing());
        let stays = there && (intent.is_some() || problems.iter().any(Problem::is_unreadable_request));
        let plan = match (intent, self.unreadable_intent(key).filter(|_| stays)) {
            (_, Some(why)) => Plan::Together(self.leave(key, service, why, &mut problems)),
            (Some(intent), None) if there => {
                problems.extend(self.nodes.problem().filter(|_| mode == Mode::NodePort).cloned());
                Plan::Together(self.serve(key, service, claim, intent, &mut problems))
            }
            (None, None) if there => {
                let verdict = self.verdict(key, service, &problems, Hub::default());
                Plan::InTurn(verdict.into_iter().chain(self.let_go(key, service)).collect())
            }
            (Some(_) | None, None) => Plan::InTurn(self.let_go(key, service)),
        };
        let uid = service.uid().unwrap_or_default();
        Decision { plan, notices: self.tell(key, &uid, problems) }
    }

    /// What stands for the Service in the hub cannot be read: it stays as it is.
    fn leave(&self, key: &Key, service: &Service, why: String, problems: &mut Vec<Problem>) -> Vec<Step> {
        problems.retain(|problem| !problem.is_passing());
        problems.push(Problem::UnreadableIntent { why });
        let hub = Hub { serves: true, ..Hub::default() };
        self.verdict(key, service, problems, hub).into_iter().collect()
    }

    /// The Service is ours and there to stay: the hub is asked, and its answer shown. Of the problems those stay that are to be
    /// told.
    fn serve(
        &mut self,
        key: &Key,
        service: &Service,
        claim: Claim,
        intent: TCPLoadBalancer,
        problems: &mut Vec<Problem>,
    ) -> Vec<Step> {
        let (mut steps, current) = self.keep(key, service, intent);
        let standing = waiting::standing(self.answer(key), current);
        let mut hub = self.answer(key).map_or(Hub { serves: true, ..Hub::default() }, Hub::of);
        // The hub only sees that nothing is ready; here it is known why.
        let known = problems.iter().any(Problem::is_passing);
        hub.causes.retain(|cause| !known || cause.reason != NO_BACKENDS);
        self.wait(key, service, problems, &standing);
        let is_whole = matches!(claim, Claim::Whole(_));
        problems.extend((is_whole && ownership::is_held_by_cloud(service)).then_some(Problem::CloudHolds));
        steps.extend(self.verdict(key, service, problems, hub));
        steps.extend(self.say(key, service, is_whole, &standing));
        let shown = if is_whole { self.show(key, service, current, problems) } else { self.clear(key, service) };
        steps.extend(shown);
        steps
    }

    /// Leaves out problems that may end by themselves at once: one that is said already stays, one that is new has to last.
    fn wait(&mut self, key: &Key, service: &Service, problems: &mut Vec<Problem>, standing: &Standing) {
        let passing = problems.iter().filter(|problem| problem.is_passing()).map(Problem::reason);
        let hub = matches!(standing, Standing::Waits(cause) if cause.is_passing()).then_some(HUB);
        self.patience.only(key, &passing.chain(hub).map(str::to_owned).collect());
        let said = status::said(service, Topic::Accepted);
        let is_said = |problem: &Problem| {
            said.is_some_and(|said| said.reason == problem.reason() || said.message.contains(&problem.message()))
        };
        let lasts = |problem: &Problem| self.patience.has_ended(key, problem.reason());
        problems.retain(|problem| !problem.is_passing() || lasts(problem) || is_said(problem));
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
        self.patience.forget(key);
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
        let adopts = present.is_some_and(|present| self.is_marked_otherwise(&present.metadata));
        if !ending && !current && self.knows_nodes_of(&wanted) {
            self.asked.ask(key, &wanted.spec);
            let wanted = Box::new(wanted);
            steps.push(if adopts { Step::Adopt(wanted) } else { Step::Apply(wanted) });
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
        let answer = self.answer(key);
        let wish = status::wanted(shown, answer, current);
        let verdict = self.contests.entry(key.clone()).or_default().judge(shown, &wish);
        problems.extend(verdict.contested.then_some(Problem::ContestedStatus));
        verdict.write.then(|| Step::Show(target(key, service), wish))
    }

    /// The hub's answer as a condition of the Service: that it waits, and why; that it is served, where no address in its status
    /// says so.
    fn say(&self, key: &Key, service: &Service, is_whole: bool, standing: &Standing) -> Option<Step> {
        let said = status::said(service, Topic::Programmed);
        let saying = match standing {
            Standing::Unknown => None,
            Standing::Served if is_whole => {
                return said.map(|_| Step::Hush(target(key, service), Topic::Programmed));
            }
            Standing::Served => self.answer(key).and_then(|answer| status::served(service, answer)),
            Standing::Waits(cause) => {
                let lasts = self.patience.has_ended(key, HUB) || said.is_some_and(|said| said.status != "True");
                let is_told = !cause.is_passing() || lasts;
                is_told.then(|| status::waits(service, cause)).flatten()
            }
        };
        saying.map(|saying| Step::Say(target(key, service), saying))
    }

    /// What we showed while the Service's status was ours goes.
    fn clear(&self, key: &Key, service: &Service) -> Option<Step> {
        let left = self.answer(key).is_some() && self.is_shown_by_us(key, service);
        left.then(|| Step::Show(target(key, service), Vec::new()))
    }

    /// What is not done of the Service, as a condition that stays as long. A contest is no part of it: it is seen over time,
    /// and told as an Event.
    pub(super) fn verdict(&self, key: &Key, service: &Service, problems: &[Problem], hub: Hub) -> Option<Step> {
        let refused = self.refusals.get(key).map(|message| Problem::Refused { message: message.clone() });
        let Hub { causes, serves } = hub;
        // What the hub took before it refused goes on being served.
        let served = serves && (refused.is_none() || self.intent_of(key).is_some());
        let problems: BTreeSet<Problem> = problems.iter().cloned().chain(refused).collect();
        if problems.is_empty() && causes.is_empty() {
            let said = status::said(service, Topic::Accepted);
            return said.map(|_| Step::Hush(target(key, service), Topic::Accepted));
        }
        let saying = status::verdict(service, &problems, &causes, served)?;
        Some(Step::Say(target(key, service), saying))
    }

    /// The Service is deleted, not ours any more, or cannot be served: the hub lets go first, then we do. A hub that no
    /// longer knows us need not be asked.
    fn let_go(&self, key: &Key, service: &Service) -> Vec<Step> {
        let target = target(key, service);
        let held = ownership::is_held(service);
        let mut steps = Vec::new();
        match (self.tenancy, self.intent_of(key)) {
            (Tenancy::There, Some(present)) if !self.made(&present.metadata) => {}
            (Tenancy::There, Some(present)) if present.metadata.deletion_timestamp.is_some() => {
                return steps; // its end will bring us back
            }
            (Tenancy::There, Some(present)) => steps.push(Step::Delete(doomed(present))),
            (Tenancy::There, None) if held && self.elsewhere().is_none() => {
                steps.push(Step::Delete(Doomed { name: intent::name(key), seen: None }));
            }
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
        let stale = stale.filter(|present| self.made(&present.metadata));
        match stale {
            Some(intent) if self.tenancy == Tenancy::There => {
                Plan::InTurn(vec![Step::Confirm(key.clone()), Step::Delete(doomed(intent))])
            }
            Some(_) | None => Plan::InTurn(Vec::new()),
        }
    }

    /// What the hub gave the Service.
    fn given(&self, key: &Key) -> Places {
        self.answer(key).map(Places::given).unwrap_or_default()
    }

    /// Whether it is ours to clear what the Service shows: all of it is what the hub gave. When the hub has forgotten, it is
    /// ours unless it may be a cloud's.
    fn is_shown_by_us(&self, key: &Key, service: &Service) -> bool {
        let shown = status::shown(service);
        match self.answer(key).filter(|_| self.intent_of(key).is_some_and(|intent| self.made(&intent.metadata))) {
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

    fn answer(&self, service: &Key) -> Option<&TCPLoadBalancerStatus> {
        self.intent_of(service).and_then(|present| present.status.as_ref())
    }

    /// Why the load balancer that stands for a Service cannot be read.
    fn unreadable_intent(&self, service: &Key) -> Option<String> {
        self.intents.unreadable(&hub_key(&intent::name(service))).map(str::to_owned)
    }

    fn intent_of(&self, service: &Key) -> Option<&TCPLoadBalancer> {
        self.intents.find(&hub_key(&intent::name(service)))
    }

    /// Each problem is reported once while it lasts. One Service does not take the place of the Events of all others.
    pub(super) fn tell(&mut self, key: &Key, uid: &str, problems: Vec<Problem>) -> Vec<Notice> {
        let problems: BTreeSet<Problem> = problems.into_iter().collect();
        let known = self.told.remove(key).unwrap_or_default();
        let mut words: Vec<Word> = problems.difference(&known).map(Word::from).collect();
        if words.len() > NOTICES {
            let note =
                format!("{} more problems of this Service have no Event: fix the others first", words.len() - NOTICES);
            words.truncate(NOTICES);
            words.push(Word { tone: Tone::Warning, reason: status::SEVERAL.to_owned(), note });
        }
        if !problems.is_empty() {
            self.told.insert(key.clone(), problems);
        }
        words.into_iter().map(|word| word.on(key, uid)).collect()
    }
}

fn doomed(present: &TCPLoadBalancer) -> Doomed {
    Doomed { name: present.name_any(), seen: present.uid().zip(present.resource_version()) }
}

fn target(key: &Key, service: &Service) -> Target {
    Target { key: key.clone(), uid: service.uid().unwrap_or_default() }
}
