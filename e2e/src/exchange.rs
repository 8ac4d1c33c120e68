//! Requests and their answers as text, for `e2e/suites/BEHAVIOUR/expect/*.txt`.
//!
//! ```text
//! # Everybody sees v1; a comment ends at the end of its line.
//! > GET reviews:9080 /first?page=2
//! > end-user: jason
//! < 200 reviews-v1
//! < x-served-by: mesh
//! < x-secret:
//! = path: /second?page=2
//! = x-added: yes
//! ```
//!
//! `>` is what is sent: method, host, target, then headers. `<` is what must come back: status, the backend that answers (none if a proxy
//! does), then headers; without value, the header must be missing; `body` is the whole body. `=` is what the backend must have seen: `method`,
//! `path`, `host`, `protocol` or a header, missing if without value.

use crate::client::{Answer, Call};

/// A request and what must come of it.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The request.
    pub call: Call,
    /// Its lines, for messages.
    pub text: String,
    status: u16,
    backend: String,
    answer: Vec<(String, String)>,
    seen: Vec<(String, String)>,
}

/// Reads a file of exchanges.
///
/// # Panics
/// If it cannot be read.
pub fn parse(text: &str) -> Vec<Exchange> {
    let mut out: Vec<Exchange> = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || -> ! { panic!("line {}: {line}", number + 1) };
        let Some((sign, rest)) = line.split_once(' ') else {
            wrong()
        };
        let words: Vec<&str> = rest.split_whitespace().collect();
        let field = rest
            .split_once(": ")
            .or_else(|| Some((rest.strip_suffix(':')?, "")));
        match (sign, &words[..], out.last_mut()) {
            (">", [method, host, target], _) if !method.ends_with(':') => {
                let method = method.parse().unwrap_or_else(|_| wrong());
                out.push(Exchange {
                    call: Call::new(method, *host, *target),
                    text: String::new(),
                    status: 0,
                    backend: String::new(),
                    answer: Vec::new(),
                    seen: Vec::new(),
                });
            }
            (">", _, Some(last)) => {
                let (name, value) = field.unwrap_or_else(|| wrong());
                last.call = last.call.clone().header(name, value);
            }
            ("<", [status, backend @ ..], Some(last)) if last.status == 0 => {
                last.status = status.parse().unwrap_or_else(|_| wrong());
                last.backend = backend.join(" ");
            }
            ("<" | "=", _, Some(last)) => {
                let (name, value) = field.unwrap_or_else(|| wrong());
                let fields = if sign == "<" {
                    &mut last.answer
                } else {
                    &mut last.seen
                };
                fields.push((name.to_lowercase(), value.to_owned()));
            }
            _ => wrong(),
        }
        if let Some(last) = out.last_mut() {
            last.text += line;
            last.text.push('\n');
        }
    }
    for exchange in &out {
        assert_ne!(exchange.status, 0, "without answer:\n{}", exchange.text);
    }
    out
}

impl Exchange {
    /// Compares an answer with what is wanted.
    ///
    /// # Errors
    /// Every difference, one line each.
    pub fn check(&self, answer: &Answer) -> Result<(), String> {
        let mut wrong = String::new();
        let mut same = |what: &str, is: &str, wanted: &str| {
            if is != wanted {
                wrong += &format!("  {what} is {is:?}, want {wanted:?}\n");
            }
        };
        let status = answer.status.as_u16().to_string();
        same("status", &status, &self.status.to_string());
        same("backend", &answer.backend(), &self.backend);
        for (name, wanted) in &self.answer {
            match name.as_str() {
                "body" => same("body", answer.text().trim_end(), wanted),
                name => same(name, &answer.header(name), wanted),
            }
        }
        let seen = answer.seen();
        for (name, wanted) in &self.seen {
            let is = match name.as_str() {
                "method" | "path" | "host" | "protocol" => &seen[name],
                header => &seen["headers"][header],
            };
            same(
                &format!("seen {name}"),
                is.as_str().unwrap_or_default(),
                wanted,
            );
        }
        if wrong.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "{}{wrong}  body: {}\n",
                self.text,
                answer.text().trim_end()
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# all\n> GET reviews /a\n> end-user: jason\n< 200 reviews-v2\n< x-gone:\n= path: /b\n\n> HEAD x /\n< 404\n";

    #[test]
    fn differences_are_told_all_at_once() {
        let exchanges = parse(TEXT);
        assert_eq!(exchanges.len(), 2);
        let answer = |status: u16, body: &'static str| Answer {
            status: status.try_into().unwrap(),
            headers: Default::default(),
            body: body.into(),
        };
        let good = answer(200, r#"{"backend":"reviews-v2","path":"/b"}"#);
        assert_eq!(exchanges[0].check(&good), Ok(()));
        assert_eq!(exchanges[1].check(&answer(404, "")), Ok(()));
        let wrong = exchanges[0]
            .check(&answer(503, r#"{"backend":"reviews-v1","path":"/a"}"#))
            .unwrap_err();
        for part in [
            "status is \"503\"",
            "backend is \"reviews-v1\"",
            "seen path is \"/a\"",
        ] {
            assert!(wrong.contains(part), "{wrong}");
        }
    }

    #[test]
    #[should_panic(expected = "without answer")]
    fn an_exchange_without_answer_is_no_test() {
        parse("> GET a /\n");
    }
}
