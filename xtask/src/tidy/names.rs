//! Names in documents exist: paths, crates, make targets and links everywhere; in ARCHITECTURE.md also types and functions.
//!
//! A name is what stands in single backticks. Fenced blocks are drawings and transcripts: not looked at.

use std::collections::BTreeSet;

use super::Problem;
use crate::repo::Repo;
use crate::workspace::Member;

const ARCHITECTURE: &str = "ARCHITECTURE.md";
/// Endings that make a word with `/` a file of ours, wherever its first folder is.
const FILES: &[&str] = &[".md", ".proto", ".rs", ".sh", ".toml", ".yaml"];
/// First folders that are not looked for: made by building, or there in many crates.
const ELSEWHERE: &[&str] = &[".cache", "target", "testdata"];
/// Where names of code live.
const CODE: &[&str] = &[".proto", ".rs", ".sh", ".toml", "Makefile"];

/// The crate map is whole, and everything named in ARCHITECTURE.md exists.
pub fn architecture(repo: &Repo, members: &[Member]) -> Vec<Problem> {
    let Some(text) = repo.text(ARCHITECTURE) else {
        return Vec::new();
    };
    let words = Words::of(repo, members);
    let named: BTreeSet<&str> = spans(text).map(|(_, span)| span).collect();
    let mut problems: Vec<Problem> = members
        .iter()
        .filter(|member| !named.contains(member.name.as_str()))
        .map(|member| {
            Problem::error(
                ARCHITECTURE,
                format!("the crate `{}` is not on the map", member.name),
            )
        })
        .collect();
    for (line, span) in spans(text) {
        if looks_like_code(span) && !words.has(span) && !repo.has(span) {
            let message =
                format!("`{span}` is no crate, type, function, field or flag of the sources");
            problems.push(Problem::error(format!("{ARCHITECTURE}:{line}"), message));
        }
    }
    problems
}

/// Paths, make targets and links of every document exist. Decision records and the changelog may speak of what is gone.
pub fn documents(repo: &Repo) -> Vec<Problem> {
    let mut problems = Vec::new();
    let targets: BTreeSet<&str> = repo
        .text("Makefile")
        .unwrap_or_default()
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0))
        .collect();
    for (path, text) in repo.texts() {
        if !path.ends_with(".md")
            || path.starts_with("docs/adr/")
            || path.starts_with("CHANGELOG")
            || path.starts_with("changelog.d/")
        {
            continue;
        }
        for (line, span) in spans(text) {
            let missing = if let Some(target) = span.strip_prefix("make ") {
                let target = target.split(' ').next().unwrap_or_default();
                (!targets.contains(target))
                    .then(|| format!("the Makefile has no target `{target}`"))
            } else {
                looks_like_path(repo, span)
                    .and_then(|path| (!repo.has(path)).then(|| format!("`{path}` does not exist")))
            };
            problems
                .extend(missing.map(|message| Problem::error(format!("{path}:{line}"), message)));
        }
        for (line, target) in links(text) {
            if !repo.has(&join(path, target)) {
                problems.push(Problem::error(
                    format!("{path}:{line}"),
                    format!("the link to {target} leads nowhere"),
                ));
            }
        }
    }
    problems
}

/// Lines outside fenced blocks, numbered from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((number + 1, line))
    })
}

/// What stands in backticks, with its line.
fn spans(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text).flat_map(|(number, line)| {
        line.split('`')
            .skip(1)
            .step_by(2)
            .map(move |span| (number, span))
    })
}

/// Targets of Markdown links to files, without their anchor.
fn links(text: &str) -> impl Iterator<Item = (usize, &str)> {
    prose(text).flat_map(|(number, line)| {
        let targets = line
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next());
        targets
            .filter(|target| !target.is_empty() && !target.contains(':'))
            .map(move |target| (number, target))
    })
}

fn join(document: &str, target: &str) -> String {
    let mut parts: Vec<&str> = document.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The part of a span that must exist, if the span is a path of ours: up to the first placeholder or pattern.
fn looks_like_path<'a>(repo: &Repo, span: &'a str) -> Option<&'a str> {
    let sound = |c: char| c.is_ascii_alphanumeric() || "_-./*{},".contains(c);
    let (first, rest) = span.split_once('/')?;
    if first.is_empty() || !span.chars().all(sound) {
        return None;
    }
    // `text/plain` and `networking.istio.io/v1` have a slash too.
    let ours = repo.has(first)
        || (rest.is_empty() && !first.contains('.'))
        || FILES.iter().any(|end| span.ends_with(end));
    if !ours || ELSEWHERE.contains(&first) {
        return None;
    }
    let pattern = span.split('/').scan(0, |at, part| {
        let start = *at;
        *at += part.len() + 1;
        Some((start, part))
    });
    let cut = pattern
        .into_iter()
        .find(|(_, part)| is_pattern(part))
        .map_or(span.len(), |(start, _)| start);
    Some(span[..cut].trim_end_matches('/')).filter(|path| !path.is_empty())
}

