//! No import cycles among the files of a crate, read from their `use` lines.
//!
//! A re-exported name counts where it is defined, and a folder counts as one for the files next to it.

use std::collections::{BTreeMap, BTreeSet};

use crate::repository::{names, read, rust_files};

/// A module's imports: the local name, the path, whether the name is re-exported.
type Imports = Vec<(String, Vec<String>, bool)>;

/// The modules of a crate, by path (`["kernel", "simd"]`; the crate itself is the empty path).
struct Crate {
    files: BTreeMap<Vec<String>, String>,
    imports: BTreeMap<Vec<String>, Imports>,
}

impl Crate {
    fn read(name: &str) -> Self {
        let source = format!("crates/{name}/src/");
        let mut files: BTreeMap<Vec<String>, String> = BTreeMap::new();
        for file in rust_files().into_iter().filter(|file| file.starts_with(&source)) {
            let path = file[source.len()..].trim_end_matches(".rs").trim_end_matches("/mod");
            if path != "main" {
                let path = path.split('/').filter(|part| *part != "lib").map(str::to_owned).collect();
                files.insert(path, file);
            }
        }
        let mut imports: BTreeMap<Vec<String>, Imports> = BTreeMap::new();
        let mut tests = Vec::new();
        for (path, file) in &files {
            let text = read(file);
            // A test module is at the end of its file, or in a separate file.
            let code = text.split_once("#[cfg(test)]\nmod tests {").map_or(&text[..], |(code, _)| code);
            for (_, rest) in text.match_indices("#[cfg(test)]\nmod ").map(|(at, _)| text.split_at(at)) {
                let (name, _) = rest["#[cfg(test)]\nmod ".len()..].split_once([';', ' ']).expect("a module");
                tests.push([&path[..], &[name.to_owned()]].concat());
            }
            imports.insert(path.clone(), uses(code));
        }
        files.retain(|path, _| !tests.iter().any(|test| path.starts_with(test)));
        Self { files, imports }
    }

    /// The module in which `path`, as written in `from`, is defined; `None` for another crate's.
    fn definition(&self, from: &[String], path: &[String]) -> Option<Vec<String>> {
        let mut module = from.to_vec();
        let mut rest = path;
        match path[0].as_str() {
            "crate" => module.clear(),
            "self" => {}
            "super" => drop(module.pop()),
            child if self.files.contains_key(&[from, &[child.to_owned()]].concat()) => rest = path,
            _ => return None,
        }
        if matches!(path[0].as_str(), "crate" | "self" | "super") {
            rest = &path[1..];
        }
        while let Some((part, after)) = rest.split_first() {
            let inner = [&module[..], std::slice::from_ref(part)].concat();
            if part == "super" {
                module.pop();
            } else if self.files.contains_key(&inner) {
                module = inner;
            } else {
                let passed_on =
                    self.imports[&module].iter().find(|(name, _, public)| *public && name == part);
                let target = passed_on.map(|(_, path, _)| [path, after].concat());
                return Some(target.and_then(|path| self.definition(&module, &path)).unwrap_or(module));
            }
            rest = after;
        }
        Some(module)
    }

    /// Which file or folder imports from which sibling. A folder's `mod.rs` counts as the folder: it may call the files
    /// in it, and they may use its types.
    fn arrows(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut arrows: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for module in self.files.keys() {
            for (_, path, _) in self.imports[module].iter().filter(|(_, _, public)| !public) {
                let Some(target) = self.definition(module, path) else { continue };
                let shared = module.iter().zip(&target).take_while(|(a, b)| a == b).count();
                if shared < module.len().min(target.len()) {
                    let from = module[..=shared].join("/");
                    arrows.entry(from).or_default().insert(target[..=shared].join("/"));
                }
            }
        }
        arrows
    }
}

/// All that `use` lines import.
fn uses(code: &str) -> Imports {
    let mut found = Vec::new();
    let mut lines = code.lines().map(str::trim);
    while let Some(line) = lines.next() {
        let (before, tree) = match line.strip_prefix("use ") {
            Some(tree) => ("", tree),
            None => line.split_once(" use ").unwrap_or(("//", "")),
        };
        if before.is_empty() || (before.starts_with("pub") && !before.contains(' ')) {
            let mut tree = tree.to_owned();
            while !tree.ends_with(';') {
                tree += lines.next().expect("a `;`");
            }
            expand("", tree.trim_end_matches(';'), !before.is_empty(), &mut found);
        }
    }
    found
}

fn expand(prefix: &str, tree: &str, public: bool, found: &mut Imports) {
    if let Some((inner, list)) = tree.split_once('{') {
        let list = list.trim_end().strip_suffix('}').expect("a closing brace");
        let mut depth = 0;
        let commas = |c: char| {
            depth += i32::from(c == '{') - i32::from(c == '}');
            c == ',' && depth == 0
        };
        for tree in list.split(commas).map(str::trim).filter(|tree| !tree.is_empty()) {
            expand(&format!("{prefix}{inner}"), tree, public, found);
        }
    } else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let path = format!("{prefix}{path}");
        let mut path: Vec<String> = path.split("::").map(|part| part.trim().to_owned()).collect();
        path.retain({
            let n = path.len();
            let mut at = 0;
            move |part| {
                at += 1;
                part != "*" && !(part == "self" && at == n && n > 1)
            }
        });
        let name = if name.is_empty() { path[path.len() - 1].clone() } else { name.to_owned() };
        found.push((name, path, public));
    }
}

/// Everything that can be reached from a file or folder along the imports.
fn reach<'a>(arrows: &'a BTreeMap<String, BTreeSet<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(file) = next.pop() {
        let targets = arrows.get(file).into_iter().flatten().map(String::as_str);
        next.extend(targets.filter(|target| reached.insert(*target)));
    }
    reached
}

#[test]
fn no_files_of_a_crate_import_in_a_cycle() {
    let mut circles = BTreeSet::new();
    for name in names("crates") {
        let arrows = Crate::read(&name).arrows();
        for file in arrows.keys() {
            let reached = reach(&arrows, file).into_iter();
            let circle: Vec<&str> =
                reached.filter(|other| reach(&arrows, other).contains(&file[..])).collect();
            if circle.contains(&&file[..]) {
                circles.insert(format!("{name}: {}", circle.join(", ")));
            }
        }
    }
    assert!(circles.is_empty(), "import cycles: {circles:#?}");
}
