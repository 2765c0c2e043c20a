//! Which cluster a tenant's namespace belongs to, and which of its objects are whose. Knows marks; knows no Lease and no clock.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use nave_api::cluster::Mark;
use nave_api::names;

/// No mark is longer, in characters.
const LONGEST: usize = 63;

/// This cluster, and the one to which the tenant's namespace in the hub belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// The mark of the spoke in which this agent runs.
    pub own: Mark,
    /// The mark of the cluster to which the namespace belongs, as the hub has it.
    pub owner: String,
}

/// What the agent's Lease says to an agent that has read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The namespace belongs to no cluster yet: it may be claimed.
    Free,
    /// It belongs to this cluster.
    Ours,
    /// It belongs to a cluster with this mark.
    Other(String),
}

impl Cluster {
    /// A cluster to which the namespace belongs.
    pub fn owner(own: Mark) -> Self {
        Self { owner: own.to_string(), own }
    }

    /// Whether the namespace belongs to this cluster.
    pub fn is_owner(&self) -> bool {
        let Self { own, owner } = self;
        own.as_str() == owner
    }

    /// Whether an object of the namespace is this cluster's: it has our mark, or none while the namespace is ours.
    pub fn made(&self, object: &ObjectMeta) -> bool {
        mark(object).map_or(self.is_owner(), |mark| mark == self.own.as_str())
    }

    /// Whether an object of the namespace has another cluster's mark.
    pub fn is_marked_otherwise(&self, object: &ObjectMeta) -> bool {
        mark(object).is_some_and(|mark| mark != self.own.as_str())
    }
}

/// What the metadata of the agent's Lease say to the cluster `own`.
pub fn judge(own: &Mark, lease: &ObjectMeta) -> Standing {
    match mark(lease) {
        None => Standing::Free,
        Some(mark) if mark == own.as_str() => Standing::Ours,
        Some(mark) => Standing::Other(mark.chars().take(LONGEST).collect()),
    }
}

/// The mark on an object; an empty one is none.
fn mark(object: &ObjectMeta) -> Option<&str> {
    let mark = object.labels.as_ref()?.get(names::CLUSTER)?;
    (!mark.is_empty()).then_some(mark)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(mark: &str) -> ObjectMeta {
        ObjectMeta { labels: Some([(names::CLUSTER.to_owned(), mark.to_owned())].into()), ..ObjectMeta::default() }
    }

    #[test]
    fn h_a_lease_without_a_mark_is_free_and_one_with_any_other_mark_is_another_clusters() {
        let own: Mark = "c1".parse().unwrap();
        assert_eq!(judge(&own, &ObjectMeta::default()), Standing::Free);
        assert_eq!(judge(&own, &marked("")), Standing::Free);
        assert_eq!(judge(&own, &marked("c1")), Standing::Ours);
        assert_eq!(judge(&own, &marked("c2")), Standing::Other("c2".into()));
        assert_eq!(judge(&own, &marked("C1")), Standing::Other("C1".into()), "marks differ by case");
        assert_eq!(judge(&own, &marked(&"ä".repeat(100))), Standing::Other("ä".repeat(63)));
    }

    #[test]
    fn h_objects_without_a_mark_belong_to_the_owner_of_the_namespace() {
        let own: Mark = "c1".parse().unwrap();
        let (first, second) = (Cluster::owner(own.clone()), Cluster { own, owner: "c2".into() });
        let made = |cluster: &Cluster| ["", "c1", "c2"].map(|mark| cluster.made(&marked(mark)));
        assert_eq!((made(&first), made(&second)), ([true, true, false], [false, true, false]));
        assert_eq!(["", "c1", "c2"].map(|mark| first.is_marked_otherwise(&marked(mark))), [false, false, true]);
    }
}
