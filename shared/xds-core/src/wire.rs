//! Reading requests without decoding their names.
//!
//! An ACK repeats every name the proxy is subscribed to: a hundred kilobytes that nearly always equal the last ones. So a request
//! is walked field by field and names stay raw until they are known to differ.

#[cfg(test)]
mod tests;

use std::num::NonZeroU32;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use xxhash_rust::xxh3::xxh3_64;

use crate::proto::key;
use crate::{Limits, Refusal, TypeId};

/// A request of either protocol, bounds checked, names and node still encoded.
#[derive(Clone, Debug)]
pub struct Request {
    pub(crate) delta: bool,
    /// The type asked for.
    pub type_url: TypeUrl,
    /// The encoded `envoy.config.core.v3.Node`; proxies send it with the first request of a stream only.
    pub node: Option<Bytes>,
    /// `response_nonce`, empty in a request that answers nothing.
    pub nonce: Bytes,
    /// `version_info` (state of the world only): the version the client accepted last, perhaps on another stream.
    pub version: Bytes,
    /// `error_detail`: the client rejects the response named by the nonce.
    pub error: Option<ErrorDetail>,
    /// `resource_names`, or in delta `resource_names_subscribe`.
    pub names: Span,
    /// `resource_names_unsubscribe` (delta only).
    pub unsubscribe: Span,
    /// `initial_resource_versions` (delta only), map entries.
    pub initial_versions: Span,
}

/// The type of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TypeUrl {
    /// One we serve.
    Known(TypeId),
    /// Any other.
    Other(Box<str>),
}

/// A NACK's `google.rpc.Status`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorDetail {
    /// gRPC code as sent, 0 if absent.
    pub code: i32,
    /// The proxy's words, cut at [`Limits::error_text`].
    pub text: Box<str>,
}

/// All occurrences of one repeated length-delimited field, with keys and lengths as on the wire.
#[derive(Clone, Debug, Default)]
pub struct Span {
    bytes: Bytes,
    count: usize,
    /// Hash of the bytes, if they were hashed already.
    hash: Option<u64>,
}

/// A span read before: enough to know it again without walking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    len: u32,
    count: NonZeroU32,
    hash: u64,
}

impl Span {
    /// The raw bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether the field is absent.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The entries' bodies.
    pub fn entries(&self) -> impl Iterator<Item = &[u8]> {
        entries(&self.bytes)
    }

    /// What to know these bytes by; `None` if there are none.
    pub(crate) fn seen(&self) -> Option<Seen> {
        Some(Seen {
            len: u32::try_from(self.bytes.len()).ok()?,
            count: NonZeroU32::new(u32::try_from(self.count).ok()?)?,
            hash: self.hash.unwrap_or_else(|| xxh3_64(&self.bytes)),
        })
    }
}

/// Gathers a [`Span`]. Adjacent entries cost nothing; once they are scattered each is copied once.
#[derive(Default)]
struct SpanBuilder {
    from: usize,
    to: usize,
    count: usize,
    copy: Option<BytesMut>,
    /// The hash of everything gathered, if it was recognised as a whole.
    hash: Option<u64>,
}

impl SpanBuilder {
    /// Takes, as the first entries, all those of a span read before that stand at `from`. Returns where they end.
    ///
    /// It is a hash that says so: a client that makes two lists collide deceives nobody but itself.
    fn recognise(
        &mut self,
        message: &[u8],
        from: usize,
        seen: impl Iterator<Item = Seen>,
    ) -> Option<usize> {
        let mut seen = seen.filter(|_| self.count == 0);
        let (seen, to) = seen.find_map(|seen| {
            let to = from.checked_add(seen.len as usize)?;
            let ends_there = message.get(to) != message.get(from);
            let bytes = message.get(from..to).filter(|_| ends_there)?;
            (xxh3_64(bytes) == seen.hash).then_some((seen, to))
        })?;
        (self.from, self.to, self.count) = (from, to, seen.count.get() as usize);
        self.hash = Some(seen.hash);
        Some(to)
    }

    fn add(&mut self, message: &Bytes, at: Range<usize>, limits: &Limits) -> Result<(), Refusal> {
        if self.count >= limits.names {
            return Err(Refusal::TooManyNames {
                limit: limits.names,
            });
        }
        if self.count == 0 {
            (self.from, self.to) = (at.start, at.end);
        } else if self.copy.is_none() && self.to == at.start {
            self.to = at.end;
        } else {
            let copy = self
                .copy
                .get_or_insert_with(|| BytesMut::from(&message[self.from..self.to]));
            copy.extend_from_slice(&message[at]);
        }
        self.count += 1;
        self.hash = None;
        Ok(())
    }

