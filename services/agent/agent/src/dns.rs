//! Answering names over UDP and TCP.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use agent_core::dns::{Answer, Own, Resolver, Table, Transport, answer, failure, relay};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use mesh_api::istio::nds::NameTable;
use service_kit::Stop;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;

use crate::metrics::Metrics;

/// Questions over UDP that are dealt with at once, and connections.
const MOST: usize = 1024;
/// A connection may be silent for this long.
const IDLE: Duration = Duration::from_secs(10);
/// After an error of a socket.
const PAUSE: Duration = Duration::from_millis(100);
/// Attempts to find a port that is free for both protocols.
const ATTEMPTS: u32 = 16;

/// Sockets of both protocols at one address.
pub struct Sockets {
    /// UDP.
    pub udp: UdpSocket,
    /// TCP.
    pub tcp: TcpListener,
}

/// Listens on both protocols at `at`; port 0 takes one that is free for both.
///
/// # Errors
/// What the system says.
pub async fn bind(at: SocketAddr) -> io::Result<Sockets> {
    let mut attempt = 0;
    loop {
        let udp = UdpSocket::bind(at).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok(Sockets { udp, tcp }),
            Err(error) if at.port() != 0 || attempt == ATTEMPTS => return Err(error),
            Err(_) => attempt += 1,
        }
    }
}

/// The loopback address of the other family at the same port, for programs that ask there.
pub fn other_family(at: SocketAddr) -> Option<SocketAddr> {
    match at {
        SocketAddr::V4(v4) if *v4.ip() == Ipv4Addr::LOCALHOST => {
            Some((Ipv6Addr::LOCALHOST, v4.port()).into())
        }
        SocketAddr::V6(v6) if *v6.ip() == Ipv6Addr::LOCALHOST => {
            Some((Ipv4Addr::LOCALHOST, v6.port()).into())
        }
        _ => None,
    }
}

/// Turns what Pilot sends into tables, until `stop`.
pub async fn tables(
    mut names: watch::Receiver<Option<NameTable>>,
    table: watch::Sender<Option<Arc<Table>>>,
    own: Own,
    stop: Stop,
) {
    loop {
        let newest = names.borrow_and_update().clone();
        if let Some(newest) = newest {
            let own = own.clone();
            let built = tokio::task::spawn_blocking(move || Table::build(&newest, &own)).await;
            if let Ok(built) = built {
                tracing::debug!(names = built.names().count(), "a table of names has come");
                table.send_replace(Some(Arc::new(built)));
            }
        }
        tokio::select! {
            () = stop.wait() => return,
            changed = names.changed() => if changed.is_err() { return },
        }
    }
}

/// Answers names.
#[derive(Clone)]
pub struct Dns {
    /// The mesh's names.
    pub table: watch::Receiver<Option<Arc<Table>>>,
    /// Who is asked for others.
    pub resolver: Arc<Resolver>,
    /// How long one server may take.
    pub patience: Duration,
    /// Whether all servers are asked at once.
    pub parallel: bool,
    /// Whether this is the port that programs ask by themselves: then others are asked before the mesh's names have come.
    pub is_first: bool,
    /// Counters.
    pub metrics: Metrics,
}

impl Dns {
    /// Answers on `sockets` until `stop`.
    pub async fn serve(self, sockets: Sockets, stop: Stop) {
        // Places of their own: connections that say nothing do not keep questions over UDP waiting.
        let [questions, connections] = [(); 2].map(|()| Arc::new(Semaphore::new(MOST)));
        let udp = Arc::new(sockets.udp);
        tokio::select! {
            () = stop.wait() => {}
            () = self.udp(&udp, &questions) => {}
            () = self.tcp(&sockets.tcp, &connections) => {}
        }
    }

