//! How far a trust bundle has come: Citadel asks every Pilot before a root begins or ceases to sign.

use mesh_api::citadel::{TrustAnswer, TrustQuestion};
use xds_core::TypeId;

use crate::roster::{Connection, Roster};
use crate::trust::ServedTrust;

/// Where Citadel asks.
pub(super) const SUBJECT: &str = "flotilla.pilot.trust";
/// Most proxies that are named in an answer. Counts are always exact.
const MAX_NAMES: usize = 100;

/// This Pilot's answer; `served` is the bundle it hands out.
pub(super) fn answer(
    roster: &Roster,
    served: Option<&ServedTrust>,
    question: &TrustQuestion,
) -> TrustAnswer {
    // Another bundle than the one that is handed out is held by nobody, as far as is known here.
    let asked = served.filter(|trust| trust.bundle().digest == question.digest);
    let mut out = TrustAnswer {
        pilot: roster.pilot().to_owned(),
        digest: question.digest.clone(),
        ..TrustAnswer::default()
    };
    for connection in roster.connections() {
        out.total += 1;
        match held(&connection, asked) {
            Held::Yes => out.acknowledged += 1,
            Held::No => out.pending.push(connection.proxy.to_string()),
            Held::Unknown => out
                .pending
                .push(format!("{} (does not report)", connection.proxy)),
        }
    }
    out.pending.sort();
    out.pending.truncate(MAX_NAMES);
    out
}

enum Held {
    Yes,
    No,
    /// It never asked for a bundle, so it will never say.
    Unknown,
}

/// Whether a proxy has accepted a bundle: what its agent asked for counts, our own type before Istio's.
fn held(connection: &Connection, asked: Option<&ServedTrust>) -> Held {
    let session = connection.session.lock();
    let subscribed = [TypeId::Trust, TypeId::Pcds]
        .into_iter()
        .find(|type_id| session.status(*type_id).is_some());
    let Some(type_id) = subscribed else {
        return Held::Unknown;
    };
    let current = connection.current();
    match asked {
        Some(trust) if trust.is_in(&current) && session.is_type_synced(type_id, &current) => {
            Held::Yes
        }
        _ => Held::No,
    }
}
