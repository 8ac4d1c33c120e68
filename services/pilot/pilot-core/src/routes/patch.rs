//! A sidecar's RouteConfiguration after rules changed and nothing else: their routes are exchanged in the encoded message.
//!
//! Finding out anew which virtual hosts there are and what they are called costs far more than copying them. So where the same
//! VirtualServices speak for the same hosts of the same services, only what they say is put in, and all else stays as it is. In every other
//! case, and in any doubt, there is no patch, and the whole is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use mesh_model::{EgressListener, View, VirtualService};
use mesh_types::{Hostname, Protocol};
use prost::encoding::{WireType, decode_key, decode_varint};

use super::domains::host_and_port;
use super::facts::Facts;
use super::rule::{Input, Place, Routes};
use super::sidecar::{For, MESH};
use super::wire::{NAME, ROUTES, VIRTUAL_HOSTS, put_len};
use crate::{Memos, OutboundKey};

/// A virtual host whose routes are exchanged.
#[derive(Debug)]
pub(super) struct Exchange {
    name: String,
    pub(super) before: Arc<Routes>,
    pub(super) after: Arc<Routes>,
}

/// The virtual hosts of a RouteConfiguration that have other routes now, if that is all there can be; `None` if more may differ.
pub(super) fn exchanges(
    old: &View,
    new: &View,
    key: &OutboundKey,
    route_name: &str,
    memo: &Memos,
) -> Option<Vec<Exchange>> {
    let meant = For::read(route_name)?;
    let For::Port(port) = meant else {
        return None;
    };
    let (was, is) = (
        meant.listener(old, route_name)?,
        meant.listener(new, route_name)?,
    );
    if !same_hosts(old, new, was, is) {
        return None;
    }
    let (facts, mesh) = (Arc::new(Facts::of(new, key)), Arc::<str>::from(MESH));
    let routes = |view: &View, vs: &Arc<VirtualService>| {
        let place = Place {
            gateway: mesh.clone(),
            port,
            tls: false,
        };
        super::routes(Input::rules(view, vs, place, &facts), memo)
    };
    let mut out = Vec::new();
    for (was, is_now) in was.virtual_services.iter().zip(is.virtual_services.iter()) {
        if Arc::ptr_eq(was, is_now) {
            continue;
        }
        let same_hosts = was.hosts == is_now.hosts;
        let by_name = !was.gateway_semantics && !is_now.gateway_semantics;
        if !same_hosts || !by_name || !is_now.hosts.iter().all(|host| speaks_alone(is, host)) {
            return None;
        }
        let (before, after) = (routes(old, was), routes(new, is_now));
        if before.is_empty() != after.is_empty() {
            return None; // whom the service listens to may be another now
        }
        if before == after {
            continue;
        }
        out.extend(is_now.hosts.iter().map(|host| Exchange {
            name: host_and_port(host.as_str(), port),
            before: before.clone(),
            after: after.clone(),
        }));
    }
    Some(out)
}

/// Whether virtual hosts and their names are the same before and after, as far as VirtualServices do not decide it.
fn same_hosts(old: &View, new: &View, was: &EgressListener, is: &EgressListener) -> bool {
    !matches!(is.port, Some((_, Protocol::HttpProxy)))
        && Arc::ptr_eq(&old.mesh, &new.mesh)
        && old.outbound_policy == new.outbound_policy
        && same_values(&old.services, &new.services)
        && same_values(&old.destination_rules, &new.destination_rules)
        && (Arc::ptr_eq(&old.aliases, &new.aliases) || old.aliases == new.aliases)
        && (Arc::ptr_eq(&was.services, &is.services)
            || was.services.len() == is.services.len()
                && was
                    .services
                    .iter()
                    .zip(is.services.iter())
                    .all(|(a, b)| Arc::ptr_eq(a, b)))
        && was.virtual_services.len() == is.virtual_services.len()
        && was.most_specific == is.most_specific
}

fn same_values<T>(
    a: &Arc<BTreeMap<Hostname, Arc<T>>>,
    b: &Arc<BTreeMap<Hostname, Arc<T>>>,
) -> bool {
    let pairs = || a.iter().zip(b.iter());
    Arc::ptr_eq(a, b)
        || a.len() == b.len() && pairs().all(|((x, v), (y, w))| Arc::ptr_eq(v, w) && x == y)
}

/// Whether one VirtualService of a listener and no other names a host, or hosts like it.
fn speaks_alone(listener: &EgressListener, host: &Hostname) -> bool {
    let related = |other: &Hostname| {
        other == host
            || (other.is_wildcard() || host.is_wildcard())
                && (other.matches(host) || host.matches(other))
    };
    let all = listener.virtual_services.iter();
    !host.is_wildcard() && all.filter(|vs| vs.hosts.iter().any(related)).count() == 1
}

