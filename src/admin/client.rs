//! Shell: the small client of the admin API that the CLI uses, over TCP or a unix socket.
//!
//! One connection a request. Not here: what is done with documents.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::document::{
    Candidate, Compared, Diagnostics, Dump, Events, Explained, Problem, ReloadRejected, Reloaded, Status, Upgraded,
};
use super::ready::Of;
use crate::base::address::AdminListen;
use crate::doc::Secret;
use crate::health::Intent;

/// Asks the process whose admin API listens at an address.
#[derive(Clone, Debug)]
pub struct Client {
    address: AdminListen,
    timeout: Duration,
    /// As a field has it.
    authorization: Option<HeaderValue>,
}

/// Why there is no answer, or not the one that was hoped for. Its text is for the operator.
#[derive(Debug)]
pub enum ClientError {
    /// Nobody answers there: a process that does not run, or another address.
    Unreachable { address: String, cause: String },
    /// It took longer than the client waits.
    Late { address: String, waited: Duration },
    /// It answered, and refused.
    Refused { status: u16, problem: Problem },
    /// It answered something that is not Strata's.
    Strange { address: String, what: String },
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable { address, cause } => {
                write!(f, "no Strata answers at {address}: {cause}")
            }
            ClientError::Late { address, waited } => write!(f, "no answer from {address} within {waited:?}"),
            ClientError::Refused { problem, .. } => {
                f.write_str(&problem.error)?;
                problem.help.as_ref().map_or(Ok(()), |help| write!(f, " ({help})"))
            }
            ClientError::Strange { address, what } => write!(f, "{address} does not answer like Strata: {what}"),
        }
    }
}

impl std::error::Error for ClientError {}

impl Client {
    pub fn new(address: AdminListen) -> Client {
        Client { address, timeout: TIMEOUT, authorization: None }
    }

    /// Shows this token with each request; `None`: it is none that can be sent.
    #[must_use]
    pub fn token(mut self, token: &Secret) -> Option<Client> {
        let mut field = HeaderValue::try_from(format!("Bearer {}", token.expose())).ok()?;
        field.set_sensitive(true);
        self.authorization = Some(field);
        Some(self)
    }

