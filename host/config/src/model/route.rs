//! The destinations of outputs: the end of a chain, and the routes of its transforms.

use super::{EventType, Mapping, OutputPartition, Pipeline};

/// An entry of `transforms[].routes:`.
#[derive(Debug, Clone, PartialEq)]
pub struct Route {
    /// The name that the component declares.
    pub name: String,
    /// `message:` full name of the route's message type. `None` in the short form (`audit: topic`), which uses the
    /// chain's output type.
    pub message: Option<String>,
    /// `topic:` without it the route writes only rows.
    pub topic: Option<String>,
    pub partition: OutputPartition,
    /// `key:` a field of the route's message, instead of the event's key.
    pub key: Option<String>,
    /// `postgres:` without it the route writes no rows.
    pub mapping: Option<Mapping>,
}

/// A destination of outputs: the chain's end, or a route.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Destination<'p> {
    pub kind: &'p EventType,
    /// The route and the index of its transform; `None` for the chain's end.
    pub route: Option<(usize, &'p Route)>,
}

impl EventType {
    /// Returns the chain's end, then the routes of its transforms in file order.
    pub fn destinations(&self) -> impl Iterator<Item = Destination<'_>> {
        std::iter::once(self.end()).chain(self.routes())
    }

    /// Returns the chain's end.
    pub fn end(&self) -> Destination<'_> {
        Destination { kind: self, route: None }
    }

    /// Returns the routes of its transforms, in file order.
    pub fn routes(&self) -> impl Iterator<Item = Destination<'_>> {
        let transforms = self.transforms.iter().enumerate();
        let routes = transforms.flat_map(|(index, transform)| transform.routes.iter().map(move |route| (index, route)));
        routes.map(|route| Destination { kind: self, route: Some(route) })
    }
}

impl Pipeline {
    /// Returns the destinations of all types, type by type.
    pub fn destinations(&self) -> impl Iterator<Item = Destination<'_>> {
        self.types.iter().flat_map(EventType::destinations)
    }
}

impl<'p> Destination<'p> {
    /// Returns the full name of the message type that the outputs must have.
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

    /// Returns whether the destination names its own message type.
    pub fn is_named(&self) -> bool {
        match self.route {
            Some((_, route)) => route.message.is_some(),
            None => self.kind.output.as_ref().is_some_and(|output| output.contract.is_some()),
        }
    }

    /// Returns the fields of the message that form the record key.
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

    /// Returns the path in the file of `topic`, `key`, `partition`, `message`, or a key that begins with `postgres`.
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
