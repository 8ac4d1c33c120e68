//! Network namespaces: machines of their own on this one, with addresses, ports and rules that nobody else has.
//!
//! Needs root and `ip` (`e2e/tools/setup.sh --tests` installs it).

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::{Gid, Uid};
use rustix::thread::{
    LinkNameSpaceType, move_into_link_name_space, set_thread_groups, set_thread_res_gid,
    set_thread_res_uid,
};

/// Names begin so; the rest is the process that made them and a number.
const PREFIX: &str = "flotilla-test-";

/// A network namespace with loopback up; gone when dropped.
///
/// What was left by processes that were killed is removed whenever one is made.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// A new one.
    ///
    /// # Panics
    /// Without root, or if the system cannot make one.
    #[allow(clippy::new_without_default, reason = "it makes something")]
    pub fn new() -> Namespace {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        assert!(
            rustix::process::geteuid().is_root(),
            "this test makes network namespaces and needs root for that: run it as root, or with `sudo -E`"
        );
        sweep();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        ip(&["netns", "add", &name]);
        let file = File::open(Path::new("/run/netns").join(&name));
        let namespace = Namespace {
            file: file.unwrap_or_else(|error| panic!("{name}: {error}")),
            name,
        };
        namespace.ip("link set lo up");
        namespace
    }

    /// What `ip netns` calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder whose files stand for those of `/etc` in what [`Namespace::exec`] runs: `resolv.conf`, `hosts`.
    ///
    /// # Panics
    /// If it cannot be made.
    pub fn etc(&self) -> PathBuf {
        let folder = Path::new("/etc/netns").join(&self.name);
        std::fs::create_dir_all(&folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        folder
    }

    /// `ip -n NAME COMMAND`.
    ///
    /// # Panics
    /// If it fails.
    #[track_caller]
    pub fn ip(&self, command: &str) {
        let words = ["-n", &self.name].into_iter().chain(command.split(' '));
        ip(&words.collect::<Vec<_>>());
    }

    /// Joins it to another by a pair of interfaces, both up.
    ///
    /// # Panics
    /// If the system cannot.
    pub fn join(&self, interface: &str, other: &Namespace, its: &str) {
        let name = &other.name;
        self.ip(&format!(
            "link add {interface} type veth peer name {its} netns {name}"
        ));
        self.ip(&format!("link set {interface} up"));
        other.ip(&format!("link set {its} up"));
    }

    /// Words before those of a command that run it here: `ip netns exec NAME`.
    pub fn prefix(&self) -> [&str; 4] {
        ["ip", "netns", "exec", &self.name]
    }

    /// Runs a program here and returns what it printed.
    ///
    /// # Panics
    /// If it cannot be started.
    pub fn exec(&self, program: &str, args: &[&str]) -> Output {
        let [ip, prefix @ ..] = self.prefix();
        let mut command = Command::new(ip);
        command.args(prefix).arg(program).args(args);
        let output = command.output();
        output.unwrap_or_else(|error| panic!("{program}: {error}"))
    }

    /// Does something on a thread that is here and whose sockets are of this user and group. Sockets stay here, whatever thread uses them
    /// later.
    ///
    /// # Panics
    /// If the thread cannot be had, or as `work` does.
    pub fn as_user<T: Send>(&self, uid: u32, gid: u32, work: impl FnOnce() -> T + Send) -> T {
        let enter = || {
            let moved =
                move_into_link_name_space(self.file.as_fd(), Some(LinkNameSpaceType::Network));
            let moved = moved.and_then(|()| match uid == 0 && gid == 0 {
                true => Ok(()),
                false => become_user(uid, gid),
            });
            if let Err(error) = moved {
                panic!("{}: as {uid}:{gid}: {error}", self.name);
            }
            work()
        };
        std::thread::scope(|scope| scope.spawn(enter).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

/// Only this thread becomes somebody else.
fn become_user(uid: u32, gid: u32) -> rustix::io::Result<()> {
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    set_thread_groups(&[])?;
    set_thread_res_gid(gid, gid, gid)?;
    set_thread_res_uid(uid, uid, uid)
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

fn remove(name: &str) {
    let _ = Command::new("ip").args(["netns", "del", name]).output();
    let _ = std::fs::remove_dir_all(Path::new("/etc/netns").join(name));
}

/// Removes what processes left that are no more.
fn sweep() {
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten();
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let rest = name.strip_prefix(PREFIX);
        if let Some(process) = rest.and_then(|rest| rest.split('-').next())
            && !Path::new("/proc").join(process).exists()
        {
            remove(&name);
        }
    }
}

#[track_caller]
fn ip(args: &[&str]) {
    let output = Command::new("ip").args(args).output();
    let output = output.unwrap_or_else(|error| {
        panic!("`ip` cannot be run ({error}); e2e/tools/setup.sh --tests installs it")
    });
    assert!(
        output.status.success(),
        "ip {args:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
