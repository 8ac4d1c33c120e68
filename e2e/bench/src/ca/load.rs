//! Many callers that ask for certificates at once.

use std::time::Duration;

use anyhow::Context as _;
use futures::StreamExt as _;
use futures::stream;
use hdrhistogram::Histogram;
use mesh_api::istio::ca::IstioCertificateRequest;
use mesh_api::istio::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use service_kit::tls::{self, Channel, ServerId};
use tokio::time::Instant;
use tonic::metadata::AsciiMetadataValue;

use super::Connections;
use super::authority::Caller;

/// Who asks whom, and how.
pub struct Load<'a> {
    /// Where the authority is.
    pub address: String,
    /// Who it is.
    pub server: ServerId,
    /// Who asks.
    pub callers: &'a [Caller],
    /// How they connect.
    pub connections: Connections,
    /// Requests under way at once.
    pub concurrency: usize,
}

/// What it took.
pub struct Took {
    /// Certificates.
    pub certificates: u64,
    /// From the first request to the last answer.
    pub wall: Duration,
    /// Each, from the wish (with its connection, if that is part of it) to the certificate. Unit: microseconds.
    pub latency: Histogram<u64>,
}

impl Load<'_> {
    /// Asks so many times, by the callers in turn.
    ///
    /// # Errors
    /// One of them was refused, or got no certificate.
    pub async fn run(&self, requests: usize) -> anyhow::Result<Took> {
        let open: Vec<Channel> = match self.connections {
            Connections::Warm => {
                let channels = self.callers.iter().map(|caller| self.channel(caller));
                channels.collect::<anyhow::Result<_>>()?
            }
            Connections::Each => Vec::new(),
        };
        // Connected, so that no handshake is measured.
        for (caller, channel) in self.callers.iter().zip(&open) {
            ask(caller, channel.clone()).await?;
        }
        let started = Instant::now();
        let answers = stream::iter(0..requests).map(|number| {
            let which = number % self.callers.len();
            let (caller, open) = (&self.callers[which], open.get(which).cloned());
            async move {
                let asked = Instant::now();
                let channel = match open {
                    Some(channel) => channel,
                    None => self.channel(caller)?,
                };
                ask(caller, channel).await?;
                Ok::<_, anyhow::Error>(asked.elapsed())
            }
        });
        let mut answers = answers.buffer_unordered(self.concurrency);
        let mut latency = Histogram::new(3)?;
        while let Some(took) = answers.next().await {
            latency.record(u64::try_from(took?.as_micros())?)?;
        }
        Ok(Took {
            certificates: latency.len(),
            wall: started.elapsed(),
            latency,
        })
    }

    fn channel(&self, caller: &Caller) -> anyhow::Result<Channel> {
        Ok(tls::connect(
            &self.address,
            caller.tls.clone(),
            self.server.clone(),
        )?)
    }
}

async fn ask(caller: &Caller, channel: Channel) -> anyhow::Result<()> {
    let mut request = tonic::Request::new(IstioCertificateRequest {
        csr: caller.csr.to_string(),
        ..Default::default()
    });
    if let Some(bearer) = &caller.bearer {
        let bearer: AsciiMetadataValue = bearer.parse()?;
        request.metadata_mut().insert("authorization", bearer);
    }
    let answer = IstioCertificateServiceClient::new(channel)
        .create_certificate(request)
        .await
        .context("CreateCertificate")?;
    anyhow::ensure!(answer.get_ref().cert_chain.len() >= 2, "no certificate");
    Ok(())
}
