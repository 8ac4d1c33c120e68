//! Output: tables for people, JSON and YAML for machines.

use std::io::Write as _;

use serde::Serialize;

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    #[value(alias = "table")]
    Short,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

impl Output {
    /// Whether people read it.
    pub fn is_table(self) -> bool {
        self == Output::Short
    }
}

/// Prints a line, as `println!` does, but does not break down when nobody reads it any more: `| head`.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::table::put(format_args!("{}\n", format_args!($($text)*)))
    };
}
pub(crate) use say;

/// Writes to the standard output. A reader who has enough is no error; output that is lost, on a full disk say, ends the process with one.
pub fn put(text: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    match out.write_fmt(text).and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            eprintln!("flotilla: the output cannot be written: {error}");
            std::process::exit(1);
        }
        Ok(()) | Err(_) => {}
    }
}

/// Prints a value as JSON or YAML.
///
/// # Errors
/// A value that cannot be written.
pub fn print<T: Serialize>(value: &T, output: Output) -> anyhow::Result<()> {
    match output {
        Output::Yaml => put(format_args!("{}", serde_saphyr::to_string(value)?)),
        Output::Json | Output::Short => say!("{}", serde_json::to_string_pretty(value)?),
    }
    Ok(())
}

/// Lines of equally wide columns, three spaces apart, without trailing blanks.
pub fn lines(head: &[&str], rows: &[Vec<String>]) -> Vec<String> {
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .chain([head[column].len()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded: Vec<String> = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join("   ").trim_end().to_owned()
    };
    std::iter::once(line(head.to_vec()))
        .chain(
            rows.iter()
                .map(|row| line(row.iter().map(String::as_str).collect())),
        )
        .collect()
}

#[cfg(test)]
mod tests {
    use super::lines;

    #[test]
    fn columns_line_up() {
        let rows = [
            vec!["a".to_owned(), "1".to_owned()],
            vec!["long".to_owned(), String::new()],
        ];
        assert_eq!(
            lines(&["NAME", "N"], &rows),
            ["NAME   N", "a      1", "long"]
        );
    }
}
