//! One file per command.

pub mod authz;
pub mod ca;
pub mod child;
pub mod findings;
pub mod proxy_config;
pub mod proxy_status;
pub mod render;
pub mod serve_xds;
pub mod services;
pub mod up;
pub mod validate;
pub mod wait;
