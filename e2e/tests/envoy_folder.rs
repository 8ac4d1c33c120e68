//! `flotilla serve-xds`: a folder of Envoy resources, served as they are.

use std::path::PathBuf;
use std::time::Duration;

use e2e::site::{HTTP, Site, hosts, suite_file};
use e2e::wait::eventually;
use e2e::{Call, Envoy, Identity, Pilot, Protocol, Source, Traffic};

e2e::both_protocols! { serves_a_folder_as_it_is }

const SUITE: &str = "envoy-folder";

struct Folder {
    site: Site,
    dir: PathBuf,
    server: Pilot,
}

impl Folder {
    fn put(&self, name: &str, file: &str) {
        let text = self.site.net.localize(&suite_file(SUITE, file));
        let hidden = self.dir.join(format!(".{name}.new"));
        std::fs::write(&hidden, text).expect("a file");
        std::fs::rename(&hidden, self.dir.join(name)).expect("a file");
    }

    /// Changes the folder; the revision once the server has it.
    async fn change(&self, change: impl FnOnce(&Folder)) -> u64 {
        let before = self.server.revision().await;
        change(self);
        self.server.newer_than(before).await
    }
}

async fn serves_a_folder_as_it_is(protocol: Protocol) {
    let site = Site::new().await;
    let dir = site.dir().join("envoy");
    std::fs::create_dir(&dir).expect("a folder");
    let source = Source::Envoy(dir.clone());
    let server = Pilot::new("serve-xds", &site.net, hosts::PILOT, &source, site.dir());
    let mut folder = Folder { site, dir, server };
    for file in ["clusters.yaml", "listeners.yaml", "routes.yaml"] {
        folder.put(file, &format!("config/{file}"));
    }
    folder.server.start().await;
    let client = Identity::sidecar("client", hosts::CLIENT);
    let (net, pilots) = (&folder.site.net, [folder.server.grpc]);
    let mut envoy = Envoy::new(client, net, &pilots, protocol, folder.site.dir());
    envoy.start().await;
    folder.server.live(1, 1).await;
    let client = envoy.client(HTTP);
    let backend = async || client.get("any", "/").await.backend();
    assert_eq!(backend().await, "reviews-v1");

    // An edit goes live without a failed request: of routes, of endpoints.
    let traffic = Traffic::start(client.clone(), Call::get("any", "/"));
    for (file, answers) in [
        ("routes.yaml", "ratings-v1"),
        ("endpoints.yaml", "reviews-v2"),
    ] {
        traffic.more(5).await;
        let to = if file == "endpoints.yaml" {
            "clusters.yaml"
        } else {
            file
        };
        let revision = folder
            .change(|folder| folder.put(to, &format!("edits/{file}")))
            .await;
        folder.server.live(revision, 1).await;
        assert_eq!(backend().await, answers, "{file}");
    }

    // A listener that Envoy refuses is told, and stops nothing else.
    let refused = folder
        .change(|folder| folder.put("refused.yaml", "edits/refused.yaml"))
        .await;
    let revision = refused.to_string();
    let wait = ["wait", "--revision", &revision, "--for=live"];
    let told = folder.server.tell(&wait).await;
    let said =
        format!("revision {refused} is live on 0 of 1 proxies; rejected by client.default\n");
    assert_eq!((told.code, told.out), (1, said));
    let status = folder.server.tell(&["proxy-status"]).await;
    assert_eq!(status.row("client.default")[3], "ERROR", "{status:?}");
    let why = format!("client.default rejected revision {refused}: ");
    let why = status.out.lines().find_map(|line| line.strip_prefix(&why));
    let why = why.unwrap_or_else(|| panic!("{status:?}"));
    assert!(
        why.contains("refused") && why.contains("no filter chains specified"),
        "{why}"
    );
    folder
        .change(|folder| folder.put("routes.yaml", "config/routes.yaml"))
        .await;
    eventually("the later change is live", async || {
        match &*backend().await {
            "reviews-v1" => Ok(()),
            other => Err(other.to_owned()),
        }
    })
    .await;

    // What cannot be read changes nothing; once all is well, nothing is rejected.
    std::fs::write(folder.dir.join("wrong.yaml"), "name: nothing\n").expect("a file");
    eventually("the mistake is told", async || {
        let log = folder.server.process.log();
        if log.contains("wrong.yaml") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await;
    assert_eq!(backend().await, "reviews-v1");
    let revision = folder
        .change(|folder| {
            for file in ["wrong.yaml", "refused.yaml"] {
                std::fs::remove_file(folder.dir.join(file)).expect("it is there");
            }
        })
        .await;
    folder.server.live(revision, 1).await;
    let status = folder.server.tell(&["proxy-status"]).await;
    assert_eq!(
        status.row("client.default")[2..4],
        ["SYNCED", "SYNCED"],
        "{status:?}"
    );

    let ended = folder
        .server
        .process
        .terminate(Duration::from_secs(15))
        .await;
    assert_eq!(ended.code(), Some(0));
    traffic.more(5).await;
    traffic.without_failure();
}
