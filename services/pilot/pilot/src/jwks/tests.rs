//! Keys from servers that are there, and from those that mean ill. The servers are real, on loopback.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use prometheus::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

use super::*;

const KEYS: &str = r#"{"keys":[{"kty":"RSA","kid":"1","n":"x","e":"AQAB"}]}"#;

/// A server on an address of its own, that answers by path.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start(ip: [u8; 4], answer: impl Fn(&str) -> String + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind((Ipv4Addr::from(ip), 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (connections, sent) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let mut tasks = JoinSet::new();
        let counters = (connections.clone(), sent.clone());
        let answer = Arc::new(answer);
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counters.0.fetch_add(1, SeqCst);
                open.spawn(serve(stream, answer.clone(), counters.1.clone()));
            }
        });
        Server {
            address,
            connections,
            sent,
            _tasks: tasks,
        }
    }

    fn uri(&self, path: &str) -> JwksSource {
        JwksSource::Uri(format!("http://{}{path}", self.address).into())
    }

    fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

async fn serve(
    mut stream: TcpStream,
    answer: Arc<impl Fn(&str) -> String>,
    sent: Arc<AtomicUsize>,
) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else {
            return;
        };
        head.push(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let mut answer = answer(&path);
    // An endless body, as fast as it is taken.
    let endless = answer.ends_with("ENDLESS");
    if endless {
        answer.truncate(answer.len() - "ENDLESS".len());
    }
    if stream.write_all(answer.as_bytes()).await.is_err() {
        return;
    }
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    while endless && stream.write_all(chunk.as_bytes()).await.is_ok() {
        sent.fetch_add(chunk.len(), SeqCst);
    }
}

fn ok(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n")
}

/// Loopback is refused but for this address.
fn fetcher() -> Fetcher {
    let guard = Guard {
        blocked: Vec::new(),
        allowed: vec!["127.0.0.1/32".parse().unwrap()],
    };
    Fetcher::new(guard, None).unwrap()
}

