//! An authority that issues certificates for peers.

use std::path::Path;
use std::time::{Duration, SystemTime};

use nave_xds::identity::Peer;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub struct Issued {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        // A name of its own: a certificate whose issuer bears its name looks as if it had signed itself.
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().expect("a key");
        Self(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    pub fn certificate(&self) -> String {
        self.0.pem()
    }

    pub fn issue(&self, peer: &Peer) -> Issued {
        self.issue_for(&peer.uri())
    }

    pub fn issue_for(&self, uri: &str) -> Issued {
        self.issue_at(uri, SystemTime::now() - Duration::from_hours(1))
    }

    /// A certificate that is valid from this moment on.
    pub fn issue_at(&self, uri: &str, not_before: SystemTime) -> Issued {
        let mut params = CertificateParams::default();
        params.not_before = not_before.into();
        params.subject_alt_names = vec![
            SanType::URI(uri.try_into().expect("ASCII")),
            // Envoy goes by the URI; other clients want a name.
            SanType::DnsName("localhost".try_into().expect("ASCII")),
        ];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        Issued { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// Writes `ca.crt`, `tls.crt` and `tls.key`.
    pub fn write(&self, directory: &Path, issued: &Issued) {
        let files = [("ca.crt", &self.certificate()), ("tls.crt", &issued.certificate), ("tls.key", &issued.key)];
        for (name, content) in files {
            std::fs::write(directory.join(name), content).expect("writes");
        }
    }
}
