//! Checks that a file name from an untrusted file is a plain name.

use std::path::{Component, Path};

/// Whether `name` is only a file name: no folder, no root, no `..`.
pub(crate) fn is_plain_name(name: &str) -> bool {
    let mut components = Path::new(name).components();
    matches!((components.next(), components.next()), (Some(Component::Normal(only)), None) if only == name)
        && !name.contains(['/', '\\', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_can_only_name_files_in_its_folder() {
        assert!(is_plain_name("model-00001-of-00002.safetensors"));
        for bad in ["", ".", "..", "../x", "/x", "a/b", "a\\b", "C:x", "./x", "x/"] {
            assert!(!is_plain_name(bad), "{bad}");
        }
    }
}