    fn finish(self, message: &Bytes) -> Span {
        let bytes = self
            .copy
            .map_or_else(|| message.slice(self.from..self.to), BytesMut::freeze);
        Span {
            bytes,
            count: self.count,
            hash: self.hash,
        }
    }
}

/// Bodies of back-to-back length-delimited fields with one-byte keys. Stops at anything else.
pub(crate) fn entries(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut r = Reader { buf: bytes, pos: 0 };
    std::iter::from_fn(move || {
        r.field().ok().flatten().and_then(|f| match f.value {
            Value::Bytes { from, to } => Some(&bytes[from..to]),
            Value::Number(_) => None,
        })
    })
}

/// Key and value of one entry of a `map<string, string>`.
pub(crate) fn map_entry(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut r = Reader { buf: entry, pos: 0 };
    let (mut key, mut value) = (&[][..], &[][..]);
    while let Some(f) = r.field().ok()? {
        match (f.number, f.value) {
            (1, Value::Bytes { from, to }) => key = &entry[from..to],
            (2, Value::Bytes { from, to }) => value = &entry[from..to],
            _ => {}
        }
    }
    Some((key, value))
}

/// Reads an `envoy.service.discovery.v3.DiscoveryRequest`.
///
/// # Errors
/// A [`Refusal`] if the bytes are no such message or exceed a limit.
pub fn parse_sotw(message: Bytes, limits: &Limits) -> Result<Request, Refusal> {
    parse_sotw_after(message, limits, std::iter::empty())
}

/// As [`parse_sotw`], of a client that listed these names before and probably does again.
pub(crate) fn parse_sotw_after(
    message: Bytes,
    limits: &Limits,
    seen: impl Iterator<Item = Seen> + Clone,
) -> Result<Request, Refusal> {
    parse(message, limits, false, seen, |number| match number {
        1 => Some(Field::Version),
        2 => Some(Field::Node),
        NAMES => Some(Field::Names),
        4 => Some(Field::TypeUrl),
        5 => Some(Field::Nonce),
        6 => Some(Field::Error),
        _ => None,
    })
}

/// Reads an `envoy.service.discovery.v3.DeltaDiscoveryRequest`.
///
/// # Errors
/// A [`Refusal`] if the bytes are no such message or exceed a limit.
pub fn parse_delta(message: Bytes, limits: &Limits) -> Result<Request, Refusal> {
    let seen = std::iter::empty();
    parse(message, limits, true, seen, |number| match number {
        1 => Some(Field::Node),
        2 => Some(Field::TypeUrl),
        NAMES => Some(Field::Names),
        4 => Some(Field::Unsubscribe),
        5 => Some(Field::InitialVersions),
        6 => Some(Field::Nonce),
        7 => Some(Field::Error),
        _ => None,
    })
}

/// Number of the field of names, in both protocols.
const NAMES: u32 = 3;

/// The fields read, all length-delimited.
enum Field {
    Version,
    Node,
    Names,
    Unsubscribe,
    InitialVersions,
    TypeUrl,
    Nonce,
    Error,
}

