//! Servers behind the proxies: each says who it is and what it saw, keeps count, and fails or dawdles when told to.

mod http;
mod tcp;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// One request as a backend saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Host header or `:authority`.
    pub host: String,
    /// `HTTP/1.1` or `HTTP/2.0`.
    pub protocol: String,
    /// Headers in name order, values of one name joined by commas.
    pub headers: BTreeMap<String, String>,
    /// Address of the connection's other end.
    pub peer: String,
}

/// How a backend behaves from now on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// Status of its answers; 200 if unset.
    pub status: Option<u16>,
    /// Only this many requests are answered with `status`, 200 afterwards; unset means all.
    pub times: Option<usize>,
    /// Time before an answer.
    pub delay: Duration,
    /// Headers of its answers.
    pub headers: Vec<(String, String)>,
    /// Body of its answers; if unset, who it is and what it saw. HTTP alone.
    pub body: Option<String>,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    seen: Vec<Seen>,
    connections: usize,
}

/// A running server. It ends when dropped.
#[derive(Debug)]
pub struct Backend {
    name: Arc<str>,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    task: JoinHandle<()>,
}

impl Backend {
    /// An HTTP server, HTTP/1.1 and h2c on one port, whose answers are JSON: `backend`, and the fields of [`Seen`].
    ///
    /// # Panics
    /// If the address cannot be listened on.
    pub async fn http(name: &str, address: SocketAddr) -> Backend {
        Backend::start(name, address, http::serve).await
    }

    /// A TCP server that greets with its name and a line feed, then answers every line with `NAME: LINE`.
    ///
    /// # Panics
    /// If the address cannot be listened on.
    pub async fn tcp(name: &str, address: SocketAddr) -> Backend {
        Backend::start(name, address, tcp::serve).await
    }

    /// As [`Backend::http`], on a listener that is there.
    ///
    /// # Panics
    /// If it has no address.
    pub fn http_on(name: &str, listener: TcpListener) -> Backend {
        Backend::on(name, listener, http::serve)
    }

    /// As [`Backend::tcp`], on a listener that is there.
    ///
    /// # Panics
    /// If it has no address.
    pub fn tcp_on(name: &str, listener: TcpListener) -> Backend {
        Backend::on(name, listener, tcp::serve)
    }

    async fn start<F: Future<Output = ()> + Send + 'static>(
        name: &str,
        address: SocketAddr,
        serve: impl FnOnce(Arc<str>, TcpListener, Arc<Mutex<State>>) -> F,
    ) -> Backend {
        let listener = TcpListener::bind(address)
            .await
            .unwrap_or_else(|error| panic!("{name}: {address}: {error}"));
        Backend::on(name, listener, serve)
    }

    fn on<F: Future<Output = ()> + Send + 'static>(
        name: &str,
        listener: TcpListener,
        serve: impl FnOnce(Arc<str>, TcpListener, Arc<Mutex<State>>) -> F,
    ) -> Backend {
        let address = listener.local_addr().expect("its address");
        let (name, state): (Arc<str>, Arc<Mutex<State>>) = (name.into(), Arc::default());
        let task = tokio::spawn(serve(name.clone(), listener, state.clone()));
        Backend {
            name,
            address,
            state,
            task,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes how it behaves from the next request on.
    pub fn behave(&self, behaviour: Behaviour) {
        self.state.lock().behaviour = behaviour;
    }

    /// Every answer has this status from now on.
    pub fn answer(&self, status: u16) {
        self.behave(Behaviour {
            status: Some(status),
            ..Behaviour::default()
        });
    }

    /// The next `times` answers have this status, later ones 200.
    pub fn fail(&self, times: usize, status: u16) {
        self.behave(Behaviour {
            status: Some(status),
            times: Some(times),
            ..Behaviour::default()
        });
    }

    /// Every answer takes this long from now on.
    pub fn dawdle(&self, delay: Duration) {
        self.behave(Behaviour {
            delay,
            ..Behaviour::default()
        });
    }

    /// Requests it has seen since the start or the last [`Backend::forget`].
    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().seen.clone()
    }

    /// How many requests it has seen.
    pub fn count(&self) -> usize {
        self.state.lock().seen.len()
    }

    /// How many connections it has accepted.
    pub fn connections(&self) -> usize {
        self.state.lock().connections
    }

    /// Forgets what it has seen and behaves well again.
    pub fn forget(&self) {
        *self.state.lock() = State::default();
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.task.abort();
    }
}
