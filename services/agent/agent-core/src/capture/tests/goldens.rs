use expect_test::{Expect, expect};

use super::*;

#[track_caller]
fn check(change: impl FnOnce(&mut Written), around: &Surroundings, family: Family, want: Expect) {
    let (wanted, warnings) = Wanted::of(&checked(change), around);
    assert_eq!(warnings, []);
    want.assert_eq(&fresh(wanted.of_family(family)));
}

/// Case 83: REDIRECT with a name server and an excluded port, in the order of the specification.
#[test]
fn redirect_with_dns() {
    check(
        |w| {
            w.inbound_exclude_ports = "15020".into();
            w.redirect_dns = true;
        },
        &v4(),
        Family::V4,
        expect![[r#"
            *raw
            :ISTIO_INBOUND - [0:0]
            :ISTIO_OUTPUT_DNS - [0:0]
            -A OUTPUT -j ISTIO_OUTPUT_DNS
            -A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1
            -A ISTIO_OUTPUT_DNS -p udp -m udp --sport 15053 -m owner --uid-owner 1337 -j CT --zone 2
            -A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -m owner --gid-owner 1337 -j CT --zone 1
            -A ISTIO_OUTPUT_DNS -p udp -m udp --sport 15053 -m owner --gid-owner 1337 -j CT --zone 2
            -A ISTIO_OUTPUT_DNS -d 10.0.0.10/32 -p udp -m udp --dport 53 -j CT --zone 2
            -A PREROUTING -j ISTIO_INBOUND
            -A ISTIO_INBOUND -s 10.0.0.10/32 -p udp -m udp --sport 53 -j CT --zone 1
            COMMIT
            *nat
            :ISTIO_INBOUND - [0:0]
            :ISTIO_IN_REDIRECT - [0:0]
            :ISTIO_OUTPUT - [0:0]
            :ISTIO_OUTPUT_DNS - [0:0]
            :ISTIO_REDIRECT - [0:0]
            -A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
            -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
            -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
            -A PREROUTING -p tcp -j ISTIO_INBOUND
            -A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
            -A ISTIO_INBOUND -p tcp -j ISTIO_IN_REDIRECT
            -A OUTPUT -j ISTIO_OUTPUT
            -A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
            -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m multiport ! --dports 53,15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
            -A ISTIO_OUTPUT -o lo -p tcp -m tcp ! --dport 53 -m owner ! --uid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
            -A ISTIO_OUTPUT -o lo -p tcp -m tcp ! --dport 53 -m owner ! --gid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS
            -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
            -A ISTIO_OUTPUT -j ISTIO_REDIRECT
            -A ISTIO_OUTPUT_DNS -d 10.0.0.10/32 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 15053
            -A ISTIO_OUTPUT_DNS -d 10.0.0.10/32 -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053
            COMMIT
        "#]],
    );
}

/// Case 83: TPROXY.
#[test]
fn tproxy() {
    check(
        |w| {
            w.interception_mode = "TPROXY".into();
            w.inbound_exclude_ports = "15020,22".into();
            w.exclude_interfaces = "eth1".into();
            w.proxy_uid = "0".into();
        },
        &v4(),
        Family::V4,
        expect![[r#"
            *mangle
            :ISTIO_DIVERT - [0:0]
            :ISTIO_INBOUND - [0:0]
            :ISTIO_TPROXY - [0:0]
            -A PREROUTING -i eth1 -m comment --comment flotilla -j RETURN
            -A OUTPUT -o eth1 -m comment --comment flotilla -j RETURN
            -A ISTIO_DIVERT -j MARK --set-xmark 0x539/0xffffffff
            -A ISTIO_DIVERT -j ACCEPT
            -A ISTIO_TPROXY ! -d 127.0.0.1/32 -p tcp -j TPROXY --on-port 15006 --on-ip 0.0.0.0 --tproxy-mark 0x539/0xffffffff
            -A PREROUTING -p tcp -j ISTIO_INBOUND
            -A ISTIO_INBOUND -p tcp -m mark --mark 0x539 -j RETURN
            -A ISTIO_INBOUND -s 127.0.0.6/32 -i lo -p tcp -j RETURN
            -A ISTIO_INBOUND -i lo -p tcp -m mark ! --mark 0x53a -j RETURN
            -A ISTIO_INBOUND -p tcp -m tcp --dport 15020 -j RETURN
            -A ISTIO_INBOUND -p tcp -m tcp --dport 22 -j RETURN
            -A ISTIO_INBOUND -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT
            -A ISTIO_INBOUND -p tcp -j ISTIO_TPROXY
            -A PREROUTING -p tcp -m mark --mark 0x539 -m comment --comment flotilla -j CONNMARK --save-mark --nfmask 0xffffffff --ctmask 0xffffffff
            -A OUTPUT -o lo -p tcp -m mark --mark 0x539 -m comment --comment flotilla -j RETURN
            -A OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m owner --uid-owner 0 -m comment --comment flotilla -j MARK --set-xmark 0x53a/0xffffffff
            -A OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m owner --gid-owner 0 -m comment --comment flotilla -j MARK --set-xmark 0x53a/0xffffffff
            -A OUTPUT -p tcp -m connmark --mark 0x539 -m comment --comment flotilla -j CONNMARK --restore-mark --nfmask 0xffffffff --ctmask 0xffffffff
            COMMIT
            *nat
            :ISTIO_INBOUND - [0:0]
            :ISTIO_IN_REDIRECT - [0:0]
            :ISTIO_OUTPUT - [0:0]
            :ISTIO_REDIRECT - [0:0]
            -A PREROUTING -i eth1 -m comment --comment flotilla -j RETURN
            -A OUTPUT -o eth1 -m comment --comment flotilla -j RETURN
            -A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
            -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
            -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
            -A OUTPUT -j ISTIO_OUTPUT
            -A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
            -A ISTIO_OUTPUT -o lo -p tcp -m mark --mark 0x539 -j RETURN
            -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 0 -j ISTIO_IN_REDIRECT
            -A ISTIO_OUTPUT -o lo -m owner ! --uid-owner 0 -j RETURN
            -A ISTIO_OUTPUT -m owner --uid-owner 0 -j RETURN
            -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 0 -j ISTIO_IN_REDIRECT
            -A ISTIO_OUTPUT -o lo -m owner ! --gid-owner 0 -j RETURN
            -A ISTIO_OUTPUT -m owner --gid-owner 0 -j RETURN
            -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
            -A ISTIO_OUTPUT -j ISTIO_REDIRECT
            COMMIT
        "#]],
    );
}

/// Case 83: a pod without IPv4 has the rules of IPv6 in force.
#[test]
fn only_ipv6() {
    let around = Surroundings {
        v4: false,
        v6: true,
        name_servers: vec!["fd00::a".parse().unwrap(), "10.0.0.10".parse().unwrap()],
    };
    check(
        |w| {
            w.redirect_dns = true;
            w.outbound_cidrs = "fd00::/8,10.0.0.0/8".into();
            w.outbound_exclude_cidrs = "fd00:1::5/32".into();
            w.inbound_ports = "80,443".into();
        },
        &around,
        Family::V6,
        expect![[r#"
            *raw
            :ISTIO_INBOUND - [0:0]
            :ISTIO_OUTPUT_DNS - [0:0]
            -A OUTPUT -j ISTIO_OUTPUT_DNS
            -A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1
            -A ISTIO_OUTPUT_DNS -p udp -m udp --sport 15053 -m owner --uid-owner 1337 -j CT --zone 2
            -A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -m owner --gid-owner 1337 -j CT --zone 1
            -A ISTIO_OUTPUT_DNS -p udp -m udp --sport 15053 -m owner --gid-owner 1337 -j CT --zone 2
            -A ISTIO_OUTPUT_DNS -d fd00::a/128 -p udp -m udp --dport 53 -j CT --zone 2
            -A PREROUTING -j ISTIO_INBOUND
            -A ISTIO_INBOUND -s fd00::a/128 -p udp -m udp --sport 53 -j CT --zone 1
            COMMIT
            *nat
            :ISTIO_INBOUND - [0:0]
            :ISTIO_IN_REDIRECT - [0:0]
            :ISTIO_OUTPUT - [0:0]
            :ISTIO_OUTPUT_DNS - [0:0]
            :ISTIO_REDIRECT - [0:0]
            -A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
            -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
            -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
            -A PREROUTING -p tcp -j ISTIO_INBOUND
            -A ISTIO_INBOUND -p tcp -m tcp --dport 80 -j ISTIO_IN_REDIRECT
            -A ISTIO_INBOUND -p tcp -m tcp --dport 443 -j ISTIO_IN_REDIRECT
            -A OUTPUT -j ISTIO_OUTPUT
            -A ISTIO_OUTPUT -s ::6/128 -o lo -j RETURN
            -A ISTIO_OUTPUT ! -d ::1/128 -o lo -p tcp -m multiport ! --dports 53,15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
            -A ISTIO_OUTPUT -o lo -p tcp -m tcp ! --dport 53 -m owner ! --uid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT ! -d ::1/128 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
            -A ISTIO_OUTPUT -o lo -p tcp -m tcp ! --dport 53 -m owner ! --gid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS
            -A ISTIO_OUTPUT -d ::1/128 -j RETURN
            -A ISTIO_OUTPUT -d fd00:1::/32 -j RETURN
            -A ISTIO_OUTPUT -d fd00::/8 -j ISTIO_REDIRECT
            -A ISTIO_OUTPUT_DNS -d fd00::a/128 -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 15053
            -A ISTIO_OUTPUT_DNS -d fd00::a/128 -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053
            COMMIT
        "#]],
    );
}

#[test]
fn ports_ranges_groups_and_interfaces() {
    check(
        |w| {
            w.outbound_cidrs = "10.1.2.3/8, 127.0.0.0/8".into();
            w.outbound_exclude_cidrs = "10.9.0.0/16".into();
            w.outbound_ports = "9999".into();
            w.outbound_exclude_ports = "25".into();
            w.inbound_ports = "80,80,443".into();
            w.exclude_interfaces = "eth1,tun+".into();
            w.reroute_interfaces = "kv0,kv1".into();
            w.owner_groups = "java,303".into();
            w.drop_invalid = true;
            w.proxy_uid = "5".into();
            w.proxy_gid = "6".into();
        },
        &v4(),
        Family::V4,
        expect![[r#"
            *mangle
            :ISTIO_DROP - [0:0]
            -A PREROUTING -m conntrack --ctstate INVALID -j ISTIO_DROP
            -A ISTIO_DROP -j DROP
            COMMIT
            *nat
            :ISTIO_INBOUND - [0:0]
            :ISTIO_IN_REDIRECT - [0:0]
            :ISTIO_OUTPUT - [0:0]
            :ISTIO_REDIRECT - [0:0]
            -I PREROUTING 1 -d 127.0.0.0/8 -i kv1 -j ISTIO_REDIRECT
            -I PREROUTING 2 -d 127.0.0.0/8 -i kv0 -j ISTIO_REDIRECT
            -I PREROUTING 3 -d 10.0.0.0/8 -i kv1 -j ISTIO_REDIRECT
            -I PREROUTING 4 -d 10.0.0.0/8 -i kv0 -j ISTIO_REDIRECT
            -I PREROUTING 5 -i kv1 -m comment --comment flotilla -j RETURN
            -I PREROUTING 6 -i kv0 -m comment --comment flotilla -j RETURN
            -A PREROUTING -i eth1 -m comment --comment flotilla -j RETURN
            -A OUTPUT -o eth1 -m comment --comment flotilla -j RETURN
            -A PREROUTING -i tun+ -m comment --comment flotilla -j RETURN
            -A OUTPUT -o tun+ -m comment --comment flotilla -j RETURN
            -A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
            -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
            -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
            -A PREROUTING -p tcp -j ISTIO_INBOUND
            -A ISTIO_INBOUND -p tcp -m tcp --dport 80 -j ISTIO_IN_REDIRECT
            -A ISTIO_INBOUND -p tcp -m tcp --dport 443 -j ISTIO_IN_REDIRECT
            -A OUTPUT -j ISTIO_OUTPUT
            -A ISTIO_OUTPUT -p tcp -m tcp --dport 25 -j RETURN
            -A ISTIO_OUTPUT -p udp -m udp --dport 25 -j RETURN
            -A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
            -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --uid-owner 5 -j ISTIO_IN_REDIRECT
            -A ISTIO_OUTPUT -m owner --uid-owner 5 -j RETURN
            -A ISTIO_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 6 -j ISTIO_IN_REDIRECT
            -A ISTIO_OUTPUT -m owner --gid-owner 6 -j RETURN
            -A ISTIO_OUTPUT -m owner ! --gid-owner 202 -m owner ! --gid-owner 303 -j RETURN
            -A ISTIO_OUTPUT -d 127.0.0.1/32 -j RETURN
            -A ISTIO_OUTPUT -d 10.9.0.0/16 -j RETURN
            -A ISTIO_OUTPUT -p tcp -m tcp --dport 9999 -j ISTIO_REDIRECT
            -A ISTIO_OUTPUT -d 10.0.0.0/8 -j ISTIO_REDIRECT
            -A ISTIO_OUTPUT -d 127.0.0.0/8 -j ISTIO_REDIRECT
            COMMIT
        "#]],
    );
}

#[test]
fn nothing_captured_but_all_dns() {
    check(
        |w| {
            w.inbound_ports = String::new();
            w.outbound_cidrs = String::new();
            w.redirect_dns = true;
            w.capture_all_dns = true;
            w.owner_groups_exclude = "java".into();
            w.loopback_cidr = "127.0.0.0/8".into();
        },
        &v4(),
        Family::V4,
        expect![[r#"
            *raw
            :ISTIO_INBOUND - [0:0]
            :ISTIO_OUTPUT_DNS - [0:0]
            -A OUTPUT -j ISTIO_OUTPUT_DNS
            -A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -m owner --uid-owner 1337 -j CT --zone 1
            -A ISTIO_OUTPUT_DNS -p udp -m udp --sport 15053 -m owner --uid-owner 1337 -j CT --zone 2
            -A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -m owner --gid-owner 1337 -j CT --zone 1
            -A ISTIO_OUTPUT_DNS -p udp -m udp --sport 15053 -m owner --gid-owner 1337 -j CT --zone 2
            -A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -j CT --zone 2
            -A PREROUTING -j ISTIO_INBOUND
            -A ISTIO_INBOUND -p udp -m udp --sport 53 -j CT --zone 1
            COMMIT
            *nat
            :ISTIO_INBOUND - [0:0]
            :ISTIO_IN_REDIRECT - [0:0]
            :ISTIO_OUTPUT - [0:0]
            :ISTIO_OUTPUT_DNS - [0:0]
            :ISTIO_REDIRECT - [0:0]
            -A ISTIO_INBOUND -p tcp -m tcp --dport 15008 -j RETURN
            -A ISTIO_REDIRECT -p tcp -j REDIRECT --to-ports 15001
            -A ISTIO_IN_REDIRECT -p tcp -j REDIRECT --to-ports 15006
            -A OUTPUT -j ISTIO_OUTPUT
            -A ISTIO_OUTPUT -s 127.0.0.6/32 -o lo -j RETURN
            -A ISTIO_OUTPUT ! -d 127.0.0.0/8 -o lo -p tcp -m multiport ! --dports 53,15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT
            -A ISTIO_OUTPUT -o lo -p tcp -m tcp ! --dport 53 -m owner ! --uid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT -m owner --uid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT ! -d 127.0.0.0/8 -o lo -p tcp -m tcp ! --dport 15008 -m owner --gid-owner 1337 -j ISTIO_IN_REDIRECT
            -A ISTIO_OUTPUT -o lo -p tcp -m tcp ! --dport 53 -m owner ! --gid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT -m owner --gid-owner 1337 -j RETURN
            -A ISTIO_OUTPUT -m owner --gid-owner 202 -j RETURN
            -A ISTIO_OUTPUT -j ISTIO_OUTPUT_DNS
            -A ISTIO_OUTPUT -d 127.0.0.0/8 -j RETURN
            -A ISTIO_OUTPUT_DNS -p tcp -m tcp --dport 53 -j REDIRECT --to-ports 15053
            -A ISTIO_OUTPUT_DNS -p udp -m udp --dport 53 -j REDIRECT --to-ports 15053
            COMMIT
        "#]],
    );
}

#[test]
fn ipv6_is_captured_where_it_is_wanted() {
    let both = Surroundings { v6: true, ..v4() };
    let rules =
        |dual: bool, around: &Surroundings| Wanted::of(&checked(|w| w.dual_stack = dual), around).0;
    assert!(rules(false, &both).v6.0.is_empty());
    assert!(!rules(true, &both).v6.0.is_empty());
    assert!(rules(true, &v4()).v6.0.is_empty());
}

#[test]
fn without_name_servers_dns_is_left_alone_and_that_is_said() {
    let around = Surroundings {
        name_servers: Vec::new(),
        ..v4()
    };
    let (wanted, warnings) = Wanted::of(&checked(|w| w.redirect_dns = true), &around);
    assert_eq!(warnings, [Warning::NoNameServer]);
    assert_eq!(wanted, Wanted::of(&checked(|_| ()), &around).0);
}

#[test]
fn what_is_not_given_has_istios_defaults() {
    let names = Names::parse("istio-proxy:x:4711:4711::/:/\n", "");
    let settings = Settings::check(&Written::default(), &names).unwrap();
    assert_eq!(
        (settings.proxy_uids, settings.proxy_gids),
        (vec![4711], vec![4711])
    );
    assert_eq!(
        (
            settings.outbound_port,
            settings.inbound_port,
            settings.tunnel_port
        ),
        (15_001, 15_006, 15_008)
    );
    assert_eq!((settings.tproxy_mark, settings.tproxy_table), (1337, 133));
    assert_eq!(settings.inbound, Inbound::Only(Vec::new()));
    assert_eq!(settings.outbound.cidrs, Cidrs::Only(Vec::new()));
    assert_eq!(settings.outbound.groups, OwnerGroups::AllBut(Vec::new()));
    let settings = Settings::check(&Written::default(), &Names::default()).unwrap();
    assert_eq!(settings.proxy_uids, [1337]);
}
