//! Conditions: how an object says what became of it. Knows the types and their transitions; the clock is an argument.

pub use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::Schema;
use serde_json::{Value, json};

use crate::{limits, rules};

/// Bounds a list of conditions as `metav1.Condition` bounds its fields, which the type that we take does not say.
pub(crate) fn bounded(schema: &mut Schema) {
    schema.insert("maxItems".to_owned(), limits::CONDITIONS.into());
    let Some(fields) = schema.pointer_mut("/items/properties").and_then(Value::as_object_mut) else { return };
    let bounds = [
        ("type", json!({"maxLength": 316})),
        ("status", json!({"enum": ["True", "False", "Unknown"]})),
        ("reason", json!({"maxLength": 1024})),
        ("message", json!({"maxLength": limits::MESSAGE})),
        // The bounds of a CRD are floating-point numbers: this is the largest that they tell from the next one.
        ("observedGeneration", json!({"minimum": 0, "maximum": (1_i64 << 53) - 1})),
    ];
    for (field, bound) in bounds {
        if let (Some(Value::Object(field)), Value::Object(bound)) = (fields.get_mut(field), bound) {
            field.extend(bound);
        }
    }
    if let Some(Ok(since)) = fields.get_mut("lastTransitionTime").map(<&mut Schema>::try_from) {
        rules::moment(since);
    }
}

/// The conditions that our kinds carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The object is understood and allowed.
    Accepted,
    /// Every address it asks for is recorded as its own.
    Allocated,
    /// Traffic to its addresses is served by the data plane.
    Programmed,
    /// A pool, tenant, fleet or allocation works.
    Ready,
    /// The agent of a tenant has been heard lately.
    AgentConnected,
    /// Networks that a tenant lists for its backends are another's, too. There only while it holds.
    NetworkOverlap,
    /// The descriptors of a fleet's Envoys do not suffice for what load balancers ask for. There only while it holds.
    FilesShort,
    /// New TCP connections of a tenant are refused at an Envoy of a fleet. There only while it holds.
    TenantHeld,
}

impl ConditionType {
    /// The word in `.status.conditions[].type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "Accepted",
            Self::Allocated => "Allocated",
            Self::Programmed => "Programmed",
            Self::Ready => "Ready",
            Self::AgentConnected => "AgentConnected",
            Self::NetworkOverlap => "NetworkOverlap",
            Self::FilesShort => "FilesShort",
            Self::TenantHeld => "TenantHeld",
        }
    }
}

/// What a condition says, without when it began: the part that is decided.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Verdict {
    /// Which condition.
    pub kind: ConditionType,
    /// True, False or (None) Unknown.
    pub holds: Option<bool>,
    /// CamelCase, for programs.
    pub reason: String,
    /// For people: what, where and how to mend it.
    pub message: String,
}

impl Verdict {
    /// A condition that holds.
    pub fn holds(kind: ConditionType, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, holds: Some(true), reason: reason.into(), message: message.into() }
    }

    /// A condition that does not hold.
    pub fn fails(kind: ConditionType, reason: impl Into<String>, message: impl Into<String>) -> Self {
        Self { kind, holds: Some(false), reason: reason.into(), message: message.into() }
    }

    fn status(&self) -> &'static str {
        match self.holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        }
    }
}

/// The conditions after `verdicts`, which were reached looking at `generation`. A transition's time is `now`; a condition
/// whose status stays keeps its time, so that saying the same twice writes the same bytes. Conditions of types that no
/// verdict names are kept.
pub fn settle(before: &[Condition], verdicts: &[Verdict], generation: Option<i64>, now: &Time) -> Vec<Condition> {
    let mut after: Vec<Condition> = before.to_vec();
    for verdict in verdicts {
        let known = after.iter().position(|c| c.type_ == verdict.kind.as_str());
        let since = known
            .map(|i| &after[i])
            .filter(|c| c.status == verdict.status())
            .map_or_else(|| now.clone(), |c| c.last_transition_time.clone());
        let condition = Condition {
            type_: verdict.kind.as_str().to_owned(),
            status: verdict.status().to_owned(),
            reason: verdict.reason.clone(),
            message: verdict.message.clone(),
            observed_generation: generation,
            last_transition_time: since,
        };
        match known {
            Some(i) => after[i] = condition,
            None => after.push(condition),
        }
    }
    after.sort_by(|a, b| a.type_.cmp(&b.type_));
    after
}

/// The condition of this type, if the object has it.
pub fn find(conditions: &[Condition], kind: ConditionType) -> Option<&Condition> {
    conditions.iter().find(|c| c.type_ == kind.as_str())
}

/// Whether the condition is there and True.
pub fn is_true(conditions: &[Condition], kind: ConditionType) -> bool {
    find(conditions, kind).is_some_and(|c| c.status == "True")
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::jiff::Timestamp;

    fn at(second: i64) -> Time {
        Time(Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn the_time_of_a_condition_changes_only_with_its_status() {
        let pending = Verdict::fails(ConditionType::Programmed, "Pending", "waits");
        let refused = Verdict::fails(ConditionType::Programmed, "Refused", "edge-1 refuses");
        let done = Verdict::holds(ConditionType::Programmed, "Programmed", "served");
        let first = settle(&[], &[pending], Some(1), &at(1));
        let second = settle(&first, &[refused], Some(1), &at(2));
        let third = settle(&second, &[done], Some(2), &at(3));
        assert_eq!(second[0].last_transition_time, at(1));
        assert_eq!(second[0].reason, "Refused");
        assert_eq!(third[0].last_transition_time, at(3));
        assert!(is_true(&third, ConditionType::Programmed));
    }
}
