//! Flags of `agent capture`: those of `istio-iptables`, by the same names and variables.

use std::time::Duration;

use agent_core::capture::Written;
use clap::builder::BoolishValueParser;
use clap::{ArgAction, ValueEnum};
use service_kit::parse_duration;

/// Hand a pod's traffic to its proxy by iptables
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Port where outbound connections go. There is no variable: a service called `envoy` sets ENVOY_PORT in every pod
    #[arg(short = 'p', long, default_value = "15001")]
    envoy_port: String,
    /// Port where inbound connections go
    #[arg(short = 'z', long, env, default_value = "15006")]
    inbound_capture_port: String,
    /// Inbound port that is never captured
    #[arg(short = 'e', long, env, default_value = "15008")]
    inbound_tunnel_port: String,
    /// Users, by number or name and parted by commas, whose traffic is the proxy's own; default: that of the user ENVOY_USER, else 1337
    #[arg(short = 'u', long, env, default_value = "", hide_default_value = true)]
    proxy_uid: String,
    /// Name of the proxy's user
    #[arg(long, env, default_value = "istio-proxy")]
    envoy_user: String,
    /// Groups whose traffic is the proxy's own; default: the numbers of --proxy-uid
    #[arg(short = 'g', long, env, default_value = "", hide_default_value = true)]
    proxy_gid: String,
    /// REDIRECT, or TPROXY, by which the application sees the client's address
    #[arg(short = 'm', long, env, default_value = "REDIRECT")]
    istio_inbound_interception_mode: String,
    /// Inbound ports to capture: `*`, a list parted by commas, or nothing
    #[arg(short = 'b', long, env, default_value = "", hide_default_value = true)]
    istio_inbound_ports: String,
    /// Inbound ports to leave alone, when all others are captured
    #[arg(short = 'd', long, env, default_value = "", hide_default_value = true)]
    istio_local_exclude_ports: String,
    /// Interfaces to leave alone, both ways
    #[arg(short = 'c', long, env, default_value = "", hide_default_value = true)]
    istio_exclude_interfaces: String,
    /// Outbound ranges to capture: `*`, a list parted by commas, or nothing
    #[arg(short = 'i', long, env, default_value = "", hide_default_value = true)]
    istio_service_cidr: String,
    /// Outbound ranges to leave alone
    #[arg(short = 'x', long, env, default_value = "", hide_default_value = true)]
    istio_service_exclude_cidr: String,
    /// Outbound ports to capture, whatever the range
    #[arg(short = 'q', long, env, default_value = "", hide_default_value = true)]
    istio_outbound_ports: String,
    /// Outbound ports to leave alone
    #[arg(short = 'o', long, env, default_value = "", hide_default_value = true)]
    istio_local_outbound_ports_exclude: String,
    /// Interfaces of virtual machines, whose inbound traffic is captured as outbound
    #[arg(short = 'k', long, env, default_value = "", hide_default_value = true)]
    kube_virt_interfaces: String,
    /// Mark of packets that TPROXY takes
    #[arg(short = 't', long, env, default_value = "1337")]
    istio_inbound_tproxy_mark: String,
    /// Routing table of packets that TPROXY takes
    #[arg(short = 'r', long, env, default_value = "133")]
    istio_inbound_tproxy_route_table: String,
    /// Groups, by number or name, whose outbound traffic is captured
    #[arg(long, env = "ISTIO_OUTBOUND_OWNER_GROUPS", default_value = "*")]
    outbound_owner_groups: String,
    /// Groups whose outbound traffic is left alone
    #[arg(
        long,
        env = "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
        default_value = "",
        hide_default_value = true
    )]
    outbound_owner_groups_exclude: String,
    /// What counts as the pod's loopback, inside 127.0.0.0/8
    #[arg(
        long,
        env = "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR",
        default_value = "127.0.0.1/32"
    )]
    outbound_ipv4_loopback_cidr: String,
    #[command(flatten)]
    switches: Switches,
    /// Which iptables to use, whatever rules are there
    #[arg(long, env, conflicts_with = "iptables_version")]
    pub(super) force_iptables_binary: Option<Binary>,
    /// What `iptables --version` prints where the rules are to be, instead of looking which rules are there: `1.8.9 (nf_tables)`
    #[arg(long, env)]
    pub(super) iptables_version: Option<String>,
    /// Network namespace to work in: a path such as /proc/PID/ns/net, or a name that `ip netns` knows
    #[arg(long, env, default_value = "", hide_default_value = true)]
    pub(super) network_namespace: String,
    /// Port that validation connects to
    #[arg(long, env, default_value = "15002")]
    pub(super) iptables_probe_port: u16,
    /// How long validation waits for connections to be captured
    #[arg(long, env, default_value = "5s", value_parser = parse_duration)]
    pub(super) probe_timeout: Duration,
}

