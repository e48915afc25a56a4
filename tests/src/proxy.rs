//! A TCP proxy between a pipeline and one of its servers. It parses the message boundaries, so that it can lose exactly
//! one message: the COMMIT or the EndTxn of a batch, before the server receives it or after the server has executed it.
//! It can also reset connections, hold everything back, delay messages, and hide the coordinators of groups.
//!
//! Kafka's clients connect to the address that the broker advertises. The broker therefore has a listener that
//! advertises the proxy's port ([`xtask::servers::KafkaOptions`], `proxied`). Clients of the plain listener are not
//! affected.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU16, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// The API key of EndTxn in Kafka.
const END_TXN: [u8; 2] = 26_i16.to_be_bytes();
/// The API key of FindCoordinator in Kafka.
const FIND_COORDINATOR: [u8; 2] = 10_i16.to_be_bytes();
/// The error code COORDINATOR_NOT_AVAILABLE of Kafka.
const NOT_AVAILABLE: [u8; 2] = 15_i16.to_be_bytes();
/// The code that a client of PostgreSQL sends in place of a version to request TLS.
const SSL_REQUEST: [u8; 4] = 80_877_103_i32.to_be_bytes();
/// A longer message would mean an error in this proxy.
const LONGEST: usize = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Kafka,
    Postgres,
}

/// Whether the next COMMIT or EndTxn is lost before or after the server. Its connection ends too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The request: the server does not receive it.
    Request,
    /// The reply: the server has executed the request.
    Reply,
}

/// The conditions that apply to every message.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    held: bool,
    delay: Duration,
    /// The number of resets so far. It ends the connections that began before the latest one.
    reset: u64,
}

struct Shared {
    server: Server,
    /// The server's port.
    target: AtomicU16,
    ambush: Mutex<Option<Lost>>,
    met: AtomicUsize,
    /// Whether requests for a group's coordinator are answered with "not available".
    leaderless: AtomicBool,
    /// The number of such answers.
    turned_away: AtomicUsize,
    weather: watch::Sender<Weather>,
}

/// A proxy on its own port. Dropping it ends it and its connections.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    // The threads of this runtime handle the connections.
    _runtime: Runtime,
}

impl Proxy {
    /// Listens on a free port. Connections are refused until [`Proxy::leads_to`] sets the target.
    pub fn listen(server: Server) -> Proxy {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            server,
            target: AtomicU16::new(0),
            ambush: Mutex::new(None),
            met: AtomicUsize::new(0),
            leaderless: AtomicBool::new(false),
            turned_away: AtomicUsize::new(0),
            weather: watch::Sender::new(Weather::default()),
        });
        let accepting = Arc::clone(&shared);
        runtime.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(connection(Arc::clone(&accepting), client));
            }
        });
        Proxy { port, shared, _runtime: runtime }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the server's port on loopback.
    pub fn leads_to(&self, port: u16) {
        self.shared.target.store(port, Ordering::Release);
    }

    /// Loses the next COMMIT or EndTxn of a batch. Returns how many were lost before it: see [`Proxy::met`].
    pub fn lose_next(&self, lost: Lost) -> usize {
        let before = self.met();
        *self.shared.ambush.lock().unwrap_or_else(PoisonError::into_inner) = Some(lost);
        before
    }

    /// Returns how many have been lost.
    pub fn met(&self) -> usize {
        self.shared.met.load(Ordering::Acquire)
    }

    /// While `hidden` is true, Kafka reports that no group has a coordinator at present. Nothing else is disturbed.
    pub fn hide_coordinators(&self, hidden: bool) {
        self.shared.leaderless.store(hidden, Ordering::Release);
    }

    /// Returns how many requests for a coordinator were answered with an error.
    pub fn turned_away(&self) -> usize {
        self.shared.turned_away.load(Ordering::Acquire)
    }

    /// Ends every connection with a reset.
    pub fn reset(&self) {
        self.shared.weather.send_modify(|weather| weather.reset += 1);
    }

    /// While `held` is true, connections are accepted and stay open, but nothing passes in either direction.
    pub fn hold(&self, held: bool) {
        self.shared.weather.send_modify(|weather| weather.held = held);
    }

    /// Delays every message in both directions.
    pub fn delay(&self, delay: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = delay);
    }
}

/// State shared by the two directions of a connection.
#[derive(Default)]
struct Talk {
    /// Whether the server's next byte is its answer to a request for TLS.
    tls_asked: AtomicBool,
    /// Whether the next reply is to be lost. Kafka's replies are matched by correlation id; PostgreSQL's come in order.
    doomed: AtomicBool,
    correlation: AtomicI32,
    /// The replies to these requests become [`NOT_AVAILABLE`].
    turned_away: Mutex<Vec<[u8; 4]>>,
}

async fn connection(shared: Arc<Shared>, client: TcpStream) {
    let mut weather = shared.weather.subscribe();
    let born = weather.borrow_and_update().reset;
    let target = (Ipv4Addr::LOCALHOST, shared.target.load(Ordering::Acquire));
    let Ok(server) = TcpStream::connect(target).await else { return };
    for stream in [&client, &server] {
        drop(stream.set_nodelay(true));
    }
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let talk = Talk::default();
    let was_reset = tokio::select! {
        _ = requests(&shared, &talk, client_in, server_out) => false,
        _ = replies(&shared, &talk, server_in, &client_out) => false,
        _ = weather.wait_for(|weather| weather.reset > born) => true,
    };
    if was_reset {
        drop(client_out.as_ref().set_zero_linger());
        // The stream is forgotten, because its drop would close the connection in order.
        client_out.forget();
    }
    // Both streams close here, and messages in transit are lost.
}

