//! Who is at the other end of a connection.

use std::sync::Arc;

use http::Extensions;
use mesh_types::SpiffeId;
use pki::Certificate;

/// The client of a request, shown by its certificate. It is in the extensions of every request of a connection with a client
/// certificate, for axum and tonic alike; a request without it is anonymous.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its identity.
    pub id: SpiffeId,
    /// The certificate that shows it: serial number, validity.
    pub certificate: Arc<Certificate>,
}

impl Peer {
    /// The client of a request; `None` if it is anonymous.
    pub fn of(extensions: &Extensions) -> Option<&Peer> {
        extensions.get()
    }
}
