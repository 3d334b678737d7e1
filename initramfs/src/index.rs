//! The module index: which kernel modules serve a modalias, and what must be loaded before each.
//!
//! It is made when the image is built and read by PID 1, so it is one text file that stays one buffer: the reader
//! keeps only offsets into it. Dependencies and soft dependencies are already flattened into load order.
//!
//! ```text
//! mesolith-modules 1 6.1.0-56-amd64           format version, kernel release
//! b unix vt                                   names built in to the kernel (one line, may be empty)
//! m libcrc32c kernel/lib/libcrc32c.ko ~crc32c_generic -
//! m xfs kernel/fs/xfs/xfs.ko ~crc32c_generic,libcrc32c -
//! m tg3 kernel/drivers/net/ethernet/broadcom/tg3.ko libphy -
//! f tigon/tg3.bin                             firmware the module above may ask for
//! a xfs fs_xfs                                module, then its alias pattern up to the end of the line
//! ```
//!
//! `m NAME PATH BEFORE AFTER`: PATH is relative to the directory of the index; BEFORE is what is loaded first, in
//! order, AFTER what follows; `-` is the empty list and `~` marks what may fail (a soft dependency). `m` lines stand
//! in the kernel's link order, which decides who comes first when several drivers fit. `a` lines are sorted by the
//! bytes before the first wildcard, then by the rest. Names and patterns are written with `_` for `-`.

mod format;
mod glob;
mod writer;

pub use format::IndexError;
pub use writer::{IndexedModule, render};

use format::{compare_names, header, is_name, is_path, lines, list, offset, sort_key};
use std::cmp::Ordering;
use std::ops::Range;

/// A parsed index. Lookups allocate only their answer.
pub struct ModuleIndex {
    text: Box<str>,
    kernel: Range<u32>,
    builtin: Range<u32>,
    /// Where each `m` line's NAME starts, in file order.
    modules: Box<[u32]>,
    /// Positions in `modules`, sorted by name.
    by_name: Box<[u16]>,
    aliases: Box<[Alias]>,
}

#[derive(Clone, Copy)]
struct Alias {
    start: u32,
    len: u16,
    literal: u16,
    module: u16,
}

/// One module of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Module<'a> {
    /// The name as in `/proc/modules`: with `_`, never `-`.
    pub name: &'a str,
    /// The file, relative to the directory of the index (`/usr/lib/modules/<kernel>/`).
    pub path: &'a str,
    before: &'a str,
    after: &'a str,
    firmware: &'a str,
    position: u16,
}

/// One module to load, as part of a load order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step<'a> {
    /// What to load. It may be loaded already (EEXIST): that is success.
    pub module: Module<'a>,
    /// Whether a failure makes the steps after it pointless. Soft dependencies are not required.
    pub required: bool,
}

impl ModuleIndex {
    /// Reads an index and checks every reference in it, so that lookups cannot fail.
    ///
    /// # Errors
    /// When the bytes are not an index of this format or name modules it does not contain.
    pub fn parse(bytes: Vec<u8>) -> Result<ModuleIndex, IndexError> {
        let text = String::from_utf8(bytes).map_err(|_| IndexError::NotText)?.into_boxed_str();
        u32::try_from(text.len()).map_err(|_| IndexError::TooLarge)?;

        let mut kernel = None;
        let mut builtin = 0..0;
        let mut modules = Vec::new();
        let mut alias_lines = 0usize;
        for (line, start, content) in lines(&text) {
            let bad = |reason| IndexError::Line { line, reason };
            if line == 1 {
                kernel = Some(header(content)?);
                continue;
            }
            let body = offset(start + 2)..offset(start + content.len().max(2));
            match content.get(..2) {
                Some("b ") => builtin = body,
                Some("m ") if alias_lines > 0 => return Err(bad("a module after the first alias")),
                Some("m ") => {
                    let mut fields = content[2..].split(' ');
                    let valid = fields.next().is_some_and(is_name)
                        && fields.next().is_some_and(is_path)
                        && fields.next().is_some_and(|list| !list.is_empty())
                        && fields.next().is_some_and(|list| !list.is_empty())
                        && fields.next().is_none();
                    if !valid {
                        return Err(bad("a module line is \"m NAME PATH BEFORE AFTER\""));
                    }
                    modules.push(body.start);
                }
                Some("f ") if modules.is_empty() || alias_lines > 0 => {
                    return Err(bad("firmware that follows no module"));
                }
                Some("f ") => {}
                Some("a ") => alias_lines += 1,
                _ => return Err(bad("unknown kind of line")),
            }
        }
        let kernel = kernel.ok_or(IndexError::Header)?;
        let count = u16::try_from(modules.len()).map_err(|_| IndexError::TooLarge)?;
        let mut index = ModuleIndex {
            text,
            kernel,
            builtin,
            modules: modules.into_boxed_slice(),
            by_name: (0..count).collect(),
            aliases: Box::default(),
        };
        index.sort_names()?;
        index.check_lists()?;
        index.aliases = index.read_aliases(alias_lines)?;
        Ok(index)
    }

