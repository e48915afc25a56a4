//! Checks the invariants of ARCHITECTURE.md: the line of code that keeps each is marked with its name, and no other
//! names occur.

use std::collections::BTreeSet;
use std::fs;

use xtask::Result;
use xtask::failure::Context as _;

use crate::project::Project;

/// Returns a line for each invariant that only the page or only the code names. `texts` are the product's source files.
pub(super) fn unnamed<'t>(project: &Project, texts: impl Iterator<Item = &'t str>) -> Result<Vec<String>> {
    let page = project.root.join("ARCHITECTURE.md");
    let page = fs::read_to_string(&page).context(|| format!("cannot read {}", page.display()))?;
    Ok(compare(&declared(&page), &texts.flat_map(named).collect()))
}

fn compare(declared: &BTreeSet<u32>, named: &BTreeSet<u32>) -> Vec<String> {
    let unkept =
        declared.difference(named).map(|number| format!("no line of the code names I{number} (`// I{number}: …`)"));
    let unknown =
        named.difference(declared).map(|number| format!("the code names I{number}, which ARCHITECTURE.md lacks"));
    unkept.chain(unknown).collect()
}

/// Reads the rows `| I3 | … |` of the table.
fn declared(page: &str) -> BTreeSet<u32> {
    page.lines().filter_map(|line| line.strip_prefix("| I")?.split_once(' ')?.0.parse().ok()).collect()
}

/// Reads comments that begin with `I3:`, also after another sentence.
fn named(text: &str) -> Vec<u32> {
    let comments = text.lines().filter_map(|line| line.split_once("// ").map(|(_, comment)| comment));
    let words = comments.flat_map(|comment| comment.split(' '));
    words.filter_map(|word| word.strip_prefix('I')?.strip_suffix(':')?.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invariants_are_compared_both_ways() {
        let page = declared("| | invariant |\n|---|---|\n| I1 | rows | x |\n| I2 | outputs | y |\nI3 is prose\n");
        let code = named("fn a() { // I1: here\n    b(); // Step 2. I4: there\n} // It is I2, named in passing\n");
        let found = compare(&page, &code.into_iter().collect());
        assert_eq!(
            found,
            ["no line of the code names I2 (`// I2: …`)", "the code names I4, which ARCHITECTURE.md lacks"]
        );
    }
}
