//! gRPC statuses, as `fault.abort.grpcStatus` writes them.

/// Names of the statuses, by number (grpc/doc/statuscodes.md).
const NAMES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// The number, 0..=16, of a status given by name or number; `None` for anything else.
pub fn grpc_status(text: &str) -> Option<u32> {
    let by_name = (0..).zip(NAMES).find(|(_, name)| *name == text);
    by_name
        .map(|(number, _)| number)
        .or_else(|| text.parse().ok().filter(|number| *number <= 16))
}

#[cfg(test)]
mod tests {
    use super::grpc_status;

    #[test]
    fn statuses_go_by_name_or_number() {
        assert_eq!(grpc_status("UNAVAILABLE"), Some(14));
        assert_eq!(grpc_status("14"), Some(14));
        assert_eq!(grpc_status("NOPE"), None);
        assert_eq!(grpc_status("17"), None);
    }
}
