//! The few rules about Kubernetes objects that others rely on.

use mesh_types::{Code, FieldError, FieldPath};

use super::values;
use crate::Body;

pub(super) fn check(body: &Body) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut port = |path: FieldPath, number: u32| {
        if let Err(message) = values::port(number) {
            errors.push(FieldError::new(path, Code::OutOfRange, message));
        }
    };
    match body {
        Body::Service(service) => {
            let ports = FieldPath::root().field("spec").field("ports");
            for (i, p) in service.spec.ports.iter().enumerate() {
                port(ports.index(i).field("port"), p.port);
                if let Some(crate::resource::platform::IntOrString::Int(n)) = p.target_port {
                    port(ports.index(i).field("targetPort"), n);
                }
            }
        }
        Body::EndpointSlice(slice) => {
            for (i, p) in slice.ports.iter().enumerate() {
                if let Some(number) = p.port {
                    port(
                        FieldPath::root().field("ports").index(i).field("port"),
                        number,
                    );
                }
            }
        }
        _ => {}
    }
    errors
}
