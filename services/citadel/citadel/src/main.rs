//! The `citadel` program.

fn main() {}
