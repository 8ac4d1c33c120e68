use super::*;

const NOW: i64 = 1_000_000;

fn at(seconds: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(seconds).unwrap()
}

fn listed(serial: &str, issuer: &str, not_after: i64) -> Listed {
    Listed {
        serial: serial.into(),
        issuer: issuer.into(),
        not_after,
    }
}

fn revocation(id: u64, target: Target, certificates: &[Listed]) -> Revocation {
    Revocation {
        id,
        target,
        reason: "stolen".into(),
        requester: "socket".into(),
        at: NOW + i64::try_from(id).unwrap(),
        lifted_at: 0,
        certificates: certificates.to_vec(),
    }
}

const APP: &str = "spiffe://cluster.local/ns/default/sa/app";

#[test]
fn an_identity_is_denied_and_gets_nothing_until_it_is_lifted() {
    let mut all = [revocation(
        1,
        Target::SpiffeId(APP.into()),
        &[listed("a1", "k", NOW + 60)],
    )];
    let caller = Caller {
        spiffe_id: APP,
        ..Caller::default()
    };
    let now = InForce::new(&all);
    assert_eq!(now.refuses(caller), Some(1));
    assert_eq!(now.denied(), [APP]);
    assert_eq!(now.lists(at(NOW))["k"][0].serial, "a1");
    all[0].lifted_at = NOW + 5;
    let now = InForce::new(&all);
    assert_eq!(now.refuses(caller), None);
    assert!(now.is_empty() && now.denied().is_empty() && now.lists(at(NOW)).is_empty());
}

#[test]
fn a_certificate_on_the_list_renews_nothing() {
    let now = InForce::new(&[revocation(
        1,
        Target::Issued { from: 0, to: NOW },
        &[listed("a1", "k", NOW + 60)],
    )]);
    let caller = |serial| Caller {
        spiffe_id: APP,
        serial,
        ..Caller::default()
    };
    assert_eq!(now.refuses(caller("a1")), Some(1));
    assert_eq!(now.refuses(caller("a2")), None);
    assert_eq!(now.refuses(caller("")), None, "another proof was shown");
    assert!(now.denied().is_empty());
}

#[test]
fn a_serial_number_that_the_journal_does_not_know_is_refused_all_the_same() {
    let serial = "ff".to_owned();
    let now = InForce::new(&[revocation(
        1,
        Target::Serial {
            serial,
            hold: false,
        },
        &[],
    )]);
    let caller = Caller {
        serial: "ff",
        ..Caller::default()
    };
    assert_eq!(now.refuses(caller), Some(1));
    assert!(now.lists(at(NOW)).is_empty());
}

#[test]
fn a_node_gets_nothing() {
    let now = InForce::new(&[revocation(3, Target::Node("n1".into()), &[])]);
    let on = |node| Caller {
        spiffe_id: APP,
        node,
        ..Caller::default()
    };
    assert_eq!(now.refuses(on("n1")), Some(3));
    assert_eq!(now.refuses(on("n2")), None);
    assert_eq!(now.refuses(on("")), None);
}

#[test]
fn expired_certificates_leave_the_list() {
    let now = InForce::new(&[revocation(
        1,
        Target::Node("n1".into()),
        &[listed("a1", "k", NOW), listed("a2", "k", NOW + 60)],
    )]);
    let serials = |at: OffsetDateTime| -> Vec<String> {
        let lists = now.lists(at);
        let lines = lists.values().flatten();
        lines.map(|line| line.serial.clone()).collect()
    };
    assert_eq!(serials(at(NOW)), ["a1", "a2"]);
    assert_eq!(serials(at(NOW + 1)), ["a2"]);
    assert!(now.lists(at(NOW + 61)).is_empty());
}

#[test]
fn of_two_revocations_the_final_one_decides() {
    let certificate = [listed("a1", "k", NOW + 60)];
    let serial = "a1".to_owned();
    let all = [
        revocation(1, Target::Node("n1".into()), &certificate),
        revocation(
            2,
            Target::Serial {
                serial,
                hold: false,
            },
            &certificate,
        ),
    ];
    let line = InForce::new(&all).lists(at(NOW))["k"][0].clone();
    assert_eq!((line.at, line.hold), (NOW + 1, false));
    assert_eq!(InForce::new(&all).len(), 1);
}

#[test]
fn what_makes_no_sense_is_refused() {
    let domain: TrustDomain = "cluster.local".parse().unwrap();
    let check = |target, reason: &str| check(target, reason, &domain, at(NOW));
    let id = |id: &str| Target::SpiffeId(id.into());
    let serial = |serial: &str| Target::Serial {
        serial: serial.into(),
        hold: false,
    };
    assert_eq!(check(id(APP), " "), Err(Invalid::Reason));
    assert_eq!(check(id(APP), &"x".repeat(2000)), Err(Invalid::Reason));
    for wrong in [
        "",
        "app",
        "spiffe://cluster.local",
        "spiffe://cluster.local/x",
    ] {
        assert!(
            matches!(check(id(wrong), "r"), Err(Invalid::SpiffeId(_))),
            "{wrong}"
        );
    }
    assert_eq!(
        check(id("spiffe://CLUSTER.local/ns/default/sa/app"), "r"),
        Ok(id(APP)),
        "as certificates spell it"
    );
    for wrong in ["", "0", "xyz", &"a".repeat(41)] {
        assert_eq!(check(serial(wrong), "r"), Err(Invalid::Serial), "{wrong}");
    }
    assert_eq!(check(serial("0A:3f"), "r"), Ok(serial("a3f")));
    assert_eq!(check(Target::Node(String::new()), "r"), Err(Invalid::Node));
    let span = |from, to| Target::Issued { from, to };
    assert_eq!(check(span(5, 5), "r"), Err(Invalid::Span));
    assert_eq!(check(span(NOW + 1, NOW + 2), "r"), Err(Invalid::Span));
    assert!(check(span(0, NOW * 2), "r").is_ok());
}

#[test]
fn targets_mean_what_they_say() {
    let certificate = Certificate {
        serial: "a1".into(),
        spiffe_id: APP.into(),
        node: "n1".into(),
        issuer: "k".into(),
        at: 100,
        not_after: 200,
    };
    let serial = |serial: &str| Target::Serial {
        serial: serial.into(),
        hold: true,
    };
    for (target, means) in [
        (Target::SpiffeId(APP.into()), true),
        (Target::SpiffeId(format!("{APP}2")), false),
        (serial("a1"), true),
        (serial("a"), false),
        (Target::Node("n1".into()), true),
        (Target::Node("n".into()), false),
        (Target::Issued { from: 100, to: 101 }, true),
        (Target::Issued { from: 0, to: 100 }, false),
    ] {
        assert_eq!(target.means(&certificate), means, "{target:?}");
    }
}
