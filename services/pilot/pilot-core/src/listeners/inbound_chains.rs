//! Which chains a port of the application has: by protocol, and by whether mutual TLS is taken (SECURITY-INJECTION C.3).

use mesh_model::PeerMode;
use mesh_types::Protocol;

use super::assembly::plain_http;

/// What clients of the mesh offer inside TLS when it is HTTP.
const HTTP_OF_MESH: [&str; 3] = ["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// When it is anything.
const BYTES_OF_MESH: [&str; 2] = ["istio-peer-exchange", "istio"];
/// All of them.
const OF_MESH: [&str; 5] = [
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];

/// One chain: which connections of the port it takes, and what becomes of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Those that begin with TLS, or those that do not.
    pub tls: bool,
    /// Only those that offer one of these; empty takes any.
    pub alpn: Vec<String>,
    /// Whether TLS ends here.
    pub ends_tls: bool,
    /// Whether HTTP is inside, or bytes.
    pub http: bool,
}

fn row(tls: bool, alpn: &[&str], ends_tls: bool, http: bool) -> Row {
    Row {
        tls,
        alpn: alpn.iter().map(|name| (*name).to_owned()).collect(),
        ends_tls,
        http,
    }
}

/// The chains of a port, in order.
pub fn rows(protocol: Protocol, mode: PeerMode, http10: bool) -> Vec<Row> {
    let mesh = |alpn: &[&str], http| row(true, alpn, true, http);
    let opaque = || row(true, &[], false, false);
    let plain = |http| row(false, &[], false, http);
    let sniffed = || Row {
        alpn: plain_http(http10),
        ..plain(true)
    };
    if protocol == Protocol::Auto {
        return match mode {
            PeerMode::Disable => vec![sniffed(), plain(false)],
            PeerMode::Permissive => vec![
                mesh(&HTTP_OF_MESH, true),
                sniffed(),
                mesh(&BYTES_OF_MESH, false),
                plain(false),
                opaque(),
            ],
            PeerMode::Strict => vec![mesh(&HTTP_OF_MESH, true), mesh(&[], false)],
        };
    }
    let http = protocol.is_http();
    match mode {
        PeerMode::Disable => vec![plain(http)],
        // TLS to an HTTP port from outside the mesh finds nobody; to another port it is bytes like any.
        PeerMode::Permissive if http => vec![mesh(&OF_MESH, true), plain(true)],
        PeerMode::Permissive => vec![mesh(&OF_MESH, false), opaque(), plain(false)],
        PeerMode::Strict => vec![mesh(&[], http)],
    }
}

/// Whether a port's connections must be looked at for a TLS hello.
pub fn needs_tls(rows: &[Row]) -> bool {
    rows.iter().any(|row| row.tls)
}

/// Whether they must be looked at for plaintext HTTP.
pub fn needs_http(rows: &[Row]) -> bool {
    rows.iter().any(|row| !row.tls && !row.alpn.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row as the table of the specification writes it.
    fn show(row: &Row) -> String {
        let transport = if row.tls { "tls" } else { "raw" };
        let carries = if row.http { "HTTP" } else { "TCP" };
        let ends = match (row.tls, row.ends_tls) {
            (true, false) => " undecrypted",
            (true, true) => " term",
            (false, _) => "",
        };
        format!("{transport}{{{}}} -> {carries}{ends}", row.alpn.join(","))
    }

    #[track_caller]
    fn check(protocol: Protocol, mode: PeerMode, want: &[&str]) {
        let made: Vec<String> = rows(protocol, mode, false).iter().map(show).collect();
        assert_eq!(made, want);
    }

    #[test]
    fn c050_to_c053_every_row_of_the_table() {
        use PeerMode::{Disable, Permissive, Strict};
        let all = "tls{istio,istio-peer-exchange,istio-http/1.0,istio-http/1.1,istio-h2}";
        let http = "tls{istio-http/1.0,istio-http/1.1,istio-h2} -> HTTP term";
        for protocol in [
            Protocol::Http,
            Protocol::Http2,
            Protocol::Grpc,
            Protocol::GrpcWeb,
        ] {
            check(protocol, Strict, &["tls{} -> HTTP term"]);
            check(
                protocol,
                Permissive,
                &[&format!("{all} -> HTTP term"), "raw{} -> HTTP"],
            );
            check(protocol, Disable, &["raw{} -> HTTP"]);
        }
        for protocol in [
            Protocol::Tcp,
            Protocol::Tls,
            Protocol::Https,
            Protocol::Mongo,
        ] {
            check(protocol, Strict, &["tls{} -> TCP term"]);
            check(
                protocol,
                Permissive,
                &[
                    &format!("{all} -> TCP term"),
                    "tls{} -> TCP undecrypted",
                    "raw{} -> TCP",
                ],
            );
            check(protocol, Disable, &["raw{} -> TCP"]);
        }
        check(Protocol::Auto, Strict, &[http, "tls{} -> TCP term"]);
        check(
            Protocol::Auto,
            Permissive,
            &[
                http,
                "raw{http/1.1,h2c} -> HTTP",
                "tls{istio-peer-exchange,istio} -> TCP term",
                "raw{} -> TCP",
                "tls{} -> TCP undecrypted",
            ],
        );
        check(
            Protocol::Auto,
            Disable,
            &["raw{http/1.1,h2c} -> HTTP", "raw{} -> TCP"],
        );
        let old = rows(Protocol::Auto, Permissive, true);
        assert_eq!(show(&old[1]), "raw{http/1.0,http/1.1,h2c} -> HTTP");
    }
}
