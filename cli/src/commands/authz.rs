//! `flotilla authz check`: which policies stand before a workload, and what they make of a request.
//!
//! It reads the listeners that a proxy has been given, or would be given by files, and evaluates the very messages in them.

mod request;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;
use pilot_core::security::decide::{Check, Request, Step, decide};
use serde_json::{Value, json};

use super::proxy_config;
use super::render;
use crate::client::PilotAddress;
use crate::table::{self, Output};

/// Flags.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the policies of a workload, in the order in which they decide; with a request, what comes out for it
    Check(CheckArgs),
}

#[derive(Debug, clap::Args)]
struct CheckArgs {
    /// The proxy of the workload: pod or pod.namespace
    #[arg(required_unless_present = "node", conflicts_with = "node")]
    proxy: Option<String>,

    /// Namespace of the proxy, if its name says none
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    #[command(flatten)]
    address: PilotAddress,

    /// Without a plane: the proxy's node id, or a file with an Envoy node
    #[arg(long, value_name = "FILE|ID", requires = "config_dir")]
    node: Option<String>,

    /// Without a plane: folder of configuration; repeatable
    #[arg(long, alias = "configDir", value_name = "DIR", requires = "node")]
    config_dir: Vec<PathBuf>,

    /// Without a plane: file with the mesh's settings (MeshConfig)
    #[arg(long, alias = "meshConfig", value_name = "FILE", requires = "node")]
    mesh_config: Option<PathBuf>,

    #[command(flatten)]
    request: request::Flags,

    /// Table, json or yaml
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// One filter chain that takes requests or connections, and what decides there.
struct Chain {
    listener: String,
    name: String,
    /// The port it is for; `None` is every port that no other chain is for.
    port: Option<u16>,
    http: bool,
    certificates: Certificates,
    /// Whether it leads nowhere.
    closed: bool,
    checks: Vec<Check>,
}

/// What a chain knows of the certificates of callers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Certificates {
    /// Nothing: bytes come as they are, or nobody is asked.
    Unseen,
    /// Whoever shows one is known.
    Seen,
    /// Whoever shows none is not taken.
    Needed,
}

impl Certificates {
    /// Those of the TLS that ends in a chain.
    fn of(chain: &Value) -> Certificates {
        let context = &chain["transportSocket"]["typedConfig"];
        let checked = ["validationContext", "combinedValidationContext"];
        let checked = checked.map(|name| context["commonTlsContext"][name].is_object());
        if context["requireClientCertificate"] == true {
            Certificates::Needed
        } else if checked.contains(&true) {
            Certificates::Seen
        } else {
            Certificates::Unseen
        }
    }
}

/// The listener that takes captured connections.
const CAPTURES: &str = "virtualInbound";
/// The cluster that leads nowhere.
const NOWHERE: &str = "BlackHoleCluster";

/// Prints what stands before a workload. A request that is refused somewhere makes the exit code 1.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Check(args) = args.command;
    let config = match &args.node {
        Some(node) => render::resources(
            args.config_dir.clone(),
            args.mesh_config.clone(),
            node,
            "cluster.local",
        )?,
        None => {
            let name = args.proxy.as_deref().unwrap_or_default();
            let proxy = proxy_config::proxy(name, args.namespace.as_deref());
            let path = format!("/v1/proxies/{proxy}/config");
            let pilot = args.address.service()?;
            pilot.get(&path, Duration::from_secs(10)).await?
        }
    };
    let chains = chains(&config)?;
    match args.request.request()? {
        None => list(&chains, args.output),
        Some(request) => judge(&chains, &request, args.request.port, args.output),
    }
}

/// The chains of listeners that take what comes from others, those that decide nothing included.
fn chains(config: &Value) -> anyhow::Result<Vec<Chain>> {
    let mut out = Vec::new();
    for listener in items(&config["listeners"]) {
        let inbound = listener["trafficDirection"] == "INBOUND";
        let own = listener["address"]["socketAddress"]["portValue"].as_u64();
        // It takes connections to any port, and none to its own.
        let captures = listener["name"] == CAPTURES;
        let default = std::iter::once(&listener["defaultFilterChain"]);
        for chain in items(&listener["filterChains"]).chain(default.filter(|c| c.is_object())) {
            let (mut checks, mut http, mut closed) = (Vec::new(), false, false);
            for filter in items(&chain["filters"]) {
                let inner = items(&filter["typedConfig"]["httpFilters"]);
                http |= filter["typedConfig"]["httpFilters"].is_array();
                closed |= filter["typedConfig"]["cluster"] == NOWHERE;
                for filter in std::iter::once(filter).chain(inner) {
                    checks.extend(check(&filter["typedConfig"])?);
                }
            }
            // Outbound chains of sidecars have none; those of gateways are marked as outbound, too.
            if !inbound && checks.is_empty() {
                continue;
            }
            let port = chain["filterChainMatch"]["destinationPort"].as_u64();
            if captures && port == own {
                continue;
            }
            let port = port.or(own.filter(|_| !captures));
            out.push(Chain {
                listener: text(&listener["name"]),
                name: text(&chain["name"]),
                port: port.and_then(|p| p.try_into().ok()),
                http,
                certificates: Certificates::of(chain),
                closed,
                checks,
            });
        }
    }
    Ok(out)
}

