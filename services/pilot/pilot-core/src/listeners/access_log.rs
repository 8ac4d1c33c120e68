//! Access logs: which, and in which format (XDS-TRAFFIC 5.6).

use std::collections::BTreeMap;

use envoy_api::any;
use envoy_api::envoy::config::accesslog::v3::{
    AccessLog, AccessLogFilter, ResponseFlagFilter, access_log_filter::FilterSpecifier,
};
use envoy_api::envoy::config::core::v3::substitution_format_string::Format;
use envoy_api::envoy::config::core::v3::{
    DataSource, SubstitutionFormatString, TypedExtensionConfig, data_source,
};
use envoy_api::envoy::extensions::access_loggers::file::v3::{
    FileAccessLog, file_access_log::AccessLogFormat,
};
use envoy_api::envoy::extensions::formatter::{cel, metadata, req_without_query};
use mesh_config::resource::mesh::{AccessLogEncoding, MeshConfig};
use prost_types::{ListValue, Struct, Value, value::Kind};
use serde_json::Value as Json;

/// The default format: a field's name in JSON, the operators that fill it, and how text sets it off.
const FIELDS: &[(&str, &str, Quote)] = &[
    ("start_time", "%START_TIME%", Quote::Brackets),
    ("method", "%REQ(:METHOD)%", Quote::Opens),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%", Quote::None),
    ("protocol", "%PROTOCOL%", Quote::Closes),
    ("response_code", "%RESPONSE_CODE%", Quote::None),
    ("response_flags", "%RESPONSE_FLAGS%", Quote::None),
    (
        "response_code_details",
        "%RESPONSE_CODE_DETAILS%",
        Quote::None,
    ),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
        Quote::None,
    ),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
        Quote::Both,
    ),
    ("bytes_received", "%BYTES_RECEIVED%", Quote::None),
    ("bytes_sent", "%BYTES_SENT%", Quote::None),
    ("duration", "%DURATION%", Quote::None),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
        Quote::None,
    ),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%", Quote::Both),
    ("user_agent", "%REQ(USER-AGENT)%", Quote::Both),
    ("request_id", "%REQ(X-REQUEST-ID)%", Quote::Both),
    ("authority", "%REQ(:AUTHORITY)%", Quote::Both),
    ("upstream_host", "%UPSTREAM_HOST%", Quote::Both),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%", Quote::None),
    (
        "upstream_local_address",
        "%UPSTREAM_LOCAL_ADDRESS%",
        Quote::None,
    ),
    (
        "downstream_local_address",
        "%DOWNSTREAM_LOCAL_ADDRESS%",
        Quote::None,
    ),
    (
        "downstream_remote_address",
        "%DOWNSTREAM_REMOTE_ADDRESS%",
        Quote::None,
    ),
    (
        "requested_server_name",
        "%REQUESTED_SERVER_NAME%",
        Quote::None,
    ),
    ("route_name", "%ROUTE_NAME%", Quote::None),
];

/// How text sets a field off.
#[derive(Clone, Copy)]
enum Quote {
    None,
    Brackets,
    Opens,
    Closes,
    Both,
}

/// One file that is logged to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LogFile {
    path: String,
    format: LogFormat,
}

/// What a line looks like.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum LogFormat {
    /// Text with operators, its newline included.
    Text(String),
    /// A JSON object, written with its members in key order.
    Json(String),
}

/// The files that the mesh's proxies log to: those of the default providers, else `accessLogFile`; none by default.
pub fn of_mesh(mesh: &MeshConfig) -> Vec<LogFile> {
    let chosen = mesh
        .other
        .0
        .get("defaultProviders")
        .and_then(|d| d.get("accessLogging"));
    if let Some(names) = chosen
        .and_then(Json::as_array)
        .filter(|names| !names.is_empty())
    {
        let mut names: Vec<&str> = names.iter().filter_map(Json::as_str).collect();
        names.sort_unstable();
        names.dedup();
        return names
            .into_iter()
            .filter_map(|name| provider(mesh, name))
            .collect();
    }
    if mesh.access_log_file.is_empty() {
        return Vec::new();
    }
    let format = match mesh.access_log_encoding {
        AccessLogEncoding::Text => text_format(&mesh.access_log_format),
        AccessLogEncoding::Json => json_format(serde_json::from_str(&mesh.access_log_format).ok()),
    };
    vec![LogFile {
        path: mesh.access_log_file.clone(),
        format,
    }]
}