    /// The kernel release the modules were built for.
    pub fn kernel(&self) -> &str {
        &self.text[widen(self.kernel.clone())]
    }

    /// Every module, in the kernel's link order.
    pub fn modules(&self) -> impl ExactSizeIterator<Item = Module<'_>> {
        (0..self.by_name.len()).map(|position| self.module(narrow(position)))
    }

    /// How many alias patterns there are.
    pub fn alias_count(&self) -> usize {
        self.aliases.len()
    }

    /// The module of that name; `-` and `_` are equal.
    pub fn by_name(&self, name: &str) -> Option<Module<'_>> {
        self.position(name).map(|position| self.module(position))
    }

    fn position(&self, name: &str) -> Option<u16> {
        let found = self.by_name.binary_search_by(|position| compare_names(self.name(*position), name));
        found.ok().map(|place| self.by_name[place])
    }

    /// Only the name: parsing looks up thousands, so it must not split whole lines.
    fn name(&self, position: u16) -> &str {
        let rest = &self.text[self.modules[usize::from(position)] as usize..];
        rest.split_once(' ').map_or(rest, |(name, _)| name)
    }

    /// Whether the kernel has that module built in, so that there is nothing to load.
    pub fn is_builtin(&self, name: &str) -> bool {
        let names = &self.text[widen(self.builtin.clone())];
        names.split(' ').any(|builtin| compare_names(builtin, name) == Ordering::Equal)
    }

    /// The modules whose alias patterns match, without their dependencies, in the order to try them.
    pub fn resolve_alias(&self, modalias: &str) -> Vec<Module<'_>> {
        let mut found: Vec<u16> = Vec::new();
        let bytes = modalias.as_bytes();
        let mut candidates = 0..self.aliases.len();
        for depth in 0..=bytes.len() {
            // Every candidate's literal part starts with the first `depth` bytes of the modalias; the ones whose
            // literal part ends here sort first, and only for them the wildcards have to be tried.
            let ends_here = self.partition(&candidates, |alias| usize::from(alias.literal) == depth);
            for place in candidates.start..ends_here {
                let alias = self.aliases[place];
                if glob::matches(&self.pattern(alias)[depth..], &bytes[depth..]) {
                    found.push(alias.module);
                }
            }
            candidates.start = ends_here;
            let Some(next) = bytes.get(depth).map(|byte| glob::fold(*byte)) else {
                break;
            };
            let low = self.partition(&candidates, |alias| self.pattern(*alias)[depth] < next);
            candidates.start = low;
            candidates.end = self.partition(&candidates, |alias| self.pattern(*alias)[depth] <= next);
            if candidates.is_empty() {
                break;
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|position| self.module(position)).collect()
    }

    /// Everything to load for a modalias, or for a name as the kernel's request_module gives it to modprobe: each
    /// module once, dependencies first. A module's name goes before aliases of the same spelling. Empty when nothing
    /// fits or when it is built in.
    pub fn resolve(&self, query: &str) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        match self.by_name(query) {
            Some(module) => self.push_plan(module, &mut steps),
            None if self.is_builtin(query) => {}
            None => {
                for module in self.resolve_alias(query) {
                    self.push_plan(module, &mut steps);
                }
            }
        }
        steps
    }

    /// What to load for one module: what it needs, itself, what should follow it.
    pub fn load_order(&self, module: Module<'_>) -> Vec<Step<'_>> {
        let mut steps = Vec::new();
        self.push_plan(self.module(module.position), &mut steps);
        steps
    }

    fn push_plan<'a>(&'a self, module: Module<'a>, steps: &mut Vec<Step<'a>>) {
        for (name, required) in list(module.before) {
            push_step(Step { module: self.listed(name), required }, steps);
        }
        push_step(Step { module, required: true }, steps);
        for (name, required) in list(module.after) {
            push_step(Step { module: self.listed(name), required }, steps);
        }
    }

    fn listed(&self, name: &str) -> Module<'_> {
        self.by_name(name).expect("parse has looked up every listed name")
    }

    fn module(&self, position: u16) -> Module<'_> {
        let rest = &self.text[self.modules[usize::from(position)] as usize..];
        let (line, below) = rest.split_once('\n').unwrap_or((rest, ""));
        let mut fields = line.split(' ');
        let mut field = || fields.next().unwrap_or("-");
        let (name, path, before, after) = (field(), field(), field(), field());
        let firmware = below.split_inclusive('\n').take_while(|line| line.starts_with("f ")).map(str::len).sum();
        Module { name, path, before, after, firmware: &below[..firmware], position }
    }

    fn pattern(&self, alias: Alias) -> &[u8] {
        &self.text.as_bytes()[alias.start as usize..alias.start as usize + usize::from(alias.len)]
    }

    fn partition(&self, range: &Range<usize>, is_before: impl Fn(&Alias) -> bool) -> usize {
        range.start + self.aliases[range.clone()].partition_point(is_before)
    }

    fn sort_names(&mut self) -> Result<(), IndexError> {
        let mut order = std::mem::take(&mut self.by_name);
        order.sort_unstable_by_key(|position| self.name(*position));
        let twice = order.windows(2).find(|pair| self.name(pair[0]) == self.name(pair[1]));
        if let Some(pair) = twice {
            return Err(IndexError::DuplicateModule(self.name(pair[0]).to_owned()));
        }
        self.by_name = order;
        Ok(())
    }

    fn check_lists(&self) -> Result<(), IndexError> {
        for module in self.modules() {
            for (name, _) in list(module.before).chain(list(module.after)) {
                if self.position(name).is_none() {
                    return Err(IndexError::UnknownModule(name.to_owned()));
                }
            }
        }
        Ok(())
    }

    fn read_aliases(&self, count: usize) -> Result<Box<[Alias]>, IndexError> {
        let mut aliases = Vec::with_capacity(count);
        let mut previous: Option<(&[u8], &[u8])> = None;
        for (line, start, content) in lines(&self.text) {
            let bad = |reason| IndexError::Line { line, reason };
            let Some(body) = content.strip_prefix("a ") else {
                continue;
            };
            let (name, pattern) = body.split_once(' ').ok_or(bad("an alias line is \"a MODULE PATTERN\""))?;
            let module = self.position(name).ok_or_else(|| IndexError::UnknownModule(name.to_owned()))?;
            let len = u16::try_from(pattern.len()).map_err(|_| bad("the pattern is too long"))?;
            let key = sort_key(pattern);
            if previous.is_some_and(|previous| previous > key) {
                return Err(bad("the aliases are not sorted"));
            }
            previous = Some(key);
            aliases.push(Alias {
                start: offset(start + content.len() - pattern.len()),
                len,
                literal: narrow(key.0.len()),
                module,
            });
        }
        Ok(aliases.into_boxed_slice())
    }
}

