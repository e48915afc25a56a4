//! PostgreSQL URLs with several hosts, in libpq's syntax:
//! `postgres://user@a:5432,b:5432/db?target_session_attrs=read-write`.
//!
//! sqlx supports one host. So the URL becomes one URL per host, tried in order until a host of the wanted kind
//! responds.

use sqlx::Row as _;
use sqlx::postgres::{PgConnectOptions, PgConnection};

/// The required kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Any,
    /// It accepts writes.
    Writable,
}

/// The reason why a URL cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    #[error("is not a valid URL; a password with / ? # @ or % in it must be percent-encoded")]
    Unreadable,
    #[error("target_session_attrs is {0}; Tollgate writes, so use read-write, primary or any")]
    Target(String),
    #[error("port={0} is for one host; write each port behind its host: a:5432,b:5433")]
    Ports(String),
}

/// The servers that a URL names.
#[derive(Debug, Clone)]
pub struct Hosts {
    /// The servers in the URL's order. There is at least one.
    pub options: Vec<PgConnectOptions>,
    pub wanted: Wanted,
}

const TARGET: &str = "target_session_attrs";

impl Hosts {
    /// Parses a URL. With several hosts the server must accept writes, unless the URL sets another kind; libpq would
    /// accept any server.
    pub fn parse(url: &str) -> Result<Hosts, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Unreadable)?;
        let (rest, query) = rest.split_once('?').map_or((rest, ""), |(rest, query)| (rest, query));
        // The last @ ends the user part: a password may contain an unencoded one.
        let (user, rest) = rest.rsplit_once('@').map_or(("", rest), |(user, rest)| (user, rest));
        let (hosts, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
        let hosts: Vec<&str> = hosts.split(',').collect();
        let several = hosts.len() > 1;
        let (mut wanted, mut kept) = (if several { Wanted::Writable } else { Wanted::Any }, Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            match pair.split_once('=') {
                Some((TARGET, "read-write" | "primary")) => wanted = Wanted::Writable,
                Some((TARGET, "any")) => wanted = Wanted::Any,
                Some((TARGET, other)) => return Err(UrlError::Target(other.to_owned())),
                Some(("port", ports)) if several => return Err(UrlError::Ports(ports.to_owned())),
                _ => kept.push(pair),
            }
        }
        let at = if user.is_empty() { String::new() } else { format!("{user}@") };
        let query = if kept.is_empty() { String::new() } else { format!("?{}", kept.join("&")) };
        let one = |host: &str| {
            let empty = several && host.is_empty();
            let url = format!("{scheme}://{at}{host}{path}{query}");
            url.parse().ok().filter(|_| !empty).ok_or(UrlError::Unreadable)
        };
        Ok(Hosts { options: hosts.into_iter().map(one).collect::<Result<_, _>>()?, wanted })
    }
}

/// Returns whether the server is of the wanted kind.
pub async fn fits(connection: &mut PgConnection, wanted: Wanted) -> Result<bool, sqlx::Error> {
    if wanted == Wanted::Any {
        return Ok(true);
    }
    // This uses the simple protocol, because a pooler may not support prepared statements.
    let row = sqlx::raw_sql("SELECT pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean")
        .fetch_one(connection)
        .await?;
    Ok(!row.try_get::<bool, _>(0)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(url: &str) -> (Vec<(String, u16)>, Wanted) {
        let hosts = Hosts::parse(url).unwrap();
        let each = hosts.options.iter().map(|options| (options.get_host().to_owned(), options.get_port())).collect();
        (each, hosts.wanted)
    }

    #[test]
    fn one_host_is_as_it_was() {
        assert_eq!(
            read("postgres://app:p@localhost:5433/db?sslmode=require"),
            (vec![("localhost".into(), 5433)], Wanted::Any)
        );
        assert_eq!(read("postgres://localhost/db?target_session_attrs=read-write").1, Wanted::Writable);
        let socket = Hosts::parse("postgres:///db?host=/run/postgresql&user=app").unwrap();
        assert!(socket.options[0].get_socket().is_some());
        assert_eq!(socket.options[0].get_database(), Some("db"));
    }

    #[test]
    fn several_hosts_share_everything_else() {
        let url = "postgresql://app:p%40ss@a:5433,b,[::1]:5434/db?sslmode=require&target_session_attrs=primary";
        let hosts = [("a".to_owned(), 5433), ("b".to_owned(), 5432), ("[::1]".to_owned(), 5434)];
        assert_eq!(read(url), (hosts.to_vec(), Wanted::Writable));
        for options in Hosts::parse(url).unwrap().options {
            assert_eq!((options.get_username(), options.get_database()), ("app", Some("db")));
        }
        assert_eq!(read("postgres://a,b/db").1, Wanted::Writable);
        assert_eq!(read("postgres://a,b/db?target_session_attrs=any").1, Wanted::Any);
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let refused = |url| Hosts::parse(url).unwrap_err();
        assert_eq!(refused("postgres://a,,b/db"), UrlError::Unreadable);
        assert_eq!(refused("postgres://a:x,b/db"), UrlError::Unreadable);
        assert_eq!(refused("postgres://a,b/db?port=5432,5433"), UrlError::Ports("5432,5433".into()));
        assert_eq!(refused("postgres://a/db?target_session_attrs=standby"), UrlError::Target("standby".into()));
    }
}
