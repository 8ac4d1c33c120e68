//! How many files, and with that connections, the process may have open.

use std::sync::Once;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the soft limit to the hard one, once per process: many systems start programs with 1024 because of some that cannot deal with
/// more, and a fleet of proxies needs one for each.
pub(crate) fn raise_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let found = getrlimit(Resource::Nofile);
        let raised = Rlimit {
            current: found.maximum,
            maximum: found.maximum,
        };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            tracing::warn!(%error, limit = found.current, "the limit of open files cannot be raised; see `ulimit -n`");
        }
    });
}
