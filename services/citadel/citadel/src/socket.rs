//! The socket in the data folder: whoever may open it is an operator.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use service_kit::{ServeConfig, Stop, serve_connection};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// Connections at once.
const MOST: usize = 64;

/// Marks requests that came over the socket.
#[derive(Debug, Clone, Copy)]
pub struct OverSocket;

/// A socket that is removed when it is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Drop for Socket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Makes the folder, its owner's alone, if it does not exist.
///
/// # Errors
/// What the system says.
pub fn make_folder(folder: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
}

/// Listens at `path`, for the owner of the process alone. A socket that nobody listens at any more is replaced; anything else is left.
///
/// # Errors
/// Something else is there, or somebody listens there, or what the system says.
pub async fn bind(path: &Path) -> io::Result<Socket> {
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket is there; remove it",
            ));
        }
        Ok(_) => {
            if UnixStream::connect(path).await.is_ok() {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another Citadel listens there; give each its own --data-dir",
                ));
            }
            std::fs::remove_file(path)?;
        }
    }
    // Under another name until only its owner may connect.
    let mut temp = path.as_os_str().to_owned();
    temp.push(format!(".{}", std::process::id()));
    let temp = PathBuf::from(temp);
    let _ = std::fs::remove_file(&temp);
    let listener = UnixListener::bind(&temp)?;
    let placed = std::fs::set_permissions(&temp, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&temp, path));
    if let Err(error) = placed {
        let _ = std::fs::remove_file(&temp);
        return Err(error);
    }
    Ok(Socket {
        listener,
        path: path.to_owned(),
    })
}

/// Serves `router` on the socket until `stop`. Its requests carry [`OverSocket`].
pub async fn serve(socket: Socket, router: Router, stop: Stop) {
    let router = router.layer(axum::Extension(OverSocket));
    let config = Arc::new(ServeConfig::default());
    let places = Arc::new(Semaphore::new(MOST));
    // There is no address; loopback says that it is this machine.
    let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let place = places.clone().acquire_owned().await;
            (place, socket.listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.wait() => break,
            Some(_) = connections.join_next() => continue,
            next = accept => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, config, stop) = (router.clone(), config.clone(), stop.clone());
                connections.spawn(async move {
                    let _place = place;
                    serve_connection(stream, peer, router, &config, &stop).await;
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection on the socket");
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            }
        }
    }
    let drain = async { while connections.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(config.stop_grace, drain).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_or_a_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("operator.sock");
        let live = bind(&path).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            bind(&path).await.unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        // As after a crash: the file stays, nobody listens.
        let dead = dir.path().join("dead.sock");
        drop(UnixListener::bind(&dead).unwrap());
        bind(&dead).await.unwrap();
        drop(live);
        assert!(!path.exists());
        std::fs::write(&path, "mine").unwrap();
        assert_eq!(
            bind(&path).await.unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
