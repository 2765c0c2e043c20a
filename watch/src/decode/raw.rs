//! A part of an object as an API server sent it. Knows JSON; shows nothing of it.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// JSON that is read when it is asked for, field by field. Its text is in no log: an object may say anything.
#[derive(Clone)]
pub struct Raw(Box<RawValue>);

impl Raw {
    pub(super) fn of(value: &RawValue) -> Self {
        Self(value.to_owned())
    }

    /// The value as this type. `None`: it is of another form.
    pub fn read<T: DeserializeOwned>(&self) -> Option<T> {
        serde_json::from_str(self.0.get()).ok()
    }

    /// The value of this field. `None`: it has none, or is no object.
    pub fn field(&self, name: &str) -> Option<Self> {
        super::fields(&self.0).ok()?.get(name).map(|value| Self::of(value))
    }

    /// The names of its fields. `None`: it is no object.
    pub fn fields(&self) -> Option<Vec<String>> {
        Some(super::fields(&self.0).ok()?.into_keys().collect())
    }

    /// The values of a list. `None`: it is no list.
    pub fn list(&self) -> Option<Vec<Self>> {
        let values: Vec<&RawValue> = serde_json::from_str(self.0.get()).ok()?;
        Some(values.into_iter().map(Self::of).collect())
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Raw({} bytes)", self.0.get().len())
    }
}

impl PartialEq for Raw {
    fn eq(&self, other: &Self) -> bool {
        self.0.get() == other.0.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Raw {
        Raw(RawValue::from_string(text.to_owned()).unwrap())
    }

    #[test]
    fn a_field_is_read_beside_one_that_cannot_be_read() {
        let spec = raw(r#"{"a": 1e999, "b": ["x", 7, {"c": "d"}]}"#);
        let list = spec.field("b").unwrap().list().unwrap();
        let texts: Vec<Option<String>> = list.iter().map(Raw::read).collect();
        assert_eq!(texts, [Some("x".to_owned()), None, None]);
        assert_eq!(list[2].field("c").unwrap().read(), Some("d".to_owned()));
        assert!(spec.field("a").unwrap().read::<f64>().is_none() && spec.field("z").is_none());
        assert!(spec.list().is_none() && list[0].field("a").is_none());
    }

    #[test]
    fn nothing_of_it_is_shown() {
        assert_eq!(format!("{:?}", raw(r#"{"password": "hunter2"}"#)), "Raw(23 bytes)");
    }
}
