//! `flotilla.citadel.v1.Trust`: the trust bundle for whoever asks; and the same as a file and as news on the bus.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use bus::Bus;
use futures::Stream;
use mesh_api::citadel::trust_server::{Trust, TrustServer};
use mesh_api::citadel::{TrustBundle, WatchRequest};
use parking_lot::Mutex;
use prost::Message as _;
use service_kit::{Ready, Stop};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Status};

use crate::metrics::Metrics;
use crate::roots::Bundles;

/// Subject of the news: a [`TrustBundle`] with generation and digest alone.
pub const TRUST_SUBJECT: &str = "flotilla.citadel.trust";

/// Longest time one piece of news may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Streams at once. There are a few for each service; agents hear of trust from Pilot, unless they have none.
const MOST: usize = 50_000;

/// Streams of one address: nobody needs to be known for one, so that one machine must not be able to take them all.
const MOST_OF_ADDRESS: usize = 5_000;

/// Streams by address.
#[derive(Clone, Default)]
struct Addresses(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One stream of an address; counted until it is dropped.
struct Counted {
    address: IpAddr,
    all: Addresses,
}

impl Addresses {
    /// One more, if the address may have it.
    fn count(&self, address: IpAddr) -> Option<Counted> {
        let mut all = self.0.lock();
        let streams = all.entry(address).or_default();
        if *streams >= MOST_OF_ADDRESS {
            return None;
        }
        *streams += 1;
        Some(Counted {
            address,
            all: self.clone(),
        })
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut all = self.all.0.lock();
        if let Some(streams) = all.get_mut(&self.address) {
            *streams -= 1;
            if *streams == 0 {
                all.remove(&self.address);
            }
        }
    }
}

/// The service.
#[derive(Clone)]
pub struct TrustService {
    bundles: Bundles,
    metrics: Metrics,
    places: Arc<Semaphore>,
    addresses: Addresses,
    stop: Stop,
}

impl TrustService {
    /// Tells what is in `bundles`.
    pub fn new(bundles: Bundles, metrics: Metrics, stop: Stop) -> TrustService {
        TrustService {
            bundles,
            metrics,
            places: Arc::new(Semaphore::new(MOST)),
            addresses: Addresses::default(),
            stop,
        }
    }

    /// The service with its bounds.
    pub fn server(self) -> TrustServer<TrustService> {
        TrustServer::new(self).max_decoding_message_size(4096)
    }
}

/// One stream.
struct Watcher {
    bundles: Bundles,
    metrics: Metrics,
    stop: Stop,
    /// Digest that the client has.
    has: String,
    ended: bool,
    _place: OwnedSemaphorePermit,
    _counted: Counted,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.metrics.watcher(false);
    }
}

impl Watcher {
    /// The next bundle that the client does not have.
    async fn next(&mut self) -> Option<Result<TrustBundle, Status>> {
        while !self.ended {
            let newest = self.bundles.borrow_and_update().clone();
            if let Some(newest) = newest
                && newest.digest != self.has
            {
                self.has.clone_from(&newest.digest);
                return Some(Ok((*newest).clone()));
            }
            tokio::select! {
                () = self.stop.wait() => self.ended = true,
                changed = self.bundles.changed() => self.ended = changed.is_err(),
            }
            if self.ended {
                return Some(Err(Status::unavailable("Citadel is stopping")));
            }
        }
        None
    }
}

#[tonic::async_trait]
impl Trust for TrustService {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<TrustBundle, Status>> + Send>>;

    async fn watch(
        &self,
        request: Request<WatchRequest>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let many = || Status::resource_exhausted("too many streams");
        let address = request.extensions().get::<ConnectInfo<SocketAddr>>();
        let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |found| found.0.ip());
        let counted = self.addresses.count(address).ok_or_else(many)?;
        let place = self.places.clone().try_acquire_owned();
        let place = place.map_err(|_| many())?;
        self.metrics.watcher(true);
        let watcher = Watcher {
            bundles: self.bundles.clone(),
            metrics: self.metrics.clone(),
            stop: self.stop.clone(),
            has: request.into_inner().digest,
            ended: false,
            _place: place,
            _counted: counted,
        };
        let stream = futures::stream::unfold(watcher, |mut watcher| async move {
            let next = watcher.next().await?;
            Some((next, watcher))
        });
        Ok(tonic::Response::new(Box::pin(stream)))
    }
}

/// Writes each new bundle to `file`, whole or not at all, until `stop`: for the first contact of whoever may read the file.
pub async fn write_file(mut bundles: Bundles, file: PathBuf, ready: Ready, stop: Stop) {
    loop {
        let newest = bundles.borrow_and_update().clone();
        let mut wait = None;
        if let Some(newest) = newest {
            match write(&file, newest.roots.concat()).await {
                Ok(()) => ready.clear_note("root-file"),
                Err(error) => {
                    tracing::warn!(file = %file.display(), %error, "the roots are not written");
                    ready.note("root-file", format!("{}: {error}", file.display()));
                    wait = Some(Duration::from_secs(5));
                }
            }
        }
        let again = async {
            match wait {
                Some(wait) => tokio::time::sleep(wait).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.wait() => return,
            () = again => {}
            changed = bundles.changed() => if changed.is_err() { return stop.wait().await },
        }
    }
}

async fn write(file: &std::path::Path, text: String) -> std::io::Result<()> {
    if tokio::fs::read_to_string(file)
        .await
        .is_ok_and(|known| known == text)
    {
        return Ok(());
    }
    let file = file.to_owned();
    // Public, and read by whoever meets Citadel first.
    let write = move || service_kit::replace_file(&file, text.as_bytes(), 0o644);
    tokio::task::spawn_blocking(write)
        .await
        .map_err(std::io::Error::other)?
}

/// Tells the bus of each new bundle until `stop`, and again when the bus comes back.
pub async fn announce(bus: Arc<dyn Bus>, mut bundles: Bundles, stop: Stop) {
    let mut state = bus.state();
    loop {
        let newest = bundles.borrow_and_update().clone();
        if let Some(newest) = newest {
            let news = TrustBundle {
                trust_domain: newest.trust_domain.clone(),
                generation: newest.generation,
                digest: newest.digest.clone(),
                ..TrustBundle::default()
            };
            let sent = bus.publish(TRUST_SUBJECT, news.encode_to_vec().into());
            match tokio::time::timeout(PATIENCE, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "the bus does not know of the bundle"),
                Err(_) => tracing::debug!("the bus does not know of the bundle: no answer in time"),
            }
        }
        tokio::select! {
            () = stop.wait() => return,
            changed = bundles.changed() => if changed.is_err() { return stop.wait().await },
            changed = state.changed() => if changed.is_err() { return stop.wait().await },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_does_not_take_every_stream() {
        let addresses = Addresses::default();
        let (one, two) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        let mut held: Vec<Counted> = (0..MOST_OF_ADDRESS)
            .map(|_| addresses.count(one).unwrap())
            .collect();
        assert!(addresses.count(one).is_none());
        assert!(addresses.count(two).is_some());
        held.pop();
        assert!(addresses.count(one).is_some());
        drop(held);
        assert!(addresses.0.lock().is_empty());
    }
}
