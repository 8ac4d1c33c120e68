//! What can go wrong on the bus, by what a caller would do.

use crate::MAX_PAYLOAD;

/// Why a call to the bus failed. None of them is a reason to stop working.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// The URL or an option cannot be used: a mistake in a flag.
    #[error("{url}: no bus: {reason}")]
    Url {
        /// The URL, without its password.
        url: String,
        /// What is wrong, and what to write.
        reason: String,
    },
    /// A malformed subject, pattern, bucket or key: a bug of the caller.
    #[error("{0}")]
    Invalid(String),
    /// More bytes than a message may have.
    #[error("a message of {0} bytes, the most is {MAX_PAYLOAD}")]
    TooLarge(usize),
    /// The bus is not connected. Nothing was sent.
    #[error("the bus is not connected")]
    Away,
    /// The bus did not answer in time: what was asked may or may not have happened, or may happen later.
    #[error("the bus did not answer ({0}); it is unknown whether it was done")]
    Unknown(String),
    /// The server says no: missing permissions, or no JetStream.
    #[error("the bus refuses: {0}; does its server run with JetStream, and may we use it?")]
    Refused(String),
}

pub(crate) fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://***@{host}"),
        _ => url.to_owned(),
    }
}

pub(crate) fn check_size(payload: &[u8]) -> Result<(), BusError> {
    if payload.len() > MAX_PAYLOAD {
        Err(BusError::TooLarge(payload.len()))
    } else {
        Ok(())
    }
}
