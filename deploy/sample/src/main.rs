//! The sample application: a page about a book, made by four small services.
//!
//! `productpage` asks `details` and `reviews`; `reviews` v2 and v3 ask `ratings`. Every call goes through the Envoy beside the
//! caller, named by `--proxy`. Start reading at [`router`].

mod call;
mod page;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue};
use axum::response::{Html, IntoResponse, Json, Response};
use axum::routing::get;
use clap::{Parser, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use call::Mesh;

/// One service of the sample application.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Args {
    /// Which service to be
    #[arg(value_enum)]
    service: Service,

    /// Version of the service
    #[arg(long, value_name = "VERSION", default_value = "v1")]
    release: String,

    /// Address to listen on
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:9081")]
    listen: SocketAddr,

    /// HTTP forward proxy that calls go through: the Envoy beside this service
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:15002")]
    proxy: SocketAddr,
}

/// The services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Service {
    /// The page.
    Productpage,
    /// Facts about the book.
    Details,
    /// What readers say: v1 without stars, v2 with black ones, v3 with red ones.
    Reviews,
    /// Stars.
    Ratings,
}

#[derive(Clone)]
struct App {
    service: Service,
    release: Arc<str>,
    mesh: Mesh,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let listener = TcpListener::bind(args.listen)
                .await
                .with_context(|| format!("--listen {}", args.listen))?;
            let app = App {
                service: args.service,
                release: (*args.release).into(),
                mesh: Mesh::through(args.proxy),
            };
            axum::serve(listener, router(app)).await?;
            Ok(())
        })
}

fn router(app: App) -> Router {
    let router = Router::new().route("/health", get(|| async { "ok\n" }));
    let router = match app.service {
        Service::Productpage => router.route("/productpage", get(productpage)),
        Service::Details => router.route("/details/{book}", get(details)),
        Service::Reviews => router.route("/reviews/{book}", get(reviews)),
        Service::Ratings => router.route("/ratings/{book}", get(ratings)),
    };
    router.with_state(app)
}

#[derive(Deserialize)]
struct Visitor {
    /// Who signs in, for browsers; others send the header `end-user`.
    user: Option<String>,
}

async fn productpage(
    State(app): State<App>,
    Query(visitor): Query<Visitor>,
    mut headers: HeaderMap,
) -> Response {
    if let Some(user) = visitor.user.filter(|user| !user.trim().is_empty())
        && let Ok(value) = HeaderValue::from_str(user.trim())
    {
        headers.insert("end-user", value);
    }
    let (details, reviews) = tokio::join!(
        app.mesh.get("details", "/details/0", &headers),
        app.mesh.get("reviews", "/reviews/0", &headers),
    );
    let user = headers.get("end-user").and_then(|user| user.to_str().ok());
    Html(page::render(user, &details, &reviews)).into_response()
}

async fn details(State(app): State<App>, Path(book): Path<u32>) -> Json<Value> {
    Json(json!({
        "id": book,
        "title": "The Comedy of Errors",
        "author": "William Shakespeare",
        "year": 1595,
        "pages": 200,
        "served_by": format!("details {}", app.release),
    }))
}

async fn reviews(State(app): State<App>, Path(book): Path<u32>, headers: HeaderMap) -> Json<Value> {
    let stars = match &*app.release {
        "v1" => Value::Null,
        _ => app
            .mesh
            .get("ratings", &format!("/ratings/{book}"), &headers)
            .await
            .into_value(),
    };
    let color = match &*app.release {
        "v1" => Value::Null,
        "v2" => json!("black"),
        _ => json!("red"),
    };
    Json(json!({
        "id": book,
        "served_by": format!("reviews {}", app.release),
        "color": color,
        "ratings": stars,
        "reviews": [
            { "reader": "Ada", "text": "Mistaken for another, and glad of it." },
            { "reader": "Grace", "text": "Short, quick, and it ends well." },
        ],
    }))
}

async fn ratings(State(app): State<App>, Path(book): Path<u32>) -> Json<Value> {
    Json(
        json!({ "id": book, "stars": { "Ada": 5, "Grace": 4 }, "served_by": format!("ratings {}", app.release) }),
    )
}
