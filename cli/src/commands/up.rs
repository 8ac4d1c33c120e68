//! `flotilla up`.
