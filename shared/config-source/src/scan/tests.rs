use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

/// A VirtualService with a number in it.
fn text(name: &str, number: usize) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, labels: {{n: \"{number}\"}}}}\nspec: {{hosts: [a.com], http: [{{route: [{{destination: {{host: a.com}}}}]}}]}}\n"
    )
}

struct Folder {
    dir: tempfile::TempDir,
    scanner: Scanner,
}

impl Folder {
    fn new() -> Folder {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("mesh")).unwrap();
        let scanner = Scanner::new(vec![dir.path().join("mesh")], "default");
        Folder { dir, scanner }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    /// What it says now: `name=number` per object, sorted, and `?` for each place that cannot be read.
    fn says(&mut self) -> String {
        says(&self.scanner.scan().0)
    }
}

fn says(scan: &Scan) -> String {
    let mut out: Vec<String> = scan
        .files
        .values()
        .flat_map(|file| &file.objects)
        .map(|o| {
            let number = o.meta.labels.get("n").unwrap_or_default();
            format!("{}={number}", o.meta.key.name)
        })
        .collect();
    out.sort();
    out.extend(scan.lost.iter().map(|_| "?".to_owned()));
    out.join(" ")
}

#[test]
fn reads_what_is_configuration_and_nothing_else() {
    let mut folder = Folder::new();
    folder.write("mesh/a.yaml", &text("a", 1));
    folder.write("mesh/deep/er/b.yml", &text("b", 2));
    for other in [
        ".a.yaml.swp",
        "#a.yaml#",
        "a.yaml~",
        "4913",
        ".hidden/x.yaml",
        "notes.txt",
    ] {
        folder.write(&format!("mesh/{other}"), &text("no", 0));
    }
    assert_eq!(folder.says(), "a=1 b=2");
}

#[test]
fn an_empty_folder_is_empty_and_a_vanished_one_unknown() {
    let mut folder = Folder::new();
    folder.write("mesh/a.yaml", &text("a", 1));
    assert_eq!(folder.says(), "a=1");
    fs::rename(folder.path("mesh"), folder.path("away")).unwrap();
    assert_eq!(folder.says(), "a=1 ?");
    // Still so after several readings, and back as it was.
    assert_eq!(folder.says(), "a=1 ?");
    fs::rename(folder.path("away"), folder.path("mesh")).unwrap();
    assert_eq!(folder.says(), "a=1");
    fs::remove_file(folder.path("mesh/a.yaml")).unwrap();
    assert_eq!(folder.says(), "");
}

#[test]
fn a_rewrite_of_equal_length_within_a_tick_of_the_clock_is_seen() {
    let mut folder = Folder::new();
    for number in 0..200 {
        folder.write("mesh/a.yaml", &text("a", number % 10));
        assert_eq!(folder.says(), format!("a={}", number % 10));
    }
}

#[test]
fn an_untouched_file_is_not_decoded_again() {
    let mut folder = Folder::new();
    folder.write("mesh/a.yaml", &text("a", 1));
    let first = folder.scanner.scan().0;
    folder.write("mesh/a.yaml", &text("a", 1));
    let second = folder.scanner.scan().0;
    assert!(first.same(&second));
}

#[test]
fn an_oversized_file_keeps_what_it_said() {
    let mut folder = Folder::new();
    folder.write("mesh/a.yaml", &text("a", 1));
    assert_eq!(folder.says(), "a=1");
    let file = fs::File::options()
        .write(true)
        .open(folder.path("mesh/a.yaml"))
        .unwrap();
    file.set_len(MAX_FILE + 1).unwrap();
    assert_eq!(folder.says(), "a=1 ?");
}

#[test]
fn a_link_to_nothing_is_nothing_and_a_loop_ends() {
    let mut folder = Folder::new();
    folder.write("mesh/a.yaml", &text("a", 1));
    symlink("nowhere.yaml", folder.path("mesh/b.yaml")).unwrap();
    assert_eq!(folder.says(), "a=1");
    // Two of them: without an end to it there would be as many ways as atoms.
    symlink(".", folder.path("mesh/again")).unwrap();
    symlink("../mesh", folder.path("mesh/and-again")).unwrap();
    assert_eq!(folder.says(), "a=1 ? ?");
    let scan = folder.scanner.scan().0;
    assert_eq!(scan.lost.len(), 2, "{:?}", scan.unreadable);
}

