//! Shares of requests.

use envoy_api::envoy::config::core::v3::RuntimeFractionalPercent;
use envoy_api::envoy::r#type::v3::FractionalPercent;
use envoy_api::envoy::r#type::v3::fractional_percent::DenominatorType;
use mesh_config::resource::Percent;

/// A share in percent, down to a millionth.
pub(super) fn of(percent: &Percent) -> FractionalPercent {
    // `as` saturates: a share beyond 0..=100, which the check of the resource refuses, cannot become another one.
    FractionalPercent {
        numerator: (percent.value.0 * 10_000.0).clamp(0.0, 1_000_000.0) as u32,
        denominator: DenominatorType::Million.into(),
    }
}

/// A share in whole percent.
pub(super) fn hundredths(percent: u32) -> FractionalPercent {
    FractionalPercent {
        numerator: percent.min(100),
        denominator: DenominatorType::Hundred.into(),
    }
}

/// A share that runtime settings do not override.
pub(super) fn fixed(share: FractionalPercent) -> RuntimeFractionalPercent {
    RuntimeFractionalPercent {
        default_value: Some(share),
        ..RuntimeFractionalPercent::default()
    }
}
