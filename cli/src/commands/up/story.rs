//! What the terminal hears while a mesh lives: that it is there, which revision is live where, what is refused.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use identity::accounts;
use mesh_api::galley::Revision;
use mesh_api::pilot::RevisionStatus;
use mesh_types::Level;
use pilot::debug::Proxies;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::args::{Args, Network};
use super::flags::Addresses;
use super::identities::PLANE;
use super::plane::{self, Plane};
use super::revisions;
use super::sample::{NAMESPACE, PAGE_PORT, WORKLOADS};
use super::state::State;
use super::words::{self, Banner, Refusal};
use crate::client::{self, Service, Who};
use crate::report::Report;

/// How often something is looked at that tells no news.
const POLL: Duration = Duration::from_millis(50);
/// How often findings are looked at.
const FINDINGS: Duration = Duration::from_millis(250);
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// A revision that is not live everywhere by then is told as it stands.
const LATE: Duration = Duration::from_secs(10);
/// While the mesh is not ready, how often it is told why.
const NOT_YET: Duration = Duration::from_secs(10);

/// Prints a line; a terminal that is gone stops nothing.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Everything it takes to tell.
pub struct Story {
    galley_stream: String,
    galley: Service,
    pilot: Service,
    who: Who,
    page: Option<String>,
    /// Proxies that should be connected.
    expected: BTreeSet<String>,
    dir: PathBuf,
    shown: PathBuf,
    introduction: String,
    started: Instant,
}

impl Story {
    /// The story of a plane that listens.
    ///
    /// # Errors
    /// The operator's certificate cannot be read.
    pub fn new(
        args: &Args,
        state: &State,
        plane: &Plane,
        started: Instant,
    ) -> anyhow::Result<Story> {
        let who = Who::read(&state.operator())?;
        let url = |addresses: &Addresses, name: &str| {
            addresses
                .get(name)
                .map(|address| format!("https://{address}"))
                .unwrap_or_default()
        };
        let gateway = (!args.no_sample).then(|| gateway(args.network));
        let page = gateway.map(|address| format!("http://{address}:{PAGE_PORT}/productpage"));
        let mut parts = vec![
            (
                "citadel",
                format!("{} (certificates)", url(&plane.citadel, "grpc")),
            ),
            (
                "galley",
                format!(
                    "{} (xDS for Pilots), API {}",
                    url(&plane.galley, "grpc"),
                    url(&plane.galley, "http")
                ),
            ),
            (
                "pilot",
                format!(
                    "{} (xDS for proxies), API {}",
                    url(&plane.pilot, "grpc-tls"),
                    url(&plane.pilot, "http")
                ),
            ),
        ];
        parts.extend(plane.nats.clone().map(|url| ("nats", url)));
        let introduction = words::banner(&Banner {
            flotilla: &flotilla(),
            page: page.as_deref(),
            config: &state.shown_config(),
            logs: &state.show(&state.dir.join("logs")),
            strict: (!args.no_sample).then_some(NAMESPACE),
            plane: &parts,
            variables: &plane::variables(plane, state),
        });
        let expected = WORKLOADS.iter().map(|workload| workload.proxy());
        let service = |url, account| who.service(url, PLANE, account);
        Ok(Story {
            galley_stream: url(&plane.galley, "grpc"),
            galley: service(url(&plane.galley, "http"), accounts::GALLEY)?,
            pilot: service(url(&plane.pilot, "http"), accounts::PILOT)?,
            who,
            page,
            expected: expected.filter(|_| !args.no_sample).collect(),
            dir: state.dir.clone(),
            shown: state.shown.clone(),
            introduction,
            started,
        })
    }

    /// Tells it, for ever.
    pub async fn tell(&mut self) -> anyhow::Result<Infallible> {
        // Bounded: whoever commits faster than revisions can be told waits in Galley's stream, which skips.
        let (commits, committed) = mpsc::channel(16);
        tokio::select! {
            // Ends only when nobody listens.
            () = revisions::follow(self.galley_stream.clone(), self.who.clone(), commits) => std::future::pending().await,
            never = self.tell_findings() => match never {},
            never = self.tell_revisions(committed) => never,
        }
    }

    async fn tell_revisions(
        &self,
        mut committed: mpsc::Receiver<Revision>,
    ) -> anyhow::Result<Infallible> {
        let status = self.ready().await;
        say(&self.introduction);
        say(&format!(
            "{}, {} after the start",
            words::standing(&status),
            words::duration(self.started.elapsed())
        ));
        loop {
            let Some(revision) = committed.recv().await else {
                // Its sender lives as long as the story.
                return std::future::pending().await;
            };
            if revision.number <= status.revision {
                continue;
            }
            let line = self.follow(&revision).await;
            say(&line);
        }
    }

    /// Waits until all proxies have everything and the page is whole, saying now and then what is missing; how far it is then.
    async fn ready(&self) -> RevisionStatus {
        let mut poll = tokio::time::interval(POLL);
        let mut told = self.started;
        loop {
            poll.tick().await;
            let missing = match self.missing().await {
                Ok((status, None)) => return status,
                Ok((_, Some(missing))) => missing,
                Err(error) => format!("{error:#}"),
            };
            if told.elapsed() > NOT_YET {
                told = Instant::now();
                say(&format!(
                    "not ready after {}: {missing}",
                    words::duration(self.started.elapsed())
                ));
            }
        }
    }

