//! Names over UDP and TCP, and the stream they come over.

use std::net::SocketAddr;
use std::time::Duration;

use envoy_api::any::Any;
use envoy_api::envoy::service::discovery::v3::DiscoveryRequest;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use envoy_api::type_url::{CLUSTER, LISTENER};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use mesh_api::istio::nds::NameTable;
use mesh_api::istio::nds::name_table::NameInfo;
use prost::{Message as _, Name as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::pilot::Pilot;
use super::rig::{PATIENCE, Setup, get, own_ip};

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(4711, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

async fn over_udp(at: SocketAddr, question: &Message) -> Message {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket
        .send_to(&question.to_vec().unwrap(), at)
        .await
        .unwrap();
    let mut buffer = vec![0; 65_535];
    let received = timeout(PATIENCE, socket.recv_from(&mut buffer)).await;
    let (length, _) = received.unwrap().unwrap();
    Message::from_vec(&buffer[..length]).unwrap()
}

async fn over_tcp(at: SocketAddr, question: &Message) -> Message {
    let mut stream = TcpStream::connect(at).await.unwrap();
    let bytes = question.to_vec().unwrap();
    stream.write_u16(bytes.len() as u16).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let mut answer = vec![0; usize::from(stream.read_u16().await.unwrap())];
    stream.read_exact(&mut answer).await.unwrap();
    Message::from_vec(&answer).unwrap()
}

fn addresses(message: &Message) -> Vec<String> {
    let answers = message.answers.iter();
    answers
        .map(|record| format!("{} {}", record.ttl, record.data))
        .collect()
}

fn names(pilot: &Pilot, host: &str, ip: &str) {
    let info = NameInfo {
        ips: vec![ip.into()],
        registry: "Kubernetes".into(),
        shortname: host.split('.').next().unwrap().into(),
        namespace: "default".into(),
    };
    let table = NameTable {
        table: [(host.to_owned(), info)].into(),
    };
    let any = Any {
        type_url: NameTable::type_url(),
        value: table.encode_to_vec(),
    };
    pilot.set(&NameTable::type_url(), [("names".to_owned(), any)]);
}

/// A server of the system, which knows one name.
async fn system_server() -> SocketAddr {
    let at = SocketAddr::new(own_ip(), 53);
    let udp = UdpSocket::bind(at).await.expect("port 53 needs root");
    let tcp = TcpListener::bind(at).await.unwrap();
    fn reply(bytes: &[u8]) -> Vec<u8> {
        let asked = Message::from_vec(bytes).unwrap();
        let mut reply = Message::error_msg(asked.metadata.id, OpCode::Query, ResponseCode::NoError);
        let name = asked.queries[0].name().clone();
        reply.add_queries(asked.queries.clone());
        if name.to_ascii() == "known.test." {
            let data = RData::A(A("192.0.2.53".parse().unwrap()));
            reply.add_answer(Record::from_rdata(name, 5, data));
        } else {
            reply.metadata.response_code = ResponseCode::NXDomain;
        }
        reply.to_vec().unwrap()
    }
    tokio::spawn(async move {
        let mut buffer = vec![0; 65_535];
        loop {
            let (length, peer) = udp.recv_from(&mut buffer).await.unwrap();
            udp.send_to(&reply(&buffer[..length]), peer).await.unwrap();
        }
    });
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = tcp.accept().await.unwrap();
            let mut asked = vec![0; usize::from(stream.read_u16().await.unwrap())];
            stream.read_exact(&mut asked).await.unwrap();
            let bytes = reply(&asked);
            stream.write_u16(bytes.len() as u16).await.unwrap();
            stream.write_all(&bytes).await.unwrap();
        }
    });
    at
}

/// Case 34: over both protocols, before and after the table has come; and readiness waits for it (case 30).
#[tokio::test(flavor = "multi_thread")]
async fn names_are_answered_over_both_protocols() {
    let pilot = Pilot::plain().await;
    let server = system_server().await;
    let setup = Setup::new()
        .pilots(&[format!("http://{}", pilot.address)])
        .var("ISTIO_META_DNS_CAPTURE", "true");
    // Nobody answers at the first: the next one is asked.
    setup.write(
        "etc/resolv.conf",
        &format!(
            "nameserver {}\nnameserver {}\nsearch default.svc.cluster.local\n",
            own_ip(),
            server.ip()
        ),
    );
    let agent = setup.start().await;
    let at = agent.dns.unwrap();
    let reviews = question("reviews.", RecordType::A);
    for reply in [over_udp(at, &reviews).await, over_tcp(at, &reviews).await] {
        assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
    }
    pilot
        .until("the table is asked for", |pilot| {
            !pilot.asked(&NameTable::type_url()).is_empty()
        })
        .await;
    agent
        .until("only names are missing", async || {
            let (status, body) = get(agent.status, "/healthz/ready").await.unwrap();
            status == 503 && body == "the table of names has not come\n"
        })
        .await;
    names(&pilot, "reviews.default.svc.cluster.local", "10.1.0.1");
    agent.ready().await;
    for reply in [over_udp(at, &reviews).await, over_tcp(at, &reviews).await] {
        assert!(reply.metadata.authoritative);
        assert_eq!(addresses(&reply), ["30 10.1.0.1"]);
    }
    let none = over_udp(at, &question("reviews.default.", RecordType::AAAA)).await;
    assert_eq!(none.metadata.response_code, ResponseCode::NoError);
    assert!(none.answers.is_empty());
    let known = question("known.test.", RecordType::A);
    for reply in [over_udp(at, &known).await, over_tcp(at, &known).await] {
        assert_eq!(addresses(&reply), ["5 192.0.2.53"]);
    }
    let unknown = over_udp(at, &question("unknown.test.", RecordType::A)).await;
    assert_eq!(unknown.metadata.response_code, ResponseCode::NXDomain);
    let (status, table) = get(agent.status, "/debug/ndsz").await.unwrap();
    assert!(
        status == 200 && table.contains("\"reviews.default\":[\"10.1.0.1\"]"),
        "{table}"
    );
    // Another table takes its place.
    names(&pilot, "ratings.default.svc.cluster.local", "10.1.0.2");
    let ratings = question("ratings.", RecordType::A);
    agent
        .until("the new table", async || {
            addresses(&over_udp(at, &ratings).await) == ["30 10.1.0.2"]
        })
        .await;
    assert_eq!(
        over_udp(at, &reviews).await.metadata.response_code,
        ResponseCode::NXDomain
    );
}