/// Switches. Each may be written alone, or with `=true` or `=false`.
#[derive(Debug, Clone, clap::Args)]
struct Switches {
    /// Send DNS to the agent; also ISTIO_META_DNS_CAPTURE
    #[arg(long, env, default_value = "false", hide_default_value = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    redirect_dns: bool,
    #[arg(long, env = "ISTIO_META_DNS_CAPTURE", hide = true, default_value = "false", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    istio_meta_dns_capture: bool,
    /// Send all DNS to the agent, not only what goes to the servers of /etc/resolv.conf
    #[arg(long, env, default_value = "false", hide_default_value = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    capture_all_dns: bool,
    /// Drop packets that belong to no connection; also INVALID_DROP
    #[arg(long, env, default_value = "false", hide_default_value = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    drop_invalid: bool,
    #[arg(long, env = "INVALID_DROP", hide = true, default_value = "false", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    invalid_drop: bool,
    /// Capture IPv6 beside IPv4; also ISTIO_DUAL_STACK
    #[arg(long, env, default_value = "false", hide_default_value = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    dual_stack: bool,
    #[arg(long, env = "ISTIO_DUAL_STACK", hide = true, default_value = "false", num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    istio_dual_stack: bool,
    /// Print what would be done, and do nothing
    #[arg(short = 'n', long, env, default_value = "false", hide_default_value = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    dry_run: bool,
    /// Touch no rules; for --run-validation alone
    #[arg(long, env, default_value = "false", hide_default_value = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    skip_rule_apply: bool,
    /// Make connections to see whether they are captured; exit code 126 if not
    #[arg(long, env, default_value = "false", hide_default_value = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    run_validation: bool,
    /// Replace rules that are there and differ, instead of failing; new connections wait meanwhile
    #[arg(long, env, default_value = "false", hide_default_value = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    reconcile: bool,
    /// Remove the rules, of whatever settings, and apply none
    #[arg(long, env, default_value = "false", hide_default_value = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    cleanup_only: bool,
    /// Apply the rules even if they are there
    #[arg(long, env, default_value = "false", hide_default_value = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    force_apply: bool,
    /// Lock the namespace alone against other users of iptables, not the whole node; for a CNI plugin
    #[arg(long, env, default_value = "false", hide_default_value = true, num_args = 0..=1, require_equals = true,
        default_missing_value = "true", value_parser = BoolishValueParser::new(), action = ArgAction::Set)]
    cni_mode: bool,
}

/// A variant of iptables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Binary {
    /// Rules with nftables.
    Nft,
    /// Rules with the kernel's old tables.
    Legacy,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Todo {
    pub dry_run: bool,
    pub apply: bool,
    pub validate: bool,
    pub cleanup: bool,
    pub reconcile: bool,
    pub force: bool,
    pub lock_namespace: bool,
}

