mod canary;
mod confirmation;
mod networks;
mod signatures;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::*;
use crate::delivery::connector::Route;
use crate::event::Superseded;
use crate::journal::{Share, Shares};

/// A folder with a rule file, and the configuration written beside it.
struct Desk {
    folder: tempfile::TempDir,
    inputs: Inputs,
}

impl Desk {
    fn new(text: &str) -> Desk {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("rules.yaml"), RULES).unwrap();
        let path = folder.path().join("gander.yaml");
        std::fs::write(&path, text).unwrap();
        let environment = [("IN", "inbound-secret-of-letters"), ("UP", "upstream-secret"), ("PAIR", "user:pass")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let environment = BTreeMap::from(environment);
        Desk { folder, inputs: Inputs { path, environment, flags: Vec::new(), secrets: Secrets::Required } }
    }

    fn env(mut self, name: &str, value: &str) -> Desk {
        self.inputs.environment.insert(name.into(), value.into());
        self
    }

    fn flag(mut self, name: &str, key: &str, value: &str) -> Desk {
        self.inputs.flags.push(Flag { name: name.into(), key: key.into(), value: value.into() });
        self
    }

    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    }

    fn load(&self) -> Loaded {
        match load(&self.inputs) {
            Ok(loaded) => loaded,
            Err(Failure::Invalid(findings)) => panic!("{}", findings.render(false)),
            Err(Failure::Unreadable(unreadable)) => panic!("{unreadable}"),
        }
    }

    /// Everything found, errors and warnings.
    fn findings(&self) -> Findings {
        match load(&self.inputs) {
            Ok(loaded) => loaded.warnings,
            Err(Failure::Invalid(findings)) => findings,
            Err(Failure::Unreadable(unreadable)) => panic!("{unreadable}"),
        }
    }
}

/// What is found in [`BASE`] with `from` replaced by `to`, as `line:column path: message (help)`.
fn found(from: &str, to: &str) -> Vec<String> {
    assert!(BASE.contains(from), "{from:?} is not in the base");
    listed(&Desk::new(&BASE.replacen(from, to, 1)).findings())
}

fn listed(findings: &Findings) -> Vec<String> {
    let one = |finding: &yaml::Finding| {
        let (line, column) = finding.place.line_column().unwrap_or((0, 0));
        let help = finding.help.as_ref().map_or(String::new(), |help| format!(" ({help})"));
        format!("{line}:{column} {}: {}{help}", finding.path, finding.message)
    };
    findings.iter().map(one).collect()
}

const RULES: &str = "version: 1\nrules: [ { name: all, then: trigger } ]\nincident_key: $.id\n";

const BASE: &str = "\
listen:
  address: 127.0.0.1:8443
  max_body: 1MiB
sources:
  s:
    rules: rules.yaml
    auth:
      - bearer: { env: IN }
upstream:
  url: https://up.example/v1/process
  authorization: { bearer: { env: UP } }
";

#[test]
fn what_the_file_leaves_out_has_the_documented_default() {
    let Loaded { config, warnings, .. } = Desk::new(BASE).load();
    assert!(warnings.is_empty(), "{}", warnings.render(false));
    assert_eq!(config.listen.bodies.bytes_max, 1 << 20);
    assert_eq!(config.listen.limits.connections_max, 10_000);
    assert_eq!(config.listen.limits.header_timeout, Duration::from_secs(10));
    assert_eq!(config.listen.bodies.timeout, Duration::from_secs(10));
    assert_eq!(config.listen.limits.idle_timeout, Duration::from_secs(75));
    let tls = config.listen.tls.unwrap();
    assert_eq!((tls.certificate, tls.private_key), ("certs/server.pem".into(), "certs/server.key".into()));
    assert!(tls.self_signed && tls.client_ca.is_none());
    assert_eq!(config.listen.addresses, crate::server::Addresses::default());
    assert_eq!(config.admin.address.to_string(), "127.0.0.1:9180");
    assert!(config.admin.token.is_none() && config.admin.tls.is_none());
    let source = &config.sources[0];
    assert_eq!((source.rate_limit.per_second.get(), source.rate_limit.burst.get()), (2_000, 20_000));
    assert_eq!(source.rate_limit.answer, inbound::limits::OverLimit::ServiceUnavailable);
    assert_eq!((source.respond, source.respond_timeout), (inbound::Respond::Queued, Duration::from_secs(10)));
    assert!(source.from.is_none() && source.allow_from.is_empty());
    assert_eq!((config.upstream.timeout, config.upstream.concurrency), (Duration::from_secs(10), 16));
    assert_eq!((config.dispatch.per_second.get(), config.dispatch.burst.get()), (20, 40));
    let retry = config.dispatch.retry;
    assert_eq!((retry.initial, retry.factor), (Duration::from_millis(500), 2.0));
    assert_eq!((retry.max, retry.give_up_after), (Duration::from_secs(60), Duration::from_secs(86_400)));
    assert_eq!(config.dispatch.stale, None);
    assert_eq!(config.dedup, dedup::Settings { window: Duration::from_secs(600), remind: true, max_keys: 1_000_000 });
    assert_eq!(
        config.journal,
        journal::Config {
            data_dir: "data".into(),
            max_events: 1_000_000,
            max_bytes: 4 << 30,
            keep_delivered: Duration::from_secs(7 * 86_400),
            keep_refused: 10_000,
            shares: Shares::new([("s".into(), Share::Auto)]),
            reserve: None,
        }
    );
    assert_eq!(config.log.level, tracing::Level::INFO);
}

