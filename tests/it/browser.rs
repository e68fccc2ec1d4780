//! The page in a real browser: `tests/browser/page.mjs` uses it, with Chromium and Playwright.

use std::path::Path;
use std::process::Stdio;

use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::relay::{Relay, Setup, TOKEN};
use crate::upstream::{Reply, Upstream};

const ADMIN_TOKEN: &str = "admin-canary-51c0-in-a-browser";

#[tokio::test(flavor = "multi_thread")]
async fn a_person_reads_and_commands_by_the_page() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(tests.join("node_modules").is_dir(), "`tests/run` installs what this needs: npm ci in {}", tests.display());
    let upstream = Upstream::start(|call, _| match call.key() {
        key if key.starts_with("dead") => Reply::status(400),
        _ => Reply::Done,
    })
    .await;
    let setup = Setup {
        admin: Some(format!("address: '127.0.0.1:0', token: {ADMIN_TOKEN}")),
        upstream: vec!["rate_limit: { per_second: 10000, burst: 10000 }".into()],
        ..Setup::default()
    };
    let relay = Relay::start(&upstream, &setup).await;
    let input = json!({
        "token": ADMIN_TOKEN,
        "sender": TOKEN,
        "pictures": std::env::var("GANDER_PICTURES").unwrap_or_default(),
    });
    let mut browser = Command::new("node")
        .arg(tests.join("page.mjs"))
        .arg(format!("http://127.0.0.1:{}", relay.ports().1))
        .arg(relay.hook("servicepilot"))
        .env("NODE_EXTRA_CA_CERTS", relay.directory.path().join("server.pem"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("node is installed");
    browser.stdin.take().unwrap().write_all(input.to_string().as_bytes()).await.unwrap();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(900), browser.wait_with_output()).await;
    let ended = ended.expect("the browser's test hangs").unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    eprintln!("{said}");
    assert!(ended.status.success(), "{said}\n{}", String::from_utf8_lossy(&ended.stderr));
}
