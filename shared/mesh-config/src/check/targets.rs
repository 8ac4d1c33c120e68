//! What policies are attached to: a selector, or references.

use mesh_types::Code;

use super::report::Report;
use super::values;
use crate::resource::MatchingSelector;
use crate::resource::request_authentication::PolicyTargetReference;

/// The selector of a policy.
pub(crate) fn selector(r: &mut Report, selector: Option<&MatchingSelector>) {
    r.some("selector", selector, |r, selector| {
        values::selected(r, "matchLabels", &selector.match_labels);
    });
}

/// One of selector, targetRef and targetRefs, in form.
pub(crate) fn targeting(
    r: &mut Report,
    selected: Option<&MatchingSelector>,
    target: Option<&PolicyTargetReference>,
    targets: &[PolicyTargetReference],
) {
    selector(r, selected);
    r.at_most_one(&[
        ("selector", selected.is_some()),
        ("targetRef", target.is_some()),
        ("targetRefs", !targets.is_empty()),
    ]);
    r.some("targetRef", target, reference);
    r.items("targetRefs", targets, |r, _, target| reference(r, target));
}

fn reference(r: &mut Report, target: &PolicyTargetReference) {
    r.need("name", !target.name.is_empty(), "");
    if !target.namespace.is_empty() {
        r.say_at(
            "namespace",
            Code::Conflict,
            "must not be set: what is meant stands in the policy's own namespace",
        );
    }
    let known = matches!(
        (target.group.as_str(), target.kind.as_str()),
        ("" | "core", "Service")
            | ("networking.istio.io", "ServiceEntry")
            | ("gateway.networking.k8s.io", "Gateway" | "GatewayClass")
    );
    if !known {
        let message = format!(
            "{:?} of group {:?} takes no policy; there are Service of \"\", ServiceEntry of networking.istio.io, and Gateway and GatewayClass of gateway.networking.k8s.io",
            target.kind, target.group
        );
        r.say_at("kind", Code::UnknownValue, message);
    }
}
