//! The ledger's values as messages of the API.

use citadel_core::journal::Linked;
use citadel_core::revocation::{Revocation, Target};
use mesh_api::citadel::{self as api, RevokeRequest, Span, revoke_request::What};

/// An entry as the API has it.
pub fn journal_entry(linked: &Linked) -> api::JournalEntry {
    let entry = linked.entry.clone();
    api::JournalEntry {
        sequence: linked.sequence,
        at: entry.at,
        event: entry.event.as_str().to_owned(),
        serial: entry.serial,
        spiffe_id: entry.spiffe_id,
        requester: entry.requester,
        attestation: entry.attestation,
        node: entry.node,
        not_after: entry.not_after,
        detail: entry.detail,
        hash: linked.hash.to_string(),
        issuer: entry.issuer,
        replaces: entry.replaces,
    }
}

/// What a request to revoke means; `None`: it says nothing. Unchecked.
pub fn target_of(request: &RevokeRequest) -> Option<Target> {
    Some(match request.what.as_ref()? {
        What::SpiffeId(id) => Target::SpiffeId(id.clone()),
        What::Serial(serial) => Target::Serial {
            serial: serial.clone(),
            hold: request.hold,
        },
        What::Node(node) => Target::Node(node.clone()),
        What::Issued(span) => Target::Issued {
            from: span.from,
            to: span.to,
        },
    })
}

/// A revocation as the API has it.
pub fn revocation_message(revocation: &Revocation) -> api::Revocation {
    let hold = matches!(revocation.target, Target::Serial { hold: true, .. });
    let what = match &revocation.target {
        Target::SpiffeId(id) => What::SpiffeId(id.clone()),
        Target::Serial { serial, .. } => What::Serial(serial.clone()),
        Target::Node(node) => What::Node(node.clone()),
        Target::Issued { from, to } => What::Issued(Span {
            from: *from,
            to: *to,
        }),
    };
    api::Revocation {
        id: revocation.id,
        request: Some(RevokeRequest {
            what: Some(what),
            reason: revocation.reason.clone(),
            hold,
        }),
        at: revocation.at,
        requester: revocation.requester.clone(),
        certificates: revocation.certificates.len() as u64,
        lifted_at: revocation.lifted_at,
    }
}
