//! Load balancing of DestinationRules, and the locality settings of the mesh.

use std::collections::{BTreeMap, BTreeSet};

use mesh_types::Code;

use super::report::Report;
use super::{headers, values};
use crate::resource::destination_rule::{
    ConsistentHashLb, Failover, LoadBalancerSettings, LocalityLoadBalancerSetting,
    ZoneAwareLbSetting,
};
use crate::resource::{Double, Duration};

/// Load balancing; `outlier` says whether unhealthy endpoints are detected.
pub(super) fn load_balancer(r: &mut Report, lb: &LoadBalancerSettings, outlier: bool) {
    r.at_most_one(&[
        ("simple", lb.simple.is_some()),
        ("consistentHash", lb.consistent_hash.is_some()),
    ]);
    r.some(
        "consistentHash",
        lb.consistent_hash.as_ref(),
        consistent_hash,
    );
    r.at_most_one(&[
        ("localityLbSetting", lb.locality_lb_setting.is_some()),
        ("zoneAwareLbSetting", lb.zone_aware_lb_setting.is_some()),
    ]);
    r.some(
        "localityLbSetting",
        lb.locality_lb_setting.as_ref(),
        |r, setting| {
            locality(r, setting);
            let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
            if fails_over && !outlier {
                r.say(
                    Code::NoEffect,
                    "nothing fails over without outlierDetection beside loadBalancer",
                );
            }
        },
    );
    r.some(
        "zoneAwareLbSetting",
        lb.zone_aware_lb_setting.as_ref(),
        zone_aware,
    );
    if let Some(window) = lb.warmup_duration_secs {
        r.say_at(
            "warmupDurationSecs",
            Code::Deprecated,
            "write warmup: {duration: ..} instead",
        );
        r.test(
            "warmupDurationSecs",
            Code::OutOfRange,
            values::duration(window),
        );
    }
    r.some("warmup", lb.warmup.as_ref(), |r, warmup| {
        r.need("duration", warmup.duration.is_some(), "");
        values::duration_field(r, "duration", warmup.duration);
        if let Some(Double(percent)) = warmup.minimum_percent
            && !(0.0..=100.0).contains(&percent)
        {
            r.say_at(
                "minimumPercent",
                Code::OutOfRange,
                format!("{percent} is no percentage, want 0..=100"),
            );
        }
        if let Some(Double(aggression)) = warmup.aggression
            && aggression <= 0.0
        {
            r.say_at(
                "aggression",
                Code::OutOfRange,
                format!("{aggression} is not above 0"),
            );
        }
    });
}

/// Largest ring that Envoy builds.
const MAX_RING: u64 = 8 << 20;

fn consistent_hash(r: &mut Report, hash: &ConsistentHashLb) {
    let keys = [
        ("httpHeaderName", hash.http_header_name.is_some()),
        ("httpCookie", hash.http_cookie.is_some()),
        ("useSourceIp", hash.use_source_ip.is_some()),
        (
            "httpQueryParameterName",
            hash.http_query_parameter_name.is_some(),
        ),
    ];
    r.at_most_one(&keys);
    if keys.iter().all(|(_, set)| !set) {
        r.say(Code::NoEffect, "without httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName requests go anywhere");
    }
    r.some(
        "httpHeaderName",
        hash.http_header_name.as_ref(),
        |r, name| {
            if let Err(message) = headers::match_name(name) {
                r.say(Code::Malformed, message);
            }
        },
    );
    if hash.http_query_parameter_name.as_deref() == Some("") {
        r.need("httpQueryParameterName", false, "");
    }
    r.some("httpCookie", hash.http_cookie.as_ref(), |r, cookie| {
        r.need("name", !cookie.name.is_empty(), "");
        if let Some(ttl) = cookie.ttl.filter(|ttl| *ttl < Duration::ZERO) {
            let message = format!("{ttl} is negative, want 0s or more");
            r.say_at("ttl", Code::OutOfRange, message);
        }
        let mut seen = BTreeSet::new();
        r.items("attributes", &cookie.attributes, |r, _, attribute| {
            r.need("name", !attribute.name.is_empty(), "");
            if !seen.insert(&attribute.name) {
                r.say_at(
                    "name",
                    Code::Duplicate,
                    format!("{} is given twice", attribute.name),
                );
            }
        });
    });
    r.at_most_one(&[
        ("ringHash", hash.ring_hash.is_some()),
        ("maglev", hash.maglev.is_some()),
    ]);
    if hash.minimum_ring_size.is_some() {
        r.say_at(
            "minimumRingSize",
            Code::Deprecated,
            "write ringHash: {minimumRingSize: ..} instead",
        );
        if hash.ring_hash.is_some() || hash.maglev.is_some() {
            r.say_at(
                "minimumRingSize",
                Code::Conflict,
                "excludes ringHash and maglev",
            );
        }
    }
    let ring = |r: &mut Report, size: Option<u64>| {
        if let Some(size) = size.filter(|size| *size > MAX_RING) {
            let message = format!("{size} is too large, want at most {MAX_RING}");
            r.say_at("minimumRingSize", Code::OutOfRange, message);
        }
    };
    ring(r, hash.minimum_ring_size);
    r.some("ringHash", hash.ring_hash.as_ref(), |r, hash| {
        ring(r, hash.minimum_ring_size)
    });
    r.some("maglev", hash.maglev.as_ref(), |r, maglev| {
        if let Some(size) = maglev.table_size
            && (size >= 5_000_011 || !is_prime(size))
        {
            r.say_at(
                "tableSize",
                Code::OutOfRange,
                format!("{size} will not do, want a prime below 5000011, such as 65537"),
            );
        }
    });
}

