//! Formats of access logs. One mistake in them and Envoy refuses every listener of the mesh, so it is found here.

use mesh_types::Code;
use serde_json::Value;

use super::report::Report;
use crate::schema::nearest;

/// Operators that Envoy 1.40 has, and which of them need an argument.
const OPERATORS: &[(&str, Argument)] = &{
    use Argument::{Needed, Optional};
    [
        ("ACCESS_LOG_TYPE", Optional),
        ("BYTES_RECEIVED", Optional),
        ("BYTES_RETRANSMITTED", Optional),
        ("BYTES_SENT", Optional),
        ("CEL", Needed),
        ("CLUSTER_METADATA", Needed),
        ("COMMON_DURATION", Needed),
        ("CONNECTION_ID", Optional),
        ("CONNECTION_TERMINATION_DETAILS", Optional),
        ("CUSTOM_FLAGS", Optional),
        ("DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", Optional),
        ("DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", Optional),
        ("DOWNSTREAM_DETECTED_CLOSE_TYPE", Optional),
        ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS", Optional),
        ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID", Optional),
        ("DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT", Optional),
        ("DOWNSTREAM_DIRECT_LOCAL_PORT", Optional),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS", Optional),
        ("DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", Optional),
        ("DOWNSTREAM_DIRECT_REMOTE_PORT", Optional),
        ("DOWNSTREAM_HANDSHAKE_DURATION", Optional),
        ("DOWNSTREAM_HEADER_BYTES_RECEIVED", Optional),
        ("DOWNSTREAM_HEADER_BYTES_SENT", Optional),
        ("DOWNSTREAM_LOCAL_ADDRESS", Optional),
        ("DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID", Optional),
        ("DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Optional),
        ("DOWNSTREAM_LOCAL_CLOSE_REASON", Optional),
        ("DOWNSTREAM_LOCAL_DNS_SAN", Optional),
        ("DOWNSTREAM_LOCAL_EMAIL_SAN", Optional),
        ("DOWNSTREAM_LOCAL_IP_SAN", Optional),
        ("DOWNSTREAM_LOCAL_OTHERNAME_SAN", Optional),
        ("DOWNSTREAM_LOCAL_PORT", Optional),
        ("DOWNSTREAM_LOCAL_SUBJECT", Optional),
        ("DOWNSTREAM_LOCAL_URI_SAN", Optional),
        ("DOWNSTREAM_PEER_CERT", Optional),
        ("DOWNSTREAM_PEER_CERT_V_END", Optional),
        ("DOWNSTREAM_PEER_CERT_V_START", Optional),
        ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1", Optional),
        ("DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256", Optional),
        ("DOWNSTREAM_PEER_CHAIN_SERIALS", Optional),
        ("DOWNSTREAM_PEER_DNS_SAN", Optional),
        ("DOWNSTREAM_PEER_EMAIL_SAN", Optional),
        ("DOWNSTREAM_PEER_FINGERPRINT_1", Optional),
        ("DOWNSTREAM_PEER_FINGERPRINT_256", Optional),
        ("DOWNSTREAM_PEER_IP_SAN", Optional),
        ("DOWNSTREAM_PEER_ISSUER", Optional),
        ("DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256", Optional),
        ("DOWNSTREAM_PEER_ISSUER_SERIAL", Optional),
        ("DOWNSTREAM_PEER_OTHERNAME_SAN", Optional),
        ("DOWNSTREAM_PEER_SERIAL", Optional),
        ("DOWNSTREAM_PEER_SUBJECT", Optional),
        ("DOWNSTREAM_PEER_URI_SAN", Optional),
        ("DOWNSTREAM_REMOTE_ADDRESS", Optional),
        ("DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Optional),
        ("DOWNSTREAM_REMOTE_PORT", Optional),
        ("DOWNSTREAM_TLS_CIPHER", Optional),
        ("DOWNSTREAM_TLS_GROUP", Optional),
        ("DOWNSTREAM_TLS_SESSION_ID", Optional),
        ("DOWNSTREAM_TLS_VERSION", Optional),
        ("DOWNSTREAM_TRANSPORT_FAILURE_REASON", Optional),
        ("DOWNSTREAM_WIRE_BYTES_RECEIVED", Optional),
        ("DOWNSTREAM_WIRE_BYTES_SENT", Optional),
        ("DURATION", Optional),
        ("DYNAMIC_METADATA", Needed),
        ("EMIT_TIME", Optional),
        ("EMIT_TIME_LOCAL", Optional),
        ("ENVIRONMENT", Needed),
        ("FILTER_CHAIN_NAME", Optional),
        ("FILTER_STATE", Needed),
        ("GRPC_STATUS", Optional),
        ("GRPC_STATUS_NUMBER", Optional),
        ("HOSTNAME", Optional),
        ("LISTENER_NAME", Optional),
        ("LOCAL_REPLY_BODY", Optional),
        ("METADATA", Needed),
        ("PACKETS_RETRANSMITTED", Optional),
        ("PATH", Optional),
        ("PROTOCOL", Optional),
        ("QUERY_PARAM", Needed),
        ("QUERY_PARAMS", Optional),
        ("REQ", Needed),
        ("REQUESTED_SERVER_NAME", Optional),
        ("REQUEST_DURATION", Optional),
        ("REQUEST_HEADERS_BYTES", Optional),
        ("REQUEST_TX_DURATION", Optional),
        ("REQ_WITHOUT_QUERY", Optional),
        ("RESP", Needed),
        ("RESPONSE_CODE", Optional),
        ("RESPONSE_CODE_DETAILS", Optional),
        ("RESPONSE_DURATION", Optional),
        ("RESPONSE_FLAGS", Optional),
        ("RESPONSE_FLAGS_LONG", Optional),
        ("RESPONSE_HEADERS_BYTES", Optional),
        ("RESPONSE_TRAILERS_BYTES", Optional),
        ("RESPONSE_TX_DURATION", Optional),
        ("ROUNDTRIP_DURATION", Optional),
        ("ROUTE_NAME", Optional),
        ("SPAN_ID", Optional),
        ("START_TIME", Optional),
        ("START_TIME_LOCAL", Optional),
        ("STREAM_ID", Optional),
        ("TLS_JA3_FINGERPRINT", Optional),
        ("TLS_JA4_FINGERPRINT", Optional),
        ("TRACE_ID", Optional),
        ("TRAILER", Needed),
        ("UNIQUE_ID", Optional),
        ("UPSTREAM_CLUSTER", Optional),
        ("UPSTREAM_CLUSTER_RAW", Optional),
        ("UPSTREAM_CONNECTION_ID", Optional),
        ("UPSTREAM_CONNECTION_IDS_ATTEMPTED", Optional),
        ("UPSTREAM_CONNECTION_POOL_READY_DURATION", Optional),
        ("UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED", Optional),
        ("UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT", Optional),
        ("UPSTREAM_DETECTED_CLOSE_TYPE", Optional),
        ("UPSTREAM_FILTER_STATE", Needed),
        ("UPSTREAM_HEADER_BYTES_RECEIVED", Optional),
        ("UPSTREAM_HEADER_BYTES_SENT", Optional),
        ("UPSTREAM_HOST", Optional),
        ("UPSTREAM_HOSTS_ATTEMPTED", Optional),
        ("UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT", Optional),
        ("UPSTREAM_HOST_NAME", Optional),
        ("UPSTREAM_HOST_NAMES_ATTEMPTED", Optional),
        ("UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT", Optional),
        ("UPSTREAM_HOST_NAME_WITHOUT_PORT", Optional),
        ("UPSTREAM_LOCAL_ADDRESS", Optional),
        ("UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", Optional),
        ("UPSTREAM_LOCAL_CLOSE_REASON", Optional),
        ("UPSTREAM_LOCAL_DNS_SAN", Optional),
        ("UPSTREAM_LOCAL_IP_SAN", Optional),
        ("UPSTREAM_LOCAL_PORT", Optional),
        ("UPSTREAM_LOCAL_URI_SAN", Optional),
        ("UPSTREAM_METADATA", Needed),
        ("UPSTREAM_PEER_CERT", Optional),
        ("UPSTREAM_PEER_CERT_V_END", Optional),
        ("UPSTREAM_PEER_CERT_V_START", Optional),
        ("UPSTREAM_PEER_DNS_SAN", Optional),
        ("UPSTREAM_PEER_IP_SAN", Optional),
        ("UPSTREAM_PEER_ISSUER", Optional),
        ("UPSTREAM_PEER_SUBJECT", Optional),
        ("UPSTREAM_PEER_URI_SAN", Optional),
        ("UPSTREAM_PROTOCOL", Optional),
        ("UPSTREAM_REMOTE_ADDRESS", Optional),
        ("UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID", Optional),
        ("UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", Optional),
        ("UPSTREAM_REMOTE_PORT", Optional),
        ("UPSTREAM_REQUEST_ATTEMPT_COUNT", Optional),
        ("UPSTREAM_SERVER_NAME", Optional),
        ("UPSTREAM_TLS_CIPHER", Optional),
        ("UPSTREAM_TLS_GROUP", Optional),
        ("UPSTREAM_TLS_SESSION_ID", Optional),
        ("UPSTREAM_TLS_VERSION", Optional),
        ("UPSTREAM_TRANSPORT_FAILURE_REASON", Optional),
        ("UPSTREAM_WIRE_BYTES_RECEIVED", Optional),
        ("UPSTREAM_WIRE_BYTES_SENT", Optional),
        ("VIRTUAL_CLUSTER_NAME", Optional),
    ]
};

/// Whether an operator goes without an argument in parentheses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Argument {
    Optional,
    Needed,
}

/// A format that is text.
pub(crate) fn text(r: &mut Report, format: &str) {
    if let Err((code, message)) = read(format) {
        r.say(code, message);
    }
}

/// A format that is a JSON object, its values texts or objects again.
pub(crate) fn labels(r: &mut Report, format: &Value) {
    match format {
        Value::String(format) => text(r, format),
        Value::Object(members) => members
            .iter()
            .for_each(|(name, value)| r.field(name.clone(), |r| labels(r, value))),
        Value::Array(items) => items.iter().for_each(|value| labels(r, value)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// The first mistake of a format: `%NAME%`, `%NAME(ARGUMENT)%` and `%NAME(ARGUMENT):LENGTH%` are operators, `%%` is a percent sign.
fn read(format: &str) -> Result<(), (Code, String)> {
    let mut rest = format;
    while let Some((_, at)) = rest.split_once('%') {
        if let Some(after) = at.strip_prefix('%') {
            rest = after;
            continue;
        }
        let end = at
            .find(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
            .unwrap_or(at.len());
        let (name, after) = at.split_at(end);
        let malformed = |why: &str| {
            let shown: String = at.chars().take(40).collect();
            let message = format!("%{shown}: {why}; write %OPERATOR%, %OPERATOR(argument)% or %%");
            Err((Code::Malformed, message))
        };
        if name.is_empty() {
            return malformed("no operator begins here");
        }
        let (argument, after) = match after.strip_prefix('(') {
            None => (None, after),
            Some(inside) => match inside.split_once(')') {
                Some((argument, after)) => (Some(argument), after),
                None => return malformed("the parenthesis is never closed"),
            },
        };
        let after = after.strip_prefix(':').map_or(after, |length| {
            length.trim_start_matches(|c: char| c.is_ascii_digit())
        });
        let Some(after) = after.strip_prefix('%') else {
            return malformed("the operator does not end with %");
        };
        match OPERATORS.iter().find(|(known, _)| *known == name) {
            None => {
                let near = nearest(name, OPERATORS.iter().map(|(known, _)| *known));
                let near = near.map(|n| format!("; did you mean {n}?"));
                let message = format!("Envoy has no operator %{name}%{}", near.unwrap_or_default());
                return Err((Code::UnknownValue, message));
            }
            Some((_, Argument::Needed)) if argument.is_none_or(str::is_empty) => {
                let message = format!("%{name}% needs an argument: %{name}(..)%");
                return Err((Code::Required, message));
            }
            Some(_) => {}
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(format: &str, want: &str) {
        let said = read(format).map_or_else(|(code, m)| format!("{m} [{code}]"), |()| "".into());
        assert_eq!(said, want);
    }

    #[test]
    fn operators_arguments_lengths_and_percent_signs() {
        check("", "");
        check("100%% of %BYTES_SENT%\n", "");
        check("[%START_TIME(%s.%3f)%] %REQ(:PATH):10% %RESP(X?Y)%", "");
    }

    #[test]
    fn mistakes_say_what_would_be_right() {
        check("%NOPE%", "Envoy has no operator %NOPE% [unknown-value]");
        check(
            "%BYTES_SEND%",
            "Envoy has no operator %BYTES_SEND%; did you mean BYTES_SENT? [unknown-value]",
        );
        check("%REQ%", "%REQ% needs an argument: %REQ(..)% [required]");
        for (bad, why) in [
            ("50% off", "no operator begins here"),
            ("%REQ(a", "the parenthesis is never closed"),
            ("%PROTOCOL", "the operator does not end with %"),
            ("%protocol%", "no operator begins here"),
        ] {
            let at = bad.split_once('%').map_or("", |(_, at)| at);
            check(
                bad,
                &format!("%{at}: {why}; write %OPERATOR%, %OPERATOR(argument)% or %% [malformed]"),
            );
        }
    }
}
