//! Retry policies, here and in the mesh.

use mesh_types::Code;

use crate::check::report::Report;
use crate::check::values;
use crate::resource::virtual_service::HttpRetry;

/// Conditions on which a request may be tried again.
const RETRY_ON: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];

/// A retry policy.
pub(crate) fn retries(r: &mut Report, retries: &HttpRetry) {
    values::not_negative(r, "attempts", retries.attempts);
    let others = [
        ("perTryTimeout", retries.per_try_timeout.is_some()),
        ("retryOn", !retries.retry_on.is_empty()),
        (
            "retryRemoteLocalities",
            retries.retry_remote_localities.is_some(),
        ),
        (
            "retryIgnorePreviousHosts",
            retries.retry_ignore_previous_hosts.is_some(),
        ),
        ("backoff", retries.backoff.is_some()),
    ];
    if retries.attempts == 0 {
        for (name, _) in others.iter().filter(|(_, set)| *set) {
            r.say_at(
                *name,
                Code::Conflict,
                "must not be set while attempts is 0 (or not set), which turns retries off",
            );
        }
    }
    values::duration_field(r, "perTryTimeout", retries.per_try_timeout);
    values::duration_field(r, "backoff", retries.backoff);
    for word in retries
        .retry_on
        .split(',')
        .map(str::trim)
        .filter(|_| !retries.retry_on.is_empty())
    {
        let status = word.parse::<u16>().is_ok_and(|n| (100..=599).contains(&n));
        if !status && !RETRY_ON.contains(&word) {
            let close = crate::schema::nearest(word, RETRY_ON.iter().copied());
            let hint = close
                .map(|c| format!("; did you mean {c}?"))
                .unwrap_or_default();
            let known = if close.is_some() {
                "no condition for a retry".into()
            } else {
                format!("none of {} and no status", RETRY_ON.join(", "))
            };
            r.say_at(
                "retryOn",
                Code::UnknownValue,
                format!("{word:?} is {known}{hint}"),
            );
        }
    }
}