fn blocked(result: Result<Arc<str>, FetchError>) -> Blocked {
    match result {
        Err(FetchError::Blocked { why, .. }) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn keys_come_from_a_uri_and_by_discovery() {
    let server = Server::start([127, 0, 0, 1], |path| match path {
        "/keys?a=b" => ok(KEYS),
        "/tenant/.well-known/openid-configuration" => {
            ok(r#"{"issuer":"x","jwks_uri":"http://127.0.0.1:PORT/keys?a=b"}"#)
        }
        "/three" => redirect("/two"),
        "/two" => redirect("one"),
        "/one" => redirect("/keys?a=b"),
        "/four" => redirect("/three"),
        _ => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".into(),
    })
    .await;
    let fetcher = fetcher();
    assert_eq!(
        &*fetcher.keys(&server.uri("/keys?a=b")).await.unwrap(),
        KEYS
    );
    assert_eq!(&*fetcher.keys(&server.uri("/three")).await.unwrap(), KEYS);
    assert!(matches!(
        fetcher.keys(&server.uri("/four")).await,
        Err(FetchError::Redirect(_))
    ));
    assert!(matches!(
        fetcher.keys(&server.uri("/none")).await,
        Err(FetchError::Status { status, .. }) if status == 404
    ));
    // The port of the second server is known only now.
    let keys = server.address;
    let issuer = Server::start([127, 0, 0, 1], move |path| match path {
        "/tenant/.well-known/openid-configuration" => {
            ok(&format!(r#"{{"jwks_uri":"http://{keys}/keys?a=b"}}"#))
        }
        _ => ok("{}"),
    })
    .await;
    for issuer_text in ["/tenant", "/tenant/"] {
        let source =
            JwksSource::Discovery(format!("http://{}{issuer_text}", issuer.address).into());
        assert_eq!(&*fetcher.keys(&source).await.unwrap(), KEYS);
    }
    let none = JwksSource::Discovery(format!("http://{}", issuer.address).into());
    assert!(matches!(
        fetcher.keys(&none).await,
        Err(FetchError::Content { .. })
    ));
}

/// Case 46, as far as it is about connections.
#[tokio::test]
async fn nothing_connects_to_what_is_not_to_be_reached() {
    let victim = Server::start([127, 0, 0, 2], |_| ok(KEYS)).await;
    let inside = victim.address;
    let server = Server::start([127, 0, 0, 1], move |path| match path {
        "/direct" => redirect(&format!("http://{inside}/keys")),
        "/metadata" => redirect("http://169.254.169.254/latest"),
        "/name" => redirect("http://metadata.example/latest"),
        _ => ok(KEYS),
    })
    .await;
    // A name that leads to where it must not, as rebinding does.
    let fetcher = fetcher().with_resolver(|host, port| {
        Box::pin(async move {
            let ip: std::net::IpAddr = match &*host {
                "metadata.example" => [169, 254, 169, 254].into(),
                "victim.example" => [127, 0, 0, 2].into(),
                other => other.parse().unwrap(),
            };
            Ok(vec![SocketAddr::new(ip, port)])
        })
    });
    let get = async |uri: &str| blocked(fetcher.keys(&JwksSource::Uri(uri.into())).await);
    assert_eq!(
        get("http://169.254.169.254/latest").await,
        Blocked::LinkLocal
    );
    assert_eq!(
        get("https://metadata.example/latest").await,
        Blocked::LinkLocal
    );
    let port = inside.port();
    assert_eq!(
        get(&format!("http://victim.example:{port}/")).await,
        Blocked::Loopback
    );
    for (path, why) in [
        ("/metadata", Blocked::LinkLocal),
        ("/name", Blocked::LinkLocal),
        ("/direct", Blocked::Loopback),
    ] {
        assert_eq!(
            blocked(fetcher.keys(&server.uri(path)).await),
            why,
            "{path}"
        );
    }
    assert_eq!(server.connections(), 3);
    assert_eq!(victim.connections(), 0);
    // It would have answered.
    let guard = Guard {
        allowed: vec!["127.0.0.0/8".parse().unwrap()],
        ..Guard::default()
    };
    let open = Fetcher::new(guard, None).unwrap();
    assert!(open.keys(&victim.uri("/")).await.is_ok());
}

/// The system's own spellings of an address are resolved before they are judged.
#[tokio::test]
async fn numbers_that_are_addresses_are_judged_as_addresses() {
    let fetcher = Fetcher::new(Guard::default(), None).unwrap();
    for uri in [
        "http://2852039166/latest",
        "http://0xa9fea9fe/",
        "http://localhost:1/",
        "http://[::ffff:169.254.169.254]/",
        "http://0/",
    ] {
        let result = fetcher.keys(&JwksSource::Uri(uri.into())).await;
        assert!(
            matches!(
                result,
                Err(FetchError::Blocked { .. } | FetchError::Resolve { .. } | FetchError::Uri(_))
            ),
            "{uri}: {result:?}"
        );
    }
}

/// Case 47.
#[tokio::test]
async fn what_is_no_key_set_is_refused_and_an_endless_one_is_not_read() {
    let server = Server::start([127, 0, 0, 1], |path| match path {
        "/html" => ok("<html>please log in</html>"),
        "/three" => ok(r#"{"keys": 3}"#),
        "/numbers" => ok(r#"{"keys": [3]}"#),
        "/none" => ok(r#"{}"#),
        "/deep" => ok(&"[".repeat(100_000)),
        "/latin" => ok("\u{fffd}"),
        "/declared" => {
            "HTTP/1.1 200 OK\r\ncontent-length: 5368709120\r\n\r\n{\"keys\":[ENDLESS".into()
        }
        "/chunked" => {
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n9\r\n{\"keys\":[\r\nENDLESS"
                .into()
        }
        "/header" => format!("HTTP/1.1 200 OK\r\nx: {}", "y".repeat(1 << 20)),
        _ => ok(KEYS),
    })
    .await;
    let fetcher = fetcher();
    for path in ["/html", "/three", "/numbers", "/none", "/deep", "/latin"] {
        let result = fetcher.keys(&server.uri(path)).await;
        assert!(
            matches!(result, Err(FetchError::Content { .. })),
            "{path}: {result:?}"
        );
    }
    for path in ["/declared", "/chunked"] {
        let result = fetcher.keys(&server.uri(path)).await;
        assert!(
            matches!(result, Err(FetchError::TooLarge(_))),
            "{path}: {result:?}"
        );
    }
    let header = fetcher.keys(&server.uri("/header")).await;
    assert!(matches!(header, Err(FetchError::Http { .. })), "{header:?}");
    // Nothing was taken beyond the bound, but for what sockets hold.
    assert!(server.sent.load(SeqCst) < 32 << 20);
}

struct Told(mpsc::UnboundedSender<Change>);

impl Facts for Told {
    fn take(&self, changes: Vec<Change>) {
        for change in changes {
            self.0.send(change).unwrap();
        }
    }
}

fn said(change: Change) -> (String, Option<Option<Arc<str>>>) {
    match change {
        Change::Delete(key) => (key.name.to_string(), None),
        Change::Upsert(object) => match &object.body {
            Body::MeshJwks(jwks) => (object.meta.key.name.to_string(), Some(jwks.keys.clone())),
            other => panic!("{other:?}"),
        },
    }
}

#[tokio::test]
async fn what_is_wanted_is_fetched_and_told_failing_closed() {
    let answers = Arc::new(AtomicUsize::new(0));
    let counter = answers.clone();
    let server = Server::start([127, 0, 0, 1], move |path| match path {
        // Fails once.
        "/late" if counter.fetch_add(1, SeqCst) == 0 => {
            "HTTP/1.1 503 Unavailable\r\ncontent-length: 0\r\n\r\n".into()
        }
        _ => ok(KEYS),
    })
    .await;
    let (wants, wanted) = watch::channel(Arc::new(BTreeSet::from([server.uri("/late")])));
    let (told, mut hears) = mpsc::unbounded_channel();
    let stop = Stop::new();
    let folder = tempfile::tempdir().unwrap();
    let file = || Some(folder.path().join("jwks.json"));
    let task = tokio::spawn(follow(
        (fetcher(), Duration::from_secs(1200)),
        Kept::read(file()),
        wanted,
        Told(told),
        Metrics::new(&Registry::new()).unwrap(),
        stop.clone(),
    ));
    let name = format!("uri:http://{}/late", server.address);
    let keys: Option<Arc<str>> = Some(KEYS.into());
    // Refused until there are keys, which are had a second later.
    let heard = said(hears.recv().await.unwrap());
    assert_eq!(heard, (name.clone(), Some(None)));
    let heard = said(hears.recv().await.unwrap());
    assert_eq!(heard, (name.clone(), Some(keys.clone())));
    // Nobody wants them, then somebody does again: they are still there.
    wants.send_replace(Arc::default());
    assert_eq!(said(hears.recv().await.unwrap()), (name.clone(), None));
    wants.send_replace(Arc::new(BTreeSet::from([server.uri("/late")])));
    let still = (name, Some(keys));
    assert_eq!(said(hears.recv().await.unwrap()), still);
    assert_eq!(server.connections(), 2);
    stop.trigger();
    task.await.unwrap();
    // The next Pilot tells them before it knows what is wanted, and then asks for them anew.
    let facts = Kept::read(file()).facts();
    assert_eq!(facts.into_iter().map(said).collect::<Vec<_>>(), [still]);
    std::fs::write(folder.path().join("jwks.json"), "[{]").unwrap();
    assert!(Kept::read(file()).facts().is_empty());
    assert!(Kept::read(None).facts().is_empty());
}

/// What was kept stays until somebody says what is wanted, and while it cannot be fetched.
#[tokio::test]
async fn kept_keys_outlive_an_issuer_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwks.json");
    let source = JwksSource::Uri("http://127.0.0.9:1/keys".into());
    let jwks = MeshJwks {
        source: source.clone(),
        keys: Some(KEYS.into()),
    };
    std::fs::write(&file, serde_json::to_vec(&[jwks]).unwrap()).unwrap();
    let kept = Kept::read(Some(file));
    let mut known = kept.entries(Instant::now());
    assert!(adopt(&mut known, &BTreeSet::new(), Instant::now()).is_empty());
    let wanted = BTreeSet::from([source.clone()]);
    let told = adopt(&mut known, &wanted, Instant::now());
    let keys: Option<Arc<str>> = Some(KEYS.into());
    let want = (source.key().name.to_string(), Some(keys));
    assert_eq!(told.into_iter().map(said).collect::<Vec<_>>(), [want]);
    let entry = known.get_mut(&source).unwrap();
    let failed = fetcher().keys(&source).await;
    assert!(!entry.learn(&source, failed, Duration::from_secs(1)));
    assert!(entry.keys.is_some());
}

#[test]
fn a_source_that_fails_is_left_alone_for_longer_and_longer() {
    let minutes = |n: u64| Duration::from_secs(60 * n);
    let second = Duration::from_secs(1);
    let paused: Vec<Duration> = (1..=16).map(|n| pause(n, false)).collect();
    assert_eq!(paused[..7], [second; 7]);
    assert_eq!(paused[7..], [1, 2, 4, 8, 16, 32, 60, 60, 60].map(minutes));
    assert_eq!(
        [1, 2, 3, 9].map(|n| pause(n, true)),
        [1, 2, 4, 60].map(minutes)
    );
    assert_eq!(pause(u32::MAX, true), minutes(60));
    assert_eq!(pause(u32::MAX, false), minutes(60));
}

#[tokio::test]
async fn what_nobody_needs_is_forgotten_after_a_week() {
    let source = |n: usize| JwksSource::Uri(format!("http://x/{n}").into());
    let start = Instant::now();
    let mut known = BTreeMap::new();
    let all: BTreeSet<_> = (0..MAX_SOURCES + 5).map(source).collect();
    assert!(adopt(&mut known, &all, start).is_empty());
    assert_eq!(known.len(), MAX_SOURCES);
    let gone = adopt(&mut known, &BTreeSet::new(), start);
    assert_eq!(gone.len(), MAX_SOURCES);
    adopt(
        &mut known,
        &BTreeSet::new(),
        start + UNUSED - Duration::from_secs(1),
    );
    assert_eq!(known.len(), MAX_SOURCES);
    // One that nobody needs makes room.
    let other = BTreeSet::from([JwksSource::Discovery("http://y".into())]);
    adopt(&mut known, &other, start);
    assert!(known.len() == MAX_SOURCES && known.keys().any(|s| other.contains(s)));
    adopt(&mut known, &BTreeSet::new(), start + UNUSED);
    assert_eq!(known.len(), 1);
}
