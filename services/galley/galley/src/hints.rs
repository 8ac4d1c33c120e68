//! News on the bus: "revision N exists". A hint, never the truth: who hears it asks the store or the stream.

use std::sync::Arc;
use std::time::Duration;

use bus::Bus;
use service_kit::Stop;
use tokio::sync::watch;

/// Subject of the news; the payload is the number in decimal.
pub const REVISION_SUBJECT: &str = "flotilla.galley.revision";

/// Longest time one piece of news may take: a bus that hangs delays nothing but news.
const PATIENCE: Duration = Duration::from_secs(2);

/// Tells the newest revision whenever it is a new one, until `stop`. Those that come while the bus is slow are skipped.
pub async fn tell(bus: Arc<dyn Bus>, mut revisions: watch::Receiver<u64>, stop: Stop) {
    loop {
        let changed = tokio::select! {
            () = stop.wait() => return,
            changed = revisions.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
        let revision = *revisions.borrow_and_update();
        let sent = bus.publish(REVISION_SUBJECT, revision.to_string().into());
        match tokio::time::timeout(PATIENCE, sent).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(%error, revision, "the bus does not know"),
            Err(_) => tracing::debug!(revision, "the bus does not know: no answer in time"),
        }
    }
}

/// Hears of revisions that other Galleys commit; the highest number heard is in `heard`.
pub async fn hear(bus: Arc<dyn Bus>, heard: watch::Sender<u64>, stop: Stop) {
    let mut news = match bus.subscribe(REVISION_SUBJECT).await {
        Ok(news) => news,
        Err(error) => {
            tracing::warn!(%error, "no news of other Galleys; the store is polled");
            return stop.wait().await;
        }
    };
    loop {
        let message = tokio::select! {
            () = stop.wait() => return,
            message = news.next() => message,
        };
        let Some(message) = message else {
            return stop.wait().await;
        };
        let number = std::str::from_utf8(&message.payload)
            .ok()
            .and_then(|text| text.parse::<u64>().ok());
        if let Some(number) = number {
            heard.send_if_modified(|known| {
                let newer = number > *known;
                *known = number.max(*known);
                newer
            });
        }
    }
}
