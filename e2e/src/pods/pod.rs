//! One pod: what runs in it and what can be asked of it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Output;
use std::sync::Arc;

use testkit::netns::Namespace;
use tokio::net::TcpListener;

use super::Names;
use crate::backend::Backend;
use crate::client::{Answer, Call, CallError, Client};
use crate::pilot::ok;
use crate::process::Process;
use crate::wait::eventually;

/// Port of the proxy's admin interface, on the pod's loopback.
pub(super) const ADMIN: u16 = 15_000;

/// Port of Envoy's health below an agent.
const HEALTH: u16 = 15_021;

/// A proxy in a pod.
#[derive(Debug)]
pub struct Proxy {
    /// The process: start, kill, log. With identity it is the agent, and Envoy ends with it.
    pub process: Process,
    /// Whether it is an agent.
    pub(super) agent: bool,
}

/// A pod.
#[derive(Debug)]
pub struct Pod {
    pub(super) name: String,
    pub(super) ip: IpAddr,
    pub(super) namespace: Arc<Namespace>,
    pub(super) names: Arc<Names>,
    pub(super) servers: Vec<Backend>,
    pub(super) proxy: Option<Proxy>,
}

impl Pod {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address.
    pub fn ip(&self) -> IpAddr {
        self.ip
    }

    /// Its network namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its server at an application's port.
    ///
    /// # Panics
    /// If there is none.
    pub fn server(&self, port: u16) -> &Backend {
        let mut servers = self.servers.iter();
        let found = servers.find(|server| server.address().port() == port);
        found.unwrap_or_else(|| panic!("{}: no server at port {port}", self.name))
    }

    /// A client as the application: its connections are captured like the application's.
    pub fn client(&self, to: SocketAddr) -> Client {
        Client::to(to).from_namespace(self.namespace.clone(), super::APPLICATION)
    }

    /// A client as the proxy, whose connections are left alone.
    pub fn as_proxy(&self, to: SocketAddr) -> Client {
        Client::to(to).from_namespace(self.namespace.clone(), super::PROXY)
    }

    /// A GET of `http://HOST[:PORT]/PATH` by the application, over a connection of its own. Hosts are addresses, or services by
    /// `NAME` and `NAME.NAMESPACE`.
    ///
    /// # Errors
    /// There is no response.
    pub async fn request(&self, url: &str) -> Result<Answer, CallError> {
        let (to, host, path) = self.names.resolve(url);
        self.client(to).send(&Call::get(host, path)).await
    }

    /// The same, which must have a response.
    ///
    /// # Panics
    /// Without one.
    pub async fn get(&self, url: &str) -> Answer {
        let answer = self.request(url).await;
        answer.unwrap_or_else(|error| panic!("{}: {url}: {error}", self.name))
    }

    /// Runs a program as the application's user and returns what it printed.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn exec(&self, argv: &[&str]) -> Output {
        exec(&self.namespace, super::APPLICATION, argv).await
    }

    /// Runs a program as root.
    ///
    /// # Panics
    /// If it cannot be started.
    pub async fn exec_as_root(&self, argv: &[&str]) -> Output {
        exec(&self.namespace, 0, argv).await
    }

    /// `agent capture` with these flags; what it said.
    ///
    /// # Panics
    /// If it fails.
    pub async fn capture(&self, flags: &str) -> String {
        let agent = crate::process::built("agent").display().to_string();
        let words = flags.split(' ').filter(|word| !word.is_empty());
        let argv: Vec<&str> = [agent.as_str(), "capture"]
            .into_iter()
            .chain(words)
            .collect();
        let output = self.exec_as_root(&argv).await;
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "{}: {flags}: {said}", self.name);
        said
    }

    /// Whether it has a proxy, running or not.
    pub fn has_proxy(&self) -> bool {
        self.proxy.is_some()
    }

    /// Its proxy.
    ///
    /// # Panics
    /// If it has none.
    pub fn proxy(&mut self) -> &mut Proxy {
        let proxy = self.proxy.as_mut();
        proxy.unwrap_or_else(|| panic!("{} has no proxy", self.name))
    }

    /// Starts the proxy and waits until it has its first listeners.
    ///
    /// # Panics
    /// If it is not ready in time, or ends.
    pub async fn start_proxy(&mut self) {
        self.proxy().process.start();
        self.proxy_ready().await;
    }

    pub(super) async fn proxy_ready(&mut self) {
        let agent = self.proxy().agent;
        let (client, path) = match agent {
            true => (self.loopback(HEALTH), "/healthz/ready"),
            false => (self.admin_client(), "/ready"),
        };
        let what = format!("the proxy of {} is ready", self.name);
        let process = &mut self.proxy().process;
        eventually(&what, async || {
            process.check_running();
            ok(&client, path).await.map(|_| ())
        })
        .await;
    }

    fn admin_client(&self) -> Client {
        self.loopback(ADMIN)
    }

    /// A client of a port of the pod's loopback.
    pub fn loopback(&self, port: u16) -> Client {
        let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
        // As somebody whose connections to loopback are never captured.
        self.client(to)
    }

    /// A page of the proxy's admin interface.
    ///
    /// # Panics
    /// Without an answer, or with another status than 200.
    pub async fn admin(&self, path: &str) -> String {
        let page = ok(&self.admin_client(), path).await;
        page.unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// A counter or gauge of the proxy; 0 if it does not exist.
    ///
    /// # Panics
    /// As [`Pod::admin`].
    pub async fn stat(&self, name: &str) -> u64 {
        let page = self.admin("/stats").await;
        page.lines()
            .filter_map(|line| line.rsplit_once(": "))
            .find(|(found, _)| *found == name)
            .and_then(|(_, value)| value.parse().ok())
            .unwrap_or_default()
    }
}

/// Words that run a program in a namespace as somebody.
pub(super) fn as_user(namespace: &Namespace, user: u32) -> Vec<String> {
    let user = user.to_string();
    let prefix = namespace.prefix().map(str::to_owned);
    let become_user = [
        "setpriv",
        "--reuid",
        &user,
        "--regid",
        &user,
        "--clear-groups",
    ];
    prefix
        .into_iter()
        .chain(become_user.map(str::to_owned))
        .collect()
}

/// Servers of the test go on meanwhile.
pub(super) async fn exec(namespace: &Arc<Namespace>, user: u32, argv: &[&str]) -> Output {
    let mut words = as_user(namespace, user);
    words.extend(argv.iter().map(|word| (*word).to_owned()));
    let [program, args @ ..] = words.as_slice() else {
        unreachable!("it begins with `ip`");
    };
    let mut command = tokio::process::Command::new(program);
    let output = command.args(args).kill_on_drop(true).output().await;
    output.unwrap_or_else(|error| panic!("{argv:?}: {error}"))
}

/// A listener in a namespace.
pub(super) fn listen(namespace: &Namespace, user: u32, at: SocketAddr) -> TcpListener {
    let bind = || std::net::TcpListener::bind(at);
    let listener = namespace.as_user(user, user, bind);
    listener
        .and_then(|listener| {
            listener.set_nonblocking(true)?;
            TcpListener::from_std(listener)
        })
        .unwrap_or_else(|error| panic!("{at} in {}: {error}", namespace.name()))
}
