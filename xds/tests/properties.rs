//! Whatever happens in whatever order, a client ends with what the store holds: all of it that it wants and does not
//! refuse, and nothing else. And on the way no listener leads to a cluster that is not there.

#[cfg(test)]
mod support;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use nave_xds::catalog::{Catalog, Change};
use nave_xds::protocol::Quarantine;
use nave_xds::report::Event;
use nave_xds::resource::{Key, Resource, ResourceType};
use proptest::prelude::*;
use support::client::{Client, Manner};
use support::conversation::{Delta, Dialect, Sotw, Told};

/// What may happen.
#[derive(Clone, Debug)]
enum Step {
    Change(Vec<Part>),
    /// The client takes its next response and answers.
    Deliver,
    /// The client wants these endpoints from now on.
    Want(BTreeSet<u8>),
    /// The connection breaks; the client comes back with what it holds, or with nothing.
    Reconnect {
        fresh: bool,
    },
}

#[derive(Clone, Debug)]
enum Part {
    Cluster { name: u8, content: u8 },
    Endpoints { name: u8, content: u8 },
    Listener { name: u8, content: u8, cluster: u8 },
    Drop { kind: ResourceType, name: u8 },
}

fn part() -> impl Strategy<Value = Part> {
    let kinds = [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener];
    // Content 3 is bad.
    prop_oneof![
        3 => (0..6_u8, 0..4_u8).prop_map(|(name, content)| Part::Cluster { name, content }),
        3 => (0..6_u8, 0..4_u8).prop_map(|(name, content)| Part::Endpoints { name, content }),
        4 => (0..6_u8, 0..4_u8, 0..6_u8).prop_map(|(name, content, cluster)| Part::Listener { name, content, cluster }),
        3 => (proptest::sample::select(kinds.to_vec()), 0..6_u8).prop_map(|(kind, name)| Part::Drop { kind, name }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => proptest::collection::vec(part(), 1..6).prop_map(Step::Change),
        8 => Just(Step::Deliver),
        1 => proptest::collection::btree_set(0..6_u8, 0..6).prop_map(Step::Want),
        1 => any::<bool>().prop_map(|fresh| Step::Reconnect { fresh }),
    ]
}

fn name(kind: ResourceType, name: u8) -> Arc<str> {
    match kind {
        ResourceType::Cluster | ResourceType::Endpoints => format!("c{name}").into(),
        ResourceType::Listener | ResourceType::Route | ResourceType::Runtime => format!("tcp/192.0.2.{name}/80").into(),
    }
}

fn resource(kind: ResourceType, number: u8, body: String) -> Resource {
    let body = if body.contains("=3") { format!("bad {body}") } else { body };
    Resource::new(kind, name(kind, number), body.as_bytes())
}

fn change(parts: &[Part]) -> Change {
    let mut upsert = BTreeMap::<Key, Resource>::new();
    let mut remove = Vec::new();
    for part in parts {
        let resource = match part {
            Part::Cluster { name, content } => resource(ResourceType::Cluster, *name, format!("content={content}")),
            Part::Endpoints { name, content } => resource(ResourceType::Endpoints, *name, format!("content={content}")),
            Part::Listener { name: number, content, cluster } => {
                let cluster = name(ResourceType::Cluster, *cluster);
                let body = format!("content={content} to {cluster}");
                resource(ResourceType::Listener, *number, body).leading_to([cluster])
            }
            Part::Drop { kind, name: number } => {
                remove.push((*kind, name(*kind, *number)));
                continue;
            }
        };
        upsert.insert(resource.key(), resource);
    }
    Change { upsert: upsert.into_values().collect(), remove }
}

/// A server and a client with the wire between them.
struct World<D> {
    catalog: Catalog,
    refused: Quarantine,
    stream: D,
    now: Duration,
    wire: VecDeque<Told>,
    client: Client,
    events: Vec<Event>,
}

impl<D: Dialect> World<D> {
    fn new(manner: Manner) -> Self {
        let catalog = Catalog::default();
        let mut world = Self {
            stream: D::begin(&catalog),
            catalog,
            refused: Quarantine::default(),
            now: Duration::ZERO,
            wire: VecDeque::new(),
            client: Client::new(manner),
            events: Vec::new(),
        };
        world.connect();
        world
    }

    fn connect(&mut self) {
        for (kind, said) in self.client.greetings() {
            self.events.extend(self.stream.hear(kind, said, &self.catalog, &mut self.refused));
            self.listen();
        }
    }

    fn listen(&mut self) {
        let (told, events) = self.stream.tell(&self.catalog, &self.refused, self.now);
        for told in &told {
            let names: Vec<_> = told.resources.iter().map(Resource::name).chain(&told.removed).collect();
            let once: BTreeSet<_> = names.iter().collect();
            assert_eq!(names.len(), once.len(), "a name twice in one response");
            assert!(!self.wire.iter().any(|waiting| waiting.kind == told.kind), "two unanswered responses of a type");
        }
        self.wire.extend(told);
        self.events.extend(events);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Change(parts) => {
                self.catalog.apply(change(parts));
                self.stream.change(&self.catalog, &mut self.refused);
            }
            Step::Deliver => {
                let Some(told) = self.wire.pop_front() else { return };
                for (kind, said) in self.client.take(told) {
                    self.events.extend(self.stream.hear(kind, said, &self.catalog, &mut self.refused));
                }
            }
            Step::Want(names) => {
                let names = names.iter().map(|number| name(ResourceType::Endpoints, *number)).collect();
                for (kind, said) in self.client.want(names) {
                    self.events.extend(self.stream.hear(kind, said, &self.catalog, &mut self.refused));
                }
            }
            Step::Reconnect { fresh } => {
                self.wire.clear();
                self.client.reset(*fresh);
                self.stream = D::begin(&self.catalog);
                self.connect();
            }
        }
        self.listen();
    }

    /// Lets everything that is under way come to its end.
    fn settle(&mut self) {
        for _ in 0..2 {
            for _ in 0..500 {
                if self.wire.is_empty() {
                    break;
                }
                self.step(&Step::Deliver);
            }
            assert!(self.wire.is_empty(), "it goes on for ever");
            self.now += Duration::from_mins(1);
            self.client.order_matters = false;
            self.listen();
        }
    }

    fn assert_converged(&self) {
        for kind in [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener] {
            let wanted: BTreeMap<_, _> = self
                .catalog
                .all(kind)
                .filter(|resource| self.client.wants(kind, resource.name()))
                .map(|resource| (Arc::clone(resource.name()), resource.clone()))
                .collect();
            let held = self.client.held(kind);
            for (name, resource) in &wanted {
                if !Client::is_bad(resource) {
                    assert_eq!(held.get(name), Some(resource), "{kind} {name} is not what the store holds");
                }
            }
            // A listener whose new content is refused keeps the old one, and the clusters of that.
            let may_stay =
                kind != ResourceType::Listener && self.catalog.all(ResourceType::Listener).any(Client::is_bad);
            if self.client.absence_is_said(kind) && !may_stay {
                for name in held.keys() {
                    assert!(wanted.contains_key(name), "{kind} {name} is still held");
                }
            }
        }
    }
}

fn run<D: Dialect>(manner: Manner, steps: &[Step]) {
    let mut world = World::<D>::new(manner);
    for step in steps {
        world.step(step);
    }
    world.settle();
    world.assert_converged();
    // What is refused now is never sent again, whatever else changes.
    world.events.clear();
    let fresh = Resource::new(ResourceType::Cluster, "fresh", b"fresh");
    world.catalog.apply(Change { upsert: vec![fresh], remove: Vec::new() });
    world.stream.change(&world.catalog, &mut world.refused);
    world.listen();
    assert!(world.wire.iter().flat_map(|told| &told.resources).all(|resource| !Client::is_bad(resource)));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_delta_client_ends_with_what_the_store_holds(
        manner in support::client::manners(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run::<Delta>(Manner { delta: true, ..manner }, &steps);
    }

    #[test]
    fn a_state_of_the_world_client_ends_with_what_the_store_holds(
        manner in support::client::manners(),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        run::<Sotw>(Manner { delta: false, ..manner }, &steps);
    }
}
