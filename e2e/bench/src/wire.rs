//! Protobuf and gRPC framing by hand: a response of two megabytes is walked, not decoded, so that the clients leave the machine to the
//! server.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Bytes that are no protobuf message, or not the one expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message cannot be read")]
pub struct Malformed;

/// The value of a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value<'a> {
    /// A varint.
    Number(u64),
    /// Anything with a length: text, bytes, a message.
    Bytes(&'a [u8]),
    /// Four or eight bytes; nobody here reads them.
    Fixed,
}

/// The fields of a message, in the order of the wire.
#[derive(Debug, Clone)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        (!self.0.is_empty()).then(|| {
            let field = self.field();
            if field.is_err() {
                self.0 = &[];
            }
            field
        })
    }
}

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let key = self.varint()?;
        let number = u32::try_from(key >> 3).map_err(|_| Malformed)?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let len = usize::try_from(self.varint()?).map_err(|_| Malformed)?;
                Value::Bytes(self.take(len)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok((number, value))
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first().ok_or(Malformed)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(len).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// Every occurrence of a field with a length.
pub fn each(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], Malformed>> {
    Fields(message).filter_map(move |field| match field {
        Ok((n, Value::Bytes(bytes))) if n == number => Some(Ok(bytes)),
        Ok(_) => None,
        Err(malformed) => Some(Err(malformed)),
    })
}

/// The last occurrence of a field with a length, as protobuf has it; empty if there is none.
pub fn last(message: &[u8], number: u32) -> Result<&[u8], Malformed> {
    each(message, number).last().unwrap_or(Ok(&[]))
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> Result<&str, Malformed> {
    std::str::from_utf8(bytes).map_err(|_| Malformed)
}

/// Appends a field with a length, unless it is empty.
pub fn put(out: &mut BytesMut, number: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.put_u8(number << 3 | 2);
        let mut len = bytes.len();
        while len >= 0x80 {
            out.put_u8((len & 0x7f | 0x80) as u8);
            len >>= 7;
        }
        out.put_u8(len as u8);
        out.put_slice(bytes);
    }
}

/// A gRPC message in two pieces, of which the second may be shared with other messages.
pub fn frame(head: BytesMut, tail: Bytes) -> [Bytes; 2] {
    let mut out = BytesMut::with_capacity(5 + head.len());
    out.put_u8(0);
    out.put_u32(u32::try_from(head.len() + tail.len()).unwrap_or(u32::MAX));
    out.unsplit(head);
    [out.freeze(), tail]
}

/// Puts messages together out of the pieces in which they arrive.
#[derive(Debug, Default)]
pub struct Deframer {
    buffer: Vec<u8>,
}

impl Deframer {
    /// Takes a piece and hands every message that is now whole to `each`.
    ///
    /// # Errors
    /// What `each` says; [`Malformed`] if a message is compressed.
    pub fn push<E: From<Malformed>>(
        &mut self,
        mut piece: &[u8],
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        while !piece.is_empty() {
            let wanted = self.wanted()?.unwrap_or(5);
            let (now, later) = piece.split_at((wanted - self.buffer.len()).min(piece.len()));
            self.buffer.reserve_exact(wanted - self.buffer.len());
            self.buffer.extend_from_slice(now);
            piece = later;
            if self.wanted()? == Some(self.buffer.len()) {
                each(&self.buffer[5..])?;
                // Dropped, not cleared: a thousand clients that keep two megabytes each would be too much.
                self.buffer = Vec::new();
            }
        }
        Ok(())
    }

    /// Length of prefix and message, once the prefix is there.
    fn wanted(&self) -> Result<Option<usize>, Malformed> {
        match self.buffer.first_chunk::<5>() {
            Some([0, length @ ..]) => Ok(Some(5 + u32::from_be_bytes(*length) as usize)),
            Some(_) => Err(Malformed),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use envoy_api::envoy::service::discovery::v3::DiscoveryRequest;
    use prost::Message as _;

    use super::*;

    #[test]
    fn fields_are_what_prost_wrote() {
        let request = DiscoveryRequest {
            version_info: "7".into(),
            resource_names: vec!["a".into(), "b".repeat(300)],
            ..Default::default()
        };
        let bytes = request.encode_to_vec();
        assert_eq!(last(&bytes, 1), Ok(&b"7"[..]));
        let names: Vec<_> = each(&bytes, 3)
            .map(|name| text(name.unwrap()).unwrap().to_owned())
            .collect();
        assert_eq!(names, request.resource_names);
        assert_eq!(last(&bytes, 9), Ok(&b""[..]));
    }

    #[test]
    fn what_is_put_is_read_back() {
        let mut out = BytesMut::new();
        put(&mut out, 1, b"7");
        put(&mut out, 2, b"");
        put(&mut out, 3, &[b'x'; 20_000]);
        let fields: Vec<_> = Fields(&out).map(Result::unwrap).collect();
        assert_eq!(
            fields,
            [(1, Value::Bytes(b"7")), (3, Value::Bytes(&[b'x'; 20_000]))]
        );
    }

    #[test]
    fn garbage_ends_with_an_error() {
        for garbage in [&[0x0a, 5, b'x'][..], &[0xff; 12], &[0x0b], &[0x09, 1]] {
            assert_eq!(Fields(garbage).last(), Some(Err(Malformed)));
        }
    }

    #[test]
    fn messages_come_out_whole_however_they_are_cut() {
        let mut stream = Vec::new();
        for message in [&b"first"[..], b"", &[7; 1000]] {
            let [head, tail] = frame(BytesMut::from(message), Bytes::from_static(b"+"));
            stream.extend_from_slice(&head);
            stream.extend_from_slice(&tail);
        }
        for size in [1, 3, 7, 5000] {
            let (mut deframer, mut got) = (Deframer::default(), Vec::new());
            for piece in stream.chunks(size) {
                deframer
                    .push(piece, |message| {
                        got.push(message.to_vec());
                        Ok::<_, Malformed>(())
                    })
                    .unwrap();
            }
            assert_eq!(
                got,
                [
                    b"first+".to_vec(),
                    b"+".to_vec(),
                    [&[7; 1000][..], b"+"].concat()
                ]
            );
        }
    }

    #[test]
    fn compressed_messages_are_refused() {
        assert_eq!(
            Deframer::default().push(&[1, 0, 0, 0, 0], |_| Ok(())),
            Err(Malformed)
        );
    }
}
