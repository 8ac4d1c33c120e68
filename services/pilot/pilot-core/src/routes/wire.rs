//! RouteConfigurations put together from encoded parts, so that only what is different is encoded.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use envoy_api::envoy::config::route::v3::virtual_host::TlsRequirementType;
use envoy_api::envoy::config::route::v3::{Route, RouteConfiguration};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use smallvec::SmallVec;

use super::rule::Routes;

/// Longest fixed response that Envoy takes. Unit: bytes.
const MAX_DIRECT_RESPONSE: u32 = 1024 * 1024;
/// Fields of a RouteConfiguration, and of a VirtualHost; all have keys of one byte.
pub(super) const VIRTUAL_HOSTS: u32 = 2;
pub(super) const NAME: u32 = 1;
const DOMAINS: u32 = 2;
pub(super) const ROUTES: u32 = 3;
const REQUIRE_TLS: u32 = 4;
const ATTEMPT_COUNT: u32 = 14;

/// A virtual host to be.
#[derive(Debug)]
pub(super) struct Host<'a> {
    pub(super) name: String,
    pub(super) domains: Vec<Cow<'a, str>>,
    /// Routes of one or several rules; those that take every request come after all others.
    pub(super) routes: SmallVec<[Arc<Routes>; 1]>,
    /// Whether plaintext requests are sent to HTTPS.
    pub(super) require_tls: bool,
}

/// What RouteConfigurations have besides virtual hosts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    /// Whether a port in a request's authority is left out of account.
    pub(super) ignore_port: bool,
    /// Whether endpoints learn which attempt they see.
    pub(super) attempt_count: bool,
}

/// Appends a route as an entry of a virtual host's `routes`.
pub(super) fn put_route(route: &Route, out: &mut BytesMut) {
    put_len(ROUTES, route.encoded_len(), out);
    // A BytesMut grows: encoding into it cannot run out of room.
    let _ = route.encode(out);
}

/// The message of a RouteConfiguration with these virtual hosts, in this order.
pub(super) fn configuration(name: &str, frame: Frame, hosts: &[Host<'_>]) -> BytesMut {
    let head = RouteConfiguration {
        name: name.to_owned(),
        validate_clusters: Some(false),
        max_direct_response_body_size_bytes: Some(MAX_DIRECT_RESPONSE),
        ignore_port_in_host_matching: frame.ignore_port,
        ..RouteConfiguration::default()
    };
    let lengths: Vec<usize> = hosts.iter().map(|host| host_len(host, frame)).collect();
    let total: usize = lengths.iter().map(|len| text_len(*len)).sum();
    let mut out = BytesMut::with_capacity(head.encoded_len() + total);
    let _ = head.encode(&mut out);
    for (host, len) in hosts.iter().zip(lengths) {
        put_len(VIRTUAL_HOSTS, len, &mut out);
        put_host(host, frame, &mut out);
    }
    out
}

fn put_host(host: &Host<'_>, frame: Frame, out: &mut BytesMut) {
    put_text(NAME, &host.name, out);
    for domain in &host.domains {
        put_text(DOMAINS, domain, out);
    }
    for routes in &host.routes {
        out.put_slice(&routes.specific);
    }
    for routes in &host.routes {
        out.put_slice(&routes.catch_all);
    }
    if host.require_tls {
        put_number(REQUIRE_TLS, TlsRequirementType::All as u8, out);
    }
    if frame.attempt_count {
        put_number(ATTEMPT_COUNT, 1, out);
    }
}

/// Bytes that [`put_host`] appends.
fn host_len(host: &Host<'_>, frame: Frame) -> usize {
    let names = text_len(host.name.len())
        + host
            .domains
            .iter()
            .map(|d| text_len(d.len()))
            .sum::<usize>();
    let routes = host
        .routes
        .iter()
        .map(|r| r.specific.len() + r.catch_all.len());
    let flags = usize::from(host.require_tls) + usize::from(frame.attempt_count);
    names + routes.sum::<usize>() + 2 * flags
}

/// A field with a key of one byte and that many bytes of content.
fn text_len(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

fn put_text(tag: u32, text: &str, out: &mut BytesMut) {
    put_len(tag, text.len(), out);
    out.put_slice(text.as_bytes());
}

fn put_number(tag: u32, number: u8, out: &mut BytesMut) {
    encode_key(tag, WireType::Varint, out);
    encode_varint(number.into(), out);
}

pub(super) fn put_len(tag: u32, len: usize, out: &mut BytesMut) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

#[cfg(test)]
mod tests {
    use envoy_api::envoy::config::route::v3::VirtualHost;

    use super::*;

    #[test]
    fn parts_make_the_message_that_encoding_the_whole_makes() {
        let route = |name: &str| Route {
            name: name.into(),
            ..Route::default()
        };
        let entry = |route: &Route| {
            let mut out = BytesMut::new();
            put_route(route, &mut out);
            out.freeze()
        };
        let routes = |specific: &str, last: &str| {
            Arc::new(Routes {
                specific: entry(&route(specific)),
                catch_all: entry(&route(last)),
            })
        };
        let long = "x".repeat(300);
        let host = Host {
            name: "a:80".into(),
            domains: vec!["a".into(), long.clone().into()],
            routes: smallvec::smallvec![
                routes("1", "3"),
                routes("2", "4"),
                Arc::new(Routes::default())
            ],
            require_tls: true,
        };
        let frame = Frame {
            ignore_port: true,
            attempt_count: true,
        };
        let made =
            RouteConfiguration::decode(configuration("80", frame, &[host]).freeze()).unwrap();
        let want = RouteConfiguration {
            name: "80".into(),
            validate_clusters: Some(false),
            max_direct_response_body_size_bytes: Some(1_048_576),
            ignore_port_in_host_matching: true,
            virtual_hosts: vec![VirtualHost {
                name: "a:80".into(),
                domains: vec!["a".into(), long],
                routes: ["1", "2", "3", "4"].map(route).into(),
                require_tls: TlsRequirementType::All.into(),
                include_request_attempt_count: true,
                ..VirtualHost::default()
            }],
            ..RouteConfiguration::default()
        };
        assert!(made == want);
    }
}
