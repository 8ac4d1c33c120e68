use envoy_api::google::rpc;
use mesh_api::Digest;
use mesh_config::Object;
use mesh_registry::ChangeSet;
use mesh_types::Key;

use super::*;
use crate::testing::{object, of_kind};

const KINDS: [Kind; 2] = [Kind::Namespace, Kind::ConfigMap];

/// A client that keeps the contract of galley.proto.
#[derive(Default)]
struct Client {
    held: BTreeMap<(String, String), u64>,
    arriving: Vec<DeltaDiscoveryResponse>,
    revision: u64,
    largest: usize,
}

impl Client {
    /// Subscribes with what it holds, revisions last.
    fn subscribe(&self, subscriber: &mut Subscriber) {
        for kind in KINDS {
            let url = kind.type_url();
            let held = self.held.iter().filter(|((t, _), _)| *t == url);
            let versions = held
                .map(|((_, name), version)| (name.clone(), format!("{version:016x}")))
                .collect();
            let request = DeltaDiscoveryRequest {
                initial_resource_versions: versions,
                ..ask(&url)
            };
            assert_eq!(subscriber.on_request(&request), Ok(Heard::Subscription));
        }
        let request = ask(&galley::Revision::type_url());
        assert_eq!(subscriber.on_request(&request), Ok(Heard::Subscription));
    }

    /// Takes one response. Returns the end of a revision if it is one, after checking it.
    fn take(&mut self, chunk: &Chunk) -> Option<galley::Revision> {
        let bytes = chunk.pieces.concat();
        self.largest = self.largest.max(bytes.len());
        assert_eq!(bytes.len(), chunk.len());
        let response = DeltaDiscoveryResponse::decode(&*bytes).unwrap();
        assert_eq!(response.system_version_info, chunk.revision.to_string());
        if response.type_url != galley::Revision::type_url() {
            assert!(!response.resources.is_empty() || !response.removed_resources.is_empty());
            self.arriving.push(response);
            return None;
        }
        for response in std::mem::take(&mut self.arriving) {
            assert_eq!(response.system_version_info, chunk.revision.to_string());
            let url = response.type_url;
            for name in response.removed_resources {
                assert!(self.held.remove(&(url.clone(), name)).is_some());
            }
            for resource in response.resources {
                let any = resource.resource.unwrap();
                assert_eq!(any.type_url, url);
                let json = galley::Object::decode(&*any.value).unwrap().json;
                let object = Object::from_wire(&json).unwrap();
                let version = u64::from_str_radix(&resource.version, 16).unwrap();
                assert_eq!(
                    (object.version, object.meta.key.path()),
                    (version, resource.name.clone())
                );
                self.held.insert((url.clone(), resource.name), version);
            }
        }
        let resource = response.resources.into_iter().next().unwrap();
        let end = galley::Revision::decode(&*resource.resource.unwrap().value).unwrap();
        let mut digest = Digest::default();
        for ((url, name), version) in &self.held {
            digest.add(url, name, *version);
        }
        assert_eq!(
            (end.digest, end.objects),
            (digest.0, self.held.len() as u64)
        );
        assert_eq!(end.number, chunk.revision);
        self.revision = end.number;
        Some(end)
    }

    /// Takes everything that is due; how many responses that were.
    fn drain(&mut self, subscriber: &mut Subscriber) -> usize {
        let mut count = 0;
        while let Some(chunk) = subscriber.next_chunk() {
            self.take(&chunk);
            count += 1;
        }
        count
    }
}

fn ask(type_url: &str) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.into(),
        resource_names_subscribe: vec!["*".into()],
        ..DeltaDiscoveryRequest::default()
    }
}

/// `name=text` makes, `-name` removes.
fn next(snapshot: &Snapshot, changes: &str) -> Snapshot {
    let changes: ChangeSet = changes
        .split_whitespace()
        .map(|word| match word.split_once('=') {
            Some((name, says)) => {
                let object = object(name, says);
                (object.meta.key.clone(), Some(object))
            }
            None => (
                Key::new(Kind::ConfigMap, "shop", word.trim_start_matches('-')),
                None,
            ),
        })
        .collect();
    snapshot.next(snapshot.revision + 1, 7, &changes)
}

