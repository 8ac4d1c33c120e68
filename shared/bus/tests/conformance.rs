//! What every bus must do, run on the one in memory and on a real NATS server.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::sync::Arc;
use std::time::Duration;

use bus::{Bus, BusError, BusOptions, Gather, KvEvent, KvWatch, MAX_PAYLOAD, connect};
use bytes::Bytes;
use tokio::time::{Instant, timeout};

// The file alone: the rest of the crate would make these tests wait for crates they do not need.
#[path = "../../testkit/src/nats.rs"]
#[allow(dead_code)]
mod nats;

use nats::Nats;

/// Longer than anything here takes; a wait that reaches it has failed.
const LONG: Duration = Duration::from_secs(20);

/// Lifetime of facts in tests that watch them expire: the shortest there is.
const SHORT_TTL: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(60);

async fn memory() -> Arc<dyn Bus> {
    connect("memory:", &BusOptions::default()).await.unwrap()
}

async fn over(nats: &Nats) -> Arc<dyn Bus> {
    let options = BusOptions {
        name: "test".into(),
        ..BusOptions::default()
    };
    connect(&nats.url(), &options).await.unwrap()
}

async fn connected(bus: &Arc<dyn Bus>, want: bool) {
    let mut state = bus.state();
    let changed = state.wait_for(|state| state.connected == want);
    timeout(LONG, changed)
        .await
        .expect("the state changes")
        .unwrap();
}

/// Runs one check on both.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod on_memory {
            $(#[tokio::test(start_paused = true)] async fn $name() { super::$name(super::memory().await).await; })*
        }
        mod on_nats {
            $(#[tokio::test] async fn $name() {
                let nats = super::Nats::start();
                let bus = super::over(&nats).await;
                super::connected(&bus, true).await;
                super::$name(bus).await;
            })*
        }
    };
}

on_both!(
    delivers_what_matches_to_everybody,
    gathers_answers,
    refuses_what_is_malformed,
    keeps_facts_of_any_key,
    tells_watchers_what_is_there_and_what_changes,
    lets_facts_expire,
);

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn put(key: &str, value: &str) -> KvEvent {
    KvEvent::Put {
        key: key.into(),
        value: bytes(value),
    }
}

fn gone(key: &str) -> KvEvent {
    KvEvent::Gone { key: key.into() }
}

async fn next(watch: &mut KvWatch) -> KvEvent {
    timeout(LONG, watch.next())
        .await
        .expect("an event")
        .expect("no end")
}

/// The facts from the next `Reset` to its `Synced`, sorted.
async fn batch(watch: &mut KvWatch) -> Vec<(String, Bytes)> {
    while next(watch).await != KvEvent::Reset {}
    let mut facts = std::collections::BTreeMap::new();
    loop {
        match next(watch).await {
            KvEvent::Put { key, value } => {
                facts.insert(key, value);
            }
            KvEvent::Gone { key } => {
                facts.remove(&key);
            }
            KvEvent::Reset => facts.clear(),
            KvEvent::Synced => return facts.into_iter().collect(),
        }
    }
}

async fn delivers_what_matches_to_everybody(bus: Arc<dyn Bus>) {
    let mut all = bus.subscribe("galley.>").await.unwrap();
    let mut one = bus.subscribe("galley.*.new").await.unwrap();
    for (subject, payload) in [
        ("galley.revision", "7"),
        ("pilot.x.new", "no"),
        ("galley.root.new", "8"),
    ] {
        bus.publish(subject, bytes(payload)).await.unwrap();
    }
    let got = timeout(LONG, all.next()).await.unwrap().unwrap();
    assert_eq!(
        (got.subject.as_str(), &got.payload[..]),
        ("galley.revision", &b"7"[..])
    );
    assert!(!got.wants_reply());
    got.respond("nobody waits").await.unwrap();
    assert_eq!(
        timeout(LONG, all.next()).await.unwrap().unwrap().payload,
        "8"
    );
    assert_eq!(
        timeout(LONG, one.next()).await.unwrap().unwrap().payload,
        "8"
    );
}

