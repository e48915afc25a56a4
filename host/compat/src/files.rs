//! Compares files and packages.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, FileDescriptor};
use prost_types::FileOptions;

use super::differ::{About, Differ};
use super::rule::rules;
use tollgate_contract::syntax;

impl Differ<'_> {
    pub(super) fn files(&mut self) {
        let (old, new) = (self.old, self.new);
        let own: Vec<FileDescriptor> = old.files().filter(|file| self.owns(file)).collect();
        for file in &own {
            match new.get_file_by_name(file.name()) {
                Some(now) => self.file(file, &now),
                None => self.add(&rules::FILE_DELETED, About::lost(file), format!("{} is gone", file.name())),
            }
        }
        let packages = packages(new);
        let mut told = BTreeSet::new();
        for file in &own {
            let package = file.package_name().to_owned();
            if !packages.contains(&package) && told.insert(package.clone()) {
                let message = match package.as_str() {
                    "" => "there is no longer a file without a package".to_owned(),
                    package => format!("package {package} is gone"),
                };
                let about = new.get_file_by_name(file.name()).map_or_else(|| About::lost(file), |now| About::new(&now));
                self.add(&rules::PACKAGE_DELETED, about.named(package), message);
            }
        }
    }

    fn file(&mut self, old: &FileDescriptor, new: &FileDescriptor) {
        let name = new.name();
        if old.package_name() != new.package_name() {
            let message = format!("{name} was of package {}, now it is of {}", old.package_name(), new.package_name());
            self.add(&rules::PACKAGE_CHANGED, About::new(new), message);
        }
        if syntax(old) != syntax(new) {
            let message = format!("{name} was {}, now it is {}", syntax(old), syntax(new));
            self.add(&rules::SYNTAX, About::new(new), message);
        }
        let read = |file: &FileDescriptor| options(&file.file_descriptor_proto().options.clone().unwrap_or_default());
        for ((option, was), (_, is)) in read(old).into_iter().zip(read(new)) {
            if was != is {
                let message = format!("{name}: {option} was {was}, now it is {is}");
                self.add(&rules::FILE_OPTION, About::new(new), message);
            }
        }
    }
}

fn packages(pool: &DescriptorPool) -> BTreeSet<String> {
    pool.files().map(|file| file.package_name().to_owned()).collect()
}

/// Returns the options that affect generated code, with their defaults. `java_string_check_utf8` affects strings, and
/// is compared for each of them.
fn options(options: &FileOptions) -> Vec<(&'static str, String)> {
    let text =
        |value: &Option<String>| value.as_deref().map_or_else(|| "not set".to_owned(), |text| format!("\"{text}\""));
    vec![
        ("java_package", text(&options.java_package)),
        ("java_outer_classname", text(&options.java_outer_classname)),
        ("java_multiple_files", options.java_multiple_files().to_string()),
        ("java_generic_services", options.java_generic_services().to_string()),
        ("optimize_for", options.optimize_for().as_str_name().to_owned()),
        ("go_package", text(&options.go_package)),
        ("cc_generic_services", options.cc_generic_services().to_string()),
        ("cc_enable_arenas", options.cc_enable_arenas().to_string()),
        ("py_generic_services", options.py_generic_services().to_string()),
        ("csharp_namespace", text(&options.csharp_namespace)),
        ("objc_class_prefix", text(&options.objc_class_prefix)),
        ("swift_prefix", text(&options.swift_prefix)),
        ("php_class_prefix", text(&options.php_class_prefix)),
        ("php_namespace", text(&options.php_namespace)),
        ("php_metadata_namespace", text(&options.php_metadata_namespace)),
        ("ruby_package", text(&options.ruby_package)),
    ]
}
