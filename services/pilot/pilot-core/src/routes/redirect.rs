//! Answers that Envoy gives itself: redirects and fixed responses (XDS-TRAFFIC 6.6).

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use envoy_api::envoy::config::core::v3::{DataSource, data_source};
use envoy_api::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use envoy_api::envoy::config::route::v3::{DirectResponseAction, RedirectAction};
use mesh_config::resource::virtual_service::{
    HttpDirectResponse, HttpRedirect, RedirectPortSelection,
};

/// A redirect; `None` if its status is none that redirects. `port` and `tls` are those of the listener.
pub(super) fn redirect(given: &HttpRedirect, port: u16, tls: bool) -> Option<RedirectAction> {
    let code = match given.redirect_code {
        0 | 301 => RedirectResponseCode::MovedPermanently,
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => return None,
    };
    let path = match &given.prefix_rewrite {
        Some(prefix) => Some(PathRewriteSpecifier::PrefixRewrite(prefix.clone())),
        None if given.uri.is_empty() => None,
        None => Some(PathRewriteSpecifier::PathRedirect(given.uri.clone())),
    };
    let scheme = match given.scheme.as_str() {
        "" if tls => "https",
        "" => "http",
        scheme => scheme,
    };
    let new_port = match (given.port, given.derive_port) {
        (Some(port), _) => port,
        (None, Some(RedirectPortSelection::FromRequestPort)) => port.into(),
        (None, Some(RedirectPortSelection::FromProtocolDefault) | None) => 0,
    };
    Some(RedirectAction {
        host_redirect: given.authority.clone(),
        // Nobody writes the port that a scheme means anyway.
        port_redirect: match (scheme, new_port) {
            ("http", 80) | ("https", 443) => 0,
            _ => new_port,
        },
        response_code: code.into(),
        scheme_rewrite_specifier: (!given.scheme.is_empty())
            .then(|| SchemeRewriteSpecifier::SchemeRedirect(given.scheme.clone())),
        path_rewrite_specifier: path,
        ..RedirectAction::default()
    })
}

/// A fixed response.
pub(super) fn direct_response(given: &HttpDirectResponse) -> DirectResponseAction {
    use data_source::Specifier;
    let body = given
        .body
        .as_ref()
        .and_then(|body| match (&body.string, &body.bytes) {
            (Some(text), _) => Some(Specifier::InlineString(text.clone())),
            (None, Some(text)) => Some(Specifier::InlineBytes(decode(text)?.into())),
            (None, None) => None,
        });
    DirectResponseAction {
        status: given.status,
        body: body.map(|specifier| DataSource {
            specifier: Some(specifier),
            ..DataSource::default()
        }),
        ..DirectResponseAction::default()
    }
}

/// Base64 as protobuf JSON takes it: of the usual or the URL alphabet, padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    const ANY_PADDING: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const ENGINE: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
    ENGINE.decode(text.replace('-', "+").replace('_', "/")).ok()
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn base64_of_either_alphabet_is_read() {
        for text in ["-_8=", "+/8", "-/8="] {
            assert_eq!(decode(text), Some(vec![0xfb, 0xff]), "{text}");
        }
        assert_eq!(decode("a b"), None);
    }
}
