//! A kernel's modules, and the closure of a chosen few: everything they need, and in which order.
//!
//! All facts come from the modules' own `.modinfo` sections and the kernel's `modules.builtin` and `modules.order`, so
//! the answer depends on the kernel package alone and no depmod is needed.

mod modinfo;

pub use modinfo::{ModuleInfo, ModuleInfoError};

use crate::index::{self, IndexedModule};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// What an image appends to a module's path: each file is one zstd frame.
pub const PACKED: &str = ".zst";

/// All modules of one kernel.
#[derive(Debug, Default)]
pub struct Catalogue<'a> {
    modules: BTreeMap<String, Module<'a>>,
    builtin: BTreeSet<String>,
    order: BTreeMap<String, usize>,
}

/// One module file.
#[derive(Debug)]
pub struct Module<'a> {
    /// Path relative to the kernel's module directory, ending in `.ko`.
    pub path: String,
    /// The uncompressed file.
    pub bytes: Cow<'a, [u8]>,
    /// What it says about itself.
    pub info: ModuleInfo,
}

/// A set of modules that needs nothing outside itself, in the kernel's link order.
#[derive(Debug)]
pub struct Selection<'c, 'a> {
    /// Name and file of each module.
    pub modules: Vec<(&'c str, &'c Module<'a>)>,
    /// Names that were asked for and are built in to the kernel.
    pub builtin: Vec<String>,
    /// Names that were asked for and do not exist in this kernel.
    pub missing: Vec<String>,
}

/// Why modules do not make a set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ModulesError {
    /// A file is not a module.
    #[error("{path} is not a kernel module")]
    NotAModule {
        /// The file.
        path: String,
        /// Why not.
        #[source]
        source: ModuleInfoError,
    },
    /// Two files are one module.
    #[error("{0} and {1} are both the module {2}")]
    Duplicate(String, String, String),
    /// A dependency is neither a module nor built in.
    #[error("module {module} depends on {needs}, which this kernel package does not contain")]
    Broken {
        /// Which module.
        module: String,
        /// What it misses.
        needs: String,
    },
}

