//! Who is at the other end of a connection.

use http::Extensions;
use mesh_types::SpiffeId;

use super::Leaf;

/// The client of a request, shown by its certificate. It is in the extensions of every request of a connection with a client
/// certificate, for axum and tonic alike; a request without it is anonymous.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its identity.
    pub id: SpiffeId,
    /// What else its certificate says.
    pub leaf: Leaf,
}

impl Peer {
    /// The client of a request; `None` if it is anonymous.
    pub fn of(extensions: &Extensions) -> Option<&Peer> {
        extensions.get()
    }
}

impl From<Leaf> for Peer {
    fn from(leaf: Leaf) -> Peer {
        Peer {
            id: leaf.id.clone(),
            leaf,
        }
    }
}
