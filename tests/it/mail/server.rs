//! Certificates of a private authority, and a mail server that follows a script.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, KeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509NameBuilder};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// A private certificate authority and a certificate that it issued for `localhost`, as PEM files.
pub struct Certificates {
    /// The authority's certificate.
    pub authority: PathBuf,
    /// The server's certificate.
    pub server: PathBuf,
    /// The server's key.
    pub key: PathBuf,
}

impl Certificates {
    pub fn new(folder: &Path, host: &str) -> Self {
        let (ca, ca_key) = certificate("Example Authority", None, host);
        let (server, key) = certificate(host, Some((&ca, &ca_key)), host);
        let file = |name: &str, content: Vec<u8>| {
            let path = folder.join(name);
            std::fs::write(&path, content).expect("written");
            path
        };
        Self {
            authority: file("authority.pem", ca.to_pem().expect("PEM")),
            server: file("server.pem", server.to_pem().expect("PEM")),
            key: file("key.pem", key.private_key_to_pem_pkcs8().expect("PEM")),
        }
    }

    /// For a server with implicit TLS.
    pub fn acceptor(&self) -> TlsAcceptor {
        let chain = CertificateDer::pem_file_iter(&self.server).expect("a file");
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("certificates");
        let key = PrivateKeyDer::from_pem_file(&self.key).expect("a key");
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        TlsAcceptor::from(Arc::new(config.with_single_cert(chain, key).expect("a matching key")))
    }
}

/// A certificate for `host` from an issuer; without an issuer, a self-signed one.
fn certificate(
    name: &str,
    issuer: Option<(&X509, &PKey<Private>)>,
    host: &str,
) -> (X509, PKey<Private>) {
    let key = PKey::from_rsa(Rsa::generate(2048).expect("a key")).expect("a key");
    let mut subject = X509NameBuilder::new().expect("a name");
    subject.append_entry_by_text("CN", name).expect("a name");
    let subject = subject.build();
    let mut cert = X509::builder().expect("a builder");
    let build = |cert: &mut openssl::x509::X509Builder| {
        cert.set_version(2)?;
        let serial = Asn1Integer::from_bn(&*BigNum::from_u32(1 + u32::from(issuer.is_some()))?)?;
        cert.set_serial_number(&serial)?;
        cert.set_subject_name(&subject)?;
        cert.set_issuer_name(issuer.map_or(&*subject, |(ca, _)| ca.subject_name()))?;
        cert.set_pubkey(&key)?;
        cert.set_not_before(&*Asn1Time::days_from_now(0)?)?;
        cert.set_not_after(&*Asn1Time::days_from_now(2)?)?;
        if issuer.is_some() {
            let names = SubjectAlternativeName::new()
                .dns(host)
                .build(&cert.x509v3_context(issuer.map(|(ca, _)| &**ca), None))?;
            cert.append_extension(names)?;
        } else {
            cert.append_extension(BasicConstraints::new().critical().ca().build()?)?;
            cert.append_extension(KeyUsage::new().critical().key_cert_sign().build()?)?;
        }
        cert.sign(issuer.map_or(&key, |(_, key)| key), MessageDigest::sha256())
    };
    build(&mut cert).expect("a certificate");
    (cert.build(), key)
}

/// How a [`Scripted`] server reacts to a line.
#[derive(Debug, Clone)]
pub enum Reaction {
    /// Sends a response.
    Say(String),
    /// Sends nothing more.
    Stall,
    /// Closes the connection.
    Close,
}

pub fn say(line: impl Into<String>) -> Option<Reaction> {
    Some(Reaction::Say(line.into()))
}

/// A mail server controlled by a script. The script is called with each line of the client, with
/// `""` when the client connects, and with `"."` at the end of a mail's content. If it returns
/// `None`, the server gives the usual response.
pub struct Scripted {
    pub port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

type Script = dyn Fn(&str) -> Option<Reaction> + Send + Sync;

impl Scripted {
    pub async fn start(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&str) -> Option<Reaction> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (log, script): (_, Arc<Script>) = (lines.clone(), Arc::new(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (log, script, tls) = (log.clone(), script.clone(), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, &*script, &log).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, &*script, &log).await,
                            Err(_) => Ok(()),
                        },
                    }
                });
            }
        });
        Self { port, lines }
    }

    /// All lines that clients have sent, including content.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no panic").clone()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin,
    script: &Script,
    lines: &Mutex<Vec<String>>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut line, mut in_content) = (String::new(), false);
    loop {
        if !in_content || line == "." {
            match script(&line).unwrap_or_else(|| usual_reaction(&line)) {
                Reaction::Say(answer) => {
                    in_content = answer.starts_with("354");
                    stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
                    stream.flush().await?;
                }
                Reaction::Stall => std::future::pending().await,
                Reaction::Close => return Ok(()),
            }
        }
        let mut bytes = Vec::new();
        if stream.read_until(b'\n', &mut bytes).await? == 0 {
            return Ok(());
        }
        line = String::from_utf8_lossy(&bytes).trim_end().to_owned();
        lines.lock().expect("no panic").push(line.clone());
    }
}

fn usual_reaction(line: &str) -> Reaction {
    let word = line.split(' ').next().unwrap_or_default();
    Reaction::Say(
        match word {
            "" => "220 scripted ready",
            "EHLO" => "250-scripted\r\n250 AUTH PLAIN LOGIN",
            "AUTH" => "235 welcome",
            "DATA" => "354 go on",
            "QUIT" => "221 bye",
            _ => "250 fine",
        }
        .to_owned(),
    )
}
