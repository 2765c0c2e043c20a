//! What the agent decides, as plain data. Knows no way to do it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::LoadBalancerIngress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use nave_api::{NodeSet, TCPLoadBalancer};

use crate::status::Topic;
use crate::{Key, Notice};

/// What is decided, and done, as one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Work {
    /// The ready nodes.
    NodeSet,
    /// One Service and what stands for it in the hub.
    Service(Key),
}

impl std::fmt::Display for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NodeSet => f.write_str("the nodes"),
            Self::Service(key) => write!(f, "Service {key}"),
        }
    }
}

/// A Service as it was when we decided on it: one of the same name that came later is another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Its namespace and name.
    pub key: Key,
    /// Its uid.
    pub uid: String,
}

/// What a condition of ours on a Service says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// Which one.
    pub topic: Topic,
    /// True, False or Unknown.
    pub status: String,
    /// CamelCase.
    pub reason: String,
    /// For people.
    pub message: String,
    /// Since when, where the status does not change.
    pub since: Option<Time>,
}

/// A load balancer of the hub that is to be deleted.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doomed {
    /// Its name.
    pub name: String,
    /// Its uid and version when it was seen last: another cluster may have taken it over since. Absent: it was never seen.
    pub seen: Option<(String, String)>,
}

/// One planned effect. Each is safe to repeat.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Put our finalizer on the Service.
    Hold(Target),
    /// Take our finalizer from the Service.
    Release(Target),
    /// Show this in the Service's status.
    Show(Target, Vec<LoadBalancerIngress>),
    /// Say this in the Service's conditions.
    Say(Target, Saying),
    /// Take a condition of ours from the Service.
    Hush(Target, Topic),
    /// Apply a load balancer in the hub.
    Apply(Box<TCPLoadBalancer>),
    /// Apply a load balancer that another cluster made, after the hub itself has said that the namespace is ours: what we have
    /// seen may be old.
    Adopt(Box<TCPLoadBalancer>),
    /// Apply the nodes in the hub.
    ApplyNodes(Box<NodeSet>),
    /// Delete the nodes of this name in the hub.
    DeleteNodes(String),
    /// Go on only when the spoke itself says that the Service is not there: what we have seen may be old.
    Confirm(Key),
    /// Delete the load balancer in the hub, and go on only when it is gone.
    Delete(Doomed),
}

impl Step {
    fn is_in_hub(&self) -> bool {
        match self {
            Self::Apply(_) | Self::Adopt(_) | Self::ApplyNodes(_) | Self::DeleteNodes(_) | Self::Delete(_) => true,
            Self::Hold(_) | Self::Release(_) | Self::Show(..) | Self::Say(..) | Self::Hush(..) | Self::Confirm(_) => {
                false
            }
        }
    }
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Plan {
    /// At once, in any order.
    Together(Vec<Step>),
    /// One after the other; the first that does not succeed ends it, and a change will bring us back.
    InTurn(Vec<Step>),
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps().is_empty()
    }

    /// Takes all steps but those in the hub away.
    pub(super) fn leave_spoke_alone(&mut self) {
        match self {
            Self::Together(steps) | Self::InTurn(steps) => steps.retain(Step::is_in_hub),
        }
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[Step] {
        match self {
            Self::Together(steps) | Self::InTurn(steps) => steps,
        }
    }
}

/// What was decided on one [`Work`].
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// What to do.
    pub plan: Plan,
    /// What to tell the user.
    pub notices: Vec<Notice>,
}

/// What a change asks for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Touched {
    /// To be decided again.
    pub work: BTreeSet<Work>,
    /// To be told.
    pub notices: Vec<Notice>,
}
