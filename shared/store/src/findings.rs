//! The last findings of each source, kept so that a restart does not forget what it told the user.

use sqlx::AssertSqlSafe;

use crate::StoreError;
use crate::db::Store;
use crate::sql::now_us;
use crate::{sql_read, sql_write};

impl Store {
    /// Replaces what was found in `source`; `findings` is JSON, `None` forgets the source.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn save_findings(
        &self,
        source: &str,
        findings: Option<&str>,
    ) -> Result<(), StoreError> {
        if source.contains('\0') || findings.is_some_and(|text| text.contains('\0')) {
            return Err(StoreError::Invalid(
                "findings contain a NUL character".into(),
            ));
        }
        match findings {
            Some(text) => {
                let sql = format!(
                    "INSERT INTO finding (source, findings, saved_us) VALUES ($1, $2, {}) ON CONFLICT (source)
                     DO UPDATE SET findings = excluded.findings, saved_us = excluded.saved_us",
                    now_us(&self.db)
                );
                sql_write!(&self.db, p => sqlx::query(AssertSqlSafe(sql)).bind(source).bind(text).execute(p).await.map(drop))?;
            }
            None => {
                sql_write!(&self.db, p => sqlx::query("DELETE FROM finding WHERE source = $1").bind(source).execute(p).await.map(drop))?;
            }
        }
        Ok(())
    }

    /// What was last found, as (source, JSON), in order of source.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn load_findings(&self) -> Result<Vec<(String, String)>, StoreError> {
        let mut rows: Vec<(String, String)> = sql_read!(&self.db, p => sqlx::query_as("SELECT source, findings FROM finding").fetch_all(p).await)?;
        rows.sort();
        Ok(rows)
    }
}