#[test]
fn a_client_gets_what_differs_and_the_end_of_every_revision() {
    let first = next(&Snapshot::default(), "a=1 b=1 c=1");
    let (mut client, mut subscriber) = (Client::default(), Subscriber::default());
    client.subscribe(&mut subscriber);
    assert!(subscriber.next_chunk().is_none());
    subscriber.offer(Arc::new(first.clone()));
    assert_eq!(client.drain(&mut subscriber), 2);
    assert_eq!(client.held.len(), 3);
    assert_eq!(subscriber.sent(), Some(1));

    let second = next(&first, "a=2 -b");
    subscriber.offer(Arc::new(second.clone()));
    let chunk = subscriber.next_chunk().unwrap();
    let response = DeltaDiscoveryResponse::decode(&*chunk.pieces.concat()).unwrap();
    assert_eq!(response.resources.len(), 1);
    assert_eq!(response.removed_resources, ["shop/b"]);
    client.take(&chunk);
    let end = client.take(&subscriber.next_chunk().unwrap()).unwrap();
    assert_eq!((end.number, end.committed_us, end.objects), (2, 7, 2));
    assert!(subscriber.next_chunk().is_none());

    // A revision without changes ends, too.
    subscriber.offer(Arc::new(next(&second, "")));
    assert_eq!(client.drain(&mut subscriber), 1);
    assert_eq!(client.revision, 3);
}

#[test]
fn an_unknown_world_is_not_an_empty_one() {
    let (mut client, mut subscriber) = (Client::default(), Subscriber::default());
    subscriber.offer(Arc::new(Snapshot::default()));
    client.subscribe(&mut subscriber);
    assert!(subscriber.next_chunk().is_none());
    subscriber.offer(Arc::new(next(&Snapshot::default(), "")));
    assert_eq!(client.drain(&mut subscriber), 1);
    assert_eq!((client.revision, client.held.len()), (1, 0));
}

#[test]
fn a_client_resumes_from_what_it_holds() {
    let first = next(&Snapshot::default(), "a=1 b=1 c=1");
    let (mut client, mut subscriber) = (Client::default(), Subscriber::default());
    subscriber.offer(Arc::new(first.clone()));
    client.subscribe(&mut subscriber);
    client.drain(&mut subscriber);

    // Nothing differs: the end alone.
    let mut again = Subscriber::default();
    again.offer(Arc::new(first.clone()));
    client.subscribe(&mut again);
    assert_eq!(client.drain(&mut again), 1);

    let mut again = Subscriber::default();
    again.offer(Arc::new(next(&first, "b=2 -c d=1")));
    client.subscribe(&mut again);
    let chunk = again.next_chunk().unwrap();
    let response = DeltaDiscoveryResponse::decode(&*chunk.pieces.concat()).unwrap();
    let names: Vec<&str> = response.resources.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(
        (names, response.removed_resources),
        (vec!["shop/b", "shop/d"], vec!["shop/c".to_owned()])
    );
    client.take(&chunk);
    client.drain(&mut again);
    assert_eq!(client.held.len(), 3);
}

#[test]
fn a_slow_client_skips_revisions_and_sees_each_it_sees_whole() {
    let big = "x".repeat(MAX_CHUNK / 3);
    let mut now = next(
        &Snapshot::default(),
        &format!("a={big} b={big} c={big} d={big}"),
    );
    let (mut client, mut subscriber) = (Client::default(), Subscriber::default());
    subscriber.offer(Arc::new(now.clone()));
    client.subscribe(&mut subscriber);
    client.take(&subscriber.next_chunk().unwrap());
    // In the middle of the first revision, nine more are made.
    for n in 0..9 {
        now = next(&now, &format!("a={n} n{n}=1"));
        subscriber.offer(Arc::new(now.clone()));
    }
    let mut seen = Vec::new();
    while let Some(chunk) = subscriber.next_chunk() {
        seen.extend(client.take(&chunk).map(|end| end.number));
    }
    assert_eq!(seen, [1, 10]);
    assert_eq!(client.held.len(), 13);
}

