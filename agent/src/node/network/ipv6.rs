//! What the kernel is to do with what routers of IPv6 say, link by link.

use std::fs;
use std::io;

use api::network::Ipv6Method;

/// New links follow nobody until it is known whether they shall.
pub(super) fn begin() -> io::Result<()> {
    const NEW: &str = "/proc/sys/net/ipv6/conf/default/accept_ra";
    // A kernel without IPv6 has no such file.
    if fs::exists(NEW)? { fs::write(NEW, "0") } else { Ok(()) }
}

/// Tells the kernel. Returns whether it is to ask the link's routers now, because it did not listen before.
pub(super) fn follow(link: &str, method: Ipv6Method) -> io::Result<bool> {
    let directory = format!("/proc/sys/net/ipv6/conf/{link}");
    if !fs::exists(&directory)? {
        // A kernel without IPv6.
        return Ok(false);
    }
    // 2: also where packets are forwarded, for containers.
    let (accept, autoconf) = match method {
        Ipv6Method::Auto | Ipv6Method::Slaac => ("2", "1"),
        Ipv6Method::Dhcp => ("2", "0"),
        Ipv6Method::Off => ("0", "0"),
    };
    let file = |name: &str| format!("{directory}/{name}");
    let before = fs::read_to_string(file("accept_ra"))?;
    let autoconf_before = fs::read_to_string(file("autoconf"))?;
    if (before.trim(), autoconf_before.trim()) == (accept, autoconf) {
        return Ok(false);
    }
    fs::write(file("accept_ra"), accept)?;
    fs::write(file("autoconf"), autoconf)?;
    if before.trim() == "2" {
        // What the kernel made of routers' words goes; addresses of ours are put back.
        fs::write(file("disable_ipv6"), "1")?;
        fs::write(file("disable_ipv6"), "0")?;
    }
    Ok(accept == "2" && before.trim() != "1")
}
