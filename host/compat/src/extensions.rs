//! Compares extensions. Like a field, an extension is a number in a message; its name is a separate full name.

use prost_reflect::ExtensionDescriptor;

use super::differ::{About, Differ};
use super::rule::rules;

impl Differ<'_> {
    pub(super) fn all_extensions(&mut self) {
        let (old_pool, new_pool) = (self.old, self.new);
        for old in old_pool.all_extensions().filter(|extension| self.owns(&extension.parent_file())).collect::<Vec<_>>()
        {
            let by_name = new_pool.get_extension_by_name(old.full_name());
            let message = new_pool.get_message_by_name(old.containing_message().full_name());
            let by_number = message.and_then(|message| message.get_extension(old.number()));
            match (by_name, by_number) {
                (Some(new), _) if target(&old) == target(&new) => self.extension(&old, &new),
                (Some(new), _) => {
                    self.moved(&old, &new);
                    let (was, is) = (target(&old), target(&new));
                    let message = format!("extension {} was {was}, now it is {is}", new.full_name());
                    self.add(&rules::EXTENSION_CHANGED, About::new(&new), message);
                }
                (None, Some(new)) => {
                    let message = format!("extension {} is now called {}", old.full_name(), new.full_name());
                    self.add(&rules::EXTENSION_RENAMED, About::new(&new), message);
                    self.extension(&old, &new);
                }
                (None, None) => {
                    let about = self.about_gone(&old, old.parent_message().as_ref());
                    self.add(&rules::EXTENSION_DELETED, about, format!("extension {} is gone", old.full_name()));
                }
            }
        }
    }

    fn extension(&mut self, old: &ExtensionDescriptor, new: &ExtensionDescriptor) {
        self.moved(old, new);
        self.slot(old, new);
    }
}

/// Formats an extension's place, such as `1000 of shop.v1.Order`.
fn target(extension: &ExtensionDescriptor) -> String {
    format!("{} of {}", extension.number(), extension.containing_message().full_name())
}