async fn gathers_answers(bus: Arc<dyn Bus>) {
    for name in ["a", "b"] {
        let mut asked = bus.subscribe("pilot.who-holds").await.unwrap();
        tokio::spawn(async move {
            while let Some(message) = asked.next().await {
                let text = format!("{name} heard {}", String::from_utf8_lossy(&message.payload));
                message.respond(text).await.unwrap();
            }
        });
    }
    let ask = |expect, timeout| {
        bus.request_many(
            "pilot.who-holds",
            bytes("web-1"),
            Gather { timeout, expect },
        )
    };
    let mut answers = ask(Some(2), LONG).await.unwrap();
    answers.sort();
    assert_eq!(answers, ["a heard web-1", "b heard web-1"]);
    assert_eq!(ask(Some(1), LONG).await.unwrap().len(), 1);
    assert_eq!(
        ask(None, Duration::from_millis(300)).await.unwrap().len(),
        2
    );

    let started = Instant::now();
    let nobody = bus.request_many(
        "nobody.listens",
        Bytes::new(),
        Gather {
            timeout: LONG,
            expect: None,
        },
    );
    assert_eq!(nobody.await.unwrap(), Vec::<Bytes>::new());
    assert!(started.elapsed() < LONG / 2);
}

async fn refuses_what_is_malformed(bus: Arc<dyn Bus>) {
    let invalid = |result: Result<(), BusError>| {
        assert!(matches!(result, Err(BusError::Invalid(_))), "{result:?}")
    };
    invalid(bus.publish("a b", Bytes::new()).await);
    invalid(bus.publish("a.*", Bytes::new()).await);
    invalid(bus.subscribe("a..b").await.map(drop));
    invalid(bus.kv("a.b", TTL).await.map(drop));
    invalid(bus.kv("short", Duration::from_millis(999)).await.map(drop));
    let large = Bytes::from(vec![0; MAX_PAYLOAD + 1]);
    assert_eq!(
        bus.publish("a", large.clone()).await,
        Err(BusError::TooLarge(MAX_PAYLOAD + 1))
    );
    let kv = bus.kv("limits", TTL).await.unwrap();
    assert_eq!(
        kv.put("k", large.clone()).await,
        Err(BusError::TooLarge(MAX_PAYLOAD + 1))
    );
    invalid(kv.put(&"k".repeat(600), Bytes::new()).await);
    kv.put("k", large.slice(..MAX_PAYLOAD)).await.unwrap();
    bus.publish("a", large.slice(..MAX_PAYLOAD)).await.unwrap();
}

async fn keeps_facts_of_any_key(bus: Arc<dyn Bus>) {
    let kv = bus.kv("proxies", TTL).await.unwrap();
    assert_eq!(kv.list().await.unwrap(), []);
    assert_eq!(kv.get("none").await.unwrap(), None);
    let odd = "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local *>";
    kv.put(odd, bytes("pilot-0")).await.unwrap();
    kv.put("", bytes("empty")).await.unwrap();
    kv.put("b", bytes("1")).await.unwrap();
    kv.put("b", bytes("2")).await.unwrap();
    assert_eq!(kv.get(odd).await.unwrap(), Some(bytes("pilot-0")));
    assert_eq!(kv.get("b").await.unwrap(), Some(bytes("2")));
    kv.delete("").await.unwrap();
    kv.delete("never was").await.unwrap();
    assert_eq!(kv.get("").await.unwrap(), None);
    let other = bus.kv("proxies", TTL).await.unwrap();
    assert_eq!(
        other.list().await.unwrap(),
        [
            ("b".to_owned(), bytes("2")),
            (odd.to_owned(), bytes("pilot-0"))
        ]
    );
}

async fn tells_watchers_what_is_there_and_what_changes(bus: Arc<dyn Bus>) {
    let kv = bus.kv("watched", TTL).await.unwrap();
    let mut early = kv.watch();
    assert_eq!(batch(&mut early).await, []);
    kv.put("a", bytes("1")).await.unwrap();
    assert_eq!(next(&mut early).await, put("a", "1"));
    let mut late = kv.watch();
    assert_eq!(batch(&mut late).await, [("a".to_owned(), bytes("1"))]);
    kv.delete("a").await.unwrap();
    kv.put("b", bytes("2")).await.unwrap();
    for watch in [&mut early, &mut late] {
        assert_eq!(next(watch).await, gone("a"));
        assert_eq!(next(watch).await, put("b", "2"));
    }
}