#[test]
fn chunks_stay_below_their_bound_and_a_larger_object_goes_alone() {
    let big = "x".repeat(MAX_CHUNK / 5);
    let huge = "x".repeat(MAX_CHUNK + 1);
    let changes: Vec<String> = (0..40).map(|n| format!("o{n}={big}")).collect();
    let first = next(&Snapshot::default(), &changes.join(" "));
    let (mut client, mut subscriber) = (Client::default(), Subscriber::default());
    subscriber.offer(Arc::new(first.clone()));
    client.subscribe(&mut subscriber);
    assert_eq!(client.drain(&mut subscriber), 11);
    assert!(client.largest <= MAX_CHUNK, "{}", client.largest);

    subscriber.offer(Arc::new(next(&first, &format!("a=1 huge={huge} z=1"))));
    assert_eq!(client.drain(&mut subscriber), 4);
    assert!(client.largest > MAX_CHUNK);

    // Names that are gone are bounded, too.
    let mut stale = Client::default();
    for n in 0..20_000 {
        let name = format!("shop/{n}-{}", "n".repeat(100));
        stale.held.insert((Kind::ConfigMap.type_url(), name), 1);
    }
    let mut again = Subscriber::default();
    again.offer(Arc::new(first));
    stale.subscribe(&mut again);
    stale.drain(&mut again);
    assert_eq!(stale.held.len(), 40);
    assert!(stale.largest <= MAX_CHUNK, "{}", stale.largest);
}

#[test]
fn a_digest_covers_what_was_subscribed() {
    let namespace = of_kind(
        Kind::Namespace,
        "n",
        mesh_config::resource::platform::Namespace::default(),
    );
    let changes = ChangeSet::from([(namespace.meta.key.clone(), Some(namespace))]);
    let first = next(&Snapshot::default(), "a=1").next(2, 0, &changes);
    let mut subscriber = Subscriber::default();
    subscriber.offer(Arc::new(first.clone()));
    subscriber
        .on_request(&ask(&Kind::ConfigMap.type_url()))
        .unwrap();
    subscriber
        .on_request(&ask(&galley::Revision::type_url()))
        .unwrap();
    let mut client = Client::default();
    client.drain(&mut subscriber);
    assert_eq!(client.held.len(), 1);
    // A collection that joins later comes with the next revision.
    subscriber
        .on_request(&ask(&Kind::Namespace.type_url()))
        .unwrap();
    assert!(subscriber.next_chunk().is_none());
    subscriber.offer(Arc::new(next(&first, "")));
    client.drain(&mut subscriber);
    assert_eq!(client.held.len(), 2);
}

#[test]
fn answers_and_odd_requests() {
    let mut subscriber = Subscriber::default();
    let url = Kind::ConfigMap.type_url();
    let answer = |error: Option<&str>| DeltaDiscoveryRequest {
        type_url: url.clone(),
        response_nonce: "1".into(),
        error_detail: error.map(|message| rpc::Status {
            message: message.into(),
            ..rpc::Status::default()
        }),
        ..DeltaDiscoveryRequest::default()
    };
    assert_eq!(subscriber.on_request(&answer(None)), Ok(Heard::Ack));
    assert_eq!(
        subscriber.on_request(&answer(Some("no"))),
        Ok(Heard::Nack("no".into()))
    );
    assert_eq!(
        subscriber.on_request(&ask("type.googleapis.com/x.Y")),
        Ok(Heard::Unknown("type.googleapis.com/x.Y".into()))
    );
    let single = DeltaDiscoveryRequest {
        resource_names_subscribe: vec!["shop/a".into()],
        ..ask(&url)
    };
    assert!(matches!(
        subscriber.on_request(&single),
        Err(Refusal::NotWhole { .. })
    ));
    let bad = DeltaDiscoveryRequest {
        initial_resource_versions: [("shop/a".to_owned(), "v1".to_owned())].into(),
        ..ask(&url)
    };
    assert!(matches!(
        subscriber.on_request(&bad),
        Err(Refusal::NoHash { .. })
    ));
    // Leaving a collection.
    subscriber.on_request(&ask(&url)).unwrap();
    subscriber
        .on_request(&ask(&galley::Revision::type_url()))
        .unwrap();
    let left = DeltaDiscoveryRequest {
        resource_names_subscribe: Vec::new(),
        resource_names_unsubscribe: vec!["*".into()],
        ..ask(&url)
    };
    subscriber.on_request(&left).unwrap();
    subscriber.offer(Arc::new(next(&Snapshot::default(), "a=1")));
    let mut client = Client::default();
    assert_eq!(client.drain(&mut subscriber), 1);
    assert!(client.held.is_empty());
}
