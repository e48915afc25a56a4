//! The token, which identifies the commit that wrote a committed group offset.
//!
//! Kafka stores a text with each offset of a group, its *metadata*. A lane commits the group's offsets in the Kafka
//! transaction of its outputs, and stores a token there: which pipeline on which cluster wrote the offset, at which
//! epoch, and as which commit of the partition. A tool or another consumer that commits for the group leaves no token,
//! or a foreign one, so a takeover can distinguish our offsets from those of other clients.
//!
//! ```text
//! tollgate/1 number=42 epoch=7 offsets=100..164 cluster=4L6g3nShT-eMCtK--X86sw pipeline=payments
//! ```

use crate::position::{CommitNumber, Epoch, NextOffset};

/// The maximum size of a token in bytes: a tenth of what a broker stores by default (`offset.metadata.max.bytes`,
/// 4096).
pub const TOKEN_BYTES: usize = 400;

/// The maximum size of a cluster's or a pipeline's name in a token, in bytes. Kafka's own cluster ids have 22, and the
/// configuration rejects pipeline names with more than 100.
const NAME_BYTES: usize = 120;

/// The maximum number of characters of foreign metadata in a message.
const SHOWN: usize = 60;

const FORMAT: &str = "tollgate/1";

/// A pipeline and its cluster: a token with the same values is ours.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Writer {
    pipeline: String,
    cluster: Option<String>,
}

/// The token of one committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    pub writer: Writer,
    pub epoch: Epoch,
    pub lo: NextOffset,
    /// The offset with which the token was committed.
    pub hi: NextOffset,
    pub number: CommitNumber,
}

/// The kinds of metadata of a committed offset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mark {
    Token(Token),
    /// A token in a format that only newer releases can read.
    Newer {
        format: String,
    },
    /// No token: another client wrote the offset, or a release without tokens did. Holds the printable part of the
    /// metadata, which is empty if there is none.
    Foreign {
        shown: String,
    },
}

/// The consumer group's committed offset for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub next: NextOffset,
    pub mark: Mark,
}

impl Writer {
    /// Creates a writer. `cluster` is `None` if the broker does not report its cluster's id.
    pub fn new(pipeline: &str, cluster: Option<&str>) -> Writer {
        Writer { pipeline: plain(pipeline), cluster: cluster.map(plain).filter(|id| !id.is_empty()) }
    }

    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    pub fn cluster(&self) -> Option<&str> {
        self.cluster.as_deref()
    }
}

/// Returns a name in the form that a token stores: printable ASCII without blanks, and not too long.
fn plain(name: &str) -> String {
    let shown = name.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' });
    shown.take(NAME_BYTES).collect()
}

impl Token {
    /// Returns the metadata to commit.
    pub fn text(&self) -> String {
        let Token { writer: Writer { pipeline, cluster }, epoch, lo, hi, number } = self;
        let cluster = cluster.as_deref().unwrap_or_default();
        format!("{FORMAT} number={number} epoch={epoch} offsets={lo}..{hi} cluster={cluster} pipeline={pipeline}")
    }

    fn parse(fields: &str) -> Option<Token> {
        let mut fields = fields.split(' ');
        let mut field = |name: &str| fields.next()?.strip_prefix(name)?.strip_prefix('=');
        let number = CommitNumber::new(field("number")?.parse().ok()?);
        let epoch = field("epoch")?.parse().ok().map(Epoch::new)?;
        let (lo, hi) = field("offsets")?.split_once("..")?;
        let (lo, hi) = (NextOffset::new(lo.parse().ok()?), NextOffset::new(hi.parse().ok()?));
        let (cluster, pipeline) = (field("cluster")?, field("pipeline")?);
        let writer =
            Writer { pipeline: pipeline.to_owned(), cluster: Some(cluster.to_owned()).filter(|id| !id.is_empty()) };
        fields.next().is_none().then_some(Token { writer, epoch, lo, hi, number })
    }
}

