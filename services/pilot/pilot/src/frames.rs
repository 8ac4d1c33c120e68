//! gRPC's messages out of a stream of bytes: five bytes of prefix, then the message.

use bytes::{Buf, Bytes, BytesMut};

use crate::status::Status;

/// Messages of at least this many bytes are not copied. Unit: bytes.
const LARGE: usize = 16 * 1024;

/// Bytes that have not become a message yet. Holds at most one message and what came with its last piece.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    buffer: BytesMut,
}

impl Frames {
    /// More bytes arrived.
    pub(crate) fn feed(&mut self, data: &[u8]) {
        self.buffer.extend_from_slice(data);
    }

    /// The next whole message. One of more than `limit` bytes is refused by its prefix, before the rest of it is waited for.
    pub(crate) fn next(&mut self, limit: usize) -> Result<Option<Bytes>, Status> {
        let Some(prefix) = self.buffer.first_chunk::<5>() else {
            return Ok(None);
        };
        if prefix[0] != 0 {
            return Err(Status::new(12, "compressed messages are not accepted"));
        }
        let len = u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize;
        if len > limit {
            return Err(Status::new(
                8,
                format!("request of {len} bytes is larger than the limit of {limit}"),
            ));
        }
        if self.buffer.len() < 5 + len {
            // Room for all of it at once: growing by pieces would copy what is there again and again.
            self.buffer.reserve(5 + len - self.buffer.len());
            return Ok(None);
        }
        self.buffer.advance(5);
        let message = self.buffer.split_to(len);
        // What is kept of a small message must not keep a large buffer; a large one is not worth copying, and nothing is kept of it.
        let message = if len < LARGE {
            Bytes::copy_from_slice(&message)
        } else {
            message.freeze()
        };
        if self.buffer.is_empty() {
            // Idle streams hold no buffer.
            self.buffer = BytesMut::new();
        }
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_whole_however_they_are_cut() {
        let wire = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01d";
        for cut in 1..wire.len() {
            let (mut frames, mut found) = (Frames::default(), Vec::new());
            for piece in wire.chunks(cut) {
                frames.feed(piece);
                while let Some(message) = frames.next(3).unwrap() {
                    found.push(message);
                }
            }
            assert_eq!(found, ["abc", "", "d"]);
            assert_eq!(frames.buffer.capacity(), 0);
        }
    }

    #[test]
    fn what_is_too_long_or_compressed_is_refused_by_its_prefix() {
        let refused = |prefix: &[u8]| {
            let mut frames = Frames::default();
            frames.feed(prefix);
            frames.next(100).unwrap_err()
        };
        assert_eq!(refused(b"\0\0\0\0\x65").code, 8);
        assert_eq!(refused(b"\0\xff\xff\xff\xff").code, 8);
        assert_eq!(refused(b"\x01\0\0\0\x01").code, 12);
    }
}