/// The message with these exchanges made; `None` if a virtual host is not what it should have been. One that is not there has no names left
/// to it, and stays away.
pub(super) fn exchange(message: &[u8], exchanges: &[Exchange]) -> Option<BytesMut> {
    let by_name: BTreeMap<&[u8], &Exchange> = exchanges
        .iter()
        .map(|exchange| (exchange.name.as_bytes(), exchange))
        .collect();
    let grown: usize = exchanges
        .iter()
        .map(|e| e.after.specific.len() + e.after.catch_all.len() + 16)
        .sum();
    let mut out = BytesMut::with_capacity(message.len() + grown);
    let mut copied = 0;
    for field in Fields::of(message) {
        let field = field?;
        if field.tag != VIRTUAL_HOSTS {
            continue;
        }
        let host = &message[field.content..field.end];
        let name = Fields::of(host).next()??;
        let found = (name.tag == NAME).then(|| by_name.get(&host[name.content..name.end]))?;
        let Some(exchange) = found else {
            continue;
        };
        let (from, to) = routes_of(host)?;
        let before = [&exchange.before.specific[..], &exchange.before.catch_all].concat();
        if host[from..to] != before {
            return None;
        }
        let (specific, catch_all) = (&exchange.after.specific, &exchange.after.catch_all);
        let len = host.len() - before.len() + specific.len() + catch_all.len();
        out.put_slice(&message[copied..field.start]);
        put_len(VIRTUAL_HOSTS, len, &mut out);
        for part in [&host[..from], specific, catch_all, &host[to..]] {
            out.put_slice(part);
        }
        copied = field.end;
    }
    out.put_slice(&message[copied..]);
    Some(out)
}

/// The message inside an encoded `google.protobuf.Any`.
pub(super) fn message_of(any: &[u8]) -> Option<&[u8]> {
    let value = Fields::of(any).flatten().find(|field| field.tag == 2)?;
    any.get(value.content..value.end)
}

/// Where the routes of a virtual host stand: all together, as `wire` puts them.
fn routes_of(host: &[u8]) -> Option<(usize, usize)> {
    let mut found: Option<(usize, usize)> = None;
    for field in Fields::of(host) {
        let field = field?;
        if field.tag != ROUTES {
            continue;
        }
        found = match found {
            None => Some((field.start, field.end)),
            Some((from, to)) if to == field.start => Some((from, field.end)),
            Some(_) => return None,
        };
    }
    found
}

/// Where a field stands in its message.
#[derive(Debug, Clone, Copy)]
struct Field {
    tag: u32,
    start: usize,
    /// Where its content starts; of a number, where it ends.
    content: usize,
    end: usize,
}

/// The fields of a message; a `None` says that it cannot be read any further.
struct Fields<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Fields<'m> {
    fn of(message: &'m [u8]) -> Fields<'m> {
        Fields { message, at: 0 }
    }

    fn field(&mut self) -> Option<Field> {
        let start = self.at;
        let mut rest = self.message.get(start..)?;
        let (tag, wire) = decode_key(&mut rest).ok()?;
        let number = decode_varint(&mut rest).ok()?;
        let content = self.message.len() - rest.len();
        let end = match wire {
            WireType::Varint => content,
            WireType::LengthDelimited => content.checked_add(usize::try_from(number).ok()?)?,
            _ => return None,
        };
        self.at = end;
        (end <= self.message.len()).then_some(Field {
            tag,
            start,
            content,
            end,
        })
    }
}

impl Iterator for Fields<'_> {
    type Item = Option<Field>;

    fn next(&mut self) -> Option<Option<Field>> {
        (self.at < self.message.len()).then(|| {
            let field = self.field();
            if field.is_none() {
                self.at = self.message.len();
            }
            field
        })
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use envoy_api::envoy::config::route::v3::Route;

    use super::super::wire::{Frame, Host, configuration, put_route};
    use super::*;

    fn routes(name: &str) -> Arc<Routes> {
        let mut out = BytesMut::new();
        let route = Route {
            name: name.into(),
            ..Route::default()
        };
        put_route(&route, &mut out);
        Arc::new(Routes {
            specific: Bytes::new(),
            catch_all: out.freeze(),
        })
    }

    fn message(second: &Arc<Routes>) -> BytesMut {
        let host = |name: &str, routes: &Arc<Routes>| Host {
            name: name.into(),
            domains: vec![name.to_owned().into(), "x".repeat(300).into()],
            routes: smallvec::smallvec![routes.clone()],
            require_tls: true,
        };
        let frame = Frame {
            ignore_port: true,
            attempt_count: true,
        };
        let first = routes("first");
        configuration(
            "80",
            frame,
            &[
                host("a:80", &first),
                host("b:80", second),
                host("c:80", &first),
            ],
        )
    }

    fn exchange_of(name: &str, before: &Arc<Routes>, after: &Arc<Routes>) -> Exchange {
        Exchange {
            name: name.into(),
            before: before.clone(),
            after: after.clone(),
        }
    }

    #[test]
    fn an_exchange_makes_what_making_the_whole_makes() {
        let (old, new) = (routes("old"), routes(&"long".repeat(100)));
        let exchanges = [
            exchange_of("b:80", &old, &new),
            exchange_of("gone:80", &old, &new),
        ];
        assert_eq!(exchange(&message(&old), &exchanges), Some(message(&new)));
    }

    #[test]
    fn a_virtual_host_with_other_routes_than_expected_is_not_touched() {
        let (old, new) = (routes("old"), routes("new"));
        assert_eq!(
            exchange(&message(&new), &[exchange_of("b:80", &old, &new)]),
            None
        );
        let whole = message(&old);
        assert_eq!(
            exchange(
                &whole[..whole.len() - 1],
                &[exchange_of("b:80", &old, &new)]
            ),
            None
        );
    }
}
