use super::*;
use crate::testing::{DeltaDiscoveryRequest, DiscoveryRequest, Status};
use proptest::prelude::*;
use prost::Message;

fn strings(span: &Span) -> Vec<&str> {
    span.entries()
        .map(|e| std::str::from_utf8(e).unwrap())
        .collect()
}

#[test]
fn reads_a_state_of_the_world_request() {
    let m = DiscoveryRequest {
        version_info: "v1".into(),
        node: Some(b"".to_vec()),
        resource_names: vec!["b".into(), "a".into()],
        type_url: TypeId::Eds.url().into(),
        response_nonce: "1-1".into(),
        error_detail: Some(Status {
            code: 13,
            message: "bad".into(),
        }),
    };
    let r = parse_sotw(m.encode_to_vec().into(), &Limits::default()).unwrap();
    assert_eq!(r.type_url, TypeUrl::Known(TypeId::Eds));
    assert_eq!((&r.version[..], &r.nonce[..]), (&b"v1"[..], &b"1-1"[..]));
    assert_eq!(strings(&r.names), ["b", "a"]);
    assert_eq!(
        r.error,
        Some(ErrorDetail {
            code: 13,
            text: "bad".into()
        })
    );
    assert!(r.node.is_some());
}

proptest! {
    #[test]
    fn a_list_read_before_reads_the_same(
        before in prop::collection::vec("[ab]{0,2}", 0..5),
        other in prop::collection::vec("[ab]{0,2}", 0..3),
        now in prop::collection::vec("[ab]{0,2}", 0..5),
        again in any::<bool>(),
        scattered in any::<bool>(),
    ) {
        let parsed = |names: &[String], seen: &[Seen]| {
            let m = DiscoveryRequest {
                resource_names: names.to_vec(),
                type_url: TypeId::Eds.url().into(),
                ..Default::default()
            };
            let mut bytes = m.encode_to_vec();
            if scattered {
                bytes.extend([key(3), 1, b'c']);
            }
            parse_sotw_after(bytes.into(), &Limits::default(), seen.iter().copied()).unwrap()
        };
        let now = if again { before.clone() } else { now };
        let seen: Vec<Seen> = [&before, &other]
            .into_iter()
            .filter_map(|names| parsed(names, &[]).names.seen())
            .collect();
        let (with, without) = (parsed(&now, &seen), parsed(&now, &[]));
        prop_assert_eq!(with.names.bytes(), without.names.bytes());
        prop_assert_eq!(with.names.len(), without.names.len());
        prop_assert_eq!(with.names.seen(), without.names.seen());
        prop_assert_eq!(with.type_url, without.type_url);
    }
}

#[test]
fn reads_a_delta_request() {
    let m = DeltaDiscoveryRequest {
        type_url: "x".into(),
        resource_names_subscribe: vec!["a".into()],
        resource_names_unsubscribe: vec!["b".into(), "c".into()],
        initial_resource_versions: [("k".to_owned(), "v".to_owned())].into(),
        response_nonce: "n".into(),
        ..Default::default()
    };
    let r = parse_delta(m.encode_to_vec().into(), &Limits::default()).unwrap();
    assert_eq!(r.type_url, TypeUrl::Other("x".into()));
    assert_eq!(strings(&r.names), ["a"]);
    assert_eq!(strings(&r.unsubscribe), ["b", "c"]);
    assert_eq!(
        map_entry(r.initial_versions.entries().next().unwrap()),
        Some((&b"k"[..], &b"v"[..]))
    );
}

#[test]
fn scattered_names_are_gathered() {
    let part = |names: &[&str], url: &str| DiscoveryRequest {
        resource_names: names.iter().map(ToString::to_string).collect(),
        type_url: url.into(),
        ..Default::default()
    };
    let mut bytes = part(&["a", "b"], "x").encode_to_vec();
    part(&["c"], "y").encode(&mut bytes).unwrap();
    part(&["d", "e"], "").encode(&mut bytes).unwrap();
    let r = parse_sotw(bytes.into(), &Limits::default()).unwrap();
    assert_eq!(strings(&r.names), ["a", "b", "c", "d", "e"]);
    assert_eq!(r.names.len(), 5);
    assert_eq!(r.type_url, TypeUrl::Other("y".into()));
}