/// Whether a number, small enough to be tried out, is a prime.
fn is_prime(n: u64) -> bool {
    n >= 2
        && (2..)
            .take_while(|d| d * d <= n)
            .all(|d| !n.is_multiple_of(d))
}

/// Most localities that are compared with one another.
const PAIRS: usize = 200;

/// Locality settings, here and in the mesh.
pub(super) fn locality(r: &mut Report, setting: &LocalityLoadBalancerSetting) {
    r.at_most_one(&[
        ("distribute", !setting.distribute.is_empty()),
        ("failover", !setting.failover.is_empty()),
    ]);
    let mut from: Vec<&str> = Vec::new();
    r.items("distribute", &setting.distribute, |r, _, distribute| {
        locality_name(r, "from", &distribute.from);
        if let Some(other) = from.iter().find(|f| overlap(f, &distribute.from)) {
            r.say_at(
                "from",
                Code::Duplicate,
                format!("{} overlaps {other}", distribute.from),
            );
        }
        if from.len() < PAIRS {
            from.push(&distribute.from);
        }
        weights(r, &distribute.to);
    });
    failover(r, &setting.failover);
    if !setting.failover.is_empty() && names_topology(&setting.failover_priority) {
        r.say_at(
            "failoverPriority",
            Code::Conflict,
            "must not name region, zone or subzone beside failover",
        );
    }
}

/// Zone preferences, here and in the mesh.
pub(super) fn zone_aware(r: &mut Report, setting: &ZoneAwareLbSetting) {
    failover(r, &setting.failover);
    if names_topology(&setting.failover_priority) {
        r.say_at(
            "failoverPriority",
            Code::Conflict,
            "must not name region, zone or subzone, which this setting takes care of",
        );
    }
}

fn names_topology(labels: &[String]) -> bool {
    labels.iter().any(|label| {
        matches!(
            label.as_str(),
            "topology.kubernetes.io/region"
                | "topology.kubernetes.io/zone"
                | "topology.istio.io/subzone"
        )
    })
}

fn weights(r: &mut Report, to: &BTreeMap<String, u32>) {
    for (locality, weight) in to {
        if !(1..=100).contains(weight) {
            r.field("to", |r| {
                r.say_at(
                    locality.clone(),
                    Code::OutOfRange,
                    format!("{weight} is no weight, want 1..=100"),
                )
            });
        }
    }
    let sum: u64 = to.values().map(|w| u64::from(*w)).sum();
    if sum != 100 {
        r.say_at(
            "to",
            Code::OutOfRange,
            format!("weights add up to {sum}, want 100"),
        );
    }
    let names: Vec<&String> = to.keys().take(PAIRS).collect();
    for (i, name) in names.iter().enumerate() {
        r.field("to", |r| locality_name(r, "", name));
        if let Some(other) = names[..i].iter().find(|o| overlap(o, name)) {
            r.say_at("to", Code::Duplicate, format!("{name} overlaps {other}"));
        }
    }
}

fn locality_name(r: &mut Report, field: &'static str, name: &str) {
    let star = name.find('*');
    let bad_star = star.is_some_and(|at| at + 1 != name.len())
        || (name.len() > 1 && name.ends_with('*') && !name.ends_with("/*"));
    if name.is_empty()
        || bad_star
        || name.split('/').any(str::is_empty)
        || name.split('/').count() > 3
    {
        let message = format!(
            "{name:?} is no locality; write REGION/ZONE/SUBZONE, the end may be left out or *"
        );
        let key = if field.is_empty() {
            name.to_owned()
        } else {
            field.to_owned()
        };
        r.say_at(key, Code::Malformed, message);
    }
}

/// Whether some locality is meant by both.
fn overlap(a: &str, b: &str) -> bool {
    let mut parts = a.split('/').zip(b.split('/'));
    parts.all(|(x, y)| x == "*" || y == "*" || x == y)
}

fn failover(r: &mut Report, failover: &[Failover]) {
    r.items("failover", failover, |r, _, f| {
        if f.from == f.to {
            r.say_at(
                "to",
                Code::Conflict,
                format!("{} cannot fail over to itself", f.from),
            );
        }
        for (name, region) in [("from", &f.from), ("to", &f.to)] {
            if region.contains(['/', '*']) {
                r.say_at(
                    name,
                    Code::Malformed,
                    format!(
                        "{region:?} is no region; failover is between regions, without / and *"
                    ),
                );
            }
        }
    });
}
