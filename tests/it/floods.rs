//! Floods of one address, and honest senders beside them: on loopback every 127.0.0.x is an address.
//!
//! With `GANDER_FLOOD=full` the floods are as large as those that once broke the relay, and honest requests are held to a
//! time.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::relay::{self, Relay, within};
use crate::support::{Edge, Setup, client, read_answer, read_to_end, request, sized_request, statuses};
use crate::upstream::{Reply, Upstream};

const FLOOD: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);
/// Of a second flood in the same test: to find a free port at an address that used thousands takes the client longer than
/// the relay takes to answer.
const FLOOD_AGAIN: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 67);
const HONEST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// The payload of a request that is answered without the disk.
const NOISE: &str = r#"{"id":"k1","state":"INFO"}"#;
const WRONG: &str = "POST /hooks/servicepilot HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer guess\r\nContent-Length: 2\r\n\r\n{}";

fn is_full() -> bool {
    std::env::var("GANDER_FLOOD").is_ok_and(|value| value == "full")
}

/// The size of a flood: the full one where that was asked for.
fn scale(small: usize, full: usize) -> usize {
    if is_full() { full } else { small }
}

async fn connect_from(edge: &Edge, address: Ipv4Addr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((address, 0).into())?;
    socket.connect(edge.address).await
}

/// Asks on a connection that stays open.
async fn ask(stream: &mut TcpStream, request: &str) -> Vec<u16> {
    stream.write_all(request.as_bytes()).await.unwrap();
    statuses(&read_answer(stream).await)
}