/// Somebody swaps a link between generations as fast as possible, and removes the old ones, as a Kubernetes mount does. No scan ever
/// holds objects of two generations, or of none.
fn swap_and_scan(mut folder: Folder, link: &str, link_files: bool) {
    let root = folder.dir.path().to_owned();
    let link = root.join(link);
    let generation = |n: usize| {
        let dir = root.join(format!("mesh/..gen-{n}"));
        fs::create_dir_all(&dir).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(dir.join(format!("{name}.yaml")), text(name, n)).unwrap();
        }
        dir
    };
    symlink(generation(0), &link).unwrap();
    if link_files {
        for name in ["a", "b", "c"] {
            symlink(
                format!("..data/{name}.yaml"),
                root.join(format!("mesh/{name}.yaml")),
            )
            .unwrap();
        }
    }
    let stop = AtomicBool::new(false);
    /// Also when a scan is not as it should be: the swapping would go on for ever.
    struct StopAtEnd<'a>(&'a AtomicBool);
    impl Drop for StopAtEnd<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    std::thread::scope(|threads| {
        let stop_at_end = StopAtEnd(&stop);
        threads.spawn(|| {
            let mut old = root.join("mesh/..gen-0");
            for n in 1.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let new = generation(n);
                let fresh = root.join("fresh");
                symlink(&new, &fresh).unwrap();
                fs::rename(&fresh, &link).unwrap();
                fs::remove_dir_all(&old).unwrap();
                old = new;
            }
        });
        let (mut last, mut seen) = (0, 0);
        for _ in 0..300 {
            let scan = folder.scanner.scan().0;
            let numbers: Vec<usize> = scan
                .files
                .values()
                .flat_map(|file| &file.objects)
                .map(|o| o.meta.labels.get("n").unwrap().parse().unwrap())
                .collect();
            if numbers.is_empty() && seen == 0 {
                // Swapped so fast that nothing could be read yet: unknown, which is not empty.
                assert!(!scan.lost.is_empty());
                continue;
            }
            assert_eq!(numbers.len(), 3, "{numbers:?}");
            assert!(numbers.iter().all(|n| *n == numbers[0]), "{numbers:?}");
            assert!(numbers[0] >= last, "{numbers:?} after {last}");
            seen += usize::from(numbers[0] > last);
            last = numbers[0];
        }
        drop(stop_at_end);
        assert!(seen > 0, "the swaps were never seen");
    });
}

#[test]
fn a_mount_whose_link_leads_nowhere_is_not_read_around_it() {
    let mut folder = Folder::new();
    folder.write("mesh/..gen-1/a.yaml", &text("a", 1));
    folder.write("mesh/beside.yaml", &text("b", 1));
    symlink("..gen-1", folder.path("mesh/..data")).unwrap();
    assert_eq!(folder.says(), "a=1");
    fs::rename(folder.path("mesh/..gen-1"), folder.path("mesh/..gen-2")).unwrap();
    assert_eq!(folder.says(), "a=1 ?");
}

#[test]
fn a_swapped_mount_is_never_read_by_halves() {
    let folder = Folder::new();
    swap_and_scan(folder, "mesh/..data", true);
}

#[test]
fn a_swapped_root_is_never_read_by_halves() {
    let mut folder = Folder::new();
    folder.scanner = Scanner::new(vec![folder.path("current")], "default");
    swap_and_scan(folder, "current", false);
}

#[test]
fn bare_mesh_settings_stand_beside_folders() {
    let mut folder = Folder::new();
    folder.write(
        "mesh.yaml",
        "outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n",
    );
    folder.scanner = Scanner::new(vec![folder.path("mesh")], "default")
        .with_mesh_config(Some(folder.path("mesh.yaml")));
    assert_eq!(folder.says(), format!("{MESH_CONFIG_NAME}="));
    folder.write("mesh.yaml", "outboundTrafficPolicy: {mode: [\n");
    let scan = folder.scanner.scan().0;
    let file = scan.files.values().next().unwrap();
    assert!(file.unidentified || !file.refused.is_empty(), "{file:?}");
}
