//! `agent wait`, `agent request`, `agent child`: commands beside a running agent.

use std::convert::Infallible;
use std::io::Write as _;
use std::os::unix::process::CommandExt as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};
use tokio::time::{Instant, sleep};

use crate::args::{ChildArgs, RequestArgs, WaitArgs};
use crate::envoy::{Admin, MAX_ANSWER};
use crate::http::{Ask, Beyond, ask};

/// How long Envoy's administration may take: what it says of a big mesh is big.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the proxy is ready: exit code 0, or 1 if it is not in time.
///
/// # Errors
/// The URL is none.
pub async fn wait(args: &WaitArgs) -> anyhow::Result<ExitCode> {
    let uri: http::Uri = args.url.parse().context(args.url.clone())?;
    if uri.scheme_str() != Some("http") {
        bail!("{}: want http://HOST:PORT/PATH", args.url);
    }
    let host = uri.host().context("the URL has no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let port = uri.port_u16().unwrap_or(80);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let name = uri.authority().map_or("", |authority| authority.as_str());
    let request = Ask {
        method: "GET",
        path,
        host: name,
        headers: &[],
        most: 64 << 10,
        beyond: Beyond::Refuse,
        patience: Duration::from_millis(args.request_timeout_millis),
    };
    let deadline = Instant::now() + Duration::from_secs(args.timeout_seconds);
    let mut last = String::new();
    loop {
        let addresses = tokio::net::lookup_host((host, port)).await;
        for at in addresses.into_iter().flatten() {
            match ask(at, &request).await {
                Ok(answer) if answer.status == 200 => {
                    println!("the proxy is ready");
                    return Ok(ExitCode::SUCCESS);
                }
                Ok(answer) => last = format!("status {}: {}", answer.status, answer.text().trim()),
                Err(error) => last = error.to_string(),
            }
        }
        let pause = Duration::from_millis(args.period_millis);
        if Instant::now() + pause > deadline {
            eprintln!(
                "agent: the proxy is not ready after {} s: {last}",
                args.timeout_seconds
            );
            return Ok(ExitCode::FAILURE);
        }
        sleep(pause).await;
    }
}

/// Asks Envoy's administration and prints its answer.
///
/// # Errors
/// It does not answer, or not well.
pub async fn request(args: &RequestArgs) -> anyhow::Result<ExitCode> {
    let method = args.method.to_ascii_uppercase();
    if !matches!(method.as_str(), "GET" | "POST") {
        bail!("{}: want GET or POST", args.method);
    }
    let mut at = args.addr;
    if let Some(port) = args.debug_port {
        at = ([127, 0, 0, 1], port).into();
    }
    let path = format!("/{}", args.path.trim_start_matches('/'));
    let asked = Admin(at).ask(&method, &path, PATIENCE).await;
    let answer = asked.with_context(|| format!("{at}{path} (at most {MAX_ANSWER} bytes)"))?;
    if answer.status != 200 {
        bail!(
            "{at}{path}: status {}: {}",
            answer.status,
            answer.text().trim()
        );
    }
    match std::io::stdout().write_all(&answer.body) {
        // Whoever reads it has enough: `| head`.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Becomes another program that ends when its parent does, however the parent ends. The wish is Linux's "parent death signal", which outlives the
/// exec.
///
/// # Errors
/// The parent has ended, or there is no such program.
pub fn child(args: &ChildArgs) -> anyhow::Result<Infallible> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .context("the system does not tell of a parent's end")?;
    // It may have ended before the line above.
    if getppid() != Pid::from_raw(args.parent) {
        bail!("the parent has ended");
    }
    let [program, arguments @ ..] = &*args.command else {
        bail!("no program is named");
    };
    let error = std::process::Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("{} cannot be run", program.display()))
}
