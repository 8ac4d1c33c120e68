//! Blocks of base64 between two lines.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// A text that is no PEM.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// Longer than the bound.
    #[error("the text has {len} bytes, at most {most} are allowed")]
    TooLong {
        /// What it has. Unit: bytes.
        len: usize,
        /// What it may have. Unit: bytes.
        most: usize,
    },
    /// A block without its last line, or with another name there.
    #[error("a PEM block is not closed")]
    Unclosed,
    /// What stands between the lines is no base64; a block with headers (an encrypted key) is such a one.
    #[error("a PEM block holds no base64")]
    Base64,
    /// There is none of the blocks that were looked for.
    #[error("there is no PEM block {0:?}")]
    Missing(&'static str),
    /// There is more than one block where one is wanted.
    #[error("there is more than one PEM block")]
    Several,
}

/// One block.
pub(crate) struct Block<'a> {
    pub(crate) label: &'a str,
    /// Wiped when dropped, since it may be a key.
    pub(crate) content: Zeroizing<Vec<u8>>,
}

const BEGIN: &str = "-----BEGIN ";
const DASHES: &str = "-----";

/// Every block in order; what stands between blocks is left out. `most` bounds the text. Unit: bytes.
pub(crate) fn blocks(text: &str, most: usize) -> Result<Vec<Block<'_>>, PemError> {
    if text.len() > most {
        let len = text.len();
        return Err(PemError::TooLong { len, most });
    }
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(BEGIN) {
        rest = &rest[start + BEGIN.len()..];
        let (label, body) = rest.split_once(DASHES).ok_or(PemError::Unclosed)?;
        if label.contains('\n') {
            return Err(PemError::Unclosed);
        }
        let (body, end) = body.split_once("-----END ").ok_or(PemError::Unclosed)?;
        rest = end
            .strip_prefix(label)
            .and_then(|end| end.strip_prefix(DASHES))
            .ok_or(PemError::Unclosed)?;
        let mut packed = Zeroizing::new(Vec::with_capacity(body.len()));
        packed.extend(body.bytes().filter(|b| !b.is_ascii_whitespace()));
        let mut content = Zeroizing::new(vec![0; packed.len() / 4 * 3 + 3]);
        let len = STANDARD
            .decode_slice(packed.as_slice(), content.as_mut_slice())
            .map_err(|_| PemError::Base64)?;
        content.truncate(len);
        out.push(Block { label, content });
    }
    Ok(out)
}

/// One block, ending in one newline.
pub(crate) fn encode(label: &str, content: &[u8]) -> Zeroizing<String> {
    let packed = Zeroizing::new(STANDARD.encode(content));
    let mut out = Zeroizing::new(String::with_capacity(
        packed.len() + packed.len() / 64 + 2 * label.len() + 40,
    ));
    out.push_str(BEGIN);
    out.push_str(label);
    out.push_str("-----\n");
    let mut rest = packed.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = more;
    }
    out.push_str("-----END ");
    out.push_str(label);
    out.push_str("-----\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Result<Vec<(&str, Vec<u8>)>, PemError> {
        Ok(blocks(text, 1000)?
            .into_iter()
            .map(|block| (block.label, block.content.to_vec()))
            .collect())
    }

    #[test]
    fn reads_what_it_writes_and_what_others_write() {
        let text = encode("A B", &[7; 100]);
        assert_eq!(labels(&text).unwrap(), [("A B", vec![7; 100])]);
        assert!(text.lines().all(|line| line.len() <= 64));
        let two = "words\r\n-----BEGIN X-----\r\nYQ==\r\n-----END X-----\r\n-----BEGIN Y-----\n-----END Y-----";
        assert_eq!(
            labels(two).unwrap(),
            [("X", b"a".to_vec()), ("Y", Vec::new())]
        );
        assert_eq!(labels("no block"), Ok(Vec::new()));
    }

    #[test]
    fn refuses_what_is_broken() {
        for (bad, why) in [
            ("-----BEGIN X", PemError::Unclosed),
            ("-----BEGIN X-----\nYQ==", PemError::Unclosed),
            (
                "-----BEGIN X-----\nYQ==\n-----END Y-----",
                PemError::Unclosed,
            ),
            ("-----BEGIN X-----\nY*==\n-----END X-----", PemError::Base64),
            (
                "-----BEGIN X-----\nProc-Type: 4,ENCRYPTED\n\nYQ==\n-----END X-----",
                PemError::Base64,
            ),
            (
                &" ".repeat(1001),
                PemError::TooLong {
                    len: 1001,
                    most: 1000,
                },
            ),
        ] {
            assert_eq!(labels(bad), Err(why), "{bad}");
        }
    }
}
