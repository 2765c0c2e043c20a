//! A resource as it travels: encoded once, named, versioned by its content, shared by every stream.
//! Knows the framing of discovery responses; knows nothing of what the body means.

use std::fmt;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use sha2::{Digest, Sha256};

/// The types of resources this crate serves, in the order in which additions are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// RTDS: numbers that Envoy looks up while it runs, see [`crate::translate::limits`].
    Runtime,
}

impl ResourceType {
    /// All of them, in the order in which additions are sent.
    pub const ALL: [Self; Self::COUNT] = [Self::Cluster, Self::Endpoints, Self::Listener, Self::Route, Self::Runtime];
    /// How many there are.
    pub const COUNT: usize = 5;

    /// The type's URL on the wire.
    pub const fn url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Runtime => "type.googleapis.com/envoy.service.runtime.v3.Runtime",
        }
    }

    /// The type with this URL.
    pub fn from_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.url() == url)
    }

    /// Whether a client that names nothing at first means everything (only CDS and LDS).
    pub const fn has_legacy_wildcard(self) -> bool {
        match self {
            Self::Cluster | Self::Listener => true,
            Self::Endpoints | Self::Route | Self::Runtime => false,
        }
    }

    /// The place of this type in arrays of one entry per type.
    pub(crate) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for ResourceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "cluster",
            Self::Endpoints => "endpoints",
            Self::Listener => "listener",
            Self::Route => "route",
            Self::Runtime => "runtime",
        })
    }
}

/// A resource's version: a hash of its body. The same content has the same version on every replica and after every
/// restart. Its text is 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u64);

impl Version {
    /// A version that no content has: what a client holds, but we did not make.
    pub const FOREIGN: Self = Self(0);

    /// The version of these bytes.
    pub fn of(body: &[u8]) -> Self {
        let digest = Sha256::digest(body);
        let folded = digest.iter().take(8).fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte));
        Self(folded.max(1))
    }

    /// Reads a version's text; a text that we never wrote is [`Version::FOREIGN`].
    pub fn read(text: &str) -> Self {
        let ours = text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        if ours { u64::from_str_radix(text, 16).map_or(Self::FOREIGN, Self) } else { Self::FOREIGN }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A type and a name: what identifies a resource in a fleet.
pub type Key = (ResourceType, Arc<str>);

/// One encoded resource. Cloning shares the bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Resource {
    kind: ResourceType,
    name: Arc<str>,
    version: Version,
    clusters: Arc<[Arc<str>]>,
    /// `envoy.service.discovery.v3.Resource`, framed and ready for a delta response.
    wire: Bytes,
    /// Where in `wire` the `google.protobuf.Any` is, and in it the body.
    any_at: usize,
    body_at: usize,
}

impl Resource {
    /// A resource with this encoded body. The body must be deterministic: its hash is the version.
    pub fn new(kind: ResourceType, name: impl Into<Arc<str>>, body: &[u8]) -> Self {
        let name = name.into();
        let version = Version::of(body);
        let (wire, any_at, body_at) = frame(kind, &name, version, body);
        Self { kind, name, version, clusters: Arc::from([]), wire, any_at, body_at }
    }

    /// The same, naming the clusters that it sends traffic to: it is not sent before they are.
    #[must_use]
    pub fn leading_to(mut self, clusters: impl IntoIterator<Item = Arc<str>>) -> Self {
        self.clusters = clusters.into_iter().collect();
        self
    }

    /// The type.
    pub fn kind(&self) -> ResourceType {
        self.kind
    }

    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The type and the name.
    pub fn key(&self) -> Key {
        (self.kind, Arc::clone(&self.name))
    }

    /// The hash of the content.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The clusters that it sends traffic to.
    pub fn clusters(&self) -> &Arc<[Arc<str>]> {
        &self.clusters
    }

    /// The encoded message.
    pub fn body(&self) -> Bytes {
        self.wire.slice(self.body_at..)
    }

    /// The message in its `google.protobuf.Any`, as a state-of-the-world response carries it.
    pub fn any(&self) -> Bytes {
        self.wire.slice(self.any_at..)
    }

    /// The message in its `envoy.service.discovery.v3.Resource`, as a delta response carries it.
    pub fn wire(&self) -> Bytes {
        self.wire.clone()
    }
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} @{}", self.kind, self.name, self.version)
    }
}

/// Field numbers of `envoy.service.discovery.v3.Resource` and of `google.protobuf.Any`.
const RESOURCE_VERSION: u32 = 1;
const RESOURCE_ANY: u32 = 2;
const RESOURCE_NAME: u32 = 3;
const ANY_URL: u32 = 1;
const ANY_VALUE: u32 = 2;

/// Frames a body so that the `Any` and the body are suffixes of the whole: both can be sliced out without a copy.
fn frame(kind: ResourceType, name: &str, version: Version, body: &[u8]) -> (Bytes, usize, usize) {
    let version = version.to_string();
    let any_len = field_len(kind.url().len()) + field_len(body.len());
    let mut out = BytesMut::with_capacity(field_len(version.len()) + field_len(name.len()) + field_len(any_len));
    put_field(&mut out, RESOURCE_VERSION, version.as_bytes());
    put_field(&mut out, RESOURCE_NAME, name.as_bytes());
    put_head(&mut out, RESOURCE_ANY, any_len);
    let any_at = out.len();
    put_field(&mut out, ANY_URL, kind.url().as_bytes());
    put_head(&mut out, ANY_VALUE, body.len());
    let body_at = out.len();
    out.put_slice(body);
    (out.freeze(), any_at, body_at)
}

/// The length of a length-delimited field whose tag is below 16.
fn field_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn put_head(out: &mut BytesMut, tag: u32, len: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

fn put_field(out: &mut BytesMut, tag: u32, value: &[u8]) {
    put_head(out, tag, value.len());
    out.put_slice(value);
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3 as discovery;
    use envoy_types::pb::google::protobuf::Any;
    use prost::Message as _;

    use super::*;

    #[test]
    fn the_frame_is_what_the_protobuf_library_writes() {
        let body = vec![7; 300];
        let resource = Resource::new(ResourceType::Listener, "tcp/192.0.2.1/80", &body);
        let any = Any { type_url: ResourceType::Listener.url().to_owned(), value: body.clone() };
        let expected = discovery::Resource {
            name: "tcp/192.0.2.1/80".to_owned(),
            version: resource.version().to_string(),
            resource: Some(any.clone()),
            ..Default::default()
        };
        assert_eq!(discovery::Resource::decode(resource.wire()).expect("decodes"), expected);
        assert_eq!(Any::decode(resource.any()).expect("decodes"), any);
        assert_eq!(resource.body(), body);
    }

    #[test]
    fn a_version_reads_back_and_foreign_text_is_foreign() {
        let version = Version::of(b"content");
        assert_eq!(Version::read(&version.to_string()), version);
        for foreign in ["", "1", "v1.2.3", "0123456789ABCDEF", "0123456789abcdef0"] {
            assert_eq!(Version::read(foreign), Version::FOREIGN, "{foreign}");
        }
    }

    #[test]
    fn every_type_reads_back_from_its_url() {
        for kind in ResourceType::ALL {
            assert_eq!(ResourceType::from_url(kind.url()), Some(kind));
        }
        assert_eq!(ResourceType::from_url("type.googleapis.com/envoy.config.cluster.v2.Cluster"), None);
    }
}
