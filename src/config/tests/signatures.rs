//! Credentials of `auth` that are no shown secret, and several secrets for one.

use super::*;
use crate::credential::Credential;

/// The credentials of a source with this entry.
fn credentials(entry: &str) -> Vec<Credential> {
    let desk = Desk::new(&BASE.replace("bearer: { env: IN }", entry)).env("NEW", "new-secret").env("KEY", "whsec_a2V5");
    let inbound::auth::Policy::AnyOf(credentials) = desk.load().config.sources.remove(0).auth else {
        panic!("{entry}")
    };
    credentials
}

/// Signs `{}` at a time with a credential; the headers as they are sent.
fn sent(credential: &Credential) -> String {
    let mut request = http::Request::new(());
    credential.present_with_body(&mut request, b"{}", "msg", crate::clock::WallTime(7_000)).unwrap();
    let mut lines: Vec<String> =
        request.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
    lines.sort();
    lines.join("\n")
}

#[test]
fn a_preset_is_the_same_as_its_keys_written_out() {
    for (preset, written_out) in [
        ("preset: github", "header: X-Hub-Signature-256, prefix: sha256="),
        ("preset: grafana", "header: X-Grafana-Alerting-Signature"),
        (
            "preset: grafana, header: X-Grafana-Alert-Signature, timestamp_header: X-At",
            "header: X-Grafana-Alert-Signature, timestamp_header: X-At, signed: '{timestamp}:{body}'",
        ),
        (
            "preset: slack",
            "header: X-Slack-Signature, prefix: v0=, timestamp_header: X-Slack-Request-Timestamp, tolerance: 5m, \
             signed: 'v0:{timestamp}:{body}'",
        ),
        ("header: X-S", "header: X-S, algorithm: sha256, encoding: hex, prefix: '', signed: '{body}'"),
        ("header: X-S, timestamp_header: X-T", "header: X-S, timestamp_header: X-T, signed: '{timestamp}.{body}'"),
    ] {
        let [preset, written_out] = [preset, written_out].map(|keys| {
            let credentials = credentials(&format!("hmac: {{ {keys}, secret: {{ env: IN }} }}"));
            (sent(&credentials[0]), credentials.len())
        });
        assert_eq!(preset, written_out);
    }
    let odd =
        credentials("hmac: { header: X-S, secret: { env: IN }, algorithm: sha512, encoding: base64, prefix: 'a b' }");
    assert!(sent(&odd[0]).starts_with("x-s: a b") && sent(&odd[0]).ends_with("=="), "{}", sent(&odd[0]));
}

#[test]
fn each_secret_of_a_list_is_good() {
    for (entry, count) in [
        ("bearer: [{ env: IN }, { env: NEW }]", 2),
        ("header: { name: X-Token, secret: [{ env: IN }, { env: NEW }] }", 2),
        ("query: { name: token, secret: [{ env: IN }] }", 1),
        ("basic: { user: me, password: [{ env: IN }, { env: NEW }] }", 2),
        ("basic: { user: me, password: { env: IN } }", 1),
        ("hmac: { preset: github, secret: [{ env: IN }, { env: NEW }] }", 2),
        ("standard_webhooks: { secrets: [{ env: KEY }, { env: KEY }] }", 2),
        ("standard_webhooks: { secrets: { env: KEY } }", 1),
    ] {
        let all = credentials(entry);
        assert_eq!(all.len(), count, "{entry}");
        assert!(all.iter().all(Credential::is_sendable), "{entry}");
    }
}

#[test]
fn what_can_not_be_is_told_where_it_is_and_how_to_mend_it() {
    for (to, expected) in [
        ("hmac: x", "hmac: expected a mapping, found a string"),
        ("hmac: { secret: { env: IN } }", "hmac.header: `header` is required here and missing"),
        ("hmac: { preset: slack }", "hmac.secret: `secret` is required here and missing"),
        ("hmac: { preset: hubspot, secret: { env: IN } }", "hmac.preset: expected one of github, grafana, slack"),
        (
            "hmac: { header: Content-Type, secret: { env: IN } }",
            "hmac.header: this is no name of a header that can carry a signature",
        ),
        (
            "hmac: { preset: github, secret: { sha256: HASH } }",
            "hmac.secret.sha256: a hash can be checked against, but a signature is made with the secret itself",
        ),
        ("hmac: { preset: github, secret: [] }", "hmac.secret: the list is empty"),
        (
            "hmac: { header: X-S, secret: { env: IN }, signed: '{timestamp}' }",
            "hmac.signed: this can't be what is signed: the body is not in it",
        ),
        ("hmac: { header: X-S, secret: { env: IN }, signed: '{id}.{body}' }", "a placeholder that is not known here"),
        ("hmac: { header: X-S, secret: { env: IN }, signed: '{timestamp}.{body}' }", "name it in `timestamp_header`"),
        (
            "hmac: { header: X-S, secret: { env: IN }, timestamp_header: X-T, signed: '{body}' }",
            "the timestamp is not signed",
        ),
        ("hmac: { preset: github, secret: { env: IN }, timestamp_header: X-T }", "the timestamp is not signed"),
        ("hmac: { header: X-S, secret: { env: IN }, tolerance: 5m }", "there is no timestamp that it could be about"),
        ("hmac: { preset: slack, secret: { env: IN }, tolerance: 0s }", "from 1s to 1h"),
        ("hmac: { header: X-S, secret: { env: IN }, prefix: \"a\\n\" }", "can stand before a signature"),
        ("standard_webhooks: { secrets: { env: IN } }", "is no base64, with `whsec_` before it or without"),
        ("standard_webhooks: { secrets: [] }", "the list is empty"),
        ("standard_webhooks: { secret: { env: IN } }", "unknown key `secret`"),
        ("basic: { user: 'a:b', password: { env: IN } }", "basic.user: this is no user that a sender can give"),
        ("basic: { user: me }", "basic.password: `password` is required here and missing"),
        ("certificate: { san: [] }", "certificate.san: the list is empty"),
        ("certificate: { san: sender.example }", "certificate.san: expected a list of names"),
        ("certificate: { san: ['two words'] }", "certificate.san[0]: expected a name in a certificate"),
        ("certificate: { san: [sender.example] }", "`listen.tls.client_ca`"),
        ("bearer: []", "bearer: the list is empty"),
    ] {
        let found = found("bearer: { env: IN }", &to.replace("HASH", &"0".repeat(64)));
        assert!(found.iter().any(|one| one.contains(expected)), "{to}\nexpected: {expected}\nfound: {found:#?}");
    }
    let sent = found("bearer: { env: UP }", "basic: { user: me, password: { env: UP } }");
    assert!(sent.iter().any(|one| one.contains("valid here: bearer, header, query)")), "{sent:?}");
    let several = found("bearer: { env: UP }", "bearer: [{ env: UP }]");
    assert!(several.iter().any(|one| one.contains("expected a secret, found a list")), "{several:?}");
}
