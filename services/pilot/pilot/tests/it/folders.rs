//! Bad files beside good ones, and folders that go away.

use serde_json::Value;

use crate::ads::{Ads, CDS};
use crate::rig::{Folder, Pilot, entry, json};

const A: &str = "outbound|80||a.example.com";
const B: &str = "outbound|80||b.example.com";

/// Codes of findings about a file.
async fn codes(pilot: &Pilot, file: &str) -> Vec<String> {
    let findings = json(pilot.http, "/v1/findings").await;
    let about = |finding: &&Value| {
        finding["file"]
            .as_str()
            .is_some_and(|path| path.ends_with(file))
    };
    let findings = findings.as_array().unwrap().iter().filter(about);
    findings
        .map(|finding| finding["code"].as_str().unwrap().to_owned())
        .collect()
}

/// A bomb of aliases, an object of 5 MB and a text that is no YAML are refused with a finding each, and the good file counts.
#[tokio::test(flavor = "multi_thread")]
async fn bad_files_do_not_stop_good_ones() {
    let folder = Folder::of(&[("a", 80)]);
    let mut bomb = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
    for (from, to) in "abcdefgh".chars().zip("bcdefghi".chars()) {
        bomb += &format!("{to}: &{to} [{}]\n", vec![format!("*{from}"); 9].join(","));
    }
    folder.write("bomb", &bomb);
    let big = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: big, namespace: default}}\ndata: {{text: \"{}\"}}\n",
        "x".repeat(5_000_000)
    );
    folder.write("big", &big);
    folder.write("broken", "kind: [never closed\n");
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    assert!(ads.settle().await.cds.has(A));
    assert_eq!(codes(&pilot, "bomb.yaml").await, ["too-large"]);
    assert_eq!(codes(&pilot, "big.yaml").await, ["too-large"]);
    assert_eq!(codes(&pilot, "broken.yaml").await, ["syntax"]);
    assert!(pilot.memory() < 400 << 20, "{}", pilot.memory());

    // And it goes on.
    pilot
        .after(|| folder.write("b", &entry("b", 80, "10.1.0.2")))
        .await;
    assert!(ads.take(CDS).await.has(B));
    folder.remove("bomb");
    pilot
        .until("the finding is gone", async || {
            codes(&pilot, "bomb.yaml").await.is_empty()
        })
        .await;
}

/// A file that breaks keeps what it said last, also if nothing in it can be told any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_breaks_keeps_its_last_good_objects() {
    let folder = Folder::of(&[("a", 80), ("b", 80)]);
    let pilot = Pilot::of(&folder).await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    ads.settle().await;
    for broken in [
        "hosts: [",
        &entry("a", 80, "10.1.0.1").replace("STATIC", "STATICK"),
    ] {
        folder.write("a", broken);
        pilot
            .until("the finding is there", async || {
                !codes(&pilot, "a.yaml").await.is_empty()
            })
            .await;
        ads.nothing().await;
        folder.write("a", &entry("a", 80, "10.1.0.1"));
        pilot
            .until("the finding is gone", async || {
                codes(&pilot, "a.yaml").await.is_empty()
            })
            .await;
        ads.nothing().await;
    }
    assert_eq!(pilot.revision().await, 1);
}

/// A folder that vanishes is unknown, not empty: all stays as it was, somebody is told, and it may come back with changes.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_vanishes_changes_nothing() {
    let home = tempfile::tempdir().unwrap();
    let (dir, away) = (home.path().join("config"), home.path().join("away"));
    let folder = Folder::of(&[("a", 80), ("b", 80)]);
    std::fs::rename(folder.path(), &dir).unwrap();
    let pilot = Pilot::start(&["--config-dir", dir.to_str().unwrap()]).await;
    pilot.ready().await;
    let mut ads = Ads::delta(&pilot, "p.default").await;
    assert!(ads.settle().await.cds.has(A));
    std::fs::rename(&dir, &away).unwrap();
    pilot
        .until("the loss is told", async || {
            codes(&pilot, "config").await == ["unreadable"]
        })
        .await;
    ads.nothing().await;
    assert_eq!(pilot.revision().await, 1);
    // Who connects now gets what there was.
    assert!(
        Ads::sotw(&pilot, "q.default")
            .await
            .settle()
            .await
            .cds
            .has(A)
    );

    std::fs::remove_file(away.join("b.yaml")).unwrap();
    pilot.after(|| std::fs::rename(&away, &dir).unwrap()).await;
    assert_eq!(ads.take(CDS).await.removed, [B]);
    assert_eq!(codes(&pilot, "config").await, Vec::<String>::new());
}

/// Of an object defined twice the first counts, and the second is told so.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_definition_is_told() {
    let folder = Folder::of(&[("a", 80)]);
    folder.write("b", &entry("a", 81, "10.1.0.1"));
    let pilot = Pilot::of(&folder).await;
    let all = Ads::delta(&pilot, "p.default").await.settle().await;
    assert!(all.cds.has(A) && !all.cds.has("outbound|81||a.example.com"));
    assert_eq!(codes(&pilot, "b.yaml").await, ["duplicate-object"]);
}

/// Everything that this version leaves out answers the object that uses it.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_acted_on_is_told() {
    let folder = Folder::of(&[("a", 80)]);
    let policies = [
        ("networking.istio.io/v1alpha3", "EnvoyFilter", "{}"),
        ("telemetry.istio.io/v1", "Telemetry", "{}"),
        ("extensions.istio.io/v1alpha1", "WasmPlugin", "{}"),
        ("gateway.networking.k8s.io/v1", "HTTPRoute", "{}"),
    ];
    for (version, kind, spec) in policies {
        let text = format!(
            "apiVersion: {version}\nkind: {kind}\nmetadata: {{name: x, namespace: default}}\nspec: {spec}\n"
        );
        folder.write(kind, &text);
    }
    let pilot = Pilot::of(&folder).await;
    for (_, kind, _) in policies {
        let codes = codes(&pilot, &format!("{kind}.yaml")).await;
        assert!(
            codes.iter().any(|code| code == "not-supported"),
            "{kind}: {codes:?}"
        );
    }
}
