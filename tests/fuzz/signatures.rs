//! Signatures: headers, a blank line and a body, checked by every kind of credential that reads what it is shown.

use std::sync::LazyLock;
use std::time::Duration;

use gander::exports::clock::WallTime;
use gander::exports::credential::{Algorithm, Credential, Encoding, Hmac, RequestHead, SignedText, Timestamp};
use gander::exports::inbound::auth::Policy;
use gander::exports::secret::Secret;
use http::{HeaderMap, HeaderName, HeaderValue, Request};

pub static CREDENTIALS: LazyLock<Vec<Credential>> = LazyLock::new(|| {
    let secret = |text: &str| Secret::new(text.to_owned());
    let hmac = |header, prefix: &str, signed: &str, timestamp: Option<&'static str>| {
        Credential::Hmac(Hmac {
            header: HeaderName::from_static(header),
            secret: secret("key"),
            algorithm: Algorithm::Sha256,
            encoding: Encoding::Hex,
            prefix: prefix.to_owned(),
            timestamp: timestamp.map(|header| Timestamp {
                header: HeaderName::from_static(header),
                tolerance: Duration::from_secs(300),
            }),
            signed: SignedText::parse(signed).unwrap(),
        })
    };
    vec![
        hmac("x-hub-signature-256", "sha256=", "{body}", None),
        hmac("x-slack-signature", "v0=", "v0:{timestamp}:{body}", Some("x-slack-request-timestamp")),
        Credential::StandardWebhooks(secret("whsec_a2V5")),
        Credential::Basic { user: "gander".to_owned(), password: secret("key") },
    ]
});

const NOW: WallTime = WallTime(1_700_000_000_000);
const BODY: &[u8] = b"{\"id\": \"e1\"}";

/// An input that the credential takes.
pub fn signed(credential: &Credential) -> Vec<u8> {
    let mut request = Request::new(());
    credential.present_with_body(&mut request, BODY, "msg_1", NOW).unwrap();
    let headers = request.headers().iter();
    let lines = headers.map(|(name, value)| [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
    [lines.collect::<Vec<_>>().concat(), b"\n".to_vec(), BODY.to_vec()].concat()
}

pub fn checked(input: &[u8]) -> String {
    let (head, body) = match input.windows(2).position(|two| two == b"\n\n") {
        Some(at) => (&input[..at], &input[at + 2..]),
        None => (input, &b""[..]),
    };
    let mut headers = HeaderMap::new();
    for line in head.split(|byte| *byte == b'\n').take(100) {
        let Some(at) = line.windows(2).position(|two| two == b": ") else { continue };
        if let (Ok(name), Ok(value)) = (HeaderName::from_bytes(&line[..at]), HeaderValue::from_bytes(&line[at + 2..])) {
            headers.append(name, value);
        }
    }
    let said = CREDENTIALS.iter().map(|credential| {
        let policy = Policy::AnyOf(vec![credential.clone()]);
        let taken = |body: &[u8]| {
            let head = RequestHead { now: NOW, ..RequestHead::of_headers(&headers) };
            policy.check_head(&head).and_then(|head| head.check_body(body).map(|_| head.awaits_body()))
        };
        let found = taken(body);
        if found == Ok(true) {
            // Nobody but who knows the key makes such a request, so that all of it comes out of the corpus.
            assert_eq!(body, BODY, "a body that nobody signed is taken");
            assert!(taken(&[body, b" "].concat()).is_err(), "another body is taken");
        }
        match found {
            Ok(_) => "taken",
            Err(denied) => denied.as_str(),
        }
    });
    said.collect::<Vec<_>>().join(", ")
}
