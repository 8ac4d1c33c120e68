//! The folder of a mesh: working copy of the configuration, database, logs.

use std::fs::{self, File, TryLockError};
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::args::{Args, Network};
use super::sample;

/// The folder, held as long as this value lives.
#[derive(Debug)]
pub struct State {
    /// As the user named it, for messages.
    pub shown: PathBuf,
    /// Absolute.
    pub dir: PathBuf,
    /// Held while a mesh runs here; the system lets go of it however the process ends.
    _lock: File,
}

impl State {
    /// Takes the folder, and fills it where something is missing.
    pub fn open(args: &Args) -> anyhow::Result<State> {
        let shown = args.dir.clone();
        let named = || format!("--dir {}", shown.display());
        fs::create_dir_all(&shown).with_context(named)?;
        let dir = shown.canonicalize().with_context(named)?;
        let lock = lock(&dir).with_context(named)?;
        let state = State {
            shown,
            dir,
            _lock: lock,
        };
        if args.fresh {
            for kept in [
                "config", "citadel", "galley", "pilot", "nats", "network", "operator",
            ] {
                remove(&state.dir.join(kept))?;
            }
        }
        // What an earlier run said about ports is no longer true.
        for old in ["run", "agents"] {
            remove(&state.dir.join(old))?;
        }
        for folder in ["galley", "pilot", "nats", "logs", "run/nats"] {
            let folder = state.dir.join(folder);
            fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        let tokens = state.dir.join("run/tokens");
        fs::DirBuilder::new()
            .mode(0o700)
            .create(&tokens)
            .with_context(|| tokens.display().to_string())?;
        state.copy_config(args)?;
        Ok(state)
    }

    /// The working copy.
    pub fn config(&self) -> PathBuf {
        self.dir.join("config")
    }

    /// The working copy as the user sees it.
    pub fn shown_config(&self) -> PathBuf {
        self.shown.join("config")
    }

    /// Certificate and key of whoever operates this mesh.
    pub fn operator(&self) -> PathBuf {
        self.dir.join("operator")
    }

    /// Folder that an agent's files are below.
    pub fn agent(&self, name: &str) -> PathBuf {
        self.dir.join("agents").join(name)
    }

    /// A log file.
    pub fn log(&self, name: &str) -> PathBuf {
        self.dir.join("logs").join(format!("{name}.log"))
    }

    /// A path in the folder as the user sees it.
    pub fn show(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.dir) {
            Ok(rest) => self.shown.join(rest),
            Err(_) => path.to_owned(),
        }
    }

    /// Copies the sample's configuration, unless there is a folder already: edits are never lost.
    fn copy_config(&self, args: &Args) -> anyhow::Result<()> {
        let config = self.config();
        let mark = self.dir.join("network");
        if !config.exists() {
            // Made whole under another name: a copy broken off is not taken for the user's wish.
            let fresh = self.dir.join("config.new");
            remove(&fresh)?;
            fs::create_dir(&fresh).with_context(|| fresh.display().to_string())?;
            for (name, text) in sample::CONFIG.iter().filter(|_| !args.no_sample) {
                let file = fresh.join(name);
                fs::write(&file, sample::on_network(text, args.network))
                    .with_context(|| file.display().to_string())?;
            }
            if !args.no_sample {
                fs::write(&mark, args.network.to_string())
                    .with_context(|| mark.display().to_string())?;
            }
            return fs::rename(&fresh, &config).with_context(|| config.display().to_string());
        }
        if args.no_sample {
            return Ok(());
        }
        let network = fs::read_to_string(&mark).ok();
        match network.as_deref().map(str::parse::<Network>) {
            Some(Ok(network)) if network == args.network => Ok(()),
            Some(Ok(network)) => bail!(
                "--network {}: the configuration in {} is for {network}; add --fresh to begin anew, or name another --dir",
                args.network,
                self.shown_config().display()
            ),
            None | Some(Err(_)) => bail!(
                "{} is not the sample's configuration; add --no-sample, or --fresh to begin anew, or name another --dir",
                self.shown_config().display()
            ),
        }
    }
}

fn lock(dir: &Path) -> anyhow::Result<File> {
    let path = dir.join("lock");
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .with_context(|| path.display().to_string())?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0)?;
            writeln!(file, "{}", std::process::id())?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let holder = fs::read_to_string(&path).unwrap_or_default();
            bail!(
                "process {} runs a mesh in this folder; stop it, or name another folder",
                holder.trim()
            )
        }
        Err(TryLockError::Error(error)) => Err(error).with_context(|| path.display().to_string()),
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => Ok(()),
    };
    removed.with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(dir: &Path, more: &[&str]) -> Args {
        let dir = dir.join("mesh");
        let base = ["up", "--dir", dir.to_str().unwrap()];
        Cli::try_parse_from(base.iter().chain(more))
            .unwrap_or_else(|e| panic!("{e}"))
            .args
    }

    #[test]
    fn edits_stay_until_the_user_wants_a_fresh_copy() {
        let dir = tempfile::tempdir().unwrap();
        let open = |more: &[&str]| State::open(&args(dir.path(), more));
        let file = dir.path().join("mesh/config/reviews.yaml");
        drop(open(&[]).unwrap());
        assert!(fs::read_to_string(&file).unwrap().contains("subset: v1"));
        fs::write(&file, "mine").unwrap();
        drop(open(&[]).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
        let moved = open(&["--network", "127.78.0"]).unwrap_err().to_string();
        assert!(moved.contains("is for 127.77.0"), "{moved}");
        drop(open(&["--network", "127.78.0", "--fresh"]).unwrap());
        assert!(fs::read_to_string(&file).unwrap().contains("subset: v1"));
        let services = fs::read_to_string(file.with_file_name("services.yaml")).unwrap();
        assert!(services.contains("127.78.0.10"));
    }

    #[test]
    fn a_folder_without_sample_is_not_taken_for_one() {
        let dir = tempfile::tempdir().unwrap();
        drop(State::open(&args(dir.path(), &["--no-sample"])).unwrap());
        let error = State::open(&args(dir.path(), &[])).unwrap_err().to_string();
        assert!(
            error.contains("is not the sample's configuration"),
            "{error}"
        );
    }

    #[test]
    fn two_do_not_share_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        let _first = State::open(&args(dir.path(), &[])).unwrap();
        let error = format!("{:#}", State::open(&args(dir.path(), &[])).unwrap_err());
        assert!(error.contains("runs a mesh in this folder"), "{error}");
    }
}
