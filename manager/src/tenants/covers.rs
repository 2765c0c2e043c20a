//! Whether an object of the API is as we want it. Knows JSON; knows no kind.

use serde_json::Value;

/// Whether everything that `wanted` says is so in `actual`, which may say more: the server fills in defaults, and others
/// own other fields. Lists are compared whole.
pub(super) fn covers(actual: &Value, wanted: &Value) -> bool {
    match (actual, wanted) {
        (Value::Object(actual), Value::Object(wanted)) => {
            wanted.iter().all(|(key, value)| actual.get(key).is_some_and(|found| covers(found, value)))
        }
        (Value::Array(actual), Value::Array(wanted)) => {
            actual.len() == wanted.len() && actual.iter().zip(wanted).all(|(found, value)| covers(found, value))
        }
        (actual, wanted) => actual == wanted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_others_added_is_no_difference() {
        let actual =
            json!({"metadata": {"labels": {"ours": "1", "theirs": "2"}, "uid": "u"}, "rules": [{"verbs": ["get"]}]});
        assert!(covers(&actual, &json!({"metadata": {"labels": {"ours": "1"}}, "rules": [{"verbs": ["get"]}]})));
    }

    #[test]
    fn a_changed_missing_or_longer_part_is_a_difference() {
        let actual = json!({"rules": [{"verbs": ["get"]}, {"verbs": ["list"]}], "name": "a"});
        for wanted in [json!({"rules": [{"verbs": ["get"]}]}), json!({"name": "b"}), json!({"other": {}})] {
            assert!(!covers(&actual, &wanted), "{wanted}");
        }
    }
}
