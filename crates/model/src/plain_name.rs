//! A file's name alone, as files from elsewhere may give one.

use std::path::{Component, Path};

/// Whether `name` is a file name alone: no folder, no root, no `..`.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name)
        && !name.contains(['/', '\\', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_names_files_of_its_folder_only() {
        assert!(is_plain_name("model-00001-of-00002.safetensors"));
        for bad in ["", ".", "..", "../x", "/x", "a/b", "a\\b", "C:x", "./x", "x/"] {
            assert!(!is_plain_name(bad), "{bad}");
        }
    }
}
