use expect_test::expect;

use super::*;

fn wanted(change: impl FnOnce(&mut Written)) -> Ruleset {
    Wanted::of(&checked(change), &v4()).0.v4
}

#[test]
fn what_is_as_wanted_is_left_alone() {
    for rules in [
        wanted(|_| ()),
        wanted(|w| w.interception_mode = "TPROXY".into()),
    ] {
        let state = State::parse(&saved(&rules));
        assert_eq!(plan(&state, &rules, How::default()), Ok(Plan::AsWanted));
        let reconcile = How {
            reconcile: true,
            force: false,
        };
        assert_eq!(plan(&state, &rules, reconcile), Ok(Plan::AsWanted));
    }
    let nothing = Ruleset::default();
    assert_eq!(
        plan(&State::default(), &nothing, How::default()),
        Ok(Plan::AsWanted)
    );
}

#[test]
fn rules_in_another_order_are_not_as_wanted() {
    let rules = wanted(|_| ());
    let text = saved(&rules);
    let mut lines: Vec<&str> = text.lines().collect();
    let at = lines
        .iter()
        .position(|line| line.starts_with("-A ISTIO_OUTPUT"))
        .unwrap();
    lines.swap(at, at + 1);
    let state = State::parse(&lines.join("\n"));
    assert_eq!(
        state.differences(&rules, 9),
        ["! nat: rules of ISTIO_OUTPUT are in another order"]
    );
}

#[test]
fn a_difference_is_told_and_not_touched_unasked() {
    let (old, new) = (
        wanted(|w| w.inbound_exclude_ports = "22".into()),
        wanted(|w| w.inbound_exclude_ports = "23".into()),
    );
    let error = plan(&State::parse(&saved(&old)), &new, How::default()).unwrap_err();
    expect![[r#"
        rules that redirect traffic are there already and differ from what is wanted; --reconcile replaces them, --cleanup-only removes them
          + nat: -A ISTIO_INBOUND -p tcp -m tcp --dport 22 -j RETURN
          - nat: -A ISTIO_INBOUND -p tcp -m tcp --dport 23 -j RETURN"#]]
    .assert_eq(&error.to_string());
}

/// Chains that are gone are removed, those that stay are emptied, and no connection begins meanwhile.
#[test]
fn reconciling_replaces_table_by_table_behind_a_guard() {
    let old = wanted(|w| {
        w.interception_mode = "TPROXY".into();
        w.exclude_interfaces = "eth7".into();
    });
    let mut state = saved(&old);
    state += "*nat\n-A OUTPUT -o eth9 -j RETURN\nCOMMIT\n";
    let how = How {
        reconcile: true,
        force: false,
    };
    let new = wanted(|w| {
        w.inbound_ports = "80".into();
        w.outbound_cidrs = String::new();
    });
    let Ok(Plan::Restore(text)) = plan(&State::parse(&state), &new, how) else {
        panic!("nothing to do?");
    };
    expect![[r#"
        *filter
        -I INPUT 1 -m conntrack --ctstate NEW -m comment --comment flotilla -j DROP
        -I OUTPUT 1 -m conntrack --ctstate NEW -m comment --comment flotilla -j DROP
        COMMIT
        *mangle
        :ISTIO_DIVERT - [0:0]
        :ISTIO_INBOUND - [0:0]
        :ISTIO_TPROXY - [0:0]
        -D PREROUTING -i eth7 -m comment --comment flotilla -j RETURN
        -D OUTPUT -o eth7 -m comment --comment flotilla -j RETURN
        -D PREROUTING -p tcp -j ISTIO_INBOUND
        -D PREROUTING -p tcp -m mark --mark 0x539 -m comment --comment flotilla -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
        -D OUTPUT -o lo -p tcp -m mark --mark 0x539 -m comment --comment flotilla -j RETURN
        -D OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m owner --uid-owner 1337 -m comment --comment flotilla -j MARK --set-xmark 0x53a/0xffffffff
        -D OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m owner --gid-owner 1337 -m comment --comment flotilla -j MARK --set-xmark 0x53a/0xffffffff
        -D OUTPUT -p tcp -m connmark --mark 0x539 -m comment --comment flotilla -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
        -X ISTIO_DIVERT
        -X ISTIO_INBOUND
        -X ISTIO_TPROXY
        COMMIT
        *nat
        :ISTIO_INBOUND - [0:0]
        :ISTIO_IN_REDIRECT - [0:0]
        :ISTIO_OUTPUT - [0:0]
        :ISTIO_REDIRECT - [0:0]
        -D PREROUTING -i eth7 -m comment --comment flotilla -j RETURN
        -D OUTPUT -o eth7 -m comment --comment flotilla -j RETURN
        -D OUTPUT -j ISTIO_OUTPUT
        -A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
        -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
        -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
        -A PREROUTING -p tcp -j ISTIO_INBOUND
        -A ISTIO_INBOUND -p tcp -m tcp --dport 80 -j ISTIO_IN_REDIRECT
        -A OUTPUT -j ISTIO_OUTPUT
        -A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
        -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
        -A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 1337 -j RETURN
        -A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
        -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
        -A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 1337 -j RETURN
        -A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
        -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
        COMMIT
        *filter
        -D INPUT -m conntrack --ctstate NEW -m comment --comment flotilla -j DROP
        -D OUTPUT -m conntrack --ctstate NEW -m comment --comment flotilla -j DROP
        COMMIT
    "#]].assert_eq(&text);
}

#[test]
fn removing_needs_no_leave_and_leaves_others_alone() {
    let rules = wanted(|w| {
        w.redirect_dns = true;
        w.exclude_interfaces = "eth7".into();
    });
    let mut state = saved(&rules);
    state += "*nat\n-A OUTPUT -o eth9 -j RETURN\nCOMMIT\n*filter\n-A INPUT -m conntrack --ctstate NEW -m comment --comment flotilla -j DROP\nCOMMIT\n";
    let state = State::parse(&state);
    let Ok(Plan::Restore(text)) = plan(&state, &Ruleset::default(), How::default()) else {
        panic!("nothing to do?");
    };
    expect![[r#"
        *raw
        :ISTIO_INBOUND - [0:0]
        :ISTIO_OUTPUT_DNS - [0:0]
        -D OUTPUT -j ISTIO_OUTPUT_DNS
        -D PREROUTING -j ISTIO_INBOUND
        -X ISTIO_INBOUND
        -X ISTIO_OUTPUT_DNS
        COMMIT
        *nat
        :ISTIO_INBOUND - [0:0]
        :ISTIO_IN_REDIRECT - [0:0]
        :ISTIO_OUTPUT - [0:0]
        :ISTIO_OUTPUT_DNS - [0:0]
        :ISTIO_REDIRECT - [0:0]
        -D PREROUTING -i eth7 -m comment --comment flotilla -j RETURN
        -D OUTPUT -o eth7 -m comment --comment flotilla -j RETURN
        -D PREROUTING -p tcp -j ISTIO_INBOUND
        -D OUTPUT -j ISTIO_OUTPUT
        -X ISTIO_INBOUND
        -X ISTIO_IN_REDIRECT
        -X ISTIO_OUTPUT
        -X ISTIO_OUTPUT_DNS
        -X ISTIO_REDIRECT
        COMMIT
        *filter
        -D INPUT -m conntrack --ctstate NEW -m comment --comment flotilla -j DROP
        COMMIT
    "#]]
    .assert_eq(&text);
}