/// Whether a part of a path stands for many: `*`, `{a,b}`, or a word in capitals that is no file of every repository.
fn is_pattern(part: &str) -> bool {
    const CAPITALS: &[&str] = &[
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "LICENSE",
        "README.md",
    ];
    let capitals = part
        .split(['.', '-', '_'])
        .any(|word| word.len() > 1 && word.bytes().all(|b| b.is_ascii_uppercase()));
    part.contains(['*', '{']) || (capitals && !CAPITALS.contains(&part))
}

/// Whether a span is one name: `ClusterInput`, `xds_core::Session`, `proxy-status`, `flotilla.galley.v1`.
fn looks_like_code(span: &str) -> bool {
    let bare = span
        .strip_suffix("()")
        .unwrap_or(span)
        .trim_start_matches("--");
    let parts = bare.replace("::", ".");
    parts.split('.').all(|part| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    })
}

/// Every word of the sources, split both at and not at hyphens.
struct Words<'a>(BTreeSet<&'a str>);

impl<'a> Words<'a> {
    fn of(repo: &'a Repo, members: &'a [Member]) -> Words<'a> {
        let mut words: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
        let sources = repo.texts().filter(|(path, _)| {
            !path.starts_with("xtask/") && CODE.iter().any(|end| path.ends_with(end))
        });
        for (_, text) in sources {
            words.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_'));
            words.extend(
                text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != '-')
                    .map(|word| word.trim_matches('-')),
            );
        }
        Words(words)
    }

    /// Every part of the name is a word somewhere; a clap field `proxy_status` is the flag `proxy-status`.
    fn has(&self, span: &str) -> bool {
        let bare = span
            .strip_suffix("()")
            .unwrap_or(span)
            .trim_start_matches("--");
        bare.replace("::", ".").split('.').all(|part| {
            self.0.contains(part)
                || self.0.contains(part.replace('-', "_").as_str())
                || self.0.contains(camel(part).as_str())
        })
    }
}

/// `proxy-status` as the variant of a clap enum writes it: `ProxyStatus`.
fn camel(kebab: &str) -> String {
    let capital = |word: &str| word[..1].to_ascii_uppercase() + &word[1..];
    kebab
        .split('-')
        .filter(|word| word.is_ascii() && !word.is_empty())
        .map(capital)
        .collect()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::tidy::shown;
    use crate::workspace::Layer;

    fn member(name: &str) -> Member {
        Member {
            name: name.into(),
            manifest: String::new(),
            layer: Some(Layer::Pure),
            dependencies: Vec::new(),
        }
    }

    #[test]
    fn the_map_names_every_crate_and_only_what_exists() {
        let text = "`xds-core` has `Session`, `xds_core::Gone` and `poll()`; the CLI has `proxy-status` and `proxy-gone`.\n\
                    ```\n`Anything`\n```\nA value: `a b`, `15010`.\n";
        let code = "pub struct Session; fn poll() {} enum Command { ProxyStatus } use xds_core;";
        let repo = Repo::of(&[(ARCHITECTURE, text), ("shared/xds-core/src/lib.rs", code)]);
        expect![[r#"
            error: ARCHITECTURE.md: the crate `mesh-types` is not on the map
            error: ARCHITECTURE.md:1: `xds_core::Gone` is no crate, type, function, field or flag of the sources
            error: ARCHITECTURE.md:1: `proxy-gone` is no crate, type, function, field or flag of the sources
        "#]]
        .assert_eq(&shown(&architecture(&repo, &[member("mesh-types"), member("xds-core")])));
    }

    #[test]
    fn paths_targets_and_links_exist() {
        let text = "`shared/xds-core/` `shared/gone` `docs/adr/NNNN-slug.md` `shared/*/src` `old/x.rs` `gone/` `/ready` `text/plain`\n\
                    `networking.istio.io/v1` `make up` `make up ARGS=--split` `make coffee` `.cache/bin/envoy`\n\
                    [here](docs/a.md#part) [there](docs/b.md) [web](https://example.com)\n";
        let repo = Repo::of(&[
            ("README.md", text),
            ("Makefile", "up: build\n"),
            ("docs/a.md", "[back](../README.md) [lost](../x.md)"),
            ("docs/adr/0001-a.md", "`old/x.rs`"),
            ("shared/xds-core/Cargo.toml", ""),
        ]);
        expect![[r#"
            error: README.md:1: `shared/gone` does not exist
            error: README.md:1: `old/x.rs` does not exist
            error: README.md:1: `gone` does not exist
            error: README.md:2: the Makefile has no target `coffee`
            error: README.md:3: the link to docs/b.md leads nowhere
            error: docs/a.md:1: the link to ../x.md leads nowhere
        "#]]
        .assert_eq(&shown(&documents(&repo)));
    }
}
