//! What a client may send, and how it is told that it sent too much.

/// Bounds on one request. Everything a proxy sends is checked against these before memory is spent on it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// One request message. Unit: bytes. Default: 16 MiB, room for every name a proxy may subscribe to.
    pub message: usize,
    /// Names of one type, in one request and in all requests of a delta stream together. Default: 100 000.
    pub names: usize,
    /// One resource name. Unit: bytes. Default: 4096.
    pub name: usize,
    /// A nonce or a version. Unit: bytes. Default: 256.
    pub nonce: usize,
    /// A type URL. Unit: bytes. Default: 256.
    pub type_url: usize,
    /// The node message. Unit: bytes. Default: 1 MiB.
    pub node: usize,
    /// How much of a NACK's text is kept; the rest is cut off, not refused. Unit: bytes. Default: 4096.
    pub error_text: usize,
    /// One response. Unit: bytes. Default: 1 GiB. A larger one is not sent but recorded as rejected.
    pub response: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 16 << 20,
            names: 100_000,
            name: 4096,
            nonce: 256,
            type_url: 256,
            node: 1 << 20,
            error_text: 4096,
            response: 1 << 30,
        }
    }
}

/// Why a request ends its stream.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message exceeds [`Limits::message`].
    #[error("request of {len} bytes is larger than the limit of {limit}")]
    MessageTooLarge {
        /// Bytes sent.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A field exceeds its limit.
    #[error("{field} of {len} bytes is longer than the limit of {limit}")]
    FieldTooLong {
        /// The field's name in the protocol.
        field: &'static str,
        /// Bytes sent.
        len: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// More names than [`Limits::names`].
    #[error("more than {limit} resource names of one type")]
    TooManyNames {
        /// Names allowed.
        limit: usize,
    },
    /// Not a protobuf message of the expected type.
    #[error("malformed request at byte {at}: {what}")]
    Malformed {
        /// Offset in the message.
        at: usize,
        /// What is wrong there.
        what: &'static str,
    },
    /// A name or type URL is not UTF-8.
    #[error("{field} is not UTF-8")]
    NotUtf8 {
        /// The field's name in the protocol.
        field: &'static str,
    },
    /// A delta request on a state-of-the-world stream, or the other way round: a mistake of the caller.
    #[error("request of the other protocol variant")]
    WrongProtocol,
}

/// The gRPC status a [`Refusal`] ends the stream with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum GrpcCode {
    /// 3: the request is wrong in itself.
    InvalidArgument = 3,
    /// 8: the request is too big.
    ResourceExhausted = 8,
}

impl Refusal {
    /// The status code for the client.
    pub fn code(&self) -> GrpcCode {
        match self {
            Self::MessageTooLarge { .. }
            | Self::FieldTooLong { .. }
            | Self::TooManyNames { .. } => GrpcCode::ResourceExhausted,
            Self::Malformed { .. } | Self::NotUtf8 { .. } | Self::WrongProtocol => {
                GrpcCode::InvalidArgument
            }
        }
    }
}