#[test]
fn the_shipped_file_tells_the_truth_about_every_default() {
    let shipped = include_str!("../../config/gander.yaml");
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/config/rules/servicepilot.yaml");
    let shipped = shipped.replace("rules/servicepilot.yaml", rules);
    let load = |text: &str| {
        let desk = Desk::new(text).env("SERVICEPILOT_TOKEN", "a-secret-of-many-letters").env("CALLGOOSE_TOKEN", "b");
        let Loaded { config, warnings, .. } = desk.load();
        assert!(warnings.is_empty(), "{}", warnings.render(false));
        format!("{config:#?}")
    };
    // `# key: value` is a default that is commented out; prose begins otherwise.
    let is_key = |text: &str| {
        let (key, _) = text.trim_start().split_once(':')?;
        (!key.is_empty() && key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')).then_some(())
    };
    let mut uncommented = 0;
    let written_out = shipped.lines().map(|line| match line.split_once("# ") {
        Some((indent, text)) if indent.trim().is_empty() && is_key(text).is_some() => {
            uncommented += 1;
            format!("{indent}{text}\n")
        }
        _ => format!("{line}\n"),
    });
    let written_out = written_out.collect::<String>();
    assert_eq!(load(&shipped), load(&written_out));
    for key in [
        "client_ca",
        "names",
        "more",
        "profile",
        "insecure",
        "max_body",
        "max_connections",
        "max_connections_per_address",
        "max_connection_age",
        "header_timeout",
        "body_timeout",
        "idle_timeout",
        "allow_from",
        "rate_limit",
        "respond",
        "respond_timeout",
        "timeout",
        "concurrency",
        "proxy",
        "addresses",
        "client_certificate",
        "client_key",
        "server_name",
        "min_version",
        "retry",
        "ca",
        "window",
        "remind",
        "stale",
        "max_keys",
        "max_events",
        "max_bytes",
        "keep_delivered",
        "keep_refused",
        "reserve",
        "level",
        "format",
        "token",
        "hosts",
        "trusted_proxies",
        "proxy_protocol",
    ] {
        assert!(written_out.contains(&format!(" {key}: ")), "{key} is not documented");
    }
    assert!(uncommented >= 30, "{uncommented}");
}

#[test]
fn each_mistake_is_told_where_it_is_and_how_to_mend_it() {
    for (from, to, expected) in [
        // Unknown keys name the nearest known one.
        ("address:", "adress:", "2:3 listen.adress: unknown key `adress` (did you mean `address`?)"),
        ("listen:", "listn:", "1:1 listn: unknown key `listn` (did you mean `listen`?)"),
        ("    auth:", "    aut:", "7:5 sources.s.aut: unknown key `aut` (did you mean `auth`?)"),
        (
            "bearer: { env",
            "baerer: { env",
            "8:9 sources.s.auth[0].baerer: unknown key `baerer` (did you mean `bearer`?)",
        ),
        // Wrong types and values.
        (
            "127.0.0.1:8443",
            "8443",
            "2:12 listen.address: expected an IP address and a port, found 8443 (write 0.0.0.0:8443 or [::]:8443)",
        ),
        (
            "127.0.0.1:8443",
            "localhost:8443",
            "2:12 listen.address: expected an IP address and a port, found a string (write 127.0.0.1:8443)",
        ),
        (
            "1MiB",
            "1 mega",
            "3:13 listen.max_body: expected a size such as 256KiB or 4GiB, from 64B to 64MiB, found a string",
        ),
        (
            "1MiB",
            "1GiB",
            "3:13 listen.max_body: expected a size such as 256KiB or 4GiB, from 64B to 64MiB, found `1GiB`",
        ),
        ("1MiB", "0", "3:13 listen.max_body: expected a size such as 256KiB or 4GiB, from 64B to 64MiB, found 0"),
        (
            "max_body: 1MiB",
            "body_timeout: 0s",
            "3:17 listen.body_timeout: expected a duration such as 10s, 5m or 7d, from 1ms to 1h, found `0s`",
        ),
        (
            "max_body: 1MiB",
            "body_timeout: 10",
            "3:17 listen.body_timeout: expected a duration such as 10s, 5m or 7d, from 1ms to 1h, found 10",
        ),
        (
            "max_body: 1MiB",
            "tls: { self_signed: yes }",
            "3:23 listen.tls.self_signed: expected true or false, found the text `yes` \
             (only `true` and `false` are booleans here)",
        ),
        (
            "max_body: 1MiB",
            "tls: false",
            "3:8 listen.tls: expected a mapping with `certificate` and `private_key`, or `off`, found a boolean \
             (`tls: off` is plain HTTP)",
        ),
        (
            "listen:\n  address: 127.0.0.1:8443\n  max_body: 1MiB",
            "listen: x",
            "1:9 listen: expected a mapping, found a string",
        ),
        (
            "1MiB",
            "1MiB\nlog: { level: inf }",
            "4:15 log.level: expected one of error, warn, info, debug, trace, found `inf` (did you mean `info`?)",
        ),
        (
            "1MiB",
            "1MiB\ndedup: { max_keys: 0 }",
            "4:20 dedup.max_keys: expected a whole number from 1 to 100000000, found 0",
        ),
        (
            "1MiB",
            "1MiB\njournal: { max_bytes: 1KiB }",
            "4:23 journal.max_bytes: expected a size such as 256KiB or 4GiB, from 1MiB to 16TiB, found `1KiB`",
        ),
        (
            "1MiB",
            "1MiB\njournal: { reserve: 1KiB }",
            "4:21 journal.reserve: expected `auto`, or a size such as 256KiB or 4GiB, from 1MiB to 1TiB, found `1KiB`",
        ),
        ("1MiB", "1MiB\ndata_dir: ''", "4:11 data_dir: expected a path, found an empty text"),
        // The way to the upstream.
        (
            "  url:",
            "  proxy: socks4://proxy.example:1080\n  url:",
            "10:10 upstream.proxy: expected a URL that begins with http://, https://, socks5:// or socks5h:// (did you mean `socks5`?)",
        ),
        (
            "  url:",
            "  proxy: http://proxy.example:port\n  url:",
            "10:10 upstream.proxy: this is not the URL of a proxy (such as http://proxy.example:3128 or socks5h://proxy.example:1080; special characters in credentials as %40)",
        ),
        (
            "  url:",
            "  proxy: false\n  url:",
            "10:10 upstream.proxy: expected a URL, a mapping or `off`, found a boolean (such as http://proxy.example:3128 or socks5h://proxy.example:1080; special characters in credentials as %40)",
        ),
        (
            "  url:",
            "  proxy: { urll: 'http://p:1', url: 'http://p:1' }\n  url:",
            "10:12 upstream.proxy.urll: unknown key `urll` (did you mean `url`?)",
        ),
        (
            "  url:",
            "  proxy: socks5://user@p:1\n  url:",
            "10:10 upstream.proxy: a SOCKS5 proxy takes a user and a password of 1 to 255 bytes each",
        ),
        (
            "  url:",
            "  proxy: http://a%3Ab:c@p:1\n  url:",
            "10:10 upstream.proxy: a user name of a proxy can't hold a colon (such as http://proxy.example:3128 or socks5h://proxy.example:1080; special characters in credentials as %40)",
        ),
        ("  url:", "  proxy: {}\n  url:", "10:10 upstream.proxy.url: `url` is required here and missing"),
        (
            "  url:",
            "  proxy: { url: 'http://p:1', credentials: { env: IN } }\n  url:",
            "10:51 upstream.proxy.credentials.env: the value of the environment variable IN has no `:` between user and password \
             (set it in the environment of this command, or use { file: PATH })",
        ),
        (
            "  url:",
            "  proxy: { url: 'socks5://p:1', headers: { X-Team: a } }\n  url:",
            "10:42 upstream.proxy.headers: `headers` has an effect with a proxy of http:// and https:// only",
        ),
        (
            "  url:",
            "  proxy: { url: 'http://p:1', headers: { Proxy-Authorization: a } }\n  url:",
            "10:42 upstream.proxy.headers: this is no name of a header that can be added to CONNECT (such as X-Team; credentials are a key of their own)",
        ),
        (
            "  url:",
            "  addresses: [10.0.0.1]\n  url:",
            "10:15 upstream.addresses[0]: expected a host and a port, found `10.0.0.1` (write [10.0.0.1:443, egress.example:443]; an IPv6 address as '[::1]:443')",
        ),
        (
            "  url:",
            "  tls: { min_version: 1.1 }\n  url:",
            "10:23 upstream.tls.min_version: expected one of 1.2, 1.3, found `1.1` (did you mean `1.2`?)",
        ),
        (
            "  url:",
            "  tls: { client_key: a.key }\n  url:",
            "10:22 upstream.tls.client_key: `client_certificate` is missing beside it (a certificate is shown with the key that belongs to it)",
        ),
        (
            "  url:",
            "  tls: { server_name: 'a b' }\n  url:",
            "10:23 upstream.tls.server_name: no certificate can be for this name (expected a host name or an IP address)",
        ),
        // Where one can listen, and how.
        (
            "127.0.0.1:8443",
            "0.0.0.0:8443\n  tls: off",
            "3:8 listen.tls: plain HTTP on 0.0.0.0:8443 would let others read tokens and alerts \
             (remove `tls: off`, listen on 127.0.0.1, or write `insecure: true` beside it)",
        ),
        (
            "1MiB",
            "1MiB\nadmin: { hosts: gander.svc }",
            "4:17 admin.hosts: expected a list of names, found a string (such as [gander.monitoring.svc, 192.0.2.7]: \
             as a client names this host, without scheme and port)",
        ),
        (
            "1MiB",
            "1MiB\nadmin: { hosts: ['gander.svc:9180'] }",
            "4:18 admin.hosts[0]: expected a host's name or an address, found a string (such as \
             [gander.monitoring.svc, 192.0.2.7]: as a client names this host, without scheme and port)",
        ),
        ("1MiB", "1MiB\nadmin: { host: [gander.svc] }", "4:10 admin.host: unknown key `host` (did you mean `hosts`?)"),
        (
            "1MiB",
            "1MiB\nadmin: { address: 0.0.0.0:8443 }",
            "4:19 admin.address: 0.0.0.0:8443 is taken by listen.address (127.0.0.1:8443) (give one of them another port)",
        ),
        (
            "1MiB",
            "1MiB\nadmin: { address: 10.0.0.1:9180, insecure: true }",
            "4:19 admin.token: 10.0.0.1:9180 can be reached from outside without a token \
             (set `token`, or use an address on loopback such as 127.0.0.1:9180)",
        ),
        (
            "1MiB",
            "1MiB\nadmin: { address: 10.0.0.1:9180, token: { env: IN } }",
            "4:19 admin.tls: plain HTTP on 10.0.0.1:9180 would let others read the token \
             (set `tls`, use an address on loopback, or write `insecure: true` beside it)",
        ),
        // Sources.
        (
            "  s:\n",
            "  'a/b':\n",
            "5:3 sources.a/b: a source's name is the last part of its URL (use 1 to 64 letters, digits, `.`, `_` and `-`, beginning with a letter or digit)",
        ),
        (
            "  s:\n",
            "  S: { rules: rules.yaml, auth: none }\n  s:\n",
            "6:3 sources: two sources differ only in capitals: `S` and `s`",
        ),
        (
            "    auth:\n      - bearer: { env: IN }\n",
            "",
            "5:3 sources.s.auth: `auth` is required here and missing: who may send? (write `auth: [ { bearer: { env: NAME } } ]`; `auth: none` lets in everyone who can reach this address)",
        ),
        (
            "    auth:\n      - bearer: { env: IN }",
            "    auth: []",
            "7:11 sources.s.auth: nobody could send: the list is empty (write `auth: [ { bearer: { env: NAME } } ]`; `auth: none` lets in everyone who can reach this address)",
        ),
        ("    rules: rules.yaml\n", "", "5:3 sources.s.rules: `rules` is required here and missing"),
        (
            "bearer: { env: IN }",
            "header: { name: 'X Token', secret: { env: IN } }",
            "8:25 sources.s.auth[0].header.name: this is no name of a header that can carry a secret (such as X-Webhook-Token)",
        ),
        (
            "bearer: { env: IN }",
            "header: { name: Host, secret: { env: IN } }",
            "8:25 sources.s.auth[0].header.name: this is no name of a header that can carry a secret (such as X-Webhook-Token)",
        ),
        (
            "bearer: { env: IN }",
            "header: { name: TraceParent, secret: { env: IN } }",
            "8:25 sources.s.auth[0].header.name: this is no name of a header that can carry a secret (such as X-Webhook-Token)",
        ),
        (
            "bearer: { env: IN }",
            "query: { secret: { env: IN } }",
            "8:16 sources.s.auth[0].query.name: `name` is required here and missing",
        ),
        (
            "rules.yaml\n",
            "rules.yaml\n    allow_from: [10.0.0.0/33]\n",
            "7:18 sources.s.allow_from[0]: expected a network in CIDR notation or an address, found `10.0.0.0/33` (such as 10.0.0.0/8, 192.0.2.7 or 2001:db8::/32)",
        ),
        (
            "rules.yaml\n",
            "rules.yaml\n    rate_limit: { per_second: 0 }\n",
            "7:31 sources.s.rate_limit.per_second: expected a whole number from 1 to 10000000, found 0",
        ),
        (
            "rules.yaml\n",
            "rules.yaml\n    rate_limit: { answer: 500 }\n",
            "7:27 sources.s.rate_limit.answer: expected 429 or 503, found 500 (many senders retry a 503 and give up on a 429)",
        ),
        (
            "rules.yaml\n",
            "rules.yaml\n    respond: delivred\n",
            "7:14 sources.s.respond: expected one of queued, delivered, found `delivred` (did you mean `delivered`?)",
        ),
        (
            "rules.yaml\n",
            "rules.yaml\n    rate_limit: { answer: [429] }\n",
            "7:27 sources.s.rate_limit.answer: expected 429 or 503, found a list (many senders retry a 503 and give up on a 429)",
        ),
        (
            "bearer: { env: IN }",
            "digest: x",
            "8:9 sources.s.auth[0].[hidden]: unknown key `[hidden]` (valid here: bearer, header, query, basic, hmac, standard_webhooks, certificate)",
        ),
        // Secrets.
        ("{ env: IN }", "{ envi: IN }", "8:19 sources.s.auth[0].bearer.envi: unknown key `envi` (did you mean `env`?)"),
        (
            "{ env: IN }",
            "{ env: NOT_SET }",
            "8:24 sources.s.auth[0].bearer.env: the environment variable NOT_SET is not set (set it in the environment of this command, or use { file: PATH })",
        ),
        (
            "{ env: IN }",
            "{ env: IN, file: x }",
            "8:17 sources.s.auth[0].bearer: expected exactly one of `env`, `file` and `sha256` (write { env: NAME } or { file: PATH })",
        ),
        (
            "{ env: IN }",
            "{ file: /no/such/file }",
            "8:25 sources.s.auth[0].bearer.file: the secret file /no/such/file can't be used: no such file (the file holds the secret alone, readable by the relay's user)",
        ),
        (
            "{ env: IN }",
            "{ sha256: abc }",
            "8:27 sources.s.auth[0].bearer.sha256: expected a SHA-256 as 64 hexadecimal digits (printf %s \"$TOKEN\" | sha256sum)",
        ),
        (
            "{ env: IN }",
            "written-out",
            "8:17 sources.s.auth[0].bearer: a secret is written out in this file (write { env: NAME } or { file: PATH })",
        ),
        (
            "{ env: IN }",
            "${IN}",
            "8:17 sources.s.auth[0].bearer: variables are not expanded here (write { env: NAME })",
        ),
        (
            "{ env: IN }",
            "12345",
            "8:17 sources.s.auth[0].bearer: expected a secret, found a number (write { env: NAME } or { file: PATH })",
        ),
        (
            "{ env: UP }",
            "{ sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 }",
            "11:38 upstream.authorization.bearer.sha256: a hash can be checked against, but this secret must be sent (write { env: NAME } or { file: PATH })",
        ),
        // The upstream.
        ("  url: https://up.example/v1/process\n", "", "9:1 upstream.url: `url` is required here and missing"),
        (
            "https://up.example/v1/process",
            "ftp://up.example",
            "10:8 upstream.url: expected a URL that begins with https:// or http:// (such as https://sqibs.callgoose.com/sqibs-api/v1/process)",
        ),
        (
            "https://up.example/v1/process",
            "up.example/v1",
            "10:8 upstream.url: this is not a URL (such as https://sqibs.callgoose.com/sqibs-api/v1/process)",
        ),
        (
            "https://up.example/v1/process",
            "https://up.example:99999/v1",
            "10:8 upstream.url: expected a host, and a port from 1 to 65535 or none (such as https://sqibs.callgoose.com/sqibs-api/v1/process)",
        ),
        (
            "https://up.example/v1/process",
            "https://up.example:/v1",
            "10:8 upstream.url: expected a host, and a port from 1 to 65535 or none (such as https://sqibs.callgoose.com/sqibs-api/v1/process)",
        ),
        (
            "https://up.example/v1/process",
            "http://127.0.0.1:8090/v1\n  addresses: ['10.0.0.5:80']",
            "10:8 upstream.url: token and alerts would travel unencrypted by http:// (use https://, or write `insecure: true` beside it for a network of your own)",
        ),
        (
            "https://up.example/v1/process",
            "http://localhost:8090/v1\n  proxy: http://proxy.example:3128",
            "10:8 upstream.url: token and alerts would travel unencrypted by http:// (use https://, or write `insecure: true` beside it for a network of your own)",
        ),
        (
            "https://up.example/v1/process",
            "https://u:p@up.example/",
            "10:8 upstream.url: a URL here carries no user name or password (write the token as `authorization: { bearer: { env: NAME } }`)",
        ),
        (
            "https://up.example/v1/process",
            "https://up.example/?token=x",
            "10:8 upstream.url: a URL here ends with its path (`from` is a key of the source; a token is written as `authorization: { query: { name: token, secret: { env: NAME } } }` or, better, `bearer`)",
        ),
        (
            "https://up.example/v1/process",
            "http://up.example/v1",
            "10:8 upstream.url: token and alerts would travel unencrypted by http:// (use https://, or write `insecure: true` beside it for a network of your own)",
        ),
        (
            "  authorization: { bearer: { env: UP } }\n",
            "",
            "9:1 upstream.authorization: `authorization` is required here and missing",
        ),
        (
            "bearer: { env: UP }",
            "bearer: { env: UP }, header: { name: a, secret: { env: UP } }",
            "11:18 upstream.authorization: expected exactly one of `bearer`, `header` and `query`",
        ),
        (
            "  url:",
            "  timeout: 0s\n  url:",
            "10:12 upstream.timeout: expected a duration such as 10s, 5m or 7d, from 1ms to 10m, found `0s`",
        ),
        (
            "  url:",
            "  retry: { initial: 2m }\n  url:",
            "10:21 upstream.retry: `initial` (2m) is longer than `max` (1m) (the first wait is `initial`, and it grows up to `max`)",
        ),
        (
            "  url:",
            "  retry: { factor: 0.5 }\n  url:",
            "10:20 upstream.retry.factor: expected a number from 1 to 10, found 0.5",
        ),
        (
            "  url:",
            "  concurrency: 0\n  url:",
            "10:16 upstream.concurrency: expected a whole number from 1 to 1024, found 0",
        ),
        // YAML itself.
        (
            "  url:",
            "  url: x\n  url:",
            "11:3 : the key `url` is written twice (it stands in line 10 already; keep one of them)",
        ),
    ] {
        let found = found(from, to);
        assert!(found.iter().any(|one| one == expected), "{to}\nexpected: {expected}\nfound: {found:#?}");
    }
}

#[test]
fn a_variable_holds_a_list_or_a_mapping() {
    for auth in ["[{bearer={env=OTHER}}]", "[{ bearer = { env = OTHER } }]"] {
        let desk = Desk::new(BASE).env("GANDER_SOURCES__S__AUTH", auth).env("OTHER", "other-secret");
        let config = desk.load().config;
        let inbound::auth::Policy::AnyOf(credentials) = &config.sources[0].auth else { panic!("{auth}") };
        let crate::credential::Credential::Bearer(secret) = &credentials[0] else { panic!("{auth}") };
        assert!(secret.matches(b"other-secret"), "{auth}");
    }
    for text in ["[::1]:1", "{", "'a", "a=b"] {
        let found = listed(&Desk::new(BASE).env("GANDER_SOURCES__S__RESPOND", text).findings());
        assert!(found[0].contains(&format!("found `{text}`")), "{found:?}");
    }
}

#[test]
fn a_variable_with_escapes_beside_other_letters_is_read_as_it_is() {
    for value in ["\"é\\n\"", "\"🕴🕴b\\n\"", "[\"é\\t\"]"] {
        let findings = Desk::new(BASE).env("GANDER_SOURCES__S__RESPOND", value).findings();
        assert!(listed(&findings)[0].contains(&format!("found `{value}`")), "{:?}", listed(&findings));
    }
}

#[test]
fn one_mistake_is_one_error() {
    for wrong in [
        "digest: x",
        "hmac: { preset: slak, secret: { env: IN } }",
        "bearer: { envi: IN }",
        "header: { nam: X, secret: { env: IN }, name: Y }",
    ] {
        let found = found("bearer: { env: IN }", wrong);
        assert_eq!(found.len(), 1, "{wrong}: {found:?}");
    }
}

#[test]
fn a_strangers_variable_does_not_hide_that_something_is_missing() {
    let text = BASE.replace("authorization: { bearer: { env: UP } }", "authorization: {}");
    let findings = Desk::new(&text).env("GANDER_UPSTREAM__AUTHORIZATION__SERVICE", "x").findings();
    assert!(findings.has_errors(), "{:?}", listed(&findings));
}

#[test]
fn a_data_directory_that_run_could_not_use_is_found_before() {
    let desk = Desk::new(BASE);
    let file = desk.file("plain", "no directory");
    let theirs = desk.folder.path().to_owned();
    let empty = tempfile::tempdir().unwrap();
    for (data_dir, problem) in [
        ("~/gander".to_owned(), Some("`~` is not expanded here")),
        (file.display().to_string(), Some("is no directory")),
        (file.join("deep/data").display().to_string(), Some("is no directory")),
        (theirs.display().to_string(), Some("none of them is gander's")),
        (theirs.join("deep/data").display().to_string(), None),
        (empty.path().display().to_string(), None),
    ] {
        let desk = Desk::new(&format!("{BASE}data_dir: '{data_dir}'\n"));
        let found = listed(&desk.findings());
        match problem {
            None => assert!(found.is_empty(), "{data_dir}: {found:?}"),
            Some(problem) => {
                assert_eq!(found.len(), 1, "{data_dir}: {found:?}");
                assert!(found[0].starts_with("12:11 data_dir: ") && found[0].contains(problem), "{found:?}");
                assert!(found[0].ends_with(')'), "with a remedy: {found:?}");
            }
        }
        assert!(!theirs.join("deep").exists(), "nothing is written");
    }
}

#[test]
fn a_source_takes_what_is_free_unless_it_has_a_share() {
    let with = |line: &str| Desk::new(&BASE.replace("    auth:", &format!("    max_queued: {line}\n    auth:")));
    let shares = |desk: Desk| {
        let config = desk.load().config;
        let share = config.sources[0].max_queued;
        assert_eq!(config.journal.shares, Shares::new([(Arc::clone(&config.sources[0].name), share)]));
        share
    };
    for (written, expected) in [
        ("~", Share::Auto),
        ("auto", Share::Auto),
        ("1%", Share::Percent(1)),
        ("30%", Share::Percent(30)),
        ("'100%'", Share::Percent(100)),
    ] {
        assert_eq!(shares(with(written)), expected, "{written}");
    }
    for wrong in ["0%", "101%", "30", "0.3", "30.5%", "half", "030%", "+5%", "''", "[30%]", "true"] {
        let found = listed(&with(wrong).findings());
        assert_eq!(found.len(), 1, "{wrong}: {found:?}");
        assert!(found[0].contains("max_queued: expected auto, or a share from 1% to 100%, found "), "{found:?}");
        assert!(found[0].contains("30%: that much of"), "{found:?}");
    }
    let found = listed(&Desk::new(&BASE.replace("    auth:", "    max_queud: auto\n    auth:")).findings());
    assert!(found[0].contains("(did you mean `max_queued`?)"), "{found:?}");
}

#[test]
fn an_address_may_have_as_many_connections_as_there_is_room_for_or_a_number() {
    let with = |value: &str| {
        Desk::new(&BASE.replace("listen:\n", &format!("listen:\n  max_connections_per_address: {value}\n")))
    };
    for (written, expected) in [("~", None), ("auto", None), ("1", Some(1)), ("1000000", Some(1_000_000))] {
        assert_eq!(with(written).load().config.listen.limits.connections_of_address_max, expected, "{written}");
    }
    for wrong in ["0", "1000001", "-1", "1.5", "10%", "none", "[1]"] {
        let found = listed(&with(wrong).findings());
        assert_eq!(found.len(), 1, "{wrong}: {found:?}");
        let expected = "max_connections_per_address: expected auto, or a whole number from 1 to 1000000, found ";
        assert!(found[0].contains(expected) && found[0].contains("Behind NAT"), "{found:?}");
    }
}

#[test]
fn a_source_takes_json_by_post_and_more_where_it_says_so() {
    let with = |lines: &str| Desk::new(&BASE.replace("    auth:", &format!("    {lines}\n    auth:")));
    let taken = |lines: &str| {
        let mut config = with(lines).load().config;
        let source = config.sources.remove(0);
        let handshake = source.handshake.map(|handshake| (handshake.path.to_string(), handshake.member));
        (source.accept.form, source.accept.gzip, source.probes, handshake)
    };
    let echo = |member: Option<&str>| Some(("$.challenge".to_owned(), member.map(str::to_owned)));
    for (lines, expected) in [
        ("from: S", (false, false, false, None)),
        ("accept: [json]", (false, false, false, None)),
        ("accept: [form, json]", (true, false, false, None)),
        ("accept: ~\n    accept_encoding: []\n    probe: refuse\n    handshake: ~", (false, false, false, None)),
        ("accept_encoding: [gzip]", (false, true, false, None)),
        ("probe: ok", (false, false, true, None)),
        ("handshake: { path: $.challenge }", (false, false, false, echo(None))),
        ("handshake: { path: $.challenge, member: code }", (false, false, false, echo(Some("code")))),
    ] {
        assert_eq!(taken(lines), expected, "{lines}");
    }
    for (line, finding) in [
        ("accept: [form]", "7:13 sources.s.accept: JSON is always taken: `json` has to be in the list"),
        ("accept: form", "7:13 sources.s.accept: expected a list, found a string (of these: [json, form])"),
        ("accept: [json, xml]", "7:20 sources.s.accept[1]: expected one of json, form, found "),
        ("accept_encoding: [gzp]", "7:23 sources.s.accept_encoding[0]: expected one of gzip, found "),
        ("probe: yes please", "7:12 sources.s.probe: expected one of refuse, ok, found "),
        ("handshake: {}", "7:16 sources.s.handshake.path: "),
        ("handshake: { path: challenge }", "7:24 sources.s.handshake.path: "),
        ("handshake: { path: $ }", "7:24 sources.s.handshake.path: `$` is the payload itself"),
        ("handshake: { path: $$ }", "7:24 sources.s.handshake.path: `$$` is the payload itself"),
        ("handshake: { path: $.a, member: '' }", "7:37 sources.s.handshake.member: a member's name can't be blank"),
        ("handshake: { path: $.a, member: ' ' }", "7:37 sources.s.handshake.member: a member's name can't be blank"),
        ("handshake: { path: $.a, members: b }", "(did you mean `member`?)"),
        ("acept: [json]", "(did you mean `accept`?)"),
    ] {
        let found = listed(&with(line).findings());
        assert!(found.len() == 1 && found[0].contains(finding), "{line}: {found:?}");
    }
}

#[test]
fn what_is_superseded_is_sent_unless_it_is_said_to_end() {
    let superseded = |desk: Desk| desk.load().config.dispatch.superseded;
    let with = |section: &str| Desk::new(&format!("{BASE}delivery: {section}\n"));
    for (section, expected) in [
        ("~", Superseded::Send),
        ("{ superseded: ~ }", Superseded::Send),
        ("{ superseded: send }", Superseded::Send),
        ("{ superseded: end }", Superseded::End),
        ("{ superseded: end, stale: { trigger: 6h } }", Superseded::End),
    ] {
        assert_eq!(superseded(with(section)), expected, "{section}");
    }
    assert_eq!(superseded(Desk::new(BASE).env("GANDER_DELIVERY__SUPERSEDED", "end")), Superseded::End);
    for (section, expected) in [
        (
            "{ superseded: ende }",
            "12:25 delivery.superseded: expected one of send, end, found `ende` (did you mean `end`?)",
        ),
        ("{ superseded: true }", "12:25 delivery.superseded: expected one of send, end, found true"),
        ("{ superseeded: end }", "12:13 delivery.superseeded: unknown key `superseeded` (did you mean `superseded`?)"),
    ] {
        assert_eq!(listed(&with(section).findings()), [expected], "{section}");
    }
}

#[test]
fn the_self_check_is_off_unless_it_names_a_source() {
    let section = |line: &str| Desk::new(&format!("{BASE}{line}\n")).load().config.self_check.map(|one| one.settings);
    assert_eq!(section(""), None);
    assert_eq!(section("self_check: ~"), None);
    let settings = section("self_check: { source: s }").unwrap();
    assert_eq!((settings.every, settings.limit), (Duration::from_secs(900), Duration::from_secs(300)));
    assert_eq!(settings.trigger["servicepilot_event_id"], settings.resolve["servicepilot_event_id"]);
    let settings = section("self_check: { source: s, every: 1h, limit: 1m, trigger: { a: 1 }, resolve: { a: [x] } }");
    let settings = settings.unwrap();
    assert_eq!((settings.every, settings.limit), (Duration::from_secs(3_600), Duration::from_secs(60)));
    assert_eq!(
        (settings.trigger.to_string(), settings.resolve.to_string()),
        (r#"{"a":1}"#.into(), r#"{"a":["x"]}"#.into())
    );
    for (line, path, message) in [
        ("self_check: { every: 15m }", "self_check.source", "`source` is required here and missing"),
        (
            "self_check: { source: other }",
            "self_check.source",
            "expected the name of a source, found `other`; there are ",
        ),
        ("self_check: { source: s, every: 10ms }", "self_check.every", "expected a duration such as "),
        ("self_check: { source: s, limit: 2d }", "self_check.limit", "expected a duration such as "),
        (
            "self_check: { source: s, trigger: x }",
            "self_check.trigger",
            "expected a payload as a mapping, found a string",
        ),
        ("self_check: { source: s, evry: 15m }", "self_check.evry", "unknown key `evry`"),
        // It goes, and is not what one wants.
        ("self_check: { source: s, every: 5s }", "self_check.every", "each round is two events"),
    ] {
        let findings = Desk::new(&format!("{BASE}{line}\n")).findings();
        let found: Vec<_> = findings.iter().collect();
        let [found] = found[..] else { panic!("{line}: {}", findings.render(false)) };
        assert!(found.path == path && found.message.starts_with(message), "{line}: {}", findings.render(false));
        assert_eq!(findings.has_errors(), !line.contains("5s"), "{line}");
    }
}

#[test]
fn staleness_is_off_unless_it_says_after_how_long() {
    use crate::delivery::staleness::{Settings, Then};
    let stale = |desk: Desk| desk.load().config.dispatch.stale;
    let with = |section: &str| Desk::new(&format!("{BASE}delivery: {section}\n"));
    let settings = |hours: u64, then| Some(Settings { trigger: Duration::from_secs(hours * 3_600), then });
    for (section, expected) in [
        ("~", None),
        ("{}", None),
        ("{ stale: ~ }", None),
        ("{ stale: { trigger: 6h } }", settings(6, Then::Mark)),
        ("{ stale: { trigger: 6h, do: ~ } }", settings(6, Then::Mark)),
        ("{ stale: { trigger: 1d, do: mark } }", settings(24, Then::Mark)),
        ("{ stale: { trigger: 2h, do: end } }", settings(2, Then::End)),
    ] {
        assert_eq!(stale(with(section)), expected, "{section}");
    }
    let by_variable =
        Desk::new(BASE).env("GANDER_DELIVERY__STALE__TRIGGER", "3h").env("GANDER_DELIVERY__STALE__DO", "end");
    assert_eq!(stale(by_variable), settings(3, Then::End));
    let laid_over = with("{ stale: { trigger: 6h } }").flag("--set", "delivery.stale.do", "end");
    assert_eq!(stale(laid_over), settings(6, Then::End));

    let section = "delivery.stale";
    let range = "expected a duration such as 10s, 5m or 7d, from 1ms to 365d, found";
    for (stale, expected) in [
        ("{}", format!("12:20 {section}.trigger: `trigger` is required here and missing")),
        ("{ trigger: ~ }", format!("12:20 {section}.trigger: `trigger` is required here and missing")),
        ("{ do: end }", format!("12:20 {section}.trigger: `trigger` is required here and missing")),
        ("{ trigger: 0s }", format!("12:31 {section}.trigger: {range} `0s`")),
        ("{ trigger: 400d }", format!("12:31 {section}.trigger: {range} `400d`")),
        ("{ trigger: 6 }", format!("12:31 {section}.trigger: {range} 6")),
        (
            "{ trigger: 6h, do: drop }",
            format!("12:39 {section}.do: expected one of mark, end, found a string (valid here: mark, end)"),
        ),
        (
            "{ trigger: 6h, do: endd }",
            format!("12:39 {section}.do: expected one of mark, end, found `endd` (did you mean `end`?)"),
        ),
        ("{ trigger: 6h, then: end }", format!("12:35 {section}.then: unknown key `then` (valid here: trigger, do)")),
        ("6h", format!("12:20 {section}: expected a mapping, found a string")),
    ] {
        assert_eq!(listed(&with(&format!("{{ stale: {stale} }}")).findings()), [expected], "{stale}");
    }
    let found = listed(&with("{ stael: { trigger: 6h } }").findings());
    assert_eq!(found, ["12:13 delivery.stael: unknown key `stael` (did you mean `stale`?)"]);
    let findings = Desk::new(BASE).env("GANDER_DELIVERY__STALE__DO", "end").findings();
    let text = findings.render(false);
    assert!(findings.has_errors() && text.contains("GANDER_DELIVERY__STALE__DO"), "{text}");
}

/// The proxy of a configuration, as it is shown, and what its credentials are.
fn proxy_of(desk: &Desk) -> Option<(String, String, Option<String>)> {
    match desk.load().config.upstream.way.route {
        Route::Direct => None,
        Route::Through(proxy) => {
            let credentials = proxy.credentials.as_ref().and_then(|secret| secret.expose(str::to_owned));
            Some((proxy.to_string(), proxy.named_by, credentials))
        }
    }
}

#[test]
fn a_proxy_is_the_configured_one_else_the_environments_as_curl_reads_it() {
    let with = |line: &str| BASE.replace("  url:", &format!("  {line}\n  url:"));
    let through = |url: &str, named_by: &str, credentials: Option<&str>| {
        Some((url.to_owned(), named_by.to_owned(), credentials.map(str::to_owned)))
    };
    for (text, environment, expected) in [
        (BASE.to_owned(), &[][..], None),
        (BASE.to_owned(), &[("HTTPS_PROXY", "http://p:3128")][..], through("http://p:3128", "HTTPS_PROXY", None)),
        (BASE.to_owned(), &[("HTTPS_PROXY", "p")], through("http://p:1080", "HTTPS_PROXY", None)),
        (
            BASE.to_owned(),
            &[("ALL_PROXY", "socks5h://u:p%40@p")],
            through("socks5h://p:1080", "ALL_PROXY", Some("u:p@")),
        ),
        (
            BASE.to_owned(),
            &[("ALL_PROXY", "http://a"), ("https_proxy", "https://b/")],
            through("https://b:443", "https_proxy", None),
        ),
        (
            BASE.to_owned(),
            &[("HTTPS_PROXY", ""), ("ALL_PROXY", "http://a:1")],
            through("http://a:1", "ALL_PROXY", None),
        ),
        (BASE.to_owned(), &[("HTTP_PROXY", "http://p:3128")], None),
        (BASE.to_owned(), &[("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", "example")], None),
        (
            BASE.to_owned(),
            &[("HTTPS_PROXY", "http://p:3128"), ("no_proxy", "x,up.example:8443")],
            through("http://p:3128", "HTTPS_PROXY", None),
        ),
        (with("proxy: 'off'"), &[("HTTPS_PROXY", "http://p:3128")], None),
        (with("proxy: ~"), &[("HTTPS_PROXY", "http://p:3128")], through("http://p:3128", "HTTPS_PROXY", None)),
        (
            with("proxy: { url: 'socks5://[::1]:9', credentials: { env: PAIR } }"),
            &[("HTTPS_PROXY", "http://p:3128"), ("NO_PROXY", "*")],
            through("socks5://[::1]:9", "upstream.proxy", Some("user:pass")),
        ),
    ] {
        let desk = environment.iter().fold(Desk::new(&text), |desk, (name, value)| desk.env(name, value));
        assert_eq!(proxy_of(&desk), expected, "{environment:?} {text}");
    }
    let text = Desk::new(BASE).env("HTTPS_PROXY", "gopher://user:swordfish@p").findings().render(false);
    assert!(text.contains("HTTPS_PROXY") && text.contains("socks5h://") && !text.contains("swordfish"), "{text}");
}

#[test]
fn credentials_in_a_proxys_url_are_taken_and_warned_of() {
    let desk = Desk::new(&BASE.replace("  url:", "  proxy: http://user:swordfish@p:3128\n  url:"));
    let warnings = desk.load().warnings;
    assert_eq!(warnings.iter().filter(|warning| warning.code == "secret-written-out").count(), 1);
    let shown = format!("{:?} {} {}", desk.load().config, warnings.render(true), warnings.to_json());
    assert!(!shown.contains("swordfish"), "{shown}");
    let expected = ("http://p:3128".to_owned(), "upstream.proxy".to_owned(), Some("user:swordfish".to_owned()));
    assert_eq!(proxy_of(&desk), Some(expected));
}

#[test]
fn a_secret_that_can_be_guessed_is_warned_of_once_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let (short, long) = (folder.path().join("short"), folder.path().join("long"));
    std::fs::write(&short, "swordfish-15-ch\n").unwrap();
    std::fs::write(&long, "swordfish-16-chr\n").unwrap();
    let [short, long] = [short, long].map(|path| format!("{{ file: '{}' }}", path.display()));
    let hash = format!("{{ sha256: {} }}", "0".repeat(64));
    for (secret, weak) in [
        ("swordfish", 1),
        ("swordfish-16-chr", 0),
        ("schwertfisch-äöü", 0),
        ("{ env: SHORT }", 1),
        ("{ env: LONG }", 0),
        (&*short, 1),
        (&*long, 0),
        (&*hash, 0),
    ] {
        for (entry, path) in [
            (format!("- bearer: {secret}"), "sources.s.auth[0].bearer"),
            (format!("- header: {{ name: X-Token, secret: {secret} }}"), "sources.s.auth[0].header.secret"),
            (format!("- query: {{ name: token, secret: {secret} }}"), "sources.s.auth[0].query.secret"),
            (format!("admin.token {secret}"), "admin.token"),
        ] {
            // Neither a bearer token nor a header holds other letters.
            if !secret.is_ascii() && !path.contains("query") {
                continue;
            }
            let text = match entry.strip_prefix("admin.token ") {
                Some(token) => format!("admin: {{ token: {token} }}\n{BASE}"),
                None => BASE.replace("- bearer: { env: IN }", &entry),
            };
            let desk = Desk::new(&text).env("SHORT", "swordfish").env("LONG", "swordfish-of-many-letters");
            let warnings = desk.load().warnings;
            let found: Vec<_> = warnings.iter().filter(|warning| warning.code == "secret-weak").collect();
            assert_eq!(found.len(), weak, "{text}: {}", warnings.render(false));
            assert!(found.iter().all(|warning| warning.path == path), "{found:?}");
            let shown = format!("{} {} {:?}", warnings.render(false), warnings.to_json(), warnings.lines());
            assert!(!shown.contains("fish") && !shown.contains(" 15 "), "{shown}");
            assert_eq!(shown.contains("openssl rand -hex 32"), weak == 1, "the remedy: {shown}");
        }
    }
    for (entry, weak) in [
        ("- hmac: { preset: github, secret: swordfish }", 1),
        ("- hmac: { preset: github, secret: swordfish-16-chr }", 0),
        // Twelve bytes in sixteen characters.
        ("- standard_webhooks: { secrets: [whsec_c3dvcmRmaXNoISEh] }", 1),
        ("- standard_webhooks: { secrets: [whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw] }", 0),
    ] {
        let warnings = Desk::new(&BASE.replace("- bearer: { env: IN }", entry)).load().warnings;
        assert_eq!(warnings.iter().filter(|one| one.code == "secret-weak").count(), weak, "{entry}");
    }
    // What the upstream chose is not ours to judge.
    let sent = Desk::new(&BASE.replace("{ env: UP }", "swordfish")).load().warnings;
    assert!(sent.iter().all(|warning| warning.code != "secret-weak"), "{}", sent.render(false));
}

#[test]
fn what_has_no_effect_or_may_be_secret_on_the_way_to_the_upstream_is_told() {
    let found = |text: &str, line: &str| {
        let warnings = Desk::new(&text.replace("  url:", &format!("  {line}\n  url:"))).load().warnings;
        assert!(!warnings.render(false).contains("swordfish"));
        warnings.iter().map(|finding| (finding.path.clone(), finding.code)).collect::<Vec<_>>()
    };
    let told =
        found(BASE, "proxy: { url: 'http://p:1', headers: { X-Token: swordfish, X-Proxy-Team: a, X-Author: b } }");
    assert!(told.contains(&("upstream.proxy.headers.x-token".to_owned(), "secret-written-out")), "{told:?}");
    assert!(told.iter().all(|(path, _)| path == "upstream.proxy.headers.x-token"), "{told:?}");
    let plain = BASE.replace("https://", "http://");
    assert_eq!(found(&plain, "insecure: true"), []);
    assert_eq!(found(&plain, "tls: { min_version: 1.3 }\n  insecure: true"), [("upstream.tls".to_owned(), "note")]);
}

#[test]
fn a_certificate_for_the_upstream_that_can_not_be_used_is_told_at_its_key() {
    let folder = tempfile::tempdir().unwrap();
    let pair = rcgen::generate_simple_self_signed(vec!["gander".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("a.pem"), folder.path().join("a.key"));
    std::fs::write(&certificate, pair.cert.pem()).unwrap();
    std::fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    let (certificate, key) = (certificate.display(), key.display());
    for (line, path) in [
        (format!("tls: {{ client_certificate: '{key}', client_key: '{key}' }}"), "upstream.tls.client_certificate"),
        (
            format!("tls: {{ client_certificate: '{certificate}', client_key: '{certificate}' }}"),
            "upstream.tls.client_key",
        ),
        (format!("tls: {{ client_certificate: '{certificate}', client_key: /no }}"), "upstream.tls.client_key"),
        (format!("tls: {{ ca: '{key}' }}"), "upstream.tls.ca"),
        (format!("proxy: {{ url: 'https://p', ca: '{key}' }}"), "upstream.proxy.ca"),
        ("proxy: { url: 'https://p', ca: /no }".to_owned(), "upstream.proxy.ca"),
    ] {
        let findings = Desk::new(&BASE.replace("  url:", &format!("  {line}\n  url:"))).findings();
        let errors: Vec<_> = findings.iter().filter(|finding| finding.code == "certificate-unusable").collect();
        assert!(matches!(errors[..], [error] if error.path == path), "{line}: {}", findings.render(false));
    }
}

#[test]
fn a_leaf_in_the_place_of_its_authority_is_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, certificate: &rcgen::Certificate| {
        let file = folder.path().join(name);
        std::fs::write(&file, certificate.pem()).unwrap();
        file.display().to_string()
    };
    let [key, of_leaf] = [(); 2].map(|()| rcgen::KeyPair::generate().unwrap());
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
    let authority = put("ca.pem", &params.self_signed(&key).unwrap());
    let issuer = rcgen::Issuer::new(params, key);
    let leaf = rcgen::CertificateParams::new(vec!["up.example".to_owned()]).unwrap();
    let leaf = put("leaf.pem", &leaf.signed_by(&of_leaf, &issuer).unwrap());
    for (file, told) in [(authority, 0), (leaf, 1)] {
        let findings = Desk::new(&BASE.replace("  url:", &format!("  tls: {{ ca: '{file}' }}\n  url:"))).findings();
        let told_of =
            |finding: &&yaml::Finding| finding.code == "certificate-no-authority" && finding.path == "upstream.tls.ca";
        assert_eq!(findings.iter().filter(told_of).count(), told, "{}", findings.render(false));
    }
}

#[test]
fn all_mistakes_are_shown_at_once() {
    let text = BASE
        .replace("127.0.0.1:8443", "nowhere")
        .replace("1MiB", "huge")
        .replace("    rules", "    rule")
        .replace("{ env: IN }", "{ env: MISSING }")
        .replace("https", "gopher")
        .replace("{ env: UP }", "{ file: /nowhere }");
    let found = listed(&Desk::new(&text).findings());
    for part in [
        "2:12 listen.address",
        "3:13 listen.max_body",
        "6:5 sources.s.rule: unknown key `rule` (did you mean `rules`?)",
        "sources.s.rules: `rules` is required",
        "8:24 sources.s.auth[0].bearer.env",
        "10:8 upstream.url",
        "11:36 upstream.authorization.bearer.file",
    ] {
        assert!(found.iter().any(|one| one.contains(part)), "{part}: {found:#?}");
    }
    let line = |one: &String| one.split_once(':').map_or(0, |(line, _)| line.parse::<usize>().unwrap());
    assert!(found.is_sorted_by_key(line), "in the order of the file: {found:#?}");
}

#[test]
fn a_wrong_section_hides_no_finding_about_files_that_it_names() {
    let text = BASE
        .replace("127.0.0.1:8443", "nowhere\n  tls: { client_ca: /no/ca.pem }")
        .replace("  url: https://up.example", "  tls: { ca: /no/up.pem }\n  url: gopher://up.example");
    let desk = Desk::new(&text);
    desk.file("rules.yaml", &RULES.replace("$.id", "$.i-d"));
    let found = listed(&desk.findings());
    for part in ["listen.address", "listen.tls.client_ca", "upstream.tls.ca", "upstream.url", "incident_key"] {
        assert!(found.iter().any(|one| one.contains(part)), "{part}: {found:#?}");
    }
}

#[test]
fn a_missing_rule_file_and_a_broken_one_are_told_with_the_rest() {
    let found = found("rules.yaml", "nowhere.yaml");
    assert!(found.iter().any(|one| one.starts_with("6:12 sources.s.rules: can't read")), "{found:#?}");
    let desk = Desk::new(&BASE.replace("1MiB", "huge"));
    desk.file("rules.yaml", "rules: [\n");
    let found = listed(&desk.findings());
    assert!(found.iter().any(|one| one.contains("huge") || one.contains("listen.max_body")), "{found:#?}");
    assert!(found.len() >= 2, "{found:#?}");
}

#[test]
fn later_layers_win() {
    let desk = Desk::new(BASE)
        .env("GANDER_LISTEN__MAX_BODY", "2KiB")
        .env("GANDER_UPSTREAM__RETRY__FACTOR", "1.5")
        .env("GANDER_DEDUP__REMIND", "false")
        .env("GANDER_LISTEN__ADDRESS", "127.0.0.1:1111")
        .env("GANDER_SOURCES__S__ALLOW_FROM", "[10.0.0.0/8, 192.0.2.1]")
        .env("GANDER_ADMIN__TOKEN", "1234567890123456")
        .flag("--listen", "listen.address", "127.0.0.1:2222");
    let Loaded { config, warnings, .. } = desk.load();
    assert!(warnings.is_empty(), "{}", warnings.render(false));
    assert_eq!(config.listen.bodies.bytes_max, 2048);
    assert_eq!(config.dispatch.retry.factor, 1.5);
    assert!(!config.dedup.remind);
    assert_eq!(config.listen.address.port(), 2222);
    assert_eq!(config.sources[0].allow_from.len(), 2);
    assert!(config.admin.token.unwrap().matches(b"1234567890123456"));
}

#[test]
fn a_layer_may_say_otherwise_where_a_secret_is() {
    let desk = Desk::new(BASE);
    let path = desk.file("token", "from-a-file\n").display().to_string();
    let desk = desk
        .env("GANDER_UPSTREAM__AUTHORIZATION__HEADER__NAME", "X-Callgoose-Auth")
        .env("GANDER_UPSTREAM__AUTHORIZATION__HEADER__SECRET__FILE", &path)
        .env("GANDER_LISTEN__TLS", "off");
    let config = desk.load().config;
    let crate::credential::Credential::Header { name, secret } = config.upstream.authorization else { panic!() };
    assert!(name == "x-callgoose-auth" && secret.matches(b"from-a-file"));
    assert!(config.listen.tls.is_none());
}

#[test]
fn what_may_be_open_is_open_when_it_is_written_out() {
    for (from, to) in [
        ("127.0.0.1:8443", "0.0.0.0:8443\n  tls: off\n  insecure: true"),
        ("127.0.0.1:8443", "'[::1]:8443'\n  tls: off"),
        ("1MiB", "1MiB\nadmin: { address: '[::]:9180', token: { env: IN }, insecure: true }"),
        ("1MiB", "1MiB\nadmin: { address: 0.0.0.0:9180, token: { env: IN }, tls: { self_signed: true } }"),
        ("1MiB", "1MiB\nadmin: { hosts: [gander.monitoring.svc, localhost, 192.0.2.7, '2001:db8::7'] }"),
        ("1MiB", "1MiB\nadmin: ~\nlog:\njournal: {}"),
        ("auth:\n      - bearer: { env: IN }", "auth: none"),
        ("https://up.example/v1/process", "http://127.0.0.1:8090/v1"),
        ("https://up.example/v1/process", "http://up.example:8090/v1\n  insecure: true"),
        ("  url:", "  proxy: 'off'\n  url:"),
        (
            "  url:",
            "  proxy: { url: 'https://proxy.example', credentials: { env: PAIR }, headers: { X-Team: a b } }\n  url:",
        ),
        ("  url:", "  addresses: ['[::1]:443', egress.example:8443]\n  url:"),
        ("  url:", "  tls: { min_version: 1.3, server_name: other.example }\n  url:"),
        ("  url:", "  tls: { min_version: '1.2' }\n  url:"),
        (
            "rules.yaml\n",
            "rules.yaml\n    rate_limit: { answer: 429 }\n    respond: delivered\n    allow_from: ['::1', 10.1.2.3/8]\n",
        ),
        ("  url:", "  proxy: ~\n  breaker: ~\n  tls: ~\n  retry: ~\n  url:"),
        ("{ env: IN }", "{ sha256: E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855 }"),
    ] {
        let found = found(from, to);
        assert!(found.is_empty(), "{to}: {found:#?}");
    }
}

#[test]
fn a_variable_reaches_a_source_whose_name_it_cant_spell() {
    let text = BASE.replace("  s:\n", "  Service-Pilot:\n");
    let desk = Desk::new(&text).env("GANDER_SOURCES__SERVICE_PILOT__RESPOND", "delivered");
    let config = desk.load().config;
    assert_eq!(config.sources.len(), 1);
    assert_eq!(config.sources[0].respond, inbound::Respond::Delivered);
}

#[test]
fn an_unknown_variable_is_a_warning_and_a_wrong_value_an_error_at_the_variable() {
    let desk = Desk::new(BASE).env("GANDER_SERVICE_HOST", "10.0.0.1").env("GANDER_LISTEN__ADRESS", "x");
    let warnings = desk.load().warnings;
    let text = warnings.render(false);
    assert!(!warnings.has_errors(), "{text}");
    assert!(text.contains("warning: service_host: no such setting: this variable has no effect"), "{text}");
    assert!(text.contains("--> environment variable GANDER_SERVICE_HOST"), "{text}");
    assert!(text.contains("did you mean `address`?"), "{text}");
    for (variable, meant) in [
        ("GANDER_LISTEN_ADDRESS", "GANDER_LISTEN__ADDRESS"),
        ("GANDER_UPSTREAM__RETRY_MAX", "GANDER_UPSTREAM__RETRY__MAX"),
        ("GANDER_CONFG", "GANDER_CONFIG"),
    ] {
        let warnings = Desk::new(BASE).env(variable, "x").load().warnings;
        let text = warnings.render(false);
        assert_eq!(text.matches("has no effect").count(), 1, "{text}");
        assert!(text.contains(variable) && text.contains(&format!("did you mean {meant}?")), "{text}");
    }

    let findings = Desk::new(BASE).env("GANDER_LISTEN__HEADER_TIMEOUT", "soon").findings();
    let text = findings.render(false);
    assert!(findings.has_errors() && text.contains("--> environment variable GANDER_LISTEN__HEADER_TIMEOUT"), "{text}");
    let findings = Desk::new(BASE).flag("--set listen.max_body", "listen.max_body", "soon").findings();
    let text = findings.render(false);
    assert!(findings.has_errors() && text.contains("--> command line, --set listen.max_body"), "{text}");
}

#[test]
fn a_mapping_that_is_laid_over_is_told_by_its_key_with_what_was_found_and_what_is_expected() {
    let first = |value: &str| {
        let findings = Desk::new(BASE).flag("--set admin.tls", "admin.tls", value).findings();
        let text = findings.render(false);
        assert!(text.contains("--> command line, --set admin.tls"), "{text}");
        let yaml::Finding { path, message, help, .. } = findings.iter().next().unwrap().clone();
        (path, message, help.unwrap_or_default())
    };
    let (path, message, help) = first("{certificate: a, private_key: b}");
    let expected = "expected a mapping with `certificate` and `private_key`, or `off`, found a string";
    assert_eq!((path.as_str(), message.as_str()), ("admin.tls", expected));
    assert!(help.contains("{key=value, key=value}") && help.contains("`--set admin.tls.KEY=VALUE`"), "{help}");
    let (path, message, _) = first("{certificate=a}");
    assert_eq!(path, "admin.tls.private_key");
    assert_eq!(message, "expected `private_key` beside `certificate`, found none");
    let (path, ..) = first("{private_key=a}");
    assert_eq!(path, "admin.tls.certificate");
    let (_, _, help) = first("1");
    assert_eq!(help, "`tls: off` is plain HTTP", "it was not meant as a mapping");
}

#[test]
fn a_client_needs_only_the_secrets_it_uses() {
    let mut desk = Desk::new(&BASE.replace("{ env: UP }", "{ file: /nowhere }"));
    desk.inputs.environment.remove("IN");
    desk.inputs.secrets = Secrets::Optional;
    let config = desk.load().config;
    let inbound::auth::Policy::AnyOf(credentials) = &config.sources[0].auth else { unreachable!() };
    let crate::credential::Credential::Bearer(secret) = &credentials[0] else { unreachable!() };
    assert!(!secret.matches(b"") && secret.expose(|_| ()).is_none());
}

#[test]
fn the_rules_of_one_source_need_no_other_part_of_the_file() {
    let desk = Desk::new("sources:\n  s: { rules: rules.yaml }\nupstream: nonsense\n");
    assert!(load_rules(&desk.inputs, "s").is_ok());
    let Err(Failure::Invalid(findings)) = load_rules(&desk.inputs, "t") else { unreachable!() };
    assert!(findings.render(false).contains("there is no source `t`"));
}

#[test]
fn a_secret_file_is_trimmed_and_read_again() {
    let desk = Desk::new(BASE);
    let path = desk.file("token", "first\n");
    let text = BASE.replace("{ env: IN }", &format!("{{ file: {} }}", path.display()));
    std::fs::write(&desk.inputs.path, text).unwrap();
    let mut config = desk.load().config;
    let inbound::auth::Policy::AnyOf(credentials) = &config.sources[0].auth else { unreachable!() };
    let crate::credential::Credential::Bearer(secret) = &credentials[0] else { unreachable!() };
    assert!(secret.matches(b"first"));

    assert_eq!(config.secret_files.refresh(), []);
    desk.file("token", "second\r\n");
    assert_eq!(config.secret_files.refresh(), [Refreshed::Changed { path: path.clone() }]);
    assert!(secret.matches(b"second"));

    // A rotation that is half done, or gone wrong, changes nothing and is told once.
    desk.file("token", "");
    let problem = "what it holds is empty".to_owned();
    assert_eq!(config.secret_files.refresh(), [Refreshed::Failed { path, problem }]);
    assert_eq!(config.secret_files.refresh(), []);
    assert!(secret.matches(b"second"));
}

#[test]
fn a_secret_that_could_not_be_carried_is_refused_without_showing_it() {
    for (value, problem) in [
        ("", "is empty"),
        ("two words", "no bearer token can hold"),
        ("gänger", "no bearer token can hold"),
        (" padded", "begins or ends with a blank"),
        ("a\nb", "more than one line"),
        ("Bearer abc", "begins with `Bearer`"),
    ] {
        let findings = Desk::new(BASE).env("IN", value).findings();
        let text = findings.render(false);
        assert!(text.contains(problem) && text.contains("IN"), "{value:?}: {text}");
        assert!(value.is_empty() || !text.contains(value), "{value:?}: {text}");
    }
}

#[test]
fn a_wrong_certificate_is_told_at_its_key() {
    let desk = Desk::new(BASE);
    let at = |name: &str| desk.folder.path().join(name);
    let pair = |name: &str| crate::tls::Config {
        certificate: at(&format!("{name}.pem")),
        private_key: at(&format!("{name}.key")),
        ..crate::tls::Config::default()
    };
    for name in ["one", "two"] {
        crate::tls::make_missing_pair(&pair(name), crate::clock::WallTime::now()).unwrap();
    }
    desk.file("text.pem", "hello\n");
    for (name, names) in [("b", vec!["b.example"]), ("nameless", vec!["192.0.2.7"]), ("taken", vec!["localhost"])] {
        let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        desk.file(&format!("{name}.pem"), &made.cert.pem());
        let key = desk.file(&format!("{name}.key"), &made.signing_key.serialize_pem());
        std::fs::set_permissions(key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    }
    for (certificate, key, more, expected) in [
        ("one.pem", "one.key", "", None),
        ("new.pem", "new.key", "", None),
        ("one.pem", "two.key", "", Some("4:18 listen.tls.certificate: ")),
        ("one.pem", "none.key", "", Some("5:18 listen.tls.private_key: ")),
        ("none.pem", "one.key", "", Some("4:18 listen.tls.certificate: ")),
        ("text.pem", "one.key", "", Some("4:18 listen.tls.certificate: ")),
        ("one.pem", "one.pem", "", Some("5:18 listen.tls.private_key: ")),
        ("new.pem", "new.key", "self_signed: false", Some("4:18 listen.tls.certificate: neither the certificate")),
        ("one.pem", "one.key", "client_ca: text.pem", Some("6:16 listen.tls.client_ca: ")),
        ("one.pem", "one.key", "more: [{ certificate: b.pem, private_key: b.key }]", None),
        (
            "one.pem",
            "one.key",
            "more: [{ certificate: b.pem, private_key: no.key }]",
            Some("listen.tls.more[0].private_key: "),
        ),
        (
            "one.pem",
            "one.key",
            "more: [{ certificate: b.pem }]",
            Some(" listen.tls.more[0].private_key: `private_key` is required"),
        ),
        ("one.pem", "one.key", "names: [gander.example, a_b]", Some(" listen.tls.names[1]: expected a host's name")),
        ("one.pem", "one.key", "profile: old", Some("6:14 listen.tls.profile: ")),
        (
            "one.pem",
            "one.key",
            "more: [{ certificate: taken.pem, private_key: taken.key }]",
            Some("taken.pem is not shown to who asks for localhost"),
        ),
        (
            "one.pem",
            "one.key",
            "more: [{ certificate: nameless.pem, private_key: nameless.key }]",
            Some("nameless.pem has no DNS name"),
        ),
    ] {
        let mut more = more.to_owned();
        for name in ["text.pem", "b.pem", "b.key", "taken.pem", "taken.key", "no.key", "nameless.pem", "nameless.key"] {
            more = more.replace(&format!(" {name}"), &format!(" {}", at(name).display()));
        }
        let tls = format!(
            "tls:\n    certificate: {}\n    private_key: {}\n    {more}",
            at(certificate).display(),
            at(key).display()
        );
        std::fs::write(&desk.inputs.path, BASE.replace("max_body: 1MiB", &tls)).unwrap();
        let found = listed(&desk.findings());
        match expected {
            None => assert!(found.is_empty(), "{certificate} {key} {more}: {found:#?}"),
            Some(expected) => {
                assert!(found.len() == 1 && found[0].contains(expected), "{certificate} {key} {more}: {found:#?}");
            }
        }
    }
    // A client of the relay may not be allowed to read the key.
    let desk = Desk { inputs: Inputs { secrets: Secrets::Optional, ..desk.inputs }, folder: desk.folder };
    assert!(listed(&desk.findings()).is_empty());
}

#[test]
fn a_file_that_cant_be_read_is_told_apart_from_a_wrong_one() {
    let desk = Desk::new(BASE);
    std::fs::write(&desk.inputs.path, b"a: \xff").unwrap();
    let Err(Failure::Unreadable(unreadable)) = load(&desk.inputs) else { unreachable!() };
    assert!(unreadable.to_string().ends_with("it is not UTF-8 (byte 4)"), "{unreadable}");
    std::fs::remove_file(&desk.inputs.path).unwrap();
    let Err(Failure::Unreadable(unreadable)) = load(&desk.inputs) else { unreachable!() };
    assert!(unreadable.to_string().ends_with("no such file"), "{unreadable}");
}

#[test]
fn an_empty_file_says_what_is_required() {
    for text in ["", "# nothing\n", "{}\n"] {
        let found = listed(&Desk::new(text).findings());
        assert!(found.iter().any(|one| one.contains("`sources` is required")), "{found:#?}");
        assert!(found.iter().any(|one| one.contains("`upstream` is required")), "{found:#?}");
    }
}