/// A file provider of the mesh by name; `envoy` is built in. Providers of other kinds log nothing.
fn provider(mesh: &MeshConfig, name: &str) -> Option<LogFile> {
    let listed = mesh
        .other
        .0
        .get("extensionProviders")
        .and_then(Json::as_array);
    let written = listed
        .into_iter()
        .flatten()
        .find(|provider| provider.get("name").and_then(Json::as_str) == Some(name));
    let Some(written) = written else {
        return (name == "envoy").then(|| LogFile {
            path: "/dev/stdout".into(),
            format: text_format(&mesh.access_log_format),
        });
    };
    let file = written.get("envoyFileAccessLog")?;
    let format = match (
        file.pointer("/logFormat/labels"),
        file.pointer("/logFormat/text"),
    ) {
        (Some(labels), _) => json_format(Some(labels.clone())),
        (None, Some(text)) => text_format(text.as_str().unwrap_or_default()),
        (None, None) => text_format(""),
    };
    Some(LogFile {
        path: file
            .get("path")
            .and_then(Json::as_str)
            .filter(|p| !p.is_empty())?
            .to_owned(),
        format,
    })
}

fn text_format(given: &str) -> LogFormat {
    LogFormat::Text(match given {
        "" => default_text(),
        given if given.ends_with('\n') => given.to_owned(),
        given => format!("{given}\n"),
    })
}

fn json_format(given: Option<Json>) -> LogFormat {
    let fields = given.filter(|v| v.as_object().is_some_and(|o| !o.is_empty()));
    let fields = fields.unwrap_or_else(|| {
        Json::Object(
            FIELDS
                .iter()
                .map(|(name, field, _)| ((*name).to_owned(), Json::from(*field)))
                .collect(),
        )
    });
    LogFormat::Json(fields.to_string())
}

fn default_text() -> String {
    let fields = FIELDS.iter().map(|(_, field, quote)| match quote {
        Quote::None => (*field).to_owned(),
        Quote::Brackets => format!("[{field}]"),
        Quote::Opens => format!("\"{field}"),
        Quote::Closes => format!("{field}\""),
        Quote::Both => format!("\"{field}\""),
    });
    fields.collect::<Vec<_>>().join(" ") + "\n"
}

/// Envoy's loggers of these files.
pub fn loggers(files: &[LogFile]) -> Vec<AccessLog> {
    files.iter().map(LogFile::logger).collect()
}

/// The same loggers, only for connections that found no filter chain: what listeners log.
pub fn listener_loggers(files: &[LogFile]) -> Vec<AccessLog> {
    let mut logs = loggers(files);
    for log in &mut logs {
        log.filter = Some(AccessLogFilter {
            filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter {
                flags: vec!["NR".into()],
            })),
        });
    }
    logs
}

impl LogFile {
    fn logger(&self) -> AccessLog {
        let (text, format) = match &self.format {
            LogFormat::Text(text) => (
                text,
                Format::TextFormatSource(DataSource {
                    specifier: Some(data_source::Specifier::InlineString(text.clone())),
                    ..Default::default()
                }),
            ),
            LogFormat::Json(text) => {
                let fields = serde_json::from_str(text).unwrap_or_default();
                (text, Format::JsonFormat(to_struct(&fields)))
            }
        };
        let log_format = SubstitutionFormatString {
            formatters: formatters(text),
            format: Some(format),
            ..Default::default()
        };
        any::access_log(
            "envoy.access_loggers.file",
            &FileAccessLog {
                path: self.path.clone(),
                access_log_format: Some(AccessLogFormat::LogFormat(log_format)),
            },
        )
    }
}

