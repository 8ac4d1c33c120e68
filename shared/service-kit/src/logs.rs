//! Logs: one line per event on standard error, as text or JSON, with levels that can be changed while running.

use std::io::IsTerminal as _;
use std::str::FromStr;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{Registry, fmt};

/// How a log line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: time, level, target, message, fields.
    #[default]
    Text,
    /// For machines: one JSON object per line, event fields at its top, the current span's fields under `span`.
    Json,
}

/// Why logging cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The levels cannot be read.
    #[error("--log-output-level: {0}")]
    Level(String),
    /// Something in this process set up logging before.
    #[error("logging is already set up in this process")]
    Twice,
}

type BoxFilter = Box<dyn tracing_subscriber::layer::Filter<Registry> + Send + Sync>;

/// Changes the levels of a running process.
#[derive(Clone)]
pub struct LogControl(reload::Handle<BoxFilter, Registry>);

impl std::fmt::Debug for LogControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogControl")
    }
}

impl LogControl {
    /// Replaces all levels; the text is as for [`init_logs`].
    ///
    /// # Errors
    /// [`LogError::Level`]; the old levels stay.
    pub fn set(&self, levels: &str) -> Result<(), LogError> {
        let filter = filter(levels)?;
        self.0.reload(filter).map_err(|_| LogError::Twice)
    }
}

/// Sets up logging to standard error for this process.
///
/// `levels` is either Istio's form, `scope:level` separated by commas (`default:info,ads:debug`; a bare level sets the
/// default; `all` sets every scope), or tracing's (`info,pilot::ads=debug`), told apart by an equals sign. A scope is any
/// segment of a module path: `ads` covers `pilot::ads` and everything below. Levels: none, fatal, error, warn, info,
/// debug, trace (fatal counts as error).
///
/// # Errors
/// See [`LogError`].
pub fn init_logs(format: LogFormat, levels: &str) -> Result<LogControl, LogError> {
    let ansi = std::io::stderr().is_terminal();
    init_logs_to(format, levels, ansi, std::io::stderr)
}

/// The same to anywhere: a `std::fs::File` in a `Mutex` or `Arc`, a function that returns a writer. `ansi`: with colours.
///
/// # Errors
/// See [`LogError`].
pub fn init_logs_to<W>(
    format: LogFormat,
    levels: &str,
    ansi: bool,
    writer: W,
) -> Result<LogControl, LogError>
where
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(levels)?);
    let layer = layer(format, ansi, writer);
    tracing_subscriber::registry()
        .with(layer.with_filter(filter))
        .try_init()
        .map_err(|_| LogError::Twice)?;
    Ok(LogControl(handle))
}

fn layer<S, W>(
    format: LogFormat,
    ansi: bool,
    writer: W,
) -> Box<dyn tracing_subscriber::Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    W: for<'w> fmt::MakeWriter<'w> + Send + Sync + 'static,
{
    match format {
        // Colours only for a terminal; tracing-subscriber itself honours NO_COLOR.
        LogFormat::Text if ansi => fmt::layer().with_writer(writer).boxed(),
        LogFormat::Text => fmt::layer().with_ansi(false).with_writer(writer).boxed(),
        LogFormat::Json => fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(true)
            .with_span_list(false)
            .with_writer(writer)
            .boxed(),
    }
}

fn filter(levels: &str) -> Result<BoxFilter, LogError> {
    if levels.contains('=') {
        let filter =
            EnvFilter::try_new(levels).map_err(|error| LogError::Level(error.to_string()))?;
        return Ok(Box::new(filter));
    }
    let scopes: Scopes = levels.parse().map_err(LogError::Level)?;
    Ok(Box::new(
        filter_fn({
            let scopes = scopes.clone();
            move |meta| *meta.level() <= scopes.level(meta.target())
        })
        .with_max_level_hint(scopes.most()),
    ))
}

/// Libraries whose debug lines drown ours: they follow `default` only up to info, unless named themselves.
const CHATTY: &[&str] = &[
    "async_nats",
    "h2",
    "hyper",
    "hyper_util",
    "rustls",
    "sqlx",
    "tonic",
    "tower",
];

/// Istio's `--log_output_level`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Scopes {
    default: LevelFilter,
    /// Some scope was set by `all`: chatty libraries included.
    all: bool,
    named: Vec<(String, LevelFilter)>,
}

