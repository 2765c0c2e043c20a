//! Who is at the other end of a connection: read from the certificate that it proved to own, never from what it says.
//! Knows how names are written in certificates; knows no issuer and no file.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The trust domain of the URIs in certificates.
pub const TRUST_DOMAIN: &str = "nave.dev";

/// A peer with a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Peer {
    /// An Envoy, from `spiffe://nave.dev/fleet/<fleet>/node/<node>`.
    Envoy {
        /// The fleet, whose resources it gets.
        fleet: Arc<str>,
        /// The node it runs on, unique in the fleet.
        node: Arc<str>,
    },
    /// Another manager, from `spiffe://nave.dev/manager/<name>`.
    Manager {
        /// Its name.
        name: Arc<str>,
    },
}

/// What a certificate says: who it is for, and from when on it is valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    /// Who it is for.
    pub peer: Peer,
    /// Its `notBefore`, in seconds of Unix time. Authorities of ours put the moment of issue there.
    pub not_before: i64,
}

impl Certified {
    /// Reads a certificate.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, parsed) =
            X509Certificate::from_der(certificate).map_err(|error| IdentityError::ReadCertificate(error.into()))?;
        let not_before = parsed.validity().not_before.timestamp();
        Ok(Self { peer: Peer::from_certificate(certificate)?, not_before })
    }
}

/// Why a certificate or a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The certificate is not one.
    #[error("read a certificate")]
    ReadCertificate(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The key is not one.
    #[error("read a private key")]
    ReadKey(#[source] rustls_pki_types::pem::Error),
    /// The certificates of the authority cannot verify clients.
    #[error("trust a certificate authority")]
    TrustAuthority(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Certificate and key do not make a server.
    #[error("serve with a certificate")]
    UseCertificate(#[source] rustls::Error),
    /// The certificate does not say who it is for.
    #[error("find out who a certificate is for: its only URI must be {expected}", expected = Peer::FORMS)]
    NamePeer,
}

impl Peer {
    const FORMS: &str = "spiffe://nave.dev/fleet/<fleet>/node/<node> or spiffe://nave.dev/manager/<name>";

    /// Reads a peer from the only URI of a certificate.
    pub fn from_certificate(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|error| IdentityError::ReadCertificate(error.into()))?;
        let names = certificate
            .subject_alternative_name()
            .map_err(|error| IdentityError::ReadCertificate(error.into()))?
            .ok_or(IdentityError::NamePeer)?;
        let mut uris = names.value.general_names.iter().filter_map(|name| match name {
            GeneralName::URI(uri) => Some(*uri),
            _ => None,
        });
        match (uris.next(), uris.next()) {
            (Some(uri), None) => Self::from_uri(uri),
            (None, _) | (Some(_), Some(_)) => Err(IdentityError::NamePeer),
        }
    }

    /// Reads a peer from the text of its URI.
    pub fn from_uri(uri: &str) -> Result<Self, IdentityError> {
        let path = uri.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(TRUST_DOMAIN));
        let parts: Vec<_> = path.and_then(|path| path.strip_prefix('/')).unwrap_or_default().split('/').collect();
        match parts[..] {
            ["fleet", fleet, "node", node] if is_name(fleet) && is_name(node) => {
                Ok(Self::Envoy { fleet: fleet.into(), node: node.into() })
            }
            ["manager", name] if is_name(name) => Ok(Self::Manager { name: name.into() }),
            _ => Err(IdentityError::NamePeer),
        }
    }

    /// The URI that a certificate for this peer carries.
    pub fn uri(&self) -> String {
        match self {
            Self::Envoy { fleet, node } => format!("spiffe://{TRUST_DOMAIN}/fleet/{fleet}/node/{node}"),
            Self::Manager { name } => format!("spiffe://{TRUST_DOMAIN}/manager/{name}"),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.uri())
    }
}

/// Whether a text may be the name of a fleet, of a node or of a manager: 1 to 253 letters, digits and `-._`, as in the names of
/// Kubernetes nodes; nothing that would need escaping in a URI.
pub fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
}

/// The public key of the first certificate in a PEM text, as its `SubjectPublicKeyInfo` in DER.
pub fn public_key(pem: &[u8]) -> Result<Vec<u8>, IdentityError> {
    let certificate =
        CertificateDer::from_pem_slice(pem).map_err(|error| IdentityError::ReadCertificate(error.into()))?;
    let (_, certificate) =
        X509Certificate::from_der(&certificate).map_err(|error| IdentityError::ReadCertificate(error.into()))?;
    Ok(certificate.public_key().raw.to_vec())
}

/// The settings of a server that asks every client for a certificate of this authority. All three are PEM.
pub fn server_config(chain: &[u8], key: &[u8], authority: &[u8]) -> Result<ServerConfig, IdentityError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certificates(authority)? {
        roots.add(root).map_err(|error| IdentityError::TrustAuthority(error.into()))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| IdentityError::TrustAuthority(error.into()))?;
    let verifier = Arc::new(Lenient(verifier));
    let key = PrivateKeyDer::from_pem_slice(key).map_err(IdentityError::ReadKey)?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(IdentityError::UseCertificate)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(chain)?, key)
        .map_err(IdentityError::UseCertificate)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(config)
}

/// Believes certificates that are valid from a moment that is yet to come, if it comes soon: their `notBefore` is when they were
/// issued, by a machine whose clock may be ahead of this one's.
#[derive(Debug)]
struct Lenient(Arc<dyn ClientCertVerifier>);

/// Clocks may differ by so much.
const SKEW: Duration = Duration::from_hours(1);

impl ClientCertVerifier for Lenient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        use rustls::CertificateError::{NotValidYet, NotValidYetContext};
        match self.0.verify_client_cert(leaf, intermediates, now) {
            Err(rustls::Error::InvalidCertificate(NotValidYet | NotValidYetContext { .. })) => {
                let soon = UnixTime::since_unix_epoch(Duration::from_secs(now.as_secs()) + SKEW);
                self.0.verify_client_cert(leaf, intermediates, soon)
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
    CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| IdentityError::ReadCertificate(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_reads_back_from_its_uri() {
        for peer in [
            Peer::Envoy { fleet: "default".into(), node: "edge-1.example.net".into() },
            Peer::Manager { name: "manager-0".into() },
        ] {
            assert_eq!(Peer::from_uri(&peer.uri()).expect("reads"), peer);
        }
    }

    #[test]
    fn any_other_uri_is_nobody() {
        for uri in [
            "",
            "spiffe://nave.dev",
            "spiffe://nave.dev/fleet/a/node/",
            "spiffe://nave.dev/fleet/a/node/b/c",
            "spiffe://nave.dev/fleet/a/node/b%2Fc",
            "spiffe://nave.dev.example.com/manager/a",
            "https://nave.dev/manager/a",
            "spiffe://nave.dev/tenant/a",
            &format!("spiffe://nave.dev/manager/{}", "a".repeat(254)),
        ] {
            assert!(Peer::from_uri(uri).is_err(), "{uri}");
        }
    }
}
