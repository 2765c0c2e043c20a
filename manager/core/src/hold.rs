//! An address that is kept for its last owner for a while. Knows how the record says so; knows no pool.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;
use nave_api::IPAllocation;

use crate::Key;

/// Annotation: whose the address was, `<namespace>/<name>` of a TCPLoadBalancer.
const LAST_OWNER: &str = "nave.dev/last-owner";
/// Annotation: until when it is kept for him.
const HELD_UNTIL: &str = "nave.dev/held-until";

/// For whom an address is kept, and until when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hold {
    pub owner: Key,
    pub until: Timestamp,
}

impl Hold {
    /// What the record says. Who has owners is kept for nobody.
    pub fn of(object: &IPAllocation) -> Option<Self> {
        let annotations = object.metadata.annotations.as_ref().filter(|_| object.spec.owners.is_empty())?;
        let (namespace, name) = annotations.get(LAST_OWNER)?.split_once('/')?;
        Some(Self { owner: Key::new(namespace, name), until: annotations.get(HELD_UNTIL)?.parse().ok()? })
    }

    /// Takes the owners off the record and says for whom it is kept.
    pub fn write(self, object: &mut IPAllocation) {
        let Self { owner, until } = self;
        object.spec.owners = Vec::new();
        let annotations = object.metadata.annotations.get_or_insert_default();
        annotations.insert(LAST_OWNER.to_owned(), owner.to_string());
        annotations.insert(HELD_UNTIL.to_owned(), until.to_string());
    }

    /// Takes off the record for whom it was kept.
    pub fn clear(object: &mut IPAllocation) {
        if let Some(annotations) = &mut object.metadata.annotations {
            annotations.retain(|name, _| name != LAST_OWNER && name != HELD_UNTIL);
            object.metadata.annotations =
                object.metadata.annotations.take().filter(|left: &BTreeMap<_, _>| !left.is_empty());
        }
    }
}
