//! The operator's command line.

use std::process::Stdio;

use serde_json::Value;

use crate::pilot::Pilot;
use crate::process::built;

/// What a command left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub error: String,
}

impl Told {
    /// Its output as JSON.
    ///
    /// # Panics
    /// If it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Cells of the line of a table that begins with `name`; columns are two blanks or more apart.
    ///
    /// # Panics
    /// If there is no such line.
    pub fn row(&self, name: &str) -> Vec<&str> {
        let mut rows = self.out.lines().map(|line| {
            let cells = line.split("  ").map(str::trim);
            cells.filter(|cell| !cell.is_empty()).collect::<Vec<_>>()
        });
        let row = rows.find(|cells| cells.first() == Some(&name));
        row.unwrap_or_else(|| panic!("no line begins with {name}: {self:?}"))
    }
}

/// Runs `flotilla` to its end.
///
/// # Panics
/// If the system cannot start it, or a signal ends it.
pub async fn flotilla(args: &[&str]) -> Told {
    let ran = tokio::process::Command::new(built("flotilla"))
        .args(args)
        .env_remove("FLOTILLA_PILOT")
        .env_remove("FLOTILLA_GALLEY")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .expect("flotilla");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Told {
        code: ran.status.code().expect("an exit code"),
        out: text(&ran.stdout),
        error: text(&ran.stderr),
    }
}

impl Pilot {
    /// A command of the operator's, asked of this Pilot.
    ///
    /// # Panics
    /// As [`flotilla`].
    pub async fn tell(&self, args: &[&str]) -> Told {
        let url = format!("http://{}", self.http);
        flotilla(&[args, &["--pilot", &url]].concat()).await
    }
}
