//! Writing a file whole or not at all.

use std::fs::{OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Writes a file in one step: whoever reads it sees the old or the new, whole, with this mode whatever the umask takes away. What an earlier
/// attempt left beside it is not written through.
///
/// It blocks, also for the disk.
///
/// # Errors
/// The system's; the old file is then as it was.
pub fn replace_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let partial = path.with_file_name(name);
    let _ = std::fs::remove_file(&partial);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&partial)
        .and_then(|mut file| {
            file.write_all(content)?;
            file.set_permissions(Permissions::from_mode(mode))?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        // On a full disk it would only be in the way.
        let _ = std::fs::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_has_its_mode() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key.pem");
        for (text, mode) in [("one", 0o644), ("two", 0o600)] {
            replace_file(&file, text.as_bytes(), mode).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
            let found = std::fs::metadata(&file).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode);
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn what_cannot_be_written_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let taken = folder.path().join("taken");
        std::fs::create_dir(&taken).unwrap();
        assert!(replace_file(&taken, b"x", 0o600).is_err());
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }
}
