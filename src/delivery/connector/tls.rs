//! The TLS handshake with a peer, and the reason why it failed.

use std::io;
use std::sync::Arc;

use rustls::{AlertDescription, CertificateError, Error as TlsError, ProtocolVersion};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::TlsConfig;
use crate::callgoose::answer::HandshakeFault;
use crate::clock::WallTime;
use crate::tls::{self, ClientTls, Error, ServerName};

/// The TLS of one peer, ready for use.
#[derive(Debug)]
pub(super) struct Encryption {
    pub(super) tls: Arc<ClientTls>,
    name: ServerName<'static>,
}

/// The result of a handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub version: &'static str,
    /// The number of certificates that the peer showed.
    pub certificates: usize,
    /// When the first of those that are valid expires; none if none has dates that can be read.
    pub expires_at: Option<WallTime>,
}

impl Agreed {
    pub(super) fn of<T>(stream: &TlsStream<T>) -> Agreed {
        let (_, connection) = stream.get_ref();
        let chain = connection.peer_certificates().unwrap_or_default();
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLS 1.3",
            _ => "TLS 1.2",
        };
        Agreed { version, certificates: chain.len(), expires_at: tls::next_expiry(chain, WallTime::now()) }
    }
}

impl Encryption {
    pub(super) fn new(config: &TlsConfig, alpn: &[&[u8]]) -> Result<Encryption, Error> {
        let tls = Arc::new(ClientTls::load(config.files.clone(), alpn)?);
        Ok(Encryption { tls, name: config.name.clone() })
    }

    pub(super) async fn begin<T: AsyncRead + AsyncWrite + Unpin>(
        &self,
        io: T,
    ) -> Result<TlsStream<T>, (HandshakeFault, String)> {
        let connector = TlsConnector::from(self.tls.current());
        connector
            .connect(self.name.clone(), io)
            .await
            .map_err(|error: io::Error| (problem_in(&error).unwrap_or(HandshakeFault::Other), detail_of(&error)))
    }
}

/// The problem within an error of a stream; none if that is no error of TLS.
pub(super) fn problem_in(error: &io::Error) -> Option<HandshakeFault> {
    error.get_ref().and_then(|inner| inner.downcast_ref::<TlsError>()).map(handshake_problem)
}

/// The text of an error, shortened: the TLS library may list each name that a certificate is for.
pub(super) fn detail_of(error: &io::Error) -> String {
    error.to_string().chars().take(DETAIL_CHARS_MAX).collect()
}

const DETAIL_CHARS_MAX: usize = 500;

/// The problem that the TLS library, or the peer by an alert, names.
pub(crate) fn handshake_problem(error: &TlsError) -> HandshakeFault {
    match error {
        TlsError::InvalidCertificate(error) => match error {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => HandshakeFault::Name,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => HandshakeFault::Expired,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => HandshakeFault::NotYetValid,
            // An authority of the same name and another key signed it: one that was renewed, say.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => HandshakeFault::Issuer,
            _ => HandshakeFault::Certificate,
        },
        TlsError::PeerIncompatible(_) => HandshakeFault::Version,
        TlsError::AlertReceived(alert) => match alert {
            AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity
            | AlertDescription::HandshakeFailure => HandshakeFault::Version,
            AlertDescription::UnrecognisedName => HandshakeFault::Name,
            // What a server says of the certificate that it was shown, or missed.
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied => HandshakeFault::ClientCertificate,
            _ => HandshakeFault::Other,
        },
        _ => HandshakeFault::Other,
    }
}
