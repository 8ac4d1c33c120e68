//! What every route of a class depends on besides its own rule. Free of names, so that classes share encodings.

use mesh_config::resource::virtual_service::HttpRetry;
use mesh_model::View;

use crate::OutboundKey;

/// Equal for most classes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Facts {
    /// Whether a rewritten authority is kept in `x-forwarded-host`.
    pub(super) forwarded_host: bool,
    /// Retries where a rule says nothing.
    pub(super) retry: Option<HttpRetry>,
}

impl Facts {
    pub(super) fn of(view: &View, key: &OutboundKey) -> Facts {
        Facts {
            forwarded_host: key.proxy_config.http.headers.x_forwarded_host,
            retry: view.mesh.default_http_retry_policy.clone(),
        }
    }
}
