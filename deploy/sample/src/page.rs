//! The page.

use serde_json::Value;

use crate::call::Answer;

/// HTML of the whole page.
pub fn render(user: Option<&str>, details: &Answer, reviews: &Answer) -> String {
    let greeting = user
        .map(|user| format!("<p>Signed in as {}</p>", escape(user)))
        .unwrap_or_default();
    format!(
        "<!doctype html>\n<html><head><meta charset=\"utf-8\"><title>A book</title><style>\
         body{{font:16px/1.5 sans-serif;max-width:44em;margin:2em auto;padding:0 1em}}\
         .black{{color:#111}}.red{{color:#c00}}.who{{color:#777;font-size:smaller}}.failed{{color:#c00}}\
         </style></head><body>\n{greeting}\n{}\n{}\n</body></html>\n",
        details_part(details),
        reviews_part(reviews),
    )
}

fn details_part(details: &Answer) -> String {
    match details {
        Answer::Ok(book) => format!(
            "<h1>{}</h1><p>{}, {} ({} pages)</p><p class=\"who\">{}</p>",
            text(&book["title"]),
            text(&book["author"]),
            book["year"],
            book["pages"],
            text(&book["served_by"]),
        ),
        Answer::Failed(why) => format!(
            "<h1>A book</h1><p class=\"failed\">Details are not available: {}</p>",
            escape(why)
        ),
    }
}

fn reviews_part(reviews: &Answer) -> String {
    let book = match reviews {
        Answer::Ok(book) => book,
        Answer::Failed(why) => {
            return format!(
                "<h2>Reviews</h2><p class=\"failed\">Reviews are not available: {}</p>",
                escape(why)
            );
        }
    };
    let color = text(&book["color"]);
    let mut out = String::from("<h2>Reviews</h2>");
    for review in book["reviews"].as_array().into_iter().flatten() {
        let stars = book["ratings"]["stars"][review["reader"].as_str().unwrap_or_default()]
            .as_u64()
            .unwrap_or(0);
        let stars = "★".repeat(stars.min(5) as usize);
        out.push_str(&format!(
            "<blockquote>{}<br>{} <span class=\"{color}\">{stars}</span></blockquote>",
            text(&review["text"]),
            text(&review["reader"]),
        ));
    }
    if let Some(why) = book["ratings"]["error"].as_str() {
        out.push_str(&format!(
            "<p class=\"failed\">Ratings are not available: {}</p>",
            escape(why)
        ));
    }
    out.push_str(&format!(
        "<p class=\"who\">{}</p>",
        text(&book["served_by"])
    ));
    out
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_caller_says_is_not_markup() {
        let page = render(
            Some("<script>"),
            &Answer::Failed("a<b".into()),
            &Answer::Ok(json!({})),
        );
        assert!(
            page.contains("&lt;script&gt;")
                && page.contains("a&lt;b")
                && !page.contains("<script>")
        );
    }
}
