//! The system's resolver settings.

use std::net::{IpAddr, SocketAddr};

/// Most servers that are asked, as with the C library.
const MAX_SERVERS: usize = 3;
/// Most search domains that are read.
const MAX_SEARCH: usize = 32;

/// What is read of `resolv.conf`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Servers, in order.
    pub servers: Vec<SocketAddr>,
    /// Search domains, in order, in lower case.
    pub search: Vec<String>,
}

impl Resolver {
    /// Reads the text of `resolv.conf`. `own` are addresses that the agent itself answers at: it must not ask itself.
    pub fn parse(text: &str, own: &[SocketAddr]) -> Resolver {
        let mut found = Resolver::default();
        for line in text.lines() {
            let line = line.split(['#', ';']).next().unwrap_or_default();
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|text| text.parse::<IpAddr>().ok());
                    let server = server.map(|ip| SocketAddr::new(ip, 53));
                    found
                        .servers
                        .extend(server.filter(|server| !own.contains(server)));
                }
                // The last line counts.
                Some("search" | "domain") => {
                    let names = words.map(|word| word.trim_end_matches('.').to_ascii_lowercase());
                    let names = names.filter(|name| !name.is_empty());
                    found.search = names.take(MAX_SEARCH).collect();
                }
                _ => {}
            }
        }
        found.servers.dedup();
        found.servers.truncate(MAX_SERVERS);
        found
    }
}
