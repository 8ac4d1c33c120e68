//! The page.

use serde_json::Value;

use crate::call::Answer;

const STYLE: &str = include_str!("page.css");

/// HTML of the whole page.
pub fn render(user: Option<&str>, details: &Answer, reviews: &Answer) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>{}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n{}\n<main>\n{}\n{}\n</main>\n\
         <footer>Every call between these services goes through an Envoy that Flotilla configures.</footer>\n\
         </body>\n</html>\n",
        title(details),
        header(user),
        details_part(details),
        reviews_part(reviews),
    )
}

fn title(details: &Answer) -> String {
    match details {
        Answer::Ok(book) => text(&book["title"]),
        Answer::Failed(_) => "A book".to_owned(),
    }
}

fn header(user: Option<&str>) -> String {
    let account = match user {
        Some(user) => format!(
            "<p>Signed in as <b>{}</b> · <a href=\"/productpage\">sign out</a></p>",
            escape(user)
        ),
        None => "<form><input name=\"user\" placeholder=\"your name\" aria-label=\"your name\" required>\
                 <button>Sign in</button></form>"
            .to_owned(),
    };
    format!("<header><p class=\"shop\">The Bookshop</p>{account}</header>")
}

fn details_part(details: &Answer) -> String {
    match details {
        Answer::Ok(book) => format!(
            "<section>\n<h1>{}</h1>\n<p class=\"by\">by {}</p>\n\
             <dl><dt>Written</dt><dd>{}</dd><dt>Pages</dt><dd>{}</dd></dl>\n{}\n</section>",
            text(&book["title"]),
            text(&book["author"]),
            book["year"],
            book["pages"],
            served_by(&[&book["served_by"]]),
        ),
        Answer::Failed(why) => format!(
            "<section>\n<h1>A book</h1>\n{}\n</section>",
            failed("Details are not available", why)
        ),
    }
}

fn reviews_part(reviews: &Answer) -> String {
    let book = match reviews {
        Answer::Ok(book) => book,
        Answer::Failed(why) => {
            return format!(
                "<section>\n<h2>Reviews</h2>\n{}\n</section>",
                failed("Reviews are not available", why)
            );
        }
    };
    let color = text(&book["color"]);
    let mut out = String::from("<section>\n<h2>Reviews</h2>\n");
    for review in book["reviews"].as_array().into_iter().flatten() {
        let stars = book["ratings"]["stars"][review["reader"].as_str().unwrap_or_default()]
            .as_u64()
            .map(|count| stars(&color, count.min(5) as usize))
            .unwrap_or_default();
        out.push_str(&format!(
            "<blockquote><p>{}</p><cite>{}</cite>{stars}</blockquote>\n",
            text(&review["text"]),
            text(&review["reader"]),
        ));
    }
    if let Some(why) = book["ratings"]["error"].as_str() {
        out.push_str(&failed("Ratings are not available", why));
        out.push('\n');
    }
    out.push_str(&served_by(&[
        &book["served_by"],
        &book["ratings"]["served_by"],
    ]));
    out.push_str("\n</section>");
    out
}

fn stars(color: &str, count: usize) -> String {
    format!(
        " <span class=\"stars {color}\" title=\"{count} of 5\">{}<i>{}</i></span>",
        "★".repeat(count),
        "★".repeat(5 - count),
    )
}

fn failed(what: &str, why: &str) -> String {
    format!(
        "<p class=\"failed\">{what}. <small>{}</small></p>",
        escape(why)
    )
}

/// Which service and version answered, as badges.
fn served_by(who: &[&Value]) -> String {
    let badges: Vec<String> = who
        .iter()
        .filter_map(|who| who.as_str())
        .map(|who| format!("<span>{}</span>", escape(who)))
        .collect();
    format!("<p class=\"who\">{}</p>", badges.join(" "))
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

    #[test]
    fn stars_have_the_colour_of_the_version_and_ratings_may_fail_alone() {
        let reviews = |ratings: Value| {
            Answer::Ok(json!({
                "color": "red",
                "served_by": "reviews v3",
                "ratings": ratings,
                "reviews": [{ "reader": "Ada", "text": "Good." }],
            }))
        };
        let details = Answer::Failed(String::new());
        let good = render(
            None,
            &details,
            &reviews(json!({ "stars": { "Ada": 4 }, "served_by": "ratings v1" })),
        );
        assert!(good.contains("class=\"stars red\" title=\"4 of 5\">★★★★<i>★</i>"));
        assert!(good.contains("<span>reviews v3</span> <span>ratings v1</span>"));
        let bad = render(None, &details, &reviews(json!({ "error": "503" })));
        assert!(bad.contains("Ratings are not available. <small>503</small>"));
        assert!(bad.contains("Good.") && !bad.contains("★"));
    }
}
