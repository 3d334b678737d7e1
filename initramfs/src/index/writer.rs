//! Writes the module index that [`ModuleIndex`](super::ModuleIndex) reads.

use super::format::{FORMAT_VERSION, sort_key};
use super::glob;

/// One module as it goes into the index. Names are folded (`-` to `_`) when written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IndexedModule {
    /// Module name.
    pub name: String,
    /// File, relative to the directory of the index.
    pub path: String,
    /// What to load first, in order; `false` when it may fail.
    pub before: Vec<(String, bool)>,
    /// What to load afterwards, in order; `false` when it may fail.
    pub after: Vec<(String, bool)>,
    /// Firmware files it may ask for.
    pub firmware: Vec<String>,
    /// Alias patterns as the module declares them.
    pub aliases: Vec<String>,
}

/// Writes an index. `modules` must stand in link order; the names in their lists must be among them, else the reader
/// refuses the file.
pub fn render(kernel: &str, builtin: &[String], modules: &[IndexedModule]) -> String {
    let mut text = format!("mesolith-modules {FORMAT_VERSION} {kernel}\nb ");
    text.push_str(&builtin.iter().map(|name| glob::fold_pattern(name)).collect::<Vec<_>>().join(" "));
    text.push('\n');
    for module in modules {
        let name = glob::fold_pattern(&module.name);
        let (before, after) = (render_list(&module.before), render_list(&module.after));
        text.push_str(&format!("m {name} {} {before} {after}\n", module.path));
        for file in &module.firmware {
            text.push_str(&format!("f {file}\n"));
        }
    }
    let mut aliases: Vec<(String, String)> = Vec::new();
    for module in modules {
        let name = glob::fold_pattern(&module.name);
        aliases.extend(module.aliases.iter().map(|pattern| (glob::fold_pattern(pattern), name.clone())));
    }
    aliases.sort_by(|one, other| sort_key(&one.0).cmp(&sort_key(&other.0)).then_with(|| one.1.cmp(&other.1)));
    aliases.dedup();
    for (pattern, name) in aliases {
        text.push_str(&format!("a {name} {pattern}\n"));
    }
    text
}

fn render_list(names: &[(String, bool)]) -> String {
    if names.is_empty() {
        return "-".to_owned();
    }
    let marked = names.iter().map(|(name, required)| {
        let mark = if *required { "" } else { "~" };
        format!("{mark}{}", glob::fold_pattern(name))
    });
    marked.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::ModuleIndex;

    #[test]
    fn what_is_written_is_read_back() {
        let text = render(
            "6.1.0-test",
            &["unix".to_owned(), "efi-pstore".to_owned()],
            &[
                IndexedModule { name: "virtio".into(), path: "kernel/virtio.ko".into(), ..IndexedModule::default() },
                IndexedModule {
                    name: "virtio-net".into(),
                    path: "kernel/virtio_net.ko".into(),
                    before: vec![("virtio".into(), true)],
                    firmware: vec!["with space, and comma.bin".into()],
                    aliases: vec!["virtio:d00000001v*".into(), "virtio:d00000001v*".into(), "a-b[0-9]".into()],
                    ..IndexedModule::default()
                },
            ],
        );
        let index = ModuleIndex::parse(text.clone().into()).unwrap();
        assert_eq!(index.kernel(), "6.1.0-test");
        assert!(index.is_builtin("efi_pstore"));
        assert_eq!(index.alias_count(), 2);
        let steps = index.resolve("virtio:d00000001v00001AF4");
        assert_eq!(steps.iter().map(|step| step.module.name).collect::<Vec<_>>(), ["virtio", "virtio_net"]);
        assert_eq!(steps[1].module.firmware().collect::<Vec<_>>(), ["with space, and comma.bin"]);
        assert_eq!(index.resolve("a-b7").len(), 2);
    }

    #[test]
    fn an_index_of_nothing_is_readable() {
        let index = ModuleIndex::parse(render("6.1", &[], &[]).into()).unwrap();
        assert_eq!(index.modules().len(), 0);
        assert_eq!(index.resolve("pci:v1"), []);
        assert!(!index.is_builtin("x"));
    }
}
