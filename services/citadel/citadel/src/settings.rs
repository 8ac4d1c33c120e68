//! What the flags say, checked and turned into what the parts take.

use std::time::Duration;

use citadel_core::issue::Policy;
use citadel_core::names::{ControlPlane, OPERATOR, VIEWER};
use citadel_core::policy::jwt::JwtRule;
use citadel_core::rotation;
use pki::KeyType;
use service_kit::roles::Roles;
use service_kit::tls::TlsSettings;

use crate::args::{Args, RootKey};
use crate::callers::jwks;
use crate::callers::kubernetes::Api;
use crate::https::{self, HttpsError, Target};
use crate::roots::RootsConfig;
use crate::run::RunError;

/// Flags that were checked before anything is opened.
pub(crate) struct Settings {
    /// Names and identities of the control plane.
    pub plane: ControlPlane,
    /// How long certificates live.
    pub policy: Policy,
    /// Operators and viewers.
    pub roles: Roles,
    /// Versions and ciphers.
    pub tls: TlsSettings,
    /// The issuer whose JWTs are taken, and where its keys are.
    pub jwt: Option<(JwtRule, jwks::Source)>,
    /// The API server that reviews tokens.
    pub api: Option<Api>,
    /// Where roots come from.
    pub roots: RootsConfig,
}

impl Settings {
    /// Checks them.
    ///
    /// # Errors
    /// The first that makes no sense, by its name.
    pub fn check(args: &Args) -> Result<Settings, RunError> {
        for (flag, name) in args
            .server_names
            .iter()
            .map(|name| ("server-names", name))
            .chain(args.names.iter().map(|named| ("names", &named.host)))
        {
            if !name.is_empty() && rustls::pki_types::ServerName::try_from(name.as_str()).is_err() {
                let name = name.clone();
                return Err(RunError::Host { flag, name });
            }
        }
        let plane = ControlPlane::new(
            args.trust_domain.clone(),
            &args.namespace,
            &args.revision,
            &args.server_names,
            &args.names,
        )?;
        let life = |time: Duration| {
            time::Duration::try_from(time).map_err(|_| RunError::Flag("a time is too long".into()))
        };
        let policy = Policy {
            default_life: life(args.issue.workload_cert_ttl)?,
            longest_life: life(args.issue.max_workload_cert_ttl)?,
        };
        if policy.default_life < time::Duration::SECOND || policy.longest_life < policy.default_life
        {
            return Err(RunError::Flag(
                "--workload-cert-ttl must be a second at least, and --max-workload-cert-ttl no less"
                    .into(),
            ));
        }
        let operators = args.operators.iter().cloned().chain([plane.id(OPERATOR)?]);
        let viewers = args.viewers.iter().cloned().chain([plane.id(VIEWER)?]);
        let roots = RootsConfig {
            folder: Some(args.roots.root_ca_dir.clone()),
            multi_root: args.roots.multi_root,
            ca_crl: args.roots.ca_crl,
            key_type: match args.roots.root_key {
                RootKey::Ec => KeyType::EcP256,
                RootKey::Rsa => KeyType::Rsa(args.roots.root_rsa_bits.into()),
            },
            root_life: life(args.roots.root_ttl)?,
            grace_percent: args.roots.root_grace_percent,
            check_interval: args.roots.root_check_interval,
            check_jitter: args.roots.root_check_jitter,
            longest_life: policy.longest_life,
            rotation: rotation::Settings {
                settle: life(args.roots.rotation_evidence_time)?,
            },
            ..RootsConfig::new(args.trust_domain.clone(), String::new())
        };
        Ok(Settings {
            roles: Roles::new(operators, viewers),
            tls: TlsSettings::with_ciphers(args.tls_min_version, &args.tls_ciphers)
                .map_err(|error| RunError::Flag(format!("--tls-ciphers: {error}")))?,
            jwt: jwt(args)?,
            api: api(args)?,
            plane,
            policy,
            roots,
        })
    }
}

fn jwt(args: &Args) -> Result<Option<(JwtRule, jwks::Source)>, RunError> {
    let callers = &args.callers;
    if callers.jwt_rule.trim().is_empty() {
        if callers.jwks_file.is_some() || callers.jwks_ca.is_some() {
            return Err(RunError::Flag(
                "--jwks-file and --jwks-ca need --jwt-rule: nobody's tokens are taken without"
                    .into(),
            ));
        }
        return Ok(None);
    }
    let rule = JwtRule::parse(&callers.jwt_rule, &callers.token_audiences)?;
    let source = match &callers.jwks_file {
        Some(file) => jwks::Source::File(file.clone()),
        None => {
            let url = rule.jwks_uri.as_deref().unwrap_or(&rule.issuer);
            Target::parse(url).map_err(https("jwt-rule"))?;
            let tls = https::tls(callers.jwks_ca.as_deref()).map_err(https("jwks-ca"))?;
            jwks::Source::Url(tls)
        }
    };
    Ok(Some((rule, source)))
}

fn api(args: &Args) -> Result<Option<Api>, RunError> {
    let Some(api) = args.callers.api().map_err(RunError::Flag)? else {
        if !args.callers.trusted_node_accounts.is_empty() {
            return Err(RunError::Flag(
                "--trusted-node-accounts need --kubernetes-api: who runs on a node is known there"
                    .into(),
            ));
        }
        return Ok(None);
    };
    Ok(Some(Api {
        tls: https::tls(api.ca.as_deref()).map_err(https("kubernetes-ca"))?,
        base: Target::parse(&api.url).map_err(https("kubernetes-api"))?,
        token: api.token,
    }))
}

fn https(flag: &'static str) -> impl FnOnce(HttpsError) -> RunError {
    move |error| RunError::Https { flag, error }
}
