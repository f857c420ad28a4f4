//! The text files of the whole workspace.

use std::io;
use std::path::Path;

/// A file, with its path below the workspace's folder.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) path: String,
    pub(crate) content: String,
}

/// Folders without prose or code of the project: build results, version control, vectors that other programs wrote.
const LEFT_OUT: [&str; 3] = ["target", ".git", "vectors"];

const EXTENSIONS: [&str; 5] = ["rs", "lua", "md", "html", "toml"];

/// Reads every text file below `root`, in the order of the paths.
pub(crate) fn texts(root: &Path) -> io::Result<Vec<Text>> {
    let (mut folders, mut texts) = (vec![root.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let extension = path.extension().unwrap_or_default().to_string_lossy().into_owned();
            if path.is_dir() && !LEFT_OUT.contains(&name.as_str()) {
                folders.push(path);
            } else if path.is_file() && EXTENSIONS.contains(&extension.as_str()) {
                let content = std::fs::read_to_string(&path)?;
                let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                texts.push(Text { path, content });
            }
        }
    }
    texts.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(texts)
}