impl<'a> Module<'a> {
    /// Firmware files the module may ask the kernel for.
    pub fn firmware(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.firmware.lines().filter_map(|line| line.strip_prefix("f "))
    }

    /// Names of what is loaded before it, in order, and whether it is required.
    pub fn needs(&self) -> impl Iterator<Item = (&'a str, bool)> + use<'a> {
        list(self.before)
    }
}

/// A module's name as the kernel spells it: with `_` for `-`.
pub(crate) fn fold_name(name: &str) -> String {
    name.replace('-', "_")
}

/// Whether a module's alias pattern, as the module declares it, matches.
pub(crate) fn alias_matches(pattern: &str, query: &str) -> bool {
    glob::matches(glob::fold_pattern(pattern).as_bytes(), query.as_bytes())
}

/// Adds a step unless its module is there already; then only its importance can grow.
fn push_step<'a>(step: Step<'a>, steps: &mut Vec<Step<'a>>) {
    match steps.iter_mut().find(|known| known.module.position == step.module.position) {
        Some(known) => known.required |= step.required,
        None => steps.push(step),
    }
}

fn narrow(position: usize) -> u16 {
    u16::try_from(position).expect("parse has refused more than u16 can count")
}

fn widen(range: Range<u32>) -> Range<usize> {
    range.start as usize..range.end as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SMALL: &str = "mesolith-modules 1 6.1.0-test\n\
        b unix efi_pstore\n\
        m crc32c_generic kernel/crypto/crc32c_generic.ko - -\n\
        m libcrc32c kernel/lib/libcrc32c.ko ~crc32c_generic -\n\
        m xfs kernel/fs/xfs/xfs.ko ~crc32c_generic,libcrc32c -\n\
        m ipmi_msghandler kernel/ipmi_msghandler.ko - ~ipmi_devintf\n\
        m ipmi_devintf kernel/ipmi_devintf.ko ipmi_msghandler -\n\
        m libphy kernel/libphy.ko - -\n\
        m tg3 kernel/tg3.ko libphy -\n\
        f tigon/tg3.bin\n\
        f tigon/tg3_tso.bin\n\
        m ata_piix kernel/ata_piix.ko - -\n\
        m ata_generic kernel/ata_generic.ko - -\n\
        a crc32c_generic crc32c\n\
        a xfs fs_xfs\n\
        a ata_generic pci:v*d*sv*sd*bc01sc01i*\n\
        a tg3 pci:v000014E4d00001644sv*sd*bc*sc*i*\n\
        a ata_piix pci:v00008086d00007010sv*sd*bc*sc*i*\n\
        a tg3 x[0-3]y\n";

    fn small() -> ModuleIndex {
        ModuleIndex::parse(SMALL.into()).unwrap()
    }

    fn names(steps: &[Step<'_>]) -> Vec<String> {
        let mark = |required| if required { "" } else { "~" };
        steps.iter().map(|step| format!("{}{}", mark(step.required), step.module.name)).collect()
    }

    #[test]
    fn a_modalias_gives_its_driver_after_what_it_needs() {
        let index = small();
        let steps = index.resolve("pci:v000014E4d00001644sv00001028sd00000001bc02sc00i00");
        assert_eq!(names(&steps), ["libphy", "tg3"]);
        assert_eq!(steps[1].module.path, "kernel/tg3.ko");
        assert_eq!(steps[1].module.firmware().collect::<Vec<_>>(), ["tigon/tg3.bin", "tigon/tg3_tso.bin"]);
        assert_eq!(steps[0].module.firmware().count(), 0);
    }

    #[test]
    fn several_drivers_for_one_device_come_in_link_order() {
        let index = small();
        let steps = index.resolve("pci:v00008086d00007010sv00001AF4sd00001100bc01sc01i80");
        assert_eq!(names(&steps), ["ata_piix", "ata_generic"]);
    }

    #[test]
    fn soft_dependencies_come_along_without_being_required() {
        let index = small();
        assert_eq!(names(&index.resolve("fs-xfs")), ["~crc32c_generic", "libcrc32c", "xfs"]);
        assert_eq!(names(&index.resolve("ipmi-msghandler")), ["ipmi_msghandler", "~ipmi_devintf"]);
    }

    #[test]
    fn names_go_before_aliases_and_hyphens_are_underscores() {
        let index = small();
        assert_eq!(names(&index.resolve("ata-generic")), ["ata_generic"]);
        assert_eq!(index.by_name("ipmi-devintf").map(|module| module.name), Some("ipmi_devintf"));
        assert_eq!(names(&index.resolve("crc32c")), ["crc32c_generic"]);
    }

    #[test]
    fn what_is_built_in_or_unknown_needs_nothing() {
        let index = small();
        assert!(index.is_builtin("efi-pstore"));
        assert!(!index.is_builtin("tg3"));
        for query in ["efi_pstore", "", "pci:", "pci:v00001234", "zzz", "x9y"] {
            assert_eq!(index.resolve(query), [], "{query}");
        }
        assert_eq!(names(&index.resolve("x2y")), ["libphy", "tg3"]);
    }

    #[test]
    fn mistakes_in_the_file_are_refused_with_the_line() {
        let broken: &[(&str, &str)] = &[
            ("", "not a module index"),
            ("something else\n", "not a module index"),
            ("mesolith-modules 2 6.1\n", "has format 2"),
            ("mesolith-modules 1 6.1\nz\n", "line 2: unknown kind"),
            ("mesolith-modules 1 6.1\nm a ../a.ko - -\n", "line 2: a module line"),
            ("mesolith-modules 1 6.1\nm a-b a.ko - -\n", "line 2: a module line"),
            ("mesolith-modules 1 6.1\nm a a.ko b -\n", "names b, which"),
            ("mesolith-modules 1 6.1\nm a a.ko - -\nm a a.ko - -\n", "contains a twice"),
            ("mesolith-modules 1 6.1\nf x.bin\n", "line 2: firmware"),
            ("mesolith-modules 1 6.1\na x y\n", "names x, which"),
            ("mesolith-modules 1 6.1\nm a a.ko - -\na a z\na a b\n", "line 4: the aliases are not sorted"),
            ("mesolith-modules 1 6.1\nm a a.ko - -\na a\n", "line 3: an alias line"),
        ];
        for (text, expected) in broken {
            let error = ModuleIndex::parse((*text).into()).err().expect("the text is broken").to_string();
            assert!(error.contains(expected), "{text:?} gave {error}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = ModuleIndex::parse(bytes);
        }

        #[test]
        fn no_damage_makes_the_reader_panic(at in 0..SMALL.len(), byte in any::<u8>(), cut in 0..SMALL.len()) {
            let mut bytes = SMALL.as_bytes().to_vec();
            bytes[at] = byte;
            bytes.truncate(cut);
            if let Ok(index) = ModuleIndex::parse(bytes) {
                for query in ["tg3", "fs-xfs", "pci:v000014E4d00001644sv00001028sd00000001bc02sc00i00"] {
                    index.resolve(query);
                }
            }
        }

        #[test]
        fn the_descent_finds_what_trying_every_pattern_finds(query in "(pci:v0000(14E4|8086)d0000[17]0(10|44)sv1sd2bc01sc01i0|fs-xfs|x[0-9]y|crc32c|[a-z:*]{0,5})") {
            let index = small();
            let mut expected: Vec<u16> = index.aliases.iter()
                .filter(|alias| glob::matches(index.pattern(**alias), query.as_bytes()))
                .map(|alias| alias.module).collect();
            expected.sort_unstable();
            expected.dedup();
            let found: Vec<u16> = index.resolve_alias(&query).iter().map(|module| module.position).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