/// At the port that programs ask by themselves others are asked before the table has come: with questions alone, and never the agent itself.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_server_passes_on_questions_and_nothing_else() {
    let server = system_server().await;
    let setup = Setup::new()
        .pilots(&["http://127.0.0.1:1".into()])
        .var("ISTIO_META_DNS_CAPTURE", "true");
    let at = SocketAddr::new(setup.ip, 53);
    let setup = setup.arg("--dns-addr", &at.to_string());
    setup.write(
        "etc/resolv.conf",
        &format!("nameserver {}\nnameserver {}\n", at.ip(), server.ip()),
    );
    let agent = setup.start().await;
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for noise in [&b""[..], b"x", b"\x00\x07\x01"] {
        socket.send_to(noise, at).await.unwrap();
    }
    let known = question("known.test.", RecordType::A);
    for reply in [over_udp(at, &known).await, over_tcp(at, &known).await] {
        assert_eq!(addresses(&reply), ["5 192.0.2.53"]);
    }
    assert!(!agent.logs().contains("panicked"), "{}", agent.logs());
    let passed_on = "istio_agent_dns_upstream_requests_total";
    assert_eq!(agent.metric(passed_on).await, 2.0);
}

/// Case 35: a second stream of Envoy's ends the first one; names are not for Envoy, and acknowledged by the agent.
#[tokio::test(flavor = "multi_thread")]
async fn the_newest_stream_counts_and_names_stay_here() {
    let pilot = Pilot::plain().await;
    names(&pilot, "reviews.default.svc.cluster.local", "10.1.0.1");
    let agent = Setup::new()
        .pilots(&[format!("http://{}", pilot.address)])
        .var("ISTIO_META_DNS_CAPTURE", "true")
        .start()
        .await;
    agent.ready().await;
    let acknowledged = |pilot: &Pilot| {
        let asked = pilot.asked(&NameTable::type_url());
        let mut answers = asked.iter().filter(|asked| !asked.nonce.is_empty());
        answers.any(|asked| asked.error.is_none())
    };
    pilot.until("the acknowledgement", acknowledged).await;
    assert_eq!(pilot.streams(), (1, 1));

    // In Envoy's place.
    let path = agent.path("etc/istio/proxy/XDS");
    let connector = tower::service_fn(move |_: http::Uri| {
        let path = path.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(path).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let channel = Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .unwrap();
    let (requests, receiver) = tokio::sync::mpsc::channel(8);
    for url in [CLUSTER, LISTENER] {
        let request = DiscoveryRequest {
            type_url: url.to_owned(),
            ..DiscoveryRequest::default()
        };
        requests.send(request).await.unwrap();
    }
    let mut responses = AggregatedDiscoveryServiceClient::new(channel)
        .stream_aggregated_resources(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    let mut types = Vec::new();
    for _ in 0..2 {
        types.push(responses.next().await.unwrap().unwrap().type_url);
    }
    types.sort();
    assert_eq!(types, [CLUSTER, LISTENER]);
    pilot
        .until("the stream has its own table", |pilot| {
            let asked = pilot.asked(&NameTable::type_url());
            asked
                .iter()
                .any(|asked| asked.stream == 2 && !asked.nonce.is_empty())
        })
        .await;
    // Envoy comes back at once, and takes its place again: this stream is over, without a table of names on it.
    let ended = timeout(PATIENCE, async {
        loop {
            match responses.next().await {
                Some(Ok(response)) => assert_ne!(response.type_url, NameTable::type_url()),
                Some(Err(status)) => break status.code(),
                None => panic!("no reason"),
            }
        }
    });
    assert_eq!(ended.await.unwrap(), tonic::Code::Unavailable);
    pilot
        .until("one stream is open", |pilot| pilot.streams().1 == 1)
        .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(pilot.streams().0 >= 3);
}
