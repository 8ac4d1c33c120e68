//! Certificates and roots that change while connections come and go.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use time::Duration as Span;
use tonic::codegen::Service as _;

use super::authority::client;
use super::*;

/// A client whose identity can be changed.
fn changing(identity: TlsIdentity) -> (watch::Sender<Option<Arc<TlsIdentity>>>, ClientTls) {
    let (sender, receiver) = watch::channel(Some(Arc::new(identity)));
    (sender, receiver.into())
}

/// 200 requests a second, each over a connection of its own, while both ends get new certificates and the root is replaced in the order
/// that a rotation has: none fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_of_leaves_and_roots_fails_no_request() {
    let (old, new) = (Ca::new("one.test"), Ca::new("one.test"));
    let both = old.trust_and(&new);
    let server = Server::with(old.identity(&id("server"), &old.trust()), Clients::Required).await;
    let (me, tls) = changing(old.identity(&id("ann"), &old.trust()));

    let (asked, over) = (
        Arc::new(AtomicU64::new(0)),
        Arc::new(AtomicBool::new(false)),
    );
    let load = tokio::spawn({
        let (asked, over, addr) = (asked.clone(), over.clone(), server.addr);
        async move {
            let mut tick = tokio::time::interval(Duration::from_millis(5));
            let mut running = tokio::task::JoinSet::new();
            while !over.load(Ordering::Relaxed) {
                tick.tick().await;
                let (asked, tls) = (asked.clone(), tls.clone());
                running.spawn(async move {
                    let outcome = connect_as(addr, tls).await.map(|_| ());
                    asked.fetch_add(1, Ordering::Relaxed);
                    outcome
                });
            }
            running.join_all().await
        }
    });
    let served = async |more: u64| {
        let target = asked.load(Ordering::Relaxed) + more;
        while asked.load(Ordering::Relaxed) < target {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let hand = |identity: TlsIdentity| me.send_replace(Some(Arc::new(identity)));

    served(50).await;
    // Renewed leaves of the same root.
    server.becomes(old.identity(&id("server"), &old.trust()));
    hand(old.identity(&id("ann"), &old.trust()));
    served(50).await;
    // The new root joins, at one end after the other.
    server.becomes(old.identity(&id("server"), &both));
    served(50).await;
    hand(old.identity(&id("ann"), &both));
    served(50).await;
    // The new root signs.
    hand(new.identity(&id("ann"), &both));
    served(50).await;
    server.becomes(new.identity(&id("server"), &both));
    served(50).await;
    // The old one leaves.
    server.becomes(new.identity(&id("server"), &new.trust()));
    hand(new.identity(&id("ann"), &new.trust()));
    served(50).await;
    over.store(true, Ordering::Relaxed);

    let outcomes = within(load).await.unwrap();
    let failed: Vec<_> = outcomes.iter().filter_map(|o| o.as_ref().err()).collect();
    assert!(
        failed.is_empty(),
        "{} of {}: {failed:?}",
        failed.len(),
        outcomes.len()
    );
    assert!(outcomes.len() >= 350);
    // And the old root is really gone.
    assert!(
        connect_as(server.addr, client(&old, &id("ann")))
            .await
            .is_err()
    );
}

/// Asks until the connection is at its end.
async fn until_it_ends(send: &mut Send) {
    while ask(send, "/who").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn who_is_not_believed_any_more_leaves() {
    let (old, new) = (Ca::new("one.test"), Ca::new("one.test"));
    let both = old.trust_and(&new);
    let server = Server::start(
        Some(new.identity(&id("server"), &both)),
        Clients::Required,
        |_, config| config.max_age_grace = Duration::from_secs(1),
    )
    .await;
    let of = async |ca: &Ca| {
        connect_as(
            server.addr,
            authority::fixed(ca.identity(&id("ann"), &both)),
        )
        .await
        .unwrap()
    };
    let (mut goes, mut stays, mut busy) = (of(&old).await, of(&new).await, of(&old).await);
    let endless = tokio::spawn(async move { ask(&mut busy, "/never").await });
    server.becomes(new.identity(&id("server"), &new.trust()));
    within(until_it_ends(&mut goes)).await;
    // What runs has the grace, and no more.
    assert!(within(endless).await.unwrap().is_err());
    assert!(ask(&mut stays, "/who").await.is_ok());
}

#[tokio::test]
async fn a_revoked_certificate_gets_nobody_in_and_ends_what_it_opened() {
    let ca = Ca::new("one.test");
    let server = Server::start(
        Some(ca.identity(&id("server"), &ca.trust())),
        Clients::Required,
        |_, config| config.max_age_grace = Duration::from_secs(3600),
    )
    .await;
    let (leaf, key) = ca.issue(&id("mallory"), &[], Span::hours(1));
    let mallory = TlsIdentity::new(&leaf.to_pem(), &key.to_pkcs8_pem(), ca.trust()).unwrap();
    let mallory = authority::fixed(mallory);
    let mut send = connect_as(server.addr, mallory.clone()).await.unwrap();
    let mut stream = connect_as(server.addr, mallory.clone()).await.unwrap();
    let mut ann = connect_as(server.addr, client(&ca, &id("ann")))
        .await
        .unwrap();
    let endless = tokio::spawn(async move { ask(&mut stream, "/never").await });

    let trust = ca.trust_with(&ca.revokes(&[&leaf]));
    server.becomes(ca.identity(&id("server"), &trust));
    within(until_it_ends(&mut send)).await;
    // At once, although what runs would have an hour.
    assert!(within(endless).await.unwrap().is_err());
    let error = connect_as(server.addr, mallory.clone()).await.unwrap_err();
    assert!(error.contains("CertificateRevoked"), "{error}");
    assert!(ask(&mut ann, "/who").await.is_ok());

    // Taken back.
    server.becomes(ca.identity(&id("server"), &ca.trust_with(&ca.revokes(&[]))));
    assert!(connect_as(server.addr, mallory).await.is_ok());
}

#[tokio::test]
async fn a_list_of_another_authority_revokes_nothing() {
    let (ca, other) = (Ca::new("one.test"), Ca::new("one.test"));
    let (leaf, key) = ca.issue(&id("ann"), &[], Span::hours(1));
    let trust = ca.trust_with(&other.revokes(&[&leaf]));
    let server = Server::with(ca.identity(&id("server"), &trust), Clients::Required).await;
    let ann = TlsIdentity::new(&leaf.to_pem(), &key.to_pkcs8_pem(), ca.trust()).unwrap();
    assert!(connect_as(server.addr, authority::fixed(ann)).await.is_ok());
}

#[tokio::test]
async fn no_connection_outlives_its_certificate() {
    let ca = Ca::new("one.test");
    let server = Server::start(
        Some(ca.identity(&id("server"), &ca.trust())),
        Clients::Required,
        |_, config| config.max_age_grace = Duration::from_millis(50),
    )
    .await;
    let (leaf, key) = ca.issue(&id("ann"), &[], Span::seconds(3));
    let ann = TlsIdentity::new(&leaf.to_pem(), &key.to_pkcs8_pem(), ca.trust()).unwrap();
    let mut send = connect_as(server.addr, authority::fixed(ann))
        .await
        .unwrap();
    assert!(within(ask(&mut send, "/never")).await.is_err());
    assert!(authority::now() >= leaf.not_after() - Span::seconds(1));
}

#[tokio::test]
async fn sessions_are_resumed_under_the_same_trust_only() {
    let (ca, other) = (Ca::new("one.test"), Ca::new("one.test"));
    let server = Server::with(ca.identity(&id("server"), &ca.trust()), Clients::Required).await;
    let mut config = client_config(client(&ca, &id("ann")), ServerId::spiffe(id("server")));
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let config = Arc::new(config);
    let kind = async || {
        let tcp = TcpStream::connect(server.addr).await.unwrap();
        let name = ServerName::try_from("test").unwrap();
        let stream = TlsConnector::from(config.clone())
            .connect(name, tcp)
            .await
            .unwrap();
        let kind = stream.get_ref().1.handshake_kind().unwrap();
        let (mut send, connection) =
            conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        tokio::spawn(connection);
        (kind, ask(&mut send, "/who").await)
    };
    let (first, second) = (kind().await, kind().await);
    assert_eq!(first.0, rustls::HandshakeKind::Full);
    assert_eq!(second.0, rustls::HandshakeKind::Resumed);
    assert_eq!(second.1.unwrap(), id("ann").to_string());
    // The root of the client's certificate left: its ticket is worth nothing.
    server.becomes(ca.identity(&id("server"), &other.trust()));
    let third = kind().await;
    assert_eq!(third.0, rustls::HandshakeKind::Full);
    assert!(third.1.is_err());
}

/// A call through a channel, as tonic's clients make it.
async fn call(channel: &Channel, method: &str) -> Result<(), String> {
    let mut channel = channel.clone();
    std::future::poll_fn(|cx| channel.poll_ready(cx))
        .await
        .map_err(|e| format!("{e:?}"))?;
    let request = http::Request::post(format!("/test.Test/{method}"))
        .body(tonic::body::Body::empty())
        .unwrap();
    let response = channel.call(request).await.map_err(|e| format!("{e:?}"))?;
    response
        .into_body()
        .collect()
        .await
        .map_err(|e| format!("{e:?}"))?;
    Ok(())
}

#[tokio::test]
async fn a_channel_follows_the_trust_and_reconnects() {
    let (old, new) = (Ca::new("one.test"), Ca::new("one.test"));
    let both = old.trust_and(&new);
    let server = Server::with(old.identity(&id("server"), &both), Clients::Required).await;
    let (me, tls) = changing(old.identity(&id("ann"), &both));
    let address = format!("https://{}", server.addr);
    let channel = connect(&address, tls, ServerId::spiffe(id("server"))).unwrap();
    call(&channel, "Ok").await.unwrap();

    // A certificate of the new root is used for new connections; calls that run are left alone.
    let running = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "Never").await }
    });
    tokio::task::yield_now().await;
    me.send_replace(Some(Arc::new(new.identity(&id("ann"), &both))));
    call(&channel, "Ok").await.unwrap();
    server.becomes(new.identity(&id("server"), &new.trust()));
    me.send_replace(Some(Arc::new(new.identity(&id("ann"), &new.trust()))));
    call(&channel, "Ok").await.unwrap();
    assert!(!running.is_finished());
    running.abort();

    // A server that is away, and back.
    server.stop.trigger();
    within(server.task).await.unwrap().unwrap();
    assert!(call(&channel, "Ok").await.is_err());
}