impl<'a> Catalogue<'a> {
    /// An empty catalogue with the kernel's lists of what is built in and in which order modules were linked.
    pub fn new(modules_builtin: &str, modules_order: &str) -> Catalogue<'a> {
        Catalogue {
            modules: BTreeMap::new(),
            builtin: modules_builtin.lines().map(name_of_path).collect(),
            order: modules_order.lines().enumerate().map(|(place, path)| (name_of_path(path), place)).collect(),
        }
    }

    /// Adds a module file.
    ///
    /// # Errors
    /// When the file is not a module or its name is taken.
    pub fn add(&mut self, path: &str, bytes: Cow<'a, [u8]>) -> Result<(), ModulesError> {
        let info =
            ModuleInfo::read(&bytes).map_err(|source| ModulesError::NotAModule { path: path.to_owned(), source })?;
        let name = info.name.clone().unwrap_or_else(|| name_of_path(path));
        if let Some(known) = self.modules.get(&name) {
            return Err(ModulesError::Duplicate(known.path.clone(), path.to_owned(), name));
        }
        self.modules.insert(name, Module { path: path.to_owned(), bytes, info });
        Ok(())
    }

    /// How many modules there are.
    pub fn len(&self) -> usize {
        self.modules.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.modules.is_empty()
    }

    /// Names built in to the kernel.
    pub fn builtin(&self) -> impl Iterator<Item = &str> {
        self.builtin.iter().map(String::as_str)
    }

    /// The named modules with everything they depend on, softly too. Names this kernel lacks are reported, not fatal.
    ///
    /// # Errors
    /// When a hard dependency is not there.
    pub fn select<'n>(&self, wanted: impl IntoIterator<Item = &'n str>) -> Result<Selection<'_, 'a>, ModulesError> {
        let mut chosen: BTreeSet<&str> = BTreeSet::new();
        let mut queue: Vec<&str> = Vec::new();
        let (mut builtin, mut missing) = (Vec::new(), Vec::new());
        for name in wanted {
            let name = index::fold_name(name);
            match self.modules.get_key_value(&name) {
                Some((name, _)) => queue.push(name),
                None if self.builtin.contains(&name) => builtin.push(name),
                None => missing.push(name),
            }
        }
        while let Some(name) = queue.pop() {
            if !chosen.insert(name) {
                continue;
            }
            let info = &self.modules[name].info;
            queue.extend(self.hard(name)?);
            for soft in info.soft_before.iter().chain(&info.soft_after) {
                queue.extend(self.find(soft));
            }
        }
        let mut modules: Vec<_> = chosen.into_iter().map(|name| (name, &self.modules[name])).collect();
        modules.sort_by_key(|(name, module)| (self.order.get(*name).copied().unwrap_or(usize::MAX), &module.path));
        Ok(Selection { modules, builtin, missing })
    }

    /// The modules a module's symbols come from; what is built in needs nothing.
    fn hard(&self, module: &str) -> Result<Vec<&str>, ModulesError> {
        let mut found = Vec::new();
        for needs in &self.modules[module].info.depends {
            match self.modules.get_key_value(needs) {
                Some((name, _)) => found.push(name.as_str()),
                None if self.builtin.contains(needs) => {}
                None => return Err(ModulesError::Broken { module: module.to_owned(), needs: needs.clone() }),
            }
        }
        Ok(found)
    }

    /// The modules a soft dependency means: by name, else by alias. None when it is built in or unknown.
    fn find(&self, query: &str) -> Vec<&str> {
        let name = index::fold_name(query);
        if let Some((name, _)) = self.modules.get_key_value(&name) {
            return vec![name];
        }
        if self.builtin.contains(&name) {
            return Vec::new();
        }
        let serves = |module: &Module<'_>| module.info.aliases.iter().any(|alias| index::alias_matches(alias, query));
        self.modules.iter().filter(|(_, module)| serves(module)).map(|(name, _)| name.as_str()).collect()
    }

    /// The index of a selection, as [`index::ModuleIndex`] reads it. Its paths are those of packed files.
    ///
    /// # Errors
    /// When a hard dependency is not there.
    pub fn index(&self, kernel: &str, selection: &Selection<'_, 'a>) -> Result<String, ModulesError> {
        let mut indexed = Vec::with_capacity(selection.modules.len());
        for (name, module) in &selection.modules {
            let (before, after) = self.load_order(name)?;
            indexed.push(IndexedModule {
                name: (*name).to_owned(),
                path: format!("{}{PACKED}", module.path),
                before,
                after,
                firmware: module.info.firmware.clone(),
                aliases: module.info.aliases.clone(),
            });
        }
        let builtin: Vec<String> = self.builtin.iter().cloned().collect();
        Ok(index::render(kernel, &builtin, &indexed))
    }

    /// What is loaded before and after a module; `false` marks what may fail.
    #[expect(clippy::type_complexity, reason = "the two lists of an index line")]
    fn load_order(&self, name: &str) -> Result<(Vec<(String, bool)>, Vec<(String, bool)>), ModulesError> {
        let mut plan = Plan { catalogue: self, steps: Vec::new(), open: Vec::new() };
        plan.visit(name, Need::Hard)?;
        let own = plan.steps.len() - 1;
        // What follows is appended only now, when everything it might depend on is in place.
        for place in 0..=own {
            let loaded = plan.steps[place].0;
            for soft in &self.modules[loaded].info.soft_after {
                for follower in self.find(soft) {
                    plan.visit(follower, Need::Soft)?;
                }
            }
        }
        let owned = |steps: &[(&str, Need)]| {
            steps.iter().map(|(name, need)| ((*name).to_owned(), *need == Need::Hard)).collect()
        };
        Ok((owned(&plan.steps[..own]), owned(&plan.steps[own + 1..])))
    }
}

/// How much depends on a module being loaded.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Soft,
    Hard,
}

/// A load order in the making.
struct Plan<'c, 'a> {
    catalogue: &'c Catalogue<'a>,
    steps: Vec<(&'c str, Need)>,
    /// Modules whose dependencies are being placed: meeting one again is a cycle, which soft dependencies can make.
    open: Vec<&'c str>,
}

impl<'c> Plan<'c, '_> {
    /// Places a module after what it needs. `false` when it needs one that cannot come before it.
    fn visit(&mut self, name: &str, need: Need) -> Result<bool, ModulesError> {
        let catalogue = self.catalogue;
        let (name, module) = catalogue.modules.get_key_value(name).expect("callers pass names of the catalogue");
        if self.open.contains(&name.as_str()) {
            return Ok(false);
        }
        let placed = self.steps.iter().position(|(step, _)| step == name);
        if let Some(placed) = placed
            && self.steps[placed].1 >= need
        {
            return Ok(true);
        }
        self.open.push(name);
        let mut possible = true;
        if placed.is_none() {
            for soft in &module.info.soft_before {
                for earlier in catalogue.find(soft) {
                    self.visit(earlier, Need::Soft)?;
                }
            }
        }
        for needed in catalogue.hard(name)? {
            possible &= self.visit(needed, need)?;
        }
        self.open.pop();
        match self.steps.iter_mut().find(|(step, _)| step == name) {
            Some(step) => step.1 = step.1.max(need),
            None if possible || need == Need::Hard => self.steps.push((name, need)),
            None => {}
        }
        Ok(possible)
    }
}

/// `kernel/drivers/net/virtio-net.ko` is the module `virtio_net`.
fn name_of_path(path: &str) -> String {
    let file = path.trim().rsplit('/').next().unwrap_or_default();
    index::fold_name(file.split_once(".ko").map_or(file, |(stem, _)| stem))
}

