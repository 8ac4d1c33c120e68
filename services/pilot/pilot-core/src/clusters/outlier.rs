//! Ejection of failing endpoints (XDS-TRAFFIC 7.7).

use envoy_api::envoy::config::cluster::v3::{Cluster, OutlierDetection as Message};
use envoy_api::envoy::r#type::v3::Percent;
use mesh_config::resource::destination_rule::OutlierDetection;

use crate::proto;

/// Sets outlier detection and the panic threshold.
///
/// The threshold is 0 (never spread over endpoints known to be bad) unless the rule asks for more: endpoints that are not ready are sent too,
/// and must not be used just because they are many.
pub(super) fn apply(cluster: &mut Cluster, outlier: Option<&OutlierDetection>) {
    let min_health = outlier.map_or(0, |o| o.min_health_percent);
    let common = cluster.common_lb_config.get_or_insert_default();
    common.healthy_panic_threshold = Some(Percent {
        value: f64::from(min_health.clamp(0, 100)),
    });
    cluster.outlier_detection = outlier.map(message);
}

fn message(outlier: &OutlierDetection) -> Message {
    let positive = |n: i32| u32::try_from(n).ok().filter(|n| *n > 0);
    // A count of 0 turns a detector off, any other turns it on fully.
    let enforce = |n: Option<u32>| n.map(|n| if n > 0 { 100 } else { 0 });
    let local = outlier.split_external_local_origin_errors;
    let local_failures = outlier
        .consecutive_local_origin_failures
        .filter(|n| local && *n > 0);
    Message {
        enforcing_success_rate: Some(0),
        consecutive_5xx: outlier.consecutive_5xx_errors,
        enforcing_consecutive_5xx: enforce(outlier.consecutive_5xx_errors),
        consecutive_gateway_failure: outlier.consecutive_gateway_errors,
        enforcing_consecutive_gateway_failure: enforce(outlier.consecutive_gateway_errors),
        interval: outlier.interval.map(proto::duration),
        base_ejection_time: outlier.base_ejection_time.map(proto::duration),
        max_ejection_percent: positive(outlier.max_ejection_percent),
        split_external_local_origin_errors: local,
        consecutive_local_origin_failure: local_failures,
        enforcing_consecutive_local_origin_failure: enforce(local_failures),
        enforcing_local_origin_success_rate: local.then_some(0),
        ..Message::default()
    }
}
