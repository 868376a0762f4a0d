//! The files of the project, read from the disk: git has no say in what is checked.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::Result;

/// Every Rust file and every page, by its path below the root, with `/` between the folders. Of other files
/// the name alone.
pub(super) struct Tree(BTreeMap<String, String>);

impl Tree {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut files = BTreeMap::new();
        read_folder(root, "", &mut files)?;
        Ok(Tree(files))
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.0.contains_key(path) || self.below(&format!("{path}/")).next().is_some()
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// The files whose path begins so.
    pub(super) fn below(&self, prefix: &str) -> impl Iterator<Item = (&str, &str)> {
        let files = self.0.range(prefix.to_owned()..);
        let files = files.map(|(path, text)| (path.as_str(), text.as_str()));
        let prefix = prefix.to_owned();
        files.take_while(move |(path, _)| path.starts_with(&prefix))
    }
}

fn read_folder(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> Result {
    let entries = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_str().ok_or("a file's name is no UTF-8")?;
        let path = format!("{prefix}{name}");
        if entry.file_type()?.is_dir() {
            // What is built, and what tools keep for themselves.
            if name != "target" && name != ".git" {
                read_folder(&entry.path(), &format!("{path}/"), files)?;
            }
        } else {
            let is_read = [".rs", ".md"].iter().any(|end| name.ends_with(end));
            let text = if is_read {
                fs::read_to_string(entry.path()).map_err(|error| format!("{path}: {error}"))?
            } else {
                String::new()
            };
            files.insert(path, text);
        }
    }
    Ok(())
}

#[cfg(test)]
impl Tree {
    pub(super) fn of<const N: usize>(files: [(&str, &str); N]) -> Self {
        Tree(files.map(|(path, text)| (path.to_owned(), text.to_owned())).into())
    }
}