impl FromStr for Scopes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut scopes = Scopes {
            default: LevelFilter::INFO,
            all: false,
            named: Vec::new(),
        };
        for part in text
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let (scope, level) = part.rsplit_once(':').unwrap_or(("default", part));
            let level = match level.trim().to_ascii_lowercase().as_str() {
                "none" | "off" => LevelFilter::OFF,
                "fatal" | "error" => LevelFilter::ERROR,
                "warn" | "warning" => LevelFilter::WARN,
                "info" => LevelFilter::INFO,
                "debug" => LevelFilter::DEBUG,
                "trace" => LevelFilter::TRACE,
                _ => {
                    return Err(format!(
                        "{level:?} is no level, want none, error, warn, info, debug or trace, as in default:info,ads:debug"
                    ));
                }
            };
            match scope.trim() {
                "default" => scopes.default = level,
                "all" => {
                    scopes.default = level;
                    scopes.all = true;
                    scopes.named.clear();
                }
                "" => {
                    return Err(format!(
                        "{part:?} names no scope, as in default:info,ads:debug"
                    ));
                }
                name => scopes.named.push((name.replace('-', "_"), level)),
            }
        }
        Ok(scopes)
    }
}

impl Scopes {
    fn level(&self, target: &str) -> LevelFilter {
        // The last segment that is named wins: `pilot:warn,ads:debug` lets `pilot::ads` speak.
        for segment in target.rsplit("::") {
            if let Some((_, level)) = self.named.iter().rev().find(|(name, _)| name == segment) {
                return *level;
            }
        }
        let library = target.split("::").next().unwrap_or(target);
        if !self.all && CHATTY.contains(&library) {
            self.default.min(LevelFilter::INFO)
        } else {
            self.default
        }
    }

    fn most(&self) -> LevelFilter {
        self.named
            .iter()
            .map(|(_, level)| *level)
            .fold(self.default, Ord::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

    #[test]
    fn istio_scopes_match_any_segment() {
        let scopes: Scopes = "default:info,ads:debug,mesh-model:none,pilot:warn"
            .parse()
            .unwrap();
        for (target, want) in [
            ("pilot::ads", LevelFilter::DEBUG),
            ("pilot::ads::stream", LevelFilter::DEBUG),
            ("pilot::ingest", LevelFilter::WARN),
            ("mesh_model", LevelFilter::OFF),
            ("galley", LevelFilter::INFO),
        ] {
            assert_eq!(scopes.level(target), want, "{target}");
        }
        assert_eq!(scopes.most(), LevelFilter::DEBUG);
    }

    #[test]
    fn libraries_stay_quiet_unless_named() {
        let debug: Scopes = "debug".parse().unwrap();
        assert_eq!(debug.level("h2::proto"), LevelFilter::INFO);
        assert_eq!(debug.level("pilot"), LevelFilter::DEBUG);
        let all: Scopes = "all:debug".parse().unwrap();
        assert_eq!(all.level("h2::proto"), LevelFilter::DEBUG);
        let named: Scopes = "h2:trace".parse().unwrap();
        assert_eq!(named.level("h2::proto"), LevelFilter::TRACE);
    }

    #[test]
    fn a_wrong_level_is_an_error_that_helps() {
        let error = filter("default:loud").err().unwrap().to_string();
        assert_eq!(
            error,
            "--log-output-level: \"loud\" is no level, want none, error, warn, info, debug or trace, as in default:info,ads:debug"
        );
        assert!(filter("pilot::ads=loud").is_err());
        assert!(filter("info,pilot::ads=debug").is_ok());
    }

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn json_keeps_the_span_and_flattens_the_event() {
        let lines = Lines::default();
        let writer = {
            let lines = lines.clone();
            move || lines.clone()
        };
        let subscriber = tracing_subscriber::registry()
            .with(layer(LogFormat::Json, false, writer).with_filter(filter("info").unwrap()));
        tracing::subscriber::with_default(subscriber, || {
            let _span = tracing::info_span!("stream", proxy = "web-1.shop").entered();
            tracing::info!(code = "unknown-field", "refused");
            tracing::debug!("not shown");
        });
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["message"], "refused");
        assert_eq!(value["code"], "unknown-field");
        assert_eq!(value["span"]["proxy"], "web-1.shop");
    }
}
