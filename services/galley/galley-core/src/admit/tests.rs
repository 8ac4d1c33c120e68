use expect_test::{Expect, expect};
use mesh_config::Body;
use mesh_config::resource::platform::Secret;

use super::*;
use crate::testing::{object, of_kind};

/// Files are written `FILE: name=text name=text !refused ?`; `?` is a document that cannot be identified, `FILE: gone` a file or folder that
/// cannot be read.
struct Mesh {
    sources: Vec<Arc<str>>,
    world: World,
}

#[derive(Default)]
struct File {
    place: Place,
    objects: Vec<Arc<Object>>,
    refused: Vec<Key>,
    unidentified: bool,
}

fn key(name: &str) -> Key {
    Key::new(Kind::ConfigMap, "shop", name)
}

impl Mesh {
    fn new(files: &[&str]) -> Mesh {
        let mut mesh = Mesh {
            sources: vec!["file:///a".into(), "file:///b".into()],
            world: World::default(),
        };
        mesh.scan(files);
        mesh
    }

    fn admit(&self, files: &[&str]) -> Admission {
        let (mut lost, mut scanned) = (Vec::new(), Vec::new());
        for line in files {
            let (path, words) = line.split_once(':').unwrap();
            let source: Arc<str> = format!("file://{}", &path[..2]).into();
            if words.trim() == "gone" {
                let path = path.to_owned();
                lost.push(Lost { source, path });
                continue;
            }
            let mut file = File {
                place: Place {
                    source,
                    file: path.into(),
                },
                ..File::default()
            };
            for word in words.split_whitespace() {
                match word.split_once('=') {
                    Some((name, says)) => file.objects.push(object(name, says)),
                    None if word == "?" => file.unidentified = true,
                    None => file.refused.push(key(word.trim_start_matches('!'))),
                }
            }
            scanned.push(file);
        }
        let files = scanned
            .iter()
            .map(|file| Scanned {
                place: file.place.clone(),
                objects: &file.objects,
                refused: &file.refused,
                unidentified: file.unidentified,
            })
            .collect();
        let sources = Sources {
            sources: &self.sources,
            files,
            lost,
        };
        admit(&sources, &self.world)
    }

    /// Admits and takes over; what changed and what was found.
    fn scan(&mut self, files: &[&str]) -> String {
        let admission = self.admit(files);
        let mut out = format!("{}\n", admission.summary(&self.world));
        for (key, change) in &admission.changes {
            assert_eq!(change.is_some(), admission.rows.contains_key(key));
        }
        for finding in &admission.findings {
            out += &format!("{finding}\n");
        }
        let digest = self.world.digest_after(&admission.changes);
        self.world.apply(admission.changes);
        assert_eq!(self.world.digest(), digest);
        for (key, held) in self.world.objects() {
            let Body::ConfigMap(map) = &held.object.body else {
                panic!("{key}")
            };
            out += &format!("{}={} in {}\n", key.name, map.data["says"], held.place.file);
        }
        out
    }
}

#[track_caller]
fn check(before: &[&str], now: &[&str], want: Expect) {
    want.assert_eq(&Mesh::new(before).scan(now));
}

