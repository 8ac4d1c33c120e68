//! Galley comes late, goes away, and sends what cannot be used: a Pilot serves the last good it knows, and says how old that is.
//!
//! Galley here is its own core behind a socket, so that it can also be made to say what it never would.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_server::{
    AggregatedDiscoveryService, AggregatedDiscoveryServiceServer,
};
use envoy_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use futures::Stream;
use galley_core::{Snapshot, Subscriber};
use mesh_config::{Origin, decode_text};
use mesh_registry::{ChangeSet, Options, Registry};
use prost::Message;
use service_kit::tls::{TlsServer, serve_tls};
use service_kit::{ServeConfig, Stop};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use crate::ads::{Ads, Ask, CDS};
use crate::citadel::{Ca, GALLEY, PILOT};
use crate::rig::{Pilot, entry, get, json};

const A: &str = "outbound|80||a.example.com";
const B: &str = "outbound|80||b.example.com";

/// What Galley holds, and the Galley that serves it, while there is one.
struct Galley {
    address: SocketAddr,
    snapshots: watch::Sender<Arc<Snapshot>>,
    registry: Registry,
    /// Damages the responses on their way.
    damage: fn(&mut DeltaDiscoveryResponse),
    /// Who it is, over TLS.
    server: Option<TlsServer>,
    running: Option<Runtime>,
}

impl Galley {
    /// Not running yet.
    fn new() -> Galley {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Galley {
            address: taken.local_addr().unwrap(),
            snapshots: watch::Sender::new(Arc::default()),
            registry: Registry::new(Options::default()),
            damage: |_| {},
            server: None,
            running: None,
        }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next revision, after these objects came or changed.
    fn commit(&mut self, text: &str) {
        let objects = decode_text(text, &Origin::default()).objects;
        let changes: ChangeSet = objects
            .into_iter()
            .map(|(object, _)| (object.meta.key.clone(), Some(Arc::new(object))))
            .collect();
        let normal = self.registry.apply(&changes);
        self.snapshots.send_modify(|snapshot| {
            *snapshot = Arc::new(snapshot.next(snapshot.revision + 1, 1, &normal));
        });
    }

    fn launch(&mut self) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        // The one before may be on its way out still.
        let listener = loop {
            match std::net::TcpListener::bind(self.address) {
                Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                    std::thread::yield_now();
                }
                bound => break bound.unwrap(),
            }
        };
        listener.set_nonblocking(true).unwrap();
        let served = Served {
            snapshots: self.snapshots.subscribe(),
            damage: self.damage,
        };
        let server = self.server.clone();
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            let service = AggregatedDiscoveryServiceServer::new(served);
            if let Some(server) = server {
                let router = Routes::new(service).into_axum_router();
                let config = ServeConfig::streams();
                let served = serve_tls(listener, router, config, server, Stop::new()).await;
                return served.unwrap();
            }
            tonic::transport::Server::builder()
                .add_service(service)
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        self.running = Some(runtime);
    }

    /// Gone without a word.
    fn kill(&mut self) {
        if let Some(runtime) = self.running.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Galley {
    fn drop(&mut self) {
        self.kill();
    }
}

struct Served {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    damage: fn(&mut DeltaDiscoveryResponse),
}

type Responses<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AggregatedDiscoveryService for Served {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        _: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("delta only"))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaAggregatedResourcesStream>, Status> {
        let (mut requests, mut snapshots) = (request.into_inner(), self.snapshots.clone());
        let damage = self.damage;
        let (out, responses) = mpsc::channel(8);
        tokio::spawn(async move {
            let mut subscriber = Subscriber::default();
            subscriber.offer(snapshots.borrow_and_update().clone());
            loop {
                while let Some(chunk) = subscriber.next_chunk() {
                    let bytes: Bytes = chunk.pieces.concat().into();
                    let mut response = DeltaDiscoveryResponse::decode(bytes).unwrap();
                    damage(&mut response);
                    if out.send(Ok(response)).await.is_err() {
                        return;
                    }
                }
                tokio::select! {
                    request = requests.message() => match request {
                        Ok(Some(request)) => drop(subscriber.on_request(&request)),
                        Ok(None) | Err(_) => return,
                    },
                    changed = snapshots.changed() => match changed {
                        Ok(()) => subscriber.offer(snapshots.borrow_and_update().clone()),
                        Err(_) => return,
                    },
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses))))
    }
}

