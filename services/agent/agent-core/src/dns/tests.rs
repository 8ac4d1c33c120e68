use std::net::SocketAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use mesh_api::istio::nds::NameTable;
use mesh_api::istio::nds::name_table::NameInfo;

use super::*;

fn table() -> Table {
    let info = |ips: &[&str], registry: &str, shortname: &str, namespace: &str| NameInfo {
        ips: ips.iter().map(|ip| (*ip).to_owned()).collect(),
        registry: registry.into(),
        shortname: shortname.into(),
        namespace: namespace.into(),
    };
    let many: Vec<String> = (0..120).map(|n| format!("10.9.0.{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let entries = [
        (
            "reviews.default.svc.cluster.local",
            info(&["10.1.0.1"], "Kubernetes", "reviews", "default"),
        ),
        (
            "ratings.shop.svc.cluster.local",
            info(&["10.1.0.2", "fd00::2"], "Kubernetes", "ratings", "shop"),
        ),
        ("*.example.com", info(&["240.0.0.1"], "External", "", "")),
        ("WWW.Example.org", info(&["240.0.0.2"], "External", "", "")),
        ("many.example.org", info(&many, "External", "", "")),
    ];
    let table = NameTable {
        table: entries
            .into_iter()
            .map(|(host, info)| (host.to_owned(), info))
            .collect(),
    };
    Table::build(
        &table,
        &Own {
            namespace: "default".into(),
            domain: "cluster.local".into(),
            search: vec![
                "default.svc.cluster.local".into(),
                "svc.cluster.local".into(),
            ],
        },
    )
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn ask_over(message: &Message, table: Option<&Table>, transport: Transport) -> Option<Message> {
    match answer(&message.to_vec().unwrap(), table, transport, 42) {
        Answer::Reply(bytes) => Some(Message::from_vec(&bytes).unwrap()),
        Answer::Forward => None,
        Answer::Drop => panic!("dropped"),
    }
}

/// `code[ aa][ tc]: answers` or `forward`.
#[track_caller]
fn check(name: &str, kind: RecordType, want: &str) {
    let Some(reply) = ask_over(&question(name, kind), Some(&table()), Transport::Udp) else {
        assert_eq!(want, "forward", "{name}");
        return;
    };
    assert_eq!(reply.metadata.id, 7);
    let mut text = format!("{:?}", reply.metadata.response_code);
    if reply.metadata.authoritative {
        text.push_str(" aa");
    }
    for record in &reply.answers {
        text.push_str(&format!(" {} {} {}", record.name, record.ttl, record.data));
    }
    assert_eq!(text, want, "{name}");
}

/// Case 34: known names, short forms, wildcards, missing families, unknown names.
#[test]
fn the_table_answers_and_others_are_asked_for_the_rest() {
    use RecordType::{A, AAAA, TXT};
    check(
        "reviews.default.svc.cluster.local.",
        A,
        "NoError aa reviews.default.svc.cluster.local. 30 10.1.0.1",
    );
    for name in [
        "reviews.",
        "reviews.default.",
        "reviews.default.svc.",
        "REVIEWS.",
    ] {
        check(name, A, &format!("NoError aa {name} 30 10.1.0.1"));
    }
    check("reviews.", AAAA, "NoError aa");
    check("ratings.shop.", AAAA, "NoError aa ratings.shop. 30 fd00::2");
    // Not of this namespace.
    check("ratings.", A, "forward");
    check(
        "a.b.example.com.",
        A,
        "NoError aa a.b.example.com. 30 240.0.0.1",
    );
    check("example.com.", A, "forward");
    check(
        "www.example.org.",
        A,
        "NoError aa www.example.org. 30 240.0.0.2",
    );
    check("reviews.", TXT, "forward");
    check("unknown.test.", A, "forward");
    // As programs ask that try search domains first.
    check(
        "www.example.org.default.svc.cluster.local.",
        A,
        "NoError aa www.example.org.default.svc.cluster.local. 30 www.example.org. www.example.org. 30 240.0.0.2",
    );
    check("www.example.org.svc.cluster.local.", A, "forward");
}

/// Case 34: before the table has come.
#[test]
fn before_the_table_nothing_is_known() {
    let reply = ask_over(&question("reviews.", RecordType::A), None, Transport::Udp).unwrap();
    assert_eq!(reply.metadata.response_code, ResponseCode::ServFail);
}

#[test]
fn answers_are_cut_to_what_the_client_takes() {
    let mut asked = question("many.example.org.", RecordType::A);
    let table = table();
    let of = |asked: &Message, transport| ask_over(asked, Some(&table), transport).unwrap();
    let plain = of(&asked, Transport::Udp);
    assert!(plain.metadata.truncation && plain.to_vec().unwrap().len() <= 512);
    let whole = of(&asked, Transport::Tcp);
    assert!(!whole.metadata.truncation && whole.answers.len() == 120);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    asked.set_edns(edns);
    let wide = of(&asked, Transport::Udp);
    assert!(!wide.metadata.truncation && wide.answers.len() == 120 && wide.edns.is_some());
}

#[test]
fn the_order_of_addresses_follows_the_random_number() {
    let asked = question("many.example.org.", RecordType::A)
        .to_vec()
        .unwrap();
    let table = table();
    let of = |random| answer(&asked, Some(&table), Transport::Tcp, random);
    assert_eq!(of(1), of(1));
    assert_ne!(of(1), of(2));
}

#[test]
fn what_is_no_question_gets_no_answer_and_what_is_malformed_is_told_so() {
    let of = |bytes: &[u8]| answer(bytes, None, Transport::Udp, 0);
    assert_eq!(of(b""), Answer::Drop);
    assert_eq!(of(b"\0\x07\x01"), Answer::Drop);
    let mut response = question("reviews.", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert_eq!(of(&response.to_vec().unwrap()), Answer::Drop);
    let Answer::Reply(bytes) = of(b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\xff") else {
        panic!("no reply");
    };
    let reply = Message::from_vec(&bytes).unwrap();
    assert_eq!(
        (reply.metadata.id, reply.metadata.response_code),
        (7, ResponseCode::FormErr)
    );
}

#[test]
fn answers_of_servers_are_those_of_the_question() {
    let asked = question("unknown.test.", RecordType::A);
    let mut reply = Message::error_msg(7, OpCode::Query, ResponseCode::NXDomain);
    reply.add_queries(asked.queries.clone());
    let (asked, bytes) = (asked.to_vec().unwrap(), reply.to_vec().unwrap());
    assert_eq!(relay(&asked, bytes.clone(), Transport::Udp), Some(bytes));
    let other = Message::error_msg(8, OpCode::Query, ResponseCode::NXDomain);
    assert_eq!(relay(&asked, other.to_vec().unwrap(), Transport::Udp), None);
    assert_eq!(relay(&asked, asked.clone(), Transport::Udp), None);
}

#[test]
fn the_resolver_never_asks_itself() {
    let text = "# made by hand\nnameserver 127.0.0.1\nnameserver 10.0.0.10 ; dns\nnameserver x\nsearch a.Local. b.local\noptions ndots:5\n";
    let own: SocketAddr = "127.0.0.1:53".parse().unwrap();
    let found = Resolver::parse(text, &[own]);
    assert_eq!(found.servers, ["10.0.0.10:53".parse().unwrap()]);
    assert_eq!(found.search, ["a.local", "b.local"]);
}

proptest::proptest! {
    /// Whatever comes from the network is answered, passed on or dropped.
    #[test]
    fn any_bytes_are_dealt_with(mut bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600), valid in proptest::bool::ANY) {
        if valid {
            let asked = question("reviews.", RecordType::A).to_vec().unwrap();
            bytes.splice(..bytes.len().min(asked.len() / 2), asked);
        }
        for transport in [Transport::Udp, Transport::Tcp] {
            if let Answer::Reply(reply) = answer(&bytes, Some(&table()), transport, 7) {
                proptest::prop_assert_eq!(&reply[..2], &bytes[..2]);
                proptest::prop_assert!(transport == Transport::Tcp || reply.len() <= 4096);
            }
            relay(&bytes, bytes.clone(), transport);
        }
    }
}
