//! A TCP proxy between a pipeline and one of its servers that understands where their messages begin and end, so that it can
//! lose exactly one: the COMMIT or the EndTxn of a batch, before the server has it or after the server has done it. Besides, it
//! resets, holds everything back, delays, and lets no group's coordinator be found.
//!
//! Kafka's clients connect to what the broker advertises. The broker has a listener for this ([`xtask::servers::KafkaOptions`],
//! `proxied`) that advertises the proxy's port; whoever uses the plain listener is not disturbed.

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

/// Kafka's number of EndTxn.
const END_TXN: [u8; 2] = 26_i16.to_be_bytes();
/// Kafka's number of FindCoordinator.
const FIND_COORDINATOR: [u8; 2] = 10_i16.to_be_bytes();
/// Kafka's COORDINATOR_NOT_AVAILABLE.
const NOT_AVAILABLE: [u8; 2] = 15_i16.to_be_bytes();
/// What a client of PostgreSQL sends first to ask for TLS, in place of a version.
const SSL_REQUEST: [u8; 4] = 80_877_103_i32.to_be_bytes();
/// A message that is longer is a fault of this proxy.
const LONGEST: usize = 256 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    Kafka,
    Postgres,
}

/// Which side of the server the next COMMIT or EndTxn is lost on. The connection ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lost {
    /// The request: the server never hears of it.
    Request,
    /// The reply: the server has done it.
    Reply,
}

/// What every message meets.
#[derive(Debug, Clone, Copy, Default)]
struct Weather {
    held: bool,
    delay: Duration,
    /// Connections that are older than this end with a reset.
    reset: u64,
}

struct Shared {
    server: Server,
    /// The server's port.
    target: AtomicU16,
    ambush: Mutex<Option<Lost>>,
    met: AtomicUsize,
    /// While true, whoever asks for a group's coordinator hears that there is none.
    leaderless: AtomicBool,
    /// How many have heard it.
    turned_away: AtomicUsize,
    weather: watch::Sender<Weather>,
}

/// A proxy on a port of its own. Dropping it ends it and its connections.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
    // Its threads carry the connections.
    _runtime: Runtime,
}

impl Proxy {
    /// Listens; connections are refused until [`Proxy::leads_to`] has said where they go.
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

    /// The server's port on loopback.
    pub fn leads_to(&self, port: u16) {
        self.shared.target.store(port, Ordering::Release);
    }

    /// The next COMMIT or EndTxn of a batch is lost. Returns how many were lost before it: see [`Proxy::met`].
    pub fn lose_next(&self, lost: Lost) -> usize {
        let before = self.met();
        *self.shared.ambush.lock().unwrap_or_else(PoisonError::into_inner) = Some(lost);
        before
    }

    /// How many have been lost.
    pub fn met(&self) -> usize {
        self.shared.met.load(Ordering::Acquire)
    }

    /// While true, Kafka says of every group that it has no coordinator at present. Nothing else is disturbed.
    pub fn hide_coordinators(&self, hidden: bool) {
        self.shared.leaderless.store(hidden, Ordering::Release);
    }

    /// How many have asked for a coordinator in vain.
    pub fn turned_away(&self) -> usize {
        self.shared.turned_away.load(Ordering::Acquire)
    }

    /// Ends every connection with a reset.
    pub fn reset(&self) {
        self.shared.weather.send_modify(|weather| weather.reset += 1);
    }

    /// A black hole, while true: connections are taken and stay open, and nothing passes in either direction.
    pub fn hold(&self, held: bool) {
        self.shared.weather.send_modify(|weather| weather.held = held);
    }

    /// Every message waits so long, in either direction.
    pub fn delay(&self, delay: Duration) {
        self.shared.weather.send_modify(|weather| weather.delay = delay);
    }
}

/// What the two directions of a connection know of each other.
#[derive(Default)]
struct Talk {
    /// The server's next byte is its answer to a request for TLS.
    tls_asked: AtomicBool,
    /// The reply to this is to be lost: Kafka's correlation id. PostgreSQL's replies come in order.
    doomed: AtomicBool,
    correlation: AtomicI32,
    /// The replies to these become [`NOT_AVAILABLE`].
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
        // Without a farewell: its drop would close the stream in order.
        client_out.forget();
    }
    // Both streams close here, with whatever was under way.
}

/// Waits out what holds messages up.
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

/// Whether a request ends a batch's transaction well.
fn is_end(server: Server, message: &[u8]) -> bool {
    match server {
        // Length, number, version, …; the last byte says commit or abort in the versions that librdkafka speaks.
        Server::Kafka => message.get(4..6).is_some_and(|number| number == END_TXN) && message.last() == Some(&1),
        Server::Postgres => message.first() == Some(&b'Q') && message.get(5..).is_some_and(|text| text == b"COMMIT\0"),
    }
}

/// Whether a request asks for a group's coordinator, in the versions that librdkafka speaks: the last byte says what kind.
fn asks_for_coordinator(server: Server, message: &[u8]) -> bool {
    let number = message.get(4..6);
    server == Server::Kafka && number.is_some_and(|number| number == FIND_COORDINATOR) && message.last() == Some(&0)
}

async fn replies(shared: &Shared, talk: &Talk, mut server: OwnedReadHalf, client: &OwnedWriteHalf) -> io::Result<()> {
    loop {
        let mut message = match shared.server {
            Server::Kafka => tagged(shared.server, &mut server).await?,
            Server::Postgres => {
                // It says nothing before it is asked, so now it is known whether it was asked for TLS.
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

/// As `AsyncWriteExt::write_all`, on a half that the other direction may have to reset.
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

/// One message behind its tag, which was read already: its length in four bytes, and the rest. PostgreSQL counts these four
/// in, Kafka does not.
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

/// A message as it comes after the greeting.
async fn tagged(server: Server, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    match server {
        Server::Kafka => message(server, &[], stream).await,
        Server::Postgres => {
            let tag = stream.read_u8().await?;
            message(server, &[tag], stream).await
        }
    }
}
