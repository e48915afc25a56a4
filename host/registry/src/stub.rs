//! A registry for unit tests: it counts requests, and can be slow, broken or gone. Other tests use a real registry.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use tollgate_config::limits;
use tollgate_config::registry::{Config, Url};

/// Status, headers, body.
pub(crate) type Reply = (u16, &'static str, String);

#[derive(Default)]
struct State {
    /// The replies by path. Several replies are returned in turn, the last one forever.
    replies: BTreeMap<String, Vec<Reply>>,
    requests: Vec<String>,
    delay: Duration,
}

pub(crate) struct Stub {
    address: std::net::SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Stub {
    pub(crate) fn start() -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                thread::spawn(move || answer(&stream, &state));
            }
        });
        Stub { address, state }
    }

    pub(crate) fn url(&self) -> Url {
        Url::parse(&format!("http://{}", self.address)).unwrap()
    }

    pub(crate) fn reply(&self, path: &str, status: u16, body: &str) {
        self.reply_with(path, (status, "", body.to_owned()));
    }

    pub(crate) fn reply_with(&self, path: &str, reply: Reply) {
        self.state.lock().unwrap().replies.entry(path.to_owned()).or_default().push(reply);
    }

    pub(crate) fn forget(&self, path: &str) {
        self.state.lock().unwrap().replies.remove(path);
    }

    pub(crate) fn slow(&self, delay: Duration) {
        self.state.lock().unwrap().delay = delay;
    }

    /// Returns `METHOD path` and the headers of each request so far, one line each.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    pub(crate) fn count(&self, path: &str) -> usize {
        self.requests().iter().filter(|request| request.split(' ').nth(1) == Some(path)).count()
    }

    /// Returns a configuration with short waits.
    pub(crate) fn config(&self) -> Config {
        let short = limits::MILLISECOND;
        Config { backoff: short, confirm_missing: short, ..Config::new(vec![self.url()]) }
    }
}

fn answer(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(1..) if line.trim().is_empty() => break,
                Ok(1..) => head.push(line.trim().to_owned()),
                _ => return,
            }
        }
        let length = head.iter().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        reader.read_exact(&mut body).unwrap();
        let path = head.first().and_then(|line| line.split(' ').nth(1)).unwrap_or_default().to_owned();
        let (reply, delay) = {
            let mut state = state.lock().unwrap();
            state.requests.push(format!("{} {}", head.join(" | "), String::from_utf8_lossy(&body)));
            let reply = match state.replies.get_mut(&path) {
                Some(replies) if replies.len() > 1 => replies.remove(0),
                Some(replies) => replies[0].clone(),
                None => (404, "", r#"{"error_code":404,"message":"HTTP 404 Not Found"}"#.to_owned()),
            };
            (reply, state.delay)
        };
        thread::sleep(delay);
        let (status, headers, body) = reply;
        if status == 0 {
            // The connection breaks off.
            _ = stream.shutdown(Shutdown::Both);
            return;
        }
        let text = format!("HTTP/1.1 {status} X\r\n{headers}content-length: {}\r\n\r\n{body}", body.len());
        if (&mut &*stream).write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}