impl Mark {
    /// Parses the metadata of a committed offset. Any client may have written it, as arbitrary bytes.
    pub fn read(metadata: &[u8]) -> Mark {
        let text = std::str::from_utf8(metadata).ok().filter(|text| text.len() <= TOKEN_BYTES);
        let parts = text.and_then(|text| text.split_once(' '));
        match parts {
            Some((FORMAT, fields)) => Token::parse(fields).map_or_else(|| Mark::foreign(metadata), Mark::Token),
            Some((format, _)) if newer(format) => Mark::Newer { format: format.to_owned() },
            _ => Mark::foreign(metadata),
        }
    }

    /// Returns foreign metadata for a message.
    pub fn shown(&self) -> &str {
        match self {
            Mark::Foreign { shown } => shown,
            Mark::Newer { format } => format,
            Mark::Token(_) => "",
        }
    }

    fn foreign(metadata: &[u8]) -> Mark {
        let text = String::from_utf8_lossy(metadata);
        Mark::Foreign { shown: text.chars().take(SHOWN).flat_map(char::escape_debug).collect() }
    }
}

fn newer(format: &str) -> bool {
    format.strip_prefix("tollgate/").and_then(|version| version.parse::<u32>().ok()).is_some_and(|version| version > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(pipeline: &str, cluster: Option<&str>) -> Token {
        let writer = Writer::new(pipeline, cluster);
        Token {
            writer,
            epoch: Epoch::new(7),
            lo: NextOffset::new(100),
            hi: NextOffset::new(164),
            number: CommitNumber::new(42),
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        for (pipeline, cluster) in [
            ("payments", Some("4L6g3nShT-eMCtK--X86sw")),
            ("p", None),
            ("p", Some("")),
            ("a b=c", Some("über cluster")),
        ] {
            let token = token(pipeline, cluster);
            assert_eq!(Mark::read(token.text().as_bytes()), Mark::Token(token));
        }
        let expected = "tollgate/1 number=42 epoch=7 offsets=100..164 cluster=4L6g3nShT-eMCtK--X86sw pipeline=payments";
        assert_eq!(token("payments", Some("4L6g3nShT-eMCtK--X86sw")).text(), expected, "stored: it cannot change");
    }

    #[test]
    fn a_token_of_the_longest_names_and_numbers_fits() {
        let most = i64::MAX;
        let long = "p".repeat(10_000);
        let token = Token {
            writer: Writer::new(&long, Some(&long)),
            epoch: Epoch::new(i64::MIN),
            lo: NextOffset::new(most),
            hi: NextOffset::new(most),
            number: CommitNumber::new(i64::MIN),
        };
        assert!(token.text().len() <= TOKEN_BYTES, "{}", token.text().len());
        assert_eq!(Mark::read(token.text().as_bytes()), Mark::Token(token));
    }

    #[test]
    fn what_somebody_else_wrote_is_no_token() {
        let good = token("p", None).text();
        let spoiled = [
            String::new(),
            "app-host-17".into(),
            "tollgate".into(),
            "tollgate/1".into(),
            "tollgate/0 number=1".into(),
            "tollgate/x y".into(),
            format!("{good} more=1"),
            format!(" {good}"),
            good.replace("number=42", "number=4x"),
            good.replace("..", "."),
            good.replace("epoch", "era"),
            format!("{good}{}", "p".repeat(TOKEN_BYTES)),
        ];
        for text in spoiled {
            assert!(matches!(Mark::read(text.as_bytes()), Mark::Foreign { .. }), "{text}");
        }
        let bytes = [b'\xff', b'\xfe', 0, b'a'];
        assert_eq!(Mark::read(&bytes), Mark::Foreign { shown: "\u{fffd}\u{fffd}\\0a".into() });
    }

    #[test]
    fn a_newer_format_is_known_for_what_it_is() {
        assert_eq!(Mark::read(b"tollgate/2 anything"), Mark::Newer { format: "tollgate/2".into() });
    }
}
