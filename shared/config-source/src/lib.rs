//! Where configuration comes from: folders of YAML and JSON today.
//!
//! A source reads, decodes through `mesh-config` and hands over what it holds now, as a whole. It must never decide what is accepted, what
//! wins, or what a proxy gets.
//!
//! Start reading at [`folder::watch`], then [`scan::Scanner`].

pub mod folder;
pub mod scan;
mod walk;

pub use folder::{FolderOptions, watch};
pub use scan::{FileContent, Scan, Scanner};
pub use walk::Watched;
