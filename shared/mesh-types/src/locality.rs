//! Where a workload runs.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Region, zone and sub-zone; missing parts are empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Locality {
    /// For example `us-east1`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub region: Arc<str>,
    /// For example `us-east1-b`.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub zone: Arc<str>,
    /// For example a rack.
    #[serde(skip_serializing_if = "str::is_empty")]
    pub sub_zone: Arc<str>,
}

impl Locality {
    /// Parses `region/zone/subzone`; missing parts are empty, further parts belong to the sub-zone.
    pub fn parse(text: &str) -> Locality {
        let mut parts = text.splitn(3, '/');
        let mut next = || parts.next().unwrap_or_default().into();
        Locality {
            region: next(),
            zone: next(),
            sub_zone: next(),
        }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.sub_zone.is_empty()
    }
}

impl fmt::Display for Locality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.region)?;
        if !self.zone.is_empty() || !self.sub_zone.is_empty() {
            write!(f, "/{}", self.zone)?;
        }
        if !self.sub_zone.is_empty() {
            write!(f, "/{}", self.sub_zone)?;
        }
        Ok(())
    }
}
