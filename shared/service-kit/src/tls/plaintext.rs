//! Telling a client that speaks plaintext what is wrong, in its own language.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What an HTTP/1 client is told.
const HTTP1: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\ncontent-length: 39\r\nconnection: close\r\n\r\nthis port speaks TLS: use https instead";

/// What an HTTP/2 client is told: an empty SETTINGS frame, and GOAWAY with the code INADEQUATE_SECURITY (RFC 9113, section 7).
const HTTP2: &[u8] = b"\0\0\0\x04\0\0\0\0\0\0\0\x2f\x07\0\0\0\0\0\0\0\0\0\0\0\0\x0cthis port speaks TLS: use https instead";

/// First bytes of a connection, as far as they are needed to know what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// TLS, or something that only TLS can refuse.
    Tls,
    /// HTTP/1.
    Http1,
    /// HTTP/2 without TLS.
    Http2,
    /// Nothing came.
    Closed,
}

/// Looks at the first bytes, and leaves them where they are.
pub(super) async fn first(tcp: &TcpStream) -> First {
    let mut bytes = [0; 4];
    match tcp.peek(&mut bytes).await {
        Ok(0) | Err(_) => First::Closed,
        Ok(4) if &bytes == b"PRI " => First::Http2,
        // Methods are capital letters; TLS starts with 0x16.
        Ok(_) if bytes[0].is_ascii_uppercase() => First::Http1,
        Ok(_) => First::Tls,
    }
}

/// Says what is wrong and hangs up.
pub(super) async fn refuse(mut tcp: TcpStream, first: First) {
    let text = match first {
        First::Http1 => HTTP1,
        First::Http2 => HTTP2,
        First::Tls | First::Closed => return,
    };
    let told = async {
        tcp.write_all(text).await?;
        tcp.shutdown().await?;
        // Closing with unread bytes would reset the connection, and the client would not see what it was told.
        let mut sink = [0; 4096];
        for _ in 0..16 {
            if tcp.read(&mut sink).await? == 0 {
                break;
            }
        }
        Ok::<_, std::io::Error>(())
    };
    let _ = timeout(Duration::from_secs(1), told).await;
}
