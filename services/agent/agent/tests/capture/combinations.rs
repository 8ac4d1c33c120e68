//! Every combination of settings: applied for real, not applied twice, and removed without a trace.

use crate::both_variants;
use crate::namespace::{Ip, Machine as _, Pair};

both_variants! {
    redirect,
    tproxy,
    dns,
    interfaces_and_groups,
    both_versions_of_ip,
    only_ipv6,
}

/// Applies, applies again, and removes, with other settings at that.
#[track_caller]
fn check(variant: &'static str, version: Ip, flags: &str) {
    let pair = Pair::new(variant, version);
    pair.name_server(match version {
        Ip::V4 | Ip::Both => "10.0.0.1",
        Ip::V6 => "fd00::1",
    });
    let found = pair.pod.everything();
    let told = pair.captured(flags);
    assert!(told.contains("rules are in force"), "{told}");
    let applied = pair.pod.everything();
    assert_ne!(found, applied);
    // A rule that is there twice, or in two variants, would be seen here.
    let told = pair.captured(flags);
    assert!(
        told.contains("in force") && told.contains("already"),
        "{told}"
    );
    assert_eq!(pair.pod.everything(), applied);
    // Written anew, all is as it was.
    pair.captured(&format!("{flags} --force-apply"));
    assert_eq!(pair.pod.everything(), applied);
    pair.captured("--cleanup-only");
    assert_eq!(pair.pod.everything(), found);
    let told = pair.captured("--cleanup-only");
    assert!(told.contains("no rules to remove"), "{told}");
}

fn redirect(variant: &'static str) {
    check(variant, Ip::V4, "-b * -i *");
    check(
        variant,
        Ip::V4,
        "-b 80,443 -d 15020 -i 10.0.0.0/8,127.0.0.0/8 -x 10.1.0.0/16,10.2.3.4/32 -o 25,26 -q 9999 -u 1337,0 -g 1338 -p 1 -z 2 -e 3",
    );
    check(variant, Ip::V4, "-i 0.0.0.0/0 -b 22");
    check(variant, Ip::V4, "--drop-invalid");
}

fn tproxy(variant: &'static str) {
    check(variant, Ip::V4, "-m TPROXY -b * -i * -d 22,15020 -u 0");
    check(
        variant,
        Ip::V4,
        "-m TPROXY -b 80,81 -i * -c eth0 -t 1337 -r 133",
    );
    check(
        variant,
        Ip::Both,
        "-m TPROXY -b * -i * --dual-stack --drop-invalid",
    );
}

fn dns(variant: &'static str) {
    check(variant, Ip::V4, "-b * -i * --redirect-dns");
    check(variant, Ip::Both, "-b * -i * --redirect-dns --dual-stack");
    check(
        variant,
        Ip::Both,
        "-b * -i * --redirect-dns --capture-all-dns --dual-stack -u 1337,1338 -m TPROXY",
    );
}

fn interfaces_and_groups(variant: &'static str) {
    check(variant, Ip::V4, "-b * -i * -c eth1,tun+ -k kv0,kv1");
    check(variant, Ip::V4, "-b * -i 10.0.0.0/8,11.0.0.0/8 -k kv0,kv1");
    check(variant, Ip::V4, "-i * --outbound-owner-groups 202,203");
    check(
        variant,
        Ip::V4,
        "-i * --outbound-owner-groups-exclude 202,203",
    );
    check(
        variant,
        Ip::V4,
        "-i * --outbound-ipv4-loopback-cidr 127.0.0.0/8",
    );
}

fn both_versions_of_ip(variant: &'static str) {
    check(
        variant,
        Ip::Both,
        "-b * -i * -x 10.0.0.0/8,fd01::/16 --dual-stack",
    );
}

fn only_ipv6(variant: &'static str) {
    check(variant, Ip::V6, "-b * -i *");
    check(
        variant,
        Ip::V6,
        "-b 80 -i fd00::/8,::/0 -x fd02::1/128 --redirect-dns",
    );
}
