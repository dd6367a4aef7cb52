//! docs/troubleshooting.md: what it quotes as error texts is what the program says.

use std::path::Path;

use crate::common::root;
use crate::read;

/// All Rust code and scripts that speak to users, in one text whose white space is single blanks. String literals that
/// go on in the next line are joined as the compiler joins them.
fn source() -> String {
    let mut text = String::new();
    let mut folders = vec![root().join("src"), root().join("tools")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.extension().and_then(|e| e.to_str()) {
                _ if path.is_dir() => folders.push(path),
                Some("rs" | "sh") => text.push_str(&read(&path)),
                _ => {}
            }
        }
    }
    let joined = text.replace("\\\n", " ").replace("\\\"", "\"");
    joined.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The quoted errors: headings of the third level, in backticks.
fn quoted(page: &str) -> Vec<&str> {
    page.lines().filter_map(|line| line.strip_prefix("### `")?.strip_suffix('`')).collect()
}

/// The parts of a quoted error that do not vary.
fn fixed(error: &str) -> impl Iterator<Item = &str> {
    error.split('…').map(str::trim).filter(|part| !part.is_empty())
}

#[test]
fn every_quoted_error_is_one_that_the_program_has() {
    let page = read(Path::new(&root().join("docs/troubleshooting.md")));
    let source = source();
    let errors = quoted(&page);
    assert!(errors.len() >= 40, "only {} errors are quoted", errors.len());
    let stale: Vec<String> = errors
        .iter()
        .flat_map(|error| {
            fixed(error)
                .filter(|part| !source.contains(*part))
                .map(move |part| format!("{error}\n    not found: {part}"))
        })
        .collect();
    assert!(stale.is_empty(), "docs/troubleshooting.md quotes what no source has:\n{}", stale.join("\n"));
    let vague: Vec<_> = errors.iter().filter(|error| fixed(error).map(str::len).max() < Some(12)).collect();
    assert!(vague.is_empty(), "nothing of these is long enough to be looked for: {vague:?}");
}
