//! Revisions as Galley commits them: the end of each, from the same stream that Pilots read.

use std::time::Duration;

use envoy_api::envoy::config::core::v3::Node;
use envoy_api::envoy::service::discovery::v3::DeltaDiscoveryRequest;
use envoy_api::envoy::service::discovery::v3::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use identity::accounts;
use mesh_api::galley::Revision;
use prost::{Message as _, Name as _};
use service_kit::{Backoff, tls};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::identities::PLANE;
use crate::client::Who;

/// Hands over every revision from the one in force on, for as long as somebody takes them; asks again when Galley was away.
pub async fn follow(galley: String, who: Who, out: mpsc::Sender<Revision>) {
    let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(1));
    let mut last = 0;
    loop {
        if let Err(error) = read(&galley, &who, &mut last, &mut backoff, &out).await {
            tracing::debug!(
                error = format!("{error:#}"),
                "no revisions from Galley; asking again"
            );
        }
        if out.is_closed() {
            return;
        }
        tokio::time::sleep(backoff.next_delay()).await;
    }
}

/// Reads one stream to its end.
async fn read(
    galley: &str,
    who: &Who,
    last: &mut u64,
    backoff: &mut Backoff,
    out: &mpsc::Sender<Revision>,
) -> anyhow::Result<()> {
    let server = who.server(PLANE, accounts::GALLEY)?;
    let channel = tls::connect(galley, who.identities(), server)?;
    let mut client = AggregatedDiscoveryServiceClient::new(channel);
    let (requests, outbox) = mpsc::channel(4);
    requests
        .send(DeltaDiscoveryRequest {
            node: Some(Node {
                id: "flotilla-up".into(),
                user_agent_name: "flotilla".into(),
                ..Node::default()
            }),
            type_url: Revision::type_url(),
            resource_names_subscribe: vec!["*".into()],
            ..DeltaDiscoveryRequest::default()
        })
        .await?;
    let stream = client.delta_aggregated_resources(ReceiverStream::new(outbox));
    let mut responses = stream.await?.into_inner();
    while let Some(response) = responses.message().await? {
        backoff.reset();
        requests
            .send(DeltaDiscoveryRequest {
                type_url: response.type_url.clone(),
                response_nonce: response.nonce.clone(),
                ..DeltaDiscoveryRequest::default()
            })
            .await?;
        for resource in response
            .resources
            .iter()
            .filter_map(|r| r.resource.as_ref())
        {
            let revision = Revision::decode(&*resource.value)?;
            // A new stream begins with the revision in force, which may be known.
            if revision.number > *last {
                *last = revision.number;
                out.send(revision).await?;
            }
        }
    }
    Ok(())
}