    /// Waits this long for each answer; a reload may take as long as the file is large.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Client {
        self.timeout = timeout;
        self
    }

    /// # Errors
    /// See [`ClientError`]; so for the others.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.document(Method::GET, "/api/status", None).await
    }

    /// What becomes of `what`; `pairs` are what else is said of it.
    pub async fn explain(&self, what: &str, pairs: &[(&str, &str)]) -> Result<Explained, ClientError> {
        let mut path = format!("/api/explain?what={}", encode(what));
        for (key, value) in pairs {
            path.push_str(&format!("&{key}={}", encode(value)));
        }
        self.document(Method::GET, &path, None).await
    }

    pub async fn config(&self) -> Result<serde_json::Value, ClientError> {
        self.document(Method::GET, "/api/config", None).await
    }

    /// The first events after number `since`, or the last there are.
    pub async fn events(&self, since: Option<u64>, limit: usize) -> Result<Events, ClientError> {
        let since = since.map_or(String::new(), |since| format!("&since={since}"));
        self.document(Method::GET, &format!("/api/events?limit={limit}{since}"), None).await
    }

    pub async fn diagnostics(&self) -> Result<Diagnostics, ClientError> {
        self.document(Method::GET, "/api/diagnostics", None).await
    }

    /// Whether traffic is taken, and the answer's words.
    ///
    /// # Errors
    /// There is no such service, and what any question may run into.
    pub async fn ready(&self, of: &Of) -> Result<(bool, String), ClientError> {
        let path = match of {
            Of::Process => "/readyz".to_owned(),
            Of::Service(name) => format!("/readyz?service={}", encode(name)),
            Of::Everything => "/readyz?all".to_owned(),
        };
        let (status, body) = self.exchange(Method::GET, &path, None).await?;
        if status != StatusCode::SERVICE_UNAVAILABLE {
            self.accepted(status, &body)?;
        }
        Ok((status == StatusCode::OK, String::from_utf8_lossy(&body).trim().to_owned()))
    }

    pub async fn set_intent(&self, pool: &str, endpoint: &str, intent: Intent) -> Result<(), ClientError> {
        let verb = match intent {
            Intent::Draining => "drain",
            Intent::Maintenance => "maintain",
            Intent::Ready => "restore",
        };
        let path = format!("/api/pools/{}/endpoints/{}/{verb}", encode(pool), encode(endpoint));
        self.document::<serde_json::Value>(Method::POST, &path, None).await.map(drop)
    }

    pub async fn set_weight(&self, pool: &str, endpoint: &str, weight: u64) -> Result<(), ClientError> {
        let path = format!("/api/pools/{}/endpoints/{}/weight", encode(pool), encode(endpoint));
        let body = to_json(&super::document::SetWeight { weight });
        self.document::<serde_json::Value>(Method::POST, &path, Some(body)).await.map(drop)
    }

    /// Reloads, waits, and brings the changes or the diagnostics.
    pub async fn reload(&self) -> Result<Result<Reloaded, ReloadRejected>, ClientError> {
        let (status, body) = self.exchange(Method::POST, "/api/reload", None).await?;
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            return self.read(&body).map(Err);
        }
        self.accepted(status, &body)?;
        self.read(&body).map(Ok)
    }

    /// Has a new process take over, and waits until it has.
    ///
    /// # Errors
    /// See [`ClientError`]: why it could not, among others.
    pub async fn upgrade(&self) -> Result<Upgraded, ClientError> {
        self.document(Method::POST, "/api/upgrade", None).await
    }

    pub async fn dump(&self) -> Result<Dump, ClientError> {
        self.document(Method::GET, "/api/dump", None).await
    }

    /// What a reload would change: of the process's own file, or of another configuration.
    pub async fn compare(
        &self,
        candidate: Option<&Candidate>,
    ) -> Result<Result<Compared, ReloadRejected>, ClientError> {
        let (status, body) = self.exchange(Method::POST, "/api/diff", candidate.map(to_json)).await?;
        if status == StatusCode::UNPROCESSABLE_ENTITY {
            return self.read(&body).map(Err);
        }
        self.accepted(status, &body)?;
        self.read(&body).map(Ok)
    }

    async fn document<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<T, ClientError> {
        let (status, body) = self.exchange(method, path, body).await?;
        self.accepted(status, &body)?;
        self.read(&body)
    }

    fn accepted(&self, status: StatusCode, body: &[u8]) -> Result<(), ClientError> {
        if status.is_success() {
            return Ok(());
        }
        match serde_json::from_slice(body) {
            Ok(problem) => Err(ClientError::Refused { status: status.as_u16(), problem }),
            Err(_) => Err(self.strange(format!("status {status}"))),
        }
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.strange(error.to_string()))
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let exchange = async {
            match &self.address {
                AdminListen::Tcp(listen) => {
                    let stream = TcpStream::connect(reachable(listen.socket())).await;
                    self.over(stream.map_err(|error| self.unreachable(&error))?, method, path, body).await
                }
                AdminListen::Unix(file) => {
                    let stream = UnixStream::connect(file).await;
                    self.over(stream.map_err(|error| self.unreachable(&error))?, method, path, body).await
                }
            }
        };
        match tokio::time::timeout(self.timeout, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Late { address: self.address.to_string(), waited: self.timeout }),
        }
    }

    async fn over<S>(
        &self,
        stream: S,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<(StatusCode, Bytes), ClientError>
    where
        S: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let strange = |error: hyper::Error| self.strange(error.to_string());
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(strange)?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body.unwrap_or_default()))
            .map_err(|error| self.strange(error.to_string()))?;
        if let Some(field) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, field.clone());
        }
        let exchange = async {
            let answer = sender.send_request(request).await.map_err(strange)?;
            let status = answer.status();
            let body = Limited::new(answer.into_body(), ANSWER_BYTES).collect().await;
            let body = body.map_err(|error| self.strange(error.to_string()))?.to_bytes();
            Ok((status, body))
        };
        // The connection does the work; when it ends first, the exchange says why.
        let mut exchange = std::pin::pin!(exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            _ = connection => exchange.await,
        }
    }

    fn unreachable(&self, cause: &std::io::Error) -> ClientError {
        ClientError::Unreachable { address: self.address.to_string(), cause: cause.to_string() }
    }

    fn strange(&self, what: String) -> ClientError {
        ClientError::Strange { address: self.address.to_string(), what }
    }
}

/// "Every address" is listened on, but one is connected to.
fn reachable(mut address: std::net::SocketAddr) -> std::net::SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() {
            std::net::Ipv4Addr::LOCALHOST.into()
        } else {
            std::net::Ipv6Addr::LOCALHOST.into()
        });
    }
    address
}

fn to_json(document: &impl Serialize) -> Bytes {
    // Our documents have text keys only, so nothing in them can fail to be JSON.
    serde_json::to_vec(document).unwrap_or_default().into()
}

/// A path segment, or a value of a query, of anything.
fn encode(segment: &str) -> String {
    let mut out = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

const TIMEOUT: Duration = Duration::from_secs(10);
/// Some 100 000 endpoints; nobody looks at more in a terminal.
const ANSWER_BYTES: usize = 64 * 1024 * 1024;
