//! The hub and its spokes in memory: what users write goes in, what their Services show comes out. Knows what API servers
//! do; decides nothing.

mod look;
mod server;
mod spoke;

use nave_agent_core::{Key as SpokeKey, Policy};
use nave_manager_core::{Seen, Sight};
use serde_json::{Value, json};

use crate::support::hub::Hub;
use crate::support::objects::{fleet, pool, tenant};
use spoke::Spoke;
pub use spoke::node;

/// The tenant whose spoke is there from the beginning.
pub const FIRST: &str = "shop";

/// A hub with an Envoy, and spokes with two nodes each.
pub struct Wheel {
    pub hub: Hub,
    spokes: Vec<Spoke>,
    policy: Policy,
}

impl Wheel {
    /// One spoke, whose agent serves Services without a class, and these pools.
    pub fn new(pools: &[(&str, Value)]) -> Self {
        Self::with(Policy { default_load_balancer: true, ..Policy::default() }, pools)
    }

    /// The same with agents that were told this.
    pub fn with(policy: Policy, pools: &[(&str, Value)]) -> Self {
        let mut wheel = Self { hub: Hub::default(), spokes: Vec::new(), policy };
        wheel.hub.fleet(fleet("default"));
        wheel.hub.connect("default", "edge-1");
        wheel.join(FIRST, &json!({}));
        for (name, spec) in pools {
            wheel.pool(name, spec);
        }
        wheel.settle();
        wheel
    }

    /// Another spoke, under a tenant of this name.
    pub fn join(&mut self, name: &str, spec: &Value) {
        self.hub.tenant(tenant(name, spec));
        self.spokes.push(Spoke::new(name, self.policy.clone()));
    }

    /// Writes a pool; where nothing else is said, it is there for everybody.
    pub fn pool(&mut self, name: &str, spec: &Value) {
        self.hub.now += 1;
        self.hub.pool(pool(name, spec));
    }

    /// A user applies a Service of type `LoadBalancer` with port 80, where the spec says nothing else. `place` is the
    /// Service's name, `namespace/name`, or `tenant:namespace/name`.
    pub fn apply(&mut self, place: &str, spec: &Value) {
        self.apply_with(place, &json!({}), spec);
    }

    /// The same with annotations.
    pub fn apply_with(&mut self, place: &str, annotations: &Value, spec: &Value) {
        self.hub.now += 1;
        let (spoke, key) = self.place(place);
        self.spokes[spoke].server.apply(&key, annotations, spec);
    }

    /// A user deletes a Service.
    pub fn delete(&mut self, place: &str) {
        self.hub.now += 1;
        let (spoke, key) = self.place(place);
        self.spokes[spoke].server.delete(&key);
    }

    /// The kubelet, or an administrator, writes a Node of the first spoke.
    pub fn node(&mut self, node: Value) {
        self.spokes[0].node(node);
    }

    /// A Node of the first spoke is taken away.
    pub fn lose_node(&mut self, name: &str) {
        self.spokes[0].lose_node(name);
    }

    /// The endpoints controller of the first spoke writes a slice.
    pub fn slice(&mut self, slice: Value) {
        self.spokes[0].slice(slice);
    }

    /// A cloud of the first spoke writes a Service's load balancer status.
    pub fn cloud_gives(&mut self, place: &str, ingress: &Value) {
        let (spoke, key) = self.place(place);
        self.spokes[spoke].server.show(&key, ingress);
    }

    /// Somebody deletes every record of an address by hand.
    pub fn forget_records(&mut self) {
        for (key, _) in std::mem::take(&mut self.hub.allocations) {
            self.hub.engine.observe(Seen::Allocations(Sight::Gone(key)));
        }
    }

    /// Agents and the manager end, and begin anew with what the API servers have.
    pub fn restart(&mut self) {
        self.hub.restart();
        self.restart_agents();
    }

    /// Agents begin anew.
    pub fn restart_agents(&mut self) {
        for spoke in &mut self.spokes {
            spoke.restart(self.policy.clone(), &self.hub);
        }
    }

    /// Everybody works until nothing follows any more.
    pub fn settle(&mut self) {
        for _ in 0..40 {
            let mut quiet = true;
            for spoke in &mut self.spokes {
                quiet &= !spoke.work(&mut self.hub);
            }
            self.hub.settle();
            for spoke in &mut self.spokes {
                quiet &= !spoke.look(&self.hub);
            }
            if quiet {
                return self.check();
            }
        }
        panic!("agents and hub do not come to rest");
    }

    /// The spoke and the Service that a text names.
    fn place(&self, text: &str) -> (usize, SpokeKey) {
        let (tenant, rest) = text.split_once(':').unwrap_or((FIRST, text));
        let (namespace, name) = rest.split_once('/').unwrap_or(("default", rest));
        let spoke = self.spokes.iter().position(|spoke| spoke.tenant == tenant).expect("a spoke of this name");
        (spoke, SpokeKey { namespace: namespace.to_owned(), name: name.to_owned() })
    }
}
