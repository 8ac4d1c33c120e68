//! The course of one run.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use agent_core::capture::{
    Family, How, Names, Restore, Routes, Seen, Settings, State, Surroundings, Variant, Wanted,
    choose, restores,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::CaptureError;
use super::args::{Args, Binary, Todo};
use super::programs::Programs;
use super::validate::validate;

const RESOLV_CONF: &str = "/etc/resolv.conf";
/// This thread's own view; `/proc/net` is that of the process.
const NET: &str = "/proc/thread-self/net";

/// Runs on a thread that may be moved into another network namespace.
pub(super) fn run(args: &Args) -> Result<(), CaptureError> {
    let names = Names::parse(
        &read("/etc/passwd").unwrap_or_default(),
        &read("/etc/group").unwrap_or_default(),
    );
    let settings = Settings::check(&args.written(), &names).map_err(CaptureError::Settings)?;
    let namespace = enter(&args.network_namespace)?;
    let todo = args.todo();
    let around = surroundings(&settings)?;
    let work = Work {
        programs: Programs {
            lock: todo.lock_namespace.then_some(namespace),
        },
        variant: forced(args)?,
        settings: &settings,
        around: &around,
        todo,
    };
    // Everything this runtime starts has this thread's namespace.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CaptureError::Start)?;
    runtime.block_on(work.run())?;
    if todo.validate && !todo.cleanup && !todo.dry_run {
        let family = match around.v4 {
            true => Family::V4,
            false if around.v6 => Family::V6,
            false => Family::V4,
        };
        let port = args.iptables_probe_port;
        runtime.block_on(validate(&settings, family, port, args.probe_timeout))?;
        println!("connections are captured");
    }
    Ok(())
}

fn forced(args: &Args) -> Result<Option<Variant>, CaptureError> {
    match (args.force_iptables_binary, &args.iptables_version) {
        (Some(Binary::Nft), _) => Ok(Some(Variant::Nft)),
        (Some(Binary::Legacy), _) => Ok(Some(Variant::Legacy)),
        (None, None) => Ok(None),
        (None, Some(version)) if version.is_empty() => Ok(None),
        (None, Some(version)) => match Variant::of_version(version) {
            Some(variant) => Ok(Some(variant)),
            None => Err(CaptureError::Version(version.clone())),
        },
    }
}

/// Moves this thread; returns the file of the namespace it is in.
fn enter(namespace: &str) -> Result<PathBuf, CaptureError> {
    if namespace.is_empty() {
        return Ok("/proc/thread-self/ns/net".into());
    }
    let path = match namespace.contains('/') {
        true => PathBuf::from(namespace),
        false => Path::new("/run/netns").join(namespace),
    };
    let failed = |error| CaptureError::Namespace {
        path: path.display().to_string(),
        error,
    };
    let file = std::fs::File::open(&path).map_err(failed)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| failed(error.into()))?;
    Ok(path)
}

