//! From the shared state to the bundle that is announced, and to the signer of this replica.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use citadel_core::crl::{Facts, Kept, Plan, Step, plan};
use citadel_core::revocation::{InForce, Line};
use citadel_core::{bundle, issue};
use mesh_api::citadel::{self as api, TrustBundle};
use pki::crl::{self, CrlError, RevocationReason, Revoked};
use pki::{Authority, Bundle, Certificate, Material, PrivateKey};
use time::OffsetDateTime;

use super::{Change, Plugged, Roots, RootsConfig, RootsError, Signing};
use crate::ledger::{Mode, RootRow, Trust, TrustUpdate};

/// What the ledger says besides.
pub(super) struct Known {
    pub(super) in_force: Arc<InForce>,
    pub(super) revocations: u64,
    pub(super) live_issuers: Vec<String>,
}

/// What is to be stored for a change, and why lists are withheld, if they are.
pub(super) fn update(
    config: &RootsConfig,
    before: Option<&Trust>,
    change: Change,
    plugged: Option<&Plugged>,
    known: &Known,
    now: OffsetDateTime,
) -> Result<(TrustUpdate, Vec<String>), RootsError> {
    let mut roots: BTreeMap<String, RootRow> =
        before.map(|trust| trust.roots.clone()).unwrap_or_default();
    for row in &change.roots {
        roots.insert(row.fingerprint.clone(), row.clone());
    }
    let state = &change.state;
    let bundle_of = trusted(&roots, &state.trusted)?;
    let (crls, texts, withheld) = lists(config, before, &roots, &change, plugged, known, now);
    let mut next = TrustBundle {
        trust_domain: config.trust_domain.to_string(),
        generation: 0,
        digest: String::new(),
        roots: bundle_of.pems(),
        crls: texts,
        denied: known.in_force.denied(),
        signing: state.signing.clone(),
    };
    next.digest = bundle::digest(&next);
    next.generation = match before {
        Some(trust) if trust.bundle.digest == next.digest => trust.bundle.generation,
        Some(trust) => trust.bundle.generation + 1,
        None => 1,
    };
    let issuer = match change.mode {
        Mode::PluggedIn => String::new(),
        Mode::SelfSigned => {
            let root = roots.get(&state.signing);
            root.ok_or_else(|| RootsError::Lost(state.signing.clone()))?
                .issuer
                .clone()
        }
    };
    let update = TrustUpdate {
        expect: before.map_or(0, |trust| trust.versions.trust),
        mode: change.mode,
        state: change.state,
        issuer,
        bundle: next,
        crls,
        bundle_of: known.revocations,
        roots: change.roots,
        destroy: change.destroy,
        entries: change.entries,
    };
    Ok((update, withheld))
}

fn trusted<'a>(
    roots: &BTreeMap<String, RootRow>,
    fingerprints: impl IntoIterator<Item = &'a String>,
) -> Result<Bundle, RootsError> {
    let mut found = Vec::new();
    for fingerprint in fingerprints {
        let lost = || RootsError::Lost(fingerprint.clone());
        let row = roots.get(fingerprint).ok_or_else(lost)?;
        found.push(Certificate::from_pem(&row.certificate).map_err(|_| lost())?);
    }
    Bundle::new(found).map_err(|error| RootsError::Made(error.to_string()))
}

/// The signer of a root that is kept with its key.
pub(super) fn authority(
    config: &RootsConfig,
    row: &RootRow,
    roots: Vec<Certificate>,
    now: OffsetDateTime,
) -> Result<Authority, RootsError> {
    let wrong = |error| RootsError::Authority {
        fingerprint: row.fingerprint.clone(),
        error,
    };
    let lost = || RootsError::Lost(row.fingerprint.clone());
    let pem = row.private_key.as_ref().ok_or_else(lost)?;
    let material = Material {
        key: PrivateKey::from_pem(pem).map_err(|error| wrong(error.into()))?,
        certificate: Certificate::from_pem(&row.certificate)
            .map_err(|error| wrong(error.into()))?,
        chain: Vec::new(),
        roots,
    };
    Authority::new(material, &config.trust_domain, now).map_err(wrong)
}

