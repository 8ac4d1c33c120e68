//! What a store must do, run on SQLite and on a real PostgreSQL server.

#![allow(clippy::unwrap_used, reason = "a test that fails says where")]

use std::time::Duration;

use store::{
    Change, CommitError, CommitRequest, Store, StoreError, StoredKey, StoredObject, WRITER_LEASE,
};

// The file alone: the rest of the crate would make these tests wait for crates they do not need.
#[path = "../../testkit/src/postgres.rs"]
#[allow(dead_code)]
mod postgres;

/// One test per check on SQLite, each in a file of its own; one for all on PostgreSQL, each in a database of its own, as starting
/// a server takes longer than all checks.
macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $name() {
            let dir = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}", dir.path().join("new/galley.db").display());
            check::$name(&url, Store::open(&url).await.unwrap()).await;
        })*

        #[tokio::test]
        async fn all_of_it_on_postgres() {
            let server = postgres::Postgres::start();
            $(
                let url = server.database(stringify!($name));
                println!("{}", stringify!($name));
                let store = Store::open(&url).await.unwrap();
                check::$name(&url, store.clone()).await;
                store.close().await;
            )*
        }
    };
}

on_both!(
    starts_empty,
    keeps_every_revision,
    refuses_what_another_writer_overtook,
    refuses_change_sets_that_make_no_sense,
    orders_writers,
    takes_many_objects_and_any_text,
    leases_end_and_move_on,
    forgets_old_revisions_but_no_object,
    remembers_findings,
    survives_being_closed,
    an_abandoned_commit_is_whole_or_absent,
    does_not_touch_tables_of_a_newer_version,
);

fn object(name: &str, body: &str) -> StoredObject {
    StoredObject {
        key: key(name),
        body: body.to_owned(),
        // A hash with the highest bit set must survive.
        hash: u64::MAX - body.len() as u64,
        revision: 0,
    }
}

fn key(name: &str) -> StoredKey {
    StoredKey::new("VirtualService", "shop", name)
}

fn request(expect_head: u64, upserts: &[(&str, &str)], deletes: &[&str]) -> CommitRequest {
    CommitRequest {
        epoch: 1,
        expect_head,
        source: "file:///etc/mesh".into(),
        summary: format!("{} objects", upserts.len()),
        digest: format!("after {expect_head}"),
        upserts: upserts
            .iter()
            .map(|(name, body)| object(name, body))
            .collect(),
        deletes: deletes.iter().map(|name| key(name)).collect(),
    }
}

fn names(objects: &[StoredObject]) -> String {
    let names: Vec<String> = objects
        .iter()
        .map(|o| format!("{}={}@{}", o.key.name, o.body, o.revision))
        .collect();
    names.join(" ")
}

fn changes(changes: &[Change]) -> String {
    let one = |c: &Change| match &c.now {
        Some((body, _)) => format!("{}:{}={body}", c.revision, c.key.name),
        None => format!("{}:-{}", c.revision, c.key.name),
    };
    changes.iter().map(one).collect::<Vec<_>>().join(" ")
}

mod check {
    use super::*;

    pub async fn starts_empty(_: &str, store: Store) {
        assert_eq!(store.head().await.unwrap(), None);
        let loaded = store.load().await.unwrap();
        assert_eq!((loaded.revision, loaded.objects.len()), (0, 0));
        assert_eq!(store.changes_since(0).await.unwrap().changes, []);
        assert_eq!(store.history(10).await.unwrap(), []);
        assert!(matches!(
            store.load_at(1).await,
            Err(StoreError::NoRevision {
                asked: 1,
                floor: 0,
                head: 0
            })
        ));
        store.verify().await.unwrap();
    }

