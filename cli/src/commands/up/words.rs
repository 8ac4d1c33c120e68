//! What `flotilla up` says.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use mesh_api::pilot::RevisionStatus;

use crate::report::Report;

/// Longest shown part of what a proxy says about a rejection, in characters.
const MAX_REASON: usize = 300;

/// A rejection in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Who refuses.
    pub proxy: String,
    /// Why, in its words.
    pub why: String,
}

/// How far a revision came, `took` after it was committed.
///
/// `absent` are proxies that should be connected and are not.
pub fn progress(
    status: &RevisionStatus,
    took: Duration,
    refusals: &[Refusal],
    absent: &[String],
) -> String {
    let RevisionStatus {
        revision,
        live,
        total,
        ..
    } = status;
    let settled = status.pending.is_empty() && status.silent_pilots.is_empty();
    let word = if settled { "in" } else { "after" };
    let mut line = match total {
        0 => format!("revision {revision} committed; no proxy is connected"),
        _ => format!(
            "revision {revision} live on {live}/{total} proxies {word} {}",
            duration(took)
        ),
    };
    for name in &status.rejected {
        let why = refusals.iter().find(|refusal| refusal.proxy == *name);
        line.push_str(&format!("; rejected by {name}"));
        if let Some(refusal) = why {
            line.push_str(&format!(": {}", shortened(&refusal.why)));
        }
    }
    for (what, names) in [
        ("not yet on", &status.pending[..]),
        ("not connected", absent),
        ("no answer from", &status.silent_pilots),
    ] {
        if !names.is_empty() {
            line.push_str(&format!("; {what} {}", names.join(", ")));
        }
    }
    line
}

/// How far a revision is that was there from the beginning.
pub fn standing(status: &RevisionStatus) -> String {
    match status.total {
        0 => format!("revision {} is ready for proxies", status.revision),
        total => format!(
            "revision {} live on {}/{total} proxies",
            status.revision, status.live
        ),
    }
}

/// What was refused and is not any more: objects, and files of which no object could be told.
pub fn mended(before: &BTreeSet<Report>, now: &BTreeSet<Report>) -> BTreeSet<String> {
    let subjects = |reports: &BTreeSet<Report>| -> BTreeSet<String> {
        reports
            .iter()
            .filter(|report| report.is_error())
            .map(|report| report.object().unwrap_or_else(|| report.file.clone()))
            .collect()
    };
    let now = subjects(now);
    subjects(before)
        .into_iter()
        .filter(|subject| !now.contains(subject))
        .collect()
}

fn shortened(text: &str) -> String {
    let one_line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match one_line.char_indices().nth(MAX_REASON) {
        Some((end, _)) => format!("{}…", &one_line[..end]),
        None => one_line,
    }
}

/// `140 ms`, `12.3 s`.
pub fn duration(took: Duration) -> String {
    if took < Duration::from_secs(1) {
        format!("{} ms", took.as_millis())
    } else {
        format!("{:.1} s", took.as_secs_f64())
    }
}

/// What is refused, or only warned of.
pub fn finding(report: &Report) -> String {
    let word = if report.is_error() {
        "refused"
    } else {
        "warning"
    };
    format!("{word}: {}", report.place_and_message())
}

/// What the banner tells.
#[derive(Debug)]
pub struct Banner<'a> {
    /// This program, as the user called it.
    pub flotilla: &'a str,
    /// Where the page is; none without sample.
    pub page: Option<&'a str>,
    /// The working copy.
    pub config: &'a Path,
    /// Logs.
    pub logs: &'a Path,
    /// Namespace whose workloads take mutual TLS alone, as the sample's configuration says; none without sample.
    pub strict: Option<&'a str>,
    /// Parts of the plane and where they are.
    pub plane: &'a [(&'a str, String)],
    /// Variables that the commands need.
    pub variables: &'a [String],
}