async fn lets_facts_expire(bus: Arc<dyn Bus>) {
    let kv = bus.kv("short", SHORT_TTL).await.unwrap();
    let mut watch = kv.watch();
    assert_eq!(batch(&mut watch).await, []);
    kv.put("a", bytes("1")).await.unwrap();
    assert_eq!(next(&mut watch).await, put("a", "1"));
    assert_eq!(next(&mut watch).await, gone("a"));
    assert_eq!(kv.get("a").await.unwrap(), None);
    assert_eq!(kv.list().await.unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_fact_put_again_in_time_stays() {
    let bus = memory().await;
    let kv = bus.kv("beats", Duration::from_secs(30)).await.unwrap();
    for beat in 0..5 {
        kv.put("a", bytes("1")).await.unwrap();
        tokio::time::advance(Duration::from_secs(29)).await;
        assert!(kv.get("a").await.unwrap().is_some(), "beat {beat}");
    }
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(kv.get("a").await.unwrap(), None);
}

#[tokio::test]
async fn a_watcher_that_is_too_slow_starts_anew() {
    let bus = memory().await;
    let kv = bus.kv("many", TTL).await.unwrap();
    let mut watch = kv.watch();
    assert_eq!(batch(&mut watch).await, []);
    for n in 0..=bus::CAPACITY {
        kv.put("a", bytes(&n.to_string())).await.unwrap();
    }
    assert_eq!(
        batch(&mut watch).await,
        [("a".to_owned(), bytes(&bus::CAPACITY.to_string()))]
    );
}

#[tokio::test]
async fn urls_are_checked_and_passwords_hidden() {
    for (url, want) in [
        (
            "redis://user:secret@h",
            "redis://***@h: no bus: want memory: or nats://host:4222",
        ),
        ("nats", "nats: no bus: want memory: or nats://host:4222"),
    ] {
        assert_eq!(
            connect(url, &BusOptions::default())
                .await
                .unwrap_err()
                .to_string(),
            want
        );
    }
    assert!(matches!(
        connect("nats://", &BusOptions::default()).await,
        Err(BusError::Url { .. })
    ));
}

#[tokio::test]
async fn nats_may_come_later() {
    let mut nats = Nats::prepare();
    let bus = over(&nats).await;
    assert!(!bus.state().borrow().connected);
    let mut news = bus.subscribe("news").await.unwrap();
    let kv = bus.kv("facts", TTL).await.unwrap();
    let mut watch = kv.watch();
    // Nothing waits for a server that is not there.
    let started = Instant::now();
    assert_eq!(
        bus.publish("news", bytes("lost")).await,
        Err(BusError::Away)
    );
    let gather = Gather {
        timeout: LONG,
        expect: None,
    };
    assert_eq!(
        bus.request_many("news", Bytes::new(), gather).await,
        Err(BusError::Away)
    );
    assert_eq!(kv.put("a", bytes("1")).await, Err(BusError::Away));
    assert_eq!(kv.get("a").await, Err(BusError::Away));
    assert_eq!(kv.list().await, Err(BusError::Away));
    assert!(started.elapsed() < Duration::from_secs(2));

    nats.launch();
    connected(&bus, true).await;
    bus.publish("news", bytes("heard")).await.unwrap();
    assert_eq!(
        timeout(LONG, news.next()).await.unwrap().unwrap().payload,
        "heard"
    );
    // What could not be put is put by itself.
    assert!(
        batch(&mut watch)
            .await
            .contains(&("a".to_owned(), bytes("1")))
            || next(&mut watch).await == put("a", "1")
    );
    assert_eq!(kv.get("a").await.unwrap(), Some(bytes("1")));
}

#[tokio::test]
async fn a_killed_nats_is_found_again() {
    let mut nats = Nats::start();
    let bus = over(&nats).await;
    connected(&bus, true).await;
    let mut news = bus.subscribe("news").await.unwrap();
    let kv = bus.kv("facts", TTL).await.unwrap();
    kv.put("a", bytes("1")).await.unwrap();
    let before = bus.state().borrow().connects;

    nats.kill();
    connected(&bus, false).await;
    assert_eq!(
        bus.publish("news", bytes("lost")).await,
        Err(BusError::Away)
    );
    nats.launch();
    connected(&bus, true).await;
    assert!(bus.state().borrow().connects > before);
    bus.publish("news", bytes("heard")).await.unwrap();
    assert_eq!(
        timeout(LONG, news.next()).await.unwrap().unwrap().payload,
        "heard"
    );
    assert_eq!(kv.get("a").await.unwrap(), Some(bytes("1")));
}

#[tokio::test]
async fn lost_buckets_come_back_with_what_we_put() {
    let mut nats = Nats::start();
    let bus = over(&nats).await;
    connected(&bus, true).await;
    let kv = bus.kv("facts", TTL).await.unwrap();
    kv.put("kept", bytes("1")).await.unwrap();
    kv.put("dropped", bytes("1")).await.unwrap();
    kv.delete("dropped").await.unwrap();
    let reader = over(&nats).await;
    connected(&reader, true).await;
    let mut watch = reader.kv("facts", TTL).await.unwrap().watch();
    assert_eq!(batch(&mut watch).await, [("kept".to_owned(), bytes("1"))]);

    nats.wipe();
    connected(&bus, false).await;
    connected(&reader, false).await;
    assert_eq!(kv.put("new", bytes("2")).await, Err(BusError::Away));
    nats.launch();

    // The reader's watch says so by itself: everything anew, however it is cut into batches.
    let mut facts = std::collections::BTreeMap::new();
    let mut anew = false;
    while !(anew && facts.len() == 2) {
        match next(&mut watch).await {
            KvEvent::Reset => {
                facts.clear();
                anew = true;
            }
            KvEvent::Put { key, value } => {
                facts.insert(key, value);
            }
            KvEvent::Gone { key } => panic!("{key} was never there"),
            KvEvent::Synced => {}
        }
    }
    assert_eq!(facts["kept"], "1");
    assert_eq!(facts["new"], "2");
    assert_eq!(kv.get("dropped").await.unwrap(), None);
}

#[tokio::test]
async fn a_bucket_deleted_under_us_is_made_again() {
    let nats = Nats::start();
    let bus = over(&nats).await;
    connected(&bus, true).await;
    let kv = bus.kv("facts", TTL).await.unwrap();
    let mut watch = kv.watch();
    assert_eq!(batch(&mut watch).await, []);
    kv.put("a", bytes("1")).await.unwrap();
    let server = async_nats::connect(nats.url()).await.unwrap();
    let jetstream = async_nats::jetstream::new(server);
    jetstream.delete_key_value("facts").await.unwrap();

    kv.put("b", bytes("2")).await.unwrap();
    assert_eq!(
        kv.list().await.unwrap(),
        [("a".to_owned(), bytes("1")), ("b".to_owned(), bytes("2"))]
    );
    // The watch is told to forget, then hears of both.
    while next(&mut watch).await != KvEvent::Reset {}
    let mut heard = std::collections::BTreeSet::new();
    while heard.len() < 2 {
        if let KvEvent::Put { key, .. } = next(&mut watch).await {
            heard.insert(key);
        }
    }

    jetstream.delete_key_value("facts").await.unwrap();
    assert_eq!(kv.list().await.unwrap().len(), 2);
}

#[tokio::test]
async fn a_server_without_jetstream_still_carries_news() {
    let nats = Nats::start_plain();
    let bus = over(&nats).await;
    connected(&bus, true).await;
    let mut news = bus.subscribe("news").await.unwrap();
    bus.publish("news", bytes("heard")).await.unwrap();
    assert_eq!(
        timeout(LONG, news.next()).await.unwrap().unwrap().payload,
        "heard"
    );
    let kv = bus.kv("facts", TTL).await.unwrap();
    let error = kv.put("a", bytes("1")).await.unwrap_err();
    assert!(
        matches!(&error, BusError::Refused(text) if text.starts_with("bucket facts: ")),
        "{error:?}"
    );
}