fn read(path: &str) -> Result<String, CaptureError> {
    let bytes = std::fs::read(path).map_err(|error| CaptureError::File {
        path: path.into(),
        error,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn surroundings(settings: &Settings) -> Result<Surroundings, CaptureError> {
    let fib_trie = read(&format!("{NET}/fib_trie"))?;
    // Not there where the kernel has no IPv6.
    let if_inet6 = read(&format!("{NET}/if_inet6")).unwrap_or_default();
    let resolv_conf = match settings.redirect_dns && !settings.capture_all_dns {
        true => read(RESOLV_CONF)?,
        false => String::new(),
    };
    Ok(Surroundings::parse(&fib_trie, &if_inet6, &resolv_conf))
}

struct Work<'a> {
    programs: Programs,
    variant: Option<Variant>,
    settings: &'a Settings,
    around: &'a Surroundings,
    todo: Todo,
}

impl Work<'_> {
    async fn run(&self) -> Result<(), CaptureError> {
        if !self.todo.apply {
            return Ok(());
        }
        let (wanted, warnings) = Wanted::of(self.settings, self.around);
        for warning in warnings {
            eprintln!("warning: {warning}");
        }
        match (self.todo.cleanup, self.todo.dry_run) {
            (true, true) => self.print(&wanted, true),
            (true, false) => self.cleanup().await,
            (false, true) => self.print(&wanted, false),
            (false, false) => self.apply(&wanted).await,
        }
    }

    /// What a fresh pod would be given, or what it would be given to remove that again.
    fn print(&self, wanted: &Wanted, cleanup: bool) -> Result<(), CaptureError> {
        let variant = self.variant.unwrap_or(Variant::Plain);
        let seen = |state: &dyn Fn(Family) -> State| {
            let (v4, v6) = (state(Family::V4), state(Family::V6));
            [(variant, Seen { v4, v6 })]
        };
        let (seen, rules) = match cleanup {
            true => (
                seen(&|family| State::parse(&wanted.of_family(family).as_saved())),
                &Wanted::default(),
            ),
            false => (seen(&|_| State::default()), wanted),
        };
        let routes = Routes::of(self.settings, !wanted.v6.0.is_empty());
        let commands = match cleanup {
            true => Vec::new(),
            false => routes.added(),
        };
        for command in commands {
            println!("# ip {}", command.join(" "));
        }
        for restore in restores(&seen, variant, rules, How::default())? {
            let program = variant.program(restore.family, "restore");
            println!("# {program} --noflush\n{}", restore.text);
        }
        if cleanup {
            for command in routes.removed() {
                println!("# ip {}", command.join(" "));
            }
        }
        Ok(())
    }

    async fn apply(&self, wanted: &Wanted) -> Result<(), CaptureError> {
        let v6 = !wanted.v6.0.is_empty();
        let (seen, variant) = self.look(v6).await?;
        let how = How {
            reconcile: self.todo.reconcile,
            force: self.todo.force,
        };
        let runs = restores(&seen, variant, wanted, how)?;
        // What rules rely on comes first, so that no packet is led nowhere.
        let routes = Routes::of(self.settings, v6);
        let mut changed = self.add_routes(&routes).await?;
        changed |= self.restore_all(&runs).await?;
        for (family, needed) in [(Family::V4, true), (Family::V6, v6)] {
            let rules = wanted.of_family(family);
            if needed && !runs.is_empty() {
                let state = self.programs.state(variant, family).await?;
                if !state.is(rules) {
                    return Err(CaptureError::Changed {
                        program: variant.program(family, "save"),
                        differences: state.differences(rules, 20),
                    });
                }
            }
        }
        if self.todo.reconcile {
            changed |= self
                .remove_routes(&Routes::of_any(self.settings).without(&routes))
                .await?;
        }
        let families = if v6 { "IPv4 and IPv6" } else { "IPv4" };
        let name = variant.name();
        match changed {
            true => println!("rules are in force for {families} (iptables: {name})"),
            false => println!("rules were in force for {families} already (iptables: {name})"),
        }
        Ok(())
    }

    async fn look(&self, v6: bool) -> Result<(Vec<(Variant, Seen)>, Variant), CaptureError> {
        let mut seen = self.programs.seen(v6).await?;
        if let Some(variant) = self.variant {
            // It must work, even if others do.
            if !seen.iter().any(|(found, _)| *found == variant) {
                seen.push((variant, self.programs.seen_by(variant, v6).await?));
            }
            return Ok((seen, variant));
        }
        let default = self.programs.default_variant().await;
        match choose(&seen, default) {
            Some(variant) => Ok((seen, variant)),
            None => Err(CaptureError::NoIptables(Vec::new())),
        }
    }

    async fn restore_all(&self, runs: &[Restore]) -> Result<bool, CaptureError> {
        for run in runs {
            self.programs.restore(run).await?;
        }
        Ok(!runs.is_empty())
    }

    async fn cleanup(&self) -> Result<(), CaptureError> {
        let (seen, variant) = self.look(false).await?;
        let runs = restores(&seen, variant, &Wanted::default(), How::default())?;
        let mut changed = self.restore_all(&runs).await?;
        changed |= self.remove_routes(&Routes::of_any(self.settings)).await?;
        match changed {
            true => println!("rules are removed"),
            false => println!("there were no rules to remove"),
        }
        Ok(())
    }

    async fn add_routes(&self, routes: &Routes) -> Result<bool, CaptureError> {
        let mut changed = false;
        if let Some(command) = routes.add_address()
            && !self.has_address()
        {
            self.programs.ip(&command).await?;
            changed = true;
        }
        for &family in routes.families() {
            let (rules, route) = self.routes_there(routes, family).await?;
            if let Some(command) = routes.add_rule(family)
                && rules == 0
            {
                self.programs.ip(&command).await?;
                changed = true;
            }
            if let Some(command) = routes.add_route(family)
                && !route
            {
                self.programs.ip(&command).await?;
                changed = true;
            }
        }
        Ok(changed)
    }

    async fn remove_routes(&self, routes: &Routes) -> Result<bool, CaptureError> {
        let mut changed = false;
        if let Some(command) = routes.remove_address()
            && self.has_address()
        {
            self.programs.ip(&command).await?;
            changed = true;
        }
        for &family in routes.families() {
            let Ok((rules, route)) = self.routes_there(routes, family).await else {
                // Where `ip` does not work, nothing was ever added by it.
                continue;
            };
            for _ in 0..rules {
                if let Some(command) = routes.remove_rule(family) {
                    self.programs.ip(&command).await?;
                    changed = true;
                }
            }
            if let Some(command) = routes.remove_route(family)
                && route
            {
                self.programs.ip(&command).await?;
                changed = true;
            }
        }
        Ok(changed)
    }

    /// How many of our routing rules are there, and whether our route is.
    async fn routes_there(
        &self,
        routes: &Routes,
        family: Family,
    ) -> Result<(usize, bool), CaptureError> {
        if !routes.has_tproxy() {
            return Ok((0, false));
        }
        let flag = match family {
            Family::V4 => "-4",
            Family::V6 => "-6",
        };
        let rules = ["-j", flag, "rule", "show"];
        let rules = self.programs.run("ip", &rules, "").await?;
        let shown = ["-j", flag, "route", "show", "table", "all"];
        let shown = self.programs.run("ip", &shown, "").await?;
        Ok((routes.rules_in(&rules), routes.has_route(&shown)))
    }

    /// Whether loopback has the address that the proxy's connections to applications come from.
    fn has_address(&self) -> bool {
        let text = read(&format!("{NET}/if_inet6")).unwrap_or_default();
        Surroundings::has_passthrough(&text)
    }
}
