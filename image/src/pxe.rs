//! Builds the PXE bundle: from packages and the agent's binary to the files a boot server hands out.

use crate::apt::{self, Apt};
use crate::console::{Console, human};
use crate::deb::Package;
use crate::digest::{sha256, write_file};
use crate::firmware::Firmware;
use crate::kernel::Kernel;
use crate::lock::{self, Lock, Role};
use crate::report::{self, Item, Report, Source};
use crate::rootfs::Release;
use crate::{agent, disk_tools, module_set, packed, rootfs, task_root};
use anyhow::{Context, Result, ensure};
use initramfs::modules::{PACKED, Selection};
use initramfs::{Manifest, cpio};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// The name of the module index, beside the modules.
const MODULE_INDEX: &str = "mesolith.index";

/// How many bytes are compressed between two steps of the progress bar.
const CHUNK: usize = 1 << 20;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The agent, a static executable; it becomes PID 1.
    #[arg(long, value_name = "FILE")]
    agent: PathBuf,
    /// Where to write vmlinuz, initramfs.img, manifest.json and SIZES.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Take the kernel from this package instead of the pinned one; repeat it where modules are packaged apart.
    #[arg(long, value_name = "FILE.deb")]
    kernel: Vec<PathBuf>,
    /// Take the default task root's busybox from this package instead of the pinned one.
    #[arg(long, value_name = "FILE.deb")]
    busybox: Option<PathBuf>,
    /// Take the CA certificates from this package instead of the pinned one.
    #[arg(long, value_name = "FILE.deb")]
    ca_certificates: Option<PathBuf>,
    /// Take the programs for disks and their libraries from these packages instead of the pinned ones.
    #[arg(long, value_name = "FILE.deb")]
    disk_tools: Vec<PathBuf>,
    /// Firmware, laid out like /lib/firmware; intel-ucode/ and amd-ucode/ in it become early microcode.
    #[arg(long, value_name = "DIR")]
    firmware: Option<PathBuf>,
    /// Which drivers: server, virt (small, for virtual machines), or a file that names modules.
    #[arg(long, value_name = "SET", default_value = "server")]
    modules: String,
    /// How hard to compress: 3 is quick, 19 is small.
    #[arg(long, value_name = "N", default_value_t = 19, value_parser = clap::value_parser!(i32).range(1..=19))]
    zstd_level: i32,
    /// The packages to use.
    #[arg(long, value_name = "FILE", default_value = lock::DEFAULT_PATH)]
    lock: PathBuf,
    /// Pin the newest packages that apt offers before building.
    #[arg(long)]
    update_lock: bool,
    /// Where downloaded packages are kept.
    #[arg(long, value_name = "DIR", default_value = apt::DEFAULT_CACHE)]
    cache: PathBuf,
    /// The build time to put into the image, in seconds since 1970; otherwise the lock file's date.
    #[arg(long, value_name = "N", env = "SOURCE_DATE_EPOCH")]
    source_date_epoch: Option<u32>,
}

/// Packages as they came, unpacked, with what the report says about them.
struct Input {
    packages: Vec<Package>,
    sources: Vec<Source>,
}

