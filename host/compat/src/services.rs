//! Compares services. Kafka topics have none, but their `.proto` files often do.

use prost_reflect::{MethodDescriptor, ServiceDescriptor};

use super::differ::{About, Differ};
use super::rule::rules;

impl Differ<'_> {
    pub(super) fn all_services(&mut self) {
        let (old_pool, new_pool) = (self.old, self.new);
        for old in old_pool.services().filter(|service| self.owns(&service.parent_file())).collect::<Vec<_>>() {
            match new_pool.get_service_by_name(old.full_name()) {
                Some(new) => {
                    self.moved(&old, &new);
                    self.service(&old, &new);
                }
                None => {
                    let about = self.about_gone(&old, None);
                    self.add(&rules::SERVICE_DELETED, about, format!("service {} is gone", old.full_name()));
                }
            }
        }
    }

    fn service(&mut self, old: &ServiceDescriptor, new: &ServiceDescriptor) {
        for was in old.methods() {
            let Some(is) = new.methods().find(|method| method.name() == was.name()) else {
                let message = format!("method {} is gone", was.full_name());
                self.add(&rules::METHOD_DELETED, About::gone(&was, new), message);
                continue;
            };
            self.method(&was, &is);
        }
    }

    fn method(&mut self, old: &MethodDescriptor, new: &MethodDescriptor) {
        let name = new.full_name();
        for (verb, was, is) in [("takes", old.input(), new.input()), ("returns", old.output(), new.output())] {
            if was.full_name() != is.full_name() {
                let message = format!("method {name} {verb} {}, not {} as before", is.full_name(), was.full_name());
                self.add(&rules::METHOD_TYPES, About::new(new), message);
            }
        }
        for (side, was, is) in [
            ("the client", old.is_client_streaming(), new.is_client_streaming()),
            ("the server", old.is_server_streaming(), new.is_server_streaming()),
        ] {
            if was != is {
                let now = if is { "now streams" } else { "no longer streams" };
                self.add(&rules::METHOD_STREAMING, About::new(new), format!("method {name}: {side} {now}"));
            }
        }
        let level = |method: &MethodDescriptor| {
            let options = method.method_descriptor_proto().options.as_ref();
            options.map_or("IDEMPOTENCY_UNKNOWN", |options| options.idempotency_level().as_str_name())
        };
        if level(old) != level(new) {
            let message = format!("method {name}: idempotency_level was {}, now it is {}", level(old), level(new));
            self.add(&rules::METHOD_IDEMPOTENCY, About::new(new), message);
        }
    }
}
