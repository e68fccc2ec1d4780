//! A secret that is written out is shown by nothing, however the file around it is broken.

use super::*;

#[test]
fn a_configuration_in_use_shows_no_secret_either() {
    let text = BASE.replace("{ env: IN }", "CANARY-in").replace("{ env: UP }", "CANARY-up");
    let Loaded { config, warnings, .. } = Desk::new(&text).load();
    let shown = format!("{config:?} {} {} {:?}", warnings.render(true), warnings.to_json(), warnings.lines());
    assert!(!shown.contains("CANARY"), "{shown}");
    assert_eq!(warnings.iter().filter(|warning| warning.code == "secret-written-out").count(), 2, "{shown}");
}

#[test]
fn a_file_with_secrets_that_every_user_may_read_is_told_once() {
    use std::os::unix::fs::PermissionsExt;
    let desk = Desk::new(&BASE.replace("{ env: IN }", "CANARY-in").replace("{ env: UP }", "CANARY-up"));
    for (mode, told) in [(0o644, 1), (0o640, 0), (0o606, 1)] {
        std::fs::set_permissions(&desk.inputs.path, std::fs::Permissions::from_mode(mode)).unwrap();
        let warnings = desk.load().warnings;
        let exposed = warnings.iter().filter(|warning| warning.code == "file-exposed");
        assert_eq!(exposed.count(), told, "{mode:o}: {}", warnings.render(false));
    }
}

