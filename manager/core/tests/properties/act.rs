//! What may happen in a history. Knows how often; knows not what follows.

use proptest::prelude::*;

/// One event of a history. Numbers are taken modulo what there is to choose from.
#[derive(Clone, Debug)]
pub enum Act {
    Put {
        tenant: usize,
        name: u8,
        spec: usize,
    },
    Delete {
        tenant: usize,
        name: u8,
    },
    Pool {
        which: usize,
        spec: usize,
    },
    DeletePool {
        which: usize,
    },
    Tenant {
        which: usize,
        spec: usize,
    },
    DeleteTenant {
        which: usize,
    },
    Nodes {
        tenant: usize,
        count: usize,
    },
    Connect {
        which: usize,
    },
    Disconnect {
        which: usize,
    },
    Acknowledge,
    /// The hub's cloud gives and takes what it was asked to.
    Cloud,
    Refuse {
        which: usize,
    },
    /// Decide, and leave the steps to be performed later.
    Decide,
    /// Perform the oldest step of one of the objects that steps wait for.
    Perform {
        which: usize,
    },
    /// The steps that wait are lost with their leader.
    Restart,
    /// A watch that begins anew.
    Relist,
    /// An object can no longer be read.
    Spoil {
        which: usize,
    },
    /// All objects can be read again.
    Mend,
    Compare,
    /// Nothing happens for so many seconds.
    Wait {
        seconds: usize,
    },
    Settle,
}

/// Any event, the usual ones more often.
pub fn act() -> impl Strategy<Value = Act> {
    let n = 0..1000_usize;
    let name = 0..5_u8;
    prop_oneof![
        8 => (n.clone(), name.clone(), n.clone()).prop_map(|(tenant, name, spec)| Act::Put { tenant, name, spec }),
        4 => (n.clone(), name).prop_map(|(tenant, name)| Act::Delete { tenant, name }),
        2 => (n.clone(), n.clone()).prop_map(|(which, spec)| Act::Pool { which, spec }),
        1 => n.clone().prop_map(|which| Act::DeletePool { which }),
        2 => (n.clone(), n.clone()).prop_map(|(which, spec)| Act::Tenant { which, spec }),
        1 => n.clone().prop_map(|which| Act::DeleteTenant { which }),
        2 => (n.clone(), n.clone()).prop_map(|(tenant, count)| Act::Nodes { tenant, count }),
        1 => n.clone().prop_map(|which| Act::Connect { which }),
        1 => n.clone().prop_map(|which| Act::Disconnect { which }),
        2 => Just(Act::Acknowledge),
        2 => Just(Act::Cloud),
        1 => n.clone().prop_map(|which| Act::Refuse { which }),
        6 => Just(Act::Decide),
        10 => n.clone().prop_map(|which| Act::Perform { which }),
        1 => Just(Act::Restart),
        1 => Just(Act::Relist),
        1 => n.clone().prop_map(|which| Act::Spoil { which }),
        1 => Just(Act::Mend),
        1 => Just(Act::Compare),
        1 => n.prop_map(|seconds| Act::Wait { seconds }),
        2 => Just(Act::Settle),
    ]
}