    pub async fn keeps_every_revision(_: &str, store: Store) {
        assert_eq!(
            store
                .commit(&request(0, &[("b", "1"), ("a", "1")], &[]))
                .await
                .unwrap(),
            1
        );
        assert_eq!(
            store
                .commit(&request(1, &[("b", "22"), ("c", "1")], &["a", "never was"]))
                .await
                .unwrap(),
            2
        );
        assert_eq!(
            store.commit(&request(2, &[("a", "3")], &[])).await.unwrap(),
            3
        );

        let loaded = store.load().await.unwrap();
        assert_eq!(loaded.revision, 3);
        assert_eq!(names(&loaded.objects), "a=3@3 b=22@2 c=1@2");
        assert_eq!(loaded.objects[1].hash, u64::MAX - 2);
        assert_eq!(
            names(&store.load_at(1).await.unwrap().objects),
            "a=1@1 b=1@1"
        );
        assert_eq!(
            names(&store.load_at(2).await.unwrap().objects),
            "b=22@2 c=1@2"
        );
        assert_eq!(names(&store.load_at(0).await.unwrap().objects), "");

        let since = store.changes_since(1).await.unwrap();
        assert_eq!(since.head, 3);
        assert_eq!(changes(&since.changes), "2:-a 2:b=22 2:c=1 3:a=3");
        assert_eq!(
            changes(&store.changes_of(2).await.unwrap()),
            "2:-a 2:b=22 2:c=1"
        );
        assert!(matches!(
            store.changes_since(4).await,
            Err(StoreError::NoRevision { head: 3, .. })
        ));

        let head = store.head().await.unwrap().unwrap();
        assert_eq!(
            (head.n, head.digest.as_str(), head.source.as_str()),
            (3, "after 2", "file:///etc/mesh")
        );
        // 2020 to 2100: the clock's unit is right.
        assert!((1_577_000_000_000_000..4_102_000_000_000_000).contains(&head.committed_us));
        assert_eq!(
            store.revision(1).await.unwrap().unwrap().summary,
            "2 objects"
        );
        assert_eq!(store.revision(9).await.unwrap(), None);
        let history: Vec<u64> = store
            .history(2)
            .await
            .unwrap()
            .iter()
            .map(|r| r.n)
            .collect();
        assert_eq!(history, [3, 2]);
        store.verify().await.unwrap();
    }

    pub async fn refuses_what_another_writer_overtook(_: &str, store: Store) {
        let ours = store
            .lease_acquire(WRITER_LEASE, "one", Duration::ZERO)
            .await
            .unwrap()
            .unwrap();
        let mut first = request(0, &[("a", "1")], &[]);
        first.epoch = ours.epoch;
        assert_eq!(store.commit(&first).await.unwrap(), 1);
        assert!(matches!(
            store.commit(&first).await,
            Err(CommitError::Conflict {
                expected: 0,
                head: 1
            })
        ));

        // Fenced as soon as somebody else has the lease, not only once it wrote.
        let theirs = wait_for_lease(&store, "two").await;
        let mut late = request(1, &[("a", "late")], &[]);
        late.epoch = ours.epoch;
        assert!(matches!(
            store.commit(&late).await,
            Err(CommitError::Fenced {
                ours: 1,
                current: 2
            })
        ));
        let mut new = request(1, &[("a", "2")], &[]);
        new.epoch = theirs;
        assert_eq!(store.commit(&new).await.unwrap(), 2);
        late.expect_head = 2;
        assert!(matches!(
            store.commit(&late).await,
            Err(CommitError::Fenced {
                ours: 1,
                current: 2
            })
        ));
        assert_eq!(names(&store.load().await.unwrap().objects), "a=2@2");
        store.verify().await.unwrap();
    }

    async fn wait_for_lease(store: &Store, holder: &str) -> u64 {
        loop {
            // The database's clock has to move on by its own resolution.
            if let Some(lease) = store
                .lease_acquire(WRITER_LEASE, holder, Duration::from_secs(60))
                .await
                .unwrap()
            {
                return lease.epoch;
            }
        }
    }

    pub async fn refuses_change_sets_that_make_no_sense(_: &str, store: Store) {
        for (bad, want) in [
            (
                request(0, &[("a", "1"), ("a", "2")], &[]),
                "VirtualService/shop/a is changed twice",
            ),
            (
                request(0, &[("a", "1")], &["a"]),
                "VirtualService/shop/a is changed twice",
            ),
            (
                request(0, &[("a", "\0")], &[]),
                "\"\\0\".. contains a NUL character",
            ),
            (
                request(0, &[("a", &"x".repeat(store::MAX_BODY + 1))], &[]),
                "VirtualService/shop/a has 4194305 bytes, the most is 4194304",
            ),
        ] {
            let error = store.commit(&bad).await.unwrap_err();
            assert!(matches!(error, CommitError::Invalid(_)));
            assert_eq!(
                error.to_string(),
                format!("the change set cannot be stored: {want}")
            );
        }
        assert_eq!(store.head().await.unwrap(), None);
    }

