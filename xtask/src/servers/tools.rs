//! Kafka's command line tools under the names that Kafka's own distribution uses, so that commands of the docs can be
//! typed as written. The tools need one more jar than the broker (0.6 MB).

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::{fetch_kafka, maven};
use crate::cache::Cache;
use crate::failure::{Context, Result};

/// Downloads this jar alone, because its dependencies are among the broker's jars.
const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
<modelVersion>4.0.0</modelVersion><groupId>tollgate</groupId><artifactId>kafka-tools</artifactId><version>1</version>
<dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka-tools</artifactId><version>VERSION</version>
<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion></exclusions></dependency>
</dependencies></project>
"#;

/// Each tool's class in Kafka 4 and in Kafka 3, whose broker jar contains some of them.
const TOOLS: [(&str, &str, &str); 8] = [
    ("kafka-acls.sh", "org.apache.kafka.tools.AclCommand", "kafka.admin.AclCommand"),
    ("kafka-configs.sh", "kafka.admin.ConfigCommand", "kafka.admin.ConfigCommand"),
    ("kafka-console-consumer.sh", "org.apache.kafka.tools.consumer.ConsoleConsumer", "kafka.tools.ConsoleConsumer"),
    ("kafka-console-producer.sh", "org.apache.kafka.tools.ConsoleProducer", "kafka.tools.ConsoleProducer"),
    (
        "kafka-consumer-groups.sh",
        "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        "kafka.admin.ConsumerGroupCommand",
    ),
    ("kafka-get-offsets.sh", "org.apache.kafka.tools.GetOffsetShell", "org.apache.kafka.tools.GetOffsetShell"),
    ("kafka-topics.sh", "org.apache.kafka.tools.TopicCommand", "org.apache.kafka.tools.TopicCommand"),
    (
        "kafka-transactions.sh",
        "org.apache.kafka.tools.TransactionsCommand",
        "org.apache.kafka.tools.TransactionsCommand",
    ),
];

/// Returns the folder of the tools, to be put on the `PATH`. They are downloaded from Maven Central on first use.
///
/// # Errors
/// Fails if Maven is missing or cannot download, or if the cache cannot be written.
pub fn kafka_tools(cache: &Cache, version: &str) -> Result<PathBuf> {
    let broker = fetch_kafka(cache, version)?;
    let home = cache.folder(&format!("kafka-{version}/tools"))?;
    let jars = maven::once(&home, "lib", |part| {
        let pom = home.join("pom.xml");
        let text = POM.replace("VERSION", version);
        fs::write(&pom, text).context(|| format!("cannot write {}", pom.display()))?;
        let fault = format!("Maven cannot download the tools of Kafka {version}");
        let into = format!("-DoutputDirectory={}", part.display());
        let (file, pom) = ("-f".to_owned(), pom.display().to_string());
        maven::goal(cache, &home, &fault, "copy-dependencies", [file, pom, "-DincludeScope=runtime".to_owned(), into])
    })?;
    let scripts = cache.folder(&format!("kafka-{version}/bin"))?;
    for (name, four, three) in TOOLS {
        let class = if version.starts_with("3.") { three } else { four };
        write(&scripts.join(name), &script(&jars, &broker, class))?;
    }
    Ok(scripts)
}

/// A tool runs for about a second, so the serial collector and the first compiler tier suffice. Its log lines are of no
/// use here.
fn script(jars: &Path, broker: &Path, class: &str) -> String {
    let (jars, broker) = (jars.display(), broker.display());
    format!(
        "#!/bin/sh\nexec java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 \
         -Dorg.slf4j.simpleLogger.defaultLogLevel=warn -cp '{jars}/*:{broker}/*' {class} \"$@\"\n"
    )
}

/// Writes the file and renames it into place, because another process may be running the old one.
fn write(path: &Path, text: &str) -> Result<()> {
    let part = path.with_extension("part");
    let written = fs::write(&part, text).and_then(|()| fs::set_permissions(&part, fs::Permissions::from_mode(0o755)));
    written.and_then(|()| fs::rename(&part, path)).context(|| format!("cannot write {}", path.display()))
}
