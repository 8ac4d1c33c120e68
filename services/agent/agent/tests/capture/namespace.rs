//! A pod and somebody beside it, each a network namespace.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::time::Duration;

/// The proxy.
pub const PROXY: u32 = 1337;
/// An application.
pub const APP: u32 = 1000;
/// Longest time anything may take.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub use testkit::netns::Namespace;

/// What tests do in a namespace.
pub trait Machine {
    /// Connects as a user whose group has the same number.
    fn connect(&self, user: u32, to: SocketAddr) -> std::io::Result<TcpStream>;
    fn listen(&self, at: SocketAddr) -> TcpListener;
    /// Everything that capture may change: rules of both variants and versions of IP without counters, addresses, routes and rules of routing.
    fn everything(&self) -> BTreeMap<String, String>;
}

impl Machine for Namespace {
    fn connect(&self, user: u32, to: SocketAddr) -> std::io::Result<TcpStream> {
        self.as_user(user, user, || TcpStream::connect_timeout(&to, PATIENCE))
    }

    fn listen(&self, at: SocketAddr) -> TcpListener {
        self.as_user(0, 0, || TcpListener::bind(at)).unwrap()
    }

    fn everything(&self) -> BTreeMap<String, String> {
        let mut out = BTreeMap::new();
        for program in ["iptables", "ip6tables"] {
            for variant in ["nft", "legacy"] {
                let name = format!("{program}-{variant}-save");
                let text = self.exec(&name, &[]);
                let text = String::from_utf8_lossy(&text.stdout).into_owned();
                let lines = text
                    .lines()
                    .filter(|line| line.starts_with("-A") || line.starts_with(":ISTIO"));
                out.insert(name, lines.collect::<Vec<_>>().join("\n"));
            }
        }
        for command in [
            "-4 rule show",
            "-6 rule show",
            "-4 route show table all",
            "-6 route show table all",
            "address show dev lo",
        ] {
            let words: Vec<_> = command.split(' ').collect();
            let text = self.exec("ip", &words);
            out.insert(
                command.into(),
                String::from_utf8_lossy(&text.stdout).into_owned(),
            );
        }
        out
    }
}

/// A pod at 10.0.0.2 and fd00::2, and somebody else at 10.0.0.1 and fd00::1, by whom its default route goes. The interface is `eth0`.
#[derive(Debug)]
pub struct Pair {
    pub pod: Namespace,
    pub peer: Namespace,
    /// `nft` or `legacy`.
    pub variant: &'static str,
}

/// Which versions of IP a pair has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ip {
    V4,
    V6,
    Both,
}

impl Pair {
    pub fn new(variant: &'static str, version: Ip) -> Pair {
        let (pod, peer) = (Namespace::new(), Namespace::new());
        pod.join("eth0", &peer, "eth0");
        for (namespace, host, other) in [(&pod, 2, 1), (&peer, 1, 2)] {
            if version != Ip::V6 {
                namespace.ip(&format!("address add 10.0.0.{host}/24 dev eth0"));
                namespace.ip(&format!("route add default via 10.0.0.{other}"));
            }
            if version != Ip::V4 {
                namespace.ip(&format!("address add fd00::{host}/64 dev eth0 nodad"));
                namespace.ip(&format!("-6 route add default via fd00::{other}"));
            }
        }
        Pair { pod, peer, variant }
    }

    /// `agent capture` in the pod.
    pub fn capture(&self, flags: &str) -> Output {
        let words = flags.split(' ').filter(|word| !word.is_empty());
        let args: Vec<&str> = ["capture", "--force-iptables-binary", self.variant]
            .into_iter()
            .chain(words)
            .collect();
        self.pod.exec(env!("CARGO_BIN_EXE_agent"), &args)
    }

    /// The same, which must succeed.
    #[track_caller]
    pub fn captured(&self, flags: &str) -> String {
        let output = self.capture(flags);
        let told = told(&output);
        assert!(output.status.success(), "{flags}: {told}");
        told
    }

    /// What applications of the pod ask for names; for the next run.
    pub fn name_server(&self, address: &str) {
        let text = format!("nameserver {address}\n");
        std::fs::write(self.pod.etc().join("resolv.conf"), text).unwrap();
    }
}

pub fn told(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// Parses an address, or a port of every address.
pub fn at(text: &str) -> SocketAddr {
    match text.parse::<u16>() {
        Ok(port) => (IpAddr::from([0, 0, 0, 0]), port).into(),
        Err(_) => text.parse().unwrap(),
    }
}
