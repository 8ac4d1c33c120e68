//! RequestAuthentications as Envoy's token filter (SECURITY-INJECTION D).

use std::collections::BTreeSet;

use envoy_api::envoy::config::core::v3::{DataSource, data_source};
use envoy_api::envoy::config::route::v3::{RouteMatch, route_match};
use envoy_api::envoy::extensions::filters::http::jwt_authn::v3::jwt_provider::{
    JwksSourceSpecifier, NormalizePayload,
};
use envoy_api::envoy::extensions::filters::http::jwt_authn::v3::jwt_requirement::RequiresType;
use envoy_api::envoy::extensions::filters::http::jwt_authn::v3::{
    JwtAuthentication, JwtClaimToHeader, JwtHeader, JwtProvider, JwtRequirement,
    JwtRequirementAndList, JwtRequirementOrList, RequirementRule, requirement_rule,
};
use mesh_config::resource::request_authentication::JwtRule;
use mesh_model::Policies;

use super::attributes::PAYLOAD;

/// A key whose private half nobody has: tokens of an issuer whose keys cannot be had are checked with it, and refused.
///
/// A point on P-256 that was not made from a private key: `x` is the first SHA-256 of `no one holds the private half of this key N`, N = 0,
/// 1, .. that is the abscissa of a point (N = 4), and `y` the even one of its two ordinates.
const NOBODYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","alg":"ES256","use":"sig","kid":"nobody","x":"UDi5A5ZGiOfBV2ZWRINZvZXtJs5YWSRQYVcBY3KjLNI","y":"MOGG4TsGOvw9F5bvyNNE5J7x70EfGv8KW31MyhA0g0Q"}]}"#;

/// Claims that are lists with spaces between, besides those that a rule names.
const LISTS: [&str; 2] = ["permission", "scope"];

/// The filter of all rules that apply; `None` without any.
pub fn of(policies: &Policies, gateway: bool) -> Option<JwtAuthentication> {
    let mut rules: Vec<&JwtRule> = policies
        .tokens
        .iter()
        .flat_map(|policy| &policy.spec.jwt_rules)
        .collect();
    rules.sort_by(|a, b| a.issuer.cmp(&b.issuer));
    if rules.is_empty() {
        return None;
    }
    let name = |index: usize| format!("origins-{index}");
    let names: Vec<String> = (0..rules.len()).map(name).collect();
    let providers = names
        .iter()
        .zip(&rules)
        .map(|(name, rule)| (name.clone(), provider(policies, rule, gateway)));
    Some(JwtAuthentication {
        providers: providers.collect(),
        rules: vec![RequirementRule {
            r#match: Some(RouteMatch {
                path_specifier: Some(route_match::PathSpecifier::Prefix("/".into())),
                ..Default::default()
            }),
            requirement_type: Some(requirement_rule::RequirementType::Requires(requirement(
                &names,
            ))),
        }],
        bypass_cors_preflight: true,
        ..Default::default()
    })
}

/// No token at all, or a valid one wherever a token is.
fn requirement(names: &[String]) -> JwtRequirement {
    let of = |requires| JwtRequirement {
        requires_type: Some(requires),
    };
    let valid = |name: &String| of(RequiresType::ProviderName(name.clone()));
    let any = |requirements| {
        of(RequiresType::RequiresAny(JwtRequirementOrList {
            requirements,
        }))
    };
    let or_missing = |name: &String| any(vec![valid(name), of(RequiresType::AllowMissing(()))]);
    match names {
        [only] => or_missing(only),
        several => {
            let all = JwtRequirementAndList {
                requirements: several.iter().map(or_missing).collect(),
            };
            let mut choices: Vec<_> = several.iter().map(valid).collect();
            choices.push(of(RequiresType::RequiresAll(all)));
            any(choices)
        }
    }
}

fn provider(policies: &Policies, rule: &JwtRule, gateway: bool) -> JwtProvider {
    let lists: BTreeSet<&str> = rule
        .space_delimited_claims
        .iter()
        .map(String::as_str)
        .chain(LISTS)
        .collect();
    JwtProvider {
        issuer: rule.issuer.clone(),
        audiences: rule.audiences.clone(),
        forward: rule.forward_original_token,
        from_headers: rule
            .from_headers
            .iter()
            .map(|header| JwtHeader {
                name: header.name.clone(),
                value_prefix: header.prefix.clone(),
            })
            .collect(),
        from_params: rule.from_params.clone(),
        from_cookies: rule.from_cookies.clone(),
        forward_payload_header: rule.output_payload_to_header.clone(),
        claim_to_headers: rule
            .output_claim_to_headers
            .iter()
            .map(|to| JwtClaimToHeader {
                header_name: to.header.clone(),
                claim_name: to.claim.clone(),
                ..Default::default()
            })
            .collect(),
        payload_in_metadata: PAYLOAD.into(),
        normalize_payload_in_metadata: Some(NormalizePayload {
            space_delimited_claims: lists.into_iter().map(str::to_owned).collect(),
        }),
        // A route that depends on a claim is chosen once the claim is known.
        clear_route_cache: gateway,
        jwks_source_specifier: Some(JwksSourceSpecifier::LocalJwks(DataSource {
            specifier: Some(data_source::Specifier::InlineString(
                keys(policies, rule).to_owned(),
            )),
            ..Default::default()
        })),
        ..Default::default()
    }
}

/// The keys of a rule: as written, as fetched, or else nobody's, so that every token is refused.
fn keys<'a>(policies: &'a Policies, rule: &'a JwtRule) -> &'a str {
    match rule.jwks_source() {
        None => &rule.jwks,
        Some(source) => policies.keys.get(&source).map_or(NOBODYS, |keys| keys),
    }
}