fn parse(
    message: Bytes,
    limits: &Limits,
    delta: bool,
    seen: impl Iterator<Item = Seen> + Clone,
    field: fn(u32) -> Option<Field>,
) -> Result<Request, Refusal> {
    if message.len() > limits.message {
        return Err(Refusal::MessageTooLarge {
            len: message.len(),
            limit: limits.message,
        });
    }
    let mut out = Request {
        delta,
        type_url: TypeUrl::Other("".into()),
        node: None,
        nonce: Bytes::new(),
        version: Bytes::new(),
        error: None,
        names: Span::default(),
        unsubscribe: Span::default(),
        initial_versions: Span::default(),
    };
    let (mut names, mut unsubscribe, mut initial) = (
        SpanBuilder::default(),
        SpanBuilder::default(),
        SpanBuilder::default(),
    );
    let short = |field, len: usize, limit| {
        if len > limit {
            Err(Refusal::FieldTooLong { field, len, limit })
        } else {
            Ok(())
        }
    };
    let mut r = Reader {
        buf: &message,
        pos: 0,
    };
    loop {
        let start = r.pos;
        if message.get(start) == Some(&key(NAMES as u8))
            && let Some(end) = names.recognise(&message, start, seen.clone())
        {
            r.pos = end;
            continue;
        }
        let Some(f) = r.field()? else { break };
        let Some(field) = field(f.number) else {
            continue;
        };
        let Value::Bytes { from, to } = f.value else {
            return Err(Refusal::Malformed {
                at: start,
                what: "wrong wire type",
            });
        };
        let (len, body) = (to - from, from..to);
        match field {
            Field::Version => {
                short("version_info", len, limits.nonce)?;
                out.version = message.slice(body);
            }
            Field::Nonce => {
                short("response_nonce", len, limits.nonce)?;
                out.nonce = message.slice(body);
            }
            Field::Node => {
                short("node", len, limits.node)?;
                out.node = Some(message.slice(body));
            }
            Field::TypeUrl => {
                short("type_url", len, limits.type_url)?;
                let url = std::str::from_utf8(&message[body])
                    .map_err(|_| Refusal::NotUtf8 { field: "type_url" })?;
                out.type_url = TypeId::from_url(url)
                    .map_or_else(|| TypeUrl::Other(url.into()), TypeUrl::Known);
            }
            Field::Error => out.error = Some(error_detail(&message[body], from, limits)?),
            Field::Names => {
                short("resource name", len, limits.name)?;
                names.add(&message, start..to, limits)?;
            }
            Field::Unsubscribe => {
                short("resource name", len, limits.name)?;
                unsubscribe.add(&message, start..to, limits)?;
            }
            Field::InitialVersions => {
                // key and length of two strings: a few bytes more
                short(
                    "initial_resource_versions entry",
                    len,
                    limits.name + limits.nonce + 16,
                )?;
                initial.add(&message, start..to, limits)?;
            }
        }
    }
    out.names = names.finish(&message);
    out.unsubscribe = unsubscribe.finish(&message);
    out.initial_versions = initial.finish(&message);
    Ok(out)
}

fn error_detail(status: &[u8], at: usize, limits: &Limits) -> Result<ErrorDetail, Refusal> {
    let mut r = Reader {
        buf: status,
        pos: 0,
    };
    let mut out = ErrorDetail {
        code: 0,
        text: "".into(),
    };
    let shift = |e| match e {
        Refusal::Malformed { at: inner, what } => Refusal::Malformed {
            at: at + inner,
            what,
        },
        other => other,
    };
    while let Some(f) = r.field().map_err(shift)? {
        match (f.number, f.value) {
            (1, Value::Number(code)) => out.code = code as i32,
            (2, Value::Bytes { from, to }) => {
                let kept = &status[from..to.min(from + limits.error_text)];
                out.text = String::from_utf8_lossy(kept).into();
            }
            _ => {}
        }
    }
    Ok(out)
}

/// Walks the top level of a message.
struct Reader<'a> {
    buf: &'a [u8],
    pos: usize,
}

struct RawField {
    number: u32,
    value: Value,
}

enum Value {
    Number(u64),
    Bytes { from: usize, to: usize },
}

impl Reader<'_> {
    fn field(&mut self) -> Result<Option<RawField>, Refusal> {
        if self.pos == self.buf.len() {
            return Ok(None);
        }
        let at = self.pos;
        let key = self.varint()?;
        let number = u32::try_from(key >> 3)
            .ok()
            .filter(|n| (1..1 << 29).contains(n));
        let Some(number) = number else {
            return Err(Refusal::Malformed {
                at,
                what: "field number",
            });
        };
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8)?,
            2 => {
                let len = self.varint()?;
                self.take(len)?
            }
            5 => self.take(4)?,
            _ => {
                return Err(Refusal::Malformed {
                    at,
                    what: "wire type",
                });
            }
        };
        // Fixed-width values are never read: hand them out as numbers so that they are not taken for strings.
        let value = if matches!(key & 7, 1 | 5) {
            Value::Number(0)
        } else {
            value
        };
        Ok(Some(RawField { number, value }))
    }

    fn varint(&mut self) -> Result<u64, Refusal> {
        let at = self.pos;
        let mut value = 0u64;
        for shift in (0..70).step_by(7) {
            let Some(&byte) = self.buf.get(self.pos) else {
                break;
            };
            self.pos += 1;
            if shift == 63 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Refusal::Malformed { at, what: "varint" })
    }

    fn take(&mut self, len: u64) -> Result<Value, Refusal> {
        let from = self.pos;
        let to = usize::try_from(len)
            .ok()
            .and_then(|len| from.checked_add(len))
            .filter(|to| *to <= self.buf.len());
        let Some(to) = to else {
            return Err(Refusal::Malformed {
                at: from,
                what: "length beyond the message",
            });
        };
        self.pos = to;
        Ok(Value::Bytes { from, to })
    }
}
