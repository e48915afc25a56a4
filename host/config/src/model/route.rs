//! Where outputs go: those that leave a chain at its end, and those that a transform sends to one of its routes.

use super::{EventType, Mapping, OutputPartition, Pipeline};

/// One of `transforms[].routes:` of a pipeline.
#[derive(Debug, Clone)]
pub struct Route {
    /// The name that the component gives it.
    pub name: String,
    /// `message:` full name of the message type that it carries. `None` in the short form (`audit: topic`): the one that the
    /// chain emits.
    pub message: Option<String>,
    /// `topic:` without one its outputs are rows only.
    pub topic: Option<String>,
    pub partition: OutputPartition,
    /// `key:` a field of its message instead of the event's key.
    pub key: Option<String>,
    /// `postgres:` without it its outputs write no rows.
    pub mapping: Option<Mapping>,
}

/// A place that outputs go to, with what they must look like. The chain's end is one, each route another.
#[derive(Debug, Clone, Copy)]
pub struct Destination<'p> {
    pub kind: &'p EventType,
    /// The route, and the index of its transform; `None` for the chain's end.
    pub route: Option<(usize, &'p Route)>,
}

impl EventType {
    /// The chain's end first, then the routes of its transforms in file order.
    pub fn destinations(&self) -> impl Iterator<Item = Destination<'_>> {
        std::iter::once(self.end()).chain(self.routes())
    }

    /// The chain's end.
    pub fn end(&self) -> Destination<'_> {
        Destination { kind: self, route: None }
    }

    /// The routes of its transforms, in file order.
    pub fn routes(&self) -> impl Iterator<Item = Destination<'_>> {
        let transforms = self.transforms.iter().enumerate();
        let routes = transforms.flat_map(|(index, transform)| transform.routes.iter().map(move |route| (index, route)));
        routes.map(|route| Destination { kind: self, route: Some(route) })
    }
}

impl Pipeline {
    /// Those of all types, type by type.
    pub fn destinations(&self) -> impl Iterator<Item = Destination<'_>> {
        self.types.iter().flat_map(EventType::destinations)
    }
}

impl<'p> Destination<'p> {
    /// Full name of the message type that its outputs must be.
    pub fn message(&self) -> &'p str {
        let named = self.route.and_then(|(_, route)| route.message.as_deref());
        named.unwrap_or_else(|| self.kind.emitted())
    }

    pub fn topic(&self) -> Option<&'p str> {
        match self.route {
            Some((_, route)) => route.topic.as_deref(),
            None => self.kind.output.as_ref().map(|output| output.topic.as_str()),
        }
    }

    /// Whether it names a message type of its own.
    pub fn is_named(&self) -> bool {
        match self.route {
            Some((_, route)) => route.message.is_some(),
            None => self.kind.output.as_ref().is_some_and(|output| output.contract.is_some()),
        }
    }

    /// The fields of the message that make the key of its records.
    pub fn keys(&self) -> Vec<&'p str> {
        match self.route {
            Some((_, route)) => route.key.as_deref().into_iter().collect(),
            None => self.kind.output.iter().flat_map(|output| &output.key).map(String::as_str).collect(),
        }
    }

    pub fn partition(&self) -> OutputPartition {
        let output = || self.kind.output.as_ref().map(|output| output.partition);
        self.route.map(|(_, route)| route.partition).or_else(output).unwrap_or(OutputPartition::ByKey)
    }

    pub fn mapping(&self) -> Option<&'p Mapping> {
        self.route.map_or(Some(&self.kind.mapping), |(_, route)| route.mapping.as_ref())
    }

    /// Where one of its keys stands in the file: `topic`, `key`, `partition`, `message`, or one that begins with `postgres`.
    pub fn place(&self, key: &str) -> String {
        match self.route {
            // The short form is the topic itself.
            Some((index, Route { name, message: None, .. })) => {
                self.kind.place(&format!("transforms[{index}].routes.{name}"))
            }
            Some((index, Route { name, .. })) => self.kind.place(&format!("transforms[{index}].routes.{name}.{key}")),
            None if key.starts_with("postgres") => self.kind.place(key),
            None if key == "message" => self.kind.place(if self.is_named() { "output.contract" } else { "message" }),
            None => self.kind.place(&format!("output.{key}")),
        }
    }
}