#[tokio::test(start_paused = false)]
async fn a_channel_leaves_a_server_that_was_revoked() {
    let ca = Ca::new("one.test");
    let (leaf, key) = ca.issue(&id("server"), &[], Span::hours(1));
    let identity = TlsIdentity::new(&leaf.to_pem(), &key.to_pkcs8_pem(), ca.trust()).unwrap();
    let server = Server::with(identity, Clients::Optional).await;
    let (me, tls) = changing(ca.identity(&id("ann"), &ca.trust()));
    let address = server.addr.to_string();
    let channel = connect(&address, tls, ServerId::spiffe(id("server"))).unwrap();
    let running = tokio::spawn({
        let channel = channel.clone();
        async move { call(&channel, "Never").await }
    });
    call(&channel, "Ok").await.unwrap();
    let trust = ca.trust_with(&ca.revokes(&[&leaf]));
    me.send_replace(Some(Arc::new(ca.identity(&id("ann"), &trust))));
    assert!(within(running).await.unwrap().is_err());
    let error = call(&channel, "Ok").await.unwrap_err();
    assert!(error.contains("Revoked"), "{error}");
}

#[tokio::test]
async fn addresses_of_channels() {
    for good in [
        "https://a:1",
        "tls://a:1/",
        "a:1",
        "[::1]:1",
        "https://127.0.0.1:443",
    ] {
        assert!(endpoint(good).is_ok(), "{good}");
    }
    for bad in [
        "http://a:1",
        "https://a",
        "nats://a:1",
        "https://a:1/path",
        "",
        "a b:1",
    ] {
        assert!(endpoint(bad).is_err(), "{bad}");
    }
    assert_eq!(
        endpoint("http://a:1").unwrap_err().to_string(),
        "\"http://a:1\" is no address to connect to over TLS (http:// is plaintext); write https://host:port"
    );
}
