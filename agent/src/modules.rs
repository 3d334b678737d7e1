//! Kernel modules from the image: found by the index, loaded with what they need.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::io;
use std::path::{Path, PathBuf};

use initramfs::index::{IndexError, ModuleIndex, Step};
use nix::errno::Errno;
use nix::kmod::init_module;

/// The index's name beside the modules' directory `kernel`.
const INDEX_FILE: &str = "mesolith.index";
/// No module is larger: the largest of a distribution's kernels, with graphics, have some ten megabytes.
const MAX_MODULE: u64 = 64 << 20;

/// Why modules cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ModulesError {
    #[error("cannot tell which kernel this is")]
    Kernel(#[source] Errno),
    #[error("cannot read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is unusable", path.display())]
    Index { path: PathBuf, source: IndexError },
}

/// The modules of the running kernel.
pub(crate) struct Modules {
    dir: PathBuf,
    index: ModuleIndex,
    command_line: String,
}

/// What came of a query.
#[derive(Debug, Default)]
pub(crate) struct Loaded {
    /// Modules that were not there before.
    pub(crate) new: Vec<String>,
    /// Modules that did not load, and why.
    pub(crate) failed: Vec<(String, Errno)>,
    /// The query matched something, loaded now or before.
    pub(crate) matched: bool,
}

impl Modules {
    /// Reads the index of the running kernel.
    pub(crate) fn open() -> Result<Modules, ModulesError> {
        let release = nix::sys::utsname::uname().map_err(ModulesError::Kernel)?.release().to_owned();
        let mut tried = None;
        for top in ["/usr/lib/modules", "/lib/modules"] {
            let dir = Path::new(top).join(&release);
            let path = dir.join(INDEX_FILE);
            match std::fs::read(&path) {
                Ok(bytes) => {
                    let index = ModuleIndex::parse(bytes).map_err(|source| ModulesError::Index { path, source })?;
                    let command_line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
                    return Ok(Modules { dir, index, command_line });
                }
                Err(source) => tried = tried.or(Some(ModulesError::Read { path, source })),
            }
        }
        Err(tried.expect("at least one directory is tried"))
    }

    /// Loads what a modalias or a name asks for. Modules in `known` are not tried again; new ones are added to it.
    pub(crate) fn load(&self, query: &str, known: &mut BTreeSet<String>) -> Loaded {
        let steps = self.index.resolve(query);
        let mut loaded = Loaded { matched: !steps.is_empty() || self.index.is_builtin(query), ..Loaded::default() };
        for step in &steps {
            if known.contains(step.module.name) {
                continue;
            }
            known.insert(step.module.name.to_owned());
            self.insert(step, &mut loaded);
        }
        loaded
    }

    fn insert(&self, step: &Step<'_>, loaded: &mut Loaded) {
        let name = step.module.name.to_owned();
        let result = std::fs::read(self.dir.join(step.module.path))
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))
            .and_then(|packed| unpack(&packed))
            .and_then(|module| init_module(&module, &parameters(&self.command_line, &name)));
        match result {
            Ok(()) => loaded.new.push(name),
            Err(Errno::EEXIST) => {}
            // The driver looked and its hardware is not there, as for those that match any processor of a kind.
            Err(Errno::ENODEV) => {}
            Err(_) if !step.required => {}
            Err(errno) => loaded.failed.push((name, errno)),
        }
    }
}

/// Parameters that are other than a module's own. `bonding` would make a `bond0` of a mode nobody asked for.
const USUAL: [(&str, &str); 1] = [("bonding", "max_bonds=0")];

/// What the kernel's command line says of a module: `NAME.PARAMETER=VALUE`, where `-` and `_` are the same in a name. The
/// kernel itself reads this only for drivers that are part of it.
fn parameters(command_line: &str, module: &str) -> CString {
    let plain = |name: &str| name.replace('-', "_");
    let module = plain(module);
    let own = command_line.split_whitespace().filter_map(|word| {
        let (name, setting) = word.split_once('.')?;
        (plain(name) == module).then_some(setting)
    });
    let usual = USUAL.iter().filter(|(name, _)| *name == module).map(|(_, setting)| *setting);
    // The kernel takes the last word of a parameter.
    CString::new(usual.chain(own).collect::<Vec<_>>().join(" ")).unwrap_or_default()
}

/// The module in a zstd frame. A damaged one is what the kernel, too, calls a file that is no module.
fn unpack(packed: &[u8]) -> Result<Vec<u8>, Errno> {
    let size = zstd::zstd_safe::get_frame_content_size(packed).ok().flatten();
    let size = size.filter(|size| *size <= MAX_MODULE).and_then(|size| usize::try_from(size).ok());
    // All at once into its final place: a streaming decoder would hold the module twice.
    zstd::bulk::decompress(packed, size.ok_or(Errno::ENOEXEC)?).map_err(|_| Errno::ENOEXEC)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_modules_parameters_stand_on_the_kernels_command_line() {
        let line = "quiet ramoops.mem_address=0x8000000 efi-pstore.x=1 ramoops.ecc=1 ramoops=2 other.ramoops.a=1\n";
        assert_eq!(parameters(line, "ramoops").to_str(), Ok("mem_address=0x8000000 ecc=1"));
        assert_eq!(parameters(line, "efi_pstore").to_str(), Ok("x=1"));
        assert_eq!(parameters(line, "nvme").to_str(), Ok(""));
        assert_eq!(parameters("bonding.max_bonds=2", "bonding").to_str(), Ok("max_bonds=0 max_bonds=2"));
    }

    #[test]
    fn a_frame_of_a_module_is_unpacked_and_anything_else_is_none() {
        let module: Vec<u8> = (0..200_000u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        let packed = zstd::bulk::compress(&module, 3).unwrap();
        assert_eq!(unpack(&packed), Ok(module));
        assert_eq!(unpack(b"\x7fELF"), Err(Errno::ENOEXEC));
        assert_eq!(unpack(&packed[..packed.len() / 2]), Err(Errno::ENOEXEC));
        assert_eq!(unpack(b""), Err(Errno::ENOEXEC));
    }

    #[test]
    fn a_frame_that_claims_to_be_huge_takes_no_memory() {
        // The magic, a descriptor for an eight-byte size in a single segment, and a size of 2^62.
        let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        frame.extend((1u64 << 62).to_le_bytes());
        assert_eq!(zstd::zstd_safe::get_frame_content_size(&frame).unwrap(), Some(1 << 62));
        assert_eq!(unpack(&frame), Err(Errno::ENOEXEC));
    }
}
