//! Injected faults (XDS-TRAFFIC 6.6).

use envoy_api::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay};
use envoy_api::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort};
use mesh_config::resource::grpc_status;
use mesh_config::resource::virtual_service::{self as vs, HttpFaultInjection};

use super::share;
use crate::proto::duration;

/// The faults of a route; `None` if none of them can happen.
pub(super) fn fault(given: &HttpFaultInjection) -> Option<HttpFault> {
    let fault = HttpFault {
        delay: given.delay.as_ref().and_then(delay),
        abort: given.abort.as_ref().and_then(abort),
        ..HttpFault::default()
    };
    (fault.delay.is_some() || fault.abort.is_some()).then_some(fault)
}

/// A delay without a share of requests never happens, as in Istio.
fn delay(given: &vs::FaultDelay) -> Option<FaultDelay> {
    let length = given.fixed_delay.filter(|d| d.nanos > 0)?;
    Some(FaultDelay {
        percentage: Some(match &given.percentage {
            Some(percent) => share::of(percent),
            None => share::hundredths(u32::try_from(given.percent).unwrap_or(0)),
        }),
        fault_delay_secifier: Some(fault_delay::FaultDelaySecifier::FixedDelay(duration(
            length,
        ))),
    })
}

fn abort(given: &vs::FaultAbort) -> Option<FaultAbort> {
    let http = given
        .http_status
        .and_then(|s| u32::try_from(s).ok())
        .filter(|s| (200..600).contains(s));
    let error = match (http, &given.grpc_status) {
        (Some(status), _) => fault_abort::ErrorType::HttpStatus(status),
        (None, Some(status)) => fault_abort::ErrorType::GrpcStatus(grpc_status(status)?),
        (None, None) => return None,
    };
    Some(FaultAbort {
        percentage: given.percentage.as_ref().map(share::of),
        error_type: Some(error),
        ..FaultAbort::default()
    })
}