/// The lists to keep, their texts and those that came with the authority, and why there are none if some are wanted.
fn lists(
    config: &RootsConfig,
    before: Option<&Trust>,
    roots: &BTreeMap<String, RootRow>,
    change: &Change,
    plugged: Option<&Plugged>,
    known: &Known,
    now: OffsetDateTime,
) -> (Vec<Kept>, Vec<String>, Vec<String>) {
    let mut signers: BTreeMap<String, Authority> = BTreeMap::new();
    for fingerprint in &change.state.trusted {
        let row = roots
            .get(fingerprint)
            .filter(|row| row.private_key.is_some());
        let Some(row) = row else { continue };
        let Ok(root) = Certificate::from_pem(&row.certificate) else {
            continue;
        };
        // A root that has expired trusts nobody, and needs no list.
        if let Ok(signer) = authority(config, row, vec![root], now) {
            signers.insert(row.issuer.clone(), signer);
        }
    }
    let mut also = BTreeMap::new();
    let mut foreign = Vec::new();
    if let Some(plugged) = plugged {
        signers.insert(plugged.issuer.clone(), plugged.authority.clone());
        for list in &plugged.crls {
            if list.is_issued_by(plugged.authority.certificate()) {
                also.insert(plugged.issuer.clone(), lines(list));
            } else {
                foreign.push(list.to_pem());
            }
        }
    }
    // Of roots that nobody trusts any more nothing is accepted, with or without a list.
    let distrusted = |issuer: &String| {
        let mut of = roots
            .values()
            .filter(|row| row.issuer == *issuer)
            .peekable();
        of.peek().is_some() && of.all(|row| !change.state.trusted.contains(&row.fingerprint))
    };
    let issuers = roots.values().map(|row| &row.issuer);
    let gone: BTreeSet<String> = issuers.filter(|one| distrusted(one)).cloned().collect();
    let ours: Vec<String> = signers.keys().cloned().collect();
    let facts = Facts {
        in_force: &known.in_force,
        also: &also,
        ours: &ours,
        live: &known.live_issuers,
        gone: &gone,
        kept: before.map_or(&[], |trust| trust.crls.as_slice()),
        longest: config.longest_life,
    };
    let as_they_came = || {
        let crls = plugged.map_or(&[][..], |plugged| plugged.crls.as_slice());
        crls.iter().map(crl::Crl::to_pem).collect()
    };
    let steps = match plan(&facts, now) {
        Plan::None => return (Vec::new(), as_they_came(), Vec::new()),
        // Those that came with the authority have the same gap.
        Plan::Withheld(issuers) => return (Vec::new(), Vec::new(), issuers),
        Plan::Lists(steps) => steps,
    };
    let mut kept = Vec::with_capacity(steps.len());
    for step in steps {
        kept.push(match step {
            Step::Keep(list) => list,
            Step::Make(order) => {
                let made = signers
                    .get(&order.issuer)
                    .map(|signer| make(signer, &order));
                match made {
                    Some(Ok(pem)) => order.kept(pem),
                    Some(Err(error)) => {
                        let why = format!("{}: {error}", order.issuer);
                        return (Vec::new(), as_they_came(), vec![why]);
                    }
                    None => continue,
                }
            }
        });
    }
    let mut texts: Vec<String> = kept.iter().map(|list| list.pem.clone()).collect();
    texts.extend(foreign);
    (kept, texts, Vec::new())
}

fn lines(list: &crl::Crl) -> Vec<Line> {
    let line = |serial: &pki::Serial| Line {
        serial: serial.to_string(),
        at: list.this_update().unix_timestamp(),
        hold: false,
    };
    list.serials().map(line).collect()
}

fn make(signer: &Authority, order: &citadel_core::crl::Order) -> Result<String, CrlError> {
    let mut revoked = Vec::with_capacity(order.lines.len());
    for line in &order.lines {
        let (Ok(serial), Ok(at)) = (
            line.serial.parse(),
            OffsetDateTime::from_unix_timestamp(line.at),
        ) else {
            // The journal holds no others.
            continue;
        };
        revoked.push(Revoked {
            serial,
            at,
            reason: if line.hold {
                RevocationReason::CertificateHold
            } else {
                RevocationReason::Unspecified
            },
        });
    }
    // No later than its issuer: with our clock ahead, a list of the future would have every proxy refuse everybody.
    let this_update = order.this_update.min(signer.certificate().not_before());
    let list = crl::build(
        signer,
        &revoked,
        order.number,
        this_update,
        order.next_update,
    )?;
    Ok(list.to_pem())
}

/// The signer of this replica.
pub(super) fn signing(
    config: &RootsConfig,
    trust: &Trust,
    plugged: Option<&Plugged>,
    now: OffsetDateTime,
) -> Result<Signing, RootsError> {
    let bundle = trusted(&trust.roots, &trust.state.trusted)?;
    let authority = match plugged {
        Some(plugged) => plugged.authority.clone(),
        None => {
            let row = trust.roots.get(&trust.state.signing);
            let row = row.ok_or_else(|| RootsError::Lost(trust.state.signing.clone()))?;
            authority(config, row, bundle.roots().to_vec(), now)?
        }
    };
    Ok(Signing {
        issuer: issue::issuer(&authority),
        bundle_pem: bundle.to_pem(),
        authority,
    })
}

/// A root as it is kept.
pub(crate) fn row(
    certificate: &Certificate,
    key: Option<&PrivateKey>,
    now: OffsetDateTime,
) -> RootRow {
    RootRow {
        fingerprint: certificate.fingerprint(),
        issuer: issue::issuer_of(certificate),
        certificate: certificate.to_pem(),
        private_key: key.map(PrivateKey::to_pkcs8_pem),
        made_at: now.unix_timestamp(),
    }
}

