//! Addresses of one world: a /24 of loopback that no other world on this machine uses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// How suites and the common mesh write addresses; every world replaces it by its own network.
pub const WRITTEN: &str = "127.1.1.";

/// Taken by whoever owns the network, for as long as it does.
const LOCK: (u8, u16) = (254, 29_999);

/// A /24 of loopback. Every port of it is free, so that a service killed and started again can have the address it had.
#[derive(Debug)]
pub struct Network {
    second: u8,
    third: u8,
    _lock: TcpListener,
}

impl Network {
    /// The next free one.
    ///
    /// # Panics
    /// If there is none.
    pub fn reserve() -> Network {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        for _ in 0..10_000 {
            let n = std::process::id()
                .wrapping_mul(97)
                .wrapping_add(COUNT.fetch_add(1, Ordering::Relaxed));
            // 127.0 and 127.1 are what people use by hand.
            let (second, third) = ((n / 254 % 250 + 2) as u8, (n % 254 + 1) as u8);
            if let Ok(lock) = TcpListener::bind((Ipv4Addr::new(127, second, third, LOCK.0), LOCK.1))
            {
                return Network {
                    second,
                    third,
                    _lock: lock,
                };
            }
        }
        panic!("no free /24 below 127.0.0.0/8");
    }

    /// The address whose last number is `host`.
    pub fn ip(&self, host: u8) -> IpAddr {
        Ipv4Addr::new(127, self.second, self.third, host).into()
    }

    /// An address and port.
    pub fn at(&self, host: u8, port: u16) -> SocketAddr {
        (self.ip(host), port).into()
    }

    /// A text with the addresses it was written with replaced by those of this network.
    pub fn localize(&self, text: &str) -> String {
        text.replace(WRITTEN, &format!("127.{}.{}.", self.second, self.third))
    }

    /// The reverse of [`Network::localize`]: what a suite would have written.
    pub fn written(&self, text: &str) -> String {
        text.replace(&format!("127.{}.{}.", self.second, self.third), WRITTEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_differ_and_texts_move_there_and_back() {
        let (a, b) = (Network::reserve(), Network::reserve());
        assert_ne!(a.ip(1), b.ip(1));
        let text = "address: 127.1.1.11, not 10.1.1.11";
        assert_eq!(
            a.localize(text),
            format!("address: {}, not 10.1.1.11", a.ip(11))
        );
        assert_eq!(a.written(&a.localize(text)), text);
    }
}
