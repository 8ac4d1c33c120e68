use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Sets one field by number.
fn field(written: &mut Written, number: usize) -> &mut String {
    let fields = [
        &mut written.envoy_port,
        &mut written.inbound_capture_port,
        &mut written.inbound_tunnel_port,
        &mut written.proxy_uid,
        &mut written.proxy_gid,
        &mut written.interception_mode,
        &mut written.inbound_ports,
        &mut written.inbound_exclude_ports,
        &mut written.outbound_cidrs,
        &mut written.outbound_exclude_cidrs,
        &mut written.outbound_ports,
        &mut written.outbound_exclude_ports,
        &mut written.exclude_interfaces,
        &mut written.reroute_interfaces,
        &mut written.tproxy_mark,
        &mut written.tproxy_table,
        &mut written.owner_groups,
        &mut written.owner_groups_exclude,
        &mut written.loopback_cidr,
        &mut written.envoy_user,
    ];
    fields.into_iter().nth(number).unwrap()
}

const FIELDS: usize = 20;
/// Fields that name a user who need not exist.
const ANYTHING: usize = 19;

/// Case 78, and more of its kind: refused whatever setting it is given to.
#[test]
fn hostile_values_are_refused_everywhere() {
    let values = [
        "80;reboot",
        "80 -j ACCEPT",
        "80\n-A OUTPUT -j ACCEPT",
        "80\nCOMMIT",
        "80\r",
        "80\0",
        "80\t",
        "\u{a0}80",
        "80,$(reboot)",
        "`reboot`",
        "eth0 -j ACCEPT",
        "eth0\nCOMMIT\n*filter",
        "--help",
        "-1",
        "+80",
        "0x50",
        "1e3",
        "٨٠",
        "!80",
        "80:90",
        "10.0.0.0/33",
        "10.0.0/8",
        "10.0.0.0/8/8",
        "::/129",
        "fe80::1%eth0/64",
        "/8",
        "*,*,",
        "* ",
        "any",
    ];
    for value in values {
        for number in (0..FIELDS).filter(|&n| n != ANYTHING) {
            let mut written = written(|_| ());
            *field(&mut written, number) = value.into();
            let errors = Settings::check(&written, &names());
            // An interface may be called anything that is one word without signs.
            let is_name =
                [12, 13].contains(&number) && ["any", "0x50", "1e3", "80:90"].contains(&value);
            assert!(errors.is_err() || is_name, "field {number}: {value:?}");
            for error in errors.err().into_iter().flatten() {
                let told = error.to_string();
                assert!(!told.contains(['\n', '\r', '\0']), "{told:?}");
            }
        }
    }
}

/// Case 78.
#[test]
fn everything_cannot_be_excluded() {
    for value in ["*", "10.0.0.0/8,*", " * "] {
        let written = written(|w| w.outbound_exclude_cidrs = value.into());
        let errors = Settings::check(&written, &names()).unwrap_err();
        assert_eq!(errors[0].reason, SettingReason::ExcludesEverything);
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let written = written(|w| {
        w.envoy_port = "0".into();
        w.inbound_capture_port = "65536".into();
        w.proxy_uid = "nobody-here".into();
        w.interception_mode = "NONE".into();
        w.loopback_cidr = "128.0.0.0/8".into();
        w.tproxy_mark = "1338".into();
        w.tproxy_table = "254".into();
        w.owner_groups = "java".into();
        w.owner_groups_exclude = "303".into();
        w.outbound_exclude_cidrs = "10.0.0.0/8,nonsense,more".into();
    });
    let errors = Settings::check(&written, &names()).unwrap_err();
    let flags: BTreeSet<_> = errors.iter().map(|error| error.setting).collect();
    assert_eq!((errors.len(), flags.len()), (10, 9), "{errors:#?}");
}

#[test]
fn lists_are_bounded() {
    let groups: Vec<_> = (1..=65).map(|n| n.to_string()).collect();
    let sixty_four = written(|w| w.owner_groups = groups[..64].join(","));
    assert!(Settings::check(&sixty_four, &names()).is_ok());
    let more = written(|w| w.owner_groups_exclude = groups.join(","));
    let errors = Settings::check(&more, &names()).unwrap_err();
    assert_eq!(errors[0].reason, SettingReason::TooMany(64));
    let ports: Vec<_> = (1..=1025).map(|n| n.to_string()).collect();
    let many = written(|w| w.outbound_ports = ports.join(","));
    let errors = Settings::check(&many, &names()).unwrap_err();
    assert_eq!(errors[0].reason, SettingReason::TooMany(1024));
}

/// What one line of the text may be.
fn is_sound(line: &str) -> bool {
    let chain = |name: &str| {
        ["PREROUTING", "OUTPUT"].contains(&name)
            || name
                .strip_prefix("ISTIO_")
                .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
    };
    let words: Vec<&str> = line.split(' ').collect();
    match words[..] {
        ["*raw" | "*mangle" | "*nat" | "COMMIT"] => true,
        [name, "-", "[0:0]"] => name.strip_prefix(':').is_some_and(chain),
        ["-A", name, ref body @ ..] => chain(name) && is_sound_body(body, &chain),
        ["-I", name, place, ref body @ ..] => {
            chain(name) && place.parse::<u16>().is_ok() && is_sound_body(body, &chain)
        }
        _ => false,
    }
}

fn is_sound_body(words: &[&str], chain: &impl Fn(&str) -> bool) -> bool {
    let targets = words.iter().filter(|&&word| word == "-j").count();
    let known = |word: &str| {
        [
            "RETURN", "ACCEPT", "DROP", "REDIRECT", "TPROXY", "MARK", "CONNMARK", "CT",
        ]
        .contains(&word)
    };
    let target = words.iter().skip_while(|&&word| word != "-j").nth(1);
    let plain = |word: &&str| {
        !word.is_empty()
            && word
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b"!-_./:,+@".contains(&b))
    };
    targets == 1
        && target.is_some_and(|target| known(target) || chain(target))
        && words.iter().all(plain)
}

