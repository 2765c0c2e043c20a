//! Discovery requests from their bytes: only what the protocol needs, and no more of it than a request may have. Knows Envoy's
//! message definitions; knows no stream.

use envoy_types::pb::envoy::config::core::v3::Node;
use prost::Message;
use tonic::Status;

use crate::fields::{Fields, Value};
use crate::files::Files;
use crate::protocol::{delta, sotw};
use crate::report::Refusal;
use crate::resource::{ResourceType, Version};
use crate::text;

/// Names in one request, both wanted and held ones.
const NAMES: usize = 500_000;
/// The length of a name in bytes. Ours are built from a namespace, a name and a port.
const NAME: usize = 512;
/// So many bytes of the words with which a client refuses a response are looked through for names: Envoy's say about a hundred
/// bytes for each resource that it refuses.
const WORDS: usize = 16 * Refusal::WORDS;

/// `envoy.service.discovery.v3.DeltaDiscoveryRequest`; nothing where its type is not served.
#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
pub(super) fn delta(message: &[u8]) -> Result<Option<delta::Request>, Status> {
    let Some(kind) = kind(message, 2)? else { return Ok(None) };
    let mut request = delta::Request {
        kind,
        subscribe: Vec::new(),
        unsubscribe: Vec::new(),
        initial: Vec::new(),
        nonce: String::new(),
        error: None,
        files: None,
    };
    let mut count = Count::default();
    for field in parts(message) {
        let (number, bytes) = field?;
        match number {
            1 => request.files = files(bytes),
            3 => request.subscribe.push(count.name(bytes)?),
            4 => request.unsubscribe.push(count.name(bytes)?),
            5 => {
                let version = Version::read(str::from_utf8(part(bytes, 2)?).unwrap_or_default());
                request.initial.push((count.name(part(bytes, 1)?)?, version));
            }
            6 => request.nonce = nonce(bytes),
            7 => request.error = Some(words(bytes)?),
            _ => {}
        }
    }
    Ok(Some(request))
}

/// `envoy.service.discovery.v3.DiscoveryRequest`; nothing where its type is not served.
#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
pub(super) fn sotw(message: &[u8]) -> Result<Option<sotw::Request>, Status> {
    let Some(kind) = kind(message, 4)? else { return Ok(None) };
    let mut request = sotw::Request {
        kind,
        names: Vec::new(),
        version: String::new(),
        nonce: String::new(),
        error: None,
        files: None,
    };
    let mut count = Count::default();
    for field in parts(message) {
        let (number, bytes) = field?;
        match number {
            1 => request.version = nonce(bytes),
            2 => request.files = files(bytes),
            3 => request.names.push(count.name(bytes)?),
            5 => request.nonce = nonce(bytes),
            6 => request.error = Some(words(bytes)?),
            _ => {}
        }
    }
    Ok(Some(request))
}

/// The fields of a message that are texts or messages, by their numbers.
fn parts(message: &[u8]) -> impl Iterator<Item = Result<(u64, &[u8]), Status>> {
    Fields::of(message).filter_map(|field| match field {
        Ok(field) => field.value.bytes().map(|bytes| Ok((field.number, bytes))),
        Err(_) => Some(Err(malformed())),
    })
}

/// One of them; nothing where the message has none of the number.
#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
fn part(message: &[u8], number: u64) -> Result<&[u8], Status> {
    Ok(Fields::of(message).last(number).map_err(|_| malformed())?.and_then(Value::bytes).unwrap_or_default())
}

/// What a node says that it may open. One that cannot be read says nothing.
fn files(node: &[u8]) -> Option<Files> {
    Files::read(&Node::decode(node).ok()?)
}

/// The type of a request. A type that we do not serve is none of our business: the request stays without an answer.
#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
fn kind(message: &[u8], at: u64) -> Result<Option<ResourceType>, Status> {
    let url = part(message, at)?;
    if url.is_empty() {
        return Err(Status::invalid_argument("an aggregated stream needs a type_url in every request"));
    }
    Ok(str::from_utf8(url).ok().and_then(ResourceType::from_url))
}

/// The names of one request.
#[derive(Default)]
struct Count(usize);

impl Count {
    #[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
    fn name(&mut self, bytes: &[u8]) -> Result<String, Status> {
        self.0 += 1;
        if self.0 > NAMES {
            return Err(Status::resource_exhausted(format!("a request may have {NAMES} names")));
        }
        if bytes.len() > NAME {
            return Err(Status::invalid_argument(format!(
                "a resource name may have {NAME} bytes: one has {}",
                bytes.len()
            )));
        }
        let name = str::from_utf8(bytes).map_err(|_| Status::invalid_argument("a resource name is not UTF-8"))?;
        Ok(name.to_owned())
    }
}

