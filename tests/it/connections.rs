//! How long a connection may take for what, how many there may be, and how they end.

use std::time::Duration;

use http::Version;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{PATIENCE, Setup, client, read_answer, read_to_end, request, sized_request, statuses, write};

fn alert() -> String {
    json!({"id": "k1", "state": "CRITICAL"}).to_string()
}

/// Long enough that a busy machine sends a request within it.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_connection_that_does_not_get_on_is_closed() {
    let mut setup = Setup::plain();
    (setup.listen.limits.header_timeout, setup.listen.limits.idle_timeout) = (SHORT, LONG);
    let edge = setup.start().await;
    for sent in ["", "P", "POST /hooks/servicepilot HTTP/1.1\r\nHost: localhost\r\n"] {
        let mut stream = edge.connect().await;
        write(&mut stream, sent).await;
        assert_eq!(read_to_end(&mut stream).await, "", "after {sent:?}");
    }
    // The same in the second request of a connection that was good so far.
    let mut stream = edge.connect().await;
    stream.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
    read_answer(&mut stream).await;
    write(&mut stream, b"POST /hooks/serv").await;
    assert_eq!(read_to_end(&mut stream).await, "");
    assert_eq!(edge.metric("gander_connections_refused_total{reason=\"header_timeout\"}"), "4");
}

#[tokio::test]
async fn a_head_that_drips_is_closed_too() {
    let mut setup = Setup::plain();
    (setup.listen.limits.header_timeout, setup.listen.limits.idle_timeout) = (SHORT, LONG);
    let edge = setup.start().await;
    let mut stream = edge.connect().await;
    let (mut from, mut to) = stream.split();
    let drip = async {
        // Faster than any limit, and without end.
        let mut bytes = 0;
        while to.write_all(b"X").await.is_ok() {
            bytes += 1;
            tokio::time::sleep(SHORT / 10).await;
        }
        bytes
    };
    let closed = async {
        let mut byte = [0];
        matches!(from.read(&mut byte).await, Ok(0) | Err(_))
    };
    tokio::time::timeout(PATIENCE, async {
        tokio::select! {
            bytes = drip => assert!(bytes > 0),
            closed = closed => assert!(closed),
        }
    })
    .await
    .expect("it is closed");
}

#[tokio::test]
async fn an_idle_connection_rests_longer_than_a_head_may_take_and_then_ends() {
    let mut setup = Setup::plain();
    (setup.listen.limits.header_timeout, setup.listen.limits.idle_timeout) = (SHORT, 4 * SHORT);
    let edge = setup.start().await;
    let mut stream = edge.connect().await;
    stream.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
    read_answer(&mut stream).await;
    tokio::time::sleep(2 * SHORT).await;
    stream.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
    assert_eq!(statuses(&read_answer(&mut stream).await), [200], "it rested, and goes on");
    assert_eq!(read_to_end(&mut stream).await, "", "it ends without a word");
}

#[tokio::test]
async fn an_idle_http_2_connection_ends() {
    let mut setup = Setup::new();
    setup.listen.limits.idle_timeout = SHORT;
    let edge = setup.start().await;
    let client = client(Some(&edge.ca()), true);
    for _ in 0..2 {
        let response = client.request(edge.post().body(Full::new(alert().into())).unwrap()).await.unwrap();
        assert_eq!(response.version(), Version::HTTP_2);
        response.into_body().collect().await.unwrap();
        tokio::time::timeout(PATIENCE, async {
            while edge.metric("gander_connections") != "0" {
                tokio::time::sleep(SHORT / 10).await;
            }
        })
        .await
        .expect("the connection ends");
    }
}

#[tokio::test]
async fn a_handshake_that_stalls_or_fails_is_ended() {
    let mut setup = Setup::new();
    setup.listen.limits.header_timeout = SHORT;
    let edge = setup.start().await;
    let mut stream = edge.connect().await;
    assert_eq!(read_to_end(&mut stream).await, "");
    edge.raw(sized_request("", &alert())).await;
    // The second one ends once its client has read the answer.
    tokio::time::timeout(PATIENCE, async {
        while edge.metric("gander_connections_refused_total{reason=\"tls_handshake\"}") != "2" {
            tokio::time::sleep(SHORT / 10).await;
        }
    })
    .await
    .expect("both are counted");
    assert_eq!(edge.alert(json!({"id": "a", "state": "CRITICAL"})).await.status, 202, "others are served");
}

