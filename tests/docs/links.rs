//! Links between pages: every relative one leads to a file, and every anchor to a heading.

use std::collections::BTreeMap;

use crate::{pages, prose, read};

/// Where `[text](target)` and `![text](target)` of a page lead, outside of fenced blocks and code.
fn targets(text: &str) -> Vec<String> {
    let prose = prose(text);
    let plain: String = prose.split('`').step_by(2).collect::<Vec<_>>().join("`");
    plain.match_indices("](").filter_map(|(at, _)| plain[at + 2..].split_once(')').map(|(t, _)| t.into())).collect()
}

/// The anchors of a page's headings, as GitHub and GitLab make them.
fn anchors(text: &str) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let headings = prose(text);
    let headings = headings.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let kept = line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-");
            let slug: String = kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect();
            let count = seen.entry(slug.clone()).and_modify(|n| *n += 1).or_insert(0);
            if *count == 0 { slug } else { format!("{slug}-{count}") }
        })
        .collect()
}

#[test]
fn every_relative_link_and_anchor_leads_somewhere() {
    let mut broken = Vec::new();
    let mut links = 0;
    for page in pages() {
        let text = read(&page);
        for target in targets(&text).iter().filter(|t| !t.contains("://") && !t.starts_with("mailto:")) {
            links += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let there = path.exists() && (anchor.is_empty() || anchors(&read(&path)).iter().any(|a| a == anchor));
            if !there {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(links > 100, "only {links} links were found");
    assert!(broken.is_empty(), "these links lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn anchors_are_those_of_the_hosting_sites() {
    let text = "# A b, c: `d-e`\n## Two\n```\n# no heading\n```\n## Two\n";
    assert_eq!(anchors(text), ["a-b-c-d-e", "two", "two-1"]);
    assert_eq!(targets("a [b](c.md#d) `[e](f)` ![g](h.png)"), ["c.md#d", "h.png"]);
}
