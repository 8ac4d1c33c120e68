//! testkit.

#[cfg(feature = "nats")]
pub mod nats;
#[cfg(feature = "netns")]
pub mod netns;
#[cfg(feature = "postgres")]
pub mod postgres;
