//! What the authority's certificates look like: who they are for, what for, how long. Knows no Secret and no clock but now.

use std::fmt;
use std::time::{Duration, SystemTime};

use nave_xds::identity::{self, Peer};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};

use super::AuthorityError;

/// How long the authority itself lasts.
const AUTHORITY_LIFE: Duration = Duration::from_hours(10 * 365 * 24);
/// Clocks may differ by so much. What Envoys check is valid from so long before it was issued. What managers check is valid from
/// the moment of issue, by which it can be revoked: they are lenient themselves ([`nave_xds::identity::server_config`]).
const SKEW: Duration = Duration::from_hours(1);

/// A certificate authority.
pub(crate) struct Authority {
    certificate: String,
    key: String,
    issuer: Issuer<'static, KeyPair>,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// A certificate, its key and who vouches for it, all PEM.
pub(crate) struct Issued {
    /// The certificate.
    pub(crate) chain: String,
    /// Its private key.
    pub(crate) key: String,
    /// The authority's certificate.
    pub(crate) authority: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued").field("chain", &self.chain).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new one.
    pub(crate) fn new() -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Issue)?;
        let mut params = params("Nave hub authority", AUTHORITY_LIFE, SKEW);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(AuthorityError::Issue)?.pem();
        Self::load(certificate, &key.serialize_pem())
    }

    /// The one whose certificate and key these are, both PEM. Certificates of other authorities may follow the first: they are
    /// trusted besides.
    pub(super) fn load(certificate: String, key: &str) -> Result<Self, AuthorityError> {
        let pair = KeyPair::from_pem(key).map_err(AuthorityError::Issue)?;
        let own = identity::public_key(certificate.as_bytes()).map_err(AuthorityError::Read)?;
        if own != pair.subject_public_key_info() {
            return Err(AuthorityError::OtherKey);
        }
        let issuer = Issuer::from_ca_cert_pem(&certificate, pair).map_err(AuthorityError::Issue)?;
        Ok(Self { certificate, key: key.to_owned(), issuer })
    }

    /// Its certificate, PEM, and after it those of other authorities that are trusted besides.
    pub(crate) fn certificate(&self) -> &str {
        &self.certificate
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// A certificate for a manager, as server under these host names or addresses, and as caller of other managers.
    pub(crate) fn manager(&self, name: &str, hosts: &[String], life: Duration) -> Result<Issued, AuthorityError> {
        let hosts = CertificateParams::new(hosts).map_err(AuthorityError::Issue)?.subject_alt_names;
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&Peer::Manager { name: name.into() }, hosts, usages, life, SKEW)
    }

    /// A certificate for the Envoy of an edge node.
    pub(crate) fn envoy(&self, fleet: &str, node: &str, life: Duration) -> Result<Issued, AuthorityError> {
        let peer = Peer::Envoy { fleet: fleet.into(), node: node.into() };
        self.issue(&peer, Vec::new(), vec![ExtendedKeyUsagePurpose::ClientAuth], life, Duration::ZERO)
    }

    fn issue(
        &self,
        peer: &Peer,
        mut names: Vec<SanType>,
        usages: Vec<ExtendedKeyUsagePurpose>,
        life: Duration,
        skew: Duration,
    ) -> Result<Issued, AuthorityError> {
        let uri = peer.uri();
        let mut params = params(&uri, life, skew);
        names.push(SanType::URI(uri.try_into().map_err(AuthorityError::Issue)?));
        params.subject_alt_names = names;
        params.extended_key_usages = usages;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(AuthorityError::Issue)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Issue)?;
        Ok(Issued { chain: certificate.pem(), key: key.serialize_pem(), authority: self.certificate.clone() })
    }
}

fn params(name: &str, life: Duration, skew: Duration) -> CertificateParams {
    let now = SystemTime::now();
    let mut params = CertificateParams::default();
    params.not_before = (now - skew).into();
    params.not_after = (now + life).into();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.chars().take(64).collect::<String>());
    params
}

#[cfg(test)]
mod tests {
    use super::*;
    use nave_xds::identity::Certified;
    use rustls_pki_types::CertificateDer;
    use rustls_pki_types::pem::PemObject;

    const DAY: Duration = Duration::from_hours(24);

    #[test]
    fn a_certificate_says_which_envoy_it_is_for() {
        let issued = Authority::new().unwrap().envoy("default", "edge-1", DAY).unwrap();
        let der = CertificateDer::from_pem_slice(issued.chain.as_bytes()).unwrap();
        let peer = Peer::Envoy { fleet: "default".into(), node: "edge-1".into() };
        assert_eq!(Peer::from_certificate(&der).unwrap(), peer);
    }

    #[test]
    fn an_envoys_certificate_is_valid_from_the_second_of_its_issue() {
        let seconds = || i64::try_from(SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
        let before = seconds();
        let issued = Authority::new().unwrap().envoy("default", "edge-1", DAY).unwrap();
        let der = CertificateDer::from_pem_slice(issued.chain.as_bytes()).unwrap();
        let not_before = Certified::read(&der).unwrap().not_before;
        assert!((before..=seconds()).contains(&not_before), "{before} {not_before}");
    }

    #[test]
    fn an_authority_whose_key_is_anothers_is_refused() {
        let (one, other) = (Authority::new().unwrap(), Authority::new().unwrap());
        assert!(matches!(Authority::load(one.certificate().to_owned(), other.key()), Err(AuthorityError::OtherKey)));
    }

    #[test]
    fn an_authority_may_name_others_that_are_trusted_besides() {
        let (old, new) = (Authority::new().unwrap(), Authority::new().unwrap());
        let both = format!("{}{}", new.certificate(), old.certificate());
        let loaded = Authority::load(both.clone(), new.key()).unwrap();
        assert_eq!(loaded.envoy("default", "edge-1", DAY).unwrap().authority, both);
    }

    #[test]
    fn a_manager_serves_with_what_a_reloaded_authority_issues() {
        let first = Authority::new().unwrap();
        let again = Authority::load(first.certificate().to_owned(), first.key()).unwrap();
        let issued = again.manager("manager-1", &["127.0.0.1".into(), "managers.nave".into()], DAY).unwrap();
        let authority = first.certificate().as_bytes();
        assert!(identity::server_config(issued.chain.as_bytes(), issued.key.as_bytes(), authority).is_ok());
    }

    #[test]
    fn no_key_is_shown_when_debugging() {
        let authority = Authority::new().unwrap();
        let issued = authority.envoy("default", "edge-1", DAY).unwrap();
        assert!(!format!("{authority:?} {issued:?}").contains("PRIVATE"));
    }
}
