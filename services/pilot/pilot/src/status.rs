//! How a stream ends, as gRPC says it.

use axum::body::Body as AxumBody;
use axum::http::{HeaderMap, HeaderValue, Response, header};

/// How a stream ends.
#[derive(Debug, Clone)]
pub struct Status {
    /// gRPC status code.
    pub code: u32,
    /// What the client is told.
    pub message: String,
}

impl Status {
    /// A status of this code, see gRPC's list.
    pub fn new(code: u32, message: impl Into<String>) -> Status {
        Status {
            code,
            message: message.into(),
        }
    }

    /// The end of a response.
    pub fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from(self.code));
        if !self.message.is_empty() {
            let encoded = percent(&self.message);
            if let Ok(value) = HeaderValue::from_str(&encoded) {
                trailers.insert("grpc-message", value);
            }
        }
        trailers
    }
}

/// gRPC's percent-encoding of a message.
fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes().take(4096) {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(byte as char),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A response that is over before it began: status in the headers.
pub(crate) fn refuse(status: Status) -> Response<AxumBody> {
    let mut response = Response::new(AxumBody::empty());
    response.headers_mut().extend(status.trailers());
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/grpc"),
    );
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_headers() {
        let trailers = Status::new(3, "100 % of \"\u{fc}\"\n").trailers();
        assert_eq!(trailers["grpc-status"], "3");
        assert_eq!(trailers["grpc-message"], "100 %25 of \"%C3%BC\"%0A");
        assert!(!Status::new(0, "").trailers().contains_key("grpc-message"));
    }
}