#[cfg(test)]
mod tests {
    use super::modinfo::tests::elf;
    use super::*;
    use crate::index::ModuleIndex;

    fn catalogue(modules: &[(&str, &[&str])]) -> Catalogue<'static> {
        let order: Vec<String> = modules.iter().map(|(path, _)| format!("kernel/{path}\n")).collect();
        let mut catalogue = Catalogue::new("kernel/lib/crc16.ko\nkernel/fs/built-in-fs.ko\n", &order.concat());
        for (path, fields) in modules {
            catalogue.add(&format!("kernel/{path}"), elf(fields).into()).unwrap();
        }
        catalogue
    }

    fn names<'c>(selection: &Selection<'c, '_>) -> Vec<&'c str> {
        selection.modules.iter().map(|(name, _)| *name).collect()
    }

    fn plan(catalogue: &Catalogue<'_>, name: &str) -> String {
        let selection = catalogue.select([name]).unwrap();
        let index = ModuleIndex::parse(catalogue.index("6.1", &selection).unwrap().into()).unwrap();
        let step = |step: index::Step<'_>| format!("{}{}", if step.required { "" } else { "~" }, step.module.name);
        index.resolve(name).into_iter().map(step).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_selection_is_closed_under_dependencies() {
        let catalogue = catalogue(&[
            ("net/libphy.ko", &["depends="]),
            ("net/realtek.ko", &["depends=libphy"]),
            ("net/r8169.ko", &["depends=libphy,crc16", "softdep=pre: realtek"]),
            ("other.ko", &["depends="]),
        ]);
        let selection = catalogue.select(["r8169", "built-in-fs", "no-such"]).unwrap();
        assert_eq!(names(&selection), ["libphy", "realtek", "r8169"]);
        assert_eq!(selection.builtin, ["built_in_fs"]);
        assert_eq!(selection.missing, ["no_such"]);
        assert_eq!(plan(&catalogue, "r8169"), "libphy ~realtek r8169");
    }

    #[test]
    fn a_soft_dependency_may_be_an_alias_of_several() {
        let catalogue = catalogue(&[
            ("crc32c_generic.ko", &["alias=crypto-crc32c"]),
            ("crc32c-intel.ko", &["alias=crypto-crc32c", "alias=cpu:*"]),
            ("libcrc32c.ko", &["softdep=pre: crypto-crc32c"]),
            ("xfs.ko", &["depends=libcrc32c"]),
        ]);
        assert_eq!(plan(&catalogue, "xfs"), "~crc32c_generic ~crc32c_intel libcrc32c xfs");
    }

    #[test]
    fn what_follows_a_dependency_comes_last() {
        let catalogue = catalogue(&[
            ("ipmi_msghandler.ko", &["softdep=post: ipmi_devintf"]),
            ("ipmi_devintf.ko", &["depends=ipmi_msghandler"]),
            ("ipmi_si.ko", &["depends=ipmi_msghandler"]),
        ]);
        assert_eq!(plan(&catalogue, "ipmi_si"), "ipmi_msghandler ipmi_si ~ipmi_devintf");
    }

    #[test]
    fn a_hard_dependency_found_softly_first_is_required() {
        let catalogue = catalogue(&[
            ("base.ko", &[]),
            ("mid.ko", &["depends=base"]),
            ("top.ko", &["depends=mid", "softdep=pre: mid"]),
        ]);
        assert_eq!(plan(&catalogue, "top"), "base mid top");
    }

    #[test]
    fn soft_cycles_are_cut_where_they_cannot_be_served() {
        let catalogue = catalogue(&[
            ("one.ko", &["softdep=pre: two"]),
            ("two.ko", &["softdep=pre: one"]),
            ("base.ko", &["softdep=pre: user"]),
            ("user.ko", &["depends=base"]),
        ]);
        assert_eq!(plan(&catalogue, "one"), "~two one");
        assert_eq!(plan(&catalogue, "base"), "base");
    }

    #[test]
    fn a_dependency_that_is_nowhere_is_an_error() {
        let catalogue = catalogue(&[("a.ko", &["depends=ghost"])]);
        let error = catalogue.select(["a"]).unwrap_err();
        assert_eq!(error, ModulesError::Broken { module: "a".into(), needs: "ghost".into() });
    }

    #[test]
    fn a_file_that_is_no_module_or_one_twice_is_refused() {
        let mut catalogue = catalogue(&[("a.ko", &["name=a"])]);
        assert!(matches!(catalogue.add("x.ko", b"text".as_slice().into()), Err(ModulesError::NotAModule { .. })));
        let twice = catalogue.add("other/a.ko", elf(&["name=a"]).into());
        assert_eq!(twice, Err(ModulesError::Duplicate("kernel/a.ko".into(), "other/a.ko".into(), "a".into())));
    }
}
