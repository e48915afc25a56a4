//! Health, metrics, status and reload over HTTP, on loopback unless the configuration says otherwise.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use crate::brakes::Brakes;
use crate::brakes::sink::Sink;
use crate::lifecycle::Lifecycle;
use crate::metrics::Metrics;
use crate::progress::halts::{self, Halt};
use crate::progress::store::Owner;
use crate::runtime::Engine;
use crate::runtime::reload::Reloader;
use crate::sinks::postgres::connect;
use crate::status::{self, Halted, RefusedReload, Status, Transform};
use tollgate_config::Pipeline;
use tollgate_decide::gate::{Revision, TransformInfo};

/// The state that the admin server reads and the handles through which it acts.
pub struct Admin {
    pipeline: Arc<Pipeline>,
    revision: Arc<ArcSwap<Revision>>,
    owner: Arc<Owner>,
    lifecycle: Arc<Lifecycle>,
    brakes: Arc<Brakes>,
    metrics: Arc<Metrics>,
    reloader: Arc<Reloader>,
}

impl Admin {
    /// Builds the admin server's view of a running engine.
    pub fn of(engine: &Engine) -> Admin {
        let Engine { pipeline, revision, owner, lifecycle, brakes, metrics, reloader, .. } = engine;
        Admin {
            pipeline: Arc::clone(pipeline),
            revision: Arc::clone(revision),
            owner: Arc::clone(owner),
            lifecycle: Arc::clone(lifecycle),
            brakes: Arc::clone(brakes),
            metrics: Arc::clone(metrics),
            reloader: Arc::clone(reloader),
        }
    }

    fn own_halts(&self) -> Vec<Halt> {
        self.brakes.halts_of(&self.lifecycle.partitions())
    }

    /// Returns the reasons why this member is not ready; empty if it is ready.
    fn unready(&self) -> Vec<String> {
        self.lifecycle.unready(&self.own_halts())
    }
}

/// The error of an admin server that cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("admin.listen: cannot listen on {address}: {source}; set another address, or off")]
pub struct ListenError {
    pub address: String,
    pub source: std::io::Error,
}

/// Binds the address and serves requests in a separate task.
///
/// # Errors
/// Fails if the address cannot be bound.
pub async fn serve(listen: &str, admin: Admin) -> Result<(), ListenError> {
    let admin = Arc::new(admin);
    let listener = tokio::net::TcpListener::bind(listen)
        .await
        .map_err(|source| ListenError { address: listen.to_owned(), source })?;
    let address = listener.local_addr().map_err(|source| ListenError { address: listen.to_owned(), source })?;
    tracing::info!(url = format!("http://{address}"), "admin");
    let changes = Router::new()
        .route("/reload", post(reload_now))
        .route("/resume", post(resume))
        .route_layer(middleware::from_fn(loopback_only));
    let router = Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(|State(admin): State<Arc<Admin>>| async move { Json(status(&admin)) }))
        .nest("/admin", changes)
        .layer(middleware::from_fn_with_state(Arc::clone(&admin), known_host))
        .with_state(admin);
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, service).await {
            tracing::error!(%error, "the admin server has ended");
        }
    });
    Ok(())
}

/// Rejects requests whose `Host` is not a name of this server. This prevents DNS rebinding: a foreign page whose name
/// resolves to this server would be same-origin with it and could read the responses, but the browser still sends the
/// page's name.
async fn known_host(State(admin): State<Arc<Admin>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST);
    // HTTP/1.0 has no `Host` header, and no browser uses HTTP/1.0.
    if host.is_none_or(|host| host.to_str().is_ok_and(|host| is_known(&admin.pipeline.admin, host))) {
        return next.run(request).await;
    }
    let message = "unknown host; use localhost or a loopback address, or add the host to admin.hosts\n";
    (StatusCode::MISDIRECTED_REQUEST, message).into_response()
}

/// Returns whether requests may use this host name: the names of this machine, those in `admin.hosts`, and with
/// `allow_remote` any IP address. An IP address cannot be rebound by DNS.
fn is_known(admin: &tollgate_config::Admin, host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, _)) => address,
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    if let Ok(address) = name.parse::<IpAddr>() {
        return admin.remote || address.to_canonical().is_loopback();
    }
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || admin.hosts.contains(&name)
}