impl Args {
    /// Settings as written.
    pub(super) fn written(&self) -> Written {
        let switches = &self.switches;
        Written {
            envoy_port: self.envoy_port.clone(),
            inbound_capture_port: self.inbound_capture_port.clone(),
            inbound_tunnel_port: self.inbound_tunnel_port.clone(),
            proxy_uid: self.proxy_uid.clone(),
            envoy_user: self.envoy_user.clone(),
            proxy_gid: self.proxy_gid.clone(),
            interception_mode: self.istio_inbound_interception_mode.clone(),
            inbound_ports: self.istio_inbound_ports.clone(),
            inbound_exclude_ports: self.istio_local_exclude_ports.clone(),
            outbound_cidrs: self.istio_service_cidr.clone(),
            outbound_exclude_cidrs: self.istio_service_exclude_cidr.clone(),
            outbound_ports: self.istio_outbound_ports.clone(),
            outbound_exclude_ports: self.istio_local_outbound_ports_exclude.clone(),
            exclude_interfaces: self.istio_exclude_interfaces.clone(),
            reroute_interfaces: self.kube_virt_interfaces.clone(),
            tproxy_mark: self.istio_inbound_tproxy_mark.clone(),
            tproxy_table: self.istio_inbound_tproxy_route_table.clone(),
            owner_groups: self.outbound_owner_groups.clone(),
            owner_groups_exclude: self.outbound_owner_groups_exclude.clone(),
            loopback_cidr: self.outbound_ipv4_loopback_cidr.clone(),
            redirect_dns: switches.redirect_dns || switches.istio_meta_dns_capture,
            capture_all_dns: switches.capture_all_dns,
            drop_invalid: switches.drop_invalid || switches.invalid_drop,
            dual_stack: switches.dual_stack || switches.istio_dual_stack,
        }
    }

    pub(super) fn todo(&self) -> Todo {
        let switches = &self.switches;
        Todo {
            dry_run: switches.dry_run,
            apply: !switches.skip_rule_apply,
            validate: switches.run_validation,
            cleanup: switches.cleanup_only,
            reconcile: switches.reconcile,
            force: switches.force_apply,
            lock_namespace: switches.cni_mode,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Program {
        #[command(flatten)]
        args: Args,
    }

    fn parse(words: &str) -> Result<Args, clap::Error> {
        let words = std::iter::once("capture").chain(words.split(' '));
        Program::try_parse_from(words).map(|program| program.args)
    }

    #[test]
    fn flags_of_istio_iptables_are_taken() {
        let args = parse(
            "-p 1 -z 2 -e 3 -u 4 -g 5 -m TPROXY -i 10.0.0.0/8 -x 10.1.0.0/16 -b * -d 6 -q 7 -o 8 -c eth1 -k kv0 -t 9 -r 10 -n \
             --redirect-dns --capture-all-dns=true --dual-stack --drop-invalid=false --run-validation --skip-rule-apply \
             --iptables-probe-port 11 --probe-timeout 250ms --network-namespace pod --reconcile --cleanup-only --force-apply \
             --cni-mode --force-iptables-binary legacy --outbound-owner-groups 12",
        )
        .unwrap();
        let written = args.written();
        assert!(written.redirect_dns && written.capture_all_dns && written.dual_stack);
        assert!(!written.drop_invalid);
        assert_eq!(
            (written.outbound_ports, written.outbound_exclude_ports),
            ("7".into(), "8".into())
        );
        assert_eq!(written.inbound_ports, "*");
        let all = Todo {
            dry_run: true,
            apply: false,
            validate: true,
            cleanup: true,
            reconcile: true,
            force: true,
            lock_namespace: true,
        };
        assert_eq!(args.todo(), all);
        assert_eq!(args.probe_timeout, Duration::from_millis(250));
    }

    #[test]
    fn switches_take_truths_alone() {
        assert!(parse("--redirect-dns=perhaps").is_err());
        assert!(parse("--force-iptables-binary other").is_err());
        assert!(parse("-x -j").is_err());
    }
}
