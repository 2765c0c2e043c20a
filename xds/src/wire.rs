//! Discovery responses whose resources are spliced in as they were encoded once. On the wire a field of bytes and a
//! field of messages are the same; tests hold these against Envoy's own definitions.

use bytes::Bytes;

/// `envoy.service.discovery.v3.DeltaDiscoveryResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct DeltaDiscoveryResponse {
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    pub(crate) type_url: String,
    #[prost(string, tag = "5")]
    pub(crate) nonce: String,
    #[prost(string, repeated, tag = "6")]
    pub(crate) removed_resources: Vec<String>,
}

/// `envoy.service.discovery.v3.DiscoveryResponse`.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(crate) struct DiscoveryResponse {
    #[prost(string, tag = "1")]
    pub(crate) version_info: String,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    pub(crate) resources: Vec<Bytes>,
    #[prost(string, tag = "4")]
    pub(crate) type_url: String,
    #[prost(string, tag = "5")]
    pub(crate) nonce: String,
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3 as discovery;
    use envoy_types::pb::google::protobuf::Any;
    use prost::Message;

    use super::*;
    use crate::resource::{Resource, ResourceType};

    #[test]
    fn a_delta_response_reads_as_envoys_own() {
        let resource = Resource::new(ResourceType::Cluster, "a", b"body");
        let ours = DeltaDiscoveryResponse {
            resources: vec![resource.wire()],
            type_url: ResourceType::Cluster.url().to_owned(),
            nonce: "7".to_owned(),
            removed_resources: vec!["b".to_owned()],
        };
        let theirs = discovery::DeltaDiscoveryResponse {
            resources: vec![discovery::Resource::decode(resource.wire()).expect("decodes")],
            type_url: ResourceType::Cluster.url().to_owned(),
            nonce: "7".to_owned(),
            removed_resources: vec!["b".to_owned()],
            ..Default::default()
        };
        assert_eq!(discovery::DeltaDiscoveryResponse::decode(ours.encode_to_vec().as_slice()), Ok(theirs));
    }

    #[test]
    fn a_state_of_the_world_response_reads_as_envoys_own() {
        let resource = Resource::new(ResourceType::Cluster, "a", b"body");
        let ours = DiscoveryResponse {
            version_info: "1".to_owned(),
            resources: vec![resource.any()],
            type_url: ResourceType::Cluster.url().to_owned(),
            nonce: "7".to_owned(),
        };
        let theirs = discovery::DiscoveryResponse {
            version_info: "1".to_owned(),
            resources: vec![Any::decode(resource.any()).expect("decodes")],
            type_url: ResourceType::Cluster.url().to_owned(),
            nonce: "7".to_owned(),
            ..Default::default()
        };
        assert_eq!(discovery::DiscoveryResponse::decode(ours.encode_to_vec().as_slice()), Ok(theirs));
    }
}