/// Where everything is, and what to try.
pub fn banner(banner: &Banner<'_>) -> String {
    let config = banner.config.display();
    let mut text = String::from("\n");
    let mut row = |name: &str, what: &str| text.push_str(&format!("  {name:<8} {what}\n"));
    if let Some(page) = banner.page {
        row("page", page);
    }
    row(
        "config",
        &format!("{config}  (what is saved there takes effect at once)"),
    );
    row("logs", &banner.logs.display().to_string());
    for (name, place) in banner.plane {
        row(name, place);
    }
    row(
        "mtls",
        &match banner.strict {
            Some(namespace) => format!(
                "on: every proxy has a certificate of its own, and namespace {namespace} takes no plaintext (STRICT, in security.yaml)"
            ),
            None => "on: whatever an agent stands beside has a certificate of its own".to_owned(),
        },
    );
    // Commands look for the plane at its usual ports; where it is not there, they must be told.
    let prefix: String = banner
        .variables
        .iter()
        .map(|variable| format!("{variable} "))
        .collect();
    let flotilla = format!("{prefix}{}", banner.flotilla);
    if let Some(page) = banner.page {
        text.push_str(&format!(
            "\nFour things to try, in another terminal:\n\n  \
             # send every reader to reviews v3, with red stars; then reload the page\n  \
             sed -i 's/subset: v1/subset: v3/' {config}/reviews.yaml\n  \
             curl -s {page} | grep -o 'reviews v.'\n\n  \
             # make a mistake: it is refused, and the page stays as it was; then mend it\n  \
             sed -i 's/weight: 100/weight: lots/' {config}/reviews.yaml\n  \
             sed -i 's/weight: lots/weight: 100/' {config}/reviews.yaml\n\n  \
             # see who runs what\n  \
             {flotilla} proxy-status\n\n  \
             # take the identity of reviews back: within a second nobody speaks with it; then give it back\n  \
             {flotilla} ca revoke --spiffe-id spiffe://cluster.local/ns/default/sa/bookinfo-reviews --reason 'a try'\n  \
             {flotilla} ca lift 1 --reason 'it was a try'\n"
        ));
    } else {
        text.push_str(&format!("\nWho is connected: {flotilla} proxy-status\n"));
    }
    text.push_str("\nCtrl-C ends all of it.\n");
    text
}

#[cfg(test)]
mod tests {
    use mesh_types::{Code, FieldPath, Finding, Key, Kind};

    use super::*;

    fn status(live: u64, total: u64) -> RevisionStatus {
        RevisionStatus {
            revision: 7,
            live,
            total,
            ..RevisionStatus::default()
        }
    }

    #[test]
    fn a_revision_that_is_live_everywhere() {
        let took = Duration::from_millis(140);
        assert_eq!(
            progress(&status(8, 8), took, &[], &[]),
            "revision 7 live on 8/8 proxies in 140 ms"
        );
        assert_eq!(
            progress(&status(0, 0), took, &[], &[]),
            "revision 7 committed; no proxy is connected"
        );
    }

    #[test]
    fn who_has_it_not_is_named() {
        let status = RevisionStatus {
            pending: vec!["c.d".into()],
            rejected: vec!["a.b".into()],
            ..status(6, 8)
        };
        let refusal = Refusal {
            proxy: "a.b".into(),
            why: "no such\nfilter".into(),
        };
        assert_eq!(
            progress(
                &status,
                Duration::from_millis(10_020),
                &[refusal],
                &["e.f".into()]
            ),
            "revision 7 live on 6/8 proxies after 10.0 s; rejected by a.b: no such filter; not yet on c.d; not connected e.f"
        );
    }

    fn report(path: &str) -> Report {
        let key = Key::new(Kind::VirtualService, "default", "reviews");
        let path = FieldPath::parse(path);
        let finding = Finding::new(&key, path, Code::OutOfRange, "want a number");
        Report::from(&finding.at("config/reviews.yaml", 14))
    }

    #[test]
    fn what_is_mended_is_told_once_nothing_of_it_is_refused() {
        let both = BTreeSet::from([report("spec.a"), report("spec.b")]);
        let one = BTreeSet::from([report("spec.b")]);
        assert!(mended(&both, &one).is_empty());
        assert_eq!(
            mended(&one, &BTreeSet::new()),
            BTreeSet::from(["VirtualService default/reviews".to_owned()])
        );
    }

    #[test]
    fn refused_yaml_is_told_with_its_place() {
        assert_eq!(
            finding(&report("spec.http[0].route[0].weight")),
            "refused: config/reviews.yaml:14: VirtualService default/reviews: spec.http[0].route[0].weight: want a number [out-of-range]"
        );
    }
}