/// Waits while messages are held back or delayed.
async fn weather(shared: &Shared) {
    let mut weather = shared.weather.subscribe();
    let delay = match weather.wait_for(|weather| !weather.held).await {
        Ok(weather) => weather.delay,
        Err(_) => return,
    };
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
}

async fn requests(
    shared: &Shared,
    talk: &Talk,
    mut client: OwnedReadHalf,
    mut server: OwnedWriteHalf,
) -> io::Result<()> {
    let mut greeted = shared.server == Server::Kafka;
    loop {
        let message = if greeted {
            tagged(shared.server, &mut client).await?
        } else {
            let greeting = message(shared.server, &[], &mut client).await?;
            let asks = greeting.get(4..8).is_some_and(|code| code == SSL_REQUEST);
            talk.tls_asked.store(asks, Ordering::Release);
            greeted = !asks;
            greeting
        };
        if is_end(shared.server, &message) {
            let lost = shared.ambush.lock().unwrap_or_else(PoisonError::into_inner).take();
            match lost {
                None => {}
                Some(Lost::Request) => {
                    shared.met.fetch_add(1, Ordering::AcqRel);
                    return Ok(());
                }
                Some(Lost::Reply) => {
                    let correlation = message.get(8..12).and_then(|bytes| bytes.try_into().ok());
                    talk.correlation.store(correlation.map_or(0, i32::from_be_bytes), Ordering::Release);
                    talk.doomed.store(true, Ordering::Release);
                }
            }
        }
        if shared.leaderless.load(Ordering::Acquire)
            && asks_for_coordinator(shared.server, &message)
            && let Some(correlation) = message.get(8..12).and_then(|bytes| bytes.try_into().ok())
        {
            talk.turned_away.lock().unwrap_or_else(PoisonError::into_inner).push(correlation);
        }
        weather(shared).await;
        server.write_all(&message).await?;
    }
}

/// Returns whether a request commits a batch's transaction.
fn is_end(server: Server, message: &[u8]) -> bool {
    match server {
        // Length, API key, version, …; the last byte selects commit or abort in the versions that librdkafka uses.
        Server::Kafka => message.get(4..6).is_some_and(|number| number == END_TXN) && message.last() == Some(&1),
        Server::Postgres => message.first() == Some(&b'Q') && message.get(5..).is_some_and(|text| text == b"COMMIT\0"),
    }
}

/// Returns whether a request asks for a group's coordinator. In the versions that librdkafka uses the last byte is the
/// kind.
fn asks_for_coordinator(server: Server, message: &[u8]) -> bool {
    let number = message.get(4..6);
    server == Server::Kafka && number.is_some_and(|number| number == FIND_COORDINATOR) && message.last() == Some(&0)
}

async fn replies(shared: &Shared, talk: &Talk, mut server: OwnedReadHalf, client: &OwnedWriteHalf) -> io::Result<()> {
    loop {
        let mut message = match shared.server {
            Server::Kafka => tagged(shared.server, &mut server).await?,
            Server::Postgres => {
                // The server sends nothing before the first request, so it is known whether that asked for TLS.
                let tag = server.read_u8().await?;
                match talk.tls_asked.swap(false, Ordering::AcqRel) {
                    true => vec![tag],
                    false => message(shared.server, &[tag], &mut server).await?,
                }
            }
        };
        if talk.doomed.load(Ordering::Acquire) && is_answer(shared.server, talk, &message) {
            shared.met.fetch_add(1, Ordering::AcqRel);
            return Ok(());
        }
        if shared.server == Server::Kafka && is_turned_away(talk, &message) {
            // Length, correlation, throttle time, error, …
            message[12..14].copy_from_slice(&NOT_AVAILABLE);
            shared.turned_away.fetch_add(1, Ordering::AcqRel);
        }
        weather(shared).await;
        write_all(client, &message).await?;
    }
}

fn is_turned_away(talk: &Talk, message: &[u8]) -> bool {
    let mut waiting = talk.turned_away.lock().unwrap_or_else(PoisonError::into_inner);
    let asked = waiting.iter().position(|correlation| message[4..8] == *correlation);
    asked.map(|asked| waiting.swap_remove(asked)).is_some()
}

fn is_answer(server: Server, talk: &Talk, message: &[u8]) -> bool {
    match server {
        Server::Kafka => {
            let wanted = talk.correlation.load(Ordering::Acquire).to_be_bytes();
            message.get(4..8).is_some_and(|correlation| correlation == wanted)
        }
        Server::Postgres => message.first() == Some(&b'C') && message.get(5..).is_some_and(|text| text == b"COMMIT\0"),
    }
}

/// Works like `AsyncWriteExt::write_all`, but on a half that the other direction may have to reset.
async fn write_all(stream: &OwnedWriteHalf, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reads the rest of a message whose tag was already read: its length in four bytes, and the body. PostgreSQL's length
/// includes these four bytes, Kafka's does not.
async fn message(server: Server, tag: &[u8], stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let mut message = [tag, &length.to_be_bytes()].concat();
    let begun = message.len();
    let length = usize::try_from(length).unwrap();
    assert!(length < LONGEST, "a message of {length} bytes: the proxy has lost its place");
    message.resize(tag.len() + length + if server == Server::Kafka { 4 } else { 0 }, 0);
    stream.read_exact(&mut message[begun..]).await?;
    Ok(message)
}

/// Reads a message after the startup phase.
async fn tagged(server: Server, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    match server {
        Server::Kafka => message(server, &[], stream).await,
        Server::Postgres => {
            let tag = stream.read_u8().await?;
            message(server, &[tag], stream).await
        }
    }
}
