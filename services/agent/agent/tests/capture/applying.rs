//! Rules that are there already, programs that cannot do it, and settings that are refused.

use crate::both_variants;
use crate::namespace::{APP, Ip, Machine as _, Pair, at, told};

both_variants! {
    leaves_other_rules_alone,
    replaces_only_when_told,
    goes_where_rules_are,
    holds_nothing_back_after_a_guard_was_left,
}

fn save(pair: &Pair) -> String {
    let program = format!("iptables-{}-save", pair.variant);
    String::from_utf8_lossy(&pair.pod.exec(&program, &[]).stdout).into_owned()
}

fn iptables(pair: &Pair, variant: &str, args: &str) {
    let args: Vec<_> = args.split(' ').collect();
    let output = pair.pod.exec(&format!("iptables-{variant}"), &args);
    assert!(output.status.success(), "{}", told(&output));
}

fn leaves_other_rules_alone(variant: &'static str) {
    let pair = Pair::new(variant, Ip::V4);
    for rule in [
        "-t nat -A OUTPUT -o eth9 -j RETURN",
        "-t nat -A PREROUTING -p tcp --dport 22 -j ACCEPT",
        "-A INPUT -p icmp -j ACCEPT",
        "-t mangle -A PREROUTING -p tcp -m mark --mark 7 -j RETURN",
    ] {
        iptables(&pair, variant, rule);
    }
    let found = pair.pod.everything();
    pair.captured("-b * -i * -m TPROXY -c eth7 --redirect-dns --capture-all-dns");
    assert!(save(&pair).contains("-A OUTPUT -o eth9 -j RETURN"));
    pair.captured("-b 80 -i * --reconcile");
    let after = save(&pair);
    for rule in [
        "-A OUTPUT -o eth9 -j RETURN",
        "-A PREROUTING -p tcp -m tcp --dport 22 -j ACCEPT",
        "-A INPUT -p icmp -j ACCEPT",
        "--mark 0x7 -j RETURN",
    ] {
        assert!(after.contains(rule), "{rule}: {after}");
    }
    assert!(
        !after.contains("eth7") && !after.contains("TPROXY"),
        "{after}"
    );
    pair.captured("--cleanup-only");
    assert_eq!(pair.pod.everything(), found);
}

fn replaces_only_when_told(variant: &'static str) {
    let pair = Pair::new(variant, Ip::V4);
    pair.captured("-b * -i * -m TPROXY");
    let before = pair.pod.everything();
    let refused = pair.capture("-b * -i * -d 22");
    assert_eq!(refused.status.code(), Some(1));
    let text = told(&refused);
    assert!(
        text.contains("--reconcile") && text.contains("--dport 22"),
        "{text}"
    );
    assert_eq!(pair.pod.everything(), before);
    // Rules, routes and rules of routing of TPROXY go.
    pair.captured("-b * -i * -d 22 --reconcile");
    let reconciled = pair.pod.everything();
    let fresh = Pair::new(variant, Ip::V4);
    fresh.captured("-b * -i * -d 22");
    let rules = format!("iptables-{variant}-save");
    assert_eq!(reconciled[&rules], fresh.pod.everything()[&rules]);
    assert!(!reconciled["-4 rule show"].contains("0x539"));
    // A rule that somebody took away is put back.
    iptables(&pair, variant, "-t nat -F ISTIO_OUTPUT");
    assert_eq!(pair.capture("-b * -i * -d 22").status.code(), Some(1));
    pair.captured("-b * -i * -d 22 --reconcile");
    assert_eq!(pair.pod.everything(), reconciled);
}

/// Without a word about the variant, the one that has rules is taken; rules of the other do not stay beside it.
fn goes_where_rules_are(variant: &'static str) {
    let pair = Pair::new(variant, Ip::V4);
    let agent = env!("CARGO_BIN_EXE_agent");
    let capture = |flags: &str| {
        let args: Vec<_> = ["capture"].into_iter().chain(flags.split(' ')).collect();
        pair.pod.exec(agent, &args)
    };
    iptables(&pair, variant, "-A INPUT -p icmp -j ACCEPT");
    let output = capture("-b * -i *");
    assert!(
        told(&output).contains(&format!("iptables: {variant}")),
        "{output:?}"
    );
    let other = if variant == "nft" { "legacy" } else { "nft" };
    let output = capture(&format!("-b * -i * --force-iptables-binary {other}"));
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let version = match other {
        "nft" => "--iptables-version=v1.8.9(nf_tables)",
        _ => "--iptables-version=v1.8.9(legacy)",
    };
    let output = capture(&format!("-b * -i * --reconcile {version}"));
    assert!(output.status.success(), "{output:?}");
    let everything = pair.pod.everything();
    let rules = |variant| &everything[&format!("iptables-{variant}-save")];
    assert_eq!(rules(variant), "-A INPUT -p icmp -j ACCEPT");
    assert!(rules(other).contains("ISTIO_REDIRECT"));
}

