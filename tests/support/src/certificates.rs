//! Certificates of an authority of the test's own.

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use std::path::{Path, PathBuf};

/// An authority that issues certificates.
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate, in PEM.
    pub certificate: PathBuf,
    /// Its private key, in PEM.
    pub key: PathBuf,
}

impl Authority {
    /// A new one, which nobody trusts yet.
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key can be made");
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Or what it issues has its name too and looks as if it had signed itself.
        params.distinguished_name.push(DnType::CommonName, "authority");
        let certificate = params.self_signed(&key).expect("an authority signs its own certificate").pem();
        Self { certificate, issuer: Issuer::new(params, key) }
    }

    /// Its own certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.certificate
    }

    /// Writes its own certificate into a file of `dir`.
    pub fn write(&self, dir: &Path, name: &str) -> PathBuf {
        write(dir, name, &self.certificate)
    }

    /// Issues a certificate for these names, URIs among them, to servers and clients alike, and writes it into files of
    /// `dir`.
    pub fn issue(&self, names: &[&str], dir: &Path, file: &str) -> Certificate {
        let key = KeyPair::generate().expect("a key can be made");
        let (uris, hosts): (Vec<&str>, Vec<&str>) = names.iter().partition(|name| name.contains("://"));
        let hosts: Vec<String> = hosts.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(hosts).expect("names of hosts");
        let uris = uris.into_iter().map(|uri| SanType::URI(uri.try_into().expect("a URI")));
        params.subject_alt_names.extend(uris);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).expect("an authority signs");
        Certificate {
            certificate: write(dir, &format!("{file}.pem"), &certificate.pem()),
            key: write(dir, &format!("{file}.key"), &key.serialize_pem()),
        }
    }
}

/// A client of `host`, which is on this port of loopback, that proves itself by a certificate and trusts an authority.
pub fn client(own: &Certificate, authority: &Authority, host: &str, port: u16) -> reqwest::Client {
    let read = |path| std::fs::read(path).expect("a certificate's file");
    let pem = [read(&own.certificate), read(&own.key)].concat();
    let authority = reqwest::Certificate::from_pem(authority.pem().as_bytes()).expect("a certificate");
    let client = reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([authority])
        .identity(reqwest::Identity::from_pem(&pem).expect("an identity"))
        .resolve(host, (std::net::Ipv4Addr::LOCALHOST, port).into());
    client.build().expect("a client")
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// Replaced in one step, as a mounted secret is.
fn write(dir: &Path, name: &str, text: &str) -> PathBuf {
    let (path, new) = (dir.join(name), dir.join(format!("{name}.new")));
    std::fs::write(&new, text).expect("a file can be written");
    std::fs::rename(&new, &path).expect("a file can be replaced");
    path
}
