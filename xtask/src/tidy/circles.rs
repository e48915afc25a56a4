//! Finds import circles: files that need each other, directly or through others.
//!
//! An edge leads from a file to each file whose items it names, and to the files of its own child modules. A child may
//! name items of its ancestors, because this is how a module is split over files. Every other circle is an error.

use std::collections::{BTreeMap, BTreeSet};

use super::source::Source;

/// The files of one crate by their module path; the root's is empty.
type Modules<'a> = BTreeMap<Vec<String>, (&'a str, &'a Source)>;

/// Returns the circles among the files of all crates, each as the sorted paths of its files. `files` are paths below
/// the project's root with their contents.
pub(super) fn find(files: &BTreeMap<String, Source>) -> Vec<Vec<&str>> {
    let mut crates: BTreeMap<&str, Modules<'_>> = BTreeMap::new();
    for (path, source) in files {
        if let Some((root, module)) = place(path) {
            crates.entry(root).or_default().insert(module, (path, source));
        }
    }
    crates.values().flat_map(of_crate).collect()
}

/// Returns the crate's source folder and the module that a file holds. A binary's file is a crate of its own.
fn place(path: &str) -> Option<(&str, Vec<String>)> {
    let (root, inside) = path.split_at(path.find("/src/")? + "/src/".len());
    let parts: Vec<String> = inside.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["lib" | "main"] => Some((root, Vec::new())),
        ["bin", ..] => None,
        _ => Some((root, parts)),
    }
}

fn of_crate<'a>(modules: &Modules<'a>) -> Vec<Vec<&'a str>> {
    let edges: BTreeMap<&[String], BTreeSet<&[String]>> =
        modules.iter().map(|(module, (_, source))| (&module[..], edges(modules, module, source))).collect();
    let mut reach = BTreeMap::new();
    for module in edges.keys() {
        reach.insert(*module, reachable(&edges, module));
    }
    let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
    for (module, reached) in &reach {
        let mutual = reached.iter().filter(|other| reach[*other].contains(module));
        let circle: BTreeSet<&str> = mutual.map(|other| modules[*other].0).collect();
        if circle.len() > 1 {
            circles.insert(circle.into_iter().collect());
        }
    }
    circles.into_iter().collect()
}

fn edges<'m>(modules: &'m Modules<'_>, module: &[String], source: &Source) -> BTreeSet<&'m [String]> {
    let children = source.modules.iter().map(|child| [module, std::slice::from_ref(child)].concat());
    let named = source.paths.iter().filter_map(|path| absolute(modules, module, path));
    let found = children.chain(named).filter_map(|path| {
        let depth = (0..=path.len()).rev().find(|depth| modules.contains_key(&path[..*depth]))?;
        modules.get_key_value(&path[..depth]).map(|(key, _)| &key[..])
    });
    found.filter(|other| !module.starts_with(other)).collect()
}

/// Returns a path that starts at the crate's root, or `None` if the path leads to another crate.
fn absolute(modules: &Modules<'_>, module: &[String], path: &[String]) -> Option<Vec<String>> {
    let (first, rest) = path.split_first()?;
    match first.as_str() {
        "crate" => Some(rest.to_vec()),
        "self" => Some([module, rest].concat()),
        "super" => {
            let up = path.iter().take_while(|word| *word == "super").count();
            Some([module.get(..module.len().checked_sub(up)?)?, &path[up..]].concat())
        }
        _ => {
            let below = [module, path].concat();
            modules.contains_key(&below[..=module.len()]).then_some(below)
        }
    }
}

fn reachable<'m>(edges: &BTreeMap<&'m [String], BTreeSet<&'m [String]>>, from: &'m [String]) -> BTreeSet<&'m [String]> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        next.extend(edges[module].iter().filter(|other| reached.insert(**other)).copied());
    }
    reached
}

#[cfg(test)]
mod tests {
    use super::super::source;
    use super::*;

    fn circles(files: &[(&str, &str)]) -> Vec<Vec<String>> {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), source::read(text))).collect();
        find(&files).into_iter().map(|circle| circle.into_iter().map(str::to_owned).collect()).collect()
    }

    #[test]
    fn files_that_name_each_other_are_a_circle() {
        let root = ("a/src/lib.rs", "mod one; mod two; mod three;");
        let files = [root, ("a/src/one.rs", "use crate::two::X;"), ("a/src/two.rs", "use crate::three;")];
        assert!(circles(&[&files[..], &[("a/src/three.rs", "use serde::one;")]].concat()).is_empty());
        let circle = [&files[..], &[("a/src/three.rs", "fn f() { crate::one::g() }")]].concat();
        assert_eq!(circles(&circle), [["a/src/one.rs", "a/src/three.rs", "a/src/two.rs"]]);
        // Two crates may have modules of the same name.
        assert!(circles(&[&files[..], &[("b/src/three.rs", "use crate::one;")]].concat()).is_empty());
    }

    #[test]
    fn a_child_may_name_what_its_parent_holds_and_a_sibling_may_not_be_named_back() {
        let parent = ("a/src/lane.rs", "mod commit; mod hold; use commit::Plan; pub struct Lane;");
        let child = ("a/src/lane/commit.rs", "use super::Lane;");
        assert!(circles(&[parent, child, ("a/src/lane/hold.rs", "use super::commit::Plan;")]).is_empty());
        let back = ("a/src/lane/commit.rs", "use super::hold::Pause;");
        let circle = circles(&[parent, back, ("a/src/lane/hold.rs", "use super::commit::Plan;")]);
        assert_eq!(circle, [["a/src/lane/commit.rs", "a/src/lane/hold.rs"]]);
    }

    #[test]
    fn a_circle_may_lead_through_a_child() {
        let files = [
            ("a/src/engine.rs", "use crate::lane::Lane;"),
            ("a/src/lane.rs", "mod hold;"),
            ("a/src/lane/hold.rs", "use crate::engine::Shared;"),
        ];
        assert_eq!(circles(&files), [["a/src/engine.rs", "a/src/lane.rs", "a/src/lane/hold.rs"]]);
    }
}
