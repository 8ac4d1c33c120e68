//! What those who mean no TLS, or no good, can do.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::authority::client;
use super::*;

async fn says(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut tcp = TcpStream::connect(addr).await.unwrap();
    tcp.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an answer too.
    let _ = within(tcp.read_to_end(&mut answer)).await;
    answer
}

#[tokio::test]
async fn plaintext_is_told_what_is_wrong() {
    let ca = Ca::new("one.test");
    let server = Server::with(ca.identity(&id("server"), &ca.trust()), Clients::Required).await;
    let answer = says(server.addr, b"GET /who HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 400 Bad Request\r\n"),
        "{answer}"
    );
    assert!(
        answer.ends_with("\r\n\r\nthis port speaks TLS: use https instead"),
        "{answer}"
    );

    // A large body that is not read does not turn the answer into a reset.
    let mut post = b"POST /who HTTP/1.1\r\nhost: x\r\ncontent-length: 30000\r\n\r\n".to_vec();
    post.resize(post.len() + 30_000, b'x');
    assert!(says(server.addr, &post).await.starts_with(b"HTTP/1.1 400 "));

    let tcp = TcpStream::connect(server.addr).await.unwrap();
    let (mut send, connection) = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    let refused = async {
        while let Ok(()) = send.ready().await {
            let _: Result<_, _> = send.send_request(request("/who")).await;
        }
        driver.await.unwrap()
    };
    let error = format!("{:?}", within(refused).await.unwrap_err());
    assert!(
        error.contains("INADEQUATE_SECURITY") && error.contains("use https"),
        "{error}"
    );
}

#[tokio::test]
async fn garbage_ends_its_own_connection_alone() {
    let ca = Ca::new("one.test");
    let server = Server::start(
        Some(ca.identity(&id("server"), &ca.trust())),
        Clients::Required,
        |tls, _| tls.handshake_timeout = Duration::from_millis(500),
    )
    .await;
    let record = |len: usize| {
        let mut bytes = vec![0x16, 3, 1, 0x40, 0];
        bytes.resize(len, 0xff);
        bytes
    };
    for garbage in [
        &b"\0\0\0\0\0\0\0\0"[..],
        b"\x16\x03\x01\x00\x01\x00",
        b"\x80\x2e\x01\x00\x02\x00\x15",
        b"lower case letters",
        &record(70_000),
        &[0xff; 4096],
    ] {
        let answer = says(server.addr, garbage).await;
        assert!(
            answer.len() < 64,
            "{} bytes for {} of garbage",
            answer.len(),
            garbage.len()
        );
    }
    assert!(
        connect_as(server.addr, client(&ca, &id("ann")))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn handshakes_that_do_not_go_on_keep_nobody_out() {
    let ca = Ca::new("one.test");
    let server = Server::start(
        Some(ca.identity(&id("server"), &ca.trust())),
        Clients::Required,
        |tls, _| {
            tls.max_handshakes = 4;
            tls.handshake_timeout = Duration::from_millis(300);
        },
    )
    .await;
    // Silent ones, and ones that begin and stop: more than there are places, and new ones all the time.
    let mut open = Vec::new();
    for n in 0..40 {
        let mut tcp = TcpStream::connect(server.addr).await.unwrap();
        if n % 2 == 0 {
            tcp.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap();
        }
        open.push(tcp);
    }
    let one = async || {
        // What had to wait too long is turned away, and tries again.
        while connect_as(server.addr, client(&ca, &id("ann")))
            .await
            .is_err()
        {}
    };
    within(one()).await;
    // The others are cut.
    for mut tcp in open {
        let mut rest = Vec::new();
        let _ = within(tcp.read_to_end(&mut rest)).await;
    }
}

#[tokio::test]
async fn a_slow_handshake_is_cut() {
    let ca = Ca::new("one.test");
    let server = Server::start(
        Some(ca.identity(&id("server"), &ca.trust())),
        Clients::Required,
        |tls, _| tls.handshake_timeout = Duration::from_millis(50),
    )
    .await;
    let mut tcp = TcpStream::connect(server.addr).await.unwrap();
    tcp.write_all(b"\x16\x03\x01").await.unwrap();
    let mut rest = Vec::new();
    let _ = within(tcp.read_to_end(&mut rest)).await;
}

#[tokio::test]
async fn who_comes_before_there_is_a_certificate_waits_for_it() {
    let ca = Ca::new("one.test");
    let server = Server::start(None, Clients::Required, |_, _| {}).await;
    let early = tokio::spawn(connect_as(server.addr, client(&ca, &id("ann"))));
    tokio::task::yield_now().await;
    assert!(!early.is_finished());
    server.becomes(ca.identity(&id("server"), &ca.trust()));
    assert!(within(early).await.unwrap().is_ok());
}

#[tokio::test]
async fn half_open_handshakes_do_not_delay_the_stop() {
    let ca = Ca::new("one.test");
    let server = Server::with(ca.identity(&id("server"), &ca.trust()), Clients::Required).await;
    let mut tcp = TcpStream::connect(server.addr).await.unwrap();
    tcp.write_all(b"\x16\x03\x01").await.unwrap();
    let mut idle = connect_as(server.addr, client(&ca, &id("ann")))
        .await
        .unwrap();
    server.stop.trigger();
    within(server.task).await.unwrap().unwrap();
    assert!(ask(&mut idle, "/who").await.is_err());
}

#[test]
fn the_refusals_have_the_lengths_they_say() {
    let text = "this port speaks TLS: use https instead";
    assert_eq!(text.len(), 39);
    assert_eq!(39 + 8, 0x2f);
}