/// Builds a bundle.
pub(crate) fn build(arguments: &Arguments, console: &Console) -> Result<()> {
    let lock = match arguments.update_lock {
        true => lock::update(&arguments.lock, &arguments.cache, console)?,
        false => Lock::load(&arguments.lock)?,
    };
    let date = u32::try_from(lock.date_unix).context("the lock file's date is beyond 2106")?;
    let source_date_epoch = arguments.source_date_epoch.unwrap_or(date);

    // Everything the builder gave is read first, so that a mistake shows before the long work.
    let wanted = module_set::load(&arguments.modules)?;
    let agent = read(&arguments.agent)?;
    let agent = agent::prepare(&agent).with_context(|| format!("{} cannot be PID 1", arguments.agent.display()))?;
    let firmware = arguments.firmware.as_deref().map(Firmware::read).transpose()?.unwrap_or_default();
    for name in &firmware.skipped {
        console.note(&format!("firmware {name} is left out: it links to nothing inside the directory"));
    }

    let mut apt = Apt::new(&arguments.cache);
    let mut obtain = |role, given: &[PathBuf]| input(role, given, &lock, &mut apt, console);
    let kernel_input = obtain(Role::Kernel, &arguments.kernel)?;
    let busybox_input = obtain(Role::TaskRoot, arguments.busybox.as_slice())?;
    let certificates_input = obtain(Role::Certificates, arguments.ca_certificates.as_slice())?;
    let tools_input = obtain(Role::DiskTools, &arguments.disk_tools)?;
    let busybox = busybox_input
        .packages
        .iter()
        .find_map(|package| package.file("bin/busybox").or_else(|| package.file("usr/bin/busybox")));
    let busybox = agent::prepare(busybox.context("the task root's package has no busybox")?)
        .context("busybox cannot be the task root")?;
    let certificates = certificates_input.packages.first().context("there is no certificates package")?;

    let stage = console.stage("read kernel modules", 0);
    let kernel = Kernel::find(&kernel_input.packages)?;
    let selection = kernel.catalogue.select(wanted.iter().map(String::as_str))?;
    let index = kernel.catalogue.index(&kernel.release, &selection)?;
    stage.done(&format!("{} of {} modules of {}", selection.modules.len(), kernel.catalogue.len(), kernel.release));
    if !selection.missing.is_empty() {
        console.note(&format!("not in this kernel: {}", selection.missing.join(" ")));
    }

    let version = env!("CARGO_PKG_VERSION");
    let release = Release { version, build_time_unix: source_date_epoch, kernel: &kernel.release };
    let mut manifest = Manifest::new();
    rootfs::add(&mut manifest, agent, certificates, &release)?;
    task_root::add(&mut manifest, busybox)?;
    let (tools, programs) = disk_tools::pack(&tools_input.packages, arguments.zstd_level)?;
    let modules_dir = format!("usr/lib/modules/{}", kernel.release);
    manifest.file(&format!("{modules_dir}/{MODULE_INDEX}"), 0o644, index.into_bytes())?;
    firmware.add(&mut manifest)?;
    if arguments.firmware.is_some() {
        report_firmware(&selection, &firmware, console);
    }

    let mut modules = pack_modules(&modules_dir, &selection, arguments.zstd_level, console)?;
    for (path, bytes) in tools {
        modules.file(&path, 0o644, bytes)?;
    }
    let archive = cpio::write(&manifest, source_date_epoch)?;
    let mut image = firmware.early_archive(source_date_epoch)?;
    let stage = console.stage("compress initramfs", archive.len() as u64);
    image.extend(compress(&archive, arguments.zstd_level, |bytes| stage.advance(bytes))?);
    stage.done(&format!("{} to {}", human(archive.len() as u64), human(image.len() as u64)));
    // Apart from the rest and as it is: unpacking what is compressed already would cost every boot time.
    // The kernel looks for an archive at multiples of four bytes only.
    image.resize(image.len().next_multiple_of(4), 0);
    image.extend(cpio::write(&modules, source_date_epoch)?);

    let sources = [kernel_input.sources, busybox_input.sources, certificates_input.sources, tools_input.sources];
    let report = Report {
        image_version: version.to_owned(),
        kernel: kernel.release.clone(),
        source_date_epoch,
        module_set: set_name(&arguments.modules),
        zstd_level: arguments.zstd_level,
        packages: sources.into_iter().flatten().collect(),
        programs,
        artefacts: vec![Item::new("vmlinuz", kernel.vmlinuz), Item::new("initramfs.img", &image)],
        files: [&manifest, &modules].into_iter().flat_map(Report::files_of).collect(),
    };
    write_bundle(&arguments.out, kernel.vmlinuz, &image, &report)?;
    print!("{}", report.sizes());
    Ok(())
}

