//! What every Flotilla service needs around its work: flags, logs, metrics, readiness, listeners and a graceful stop.
//!
//! Must never know: meshes, proxies, configuration, or which service it runs in. It decides nothing; it carries out what a
//! service's `main` says, and turns what goes wrong at start (a taken port, a bad flag) into a message that says what to try.
//!
//! Start reading at [`Stop`] and [`Tasks`] (how a process lives and ends), then [`Ready`] (what `/ready` says), then
//! [`serve()`] (how HTTP/1 and HTTP/2 are served on one port).

pub mod args;
pub mod backoff;
pub mod duration;
mod files;
pub mod http;
pub mod listen;
pub mod logs;
pub mod ports;
pub mod process;
pub mod ready;
mod replace;
pub mod roles;
pub mod serve;
pub mod stop;
pub mod tasks;
pub mod tls;

pub use args::CommonArgs;
pub use backoff::Backoff;
pub use duration::{DurationError, parse_duration, spell_duration};
pub use http::{Version, http_router};
pub use listen::{BindError, ListenAddr, bind};
pub use logs::{LogControl, LogError, LogFormat, init_logs, init_logs_to};
pub use ports::PortsFile;
pub use process::register_process_metrics;
pub use ready::{Condition, Ready, ReadyReport};
pub use replace::replace_file;
pub use roles::{Role, Roles};
pub use serve::{Http2Config, ServeConfig, serve, serve_connection, serve_http};
pub use stop::{Stop, signals};
pub use tasks::{TaskError, Tasks, TasksError};
