//! What the agent asks Pilot for itself: names, and whom to trust.
//!
//! They ride on Envoy's stream, are taken out of it, and are acknowledged here: names when they are in force, trust when Envoy has it.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::time::Duration;

use agent_core::trust::Teller;
use agent_core::wire::{Response, Variant};
use bytes::Bytes;
use envoy_api::any::Any;
use envoy_api::envoy::service::discovery::v3::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use envoy_api::google::rpc::Status as Refusal;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use mesh_api::citadel::TrustBundle;
use mesh_api::istio::mesh::ProxyConfig;
use mesh_api::istio::nds::NameTable;
use prost::{Message as _, Name as _};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::trust::TrustKeeper;

/// Names of the mesh, once they have come.
pub type Names = watch::Sender<Option<NameTable>>;

/// How long Pilot may take to answer what is asked about trust before it is asked in Istio's way too.
const PATIENCE: Duration = Duration::from_secs(5);

/// Name of the one resource of trust.
const DEFAULT: &str = "default";

/// Where what came goes.
#[derive(Clone)]
pub struct Inbox {
    /// Names; `None`: names are not answered here.
    pub names: Option<Names>,
    /// Whom to trust; `None`: there is no identity.
    pub trust: Option<TrustKeeper>,
    /// Whether the trust bundle is asked for in Istio's way at once.
    pub pcds: bool,
}

/// Whether what came is in force, once that is known.
type Verdict = Pin<Box<dyn Future<Output = (String, Response, Result<(), String>)> + Send>>;

/// The agent's own subscriptions of one stream.
pub(super) struct Own {
    variant: Variant,
    inbox: Inbox,
    /// Type URLs that were asked for, with the nonce that came last.
    asked: BTreeMap<String, String>,
    verdicts: FuturesUnordered<Verdict>,
    /// When to ask in Istio's way.
    fallback: Option<Instant>,
}

impl Own {
    pub(super) fn new(variant: Variant, inbox: Inbox) -> Own {
        Own {
            variant,
            inbox,
            asked: BTreeMap::new(),
            verdicts: FuturesUnordered::new(),
            fallback: None,
        }
    }

    /// The first requests.
    pub(super) fn start(&mut self) -> Vec<Bytes> {
        let mut found = Vec::new();
        if self.inbox.names.is_some() {
            found.push(self.subscribe(NameTable::type_url()));
        }
        if self.inbox.trust.is_some() {
            found.push(self.subscribe(TrustBundle::type_url()));
            if self.inbox.pcds {
                found.push(self.subscribe(ProxyConfig::type_url()));
            } else {
                self.fallback = Some(Instant::now() + PATIENCE);
            }
        }
        found
    }

    /// Whether a type is one of the agent's own, asked for or not.
    pub(super) fn takes(&self, type_url: &str) -> bool {
        self.asked.contains_key(type_url)
    }

    /// Takes a response of one of the agent's own types.
    pub(super) fn take(&mut self, head: Response, message: &Bytes) {
        let url = head.type_url.clone();
        if let Some(nonce) = self.asked.get_mut(&url) {
            nonce.clone_from(&head.nonce);
        }
        let resources = resources(self.variant, message);
        let inbox = self.inbox.clone();
        if url == TrustBundle::type_url() {
            self.fallback = None;
        }
        let settled = async move {
            let verdict = match resources {
                Ok(resources) => settle(&inbox, &url, resources).await,
                Err(error) => Err(error.to_string()),
            };
            (url, head, verdict)
        };
        self.verdicts.push(settled.boxed());
    }

    /// The next thing to say. Never returns while there is none; may be dropped and called again.
    pub(super) async fn next(&mut self) -> Bytes {
        loop {
            let fallback = self.fallback;
            let wait = async {
                match fallback {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                Some((url, head, verdict)) = self.verdicts.next() => {
                    // An answer to what was overtaken is not owed.
                    if self.asked.get(&url) == Some(&head.nonce) {
                        return self.answer(&url, head, verdict);
                    }
                }
                () = wait => {
                    self.fallback = None;
                    return self.subscribe(ProxyConfig::type_url());
                }
            }
        }
    }

    fn subscribe(&mut self, url: String) -> Bytes {
        let names = if url == TrustBundle::type_url() {
            vec![DEFAULT.to_owned()]
        } else {
            Vec::new()
        };
        let message = match self.variant {
            Variant::StateOfTheWorld => DiscoveryRequest {
                type_url: url.clone(),
                resource_names: names,
                ..DiscoveryRequest::default()
            }
            .encode_to_vec(),
            Variant::Delta => DeltaDiscoveryRequest {
                type_url: url.clone(),
                resource_names_subscribe: names,
                ..DeltaDiscoveryRequest::default()
            }
            .encode_to_vec(),
        };
        self.asked.insert(url, String::new());
        message.into()
    }

    fn answer(&self, url: &str, head: Response, verdict: Result<(), String>) -> Bytes {
        let accepted = verdict.is_ok();
        let error_detail = verdict.err().map(|message| {
            tracing::warn!(type_url = url, error = message, "rejected");
            Refusal {
                code: tonic::Code::InvalidArgument as i32,
                message,
                ..Refusal::default()
            }
        });
        let names = if url == TrustBundle::type_url() {
            vec![DEFAULT.to_owned()]
        } else {
            Vec::new()
        };
        match self.variant {
            Variant::StateOfTheWorld => DiscoveryRequest {
                // A rejection names the version that is in force, which is not remembered across streams.
                version_info: if accepted {
                    head.version
                } else {
                    String::new()
                },
                type_url: url.to_owned(),
                resource_names: names,
                response_nonce: head.nonce,
                error_detail,
                ..DiscoveryRequest::default()
            }
            .encode_to_vec()
            .into(),
            Variant::Delta => DeltaDiscoveryRequest {
                type_url: url.to_owned(),
                response_nonce: head.nonce,
                error_detail,
                ..DeltaDiscoveryRequest::default()
            }
            .encode_to_vec()
            .into(),
        }
    }
}

fn resources(variant: Variant, message: &Bytes) -> Result<Vec<Any>, prost::DecodeError> {
    Ok(match variant {
        Variant::StateOfTheWorld => DiscoveryResponse::decode(message.clone())?.resources,
        Variant::Delta => DeltaDiscoveryResponse::decode(message.clone())?
            .resources
            .into_iter()
            .filter_map(|resource| resource.resource)
            .collect(),
    })
}

/// Puts what came into force, and returns when it is. No resource means no news: what is known stays.
async fn settle(inbox: &Inbox, url: &str, resources: Vec<Any>) -> Result<(), String> {
    let Some(newest) = resources.last() else {
        return Ok(());
    };
    let wrong = |error: prost::DecodeError| error.to_string();
    if url == NameTable::type_url() {
        let table = NameTable::decode(newest.value.as_slice()).map_err(wrong)?;
        if let Some(names) = &inbox.names {
            names.send_replace(Some(table));
        }
        return Ok(());
    }
    let Some(trust) = &inbox.trust else {
        return Ok(());
    };
    let version = if url == TrustBundle::type_url() {
        let bundle = TrustBundle::decode(newest.value.as_slice()).map_err(wrong)?;
        trust.take_bundle(bundle, Teller::Pilot)?
    } else {
        let config = ProxyConfig::decode(newest.value.as_slice()).map_err(wrong)?;
        trust.take_pcds(&config.ca_certificates_pem)?
    };
    trust.settled(version).await
}
