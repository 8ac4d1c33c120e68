//! RequestAuthentication as written.

use super::common::{Duration, MatchingSelector, resource};
use super::normal::JwksSource;

resource! {
/// Which tokens workloads accept. A request without a token is not refused by it.
pub struct RequestAuthentication {
    /// Workloads the object is for; unset or empty means the whole namespace, or the whole mesh in the root namespace.
    pub selector: Option<MatchingSelector>,
    /// The gateway, service or class the object is for, instead of a selector.
    pub target_ref: Option<PolicyTargetReference>,
    /// As `targetRef`, several.
    pub target_refs: Vec<PolicyTargetReference>,
    /// Issuers whose tokens are accepted.
    pub jwt_rules: Vec<JwtRule>,
}
}

resource! {
/// Something that a policy is attached to. Source: `istio.type.v1beta1.PolicyTargetReference`.
pub struct PolicyTargetReference {
    /// API group; empty for Kubernetes' core group.
    pub group: String,
    /// Kind: Gateway, GatewayClass, Service or ServiceEntry.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Must be empty: only what stands in the policy's own namespace can be meant.
    pub namespace: String,
}
}

resource! {
/// An issuer and where its tokens and keys are found.
pub struct JwtRule {
    /// `iss` of its tokens.
    pub issuer: String,
    /// `aud` of its tokens, any of them; empty asks for none.
    pub audiences: Vec<String>,
    /// Where its keys are; unset, with no `jwks` either, finds the place by OpenID discovery at the issuer.
    pub jwks_uri: String,
    /// Its keys, as JSON.
    pub jwks: String,
    /// Headers that may have the token; with no place at all given, `Authorization: Bearer` and the parameter `access_token`.
    pub from_headers: Vec<JwtHeader>,
    /// Query parameters that may have the token.
    pub from_params: Vec<String>,
    /// Header that hands the payload (base64url) to the application.
    pub output_payload_to_header: String,
    /// Whether the application gets the token. Default false: it is removed.
    pub forward_original_token: bool,
    /// Cookies that may have the token.
    pub from_cookies: Vec<String>,
    /// Headers that hand single claims to the application.
    pub output_claim_to_headers: Vec<ClaimToHeader>,
    /// Time a fetch of the keys by the proxy may take. Default 5s.
    pub timeout: Option<Duration>,
    /// Claims that are lists with spaces between, besides `scope` and `permission`.
    pub space_delimited_claims: Vec<String>,
}
}

resource! {
/// A header that may have a token.
pub struct JwtHeader {
    /// Name.
    pub name: String,
    /// What stands before the token, for example `Bearer `.
    pub prefix: String,
}
}

resource! {
/// A header that hands a claim to the application.
pub struct ClaimToHeader {
    /// Name of the header.
    pub header: String,
    /// Name of the claim; dots descend.
    pub claim: String,
}
}

impl JwtRule {
    /// Where the keys must be fetched; `None` if they are written in the rule.
    pub fn jwks_source(&self) -> Option<JwksSource> {
        if !self.jwks.is_empty() {
            None
        } else if !self.jwks_uri.is_empty() {
            Some(JwksSource::Uri(self.jwks_uri.as_str().into()))
        } else {
            Some(JwksSource::Discovery(self.issuer.as_str().into()))
        }
    }
}