#[test]
fn twenty_thousand_names_are_fine_and_the_cap_holds() {
    let names: Vec<_> = (0..20_000)
        .map(|i| format!("outbound|80||service-{i}.shop.svc.cluster.local"))
        .collect();
    let m = DiscoveryRequest {
        resource_names: names,
        ..Default::default()
    };
    let bytes: Bytes = m.encode_to_vec().into();
    assert_eq!(
        parse_sotw(bytes.clone(), &Limits::default())
            .unwrap()
            .names
            .len(),
        20_000
    );
    let limits = Limits {
        names: 19_999,
        ..Limits::default()
    };
    let refusal = parse_sotw(bytes, &limits).unwrap_err();
    assert_eq!(refusal, Refusal::TooManyNames { limit: 19_999 });
    assert_eq!(refusal.code(), crate::GrpcCode::ResourceExhausted);
}

#[test]
fn every_bound_refuses() {
    let tiny = Limits {
        message: 64,
        name: 3,
        nonce: 3,
        type_url: 3,
        node: 3,
        error_text: 3,
        ..Limits::default()
    };
    let sotw = |m: DiscoveryRequest| parse_sotw(m.encode_to_vec().into(), &tiny);
    let long = || "abcd".to_owned();
    for m in [
        DiscoveryRequest {
            version_info: long(),
            ..Default::default()
        },
        DiscoveryRequest {
            response_nonce: long(),
            ..Default::default()
        },
        DiscoveryRequest {
            type_url: long(),
            ..Default::default()
        },
        DiscoveryRequest {
            resource_names: vec![long()],
            ..Default::default()
        },
        DiscoveryRequest {
            node: Some(long().into()),
            ..Default::default()
        },
    ] {
        assert!(matches!(
            sotw(m).unwrap_err(),
            Refusal::FieldTooLong {
                limit: 3,
                len: 4,
                ..
            }
        ));
    }
    let m = DiscoveryRequest {
        resource_names: vec!["abc".into(); 20],
        ..Default::default()
    };
    assert!(matches!(
        sotw(m).unwrap_err(),
        Refusal::MessageTooLarge { .. }
    ));
    let m = DiscoveryRequest {
        error_detail: Some(Status {
            code: 1,
            message: "abcdef".into(),
        }),
        ..Default::default()
    };
    assert_eq!(&*sotw(m).unwrap().error.unwrap().text, "abc");
}

#[test]
fn lengths_beyond_the_message_are_malformed() {
    for bytes in [
        &b"\x1a\x05a"[..],
        b"\x1a",
        b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x0b",
        b"\x1a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x00",
        b"\x18\x01",
        b"\x32\x02\x12\x09",
    ] {
        let r = parse_sotw(Bytes::copy_from_slice(bytes), &Limits::default());
        let refusal = r.expect_err(&format!("{bytes:?}"));
        assert_eq!(refusal.code(), crate::GrpcCode::InvalidArgument);
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
        let bytes = Bytes::from(bytes);
        for parsed in [parse_sotw(bytes.clone(), &Limits::default()), parse_delta(bytes.clone(), &Limits::default())].into_iter().flatten() {
            prop_assert_eq!(parsed.names.entries().count(), parsed.names.len());
            parsed.initial_versions.entries().for_each(|e| { map_entry(e); });
        }
    }

    #[test]
    fn what_another_decoder_accepts_we_read_alike(
        names in proptest::collection::vec("[a-z]{0,9}", 0..9), nonce in "[a-z]{0,5}", cut in 0usize..80, noise in any::<u8>(),
    ) {
        let m = DiscoveryRequest { resource_names: names, response_nonce: nonce, ..Default::default() };
        let mut bytes = m.encode_to_vec();
        if let Some(b) = bytes.get_mut(cut) { *b = noise; }
        if let Ok(theirs) = DiscoveryRequest::decode(&bytes[..])
            && let Ok(ours) = parse_sotw(bytes.clone().into(), &Limits::default()) {
            prop_assert_eq!(strings(&ours.names), theirs.resource_names);
            prop_assert_eq!(&ours.nonce[..], theirs.response_nonce.as_bytes());
        }
    }
}
