//! `agent capture` in network namespaces: real rules, judged by where real connections arrive.
//!
//! Every test makes namespaces of its own and needs root for that; as anybody else it fails and says so. It needs `ip`, both variants of
//! iptables and, for TPROXY, Python: `e2e/tools/setup.sh --tests` installs them.
#![allow(clippy::unwrap_used, reason = "a test")]

mod applying;
mod arriving;
mod combinations;
mod namespace;
mod routing;
mod validation;

/// Makes two tests of every function: with each variant of iptables.
macro_rules! both_variants {
    ($($name:ident),+ $(,)?) => {
        mod nft {
            $(#[test] fn $name() { super::$name("nft"); })+
        }
        mod legacy {
            $(#[test] fn $name() { super::$name("legacy"); })+
        }
    };
}
pub(crate) use both_variants;