/// An honest sender, whose requests have to be answered until the flood is over: on a connection that is kept, and each
/// second one on a new one.
async fn honest(edge: &Edge, address: Ipv4Addr, claim: &str, mut is_over: impl FnMut() -> bool) {
    let mut kept = connect_from(edge, address).await.unwrap();
    let mut times = Vec::new();
    while !is_over() || times.len() < 40 {
        let started = Instant::now();
        assert_eq!(ask(&mut kept, &sized_request("", NOISE)).await, [200], "{claim}: on the connection that is kept");
        times.push(started.elapsed());
        let started = Instant::now();
        let mut new = connect_from(edge, address).await.unwrap();
        new.write_all(sized_request("Connection: close\r\n", NOISE).as_bytes()).await.unwrap();
        assert_eq!(statuses(&read_to_end(&mut new).await), [200], "{claim}: on a new connection");
        times.push(started.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    times.sort_unstable();
    let [p50, p99] = [50, 99].map(|hundredths| times[(times.len() - 1) * hundredths / 100]);
    let refused = |reason| edge.metric(&format!("gander_connections_refused_total{{reason=\"{reason}\"}}"));
    let (evicted, no_room) = (refused("evicted"), refused("no_room"));
    println!(
        "{claim}: {} honest requests, p50 {p50:?}, p99 {p99:?}; {evicted} evicted, {no_room} no room",
        times.len()
    );
    assert!(!is_full() || p99 < Duration::from_millis(50), "{claim}: p99 {p99:?}");
}

/// Many connections with wrong tokens that stay open, made one after the other by several clients at once. Those that the
/// relay closes are let go. True once all were made; they end with the set of tasks, and with their files those of another
/// flood would be too many.
async fn wrong_tokens(edge: &Arc<Edge>, address: Ipv4Addr, count: usize) -> (Arc<AtomicBool>, JoinSet<()>) {
    let (over, clients) = (Arc::new(AtomicBool::new(false)), 8);
    let mut tasks = JoinSet::new();
    for _ in 0..clients {
        let edge = Arc::clone(edge);
        tasks.spawn(async move {
            let mut streams = Vec::new();
            for _ in 0..count / clients {
                let mut stream = connect_from(&edge, address).await.expect("a port and a file for each");
                let _ = stream.write_all(WRONG.as_bytes()).await;
                streams.push(stream);
            }
            streams
        });
    }
    let (told, mut flood) = (Arc::clone(&over), JoinSet::new());
    flood.spawn(async move {
        let _streams = tasks.join_all().await;
        told.store(true, Ordering::SeqCst);
        // They stay open while the others are asked.
        std::future::pending::<()>().await;
    });
    (over, flood)
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_tokens_by_the_thousand_cost_nobody_a_connection() {
    // Also one at the same address, as behind NAT.
    for (flood, resting) in [(FLOOD, HONEST), (FLOOD_AGAIN, FLOOD_AGAIN)] {
        within(async {
            let mut setup = Setup::plain();
            setup.listen.limits.connections_max = scale(60, 4_000);
            let edge = Arc::new(setup.start().await);
            let mut rested = Vec::new();
            for _ in 0..8 {
                let mut stream = connect_from(&edge, resting).await.unwrap();
                assert_eq!(ask(&mut stream, &sized_request("", NOISE)).await, [200]);
                rested.push(stream);
            }
            let (over, mut tasks) = wrong_tokens(&edge, flood, scale(800, 11_200)).await;
            let is_over = || {
                assert!(tasks.try_join_next().is_none(), "a flood that can't be made is none");
                over.load(Ordering::SeqCst)
            };
            honest(&edge, HONEST, "wrong tokens", is_over).await;
            for stream in &mut rested {
                assert_eq!(ask(stream, &sized_request("", NOISE)).await, [200], "it rested during the flood");
            }
            // Others ended with their answer: they were guesses.
            let evicted = edge.metric("gander_connections_refused_total{reason=\"evicted\"}");
            assert_ne!(evicted, "0", "the limit was met");
        })
        .await;
    }
}

/// Connects again and again, sends `head`, and then a byte at a time, with this pause before each and before it connects.
fn dribble(edge: &Arc<Edge>, count: usize, head: &str, pause: Duration) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..count {
        let (edge, head) = (Arc::clone(edge), head.to_owned());
        tasks.spawn(async move {
            loop {
                if let Ok(mut stream) = connect_from(&edge, FLOOD).await {
                    let _ = stream.write_all(head.as_bytes()).await;
                    let (mut from, mut to) = stream.split();
                    let mut end = [0; 512];
                    tokio::select! {
                        _ = from.read(&mut end) => {}
                        () = async {
                            while to.write_all(b" ").await.is_ok() {
                                tokio::time::sleep(pause).await;
                            }
                        } => {}
                    }
                }
                tokio::time::sleep(pause).await;
            }
        });
    }
    tasks
}

async fn until_full(edge: &Edge, count: usize) {
    while edge.metric("gander_connections").parse::<usize>().unwrap() < count {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_whose_bodies_dribble_give_way_to_another_address() {
    within(async {
        let (count, mut setup) = (scale(40, 400), Setup::plain());
        setup.listen.limits.connections_max = count;
        setup.listen.bodies.timeout = Duration::from_secs(120);
        let edge = Arc::new(setup.start().await);
        let flood = dribble(&edge, count, &request("Content-Length: 60000\r\n", "{"), Duration::from_millis(50));
        until_full(&edge, count).await;
        let end = Instant::now() + Duration::from_secs(scale(1, 10) as u64);
        honest(&edge, HONEST, "dribbled bodies", || Instant::now() > end).await;
        drop(flood);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_heads_by_the_thousand_give_way_to_another_address() {
    within(async {
        let (count, mut setup) = (2_000, Setup::plain());
        setup.listen.limits.connections_max = count / 2;
        let edge = Arc::new(setup.start().await);
        let flood = dribble(&edge, count, "POST /hooks/servicepilot HTTP/1.1\r\nX: ", Duration::from_secs(1));
        until_full(&edge, count / 2).await;
        let end = Instant::now() + Duration::from_secs(scale(2, 20) as u64);
        honest(&edge, HONEST, "2,000 slow heads", || Instant::now() > end).await;
        // Else each would have been answered all the same, when the time for heads was over.
        let evicted = edge.metric("gander_connections_refused_total{reason=\"evicted\"}");
        assert_ne!(evicted, "0", "they gave way");
        drop(flood);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn partial_bodies_of_one_address_leave_memory_to_another() {
    within(async {
        let mut setup = Setup::plain();
        // Room for four of the largest.
        setup.listen.bodies.bytes_max = LARGE;
        setup.listen.bodies.timeout = Duration::from_secs(120);
        let edge = setup.start().await;
        let mut partial = Vec::new();
        for _ in 0..4 {
            let mut stream = connect_from(&edge, FLOOD).await.unwrap();
            stream.write_all(request(&format!("Content-Length: {LARGE}\r\n"), "").as_bytes()).await.unwrap();
            stream.write_all(&vec![b' '; LARGE - 1]).await.unwrap();
            partial.push(stream);
        }
        while edge.metric("gander_request_bodies_bytes") != (4 * (LARGE - 1)).to_string() {
            tokio::task::yield_now().await;
        }
        let body = format!("{}{NOISE}", " ".repeat(LARGE / 8));
        for _ in 0..40 {
            let mut stream = connect_from(&edge, HONEST).await.unwrap();
            let request = sized_request("Connection: close\r\n", &body);
            stream.write_all(request.as_bytes()).await.unwrap();
            assert_eq!(statuses(&read_to_end(&mut stream).await), [200]);
        }
        let refused = |reason| {
            edge.metric(&format!("gander_requests_refused_total{{source=\"servicepilot\",reason=\"{reason}\"}}"))
        };
        assert_eq!((refused("address_bodies").as_str(), refused("bodies_full").as_str()), ("1", "0"));
    })
    .await;
}

/// More than a quarter of the memory that is set aside for small bodies.
const LARGE: usize = 20 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn an_address_with_a_limit_of_its_own_makes_room_for_itself() {
    within(async {
        let mut setup = Setup::plain();
        setup.listen.limits.connections_of_address_max = Some(2);
        let edge = setup.start().await;
        let mut streams = Vec::new();
        for _ in 0..3 {
            let mut stream = connect_from(&edge, FLOOD).await.unwrap();
            assert_eq!(ask(&mut stream, &sized_request("", NOISE)).await, [200]);
            streams.push(stream);
        }
        assert_eq!(read_to_end(&mut streams[0]).await, "", "its idlest gave way");
        let mut other = connect_from(&edge, HONEST).await.unwrap();
        assert_eq!(ask(&mut other, &sized_request("", NOISE)).await, [200]);
        assert_eq!(ask(&mut streams[2], &sized_request("", NOISE)).await, [200]);
        assert_eq!(edge.metric("gander_connections_refused_total{reason=\"evicted\"}"), "1");
    })
    .await;
}

fn slowed(edge: &Edge, answer: &str) -> usize {
    let line = format!("gander_failed_attempts_slowed_total{{listener=\"listen\",answer=\"{answer}\"}}");
    edge.metric(&line).parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_are_answered_slowly_after_ten_and_right_tokens_at_once() {
    within(async {
        let edge = Setup::plain().start().await;
        let mut guesses = connect_from(&edge, FLOOD).await.unwrap();
        for _ in 0..10 {
            assert_eq!(ask(&mut guesses, WRONG).await, [401]);
        }
        assert_eq!(slowed(&edge, "delayed"), 0);
        for millis in [200, 400] {
            let started = Instant::now();
            assert_eq!(ask(&mut guesses, WRONG).await, [401]);
            assert!(started.elapsed() >= Duration::from_millis(millis), "{:?}", started.elapsed());
        }
        assert_eq!(slowed(&edge, "delayed"), 2);
        let mut right = connect_from(&edge, FLOOD).await.unwrap();
        for _ in 0..20 {
            assert_eq!(ask(&mut right, &sized_request("", NOISE)).await, [200]);
        }
        // Who shows nothing guesses nothing.
        let nothing = WRONG.replace("Authorization: Bearer guess\r\n", "");
        assert_eq!(ask(&mut right, &nothing).await, [401]);
        let mut elsewhere = connect_from(&edge, HONEST).await.unwrap();
        assert_eq!(ask(&mut elsewhere, WRONG).await, [401], "another address");
        assert_eq!(slowed(&edge, "delayed"), 2);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_guesses_at_once_cost_a_connection_each() {
    within(async {
        let edge = Setup::new().start().await;
        // Over HTTP/2, many on one connection.
        let client = client(Some(&edge.ca()), true);
        let mut guesses = JoinSet::new();
        for _ in 0..scale(60, 3_000) {
            let guess = edge.post().header("x-token", "guess").body("{}".to_owned().into()).unwrap();
            let (mut head, body) = guess.into_parts();
            head.headers.insert("authorization", "Bearer guess".parse().unwrap());
            guesses.spawn(client.request(http::Request::from_parts(head, body)));
        }
        let started = Instant::now();
        let mut answered = 0;
        while let Some(answer) = guesses.join_next().await {
            // One that was sent as its connection ended is not answered.
            if let Ok(answer) = answer.unwrap() {
                assert_eq!(answer.status(), 401);
                answered += 1;
            }
        }
        println!("guesses: {answered} answered in {:?}", started.elapsed());
        assert!(slowed(&edge, "delayed") >= 16 && slowed(&edge, "connection_ended") >= 1);
        let right = edge.send(edge.post(), NOISE).await;
        assert_eq!(right.status, 200);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn guesses_of_the_admin_token_are_slowed_by_the_api_and_by_the_page_alike() {
    within(async {
        let upstream = Upstream::start(|_, _| Reply::Done).await;
        let admin = Some("address: '127.0.0.1:0', token: the-token-of-operators".to_owned());
        let relay = Relay::start(&upstream, &relay::Setup { admin, ..relay::Setup::default() }).await;
        let send = async |method: Method, path: &str, token: &str, body: &str| {
            let (url, bearer) = (format!("http://127.0.0.1:{}{path}", relay.ports().1), format!("Bearer {token}"));
            relay.client.send(method, &url, &[("authorization", &bearer)], body.to_owned()).await
        };
        let delayed = async || {
            let metrics = send(Method::GET, "/metrics", "the-token-of-operators", "").await;
            let text = metrics.json.as_str().unwrap().to_owned();
            let line = "gander_failed_attempts_slowed_total{listener=\"admin\",answer=\"delayed\"} ";
            text.lines().find_map(|found| found.strip_prefix(line)).map(str::to_owned)
        };
        for _ in 0..10 {
            // A form alone: it shows no header.
            let mut page = TcpStream::connect(("127.0.0.1", relay.ports().1)).await.unwrap();
            let form = "POST /sign-in HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 11\r\n\r\ntoken=guess";
            page.write_all(form.as_bytes()).await.unwrap();
            assert_eq!(statuses(&read_to_end(&mut page).await), [401]);
        }
        assert_eq!(delayed().await.as_deref(), Some("0"));
        for path in ["/api/v1/status", "/"] {
            let started = Instant::now();
            assert_eq!(send(Method::GET, path, "guess", "").await.status, 401);
            assert!(started.elapsed() >= Duration::from_millis(200), "{path}: {:?}", started.elapsed());
        }
        // A probe that kept an old token is not to fail for it.
        assert_eq!(send(Method::GET, "/readyz", "guess", "").await.status, 200);
        assert_eq!(delayed().await.as_deref(), Some("2"));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_that_wait_for_their_peer_keep_none_of_the_same_address_waiting() {
    within(async {
        let mut setup = Setup::new();
        // They wait for longer than this test may take.
        setup.listen.limits.header_timeout = Duration::from_secs(600);
        let edge = setup.start().await;
        let mut half = Vec::new();
        for _ in 0..200 {
            let mut stream = edge.connect().await;
            // The first byte of a record.
            stream.write_all(&[0x16]).await.unwrap();
            half.push(stream);
        }
        until_full(&edge, half.len()).await;
        assert_eq!(edge.send(edge.post(), NOISE).await.status, 200);
    })
    .await;
}
