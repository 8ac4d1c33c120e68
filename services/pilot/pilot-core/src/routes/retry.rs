//! Retry policies (XDS-TRAFFIC 6.7).

use envoy_api::any;
use envoy_api::envoy::config::route::v3::RetryPolicy;
use envoy_api::envoy::config::route::v3::retry_policy::{
    RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority,
};
use envoy_api::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use envoy_api::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;
use mesh_config::resource::virtual_service::HttpRetry;

use crate::proto::duration;

/// What is retried where nobody said: requests that did not reach an endpoint, or that it refused before working on them.
const DEFAULT_ON: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const DEFAULT_RETRIES: u32 = 2;
/// How often Envoy looks for an endpoint that was not tried yet.
const HOST_ATTEMPTS: i64 = 5;
/// Condition that makes Envoy read the list of status codes.
const BY_CODE: &str = "retriable-status-codes";

/// The policy of a route; `None` retries nothing. `hashed`: the request chooses its endpoint, so trying another one makes no sense.
pub(super) fn policy(given: Option<&HttpRetry>, hashed: bool) -> Option<RetryPolicy> {
    let mut policy = RetryPolicy {
        retry_on: DEFAULT_ON.to_owned(),
        num_retries: Some(DEFAULT_RETRIES),
        host_selection_retry_max_attempts: HOST_ATTEMPTS,
        ..RetryPolicy::default()
    };
    let mut skip_tried = !hashed;
    if let Some(given) = given {
        let attempts = u32::try_from(given.attempts).ok().filter(|n| *n > 0)?;
        policy.num_retries = Some(attempts);
        if !given.retry_on.is_empty() {
            (policy.retry_on, policy.retriable_status_codes) = conditions(&given.retry_on);
        }
        policy.per_try_timeout = given.per_try_timeout.map(duration);
        policy.retry_back_off = given
            .backoff
            .filter(|b| b.nanos > 0)
            .map(|base| RetryBackOff {
                base_interval: Some(duration(base)),
                max_interval: None,
            });
        if given.retry_remote_localities == Some(true) {
            policy.retry_priority = Some(other_priorities());
        }
        skip_tried = given.retry_ignore_previous_hosts.unwrap_or(skip_tried);
    }
    if skip_tried {
        policy.retry_host_predicate = vec![other_hosts()];
    }
    Some(policy)
}

/// Conditions by name, and the status codes among them.
fn conditions(text: &str) -> (String, Vec<u32>) {
    let (mut names, mut codes) = (Vec::new(), Vec::new());
    for part in text
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        match part.parse::<u32>() {
            Ok(code) if (100..600).contains(&code) => codes.push(code),
            _ => names.push(part),
        }
    }
    if !codes.is_empty() && !names.contains(&BY_CODE) {
        names.push(BY_CODE);
    }
    (names.join(","), codes)
}

fn other_hosts() -> RetryHostPredicate {
    RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any::pack(
            &PreviousHostsPredicate {},
        ))),
    }
}

fn other_priorities() -> RetryPriority {
    RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".to_owned(),
        config_type: Some(retry_priority::ConfigType::TypedConfig(any::pack(
            &PreviousPrioritiesConfig {
                update_frequency: 2,
            },
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::conditions;

    #[test]
    fn status_codes_are_told_from_conditions() {
        let read = |text| conditions(text);
        assert_eq!(
            read("503, gateway-error"),
            ("gateway-error,retriable-status-codes".into(), vec![503])
        );
        assert_eq!(read("5xx,reset"), ("5xx,reset".into(), vec![]));
        assert_eq!(
            read("502,504"),
            ("retriable-status-codes".into(), vec![502, 504])
        );
        assert_eq!(
            read("retriable-status-codes,503"),
            ("retriable-status-codes".into(), vec![503])
        );
    }
}
