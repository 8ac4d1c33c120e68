//! Connections from the pods' network to the plane, byte for byte.

use std::net::SocketAddr;

use testkit::netns::Namespace;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// Passes connections on until it is dropped.
#[derive(Debug)]
pub(super) struct Relay {
    task: JoinHandle<()>,
}

impl Relay {
    /// From an address in a namespace to one outside.
    pub fn new(namespace: &Namespace, at: SocketAddr, to: SocketAddr) -> Relay {
        let listener = super::pod::listen(namespace, 0, at);
        Relay {
            task: tokio::spawn(serve(listener, to)),
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(listener: TcpListener, to: SocketAddr) {
    // Dropped with this task, and the connections with it.
    let mut connections = JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        let _ = near.set_nodelay(true);
        connections.spawn(async move {
            // Nobody there: the connection is closed, as the plane's own would be.
            if let Ok(mut far) = TcpStream::connect(to).await {
                let _ = far.set_nodelay(true);
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            }
        });
        while connections.try_join_next().is_some() {}
    }
}
