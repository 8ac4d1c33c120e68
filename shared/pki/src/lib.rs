//! X.509 as SPIFFE has it: keys, certificate requests, authorities, leaves, bundles, revocation lists and the checks of each.
//!
//! Values in, values out: the time is an argument. The crate must never know who asks for a certificate, where keys are kept, or a socket.
