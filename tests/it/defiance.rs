//! Peers of HTTP/2 that take more than their part: by bodies that never come, by guesses, and by going on when they are told
//! that the connection ends; and honest requests beside them.

use std::time::Duration;

use gander::exports::event::{Outcome, State};
use gander::exports::inbound::Respond;
use tokio::io::AsyncWriteExt;

use crate::raw_http2::RawHttp2;
use crate::support::{Edge, Setup};

const ALERT: &str = r#"{"id":"k1","state":"CRITICAL"}"#;
const NOISE: &str = r#"{"id":"k1","state":"INFO"}"#;
const RIGHT: [(&str, &str); 2] = [("authorization", "Bearer correct-horse"), ("content-type", "application/json")];
const GUESS: [(&str, &str); 1] = [("authorization", "Bearer guess")];
const SHORT: Duration = Duration::from_secs(1);
const BEFORE_KEEP_ALIVE: Duration = Duration::from_secs(25);

/// Fails what takes longer than a mechanism may: the keep-alive of the relay ends a connection whose peer acknowledges no
/// ping, thirty seconds after it began, and would else do what the tests here ask of others.
async fn within(test: impl Future<Output = ()>) {
    tokio::time::timeout(BEFORE_KEEP_ALIVE, test).await.expect("it ends before the keep-alive ends connections");
}

fn setup(connections_max: usize) -> Setup {
    let mut setup = Setup::new();
    setup.listen.limits.connections_max = connections_max;
    setup
}

/// A setup whose sender waits for the upstream.
fn waiting_setup(connections_max: usize) -> Setup {
    let mut setup = setup(connections_max);
    (setup.source().respond, setup.source().respond_timeout) = (Respond::Delivered, Duration::from_secs(60));
    setup
}

/// Asks with the right token, and sends the body behind the head.
async fn post(connection: &mut RawHttp2, body: &str) -> u32 {
    let stream = connection.ask("POST", &RIGHT, true).await.unwrap();
    connection.body(stream, body).await;
    stream
}

async fn is_new_one_served(edge: &Edge) -> bool {
    let mut connection = RawHttp2::connect(edge).await;
    let asked = post(&mut connection, NOISE).await;
    connection.is_answered(asked).await
}

#[tokio::test]
async fn a_body_that_never_comes_does_not_hide_behind_another_request() {
    within(async {
        let mut setup = setup(1);
        // A body is late after a fifth of it.
        setup.listen.limits.header_timeout = SHORT;
        setup.listen.bodies.timeout = Duration::from_secs(600);
        let edge = setup.start().await;
        let mut stalled = RawHttp2::connect(&edge).await;
        stalled.ask("POST", &RIGHT, true).await.unwrap();
        let other = stalled.ask("GET", &RIGHT, false).await.unwrap();
        assert!(stalled.is_answered(other).await);
        assert!(is_new_one_served(&edge).await);
        stalled.end().await;
    })
    .await;
}

#[tokio::test]
async fn a_request_whose_body_came_is_not_cut_while_it_waits_for_the_upstream() {
    within(async {
        let mut setup = waiting_setup(1);
        setup.listen.limits.header_timeout = SHORT;
        let edge = setup.start().await;
        let mut waiting = RawHttp2::connect(&edge).await;
        let asked = post(&mut waiting, ALERT).await;
        while edge.kept_count() == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut next = edge.connect().await;
        next.write_all(b"\x16").await.unwrap();
        // Longer than a body may be in coming; the newcomer's own time runs once it has a place.
        tokio::time::sleep(2 * SHORT).await;
        edge.settle_next(State::Delivered, Some(Outcome::Created)).await;
        assert!(waiting.is_answered(asked).await);
        assert_eq!(edge.metric("gander_connections_refused_total{reason=\"evicted\"}"), "0");
    })
    .await;
}

#[tokio::test]
async fn a_peer_that_goes_on_after_the_age_of_its_connection_is_ended() {
    within(async {
        let mut setup = waiting_setup(10);
        setup.listen.limits.connection_age_max = SHORT / 10;
        let edge = setup.start().await;
        let mut deaf = RawHttp2::connect(&edge).await;
        post(&mut deaf, ALERT).await;
        while let Some(asked) = deaf.ask("GET", &RIGHT, false).await
            && deaf.is_answered(asked).await
        {
            tokio::time::sleep(SHORT / 10).await;
        }
    })
    .await;
}

#[tokio::test]
async fn guesses_on_a_connection_that_was_told_to_end_are_ended_with_it() {
    within(async {
        let edge = setup(10).start().await;
        let mut guesses = RawHttp2::connect(&edge).await;
        // Ten are answered at once, and sixteen are delayed. Each further one is answered at once, or no more.
        let mut asked = 0;
        for _ in 0..26 {
            guesses.ask("POST", &GUESS, false).await.unwrap();
            asked += 1;
        }
        while let Some(guess) = guesses.ask("POST", &GUESS, false).await
            && guesses.is_answered(guess).await
        {
            asked += 1;
            assert!(asked < 200, "it goes on");
        }
        assert!(asked >= 26, "{asked}");
        assert!(is_new_one_served(&edge).await);
    })
    .await;
}

#[tokio::test]
async fn a_guess_behind_a_trusted_proxy_ends_no_connection_of_the_proxy() {
    within(async {
        let mut setup = setup(10);
        setup.listen.addresses.trusted_proxies = vec!["127.0.0.1/32".parse().unwrap()];
        let edge = setup.start().await;
        let mut proxy = RawHttp2::connect(&edge).await;
        let guess = [GUESS[0], ("x-forwarded-for", "192.0.2.66")];
        let mut last = 0;
        for _ in 0..27 {
            last = proxy.ask("POST", &guess, false).await.unwrap();
        }
        assert!(proxy.is_answered(last).await, "sixteen are being delayed");
        // Of those one is given up.
        proxy.reset(last - 2).await;
        for _ in 0..10 {
            let honest = post(&mut proxy, NOISE).await;
            assert!(proxy.is_answered(honest).await);
            let guess = proxy.ask("POST", &guess, false).await.unwrap();
            proxy.reset(guess).await;
        }
        let honest = post(&mut proxy, NOISE).await;
        assert!(proxy.is_answered(honest).await);
    })
    .await;
}

#[tokio::test]
async fn what_strangers_are_answered_is_no_use_of_their_connection() {
    within(async {
        let probe: (&str, &[(&str, &str)]) = ("GET", &[]);
        let two_hosts: (&str, &[(&str, &str)]) = ("POST", &[("host", "another.example")]);
        for (method, headers) in [probe, two_hosts] {
            let mut setup = setup(2);
            setup.source().probes = true;
            let edge = setup.start().await;
            let mut stranger = RawHttp2::connect(&edge).await;
            let mut honest = RawHttp2::connect(&edge).await;
            let asked = post(&mut honest, NOISE).await;
            assert!(honest.is_answered(asked).await);
            let asked = stranger.ask(method, headers, false).await.unwrap();
            assert!(stranger.is_answered(asked).await);
            assert!(is_new_one_served(&edge).await);
            stranger.end().await;
            let asked = post(&mut honest, NOISE).await;
            assert!(honest.is_answered(asked).await, "{method}");
        }
    })
    .await;
}
