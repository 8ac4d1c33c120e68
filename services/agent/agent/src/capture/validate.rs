//! Validation: connections are made, and must arrive where rules lead them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use agent_core::capture::{Family, Probe, Settings, passthrough, probes};
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};

/// Between two attempts.
const BETWEEN: Duration = Duration::from_millis(100);
/// Longest time one connection may take.
const CONNECT: Duration = Duration::from_millis(400);

/// Why validation did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum ValidationError {
    /// A connection does not arrive where it should.
    #[error(
        "traffic is not captured: {0}\nThe pod started before its rules were there, or something removed them. Where a CNI plugin makes the rules, it must run on the node before the pod starts: delete the pod so that it is made anew"
    )]
    NotCaptured(String),
    /// A port is taken.
    #[error("validation listens on {at}: {error}; it must run before the proxy starts")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// Why not.
        error: std::io::Error,
    },
    /// Only the proxy's own connections can show it.
    #[error(
        "validation must run as the proxy's user or as root: user {0} and group {1} are neither in --proxy-uid nor in --proxy-gid"
    )]
    Who(u32, u32),
}

/// Returns when every probe has arrived.
pub(super) async fn validate(
    settings: &Settings,
    family: Family,
    port: u16,
    patience: Duration,
) -> Result<(), ValidationError> {
    let own = (geteuid().as_raw(), getegid().as_raw());
    let probes = probes(settings, family, port, own, own.0 == 0);
    if probes.is_empty() {
        return Err(ValidationError::Who(own.0, own.1));
    }
    // What is left of it is for beginning and ending, so that the whole run keeps to it.
    let deadline = Instant::now() + patience - patience / 20;
    // Where connections go that are not captured; not there for an address that only comes with the rules.
    let uncaptured = SocketAddr::new(passthrough(family), port);
    let _uncaptured = TcpListener::bind(uncaptured).await.ok();
    for probe in probes {
        let listener = listen(family, probe.arrives_at).await?;
        arrive(&listener, probe, deadline).await?;
    }
    Ok(())
}

async fn listen(family: Family, port: u16) -> Result<TcpListener, ValidationError> {
    let ip: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    let at = SocketAddr::new(ip, port);
    let listener = TcpListener::bind(at).await;
    listener.map_err(|error| ValidationError::Listen { at, error })
}

/// Connects again and again until a connection arrives that was going where the probe goes.
async fn arrive(
    listener: &TcpListener,
    probe: Probe,
    deadline: Instant,
) -> Result<(), ValidationError> {
    let mut last = String::from("no attempt was made in time");
    // An attempt that could not be waited for is not begun.
    while Instant::now() + BETWEEN < deadline {
        let until = deadline.min(Instant::now() + CONNECT);
        let attempt = timeout_at(until, connect(probe));
        let arrived = timeout_at(until, listener.accept());
        let (connected, arrived) = tokio::join!(attempt, arrived);
        match (arrived, connected) {
            (Ok(Ok((stream, _))), _) => match original(&stream) {
                Ok(to) if to == probe.to => return Ok(()),
                Ok(to) => last = format!("it was going to {to} by what the kernel says"),
                Err(error) => last = format!("the kernel does not say where it was going: {error}"),
            },
            (_, Ok(Ok(()))) => last = "it arrived there".into(),
            // No application is ever connected to addresses without a route, so there is nothing to capture. The proxy's own probe goes to an
            // address that comes with the rules.
            (_, Ok(Err(error)))
                if error.kind() == std::io::ErrorKind::NetworkUnreachable
                    && probe.from.is_none() =>
            {
                return Ok(());
            }
            (_, Ok(Err(error))) => last = error.to_string(),
            (_, Err(_)) => last = "nobody answers there".into(),
        }
        sleep(BETWEEN).await;
    }
    Err(ValidationError::NotCaptured(format!(
        "{} to {} did not arrive at port {}: {last}",
        probe.what, probe.to, probe.arrives_at
    )))
}

async fn connect(probe: Probe) -> std::io::Result<()> {
    let socket = socket(probe)?;
    if let Some(from) = probe.from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(probe.to).await.map(drop)
}

/// A socket of the probe's owner, made on a thread that becomes the owner and ends with it.
fn socket(probe: Probe) -> std::io::Result<TcpSocket> {
    let make = move || {
        if (geteuid().as_raw(), getegid().as_raw()) != probe.owner {
            let (uid, gid) = (Uid::from_raw(probe.owner.0), Gid::from_raw(probe.owner.1));
            set_thread_groups(&[])?;
            set_thread_res_gid(gid, gid, gid)?;
            set_thread_res_uid(uid, uid, uid)?;
        }
        match probe.to {
            SocketAddr::V4(_) => TcpSocket::new_v4(),
            SocketAddr::V6(_) => TcpSocket::new_v6(),
        }
    };
    let thread = std::thread::Builder::new()
        .name("probe".into())
        .spawn(make)?;
    match thread.join() {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

/// Where a connection was going before it was redirected.
fn original(stream: &TcpStream) -> std::io::Result<SocketAddr> {
    Ok(match stream.local_addr()? {
        SocketAddr::V4(_) => rustix::net::sockopt::ip_original_dst(stream)?.into(),
        SocketAddr::V6(_) => {
            let to = rustix::net::sockopt::ipv6_original_dst(stream)?;
            SocketAddr::new((*to.ip()).into(), to.port())
        }
    })
}
