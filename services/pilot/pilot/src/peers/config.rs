//! What a proxy should have, from whichever Pilot holds it, in pieces that the bus carries.

use bus::Gather;
use bytes::{Bytes, BytesMut};
use mesh_api::pilot::{ConfigPart, ConfigQuestion};
use prost::Message as _;

use super::{PATIENCE, Peers};
use crate::roster::Roster;
use crate::whole::Whole;

/// Where Pilots ask each other for what a proxy should have.
pub(super) const SUBJECT: &str = "flotilla.pilot.config";
/// Most bytes of a configuration in one answer.
const PIECE: usize = bus::MAX_PAYLOAD / 2;
/// Largest configuration taken from another Pilot. Unit: bytes.
const MOST: u64 = 512 << 20;
/// A configuration that changes while it is fetched is fetched anew this often.
const ATTEMPTS: usize = 5;

/// Why there is no configuration to show.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No Pilot holds the proxy.
    #[error("{proxy} is not connected; `flotilla proxy-status` lists who is")]
    Unknown {
        /// The name asked for.
        proxy: String,
    },
    /// No Pilot that answered holds the proxy.
    #[error("{proxy} is not connected to any Pilot that answered; {} did not answer: try again, or ask there", .silent.join(", "))]
    Silent {
        /// The name asked for.
        proxy: String,
        /// Pilots that did not answer.
        silent: Vec<String>,
    },
    /// The Pilot that holds the proxy stopped answering.
    #[error(
        "{proxy} is connected to {pilot}, which stopped answering; try again, or ask that Pilot"
    )]
    Interrupted {
        /// The name asked for.
        proxy: String,
        /// Who holds it.
        pilot: String,
    },
    /// It changed again and again while it was fetched.
    #[error(
        "what {proxy} should have changes faster than {pilot} can tell it; try again, or ask that Pilot"
    )]
    Changing {
        /// The name asked for.
        proxy: String,
        /// Who holds it.
        pilot: String,
    },
    /// It is too large.
    #[error(
        "the configuration of {proxy} has {bytes} bytes, too many to fetch over the bus; ask {pilot}, which holds it"
    )]
    TooLarge {
        /// The name asked for.
        proxy: String,
        /// Who holds it.
        pilot: String,
        /// Its size.
        bytes: u64,
    },
}

/// The piece of an answer, about a proxy of this Pilot.
pub(super) fn part(roster: &Roster, question: &ConfigQuestion) -> ConfigPart {
    let none = ConfigPart {
        pilot: roster.pilot().to_owned(),
        ..ConfigPart::default()
    };
    let Some(connection) = roster.find(&question.proxy) else {
        return none;
    };
    let whole = Whole::of(&connection.current());
    let from = usize::try_from(question.from).unwrap_or(usize::MAX);
    ConfigPart {
        held: true,
        connected_us: connection.connected_us,
        version: whole.version(),
        total: whole.len() as u64,
        piece: whole.piece(from, PIECE).into(),
        ..none
    }
}

impl Peers {
    /// Everything a proxy should have, as the bytes of [`Whole`]: of one moment, also when it changes meanwhile.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub async fn config(&self, proxy: &str) -> Result<Bytes, ConfigError> {
        if let Some(connection) = self.roster.find(proxy) {
            return Ok(Whole::of(&connection.current()).piece(0, usize::MAX));
        }
        let mut pilot = String::new();
        for _ in 0..ATTEMPTS {
            let first = self.holding(proxy).await?;
            pilot.clone_from(&first.pilot);
            if let Some(whole) = self.rest(proxy, first).await? {
                return Ok(whole);
            }
        }
        Err(ConfigError::Changing {
            proxy: proxy.into(),
            pilot,
        })
    }

    /// The first piece, from the Pilot that the proxy came to last.
    async fn holding(&self, proxy: &str) -> Result<ConfigPart, ConfigError> {
        let mut silent = self.others().await;
        let question = ConfigQuestion {
            proxy: proxy.into(),
            ..ConfigQuestion::default()
        };
        // We answer too, being subscribed.
        let answers = if silent.is_empty() {
            Vec::new()
        } else {
            self.ask_config(&question, silent.len() + 1).await
        };
        let mut found: Option<ConfigPart> = None;
        for part in answers {
            silent.remove(&part.pilot);
            let newer = found
                .as_ref()
                .is_none_or(|f| f.connected_us < part.connected_us);
            if part.held && newer {
                found = Some(part);
            }
        }
        let proxy = proxy.to_owned();
        found.ok_or_else(|| {
            if silent.is_empty() {
                ConfigError::Unknown { proxy }
            } else {
                let silent = silent.into_iter().collect();
                ConfigError::Silent { proxy, silent }
            }
        })
    }

    /// Puts the other pieces to the first; `None` if they do not fit together.
    async fn rest(&self, proxy: &str, first: ConfigPart) -> Result<Option<Bytes>, ConfigError> {
        let (proxy, pilot) = (proxy.to_owned(), first.pilot);
        if first.total > MOST {
            let bytes = first.total;
            return Err(ConfigError::TooLarge {
                proxy,
                pilot,
                bytes,
            });
        }
        let mut whole = BytesMut::from(&first.piece[..]);
        while (whole.len() as u64) < first.total {
            let question = ConfigQuestion {
                proxy: proxy.clone(),
                pilot: pilot.clone(),
                from: whole.len() as u64,
            };
            let mut answers = self.ask_config(&question, 1).await;
            if answers.is_empty() {
                // One message may get lost.
                answers = self.ask_config(&question, 1).await;
            }
            let Some(next) = answers.pop() else {
                return Err(ConfigError::Interrupted { proxy, pilot });
            };
            if !next.held || next.version != first.version || next.piece.is_empty() {
                return Ok(None);
            }
            whole.extend_from_slice(&next.piece);
        }
        Ok(Some(whole.freeze()))
    }

    async fn ask_config(&self, question: &ConfigQuestion, expect: usize) -> Vec<ConfigPart> {
        let gather = Gather {
            timeout: PATIENCE,
            expect: Some(expect),
        };
        let answers = self
            .bus
            .request_many(SUBJECT, question.encode_to_vec().into(), gather)
            .await
            .unwrap_or_default();
        let answers = answers.into_iter();
        answers
            .filter_map(|answer| ConfigPart::decode(answer).ok())
            .collect()
    }
}