/// `galley_connected` and `stale_seconds`.
async fn link(pilot: &Pilot) -> (bool, u64) {
    let all = json(pilot.http, "/v1/proxies").await;
    let status = &all["pilots"][0];
    (
        status["galley_connected"].as_bool().unwrap(),
        status["stale_seconds"].as_u64().unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn galley_comes_late_goes_and_comes_back() {
    let data = tempfile::tempdir().unwrap();
    let mut galley = Galley::new();
    galley.commit(&entry("a", 80, "10.1.0.1"));
    let url = galley.url();
    let args = [
        "--galley",
        &url,
        "--data-dir",
        data.path().to_str().unwrap(),
    ];

    // Nothing is known yet.
    let mut pilot = Pilot::start(&args).await;
    pilot
        .until("it says what it waits for", async || {
            let (status, body) = get(pilot.monitoring, "/ready").await;
            status == 503
                && body.contains("the first revision")
                && body.contains("Galley is away; nothing to serve yet")
        })
        .await;
    assert!(!link(&pilot).await.0);

    galley.launch();
    pilot.ready().await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    let first = ads.settle().await;
    assert!(first.cds.has(A));
    assert_eq!(link(&pilot).await, (true, 0));
    assert_eq!(get(pilot.monitoring, "/ready").await.1, r#"{"ready":true}"#);
    assert_eq!(pilot.metric("flotilla_pilot_galley_connected").await, 1.0);

    // A revision, and Galley dies at once: it is on disk all the same.
    pilot
        .after(|| galley.commit(&entry("b", 80, "10.1.0.2")))
        .await;
    galley.kill();
    assert!(ads.take(CDS).await.has(B));
    pilot
        .until("it says that Galley is away", async || {
            let (status, body) = get(pilot.monitoring, "/ready").await;
            status == 200 && body.contains("serving revision 2")
        })
        .await;
    pilot
        .until("it counts", async || link(&pilot).await >= (false, 1))
        .await;
    assert!(
        Ads::sotw(&pilot, "q.default")
            .await
            .settle()
            .await
            .cds
            .has(B)
    );

    // Pilot restarts without Galley: from its file, with the same versions, and knows that what it has is old.
    pilot.terminate();
    assert!(pilot.ended().await.success(), "{}", pilot.logs());
    let pilot = Pilot::start(&args).await;
    pilot.ready().await;
    assert_eq!(pilot.revision().await, 2);
    let mut again = Ads::delta(&pilot, "p.default").await;
    again
        .send(Ask {
            type_url: CDS.into(),
            initial: first.cds.versions.clone(),
            ..Ask::default()
        })
        .await;
    assert_eq!(again.take(CDS).await.what(), (vec![B], vec![]));
    pilot
        .until("it counts", async || link(&pilot).await >= (false, 1))
        .await;

    // Galley is back with more.
    galley.commit(&entry("c", 81, "10.1.0.3"));
    galley.launch();
    assert!(again.take(CDS).await.has("outbound|81||c.example.com"));
    pilot
        .until("Galley is connected", async || {
            link(&pilot).await == (true, 0)
        })
        .await;
    pilot
        .until("the revision is built", async || {
            pilot.revision().await == 3
        })
        .await;
}

/// A revision that cannot be kept is served all the same, and kept once there is room; what was kept before stays until then.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_is_told_and_survived() {
    let data = tempfile::tempdir().unwrap();
    let mut galley = Galley::new();
    galley.commit(&entry("a", 80, "10.1.0.1"));
    galley.launch();
    let url = galley.url();
    let args = [
        "--galley",
        &url,
        "--data-dir",
        data.path().to_str().unwrap(),
    ];
    let pilot = Pilot::on_a_full_disk(&args).await;
    pilot.ready().await;
    let file = data.path().join("revision.pb");
    pilot.until("it is kept", async || file.exists()).await;

    let many: String = (0..300)
        .map(|n| format!("{}---", entry(&format!("s{n}"), 80, "10.1.0.1")))
        .collect();
    assert_eq!(pilot.after(|| galley.commit(&many)).await, 2);
    let note = "the last revision is not on disk";
    pilot
        .until("it says so", async || {
            let (status, body) = get(pilot.monitoring, "/ready").await;
            status == 200 && body.contains(note)
        })
        .await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    assert!(ads.settle().await.cds.has("outbound|80||s299.example.com"));
    let kept = std::fs::read(&file).unwrap();
    let kept = DeltaDiscoveryResponse::decode(&*kept).unwrap();
    assert_eq!(kept.system_version_info, "1");
    // Nothing half-written stays beside it.
    let beside = data.path().read_dir().unwrap().flatten();
    let beside: Vec<String> = beside
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("revision.pb.") || name.ends_with(".partial"))
        .collect();
    assert!(beside.is_empty(), "{beside:?}");

    // Nobody has to do anything.
    pilot.free_disk();
    pilot
        .until("it is kept", async || {
            !get(pilot.monitoring, "/ready").await.1.contains(note)
        })
        .await;
    let kept = std::fs::read(&file).unwrap();
    let kept = DeltaDiscoveryResponse::decode(&*kept).unwrap();
    assert_eq!(kept.system_version_info, "2");
}

/// An object that this Pilot cannot read stays at its last good version; everything else goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_read_stops_nothing() {
    let mut galley = Galley::new();
    galley.damage = |response| {
        for resource in &mut response.resources {
            if resource.name.contains("b.example.com")
                && let Some(any) = &mut resource.resource
            {
                any.value = b"\x0a\x01{".to_vec();
            }
        }
    };
    galley.commit(&(entry("a", 80, "10.1.0.1") + "---" + &entry("b", 80, "10.1.0.2")));
    galley.launch();
    let pilot = Pilot::start(&["--galley", &galley.url()]).await;
    pilot.ready().await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    let all = ads.settle().await;
    assert!(all.cds.has(A) && !all.cds.has(B), "{:?}", all.cds.names());
    pilot
        .after(|| galley.commit(&entry("c", 81, "10.1.0.3")))
        .await;
    assert!(ads.take(CDS).await.has("outbound|81||c.example.com"));
    assert!(pilot.logs().contains("cannot be used"), "{}", pilot.logs());
    assert_eq!(
        pilot
            .metric("flotilla_pilot_galley_divergences_total")
            .await,
        0.0
    );
    assert_eq!(link(&pilot).await, (true, 0));
}