/// A nonce or a version of a whole response, to be compared with one of ours: what is longer than ours is none.
fn nonce(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..64).unwrap_or(bytes)).into_owned()
}

/// The beginning of the message in a `google.rpc.Status`, up to the end of a word: half a name may be another's.
#[allow(clippy::result_large_err, reason = "tonic's status is what the client gets")]
fn words(status: &[u8]) -> Result<String, Status> {
    let message = part(status, 2)?;
    let Some(beginning) = message.get(..WORDS) else { return Ok(String::from_utf8_lossy(message).into_owned()) };
    let beginning = String::from_utf8_lossy(beginning);
    let end = beginning.rfind(|c: char| c.is_whitespace() || c == ',').unwrap_or(0);
    Ok(text::cut(&beginning, end.max(Refusal::WORDS)).to_owned())
}

fn malformed() -> Status {
    Status::invalid_argument("the request is not a discovery request")
}

#[cfg(test)]
mod tests {
    use envoy_types::pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
    use envoy_types::pb::google::rpc;
    use tonic::Code;

    use super::*;

    fn type_url() -> String {
        ResourceType::Listener.url().to_owned()
    }

    #[allow(clippy::unnecessary_wraps, reason = "protobuf wraps every message")]
    fn refusal(message: &str) -> Option<rpc::Status> {
        Some(rpc::Status { code: 3, message: message.to_owned(), details: Vec::new() })
    }

    #[test]
    fn a_delta_request_reads_as_envoy_wrote_it() {
        let request = DeltaDiscoveryRequest {
            node: Some(Node { id: "edge-1".into(), ..Default::default() }),
            type_url: type_url(),
            resource_names_subscribe: vec!["a".into(), "*".into()],
            resource_names_unsubscribe: vec!["b".into()],
            initial_resource_versions: [("c".to_owned(), Version::of(b"c").to_string())].into(),
            response_nonce: "7".into(),
            error_detail: refusal("no"),
            ..Default::default()
        };
        let read = delta::Request {
            kind: ResourceType::Listener,
            subscribe: vec!["a".into(), "*".into()],
            unsubscribe: vec!["b".into()],
            initial: vec![("c".into(), Version::of(b"c"))],
            nonce: "7".into(),
            error: Some("no".into()),
            files: None,
        };
        assert_eq!(delta(&request.encode_to_vec()).unwrap(), Some(read));
    }

    #[test]
    fn a_state_of_the_world_request_reads_as_envoy_wrote_it() {
        let request = DiscoveryRequest {
            version_info: "1".into(),
            resource_names: vec!["a".into()],
            type_url: type_url(),
            response_nonce: "7".into(),
            error_detail: refusal(""),
            ..Default::default()
        };
        let kind = ResourceType::Listener;
        let (version, nonce) = ("1".into(), "7".into());
        let read =
            sotw::Request { kind, names: vec!["a".into()], version, nonce, error: Some(String::new()), files: None };
        assert_eq!(sotw(&request.encode_to_vec()).unwrap(), Some(read));
    }

    #[test]
    fn a_request_of_another_type_is_nothing_and_one_without_a_type_is_wrong() {
        let other = DeltaDiscoveryRequest { type_url: "type.googleapis.com/x".into(), ..Default::default() };
        assert_eq!(delta(&other.encode_to_vec()).unwrap(), None);
        assert_eq!(delta(&[]).unwrap_err().code(), Code::InvalidArgument);
        assert_eq!(sotw(&[0xff]).unwrap_err().code(), Code::InvalidArgument);
    }

    #[test]
    fn names_are_bounded_in_length_and_number() {
        let with = |names: Vec<String>| {
            let request =
                DeltaDiscoveryRequest { type_url: type_url(), resource_names_subscribe: names, ..Default::default() };
            delta(&request.encode_to_vec()).map(|read| read.map(|read| read.subscribe.len())).map_err(|s| s.code())
        };
        assert_eq!(with(vec!["x".repeat(512)]), Ok(Some(1)));
        assert_eq!(with(vec!["x".repeat(513)]), Err(Code::InvalidArgument));
        assert_eq!(with(vec![String::new(); NAMES]), Ok(Some(NAMES)));
        assert_eq!(with(vec![String::new(); NAMES + 1]), Err(Code::ResourceExhausted));
    }

    #[test]
    fn long_words_end_with_a_whole_name() {
        let message = "tcp/203.0.113.7/443: cannot bind\n".repeat(160_000);
        let request =
            DeltaDiscoveryRequest { type_url: type_url(), error_detail: refusal(&message), ..Default::default() };
        let error = delta(&request.encode_to_vec()).unwrap().unwrap().error.unwrap();
        assert!(
            error.len() <= WORDS && error.len() > WORDS - 64 && message[..=error.len()].ends_with(char::is_whitespace)
        );
    }
}
