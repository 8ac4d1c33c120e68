//! Header changes of routes and destinations (XDS-TRAFFIC 6.6).

use envoy_api::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use envoy_api::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use mesh_config::resource::virtual_service::{HeaderOperations, Headers};

/// Changes as Envoy's messages hold them.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) request_add: Vec<HeaderValueOption>,
    pub(super) request_remove: Vec<String>,
    pub(super) response_add: Vec<HeaderValueOption>,
    pub(super) response_remove: Vec<String>,
}

impl Changes {
    /// What one block says; the authority is not among them, see [`authority`].
    pub(super) fn of(headers: Option<&Headers>) -> Changes {
        let mut changes = Changes::default();
        changes.append(headers);
        changes
    }

    /// Adds what another block says.
    pub(super) fn append(&mut self, headers: Option<&Headers>) {
        let Some(headers) = headers else { return };
        if let Some(request) = &headers.request {
            self.request_add.extend(added(request));
            self.request_remove.extend(removed(request));
        }
        if let Some(response) = &headers.response {
            self.response_add.extend(added(response));
            self.response_remove.extend(removed(response));
        }
    }
}

/// The authority that a block gives requests: `set` beats `add`.
pub(super) fn authority(headers: Option<&Headers>) -> Option<&str> {
    let request = headers?.request.as_ref()?;
    request
        .set
        .iter()
        .chain(&request.add)
        .find(|(name, _)| is_authority(name))
        .map(|(_, value)| value.as_str())
}

fn is_authority(name: &str) -> bool {
    name == ":authority" || name.eq_ignore_ascii_case("host")
}

/// Pseudo headers and `host` are no headers that Envoy would let be changed this way.
fn changeable(name: &str) -> bool {
    !name.starts_with(':') && !name.eq_ignore_ascii_case("host")
}

fn added(operations: &HeaderOperations) -> impl Iterator<Item = HeaderValueOption> {
    let set = operations
        .set
        .iter()
        .map(|pair| (pair, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = operations
        .add
        .iter()
        .map(|pair| (pair, HeaderAppendAction::AppendIfExistsOrAdd));
    set.chain(add)
        .filter(|((name, _), _)| changeable(name))
        .map(|((name, value), action)| HeaderValueOption {
            header: Some(HeaderValue {
                key: name.clone(),
                value: value.clone(),
                ..HeaderValue::default()
            }),
            append_action: action.into(),
            ..HeaderValueOption::default()
        })
}

fn removed(operations: &HeaderOperations) -> impl Iterator<Item = String> {
    operations
        .remove
        .iter()
        .filter(|name| changeable(name))
        .cloned()
}
