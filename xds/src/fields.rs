//! The fields of an encoded protobuf message, one after the other, none of them decoded or copied. Knows the wire format;
//! knows no message. A peer may send a message of two-byte fields that decode to a hundred bytes each: readers of this crate
//! look at the fields first and keep what they need.

/// One field.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Field<'a> {
    /// Its number in the message's definition.
    pub number: u64,
    /// What it holds.
    pub value: Value<'a>,
}

/// What a field holds, as far as the wire says it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    /// An integer, a boolean or an enum.
    Varint(u64),
    /// A `double`, or eight bytes of another type.
    Fixed64([u8; 8]),
    /// A string, bytes, or a message.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32([u8; 4]),
}

impl<'a> Value<'a> {
    /// The bytes of a string, of bytes or of a message.
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            Self::Varint(_) | Self::Fixed64(_) | Self::Fixed32(_) => None,
        }
    }

    /// The number of a `double`.
    pub fn double(self) -> Option<f64> {
        match self {
            Self::Fixed64(bytes) => Some(f64::from_le_bytes(bytes)),
            Self::Varint(_) | Self::Bytes(_) | Self::Fixed32(_) => None,
        }
    }
}

/// The bytes are no protobuf message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("read the fields of a protobuf message")]
pub struct Malformed;

/// Walks over the fields of an encoded message. After an error there is nothing more.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of this message.
    pub fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// The last field of this number, which is the one that counts where a field is not repeated.
    pub fn last(self, number: u64) -> Result<Option<Value<'a>>, Malformed> {
        let mut found = None;
        for field in self {
            let field = field?;
            if field.number == number {
                found = Some(field.value);
            }
        }
        Ok(found)
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(self.array()?),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(length)?)
            }
            5 => Value::Fixed32(self.array()?),
            // Groups went out of use before Envoy came.
            _ => return Err(Malformed),
        };
        Ok(Field { number: key >> 3, value })
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number: u64 = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Malformed)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Malformed)?;
        self.rest = rest;
        Ok(*array)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed)?;
        self.rest = rest;
        Ok(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::DeltaDiscoveryRequest;
    use envoy_types::pb::io::prometheus::client::{Counter, Metric};
    use proptest::prelude::*;
    use prost::Message;

    use super::*;

    #[test]
    fn the_fields_of_a_message_come_in_the_order_of_the_wire() {
        let request = DeltaDiscoveryRequest {
            type_url: "t".into(),
            resource_names_subscribe: vec!["a".into(), String::new()],
            ..Default::default()
        };
        let fields: Result<Vec<_>, _> = Fields::of(&request.encode_to_vec())
            .map(|f| f.map(|f| (f.number, f.value.bytes().map(<[u8]>::to_vec))))
            .collect();
        assert_eq!(fields, Ok(vec![(2, Some(b"t".to_vec())), (3, Some(b"a".to_vec())), (3, Some(Vec::new()))]));
    }

    #[test]
    fn a_double_reads_back() {
        let metric = Metric { counter: Some(Counter { value: Some(2.5), ..Counter::default() }), ..Metric::default() };
        let bytes = metric.encode_to_vec();
        let counter = Fields::of(&bytes).last(3).unwrap().and_then(Value::bytes).unwrap();
        assert_eq!(Fields::of(counter).last(1).unwrap().and_then(Value::double), Some(2.5));
    }

    #[test]
    fn a_length_beyond_the_end_and_an_endless_number_are_malformed() {
        assert_eq!(Fields::of(&[0x0a, 5, b'a']).collect::<Vec<_>>(), [Err(Malformed)]);
        assert_eq!(Fields::of(&[0xff; 11]).collect::<Vec<_>>(), [Err(Malformed)]);
    }

    proptest! {
        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            prop_assert!(Fields::of(&bytes).count() <= bytes.len());
        }
    }
}