    async fn udp(&self, socket: &Arc<UdpSocket>, places: &Arc<Semaphore>) {
        let mut buffer = vec![0; usize::from(u16::MAX)];
        loop {
            let (length, peer) = match socket.recv_from(&mut buffer).await {
                Ok(received) => received,
                // A client that went away before its answer.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                // No reason to end the proxy.
                Err(error) => {
                    tracing::warn!(%error, "cannot receive a question, trying again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            // Too many at once: the client asks again.
            let Ok(place) = places.clone().try_acquire_owned() else {
                continue;
            };
            let question = buffer[..length].to_vec();
            let (dns, socket) = (self.clone(), socket.clone());
            tokio::spawn(async move {
                let _place = place;
                if let Some(reply) = dns.reply(&question, Transport::Udp).await {
                    let _ = socket.send_to(&reply, peer).await;
                }
            });
        }
    }

    async fn tcp(&self, listener: &TcpListener, places: &Arc<Semaphore>) {
        loop {
            let Ok(place) = places.clone().acquire_owned().await else {
                return;
            };
            let stream = match listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection, trying again");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            };
            let dns = self.clone();
            tokio::spawn(async move {
                let _place = place;
                let _ = dns.conversation(stream).await;
            });
        }
    }

    async fn conversation(&self, mut stream: TcpStream) -> io::Result<()> {
        loop {
            let question = match timeout(IDLE, read_message(&mut stream)).await {
                Ok(question) => question?,
                Err(_) => return Ok(()),
            };
            let Some(reply) = self.reply(&question, Transport::Tcp).await else {
                return Ok(());
            };
            timeout(IDLE, write_message(&mut stream, &reply))
                .await
                .map_err(io::Error::other)??;
        }
    }

    async fn reply(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        self.metrics.dns_requests.inc();
        let table = self.table.borrow().clone();
        let random = rand::random();
        // What is no question is not passed on either: an empty table knows no name.
        let empty = Table::default();
        let table = match &table {
            None if self.is_first => Some(&empty),
            table => table.as_deref(),
        };
        let decided = answer(question, table, transport, random);
        match decided {
            Answer::Reply(reply) => Some(reply),
            Answer::Drop => None,
            Answer::Forward => self.forward(question, transport).await,
        }
    }

    async fn forward(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        self.metrics.dns_upstream.inc();
        let ask = |server: SocketAddr| async move {
            let asked = match transport {
                Transport::Udp => timeout(self.patience, ask_udp(server, question)).await,
                Transport::Tcp => timeout(self.patience, ask_tcp(server, question)).await,
            };
            let reply = asked.ok()?.ok()?;
            relay(question, reply, transport)
        };
        let found = if self.parallel {
            let servers = self.resolver.servers.iter();
            let mut asked: FuturesUnordered<_> = servers.map(|server| ask(*server)).collect();
            loop {
                match asked.next().await {
                    Some(Some(reply)) => break Some(reply),
                    Some(None) => {}
                    None => break None,
                }
            }
        } else {
            let mut found = None;
            for server in &self.resolver.servers {
                found = ask(*server).await;
                if found.is_some() {
                    break;
                }
            }
            found
        };
        found.or_else(|| {
            self.metrics.dns_failures.inc();
            match failure(question, transport) {
                Answer::Reply(reply) => Some(reply),
                Answer::Forward | Answer::Drop => None,
            }
        })
    }
}

/// Asks under an id and from a port of our own, so that nobody who only knows the client's can answer.
async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let id: [u8; 2] = rand::random();
    let mut mine = question.to_vec();
    mine[..2].copy_from_slice(&id);
    socket.send(&mine).await?;
    let mut buffer = vec![0; usize::from(u16::MAX)];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // Anything else is somebody's guess.
        if length >= 12 && buffer[..2] == id {
            buffer.truncate(length);
            buffer[..2].copy_from_slice(&question[..2]);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    write_message(&mut stream, question).await?;
    read_message(&mut stream).await
}

async fn read_message(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

async fn write_message(stream: &mut TcpStream, message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    stream.write_all(&framed).await
}