/// A change lost on the way is noticed by the digest, and everything is fetched again.
#[tokio::test(flavor = "multi_thread")]
async fn a_loss_on_the_way_is_noticed() {
    static LOSE: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(false);
    let mut galley = Galley::new();
    galley.damage = |response| {
        let b = |name: &str| name.contains("b.example.com");
        if response.resources.iter().any(|r| b(&r.name))
            && LOSE.swap(false, std::sync::atomic::Ordering::SeqCst)
        {
            response.resources.retain(|r| !b(&r.name));
        }
    };
    galley.commit(&entry("a", 80, "10.1.0.1"));
    galley.launch();
    let pilot = Pilot::start(&["--galley", &galley.url()]).await;
    pilot.ready().await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    ads.settle().await;
    LOSE.store(true, std::sync::atomic::Ordering::SeqCst);
    galley.commit(&entry("b", 80, "10.1.0.2"));
    assert_eq!(ads.take(CDS).await.names(), [B]);
    assert_eq!(
        pilot
            .metric("flotilla_pilot_galley_divergences_total")
            .await,
        1.0
    );
}

/// With an identity, Galley is spoken to over TLS, and must be Galley.
#[tokio::test(flavor = "multi_thread")]
async fn galley_shows_who_it_is() {
    let (ca, mut galley) = (Ca::new(), Galley::new());
    let identity = ca.folder();
    let dir = identity.path().display().to_string();
    galley.commit(&entry("a", 80, "10.1.0.1"));
    // Somebody else of the mesh is no Galley.
    galley.server = Some(ca.server(PILOT));
    galley.launch();
    let address = galley.address.to_string();
    let pilot = Pilot::start(&["--identity-dir", &dir, "--galley", &address]).await;
    pilot
        .until("it says why there is no stream", async || {
            pilot.logs().contains("no stream from Galley")
        })
        .await;
    assert_ne!(get(pilot.monitoring, "/ready").await.0, 200);
    galley.kill();
    galley.server = Some(ca.server(GALLEY));
    galley.launch();
    pilot.ready().await;
    assert!(
        Ads::delta(&pilot, "p.default")
            .await
            .settle()
            .await
            .cds
            .has(A)
    );
}
