//! Join tokens: one use, for one identity, within a time. Only the hash of the secret is kept.

use aws_lc_rs::{constant_time, digest, rand};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use citadel_core::journal::{Entry, Event};
use store::{StoreError, sql_read};
use time::{Duration, OffsetDateTime};
use zeroize::Zeroizing;

use super::Ledger;
use super::transaction::{append, write_transaction};

/// Most tokens that wait to be used.
pub const MAX_TOKENS: i64 = 10_000;

/// Before id and secret, with dots between.
const PREFIX: &str = "flotilla-join.";

/// A token was made. Its text is shown once; its `Debug` shows none of it.
pub struct NewToken {
    /// Names it, in the journal.
    pub id: String,
    /// What the agent shows: `flotilla-join.<id>.<secret>`.
    pub token: Zeroizing<String>,
    /// When it ends.
    pub not_after: OffsetDateTime,
}

impl std::fmt::Debug for NewToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewToken")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// What a token that is good stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its id: to be used up by [`Ledger::record_issued`].
    pub id: String,
    /// The identity it is for.
    pub spiffe_id: String,
    /// The node it is for, or empty.
    pub node: String,
}

/// Why a token is worth nothing, or is not made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Unknown, malformed, expired, used, or of another secret: a caller is not told which.
    #[error("the join token is not valid")]
    Invalid,
    /// Too many tokens wait to be used.
    #[error("{MAX_TOKENS} join tokens wait to be used; let some expire")]
    TooMany,
    /// The database did not answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for TokenError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Takes `flotilla-join.<id>.<secret>` apart. `None`: it is no join token.
pub fn parse_token(text: &str) -> Option<(&str, &str)> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('.')?;
    let plain = |part: &str| {
        (1..=64).contains(&part.len())
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    (plain(id) && plain(secret)).then_some((id, secret))
}

fn hash(secret: &str) -> digest::Digest {
    digest::digest(&digest::SHA256, secret.as_bytes())
}

fn random<const N: usize>() -> Result<Zeroizing<[u8; N]>, StoreError> {
    let mut bytes = Zeroizing::new([0; N]);
    rand::fill(bytes.as_mut())
        .map_err(|_| StoreError::Unavailable("no randomness is to be had".into()))?;
    Ok(bytes)
}

impl Ledger {
    /// Makes a join token for an identity, usable for `ttl` from `now`. `entry` is its entry in the journal; serial, id and time are put in.
    ///
    /// # Errors
    /// [`TokenError::TooMany`], [`TokenError::Store`].
    pub async fn create_token(
        &self,
        spiffe_id: &str,
        node: &str,
        ttl: Duration,
        requester: &str,
        now: OffsetDateTime,
    ) -> Result<NewToken, TokenError> {
        let bytes = random::<8>()?;
        let id: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(*random::<32>()?));
        let not_after = now + ttl;
        let entry = Entry {
            spiffe_id: spiffe_id.to_owned(),
            requester: requester.to_owned(),
            node: node.to_owned(),
            not_after: not_after.unix_timestamp(),
            detail: format!("join token {id}"),
            ..Entry::new(now.unix_timestamp(), Event::Token)
        }
        .tidy();
        let digest = hash(&secret);
        let at = now.unix_timestamp();
        write_transaction!(&self.db, t, head => {
            // A used token is kept until it would have expired.
            sqlx::query("DELETE FROM citadel_token WHERE not_after <= $1").bind(at).execute(&mut *t).await?;
            let waiting: i64 = sqlx::query_scalar("SELECT count(*) FROM citadel_token WHERE used_at = 0").fetch_one(&mut *t).await?;
            if waiting >= MAX_TOKENS {
                Err(TokenError::TooMany)
            } else {
                sqlx::query("INSERT INTO citadel_token (id, hash, spiffe_id, node, not_after, used_at) VALUES ($1, $2, $3, $4, $5, 0)")
                    .bind(&id)
                    .bind(digest.as_ref())
                    .bind(&entry.spiffe_id)
                    .bind(&entry.node)
                    .bind(entry.not_after)
                    .execute(&mut *t)
                    .await?;
                let _ = append!(t, head, [entry.clone()]);
                Ok(())
            }
        })?;
        let token = Zeroizing::new(format!("{PREFIX}{id}.{}", *secret));
        Ok(NewToken {
            id,
            token,
            not_after,
        })
    }

    /// What a token stands for, if it is good now. It is used up only when the certificate for it is recorded, with that in one
    /// transaction: so a failure in between costs no token, and of many who show it at once, on any replica, one gets a certificate.
    ///
    /// # Errors
    /// [`TokenError::Invalid`], [`TokenError::Store`].
    pub async fn redeem_token(
        &self,
        token: &str,
        now: OffsetDateTime,
    ) -> Result<Grant, TokenError> {
        let (id, secret) = parse_token(token).ok_or(TokenError::Invalid)?;
        let row: Option<(Vec<u8>, String, String)> = sql_read!(&self.db, p => sqlx::query_as(
            "SELECT hash, spiffe_id, node FROM citadel_token WHERE id = $1 AND used_at = 0 AND not_after > $2")
            .bind(id).bind(now.unix_timestamp()).fetch_optional(p).await)?;
        let (kept, spiffe_id, node) = row.ok_or(TokenError::Invalid)?;
        constant_time::verify_slices_are_equal(&kept, hash(secret).as_ref())
            .map_err(|_| TokenError::Invalid)?;
        Ok(Grant {
            id: id.to_owned(),
            spiffe_id,
            node,
        })
    }
}
