//! RequestAuthentication.

use mesh_types::Code;

use super::report::Report;
use super::{headers, jwks, targets, values};
use crate::resource::request_authentication::{JwtRule, RequestAuthentication};

pub(super) fn check(r: &mut Report, policy: &RequestAuthentication) {
    targets::targeting(
        r,
        policy.selector.as_ref(),
        policy.target_ref.as_ref(),
        &policy.target_refs,
    );
    r.items("jwtRules", &policy.jwt_rules, |r, _, one| rule(r, one));
}

fn rule(r: &mut Report, rule: &JwtRule) {
    if rule.issuer.is_empty() && rule.jwks_uri.is_empty() {
        let message = "must be set where there is no jwksUri: whose tokens are meant?";
        r.say_at("issuer", Code::Required, message);
    }
    filled(r, "audiences", &rule.audiences);
    if !rule.jwks_uri.is_empty() {
        r.test("jwksUri", Code::Malformed, jwks::uri(&rule.jwks_uri));
        if !rule.jwks.is_empty() {
            r.say_at("jwksUri", Code::NoEffect, "jwks is there, and wins");
        }
    }
    if !rule.jwks.is_empty() {
        match jwks::set(&rule.jwks) {
            Ok(jwks::Content::Public) => {}
            Ok(jwks::Content::Secret) => r.say_at(
                "jwks",
                Code::Risky,
                "has a private or symmetric key: whoever reads this object can sign tokens; write public keys",
            ),
            Err(why) => r.say_at("jwks", Code::Malformed, why),
        }
    }
    r.items("fromHeaders", &rule.from_headers, |r, _, header| {
        r.test("name", Code::Malformed, headers::plain_name(&header.name));
        r.test("prefix", Code::Malformed, headers::text(&header.prefix));
    });
    filled(r, "fromParams", &rule.from_params);
    filled(r, "fromCookies", &rule.from_cookies);
    filled(r, "spaceDelimitedClaims", &rule.space_delimited_claims);
    if !rule.output_payload_to_header.is_empty() {
        r.test(
            "outputPayloadToHeader",
            Code::Malformed,
            headers::plain_name(&rule.output_payload_to_header),
        );
    }
    r.items(
        "outputClaimToHeaders",
        &rule.output_claim_to_headers,
        |r, _, to| {
            r.need("claim", !to.claim.is_empty(), "");
            r.need("header", !to.header.is_empty(), "");
            let letters = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
            if !to.header.bytes().all(letters) {
                let message = format!("{:?}: use letters, digits, - and _", to.header);
                r.say_at("header", Code::Malformed, message);
            }
        },
    );
    values::duration_field(r, "timeout", rule.timeout);
}

/// Texts that must not be empty.
pub(super) fn filled(r: &mut Report, name: &'static str, list: &[String]) {
    r.items(name, list, |r, _, text| {
        if text.is_empty() {
            r.say(Code::Required, "must not be empty; remove it");
        }
    });
}
