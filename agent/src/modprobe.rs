//! `modprobe` as the kernel calls it: `modprobe -q -- NAME`, for file systems, ciphers, network protocols.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::process::ExitCode;

use crate::logging;
use crate::modules::Modules;

/// Loads each name that is not an option. What the kernel asks for is often not there, and that is no error worth a
/// word; what is there and does not load is told in the kernel's log, where the asker's own failure stands, too.
pub(crate) fn run(arguments: impl IntoIterator<Item = String>) -> ExitCode {
    let modules = match Modules::open() {
        Ok(modules) => modules,
        Err(error) => {
            tell(&format!("modprobe: {}", logging::chain(&error)));
            return ExitCode::FAILURE;
        }
    };
    let mut all_there = true;
    for name in arguments.into_iter().filter(|argument| !argument.starts_with('-')) {
        let loaded = modules.load(&name, &mut BTreeSet::new());
        all_there &= loaded.matched && loaded.failed.is_empty();
        for (module, errno) in loaded.failed {
            tell(&format!("cannot load module {module}, asked for as {name}: {}", errno.desc()));
        }
    }
    if all_there { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(message: &str) {
    eprintln!("{message}");
    if let Ok(mut log) = File::options().write(true).open("/dev/kmsg") {
        // Lost when the kernel's log is rate-limited; the exit status tells, too.
        let _ = log.write_all(format!("<4>mesolith: {message}\n").as_bytes());
    }
}