fn items(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// What a filter decides, if it is one of those that do.
fn check(config: &Value) -> anyhow::Result<Option<Check>> {
    let kind = config["@type"].as_str().unwrap_or_default();
    let decides = [
        ".rbac.v3.RBAC",
        ".jwt_authn.v3.JwtAuthentication",
        ".ext_authz.v3.ExtAuthz",
    ];
    if !decides.iter().any(|end| kind.ends_with(end)) {
        return Ok(None);
    }
    let (type_url, value) =
        envoy_api::json::from_json(config).map_err(|errors| anyhow::anyhow!("{errors}"))?;
    let any = envoy_api::any::Any { type_url, value };
    let check = Check::read(&any);
    Ok(Some(check.with_context(|| {
        format!("a filter of {kind} is none that Flotilla makes")
    })?))
}

/// A row of the table: what is done by whom, and by how many rules.
struct Row {
    action: String,
    policy: String,
    rules: usize,
}

fn rows(checks: &[Check]) -> Vec<Row> {
    let mut out: Vec<Row> = Vec::new();
    for check in checks {
        match check {
            Check::Tokens(issuers) => out.push(Row {
                action: "TOKENS".into(),
                policy: issuers
                    .keys()
                    .map(String::as_str)
                    .collect::<Vec<_>>()
                    .join(", "),
                rules: issuers.len(),
            }),
            Check::Ask(_) => {}
            Check::Rbac { rules, .. } => {
                let policies = check.policies();
                if policies.is_empty() && rules.is_some() {
                    out.push(Row {
                        action: "ALLOW".into(),
                        policy: "nobody: no rule can be told from bytes".into(),
                        rules: 0,
                    });
                }
                for (action, name) in policies {
                    let policy = policy_of(name);
                    match out
                        .last_mut()
                        .filter(|r| r.action == action && r.policy == policy)
                    {
                        Some(row) => row.rules += 1,
                        None => out.push(Row {
                            action,
                            policy,
                            rules: 1,
                        }),
                    }
                }
            }
        }
    }
    out
}

/// `ns[a]-policy[b]-rule[0]` is `a/b`; what stands before and behind it is said, too.
fn policy_of(name: &str) -> String {
    let parts = || {
        let (start, rest) = name.split_once("ns[")?;
        let (namespace, rest) = rest.split_once("]-policy[")?;
        let (policy, rest) = rest.split_once("]-rule[")?;
        let (_, end) = rest.split_once(']')?;
        Some((start, namespace, policy, end))
    };
    match parts() {
        None => name.to_owned(),
        Some((start, namespace, policy, end)) => {
            let asked = start
                .strip_prefix("istio-ext-authz-")
                .and_then(|s| s.strip_suffix('-'));
            let asked = asked.map_or(String::new(), |asked| format!(" (asks {asked})"));
            let end = if end.is_empty() {
                ""
            } else {
                " (nobody to ask)"
            };
            format!("{namespace}/{policy}{asked}{end}")
        }
    }
}

fn list(chains: &[Chain], output: Output) -> anyhow::Result<ExitCode> {
    let of = |chain: &Chain| -> Vec<Vec<String>> {
        rows(&chain.checks)
            .into_iter()
            .map(|row| {
                vec![
                    chain.listener.clone(),
                    chain.name.clone(),
                    protocol(chain).to_owned(),
                    row.action,
                    row.policy,
                    row.rules.to_string(),
                ]
            })
            .collect()
    };
    if output.is_table() {
        let head = ["LISTENER", "CHAIN", "PROTOCOL", "ACTION", "POLICY", "RULES"];
        let all: Vec<Vec<String>> = chains.iter().flat_map(of).collect();
        if all.is_empty() {
            table::say!("No policy stands before it: everything is allowed.");
        } else {
            table::lines(&head, &all)
                .iter()
                .for_each(|line| table::say!("{line}"));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let all: Vec<Value> = chains
        .iter()
        .map(|chain| {
            let policies: Vec<Value> = rows(&chain.checks)
                .into_iter()
                .map(|row| json!({"action": row.action, "policy": row.policy, "rules": row.rules}))
                .collect();
            json!({"listener": chain.listener, "chain": chain.name, "port": chain.port, "protocol": protocol(chain), "policies": policies})
        })
        .collect();
    table::print(&all, output)?;
    Ok(ExitCode::SUCCESS)
}

fn protocol(chain: &Chain) -> &'static str {
    if chain.http { "HTTP" } else { "TCP" }
}

fn judge(
    chains: &[Chain],
    request: &Request,
    port: Option<u16>,
    output: Output,
) -> anyhow::Result<ExitCode> {
    let mut refused = false;
    let mut all = Vec::new();
    for chain in chains_for(chains, port)? {
        let (decision, notes) = decision(chain, chains, request, port);
        refused |= decision.starts_with("refused");
        all.push((chain, decision, notes));
    }
    if output.is_table() {
        let head = ["LISTENER", "CHAIN", "PROTOCOL", "DECISION", "NOTES"];
        let rows: Vec<Vec<String>> = all
            .into_iter()
            .map(|(chain, decision, notes)| {
                vec![
                    chain.listener.clone(),
                    chain.name.clone(),
                    protocol(chain).to_owned(),
                    decision,
                    notes.join("; "),
                ]
            })
            .collect();
        table::lines(&head, &rows)
            .iter()
            .for_each(|line| table::say!("{line}"));
    } else {
        let all: Vec<Value> = all
            .into_iter()
            .map(|(chain, decision, notes)| json!({"listener": chain.listener, "chain": chain.name, "port": chain.port, "protocol": protocol(chain), "decision": decision, "notes": notes}))
            .collect();
        table::print(&all, output)?;
    }
    Ok(ExitCode::from(u8::from(refused)))
}

/// The chains that take connections to a port; without one, all.
fn chains_for(chains: &[Chain], port: Option<u16>) -> anyhow::Result<Vec<&Chain>> {
    let of = |wanted: Option<u16>| -> Vec<&Chain> {
        chains.iter().filter(|c| c.port == wanted).collect()
    };
    let Some(port) = port else {
        return Ok(chains.iter().collect());
    };
    let own = of(Some(port));
    let found = if own.is_empty() { of(None) } else { own };
    anyhow::ensure!(
        !found.is_empty(),
        "no listener takes connections to port {port}"
    );
    Ok(found)
}

/// What a chain makes of a request, and what else is to be said.
fn decision(
    chain: &Chain,
    all: &[Chain],
    request: &Request,
    port: Option<u16>,
) -> (String, Vec<String>) {
    let beside = || {
        all.iter()
            .filter(|c| c.listener == chain.listener && c.port == chain.port)
    };
    let anonymous = request.peer.is_none();
    let mut notes = Vec::new();
    match chain.certificates {
        _ if chain.closed => return ("refused: the port is closed".into(), notes),
        Certificates::Needed if anonymous => {
            let elsewhere = beside().any(|c| c.certificates != Certificates::Needed);
            let decision = match elsewhere {
                true => "not for it: takes mutual TLS alone",
                false => "refused: takes mutual TLS alone",
            };
            return (decision.into(), notes);
        }
        Certificates::Unseen if !anonymous => {
            if beside().any(|c| c.certificates != Certificates::Unseen) {
                let decision = "not for it: nobody shows a certificate here";
                return (decision.into(), notes);
            }
            notes.push("nobody shows a certificate here".into());
        }
        Certificates::Needed | Certificates::Seen | Certificates::Unseen => {}
    }
    let mut request = request.clone();
    request.port = chain.port.or(port).unwrap_or_default();
    if chain.certificates == Certificates::Unseen {
        request.peer = None;
    }
    let (decision, more) = words(&decide(&chain.checks, &request));
    notes.extend(more);
    (decision, notes)
}

/// What the steps come to, and what else is to be said.
fn words(steps: &[Step]) -> (String, Vec<String>) {
    let mut decision = "allowed: no policy says anything".to_owned();
    let mut notes = Vec::new();
    let mut asked: Option<String> = None;
    for step in steps {
        match step {
            Step::Refused(Some(name)) => decision = format!("refused by {}", policy_of(name)),
            Step::Refused(None) => decision = "refused: no policy allows it".into(),
            Step::Stranger => decision = "refused: no tokens of its issuer are taken".into(),
            Step::Allowed(name) => decision = format!("allowed by {}", policy_of(name)),
            Step::Asked(name) => asked = Some(name.clone()),
            Step::Audited(name) => notes.push(format!("audited by {}", policy_of(name))),
            Step::WouldRefuse(Some(name)) => {
                notes.push(format!("{} would refuse it", policy_of(name)));
            }
            Step::WouldRefuse(None) => notes.push("a dry run would not allow it".into()),
            Step::WouldAllow(name) => notes.push(format!("{} would allow it", policy_of(name))),
        }
    }
    if let Some(name) = asked.filter(|_| !decision.starts_with("refused")) {
        notes.push(format!("if {name} allows it"));
    }
    (decision, notes)
}

#[cfg(test)]
mod tests;
