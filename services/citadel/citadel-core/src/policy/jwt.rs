//! Tokens of a configured issuer, verified offline with the issuer's published keys.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mesh_types::TrustDomain;
use serde::Deserialize;
use time::OffsetDateTime;

use super::jwks::{Jwks, Verified};
use super::{Attestation, Caller, Refusal, Token, service_account};

/// How far ahead of ours an issuer's clock may be, in seconds.
const SKEW: i64 = 60;

/// The issuer whose tokens are taken.
///
/// Source: environment `JWT_RULE`, JSON as Istio has it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JwtRule {
    /// What a token's `iss` must be.
    pub issuer: String,
    /// Where its keys are; `None` asks `ISSUER/.well-known/openid-configuration`.
    #[serde(default, alias = "jwksUri")]
    pub jwks_uri: Option<String>,
    /// A token's `aud` must name one of these.
    #[serde(default)]
    pub audiences: Vec<String>,
}

/// Why a rule cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtRuleError {
    /// Not JSON, or fields that nobody knows.
    #[error(
        "{0}; want {{\"issuer\": \"https://..\", \"jwks_uri\": \"https://..\", \"audiences\": [\"..\"]}}"
    )]
    Json(String),
    /// No issuer.
    #[error("\"issuer\" is empty")]
    Issuer,
}

impl JwtRule {
    /// Reads the JSON. Without audiences, `audiences` are wanted.
    ///
    /// # Errors
    /// See [`JwtRuleError`].
    pub fn parse(json: &str, audiences: &[String]) -> Result<JwtRule, JwtRuleError> {
        let mut rule: JwtRule =
            serde_json::from_str(json).map_err(|error| JwtRuleError::Json(error.to_string()))?;
        if rule.issuer.is_empty() {
            return Err(JwtRuleError::Issuer);
        }
        if rule.audiences.is_empty() {
            rule.audiences = audiences.to_vec();
        }
        Ok(rule)
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Claims {
    iss: Option<String>,
    sub: Option<String>,
    aud: Option<Audience>,
    // Whole seconds, or with a fraction.
    exp: Option<f64>,
    nbf: Option<f64>,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Option<Kubernetes>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Kubernetes {
    node: Option<Named>,
}

#[derive(Deserialize)]
struct Named {
    name: Option<String>,
}

/// The caller that a token is of: `sub` must be `system:serviceaccount:NAMESPACE:SERVICEACCOUNT`.
///
/// # Errors
/// What is wrong with the token. Never the token itself.
pub fn authenticate(
    token: &Token,
    rule: &JwtRule,
    keys: &Jwks,
    trust_domain: &TrustDomain,
    now: OffsetDateTime,
) -> Result<Caller, Refusal> {
    let claims = verify(token, rule, keys, now)?;
    let subject = claims.sub.as_deref().unwrap_or_default();
    let workload = service_account(subject, trust_domain)?;
    let identity = workload.to_spiffe_id();
    Ok(Caller {
        requester: identity.to_string(),
        identity,
        attestation: Attestation::Jwt,
        node: claims
            .kubernetes
            .and_then(|kubernetes| kubernetes.node)
            .and_then(|node| node.name),
        pod: None,
        serial: None,
        token: None,
    })
}

fn verify(
    token: &Token,
    rule: &JwtRule,
    keys: &Jwks,
    now: OffsetDateTime,
) -> Result<Claims, Refusal> {
    let mut parts = token.expose().splitn(4, '.');
    let (Some(header), Some(payload), Some(signature), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::NoJwt);
    };
    let signed = &token.expose()[..header.len() + 1 + payload.len()];
    let header: Header = part(header)?;
    if header.crit.is_some() {
        return Err(Refusal::Critical);
    }
    match keys.verify(
        &header.alg,
        header.kid.as_deref(),
        signed.as_bytes(),
        signature,
    ) {
        Verified::Yes => {}
        Verified::No => return Err(Refusal::Signature),
        Verified::NoKey => return Err(Refusal::NoKey),
        Verified::Algorithm => return Err(Refusal::Algorithm),
    }
    let claims: Claims = part(payload)?;
    if claims.iss.as_deref() != Some(&*rule.issuer) {
        return Err(Refusal::Issuer);
    }
    let now = now.unix_timestamp() as f64;
    match claims.exp {
        None => return Err(Refusal::NoExpiry),
        Some(at) if at <= now => return Err(Refusal::Expired),
        Some(_) => {}
    }
    if claims.nbf.is_some_and(|at| at > now + SKEW as f64) {
        return Err(Refusal::NotYet);
    }
    let named = |wanted: &String| match &claims.aud {
        None => false,
        Some(Audience::One(one)) => one == wanted,
        Some(Audience::Many(many)) => many.contains(wanted),
    };
    if !rule.audiences.iter().any(named) {
        return Err(Refusal::Audience);
    }
    Ok(claims)
}

fn part<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, Refusal> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::NoJwt)?;
    serde_json::from_slice(&bytes).map_err(|_| Refusal::NoJwt)
}

#[cfg(test)]
mod tests;
