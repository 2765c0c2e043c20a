//! A cluster's certificates and keys. Knows who must be what to whom in Kubernetes; knows no file and no process.
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::error::{Act, Result};

/// One cluster's certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, as PEM.
pub struct Identity {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

/// The key pair that signs service account tokens, as PEM.
pub struct SigningKey {
    /// The private half: the API server and the controller manager sign with it.
    pub private: String,
    /// The public half: the API server checks with it.
    pub public: String,
}

impl Authority {
    /// Makes a new authority for the cluster `name`.
    pub fn new(name: &str) -> Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, format!("ca-{name}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().act(|| "make the authority's key")?;
        let issuer = CertifiedIssuer::self_signed(params, key).act(|| "sign the authority's certificate")?;
        Ok(Self { issuer })
    }

    /// The authority's certificate as PEM.
    pub fn certificate(&self) -> String {
        self.issuer.pem()
    }

    /// A client certificate: Kubernetes reads the user from the common name, its groups from the organisations.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Identity> {
        self.issue(user, groups, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A serving certificate for host names and addresses.
    pub fn server(&self, name: &str, names: Vec<String>) -> Result<Identity> {
        self.issue(name, &[], names, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn issue(
        &self,
        name: &str,
        groups: &[&str],
        names: Vec<String>,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Identity> {
        let mut params = CertificateParams::new(names).act(|| format!("name the certificate of {name}"))?;
        params.distinguished_name.push(DnType::CommonName, name);
        for group in groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().act(|| format!("make the key of {name}"))?;
        let certificate = params.signed_by(&key, &self.issuer).act(|| format!("sign the certificate of {name}"))?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl SigningKey {
    /// Makes a new pair.
    pub fn new() -> Result<Self> {
        let key = KeyPair::generate().act(|| "make the service account key")?;
        Ok(Self { private: key.serialize_pem(), public: key.public_key_pem() })
    }
}

/// How a client of an API server says who it is.
pub enum Login<'login> {
    /// By a client certificate.
    Certificate(&'login Identity),
    /// By a service account's token.
    Token(&'login str),
}

/// A kubeconfig that carries everything in itself, so that it may be copied and put into a Secret.
pub fn kubeconfig(server: &str, authority: &str, login: &Login<'_>) -> String {
    let user = match login {
        Login::Certificate(Identity { certificate, key }) => serde_json::json!({
            "client-certificate-data": STANDARD.encode(certificate), "client-key-data": STANDARD.encode(key),
        }),
        Login::Token(token) => serde_json::json!({"token": token}),
    };
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "clusters": [{"name": "lab", "cluster": {"server": server, "certificate-authority-data": STANDARD.encode(authority)}}],
        "users": [{"name": "lab", "user": user}],
    })
    .to_string()
}
