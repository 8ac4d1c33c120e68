//! The socket that secrets are served on, and whose it is.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{sleep, timeout};

/// How long a server on the socket may take to greet.
const GREETING: Duration = Duration::from_secs(1);
/// How often listening is tried, with pauses of a second, two, four...
const TRIES: u32 = 5;
/// The proxy's user and group may talk to it, nobody else.
const MODE: u32 = 0o660;

/// A socket that cannot be listened on.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Something else is there, which is not ours to remove.
    #[error("{}: is no socket; it stays, remove it yourself", .0.display())]
    NotASocket(PathBuf),
    /// Another process serves there.
    #[error("{}: another process serves there; end it, or use another --root-dir", .0.display())]
    Taken(PathBuf),
    /// The system says no.
    #[error("{}: {error}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Whether somebody speaks HTTP/2 on the socket at `path`.
pub async fn foreign_server(path: &Path) -> bool {
    matches!(timeout(GREETING, greet(path)).await, Ok(Ok(true)))
}

/// A server of HTTP/2 begins with its settings once the client has.
async fn greet(path: &Path) -> io::Result<bool> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    const EMPTY_SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
    let mut stream = UnixStream::connect(path).await?;
    stream.write_all(PREFACE).await?;
    stream.write_all(EMPTY_SETTINGS).await?;
    let mut frame = [0; 9];
    stream.read_exact(&mut frame).await?;
    Ok(frame[3] == 4 && frame[4] & 1 == 0)
}

/// Listens at `path`. A socket that nobody serves on is taken away first; anything else that is there stays, and is an error.
///
/// # Errors
/// See [`SocketError`].
pub async fn listen(path: &Path) -> Result<UnixListener, SocketError> {
    let mut pause = Duration::from_secs(1);
    let mut tried = 1;
    loop {
        match attempt(path).await {
            Err(SocketError::Io { error, .. }) if tried < TRIES => {
                tracing::warn!(path = %path.display(), %error, "cannot listen, trying again");
                sleep(pause).await;
                pause *= 2;
                tried += 1;
            }
            done => return done,
        }
    }
}

async fn attempt(path: &Path) -> Result<UnixListener, SocketError> {
    let failed = |error| SocketError::Io {
        path: path.to_owned(),
        error,
    };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match std::fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(SocketError::NotASocket(path.to_owned()));
        }
        Ok(_) if foreign_server(path).await => return Err(SocketError::Taken(path.to_owned())),
        Ok(_) => std::fs::remove_file(path).map_err(failed)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let mode = std::fs::Permissions::from_mode(MODE);
    std::fs::set_permissions(path, mode).map_err(failed)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Case 28: what is no socket stays.
    #[tokio::test]
    async fn a_file_or_link_at_the_path_is_not_deleted() {
        let folder = tempfile::tempdir().unwrap();
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "precious").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for path in [&file, &link] {
            let refused = listen(path).await.unwrap_err();
            assert!(matches!(refused, SocketError::NotASocket(_)), "{refused}");
        }
        assert_eq!(std::fs::read_to_string(&link).unwrap(), "precious");
    }

    /// Case 28: a socket that nobody serves on is replaced, a served one is not.
    #[tokio::test]
    async fn a_dead_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/socket");
        drop(listen(&path).await.unwrap());
        assert!(!foreign_server(&path).await);
        let listener = listen(&path).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o660);
        let serve = async {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream
                    .write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0])
                    .await
                    .unwrap();
                let mut all = Vec::new();
                let _ = stream.read_to_end(&mut all).await;
            }
        };
        let check = async {
            assert!(foreign_server(&path).await);
            let refused = listen(&path).await.unwrap_err();
            assert!(matches!(refused, SocketError::Taken(_)), "{refused}");
        };
        tokio::select! {
            () = serve => {}
            () = check => {}
        }
    }
}