fn value() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        (0u32..70_000).prop_map(|n| n.to_string()),
        any::<std::net::Ipv4Addr>().prop_map(|ip| format!("{ip}/8")),
        any::<std::net::Ipv6Addr>().prop_map(|ip| format!("{ip}/64")),
        "[a-z]{1,6}[0-9+]?",
        Just("*".to_owned()),
        Just("java".to_owned()),
        Just("TPROXY".to_owned()),
        Just("127.0.0.0/8".to_owned()),
        Just("0.0.0.0/0".to_owned()),
        "[ -~\n\r\t]{0,20}",
        "\\PC{0,8}",
    ];
    prop::collection::vec(word, 0..4).prop_map(|words| words.join(","))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Whatever is written into settings: it is refused, or every line of the outcome is one sound rule, and the system would show
    /// exactly these rules.
    #[test]
    fn no_text_adds_a_rule_or_breaks_a_line(
        changes in prop::collection::vec((0..FIELDS, value()), 0..5),
        flags in any::<[bool; 6]>(),
    ) {
        let mut written = written(|_| ());
        for (number, value) in changes {
            *field(&mut written, number) = value;
        }
        let [redirect_dns, capture_all_dns, drop_invalid, dual_stack, v4, v6] = flags;
        let written = Written { redirect_dns, capture_all_dns, drop_invalid, dual_stack, ..written };
        let servers = vec!["10.0.0.10".parse().unwrap(), "fd00::a".parse().unwrap()];
        let around = Surroundings { v4, v6, name_servers: servers };
        if let Ok(settings) = Settings::check(&written, &names()) {
            let (wanted, _) = Wanted::of(&settings, &around);
            for rules in [&wanted.v4, &wanted.v6] {
                if rules.0.is_empty() {
                    continue;
                }
                let text = fresh(rules);
                let count: usize = rules.0.values().map(|table| table.in_order().count()).sum();
                let lines = text.lines().filter(|line| line.starts_with("-A") || line.starts_with("-I"));
                prop_assert_eq!(lines.count(), count);
                for line in text.lines() {
                    prop_assert!(is_sound(line), "{:?}", line);
                }
                prop_assert!(State::parse(&saved(rules)).is(rules));
            }
        }
    }

    /// Text that no iptables printed crashes nothing, and plans made of it are sound still.
    #[test]
    fn any_state_is_read(text in "(\\*nat\n)?([ -~\n]{0,40}|-A ISTIO_[A-Z]{1,4} -j RETURN\n|:ISTIO_[A-Z]{1,4} - \\[0:0\\]\n|-A OUTPUT -j ISTIO_X\n){0,8}") {
        let state = State::parse(&text);
        let _ = state.has_ours();
        let how = How { reconcile: true, force: true };
        let (wanted, _) = Wanted::of(&checked(|_| ()), &v4());
        prop_assert!(plan(&state, &wanted.v4, how).is_ok());
        prop_assert!(plan(&state, &Ruleset::default(), How::default()).is_ok());
    }
}