    /// How far the newest revision is, and what is missing.
    async fn missing(&self) -> anyhow::Result<(RevisionStatus, Option<String>)> {
        let newest: serde_json::Value = self.pilot.get("/v1/revision", PATIENCE).await?;
        let newest = newest["revision"].as_u64().unwrap_or_default();
        let status: RevisionStatus = self
            .pilot
            .get(&format!("/v1/revisions/{newest}"), PATIENCE)
            .await?;
        let missing = if newest == 0 {
            Some("Pilot has no configuration yet".to_owned())
        } else {
            let absent = self.absent().await?;
            match &*absent {
                [] if !status.pending.is_empty() => {
                    Some(format!("{} not accepted all yet", have(&status.pending)))
                }
                [] => self.page_trouble().await,
                absent => Some(format!("{} not connected yet", are(absent))),
            }
        };
        Ok((status, missing))
    }

    /// Why the page is not whole.
    async fn page_trouble(&self) -> Option<String> {
        let page = self.page.as_ref()?;
        match client::text(page, PATIENCE).await {
            Ok((200, body)) if !body.contains("class=\"failed\"") => None,
            // A user may want it to fail; then it need not be whole.
            Ok((200, _)) if self.started.elapsed() > NOT_YET => None,
            Ok((200, _)) => Some(format!("{page} is there, and some of it is missing")),
            Ok((status, _)) => Some(format!("{page} answers {status}")),
            Err(error) => Some(format!("{error:#}")),
        }
    }

    /// Proxies that should be connected and are not.
    async fn absent(&self) -> anyhow::Result<Vec<String>> {
        if self.expected.is_empty() {
            return Ok(Vec::new());
        }
        let proxies: Proxies = self.pilot.get("/v1/proxies", PATIENCE).await?;
        let there: BTreeSet<&str> = proxies
            .pilots
            .iter()
            .flat_map(|pilot| &pilot.proxies)
            .map(|proxy| &*proxy.proxy)
            .collect();
        let absent = self
            .expected
            .iter()
            .filter(|name| !there.contains(&***name));
        Ok(absent.cloned().collect())
    }

    /// Follows a revision until it is live, or late; the line about it.
    async fn follow(&self, revision: &Revision) -> String {
        let age = || {
            let age = now_us() - revision.committed_us;
            Duration::from_micros(u64::try_from(age).unwrap_or_default())
        };
        loop {
            let patience = LATE.saturating_sub(age());
            let path = format!(
                "/v1/revisions/{}?wait={}ms",
                revision.number,
                patience.as_millis()
            );
            let asked: anyhow::Result<RevisionStatus> =
                self.pilot.get(&path, patience + PATIENCE).await;
            match asked {
                Ok(status) => {
                    let took = age();
                    let refusals = self.refusals(&status).await;
                    let absent = self.absent().await.unwrap_or_default();
                    return words::progress(&status, took, &refusals, &absent);
                }
                Err(error) if patience.is_zero() => {
                    return format!(
                        "revision {} committed; Pilot does not say where it is live: {error:#}",
                        revision.number
                    );
                }
                Err(_) => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn refusals(&self, status: &RevisionStatus) -> Vec<Refusal> {
        if status.rejected.is_empty() {
            return Vec::new();
        }
        let asked: anyhow::Result<Proxies> = self.pilot.get("/v1/proxies", PATIENCE).await;
        let pilots = asked.map(|proxies| proxies.pilots).unwrap_or_default();
        pilots
            .into_iter()
            .flat_map(|pilot| pilot.proxies)
            .flat_map(|proxy| {
                let name = proxy.proxy;
                proxy.types.into_iter().filter_map(move |status| {
                    Some(Refusal {
                        proxy: name.clone(),
                        why: status.rejection?.message,
                    })
                })
            })
            .collect()
    }

    /// Tells what Galley refuses or warns of, and what it no longer refuses.
    async fn tell_findings(&self) -> Infallible {
        let mut poll = tokio::time::interval(FINDINGS);
        let mut told: BTreeSet<Report> = BTreeSet::new();
        loop {
            poll.tick().await;
            let asked: anyhow::Result<Vec<Report>> =
                self.galley.get("/v1/findings", PATIENCE).await;
            let Ok(reports) = asked else { continue };
            let now: BTreeSet<Report> = reports
                .into_iter()
                .filter(|report| report.level != Level::Info)
                .map(|report| self.shown(report))
                .collect();
            now.difference(&told)
                .for_each(|report| say(&words::finding(report)));
            words::mended(&told, &now)
                .iter()
                .for_each(|subject| say(&format!("no longer refused: {subject}")));
            told = now;
        }
    }

    /// With its file as the user knows it.
    fn shown(&self, mut report: Report) -> Report {
        if let Ok(rest) = Path::new(&report.file).strip_prefix(&self.dir) {
            report.file = self.shown.join(rest).display().to_string();
        }
        report
    }
}

fn gateway(network: Network) -> std::net::Ipv4Addr {
    WORKLOADS[0].address(network)
}

/// Microseconds since 1970, the clock that Galley stamps commits with.
#[expect(
    clippy::disallowed_methods,
    reason = "the one place of this command that reads the wall clock"
)]
fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    })
}

fn are(names: &[String]) -> String {
    let verb = if names.len() == 1 { "is" } else { "are" };
    format!("{} {verb}", names.join(", "))
}

fn have(names: &[String]) -> String {
    let verb = if names.len() == 1 { "has" } else { "have" };
    format!("{} {verb}", names.join(", "))
}

/// This program, as the user called it.
fn flotilla() -> String {
    std::env::args().next().unwrap_or_else(|| "flotilla".into())
}