    pub async fn orders_writers(url: &str, _store: Store) {
        let mut writers = tokio::task::JoinSet::new();
        for writer in 0..4 {
            let store = Store::open(url).await.unwrap();
            writers.spawn(async move {
                let mut done = 0;
                while done < 10 {
                    let head = store.load().await.unwrap().revision;
                    let name = format!("w{writer}-{done}");
                    match store.commit(&request(head, &[(&name, "1")], &[])).await {
                        Ok(_) => done += 1,
                        Err(CommitError::Conflict { .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                store.close().await;
            });
        }
        while let Some(ended) = writers.join_next().await {
            ended.unwrap();
        }
        let store = Store::open(url).await.unwrap();
        let loaded = store.load().await.unwrap();
        assert_eq!((loaded.revision, loaded.objects.len()), (40, 40));
        store.verify().await.unwrap();
        store.close().await;
    }

    pub async fn takes_many_objects_and_any_text(_: &str, store: Store) {
        let names_: Vec<String> = (0..1_203).map(|n| format!("object-{n:04}")).collect();
        let all: Vec<(&str, &str)> = names_.iter().map(|name| (name.as_str(), "{}")).collect();
        store.commit(&request(0, &all, &[])).await.unwrap();
        assert_eq!(store.load().await.unwrap().objects.len(), 1_203);
        let gone: Vec<&str> = names_.iter().map(String::as_str).skip(1).collect();
        store.commit(&request(1, &[], &gone)).await.unwrap();
        assert_eq!(
            names(&store.load().await.unwrap().objects),
            "object-0000={}@1"
        );
        assert_eq!(store.changes_of(2).await.unwrap().len(), 1_202);
        let odd = "'; DROP TABLE object; -- \u{1F680}\n\\u0000 $1 {}";
        store
            .commit(&request(2, &[(odd, odd)], &["object-0000"]))
            .await
            .unwrap();
        let loaded = store.load().await.unwrap();
        assert_eq!(
            (
                loaded.objects[0].key.name.as_str(),
                loaded.objects[0].body.as_str()
            ),
            (odd, odd)
        );
        // Upper case before lower case in every database: bytes, not a language's order.
        store
            .commit(&request(
                3,
                &[("b", "1"), ("A", "1"), ("a", "1"), ("B", "1")],
                &[odd],
            ))
            .await
            .unwrap();
        assert_eq!(
            names(&store.load().await.unwrap().objects),
            "A=1@4 B=1@4 a=1@4 b=1@4"
        );
        store.verify().await.unwrap();
    }

    pub async fn leases_end_and_move_on(_: &str, store: Store) {
        let minute = Duration::from_secs(60);
        let first = store
            .lease_acquire("x", "one", minute)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(first.epoch, 1);
        assert_eq!(store.lease_acquire("x", "two", minute).await.unwrap(), None);
        assert_eq!(
            store
                .lease_acquire("x", "one", minute)
                .await
                .unwrap()
                .unwrap()
                .epoch,
            1
        );
        assert_eq!(
            store
                .lease_acquire("y", "two", minute)
                .await
                .unwrap()
                .unwrap()
                .epoch,
            1
        );
        store.lease_release(&first).await.unwrap();
        let second = loop {
            if let Some(lease) = store.lease_acquire("x", "two", minute).await.unwrap() {
                break lease;
            }
        };
        assert_eq!(second.epoch, 2);
        // Releasing what is not ours does nothing.
        store.lease_release(&first).await.unwrap();
        assert_eq!(store.lease_acquire("x", "one", minute).await.unwrap(), None);
        assert!(
            store
                .lease_acquire("z", "one", Duration::MAX)
                .await
                .unwrap()
                .is_some()
        );
    }

    pub async fn forgets_old_revisions_but_no_object(_: &str, store: Store) {
        store
            .commit(&request(0, &[("old", "1"), ("a", "1")], &[]))
            .await
            .unwrap();
        store
            .commit(&request(1, &[("a", "2"), ("brief", "1")], &[]))
            .await
            .unwrap();
        store
            .commit(&request(2, &[("a", "3")], &["brief"]))
            .await
            .unwrap();
        store
            .commit(&request(3, &[("a", "4")], &["old"]))
            .await
            .unwrap();
        store.commit(&request(4, &[("a", "5")], &[])).await.unwrap();
        let (at3, at4) = (
            store.load_at(3).await.unwrap(),
            store.load_at(4).await.unwrap(),
        );

        assert_eq!(store.prune(2).await.unwrap(), 3);
        assert_eq!(store.prune(2).await.unwrap(), 3);
        assert_eq!(store.prune(100).await.unwrap(), 3);
        assert_eq!(store.load_at(3).await.unwrap(), at3);
        assert_eq!(store.load_at(4).await.unwrap(), at4);
        assert_eq!(
            changes(&store.changes_since(3).await.unwrap().changes),
            "4:a=4 4:-old 5:a=5"
        );
        assert!(matches!(
            store.load_at(2).await,
            Err(StoreError::NoRevision {
                asked: 2,
                floor: 3,
                head: 5
            })
        ));
        assert!(matches!(
            store.changes_since(2).await,
            Err(StoreError::NoRevision { .. })
        ));
        assert!(matches!(
            store.changes_of(3).await,
            Err(StoreError::NoRevision { .. })
        ));
        assert_eq!(store.history(10).await.unwrap().len(), 3);
        assert_eq!(store.revision(2).await.unwrap(), None);
        store.verify().await.unwrap();

        assert_eq!(store.prune(0).await.unwrap(), 5);
        assert_eq!(names(&store.load().await.unwrap().objects), "a=5@5");
        assert_eq!(store.head().await.unwrap().unwrap().n, 5);
        store.commit(&request(5, &[("a", "6")], &[])).await.unwrap();
        store.verify().await.unwrap();
    }

    pub async fn remembers_findings(_: &str, store: Store) {
        store.save_findings("file:///b", Some("[1]")).await.unwrap();
        store.save_findings("file:///a", Some("[]")).await.unwrap();
        store.save_findings("file:///b", Some("[2]")).await.unwrap();
        store.save_findings("file:///c", None).await.unwrap();
        let both = [
            ("file:///a".to_owned(), "[]".to_owned()),
            ("file:///b".to_owned(), "[2]".to_owned()),
        ];
        assert_eq!(store.load_findings().await.unwrap(), both);
        store.save_findings("file:///b", None).await.unwrap();
        assert_eq!(store.load_findings().await.unwrap(), both[..1]);
    }

    pub async fn survives_being_closed(url: &str, store: Store) {
        store.commit(&request(0, &[("a", "1")], &[])).await.unwrap();
        store.close().await;
        assert!(matches!(
            store.head().await,
            Err(StoreError::Unavailable(_))
        ));
        let again = Store::open(url).await.unwrap();
        assert_eq!(names(&again.load().await.unwrap().objects), "a=1@1");
        again.close().await;
    }

    /// The caller gives up at every possible point of a commit.
    pub async fn an_abandoned_commit_is_whole_or_absent(_: &str, store: Store) {
        let names_: Vec<String> = (0..100).map(|n| format!("object-{n}")).collect();
        for round in 0..60u64 {
            let head = store.load().await.unwrap().revision;
            let body = head.to_string();
            let all: Vec<(&str, &str)> = names_
                .iter()
                .map(|name| (name.as_str(), body.as_str()))
                .collect();
            let patience = Duration::from_micros(round * 50);
            let _ = tokio::time::timeout(patience, store.commit(&request(head, &all, &[]))).await;
            let loaded = store.load().await.unwrap();
            assert!(loaded.revision == head || loaded.revision == head + 1);
            let bodies: std::collections::BTreeSet<&str> =
                loaded.objects.iter().map(|o| o.body.as_str()).collect();
            assert!(bodies.len() <= 1, "half a revision: {bodies:?}");
        }
        store.verify().await.unwrap();
    }

    pub async fn does_not_touch_tables_of_a_newer_version(url: &str, store: Store) {
        store.close().await;
        let newer = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
                     SELECT 1000000, 'future', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1";
        if url.starts_with("sqlite") {
            use sqlx::ConnectOptions as _;
            let path = url.strip_prefix("sqlite://").unwrap();
            let mut db = sqlx::sqlite::SqliteConnectOptions::new()
                .filename(path)
                .connect()
                .await
                .unwrap();
            sqlx::query(newer).execute(&mut db).await.unwrap();
        } else {
            use sqlx::Connection as _;
            let mut db = sqlx::PgConnection::connect(url).await.unwrap();
            sqlx::query(newer).execute(&mut db).await.unwrap();
        }
        assert!(matches!(Store::open(url).await, Err(StoreError::Newer(_))));
    }
}

#[tokio::test]
async fn postgres_may_go_away_and_come_back_or_refuse() {
    let mut server = postgres::Postgres::start();
    let url = server.database("galley");
    let store = Store::open(&url).await.unwrap();
    store.commit(&request(0, &[("a", "1")], &[])).await.unwrap();

    server.kill();
    let error = store
        .commit(&request(1, &[("a", "2")], &[]))
        .await
        .unwrap_err();
    assert!(
        matches!(&error, CommitError::Store(StoreError::Unavailable(_))),
        "{error:?}"
    );
    assert!(store.head().await.unwrap_err().is_transient());
    server.restart();
    assert_eq!(
        store.commit(&request(1, &[("a", "2")], &[])).await.unwrap(),
        2
    );
    store.verify().await.unwrap();

    // A standby says the same.
    let standby = format!("{url}?options=-c%20default_transaction_read_only%3Don");
    assert!(matches!(
        Store::open(&standby).await,
        Err(StoreError::ReadOnly(_))
    ));
    let missing = url.replace("/galley", "/nothing");
    assert!(matches!(
        Store::open(&missing).await,
        Err(StoreError::Denied(_))
    ));
}