/// Roots that are trusted or were lately, and a plugged-in authority, for people.
pub(super) fn authorities(trust: &Trust, plugged: Option<&Plugged>) -> Vec<api::Authority> {
    let of = |certificate: &Certificate, signing, trusted| api::Authority {
        fingerprint: certificate.fingerprint(),
        key: certificate
            .key_type()
            .map(|key| key.to_string())
            .unwrap_or_default(),
        not_before: certificate.not_before().unix_timestamp(),
        not_after: certificate.not_after().unix_timestamp(),
        signing,
        trusted,
    };
    let mut found = Vec::new();
    for row in trust.roots.values() {
        let trusted = trust.state.trusted.contains(&row.fingerprint);
        // Retired ones are in the journal.
        if !trusted {
            continue;
        }
        if let Ok(certificate) = Certificate::from_pem(&row.certificate) {
            let signs = match plugged {
                Some(plugged) => plugged.authority.certificate() == &certificate,
                None => trust.state.signing == row.fingerprint,
            };
            found.push((
                certificate.serial().clone(),
                of(&certificate, signs, trusted),
            ));
        }
    }
    if let Some(plugged) = plugged {
        let certificate = plugged.authority.certificate();
        let fingerprint = certificate.fingerprint();
        if found.iter().all(|(_, one)| one.fingerprint != fingerprint) {
            found.push((certificate.serial().clone(), of(certificate, true, false)));
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found.into_iter().map(|(_, one)| one).collect()
}

impl Roots {
    /// Makes a change of what is shared: `compute` gets what is there and says what is to be, or `None`: nothing. Tried again when another
    /// replica was faster.
    ///
    /// # Errors
    /// What `compute` says, or [`RootsError`].
    pub(crate) async fn change<E: From<RootsError>>(
        &self,
        compute: impl Fn(Option<&Trust>) -> Result<Option<Change>, E>,
    ) -> Result<(), E> {
        for _ in 0..10 {
            let before = self.ledger.trust().await.map_err(RootsError::from)?;
            let Some(change) = compute(before.as_ref())? else {
                return self.adopt(before).map_err(E::from);
            };
            let known = self.known().await?;
            let plugged = self.plugged.lock().clone();
            let now = self.now();
            let (next, withheld) = update(
                &self.config,
                before.as_ref(),
                change,
                plugged.as_deref(),
                &known,
                now,
            )?;
            match self.ledger.update_trust(&next).await {
                Ok(_) => {
                    self.say_withheld(withheld);
                    let after = self.ledger.trust().await.map_err(RootsError::from)?;
                    return self.adopt(after).map_err(E::from);
                }
                Err(crate::ledger::TrustError::Conflict) => {}
                Err(error) => return Err(RootsError::from(error).into()),
            }
        }
        Err(RootsError::from(crate::ledger::TrustError::Conflict).into())
    }

    pub(super) async fn known(&self) -> Result<Known, RootsError> {
        self.ledger.reload_revocations().await?;
        let (revocations, in_force) = self.ledger.in_force();
        let live_issuers = self.ledger.live_issuers(self.now()).await?;
        Ok(Known {
            in_force,
            revocations,
            live_issuers,
        })
    }

    fn say_withheld(&self, withheld: Vec<String>) {
        let mut known = self.withheld.lock();
        if *known != withheld && !withheld.is_empty() {
            tracing::error!(
                issuers = withheld.join(", "),
                "certificates are revoked, but no revocation list is announced: not every issuer in use can have one; \
                 renewal is refused, and revoked identities are denied"
            );
        }
        *known = withheld;
    }

    /// Publishes what is shared as this replica's signer and bundle.
    pub(super) fn adopt(&self, trust: Option<Trust>) -> Result<(), RootsError> {
        let Some(trust) = trust else { return Ok(()) };
        let plugged = self.plugged.lock().clone();
        let signing = signing(&self.config, &trust, plugged.as_deref(), self.now())?;
        let newer = |known: &Option<Arc<Trust>>| {
            known
                .as_ref()
                .is_none_or(|known| known.versions.trust <= trust.versions.trust)
        };
        let trust = Arc::new(trust.clone());
        let published = self.shared.send_if_modified(|known| {
            let newer = newer(known);
            if newer {
                *known = Some(trust.clone());
            }
            newer
        });
        if !published {
            return Ok(());
        }
        // Trusted before it signs, here too.
        self.bundles.send_if_modified(|known| {
            let differs = known.as_ref().is_none_or(|known| **known != trust.bundle);
            if differs {
                *known = Some(Arc::new(trust.bundle.clone()));
            }
            differs
        });
        self.signings.send_if_modified(|known| {
            let differs = known.as_ref().is_none_or(|known| {
                known.bundle_pem != signing.bundle_pem
                    || known.authority.certificate() != signing.authority.certificate()
                    || known.authority.chain() != signing.authority.chain()
            });
            if differs {
                *known = Some(Arc::new(signing));
            }
            differs
        });
        Ok(())
    }
}
