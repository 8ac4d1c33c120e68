//! What the ledger must do, run on SQLite and on a real PostgreSQL server.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

mod common;

use std::time::Duration;

use citadel::ledger::{Integrity, Ledger, Query, RecordError, RevokeError, TokenError};
use citadel_core::journal::{Entry, Event, Linked, Position, verify};
use citadel_core::revocation::{Caller, Target};
use common::{APP, NOW, at, issued, on_both, open, tamper};

on_both!(
    is_chained_and_found_by_what_it_says,
    takes_entries_of_several_replicas_at_once,
    finds_tampering,
    knows_which_certificates_are_in_use,
    refuses_what_another_key_signed,
    revokes_and_lifts_on_every_replica,
    resolves_a_node_and_a_span,
    takes_a_join_token_once,
    hands_over_the_lease,
    survives_being_closed,
    an_abandoned_entry_is_whole_or_absent,
);

fn serials(found: &[Linked]) -> Vec<&str> {
    found.iter().map(|one| one.entry.serial.as_str()).collect()
}

async fn verified(ledger: &Ledger) -> u64 {
    ledger.verify(Position::START).await.unwrap().sequence
}

mod check {
    use super::*;

    pub async fn is_chained_and_found_by_what_it_says(url: &str) {
        let ledger = open(url).await;
        assert_eq!(verified(&ledger).await, 0);
        for n in 1..=5 {
            let entry = Entry {
                node: if n % 2 == 0 { "n2" } else { "" }.into(),
                ..issued(&format!("a{n}"))
            };
            ledger.record_issued(entry, None).await.unwrap();
        }
        let other = Entry {
            spiffe_id: "spiffe://cluster.local/ns/default/sa/other".into(),
            detail: "it's \"odd\"; ü \0 \n".into(),
            ..issued("0B:01")
        };
        ledger.record_issued(other, None).await.unwrap();
        let query = |query: Query| {
            let ledger = ledger.clone();
            async move {
                let found = ledger.journal(&query).await.unwrap();
                serials(&found).join(" ")
            }
        };
        let all = Query::default();
        assert_eq!(query(all.clone()).await, "b01 a5 a4 a3 a2 a1");
        let page = Query {
            limit: 2,
            before: 5,
            ..all.clone()
        };
        assert_eq!(query(page).await, "a4 a3");
        let by_id = Query {
            spiffe_id: APP.into(),
            ..all.clone()
        };
        assert_eq!(query(by_id.clone()).await, "a5 a4 a3 a2 a1");
        let by_node = Query {
            node: "n2".into(),
            ..by_id
        };
        assert_eq!(query(by_node).await, "a4 a2");
        for spelling in ["b01", "0B01", "0b:01"] {
            let by_serial = Query {
                serial: spelling.into(),
                ..all.clone()
            };
            assert_eq!(query(by_serial).await, "b01", "{spelling}");
        }
        let nonsense = Query {
            serial: "no serial".into(),
            ..all
        };
        assert_eq!(query(nonsense).await, "");
        // Two pages verify as one.
        let first = ledger.journal_after(0, 4).await.unwrap();
        let rest = ledger.journal_after(4, 100).await.unwrap();
        let middle = verify(Position::START, &first).unwrap();
        let end = verify(middle, &rest).unwrap();
        assert_eq!(end, ledger.position().await.unwrap());
        assert_eq!(ledger.verify(middle).await.unwrap(), end);
        assert_eq!(rest.last().unwrap().entry.detail, "it's \"odd\"; ü    ");
        assert_eq!(ledger.live_certificates(at(NOW)).await.unwrap(), 6);
        assert_eq!(ledger.live_certificates(at(NOW + 3600)).await.unwrap(), 0);
    }

