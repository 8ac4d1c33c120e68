//! flotilla.
fn main() {}