#[tokio::test]
async fn at_the_limit_the_longest_idle_connection_gives_way() {
    let mut setup = Setup::plain();
    setup.listen.limits.connections_max = 2;
    // Whatever asked for nothing in a part of it goes first.
    setup.listen.limits.header_timeout = LONG;
    let edge = setup.start().await;
    let mut idle = edge.connect().await;
    idle.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
    read_answer(&mut idle).await;
    let mut slow = edge.connect().await;
    slow.write_all(b"POST /").await.unwrap();
    for _ in 0..5 {
        let mut stream = edge.connect().await;
        stream.write_all(sized_request("Connection: close\r\n", &alert()).as_bytes()).await.unwrap();
        assert_eq!(statuses(&read_to_end(&mut stream).await), [200]);
    }
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, idle.read_to_end(&mut rest)).await.expect("it gave way");
    assert!(rest.is_empty());
}

#[tokio::test]
async fn while_all_are_busy_a_new_connection_waits_its_turn() {
    let mut setup = Setup::plain();
    setup.listen.limits.connections_max = 1;
    // A body gives way that is longer in coming than a part of it.
    setup.listen.limits.header_timeout = LONG;
    let edge = setup.start().await;
    let body = alert();
    let mut busy = edge.connect().await;
    let head = format!("Content-Length: {}\r\nExpect: 100-continue\r\nConnection: close\r\n", body.len());
    busy.write_all(request(&head, "").as_bytes()).await.unwrap();
    // Asked for its body, so it is being served.
    assert!(read_answer(&mut busy).await.starts_with("HTTP/1.1 100 "));
    let mut next = edge.connect().await;
    next.write_all(sized_request("Connection: close\r\n", &body).as_bytes()).await.unwrap();
    let served = tokio::time::timeout(SHORT, next.readable()).await;
    assert!(served.is_err(), "its turn has not come");
    busy.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(statuses(&read_to_end(&mut busy).await), [202]);
    drop(busy);
    assert_eq!(statuses(&read_to_end(&mut next).await), [200]);
}

#[tokio::test]
async fn a_stopping_relay_finishes_what_is_in_flight_and_closes() {
    let edge = Setup::plain().start().await;
    let mut idle = edge.connect().await;
    idle.write_all(sized_request("", &alert()).as_bytes()).await.unwrap();
    read_answer(&mut idle).await;
    let mut busy = edge.connect().await;
    let body = json!({"id": "k2", "state": "CRITICAL"}).to_string();
    let head = format!("Content-Length: {}\r\nExpect: 100-continue\r\n", body.len());
    busy.write_all(request(&head, "").as_bytes()).await.unwrap();
    assert!(read_answer(&mut busy).await.starts_with("HTTP/1.1 100 "));

    edge.shutdown.begin();
    assert_eq!(read_to_end(&mut idle).await, "", "what is idle is closed at once");
    busy.write_all(body.as_bytes()).await.unwrap();
    let answer = read_to_end(&mut busy).await;
    assert_eq!(statuses(&answer), [202], "what is in flight is finished");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    drop((idle, busy));
    let address = edge.address;
    tokio::time::timeout(PATIENCE, edge.served).await.expect("it returns").unwrap();
    assert!(tokio::net::TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn http_2_carries_many_requests_at_once() {
    let edge = Setup::new().start().await;
    let client = client(Some(&edge.ca()), true);
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..200 {
        let body = json!({"id": format!("k{number}"), "state": "CRITICAL"}).to_string();
        let request = edge.post().body(Full::new(body.into())).unwrap();
        let client = client.clone();
        requests.spawn(async move { client.request(request).await.unwrap().status().as_u16() });
    }
    assert!(requests.join_all().await.iter().all(|status| *status == 202));
    assert_eq!(edge.kept_count(), 200);
}