/// The extensions that a format's operators come from.
fn formatters(format: &str) -> Vec<TypedExtensionConfig> {
    let mut out = Vec::new();
    if format.contains("REQ_WITHOUT_QUERY") {
        out.push(any::extension(
            "envoy.formatter.req_without_query",
            &req_without_query::v3::ReqWithoutQuery {},
        ));
    }
    if format.contains("METADATA(") {
        out.push(any::extension(
            "envoy.formatter.metadata",
            &metadata::v3::Metadata {},
        ));
    }
    if format.contains("CEL(") {
        out.push(any::extension(
            "envoy.formatter.cel",
            &cel::v3::Cel::default(),
        ));
    }
    out
}

/// A JSON object as protobuf's `Struct`; anything else gives an empty one.
pub fn to_struct(value: &Json) -> Struct {
    let members = value.as_object().into_iter().flatten();
    Struct {
        fields: members
            .map(|(k, v)| (k.clone(), to_value(v)))
            .collect::<BTreeMap<_, _>>(),
    }
}

fn to_value(value: &Json) -> Value {
    let kind = match value {
        Json::Null => Kind::NullValue(0),
        Json::Bool(b) => Kind::BoolValue(*b),
        Json::Number(n) => Kind::NumberValue(n.as_f64().unwrap_or_default()),
        Json::String(s) => Kind::StringValue(s.clone()),
        Json::Array(items) => Kind::ListValue(ListValue {
            values: items.iter().map(to_value).collect(),
        }),
        Json::Object(_) => Kind::StructValue(to_struct(value)),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mesh(value: Json) -> MeshConfig {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn nothing_is_logged_by_default() {
        assert!(of_mesh(&MeshConfig::default()).is_empty());
    }

    #[test]
    fn c157_default_text_format() {
        let files = of_mesh(&mesh(json!({"accessLogFile": "/dev/stdout"})));
        let LogFormat::Text(text) = &files[0].format else {
            panic!("not text")
        };
        expect_test::expect![[r#"
            [%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%
        "#]]
        .assert_eq(text);
    }

    #[test]
    fn c157_formats_given_in_the_mesh() {
        let text = of_mesh(&mesh(
            json!({"accessLogFile": "/l", "accessLogFormat": "%PROTOCOL%"}),
        ));
        assert_eq!(text[0].format, LogFormat::Text("%PROTOCOL%\n".into()));
        let json = of_mesh(&mesh(
            json!({"accessLogFile": "/l", "accessLogEncoding": "JSON", "accessLogFormat": "{\"a\":\"%PROTOCOL%\"}"}),
        ));
        assert_eq!(
            json[0].format,
            LogFormat::Json("{\"a\":\"%PROTOCOL%\"}".into())
        );
        let broken = of_mesh(&mesh(
            json!({"accessLogFile": "/l", "accessLogEncoding": "JSON", "accessLogFormat": "no"}),
        ));
        assert!(
            matches!(&broken[0].format, LogFormat::Json(text) if text.starts_with("{\"start_time\""))
        );
    }

    #[test]
    fn providers_by_name() {
        let files = of_mesh(&mesh(json!({
            "defaultProviders": {"accessLogging": ["mine", "envoy", "unknown"]},
            "extensionProviders": [{"name": "mine", "envoyFileAccessLog": {"path": "/m", "logFormat": {"labels": {"a": "%CEL(x)%"}}}}],
        })));
        assert_eq!(
            files.iter().map(|f| f.path.as_str()).collect::<Vec<_>>(),
            ["/dev/stdout", "/m"]
        );
        assert_eq!(loggers(&files).len(), 2);
        assert_eq!(formatters("%CEL(x)% %REQ_WITHOUT_QUERY(:PATH)%").len(), 2);
    }
}
