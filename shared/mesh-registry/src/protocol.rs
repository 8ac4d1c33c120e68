//! What is spoken on a port (XDS-TRAFFIC 0.4).

use mesh_types::Protocol;

/// Ports on which the server speaks first or which are never HTTP: sniffing would stall them.
const SERVER_FIRST: [u32; 4] = [25, 53, 3306, 27017];

/// Protocol of a Kubernetes Service port: `appProtocol`, else UDP, else the prefix of its name, else well-known ports, else automatic.
pub fn of_service_port(
    app_protocol: Option<&str>,
    transport: &str,
    name: &str,
    number: u32,
) -> Protocol {
    if let Some(hint) = app_protocol {
        let known = match hint {
            "kubernetes.io/h2c" => Some(Protocol::Http2),
            "kubernetes.io/ws" => Some(Protocol::Http),
            "kubernetes.io/wss" => Some(Protocol::Https),
            other => Protocol::parse(other),
        };
        if let Some(protocol) = known {
            return protocol;
        }
    }
    if transport == "UDP" {
        return Protocol::Udp;
    }
    let lower = name.to_ascii_lowercase();
    let prefix = if lower.starts_with("grpc-web") {
        "grpc-web"
    } else {
        lower.split('-').next().unwrap_or_default()
    };
    match Protocol::parse(prefix) {
        Some(protocol) => protocol,
        None if SERVER_FIRST.contains(&number) => Protocol::Tcp,
        None => Protocol::Auto,
    }
}

/// Protocol of a ServiceEntry port: its text; empty or unknown is automatic.
pub fn of_entry_port(text: &str) -> Protocol {
    Protocol::parse(text).unwrap_or(Protocol::Auto)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hint_beats_transport_beats_name_beats_number() {
        assert_eq!(
            of_service_port(Some("kubernetes.io/h2c"), "TCP", "tcp", 80),
            Protocol::Http2
        );
        assert_eq!(
            of_service_port(Some("nonsense"), "TCP", "http-web", 80),
            Protocol::Http
        );
        assert_eq!(of_service_port(None, "UDP", "http", 80), Protocol::Udp);
        assert_eq!(
            of_service_port(None, "TCP", "grpc-web-x", 80),
            Protocol::GrpcWeb
        );
        assert_eq!(of_service_port(None, "TCP", "", 3306), Protocol::Tcp);
        assert_eq!(of_service_port(None, "TCP", "web", 80), Protocol::Auto);
    }
}
