//! The trouble that an answer, or a call without one, tells of: in a word, on whose side, and with a remedy.

/// The reason why a call failed. Its word is the metric label, the log field and the reason in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// The upstream's host name can't be resolved.
    Dns,
    /// No connection: refused, unreachable, reset while connecting.
    Connect,
    /// The TLS handshake failed.
    Tls(HandshakeFault),
    /// The connection broke after the request was sent; it may have taken effect.
    Reset,
    /// No answer in time; the request may have taken effect.
    Timeout,
    /// A 2xx with a page instead of JSON: a captive portal or a block page on the way.
    NotJson,
    /// 408, 425, 429, 503: try again later.
    Busy,
    /// Another 5xx.
    ServerError,
    /// 401 or 403: the token is missing, wrong or expired.
    Unauthorized,
    /// The proxy can't be reached, or could not reach the upstream.
    Proxy,
    /// 407: the proxy on the way asks for credentials.
    ProxyUnauthorized,
    /// The proxy does not let this connection through.
    ProxyRefused,
    /// TLS with the proxy can't be agreed on: its certificate does not verify, as a rule.
    ProxyCertificate,
    /// 3xx, 404, 405, 410, 414: this is not the endpoint.
    Endpoint,
    /// 400, 413, 422 or another 4xx: the event itself is not accepted.
    Payload,
}

/// The reason why a TLS handshake failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeFault {
    /// The certificate is for other names.
    Name,
    Expired,
    NotYetValid,
    /// No trusted authority signed the certificate.
    Issuer,
    /// The certificate is unusable for another reason.
    Certificate,
    /// No common version or cipher.
    Version,
    /// The peer wants a client certificate, or another one.
    ClientCertificate,
    /// The connection broke, or the peer speaks no TLS.
    Other,
}

/// The side of a failure, as far as it can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution {
    Network,
    Proxy,
    Upstream,
    /// The relay's own configuration, or the event that it sent.
    Relay,
}

impl Trouble {
    /// One for each word.
    pub const ALL: [Trouble; 15] = [
        Trouble::Dns,
        Trouble::Connect,
        Trouble::Tls(HandshakeFault::Other),
        Trouble::Reset,
        Trouble::Timeout,
        Trouble::NotJson,
        Trouble::Busy,
        Trouble::ServerError,
        Trouble::Unauthorized,
        Trouble::Proxy,
        Trouble::ProxyUnauthorized,
        Trouble::ProxyRefused,
        Trouble::ProxyCertificate,
        Trouble::Endpoint,
        Trouble::Payload,
    ];

    /// Reads its word.
    pub fn read(word: &str) -> Option<Trouble> {
        Trouble::ALL.into_iter().find(|trouble| trouble.as_str() == word)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Trouble::Dns => "dns",
            Trouble::Connect => "connect",
            Trouble::Tls(_) => "tls",
            Trouble::Reset => "reset",
            Trouble::Timeout => "timeout",
            Trouble::NotJson => "not_json",
            Trouble::Busy => "busy",
            Trouble::ServerError => "server_error",
            Trouble::Unauthorized => "unauthorized",
            Trouble::Proxy => "proxy",
            Trouble::ProxyUnauthorized => "proxy_unauthorized",
            Trouble::ProxyRefused => "proxy_refused",
            Trouble::ProxyCertificate => "proxy_certificate",
            Trouble::Endpoint => "endpoint",
            Trouble::Payload => "payload",
        }
    }

    pub fn attribution(self) -> Attribution {
        match self {
            Trouble::Dns | Trouble::Connect | Trouble::Tls(_) => Attribution::Network,
            Trouble::NotJson
            | Trouble::Proxy
            | Trouble::ProxyUnauthorized
            | Trouble::ProxyRefused
            | Trouble::ProxyCertificate => Attribution::Proxy,
            Trouble::Reset | Trouble::Timeout | Trouble::Busy | Trouble::ServerError => Attribution::Upstream,
            Trouble::Unauthorized | Trouble::Endpoint | Trouble::Payload => Attribution::Relay,
        }
    }

    /// Advice for a person.
    pub fn remedy(self) -> &'static str {
        match self {
            Trouble::Dns => {
                "check the host name in `upstream.url`, or in `upstream.addresses`, and the resolver of this machine"
            }
            Trouble::Connect => {
                "check `upstream.url`, or `upstream.addresses`, and that the firewall lets this machine reach it"
            }
            Trouble::Tls(problem) => problem.remedy(),
            Trouble::Reset | Trouble::Timeout | Trouble::Busy | Trouble::ServerError => {
                "wait: the upstream is tried again until it answers"
            }
            Trouble::NotJson => {
                "something between here and the upstream answered with a page: check proxy and firewall"
            }
            Trouble::Unauthorized => "check the token in `upstream.authorization` and its scope",
            Trouble::Proxy => {
                "check that the proxy runs, that this machine reaches it, and that it reaches the upstream; the proxy is \
                 named by `upstream.proxy` or HTTPS_PROXY"
            }
            Trouble::ProxyUnauthorized => {
                "the proxy wants credentials: set them in `upstream.proxy.credentials`, or fix them"
            }
            Trouble::ProxyRefused => "the proxy does not let this through: have it allow the upstream's host and port",
            Trouble::ProxyCertificate => {
                "TLS with the proxy fails, see `detail`: name the authority of its certificate in `upstream.proxy.ca`, \
                 write the proxy's host as that certificate has it, or have the certificate renewed"
            }
            Trouble::Endpoint => "check `upstream.url`: this is not the endpoint that takes events",
            Trouble::Payload => {
                "compare what was sent with what the upstream accepts; then replay or discard the event"
            }
        }
    }
}

impl HandshakeFault {
    /// False if the next handshake may succeed by itself.
    pub fn is_lasting(self) -> bool {
        self != HandshakeFault::Other
    }

    /// Advice for a person.
    fn remedy(self) -> &'static str {
        match self {
            HandshakeFault::Name => {
                "the upstream has no certificate for this name: check `upstream.url`, or name what its certificate is \
                 for in `upstream.tls.server_name`"
            }
            HandshakeFault::Expired => {
                "the upstream's certificate has expired: have it renewed, and check the clock of this machine"
            }
            HandshakeFault::NotYetValid => {
                "the upstream's certificate is not valid yet: check the clock of this machine"
            }
            HandshakeFault::Issuer => {
                "no trusted authority signed the upstream's certificate: name the authority in `upstream.tls.ca`, and \
                 find out whether something on the way intercepts TLS"
            }
            HandshakeFault::Certificate => {
                "the upstream's certificate can't be used, see `detail`: have it issued anew, as one of a server and not \
                 of an authority, or check `upstream.tls.ca`"
            }
            HandshakeFault::Version => {
                "the upstream speaks no version or cipher of TLS that is allowed here, 1.2 and 1.3: check \
                 `upstream.tls.min_version`; some say so where they miss a client certificate"
            }
            HandshakeFault::ClientCertificate => {
                "the upstream wants a client certificate, or refuses this one: check `upstream.tls.client_certificate`"
            }
            HandshakeFault::Other => {
                "check that `upstream.url` names a port that speaks TLS, and what on the way breaks the handshake"
            }
        }
    }
}

impl Attribution {
    pub fn as_str(self) -> &'static str {
        match self {
            Attribution::Network => "network",
            Attribution::Proxy => "proxy",
            Attribution::Upstream => "upstream",
            Attribution::Relay => "relay",
        }
    }
}