#[test]
fn a_change_set_is_what_differs() {
    check(
        &["/a/x.yaml: one=1 two=1", "/a/y.yaml: three=1"],
        &["/a/x.yaml: one=1 two=2", "/a/z.yaml: four=1"],
        expect![[r#"
            1 new, 1 changed, 1 gone
            four=1 in /a/z.yaml
            one=1 in /a/x.yaml
            two=2 in /a/x.yaml
        "#]],
    );
}

#[test]
fn the_same_again_is_no_change() {
    let files = ["/a/x.yaml: one=1 two=1", "/b/y.yaml: three=1"];
    let mesh = Mesh::new(&files);
    assert!(mesh.admit(&files).changes.is_empty());
}

#[test]
fn of_an_object_defined_twice_the_first_counts() {
    check(
        &[],
        &["/a/x.yaml: one=1 one=2", "/b/y.yaml: one=3 two=1"],
        expect![[r#"
            2 new
            /a/x.yaml: ConfigMap shop/one: ConfigMap shop/one is defined in /a/x.yaml already, and that one is in force; remove one of them [duplicate-object]
            /b/y.yaml: ConfigMap shop/one: ConfigMap shop/one is defined in /a/x.yaml already, and that one is in force; remove one of them [duplicate-object]
            one=1 in /a/x.yaml
            two=1 in /b/y.yaml
        "#]],
    );
}

#[test]
fn the_second_definition_takes_over_when_the_first_goes() {
    check(
        &["/a/x.yaml: one=1", "/b/y.yaml: one=3"],
        &["/b/y.yaml: one=3"],
        expect![[r#"
            1 changed
            one=3 in /b/y.yaml
        "#]],
    );
}

#[test]
fn a_refused_object_keeps_its_last_good_version_and_the_rest_goes_on() {
    check(
        &["/a/x.yaml: one=1 two=1"],
        &["/a/x.yaml: !one two=2 !never"],
        expect![[r#"
            1 changed
            one=1 in /a/x.yaml
            two=2 in /a/x.yaml
        "#]],
    );
}

#[test]
fn a_refused_definition_in_front_does_not_hide_a_good_one_behind() {
    check(
        &["/b/y.yaml: one=1"],
        &["/a/x.yaml: !one", "/b/y.yaml: one=2"],
        expect![[r#"
            1 changed
            one=2 in /b/y.yaml
        "#]],
    );
}

#[test]
fn a_refused_definition_in_force_is_not_replaced_by_the_one_behind() {
    check(
        &["/a/x.yaml: one=1", "/b/y.yaml: one=2"],
        &["/a/x.yaml: !one", "/b/y.yaml: one=3"],
        expect![[r#"
            no objects
            /b/y.yaml: ConfigMap shop/one: ConfigMap shop/one is defined in /a/x.yaml already, and that one is in force; remove one of them [duplicate-object]
            one=1 in /a/x.yaml
        "#]],
    );
}

#[test]
fn a_refused_object_goes_with_its_file() {
    let mut mesh = Mesh::new(&["/a/x.yaml: one=1", "/b/y.yaml: one=2"]);
    mesh.scan(&["/a/x.yaml: !one", "/b/y.yaml: one=2"]);
    expect![[r#"
        1 changed
        one=2 in /b/y.yaml
    "#]]
    .assert_eq(&mesh.scan(&["/b/y.yaml: one=2"]));
    mesh.scan(&["/b/y.yaml: !one"]);
    expect![[r#"
        1 gone
    "#]]
    .assert_eq(&mesh.scan(&[]));
}

#[test]
fn an_object_moved_between_two_files_that_both_change_is_there_throughout() {
    check(
        &["/a/x.yaml: one=1 two=1", "/a/y.yaml: three=1"],
        &["/a/x.yaml: two=2", "/a/y.yaml: three=2 one=1"],
        expect![[r#"
            2 changed, 1 moved to another file
            one=1 in /a/y.yaml
            three=2 in /a/y.yaml
            two=2 in /a/x.yaml
        "#]],
    );
}

#[test]
fn an_object_moved_and_broken_at_once_stays() {
    check(
        &["/a/x.yaml: one=1"],
        &["/a/y.yaml: !one"],
        expect![[r#"
            no objects
            one=1 in /a/x.yaml
        "#]],
    );
}

#[test]
fn a_file_that_is_not_understood_keeps_all_its_objects() {
    check(
        &["/a/x.yaml: one=1 two=1", "/a/y.yaml: three=1"],
        &["/a/x.yaml: two=2 ?"],
        expect![[r#"
            1 changed, 1 gone
            one=1 in /a/x.yaml
            two=2 in /a/x.yaml
        "#]],
    );
}

#[test]
fn what_cannot_be_read_stays_and_what_is_empty_goes() {
    let before = [
        "/a/x.yaml: one=1",
        "/a/deep/y.yaml: two=1",
        "/b/z.yaml: three=1",
    ];
    check(
        &before,
        &["/a: gone"],
        expect![[r#"
            1 gone
            one=1 in /a/x.yaml
            two=1 in /a/deep/y.yaml
        "#]],
    );
    check(
        &before,
        &["/a/deep: gone", "/a/x.yaml: one=2"],
        expect![[r#"
            1 changed, 1 gone
            one=2 in /a/x.yaml
            two=1 in /a/deep/y.yaml
        "#]],
    );
    check(
        &before,
        &[],
        expect![[r#"
            3 gone
        "#]],
    );
}

#[test]
fn an_object_that_moved_out_of_what_cannot_be_read_is_the_new_one() {
    check(
        &["/a/x.yaml: one=1"],
        &["/a: gone", "/b/x.yaml: one=2"],
        expect![[r#"
            1 changed
            one=2 in /b/x.yaml
        "#]],
    );
}

#[test]
fn a_source_that_is_no_longer_configured_goes_only_when_the_others_can_be_read() {
    let mut mesh = Mesh::new(&["/a/x.yaml: one=1"]);
    mesh.sources = vec!["file:///c".into()];
    expect![[r#"
        no objects
        one=1 in /a/x.yaml
    "#]]
    .assert_eq(&mesh.scan(&["/c: gone"]));
    expect![[r#"
        1 new, 1 gone
        two=1 in /c/y.yaml
    "#]]
    .assert_eq(&mesh.scan(&["/c/y.yaml: two=1"]));
}

#[test]
fn a_renamed_file_is_remembered_and_changes_nothing_for_those_behind() {
    let mut mesh = Mesh::new(&["/a/x.yaml: one=1"]);
    let admission = mesh.admit(&["/a/y.yaml: one=1"]);
    assert_eq!(admission.summary(&mesh.world), "1 moved to another file");
    assert!(mesh.world.apply(admission.changes).is_empty());
    // It stays if its new file cannot be read.
    assert!(mesh.admit(&["/a/y.yaml: gone"]).changes.is_empty());
}

#[test]
fn an_object_too_large_for_the_store_is_refused_alone() {
    let mut mesh = Mesh::new(&["/a/x.yaml: big=1"]);
    let big = format!("/a/x.yaml: big={} small=1", "x".repeat(MAX_ROW));
    let said = mesh.scan(&[&big]);
    let mut lines = said.lines();
    assert_eq!(lines.next(), Some("1 new"));
    assert!(lines.next().unwrap().contains("[too-large]"), "{said}");
    let rest: Vec<&str> = lines.collect();
    assert_eq!(rest, ["big=1 in /a/x.yaml", "small=1 in /a/x.yaml"]);
}

#[test]
fn secrets_are_neither_stored_nor_distributed() {
    let secret = [of_kind(Kind::Secret, "key", Secret::default())];
    let files = vec![Scanned {
        place: Place::default(),
        objects: &secret,
        refused: &[],
        unidentified: false,
    }];
    let sources = Sources {
        sources: &[],
        files,
        lost: Vec::new(),
    };
    assert!(admit(&sources, &World::default()).changes.is_empty());
}

#[test]
fn rows_read_back_with_their_place() {
    let held = Held {
        object: object("one", "\0 a \u{7f} b"),
        place: Place {
            source: "file:///a".into(),
            file: "/a/x.yaml".into(),
        },
    };
    let row = held.to_row();
    assert!(!row.contains('\0'));
    assert_eq!(Held::from_row(&row).unwrap(), held);
    // A row of a version that did not know places.
    let bare = String::from_utf8(held.object.to_wire()).unwrap();
    let read = Held::from_row(&bare).unwrap();
    assert_eq!((read.object, read.place), (held.object, Place::default()));
    for bad in ["", "[]", "{}", "{\"meta\": 1}"] {
        assert!(Held::from_row(bad).is_err(), "{bad}");
    }
}