/// Accepts changes only from this machine, wherever the server listens, and never from a web page in a local browser:
/// only browsers send `Origin`.
async fn loopback_only(ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request, next: Next) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        return (StatusCode::FORBIDDEN, "changes are accepted from this machine only\n").into_response();
    }
    if request.headers().contains_key(header::ORIGIN) {
        return (StatusCode::FORBIDDEN, "changes are not accepted from web pages\n").into_response();
    }
    next.run(request).await
}

/// Returns 200 while both servers are connected and the group is joined, even for a spare member. Otherwise returns 503
/// with the reasons.
async fn ready(State(admin): State<Arc<Admin>>) -> Response {
    let reasons = admin.unready();
    if reasons.is_empty() {
        return (StatusCode::OK, "ready\n").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, reasons.join("\n") + "\n").into_response()
}

async fn metrics(State(admin): State<Arc<Admin>>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    for sink in Sink::ALL {
        admin.metrics.breaker(sink, admin.brakes.breakers.state(sink));
    }
    ([(header::CONTENT_TYPE, kind)], admin.metrics.encode()).into_response()
}

/// The state of the running engine, for `tollgate status`.
fn status(admin: &Admin) -> Status {
    let revision = admin.revision.load();
    let transform = |info: &TransformInfo| Transform {
        event_type: info.event_type.clone(),
        name: info.name.clone(),
        version: info.version.clone(),
        component: info.component.clone(),
        digest: info.digest.clone(),
    };
    let refused = admin.reloader.refused();
    let state = |sink: Sink| (sink.as_str().to_owned(), admin.brakes.breakers.state(sink).as_str().to_owned());
    Status {
        format: status::FORMAT,
        pipeline: admin.pipeline.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        delivery: admin.pipeline.delivery.mode.as_str().to_owned(),
        slot: admin.lifecycle.slot(),
        owner: admin.owner.name.clone(),
        revision: status::Revision {
            number: revision.number,
            digest: revision.digest.clone(),
            transforms: revision.transforms().map(transform).collect(),
        },
        ready: admin.unready().is_empty(),
        troubles: admin.unready(),
        paused: admin.brakes.paused(),
        refused_reload: refused
            .map(|refused| RefusedReload { error: refused.error.to_string(), at_ms: unix_ms(refused.at) }),
        halted: admin.own_halts().iter().map(Halted::from).collect(),
        breakers: Sink::ALL.into_iter().map(state).collect(),
        positions: admin.metrics.positions().iter().map(|(partition, next)| (partition.get(), next.get())).collect(),
    }
}

fn unix_ms(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

async fn reload_now(State(admin): State<Arc<Admin>>) -> Response {
    match admin.reloader.reload().await {
        Ok(reloaded) => Json(json!({ "ok": true, "result": reloaded })).into_response(),
        Err(error) => (StatusCode::CONFLICT, Json(json!({ "ok": false, "error": error.to_string() }))).into_response(),
    }
}

async fn resume(State(admin): State<Arc<Admin>>) -> Response {
    let done = async {
        let mut connection = connect::open(&admin.pipeline, "resume").await?;
        let owner = &admin.owner;
        let was_paused = halts::resume(&mut connection, &owner.pipeline, &owner.topic).await?;
        Ok::<_, sqlx::Error>((was_paused, halts::resumed(&mut connection, owner).await?))
    };
    match done.await {
        Ok((was_paused, resumed)) => {
            admin.brakes.unpause(&resumed);
            Json(json!({ "ok": true, "was_paused": was_paused })).into_response()
        }
        Err(error) => {
            (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ok": false, "error": error.to_string() }))).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_have_lead_here() {
        let local = tollgate_config::Admin { listen: None, remote: false, hosts: vec!["gate.internal".to_owned()] };
        let remote = tollgate_config::Admin { remote: true, ..local.clone() };
        for (host, here, remotely) in [
            ("localhost:8080", true, true),
            ("LocalHost", true, true),
            ("127.0.0.1:8080", true, true),
            ("127.8.8.8", true, true),
            ("[::1]:8080", true, true),
            ("[::ffff:127.0.0.1]:80", true, true),
            ("gate.internal:8080", true, true),
            ("Gate.Internal.", true, true),
            ("10.1.2.3:8080", false, true),
            ("[2001:db8::1]:8080", false, true),
            ("evil.example:8080", false, false),
            ("localhost.evil.example", false, false),
            ("127.0.0.1.evil.example", false, false),
            ("gate.internal.evil.example", false, false),
            ("", false, false),
        ] {
            assert_eq!((is_known(&local, host), is_known(&remote, host)), (here, remotely), "{host}");
        }
    }
}
