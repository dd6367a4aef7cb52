//! The documentation: what is generated of it is current, what it quotes is there, and what it links to exists.
//!
//! `make docs` writes docs/elements/ anew (`UPDATE_DOCS=1 cargo test --test docs`).

#[path = "../common/mod.rs"]
mod common;
mod elements;
mod links;
mod troubleshooting;

use std::path::{Path, PathBuf};

/// Every Markdown file of the repository, but for those in folders that git ignores.
fn pages() -> Vec<PathBuf> {
    let mut pages = Vec::new();
    let mut folders = vec![common::root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !path.is_symlink() && !name.starts_with('.') && name != "target" && name != "out" {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                pages.push(path);
            }
        }
    }
    pages.sort();
    pages
}

/// A page's text without its fenced blocks, line numbers kept.
fn prose(text: &str) -> String {
    let mut inside = false;
    let lines = text.lines().map(|line| {
        let fence = line.trim_start().starts_with("```");
        let kept = if fence || inside { "" } else { line };
        inside ^= fence;
        kept
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}
