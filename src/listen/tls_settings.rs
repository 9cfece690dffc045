use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio_rustls::rustls::{
    self, CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig,
    SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

/// How a listener speaks TLS. Everything lies in files, which may be replaced while it runs.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// The certificate and those between it and its authority, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
    /// Who may connect; `None` lets everyone.
    pub clients: Option<TlsClients>,
}

/// The clients that may connect: those with a certificate.
#[derive(Clone, Debug)]
pub struct TlsClients {
    /// The authorities that their certificates must come from, in PEM.
    pub authorities: PathBuf,
    /// The names of which a certificate must have one (subject alternative names: DNS names, and URIs such as SPIFFE
    /// ids); empty lets any certificate of the authorities in.
    pub names: Vec<String>,
}

/// What is in the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file holds something else.
    #[error("{} holds no {what} in PEM", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// What should be there.
        what: &'static str,
    },
    /// Certificate, key and authorities do not work together.
    #[error("{0}")]
    Unusable(String),
}

impl TlsSettings {
    /// All files that it is made of.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        let authorities = self.clients.as_ref().map(|clients| clients.authorities.as_path());
        [self.certificate.as_path(), self.key.as_path()].into_iter().chain(authorities)
    }

    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] says what cannot be used.
    pub fn load(&self) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let unusable = |error: rustls::Error| TlsError::Unusable(error.to_string());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(unusable)?;
        let builder = match &self.clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(Arc::new(clients.verifier(provider)?)),
        };
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|_| TlsError::Missing { path: self.key.clone(), what: "private key" })?;
        let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(config)
    }
}

impl TlsClients {
    fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<ListedClients, TlsError> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&self.authorities)? {
            roots.add(certificate).map_err(|error| TlsError::Unusable(error.to_string()))?;
        }
        let authorities = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| TlsError::Unusable(error.to_string()))?;
        Ok(ListedClients { authorities, names: self.names.clone() })
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::Unreadable { path: path.to_owned(), error })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = read(path)?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(TlsError::Missing { path: path.to_owned(), what: "certificate" }),
    }
}

/// Lets in clients whose certificate comes from the authorities and has one of these names.
#[derive(Debug)]
struct ListedClients {
    authorities: Arc<dyn ClientCertVerifier>,
    names: Vec<String>,
}

impl ListedClients {
    fn is_listed(&self, certificate: &CertificateDer<'_>) -> Result<bool, rustls::Error> {
        if self.names.is_empty() {
            return Ok(true);
        }
        let certificate = webpki::EndEntityCert::try_from(certificate)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let mut names = certificate.valid_uri_names().chain(certificate.valid_dns_names());
        Ok(names.any(|name| self.names.iter().any(|listed| listed == name)))
    }
}

impl ClientCertVerifier for ListedClients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let verified = self.authorities.verify_client_cert(certificate, intermediates, now)?;
        if self.is_listed(certificate)? {
            Ok(verified)
        } else {
            Err(rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}
