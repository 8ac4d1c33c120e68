//! Finding the programs to run.

use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

/// Where to look.
#[derive(Debug)]
pub struct Places<'a> {
    /// This program.
    pub flotilla: &'a Path,
    /// The current folder.
    pub current: &'a Path,
    /// PATH.
    pub path: &'a OsStr,
}

impl Places<'_> {
    /// A program that `e2e/tools/setup.sh` installs: `named` by `flag`, else in `.cache/bin` of a checkout around this program or
    /// the current folder, else in PATH.
    pub fn installed(
        &self,
        name: &str,
        flag: &str,
        named: Option<&Path>,
    ) -> anyhow::Result<PathBuf> {
        if let Some(named) = named {
            if is_program(named) {
                // What starts with a name alone would be looked up in PATH.
                return Ok(self.current.join(named));
            }
            bail!("{flag} {}: this is no program", named.display());
        }
        let checkouts = self.flotilla.ancestors().chain(self.current.ancestors());
        checkouts
            .map(|folder| folder.join(".cache/bin"))
            .chain(std::env::split_paths(self.path))
            .map(|folder| folder.join(name))
            .find(|program| is_program(program))
            .with_context(|| {
                format!(
                    "{name} is not installed: neither in .cache/bin here or above, nor in PATH; run `make setup` in the checkout, or \
                     name the program with {flag} FILE"
                )
            })
    }

    /// The sample application, which is built together with this program.
    pub fn sample(&self, named: Option<&Path>) -> anyhow::Result<PathBuf> {
        let program = match named {
            Some(named) => self.current.join(named),
            None => self.flotilla.with_file_name("sample"),
        };
        if is_program(&program) {
            return Ok(program);
        }
        bail!(
            "{} is missing: the sample application is built by `make build`, beside this program; --no-sample starts the plane alone",
            program.display()
        );
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata()
        .is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn program(path: &Path) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    #[test]
    fn the_checkout_comes_before_path_and_a_name_before_both() {
        let dir = tempfile::tempdir().unwrap();
        let (checkout, bin) = (dir.path().join("checkout"), dir.path().join("bin"));
        let flotilla = checkout.join("target/debug/flotilla");
        let places = Places {
            flotilla: &flotilla,
            current: dir.path(),
            path: bin.as_os_str(),
        };
        let missing = places.installed("envoy", "--envoy", None).unwrap_err();
        assert!(missing.to_string().contains("make setup"), "{missing}");

        program(&bin.join("envoy"));
        let found = places.installed("envoy", "--envoy", None).unwrap();
        assert_eq!(found, bin.join("envoy"));

        program(&checkout.join(".cache/bin/envoy"));
        let found = places.installed("envoy", "--envoy", None).unwrap();
        assert_eq!(found, checkout.join(".cache/bin/envoy"));

        let mine = dir.path().join("mine");
        program(&mine);
        let found = places.installed("envoy", "--envoy", Some(&mine)).unwrap();
        assert_eq!(found, mine);
        let wrong = places
            .installed("envoy", "--envoy", Some(dir.path()))
            .unwrap_err();
        assert!(wrong.to_string().starts_with("--envoy "), "{wrong}");

        assert!(
            places
                .sample(None)
                .unwrap_err()
                .to_string()
                .contains("make build")
        );
        program(&flotilla.with_file_name("sample"));
        assert!(places.sample(None).is_ok());
    }
}
