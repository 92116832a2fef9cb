//! The local API: HTTP and JSON over a Unix socket. Root may change things, the configured group may read.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use anyhow::Context;
use axum::extract::connect_info::{self, ConnectInfo};
use axum::extract::{DefaultBodyLimit, FromRef, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::Options;
use super::link::Link;
use super::respond::{Inbox, Order};
use super::searches;
use super::state::{self, Shared};

/// Longest time that an order may take; Docker can be slow.
const ORDER_LIMIT: Duration = Duration::from_secs(40);

/// What the handlers share.
#[derive(Clone)]
pub struct Api {
    pub options: Arc<Options>,
    pub shared: Arc<Shared>,
    pub store: history::Store,
    pub responder: Sender<Inbox>,
    pub link: Link,
}

impl FromRef<Api> for history::Store {
    fn from_ref(api: &Api) -> Self {
        api.store.clone()
    }
}

/// Who calls.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    uid: u32,
}

impl connect_info::Connected<axum::serve::IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: axum::serve::IncomingStream<'_, UnixListener>) -> Self {
        Self {
            uid: stream.io().peer_cred().map_or(u32::MAX, |c| c.uid()),
        }
    }
}

/// An error as the command line shows it.
pub struct Refused(StatusCode, String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

impl From<anyhow::Error> for Refused {
    fn from(e: anyhow::Error) -> Self {
        Self(StatusCode::BAD_REQUEST, format!("{e:#}"))
    }
}

/// Only root may change something.
pub fn root_only(caller: Caller) -> Result<(), Refused> {
    if caller.uid == 0 {
        return Ok(());
    }
    Err(Refused(
        StatusCode::FORBIDDEN,
        "only root may do this; use sudo".into(),
    ))
}

/// Opens the socket. The path is ours alone: a leftover of a daemon that died is replaced.
pub fn listen(socket: &Path, group: Option<&str>) -> anyhow::Result<UnixListener> {
    let dir = socket.parent().context("[api] socket names no folder")?;
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let _ = std::fs::remove_file(socket);
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    let mode = match group {
        Some(name) => {
            let gid = group_id(name).with_context(|| {
                format!("[api] group names {name:?}, which is no group of this host")
            })?;
            std::os::unix::fs::chown(socket, None, Some(gid))
                .with_context(|| format!("cannot give {} to group {name}", socket.display()))?;
            0o660
        }
        None => 0o600,
    };
    std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

fn group_id(name: &str) -> Option<u32> {
    let text = std::fs::read_to_string("/etc/group").ok()?;
    text.lines()
        .map(|l| l.split(':').collect::<Vec<_>>())
        .find(|f| f.first() == Some(&name))
        .and_then(|f| f.get(2)?.parse().ok())
}

/// Serves until the process ends.
pub async fn serve(listener: UnixListener, api: Api) {
    let app = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/rules", get(rules))
        .route("/metrics", get(metrics))
        .merge(searches::routes())
        .route("/v1/quarantine", get(quarantines))
        .route("/v1/quarantine/apply", post(apply))
        .route("/v1/quarantine/release", post(release))
        .route("/v1/trust/set", post(set_trust))
        .route("/v1/channels/reload", post(reload_channels))
        .layer(DefaultBodyLimit::max(1 << 20))
        .with_state(api);
    if let Err(e) = axum::serve(
        listener,
        app.into_make_service_with_connect_info::<Caller>(),
    )
    .await
    {
        tracing::error!("the local API ended: {e}");
    }
}

async fn status(State(api): State<Api>) -> Json<state::Report> {
    Json(super::report::report(&api.options, &api.shared, &api.store))
}

/// The kernel's rules, as the keeper last saw them.
async fn rules(State(api): State<Api>) -> Json<state::RuleList> {
    let list = state::lock(&api.shared.rule_list).clone();
    let profiles = api.options.chosen.names();
    Json(state::RuleList {
        profiles: profiles.into_iter().map(str::to_owned).collect(),
        ..list
    })
}

/// Counters and losses in the text format of OpenMetrics.
async fn metrics(State(api): State<Api>) -> Result<Response, Refused> {
    let report = super::report::report(&api.options, &api.shared, &api.store);
    let text = super::metrics::text(&report, &api.shared).map_err(anyhow::Error::from)?;
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(axum::http::header::CONTENT_TYPE, kind)], text).into_response())
}

async fn quarantines(State(api): State<Api>) -> Result<Json<Value>, Refused> {
    order(&api, Order::List).await
}

#[derive(Deserialize)]
struct Name {
    container: String,
}

#[derive(Deserialize)]
struct Apply {
    container: String,
    /// How far; a freeze when nothing is said.
    level: Option<actions::Level>,
}

async fn apply(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(wish): Json<Apply>,
) -> Result<Json<Value>, Refused> {
    root_only(caller)?;
    let level = wish.level.unwrap_or(actions::Level::Freeze);
    order(&api, Order::Apply(wish.container, level)).await
}

async fn release(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(name): Json<Name>,
) -> Result<Json<Value>, Refused> {
    root_only(caller)?;
    order(&api, Order::Release(name.container)).await
}

#[derive(Deserialize)]
struct Score {
    agent: String,
    score: u8,
}

async fn set_trust(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
    Json(wish): Json<Score>,
) -> Result<Json<Value>, Refused> {
    root_only(caller)?;
    order(&api, Order::SetTrust(wish.agent, wish.score)).await
}

async fn reload_channels(
    State(api): State<Api>,
    ConnectInfo(caller): ConnectInfo<Caller>,
) -> Result<Json<Value>, Refused> {
    root_only(caller)?;
    // The new courier first: the old one does not know the new channel.
    api.link.restart();
    order(&api, Order::ReloadChannels).await
}

async fn order(api: &Api, order: Order) -> Result<Json<Value>, Refused> {
    let (reply, answer) = oneshot::channel();
    let busy = || {
        Refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon is stopping".into(),
        )
    };
    api.responder
        .send(Inbox::Order { order, reply })
        .map_err(|_| busy())?;
    match tokio::time::timeout(ORDER_LIMIT, answer).await {
        Ok(Ok(Ok(value))) => Ok(Json(value)),
        Ok(Ok(Err(text))) => Err(Refused(StatusCode::CONFLICT, text)),
        Ok(Err(_)) => Err(busy()),
        Err(_) => Err(Refused(StatusCode::GATEWAY_TIMEOUT, "Docker did not answer in time; the order stands and is tried again, `syscall-monitor quarantine list` shows how it goes".into())),
    }
}