/// The packages for a role: the given files, else the pinned one.
fn input(role: Role, given: &[PathBuf], lock: &Lock, apt: &mut Apt, console: &Console) -> Result<Input> {
    let mut input = Input { packages: Vec::new(), sources: Vec::new() };
    let mut add = |name: String, bytes: &[u8]| -> Result<()> {
        let stage = console.stage("unpack package", 0);
        input.packages.push(Package::unpack(bytes).with_context(|| format!("in {name}"))?);
        stage.done(&name);
        input.sources.push(Source { role: role.word().to_owned(), name, sha256: sha256(bytes) });
        Ok(())
    };
    if given.is_empty() {
        for pin in lock.pins(role) {
            add(format!("{} {}", pin.package, pin.version), &apt.package(pin, console)?)?;
        }
    }
    for path in given {
        add(set_name(&path.to_string_lossy()), &read(path)?)?;
    }
    Ok(input)
}

/// The archive of modules.
fn pack_modules(
    directory: &str,
    selection: &Selection<'_, '_>,
    level: i32,
    console: &Console,
) -> Result<Manifest<'static>> {
    let unpacked: usize = selection.modules.iter().map(|(_, module)| module.bytes.len()).sum();
    let stage = console.stage("compress kernel modules", unpacked as u64);
    let frames = packed::compress(selection, level, |bytes| stage.advance(bytes))?;
    let size: usize = frames.iter().map(Vec::len).sum();
    stage.done(&format!("{} to {}", human(unpacked as u64), human(size as u64)));
    let mut manifest = Manifest::new();
    for ((_, module), frame) in selection.modules.iter().zip(frames) {
        manifest.file(&format!("{directory}/{}{PACKED}", module.path), 0o644, frame)?;
    }
    Ok(manifest)
}

/// Says how much of what the drivers may ask for is there; most of it only matters with the hardware present.
fn report_firmware(selection: &Selection<'_, '_>, firmware: &Firmware, console: &Console) {
    let mut names: Vec<&str> =
        selection.modules.iter().flat_map(|(_, module)| module.info.firmware.iter().map(String::as_str)).collect();
    names.sort_unstable();
    names.dedup();
    let present = names.iter().filter(|name| firmware.blobs.contains_key(**name)).count();
    console.note(&format!("firmware: {present} of {} files the drivers name are there", names.len()));
}

/// One thread and fixed steps: the same bytes on every machine.
fn compress(archive: &[u8], level: i32, advance: impl Fn(usize)) -> Result<Vec<u8>> {
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), level).context("cannot start zstd")?;
    encoder.set_pledged_src_size(Some(archive.len() as u64)).context("cannot start zstd")?;
    encoder.include_checksum(true).context("cannot start zstd")?;
    for chunk in archive.chunks(CHUNK) {
        encoder.write_all(chunk).context("cannot compress")?;
        advance(chunk.len());
    }
    encoder.finish().context("cannot compress")
}

fn write_bundle(out: &Path, vmlinuz: &[u8], image: &[u8], report: &Report) -> Result<()> {
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let mut json = serde_json::to_vec_pretty(report)?;
    json.push(b'\n');
    write_file(&out.join("vmlinuz"), vmlinuz)?;
    write_file(&out.join("initramfs.img"), image)?;
    write_file(&out.join("SIZES"), report.sizes().as_bytes())?;
    // Last: a bundle with a manifest is complete.
    write_file(&out.join(report::MANIFEST), &json)
}

/// A path's last part: where the builder keeps a file has no say in the bundle's bytes.
fn set_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_owned()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(!bytes.is_empty(), "{} is empty", path.display());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compression_reads_back_and_repeats() {
        let archive: Vec<u8> = (0..=250u8).cycle().take(3 * CHUNK + 5).collect();
        let packed = compress(&archive, 3, |_| {}).unwrap();
        assert_eq!(zstd::decode_all(packed.as_slice()).unwrap(), archive);
        assert_eq!(compress(&archive, 3, |_| {}).unwrap(), packed);
    }

    #[test]
    fn where_a_file_lies_is_not_part_of_its_name() {
        assert_eq!(set_name("/home/me/linux.deb"), "linux.deb");
        assert_eq!(set_name("server"), "server");
    }
}
