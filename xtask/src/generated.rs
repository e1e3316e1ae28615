//! Parts of documents that tasks write.

use std::fs;

use crate::{Outcome, workspace};

/// Puts figures into a document, in the place of those that `made_by` put there before.
///
/// # Errors
/// The document has no place for them, or cannot be written.
pub fn put_figures(document: &str, made_by: &str, figures: &str) -> Outcome {
    let path = workspace::root().join(document);
    let text =
        fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let text = with_figures(&text, made_by, figures).map_err(|why| format!("{document} {why}"))?;
    fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

fn with_figures(text: &str, made_by: &str, figures: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- made by `{made_by}` -->\n"), "<!-- end -->\n");
    let place = || {
        let (before, rest) = text.split_once(&begin)?;
        let (_, after) = rest.split_once(end)?;
        Some(format!("{before}{begin}\n{figures}\n{end}{after}"))
    };
    place().ok_or_else(|| format!("has no place for the figures, between {begin:?} and {end:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_put_in_the_place_of_the_old_ones() {
        let begin = "<!-- made by `it` -->\n";
        let old = format!("before\n{begin}\nold\n<!-- end -->\nafter\n");
        assert_eq!(
            with_figures(&old, "it", "new\n").unwrap(),
            format!("before\n{begin}\nnew\n\n<!-- end -->\nafter\n")
        );
        assert!(with_figures("nothing", "it", "new").is_err());
    }
}