/// A configuration with a secret in every slot that can hold one, and in some that can't.
const CANARIES: &str = "\
listen: { address: 127.0.0.1:8443, tls: off }
admin: { address: 127.0.0.1:9180, token: CANARY-admin-1 }
sources:
  s:
    rules: rules.yaml
    auth:
      - bearer: CANARY-bearer-2
      - header: { name: X-Token, secret: \"CANARY-header-3\" }
      - query: { name: token, secret: 'CANARY-query-4' }
      - bearer: |
          CANARY-block-5
      - bearer: [CANARY-first-10, CANARY-second-11]
      - basic: { user: me, password: CANARY-password-12 }
      - hmac: { preset: github, secret: [CANARY-hmac-13] }
      - hmac: { header: X-S, secret: CANARY-hmac-14, timestamp_header: X-T, signed: '{timestamp}.{body}' }
      - standard_webhooks: { secrets: [whsec_CANARY15, CANARY16] }
    respond: queued
upstream:
  url: https://user:CANARY-url-6@up.example/v1?token=CANARY-url-7
  proxy: http://user:CANARY-proxy-8@proxy:3128
  authorization: { bearer: CANARY-upstream-9 }
";

/// Shows neither the canaries nor, in their place, a secret that could be the name of a key.
fn shows_no_canary(text: &str) {
    shows_nothing_of("CANARY", text);
    let canary = regex::Regex::new("CANARY[-a-z0-9]*").unwrap();
    shows_nothing_of("swordfish", &canary.replace_all(text, "swordfish"));
}

fn shows_nothing_of(secret: &str, text: &str) {
    let desk = Desk::new(text);
    let shown = match load(&desk.inputs) {
        Ok(Loaded { config, warnings, .. }) => format!("{}{config:?}", every_form(&warnings)),
        Err(Failure::Invalid(findings)) => every_form(&findings),
        Err(Failure::Unreadable(unreadable)) => unreadable.to_string(),
    };
    assert!(!shown.contains(secret), "{text}\n{shown}");
}

fn every_form(findings: &Findings) -> String {
    format!("{}\n{}\n{}", findings.render(false), findings.to_json(), findings.lines().join("\n"))
}

#[test]
fn a_secret_that_became_a_comment_is_not_shown() {
    let bearer = "      - bearer: { env: IN }\n";
    for to in [
        "      - bearer: # swordfish\n",
        "      - bearer:  # swordfish\n",
        "      - bearer: |\n#          swordfish\n",
        "      - bearer: |\n          # swordfish\n",
        "      - bearer:\n          # swordfish\n",
        "      - # swordfish\n",
        "      - header: { name: X-Token, secret: # swordfish\n        }\n",
    ] {
        shows_nothing_of("swordfish", &BASE.replace(bearer, to));
    }
}

#[test]
fn a_secret_written_as_a_key_is_not_named() {
    let bearer = "      - bearer: { env: IN }\n";
    for to in [
        "      - bearer: { swordfish }\n",
        "      - bearer: { swordfish: x }\n",
        "      - bearer: {{ swordfish }}\n",
        "      - bearer: { swordfish: 1, swordfish: 2 }\n",
        "      - bearer:\n          swordfish: x\n",
        "      - bearer:\n          swordfish: 1\n          swordfish: 2\n",
        "      - bearer: { my-secret-swordfish }\n",
        "      - swordfish: x\n",
        "      - { swordfish }\n",
        "      - header: { swordfish: x }\n",
        "      - bearer: { env: IN }\nadmin: { swordfish }\n",
        "      - bearer: { env: IN }\nadmin: { swordfish, swordfish }\n",
        "      - bearer: { env: IN }\nadmin: { token: {my-secret-swordfish} }\n",
        "      - bearer: { env: IN }\nadmin:\n  token: {\n  swordfish: off }\n",
        "      - bearer: { env: IN }\nadmin:\n  insecure: &x\n    swordfish: 1\n  token: *x\n",
    ] {
        shows_nothing_of("swordfish", &BASE.replace(bearer, to));
    }
}

#[test]
fn a_secret_written_in_place_of_a_variables_name_is_not_shown() {
    let long = "A".repeat(65);
    for secret in ["swordfish", "Sw0rdfish_2", "CANARYfish", &long] {
        for from in ["{ env: IN }", "{ env: UP }"] {
            let text = BASE.replace(from, &format!("{{ env: {secret} }}"));
            shows_nothing_of(secret, &text);
            let findings = Desk::new(&text).findings();
            assert!(findings.has_errors() && findings.render(false).contains("not its value"), "{secret}");
        }
    }
    let named = Desk::new(&BASE.replace("{ env: IN }", "{ env: NOT_SET }")).findings().render(false);
    assert!(named.contains("the environment variable NOT_SET is not set"), "{named}");
}

#[test]
fn a_secret_that_looks_like_a_number_is_not_shown_on_a_line_of_its_own() {
    for secret in ["20240101abc", "123456", "7123456", "007123"] {
        for to in [
            "\n          SECRET",
            "\n          'SECRET'",
            "|\n          SECRET",
            "|\n          SECRET\n          SECRET",
            ">-\n          SECRET\n\n          SECRET",
            "\n          - SECRET",
            "[\n          SECRET ]",
            "{\n          SECRET }",
            "\n          env: SECRET",
            "{ env: SECRET }",
            "\n          file: [SECRET]",
            "\n          port: SECRET",
            "|\n          port: SECRET\n          port: SECRET",
        ] {
            let to = to.replace("SECRET", secret);
            shows_nothing_of(secret, &BASE.replace("{ env: IN }", &to));
            shows_nothing_of(secret, &BASE.replace("{ bearer: { env: UP } }", &to));
        }
    }
}

#[test]
fn a_secret_at_a_wrong_key_is_not_quoted() {
    for (from, to) in [
        ("1MiB", "swordfish"),
        ("1MiB", "12 swordfish"),
        ("max_body: 1MiB", "header_timeout: swordfish"),
        ("max_body: 1MiB", "tls: swordfish"),
        ("max_body: 1MiB", "max_connections: swordfish"),
        ("127.0.0.1:8443", "swordfish"),
        ("127.0.0.1:8443", "':swordfish'"),
        ("127.0.0.1:8443", "localhost:swordfish"),
        ("    auth:", "    respond: swordfish\n    auth:"),
        ("    auth:", "    allow_from: [swordfish]\n    auth:"),
        ("    auth:", "    max_queued: swordfish\n    auth:"),
        ("    auth:", "    rate_limit: { answer: swordfish, burst: swordfish }\n    auth:"),
        ("upstream:", "log: { level: swordfish, format: swordfish }\nupstream:"),
        ("upstream:", "journal: { reserve: swordfish, max_events: swordfish }\nupstream:"),
        ("upstream:", "dedup: { remind: swordfish }\nupstream:"),
        ("https://up.example/v1/process", "swordfish"),
    ] {
        assert!(BASE.contains(from), "{from}");
        shows_nothing_of("swordfish", &BASE.replace(from, to));
    }
}

#[test]
fn a_literal_secret_is_shown_by_no_finding() {
    shows_no_canary(CANARIES);
    for (from, to) in [
        ("bearer: CANARY-bearer-2", "baerer: CANARY-bearer-2"),
        ("bearer: CANARY-bearer-2", "bearer CANARY-bearer-2"),
        ("bearer: CANARY-bearer-2", "CANARY-bearer-2"),
        ("bearer: CANARY-bearer-2", "bearer: [CANARY-bearer-2]"),
        ("bearer: CANARY-bearer-2", "bearer: { env: CANARY-bearer-2! }"),
        ("bearer: CANARY-bearer-2", "bearer: { sha256: CANARY-bearer-2 }"),
        ("bearer: CANARY-bearer-2", "bearer: { value: CANARY-bearer-2 }"),
        ("bearer: CANARY-bearer-2", "bearer: CANARY-bearer-2: x"),
        ("bearer: CANARY-bearer-2", "bearer: *CANARY-bearer-2"),
        ("bearer: CANARY-bearer-2", "bearer: !CANARY-bearer-2 x"),
        ("bearer: CANARY-bearer-2", "bearer: 'CANARY-bearer-2"),
        ("bearer: CANARY-bearer-2", "bearer: a\n        bearer: CANARY-bearer-2"),
        ("bearer: CANARY-bearer-2", "bearer: a\n     CANARY-bearer-2"),
        ("bearer: CANARY-bearer-2", "bearer: {{ CANARY-bearer-2 }}"),
        ("bearer: CANARY-bearer-2", "bearer: { [CANARY-bearer-2]: x }"),
        ("bearer: CANARY-bearer-2", "{ bearer: CANARY-bearer-2 }: x"),
        ("bearer: CANARY-bearer-2", "? { bearer: x }\n        : CANARY-bearer-2"),
        ("bearer: CANARY-bearer-2", "? bearer: CANARY-bearer-2\n        : x"),
        ("authorization: { bearer: CANARY-upstream-9 }", "authorization: { bearer: {{ CANARY-upstream-9 }} }"),
        ("http://user:CANARY-proxy-8@proxy:3128", "ftp://user:CANARY-proxy-8@proxy:3128"),
        ("http://user:CANARY-proxy-8@proxy:3128", "http://user:CANARY-proxy-8@@:x"),
        ("http://user:CANARY-proxy-8@proxy:3128", "{ url: CANARY-proxy-8 }"),
        ("http://user:CANARY-proxy-8@proxy:3128", "{ url: 'http://p:1', credentials: CANARY-proxy-8 }"),
        ("http://user:CANARY-proxy-8@proxy:3128", "{ url: 'http://p:1', credentials: 'u:CANARY-proxy-8' }"),
        ("http://user:CANARY-proxy-8@proxy:3128", "{ url: 'http://p:1', headers: { X-A: \"CANARY\\n\" } }"),
        ("http://user:CANARY-proxy-8@proxy:3128", "{ url: 'http://p:1', headers: { CANARY-proxy-8: x } }"),
        ("token: CANARY-admin-1", "tken: CANARY-admin-1"),
        ("token: CANARY-admin-1", "port: CANARY-admin-1"),
        ("token: CANARY-admin-1 }", "token: CANARY-admin-1"),
        ("address: 127.0.0.1:9180", "address: 1, adress: 2"),
        ("CANARY-block-5", "CANARY-block-5\n         CANARY-block-5"),
        ("authorization: { bearer: CANARY-upstream-9 }", "authorization: CANARY-upstream-9"),
        ("authorization: { bearer: CANARY-upstream-9 }", "authorisation: { bearer: CANARY-upstream-9 }"),
        ("authorization: { bearer: CANARY-upstream-9 }", "authorization: { query: { name: \"CANARY 9\", secret: x } }"),
    ] {
        assert!(CANARIES.contains(from), "{from}");
        shows_no_canary(&CANARIES.replace(from, to));
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig { cases: proptest::prelude::ProptestConfig::default().cases.max(300), ..Default::default() })]

    #[test]
    fn a_literal_secret_is_shown_by_no_finding_however_the_file_is_broken(
        at in 0..CANARIES.len(),
        remove in 0..3_usize,
        insert in "[-a-z:{}\\[\\]&*!|>'\"#%@,? \t\n]{0,2}",
    ) {
        // A break within a canary makes another text of it; what is left of the word must not show either.
        let mut text = CANARIES.to_owned();
        let end = (at + remove).min(text.len());
        if !text[at..end].bytes().any(|b| b.is_ascii_uppercase()) {
            text.replace_range(at..end, &insert);
            shows_no_canary(&text);
        }
    }

    #[test]
    fn no_variable_makes_loading_panic(
        name in "(LISTEN|ADMIN|SOURCES|UPSTREAM|[A-Z]{0,3})(__|_)?(S|ADDRESS|TLS|AUTHORIZATION|TOKEN)?(__[A-Z_]{0,9})*",
        value in "(?s)[\\[\\]{}=,a-z0-9\"'. ]{0,12}|.{0,12}",
        repeated in 0..3_usize,
    ) {
        let value = value.repeat(1 << (7 * repeated));
        let _ = Desk::new(BASE).env(&format!("GANDER_{name}"), &value).findings().render(false);
    }

    #[test]
    fn no_text_makes_loading_panic(text in "(?s).{0,80}") {
        let _ = Desk::new(&text).findings().render(false);
    }
}