    pub async fn takes_entries_of_several_replicas_at_once(url: &str) {
        let replicas = [open(url).await, open(url).await, open(url).await];
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..300 {
            let ledger = replicas[n % replicas.len()].clone();
            tasks.spawn(async move {
                let entry = issued(&format!("{:x}", n + 1));
                ledger.record_issued(entry, None).await.unwrap();
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        assert_eq!(verified(&replicas[0]).await, 300);
        let found = replicas[1].journal_after(0, 1000).await.unwrap();
        let mut found: Vec<String> = found.into_iter().map(|one| one.entry.serial).collect();
        found.sort();
        found.dedup();
        assert_eq!(found.len(), 300);
    }

    pub async fn finds_tampering(url: &str) {
        let ledger = open(url).await;
        for n in 1..=9 {
            ledger
                .record_issued(issued(&format!("a{n}")), None)
                .await
                .unwrap();
        }
        let end = ledger.verify(Position::START).await.unwrap();
        for (harm, repair, broken) in [
            (
                "UPDATE citadel_journal SET spiffe_id = 'x' WHERE sequence = 4",
                Some(format!(
                    "UPDATE citadel_journal SET spiffe_id = '{APP}' WHERE sequence = 4"
                )),
                4,
            ),
            (
                "UPDATE citadel_journal SET event = 'nonsense' WHERE sequence = 2",
                Some("UPDATE citadel_journal SET event = 'issued' WHERE sequence = 2".into()),
                2,
            ),
            (
                "UPDATE citadel_journal SET sequence = 100 WHERE sequence = 9",
                Some("UPDATE citadel_journal SET sequence = 9 WHERE sequence = 100".into()),
                9,
            ),
            (
                "UPDATE citadel_head SET hash = '00' || substr(hash, 3)",
                None,
                9,
            ),
        ] {
            tamper(url, harm).await;
            let error = ledger.verify(Position::START).await.unwrap_err();
            assert!(
                error.to_string().contains(&format!("entry {broken}")),
                "{harm}: {error}"
            );
            if let Some(repair) = repair {
                tamper(url, &repair).await;
                assert_eq!(ledger.verify(Position::START).await.unwrap(), end);
            }
        }
        // The last ones cut off, and the head made to fit: only who remembers notices, and this process does.
        let eighth = ledger.journal_after(7, 1).await.unwrap()[0].hash;
        tamper(url, "DELETE FROM citadel_journal WHERE sequence = 9").await;
        tamper(
            url,
            &format!("UPDATE citadel_head SET sequence = 8, hash = '{eighth}'"),
        )
        .await;
        assert_eq!(verified(&ledger).await, 8);
        let error = ledger.verify(end).await.unwrap_err();
        assert!(error.to_string().contains("entry 9"), "{error}");
        ledger.record_issued(issued("ff"), None).await.unwrap();
        let error = ledger.verify(end).await.unwrap_err();
        assert!(
            error.to_string().contains("another entry before"),
            "{error}"
        );

        let stop = service_kit::Stop::new();
        let mut integrity = ledger.integrity();
        assert_eq!(*integrity.borrow(), Integrity::Unknown);
        tamper(
            url,
            "UPDATE citadel_journal SET at = at + 1 WHERE sequence = 1",
        )
        .await;
        let task = tokio::spawn({
            let (ledger, stop) = (ledger.clone(), stop.clone());
            async move { ledger.keep_verifying(stop).await }
        });
        integrity.changed().await.unwrap();
        assert!(matches!(&*integrity.borrow(), Integrity::Broken(broken) if broken.sequence == 1));
        stop.trigger();
        task.await.unwrap();
    }

    pub async fn knows_which_certificates_are_in_use(url: &str) {
        let ledger = open(url).await;
        for entry in [
            issued("a1"),
            // Another of the same identity, on a node.
            Entry {
                node: "n1".into(),
                ..issued("a2")
            },
            Entry {
                not_after: NOW + 10,
                ..issued("a3")
            },
        ] {
            ledger.record_issued(entry, None).await.unwrap();
        }
        let old = ledger.old_leaves("k", at(NOW)).await.unwrap();
        assert_eq!(old.count, 3);
        assert_eq!(old.holders, [APP.to_owned(), format!("{APP} on n1")]);
        assert_eq!(ledger.old_leaves("k", at(NOW + 10)).await.unwrap().count, 2);
        // Renewed with itself shown, under the same key and then under another.
        let renewed = Entry {
            replaces: "a1".into(),
            ..issued("b1")
        };
        ledger.record_issued(renewed, None).await.unwrap();
        assert_eq!(ledger.old_leaves("k", at(NOW + 10)).await.unwrap().count, 2);
        let renewed = Entry {
            replaces: "b1".into(),
            issuer: "k2".into(),
            ..issued("c1")
        };
        ledger.record_issued(renewed, None).await.unwrap();
        assert_eq!(ledger.old_leaves("k", at(NOW + 10)).await.unwrap().count, 1);
        let serial = "a2".to_owned();
        ledger
            .revoke(
                Target::Serial { serial, hold: true },
                "lost",
                "socket",
                at(NOW),
            )
            .await
            .unwrap();
        assert_eq!(ledger.old_leaves("k", at(NOW + 10)).await.unwrap().count, 0);
        assert_eq!(ledger.live_issuers(at(NOW)).await.unwrap(), ["k", "k2"]);
    }

    pub async fn refuses_what_another_key_signed(url: &str) {
        let ledger = open(url).await;
        tamper(url, "UPDATE citadel_head SET issuer = 'k2'").await;
        let refused = ledger.record_issued(issued("a1"), None).await.unwrap_err();
        assert!(matches!(refused, RecordError::Overtaken), "{refused:?}");
        ledger
            .record(Entry::new(NOW, Event::Refused))
            .await
            .unwrap();
        assert_eq!(verified(&ledger).await, 1);
    }

    pub async fn revokes_and_lifts_on_every_replica(url: &str) {
        let (a, b) = (open(url).await, open(url).await);
        a.record_issued(issued("a1"), None).await.unwrap();
        a.record_issued(issued("a2"), None).await.unwrap();
        let target = Target::SpiffeId(APP.into());
        let revoked = a.revoke(target, "stolen", "socket", at(NOW)).await.unwrap();
        assert_eq!((revoked.id, revoked.certificates.len()), (1, 2));
        let caller = Caller {
            spiffe_id: APP,
            ..Caller::default()
        };
        assert_eq!(a.is_revoked_for_renewal(caller), Some(1));
        // The other has not heard of it, and yet records nothing.
        assert_eq!(b.is_revoked_for_renewal(caller), None);
        let refused = b.record_issued(issued("a3"), None).await.unwrap_err();
        assert!(matches!(refused, RecordError::Revoked(1)), "{refused:?}");
        assert_eq!(b.is_revoked_for_renewal(caller), Some(1), "it knows now");
        // Nor when somebody revoked asks for somebody else.
        let for_other = Entry {
            spiffe_id: "spiffe://cluster.local/ns/default/sa/other".into(),
            ..issued("a3")
        };
        let refused = b.record_issued(for_other, None).await.unwrap_err();
        assert!(matches!(refused, RecordError::Revoked(1)), "{refused:?}");
        assert_eq!(b.in_force().1.lists(at(NOW))["k"].len(), 2);

        let lifted = b.lift(1, "found", "socket", at(NOW + 5)).await.unwrap();
        assert_eq!(lifted.lifted_at, NOW + 5);
        let again = b.lift(1, "found", "socket", at(NOW + 5)).await.unwrap_err();
        assert!(matches!(again, RevokeError::NotInForce(1)), "{again:?}");
        a.record_issued(issued("a3"), None).await.unwrap();
        assert_eq!(a.is_revoked_for_renewal(caller), None);

        let serial = "a1".to_owned();
        let target = Target::Serial {
            serial,
            hold: false,
        };
        let good = a.revoke(target, "stolen", "socket", at(NOW)).await.unwrap();
        let kept = a
            .lift(good.id, "found", "socket", at(NOW))
            .await
            .unwrap_err();
        assert!(matches!(kept, RevokeError::ForGood(2)), "{kept:?}");
        let renewal = Entry {
            replaces: "A1".into(),
            ..issued("a4")
        };
        let refused = b.record_issued(renewal, None).await.unwrap_err();
        assert!(matches!(refused, RecordError::Revoked(2)), "{refused:?}");

        let all = b.revocations(at(NOW)).await.unwrap();
        let shape: Vec<(u64, i64, usize)> = all
            .iter()
            .map(|one| (one.id, one.lifted_at, one.certificates.len()))
            .collect();
        assert_eq!(shape, [(2, 0, 1), (1, NOW + 5, 2)]);
        let events: Vec<&str> = a
            .journal_after(0, 100)
            .await
            .unwrap()
            .iter()
            .map(|one| one.entry.event.as_str())
            .collect();
        assert_eq!(
            events.join(" "),
            "issued issued revoked lifted issued revoked"
        );
        assert_eq!(verified(&a).await, 6);
    }

    pub async fn resolves_a_node_and_a_span(url: &str) {
        let ledger = open(url).await;
        for (serial, node, when) in [("a1", "n1", 0), ("a2", "n2", 5), ("a3", "n1", 10)] {
            let entry = Entry {
                node: node.into(),
                at: NOW + when,
                ..issued(serial)
            };
            ledger.record_issued(entry, None).await.unwrap();
        }
        let mut found = Vec::new();
        for target in [
            Target::Node("n1".into()),
            Target::Issued {
                from: NOW + 5,
                to: NOW + 10,
            },
            Target::Issued {
                from: NOW,
                to: NOW + 60,
            },
            Target::Node("n3".into()),
        ] {
            let revoked = ledger.revoke(target, "r", "socket", at(NOW)).await.unwrap();
            let serials: Vec<String> = revoked
                .certificates
                .into_iter()
                .map(|one| one.serial)
                .collect();
            found.push(serials.join(" "));
        }
        assert_eq!(found, ["a1 a3", "a2", "a1 a2 a3", ""]);
        let on_node = Caller {
            spiffe_id: "spiffe://cluster.local/ns/default/sa/new",
            node: "n3",
            serial: "",
        };
        assert_eq!(ledger.is_revoked_for_renewal(on_node), Some(4));
    }

    pub async fn takes_a_join_token_once(url: &str) {
        let (a, b) = (open(url).await, open(url).await);
        let ttl = time::Duration::seconds(600);
        let made = a
            .create_token(APP, "n1", ttl, "socket", at(NOW))
            .await
            .unwrap();
        assert!(!format!("{made:?}").contains(made.token.as_str()));
        let grant = b.redeem_token(&made.token, at(NOW)).await.unwrap();
        assert_eq!((grant.spiffe_id.as_str(), grant.node.as_str()), (APP, "n1"));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..20 {
            let ledger = if n % 2 == 0 { a.clone() } else { b.clone() };
            let token = made.token.clone();
            tasks.spawn(async move {
                let grant = ledger.redeem_token(&token, at(NOW)).await.ok()?;
                let entry = issued(&format!("a{n}"));
                Some(ledger.record_issued(entry, Some(grant.id)).await)
            });
        }
        let outcomes: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
        for refused in outcomes.into_iter().filter_map(Result::err) {
            assert!(matches!(refused, RecordError::TokenUsed), "{refused:?}");
        }
        // Used, expired, of another secret, or nothing like a token: all the same to whoever shows it.
        let fresh = a
            .create_token(APP, "", ttl, "socket", at(NOW))
            .await
            .unwrap();
        let wrong = format!("flotilla-join.{}.{}", fresh.id, "x".repeat(43));
        for (token, when) in [
            (made.token.as_str(), NOW),
            (fresh.token.as_str(), NOW + 600),
            (wrong.as_str(), NOW),
            ("flotilla-join..", NOW),
            ("", NOW),
        ] {
            let refused = b.redeem_token(token, at(when)).await.unwrap_err();
            assert!(
                matches!(refused, TokenError::Invalid),
                "{token}: {refused:?}"
            );
        }
        let late = b.record_issued(
            Entry {
                at: NOW + 600,
                ..issued("b1")
            },
            Some(fresh.id.clone()),
        );
        assert!(matches!(late.await, Err(RecordError::TokenUsed)));
        assert!(b.redeem_token(&fresh.token, at(NOW)).await.is_ok());
        let found = a.journal(&Query::default()).await.unwrap();
        let secret = fresh.token.rsplit_once('.').unwrap().1;
        assert!(found.iter().all(|one| !one.entry.detail.contains(secret)));
        assert_eq!(verified(&a).await, 3, "two made, one used");
    }

    pub async fn hands_over_the_lease(url: &str) {
        let (a, b) = (open(url).await, open(url).await);
        let long = Duration::from_secs(30);
        assert_eq!(a.leader().await.unwrap(), "");
        let first = a.lease("a/1", long).await.unwrap().unwrap();
        assert_eq!(b.lease("b/1", long).await.unwrap(), None);
        assert_eq!(b.leader().await.unwrap(), "a/1");
        a.release(&first).await.unwrap();
        let second = b.lease("b/1", long).await.unwrap().unwrap();
        assert!(second.epoch > first.epoch);
    }

    pub async fn survives_being_closed(url: &str) {
        let ledger = open(url).await;
        ledger.record_issued(issued("a1"), None).await.unwrap();
        ledger.close().await;
        assert!(ledger.record_issued(issued("a2"), None).await.is_err());
        let ledger = open(url).await;
        ledger.record_issued(issued("a3"), None).await.unwrap();
        assert_eq!(verified(&ledger).await, 2);
    }

    pub async fn an_abandoned_entry_is_whole_or_absent(url: &str) {
        let ledger = open(url).await;
        for n in 0..30u64 {
            let entry = issued(&format!("a{n}"));
            let work = ledger.record_issued(entry, None);
            let _ = tokio::time::timeout(Duration::from_micros(50 * n), work).await;
        }
        ledger.record_issued(issued("ff"), None).await.unwrap();
        let entries = verified(&ledger).await;
        assert!((1..=31).contains(&entries), "{entries}");
    }
}
