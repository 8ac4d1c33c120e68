//! Redirects that an application answers a probe with.

/// Most redirects that are followed.
const MOST: u32 = 10;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether over TLS.
    pub https: bool,
    /// Host name or address, an IPv6 address without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Path and query.
    pub path: String,
}

/// What to do about a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// Ask there.
    Follow(Target),
    /// It leads to another host: the application answers, which is enough. Nothing is sent there.
    Enough,
    /// Too many, or no place.
    Fail,
}

/// Decides about a redirect: `followed` were followed before this one, `first` is where the probe went, `at` who answered with `location`.
pub fn follow(followed: u32, first: &Target, at: &Target, location: &str) -> Redirect {
    if followed >= MOST {
        return Redirect::Fail;
    }
    match resolve(at, location) {
        Some(next) if next.host.eq_ignore_ascii_case(&first.host) => Redirect::Follow(next),
        Some(_) => Redirect::Enough,
        None => Redirect::Fail,
    }
}

/// A `Location`, absolute or relative to who said it.
fn resolve(at: &Target, location: &str) -> Option<Target> {
    let location = location.split('#').next()?;
    if !location.bytes().all(|b| matches!(b, b'!'..=b'~')) {
        return None;
    }
    let (https, rest) = match location.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => (false, rest),
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("https") => (true, rest),
        // A colon may stand in a query.
        Some((before, _)) if !before.contains(['/', '?']) => return None,
        _ => match location.strip_prefix("//") {
            Some(rest) => (at.https, rest),
            None => return Some(relative(at, location)),
        },
    };
    let end = rest.find(['/', '?', '\\']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    // What stands before an @ is a name for somebody, not a host.
    let authority = authority.rsplit('@').next()?;
    let (host, port) = match authority.strip_prefix('[') {
        Some(v6) => {
            let (host, rest) = v6.split_once(']')?;
            (host, rest.strip_prefix(':'))
        }
        None => match authority.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let port = match port {
        None | Some("") => match https {
            true => 443,
            false => 80,
        },
        Some(port) => port.parse().ok()?,
    };
    if host.is_empty() {
        return None;
    }
    let path = match path {
        "" => "/".to_owned(),
        query if query.starts_with('?') => format!("/{query}"),
        path => path.to_owned(),
    };
    Some(Target {
        https,
        host: host.to_owned(),
        port,
        path,
    })
}

fn relative(at: &Target, location: &str) -> Target {
    let base = at.path.split('?').next().unwrap_or("/");
    let path = match location.chars().next() {
        None => at.path.clone(),
        Some('/') => location.to_owned(),
        Some('?') => format!("{base}{location}"),
        Some(_) => {
            let folder = base.rfind('/').map_or("/", |end| &base[..=end]);
            format!("{folder}{location}")
        }
    };
    Target { path, ..at.clone() }
}
