//! `--run-validation`: whether connections are captured is found out by making some.

use std::time::{Duration, Instant};

use crate::both_variants;
use crate::namespace::{Ip, Machine as _, Pair, at, told};

both_variants! {
    rules_in_force_are_valid,
}

fn rules_in_force_are_valid(variant: &'static str) {
    for (version, flags) in [
        (Ip::V4, "-b * -i *"),
        (Ip::V4, "-b * -i * -m TPROXY -u 1337"),
        (Ip::V6, "-b * -i *"),
        (
            Ip::V4,
            "-b * -i 10.96.0.0/12 --redirect-dns --capture-all-dns",
        ),
    ] {
        let pair = Pair::new(variant, version);
        let text = pair.captured(&format!("{flags} --run-validation"));
        assert!(text.contains("connections are captured"), "{text}");
        // As the proxy's user, without any rights, in a container of its own.
        let agent = env!("CARGO_BIN_EXE_agent");
        let user = [
            "--reuid",
            "1337",
            "--regid",
            "1337",
            "--clear-groups",
            agent,
            "capture",
        ];
        let more = "--skip-rule-apply --run-validation";
        let args: Vec<_> = user
            .into_iter()
            .chain(flags.split(' '))
            .chain(more.split(' '))
            .collect();
        let output = pair.pod.exec("setpriv", &args);
        assert!(output.status.success(), "{flags}: {}", told(&output));
    }
}

/// Case 85: without rules the code is 126, within five seconds.
#[test]
#[expect(clippy::disallowed_methods, reason = "it is about real time")]
fn without_rules_the_code_is_126_within_five_seconds() {
    let pair = Pair::new("nft", Ip::V4);
    let start = Instant::now();
    let output = pair.capture("-b * -i * --skip-rule-apply --run-validation");
    let took = start.elapsed();
    assert_eq!(output.status.code(), Some(126), "{}", told(&output));
    assert!(took <= Duration::from_secs(5), "{took:?}");
    assert!(told(&output).contains("not captured"), "{}", told(&output));
}

/// Case 85 with IPv6, where the address that is probed comes with the rules: without a route to it either.
#[test]
fn without_rules_for_ipv6_the_code_is_126() {
    let pair = Pair::new("nft", Ip::V6);
    pair.pod.ip("-6 route del default");
    let output = pair.capture("-b * -i * --skip-rule-apply --run-validation --probe-timeout 1s");
    assert_eq!(output.status.code(), Some(126), "{}", told(&output));
    let text = pair.captured("-b * -i * --run-validation");
    assert!(text.contains("connections are captured"), "{text}");
}

/// Rules that come late are waited for.
#[test]
fn rules_may_come_while_it_waits() {
    let pair = Pair::new("nft", Ip::V4);
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| {
            pair.capture("-b * -i * --skip-rule-apply --run-validation --probe-timeout 60s")
        });
        pair.captured("-b * -i *");
        let output = waits.join().unwrap();
        assert!(output.status.success(), "{}", told(&output));
    });
}

#[test]
fn rules_for_outbound_alone_are_not_enough_when_some_are_missing() {
    let pair = Pair::new("nft", Ip::V4);
    pair.captured("-b * -i *");
    let output = pair
        .pod
        .exec("iptables-nft", &["-t", "nat", "-F", "ISTIO_REDIRECT"]);
    assert!(output.status.success());
    let output = pair.capture("-b * -i * --skip-rule-apply --run-validation --probe-timeout 1s");
    assert_eq!(output.status.code(), Some(126), "{}", told(&output));
    assert!(told(&output).contains("15001"), "{}", told(&output));
}

#[test]
fn a_proxy_that_listens_already_is_not_taken_for_a_failure_of_rules() {
    let pair = Pair::new("nft", Ip::V4);
    let _proxy = pair.pod.listen(at("15006"));
    let output = pair.capture("-b * -i * --run-validation");
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains("before the proxy"),
        "{}",
        told(&output)
    );
}