/// A run that ended in the middle leaves rules that hold new connections off; the next one removes them.
fn holds_nothing_back_after_a_guard_was_left(variant: &'static str) {
    let pair = Pair::new(variant, Ip::V4);
    for chain in ["INPUT", "OUTPUT"] {
        iptables(
            &pair,
            variant,
            &format!("-I {chain} -m conntrack --ctstate NEW -m comment --comment flotilla -j DROP"),
        );
    }
    pair.captured("-b * -i * --reconcile");
    let proxy = pair.pod.listen(at("15001"));
    pair.pod.connect(APP, at("10.0.0.1:80")).unwrap();
    drop(proxy);
}

/// Case 78: nothing of what was asked for is done, and the code says so.
#[test]
fn refuses_hostile_settings() {
    let pair = Pair::new("nft", Ip::V4);
    let found = pair.pod.everything();
    let agent = env!("CARGO_BIN_EXE_agent");
    for flags in [
        ["-b", "80;reboot"],
        ["-b", "80\n-A OUTPUT -j ACCEPT"],
        ["-c", "eth0 -j ACCEPT"],
        ["-k", "eth0\nCOMMIT"],
        ["-x", "*"],
        ["-x", "10.0.0.0/99"],
        ["-i", "$(reboot)"],
        ["-u", "1337 -j ACCEPT"],
        ["-m", "REDIRECT\n"],
        ["-t", "0x539"],
        ["--outbound-owner-groups", "no-such-group"],
        ["--network-namespace", "../../etc/passwd"],
        ["--iptables-version", "1;reboot"],
    ] {
        let args: Vec<_> = ["capture", "-p", "15001"]
            .into_iter()
            .chain(flags)
            .collect();
        let output = pair.pod.exec(agent, &args);
        assert_eq!(
            output.status.code(),
            Some(1),
            "{flags:?}: {}",
            told(&output)
        );
        assert!(!output.stderr.is_empty(), "{flags:?}");
    }
    assert_eq!(pair.pod.everything(), found);
}

#[test]
fn prints_what_it_would_do_and_does_nothing() {
    let pair = Pair::new("nft", Ip::Both);
    let found = pair.pod.everything();
    let text = pair.captured("-b * -i * -m TPROXY --dual-stack --dry-run");
    for line in [
        "# ip -6 address add ::6/128 dev lo nodad",
        "# ip -4 rule add fwmark 1337 lookup 133",
        "# iptables-nft-restore --noflush",
        "# ip6tables-nft-restore --noflush",
        "-A PREROUTING -p tcp -j ISTIO_INBOUND",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert_eq!(pair.pod.everything(), found);
    // What it prints can be given to the program as it is.
    let v4 = text
        .split("# ip6tables-nft-restore --noflush")
        .next()
        .unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), v4).unwrap();
    let command = format!("iptables-nft-restore --noflush < {}", file.path().display());
    let output = pair.pod.exec("sh", &["-c", &command]);
    assert!(output.status.success(), "{}", told(&output));
}

#[test]
fn takes_settings_from_the_variables_of_istio() {
    let pair = Pair::new("nft", Ip::V4);
    let agent = env!("CARGO_BIN_EXE_agent");
    let output = pair.pod.exec(
        "env",
        &[
            "ISTIO_INBOUND_PORTS=80",
            "ISTIO_SERVICE_CIDR=10.0.0.0/8",
            "ISTIO_META_DNS_CAPTURE=true",
            "CAPTURE_ALL_DNS=1",
            "INVALID_DROP=true",
            "PROXY_UID=4711",
            "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE=202",
            // As Kubernetes sets it for a service named `envoy`.
            "ENVOY_PORT=tcp://10.96.0.7:80",
            agent,
            "capture",
            "-n",
        ],
    );
    let text = told(&output);
    assert!(output.status.success(), "{text}");
    for part in [
        "--dport 80 -j ISTIO_IN_REDIRECT",
        "-d 10.0.0.0/8 -j ISTIO_REDIRECT",
        "--to-ports 15053",
        "-j ISTIO_DROP",
        "--uid-owner 4711",
        "--gid-owner 4711",
        "--gid-owner 202 -j RETURN",
        "--to-ports 15001",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn says_what_to_try_without_rights() {
    let pair = Pair::new("nft", Ip::V4);
    let agent = env!("CARGO_BIN_EXE_agent");
    let nobody = [
        "--reuid",
        "1337",
        "--regid",
        "1337",
        "--clear-groups",
        agent,
    ];
    let args: Vec<_> = nobody.into_iter().chain(["capture", "-b", "*"]).collect();
    let output = pair.pod.exec("setpriv", &args);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(told(&output).contains("NET_ADMIN"), "{}", told(&output));
}
