//! Limits of connections as numbers of Envoy's runtime. Knows Envoy's keys; knows no tenant.
//!
//! Envoy looks the key up for each connection that it accepts, so that a limit holds at once, and no listener changes for it.

use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::service::runtime::v3::Runtime;
use envoy_types::pb::google::protobuf::value::Kind;
use envoy_types::pb::google::protobuf::{Struct, Value};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

/// The field `layer` of `envoy.service.runtime.v3.Runtime`.
const LAYER: u32 = 2;

/// `envoy.service.runtime.v3.Runtime` with a number for each listener.
pub(super) fn message(name: &str, limits: &BTreeMap<Arc<str>, u32>) -> Vec<u8> {
    // The order of a protobuf map is not defined. Messages of one entry each, one after the other, are one map in this order.
    let layer: Vec<u8> = limits.iter().flat_map(|(listener, limit)| entry(listener, *limit).encode_to_vec()).collect();
    let mut message = Runtime { name: name.to_owned(), layer: None }.encode_to_vec();
    encode_key(LAYER, WireType::LengthDelimited, &mut message);
    encode_varint(layer.len() as u64, &mut message);
    message.extend(layer);
    message
}

fn entry(listener: &str, limit: u32) -> Struct {
    let limit = Value { kind: Some(Kind::NumberValue(limit.into())) };
    Struct { fields: [(key(listener), limit)].into() }
}

/// Envoy's key for the connections that a listener may have open at once.
fn key(listener: &str) -> String {
    format!("envoy.resource_limits.listener.{listener}.connection_limit")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_listener_has_its_number_under_envoys_key() {
        let limits = [("tcp/203.0.113.7/443", 17), ("tcp/2001:db8::7/53", 0)];
        let limits: BTreeMap<Arc<str>, u32> = limits.map(|(name, limit)| (name.into(), limit)).into();
        let Runtime { name, layer } = Runtime::decode(&*message("connections/edge-1", &limits)).unwrap();
        let mut numbers: Vec<_> = layer.unwrap().fields.into_iter().map(|(key, value)| (key, value.kind)).collect();
        numbers.sort_by(|a, b| a.0.cmp(&b.0));
        let expected = [("tcp/2001:db8::7/53", 0.0), ("tcp/203.0.113.7/443", 17.0)].map(|(listener, limit)| {
            let key = format!("envoy.resource_limits.listener.{listener}.connection_limit");
            (key, Some(Kind::NumberValue(limit)))
        });
        assert_eq!((name.as_str(), numbers), ("connections/edge-1", expected.to_vec()));
    }

    #[test]
    fn no_limit_is_an_empty_layer() {
        let runtime = Runtime::decode(&*message("connections/edge-1", &BTreeMap::new())).unwrap();
        assert_eq!(runtime.layer, Some(Struct::default()));
    }
}
