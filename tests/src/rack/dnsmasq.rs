//! What the rack's DHCP, TFTP and router-advertisement server is told.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::network::master_address;
use super::options::{BootService, NodePlan};

/// The master's boot port inside the rack.
pub(super) const BOOT_PORT: u16 = 5053;

/// Writes `dnsmasq.conf` and the TFTP directory; gives the arguments to start dnsmasq with.
///
/// `--no-daemon` keeps it in the foreground and from changing user, which a namespace with a single user forbids.
pub(super) fn configure(
    dir: &Path,
    nodes: &[NodePlan],
    masters: usize,
    service: BootService,
    more: &[String],
) -> Result<Vec<String>> {
    let tftp = dir.join("tftp");
    fs::create_dir_all(&tftp).with_context(|| format!("cannot make {}", tftp.display()))?;
    fs::write(tftp.join("boot.ipxe"), script(masters)).context("cannot write boot.ipxe")?;
    fs::write(dir.join("dnsmasq.conf"), configuration(dir, nodes, service, more))
        .context("cannot write dnsmasq.conf")?;
    // dnsmasq logs the moment a lease is read back as if it were new, so a restarted rack begins with none.
    fs::write(dir.join("dnsmasq.leases"), "").context("cannot empty dnsmasq.leases")?;
    let file = dir.join("dnsmasq.conf");
    Ok(vec!["--no-daemon".to_owned(), format!("--conf-file={}", file.display()), "--pid-file=".to_owned()])
}

/// The script the NIC's ROM gets by TFTP. It asks for ever, one master after the other: a server must come up whenever
/// one of them does.
fn script(masters: usize) -> String {
    let mut text = "#!ipxe\n:ask\n".to_owned();
    for number in 1..=masters {
        let (address, next) = (master_address(number), number + 1);
        text.push_str(&format!(
            ":master{number}\n\
             echo Mesolith: asking {address}:{BOOT_PORT} for the boot script\n\
             chain http://{address}:{BOOT_PORT}/boot/ipxe?mac=${{net0/mac}}&uuid=${{uuid}} || goto master{next}\n"
        ));
    }
    text.push_str(&format!(
        ":master{}\n\
         echo Mesolith: no boot, again in 2 seconds\n\
         sleep 2\n\
         goto ask\n",
        masters + 1
    ));
    text
}

fn configuration(dir: &Path, nodes: &[NodePlan], service: BootService, more: &[String]) -> String {
    let mut text = format!(
        "# No DNS: only DHCP, TFTP and router advertisements.\n\
         port=0\n\
         interface=br0\n\
         bind-interfaces\n\
         no-resolv\n\
         no-hosts\n\
         no-ping\n\
         log-dhcp\n\
         log-facility={dir}/dnsmasq.log\n\
         dhcp-leasefile={dir}/dnsmasq.leases\n\
         dhcp-authoritative\n\
         dhcp-range=10.77.0.150,10.77.0.250,255.255.255.0,10m\n\
         # iPXE names itself by option 175. Its own option 175.176 says: do not wait for a proxy DHCP server (3 s).\n\
         dhcp-match=set:ipxe,175\n\
         dhcp-option=encap:175,176,1b\n\
         dhcp-boot=tag:ipxe,boot.ipxe\n\
         enable-tftp\n\
         tftp-root={dir}/tftp\n\
         # iPXE also asks for an IPv6 router, and spins for 16 s when nobody answers.\n\
         enable-ra\n\
         dhcp-range=fd77::,ra-only,64\n",
        dir = dir.display()
    );
    if service == BootService::Master {
        let boots =
            ["dhcp-match", "dhcp-option", "dhcp-boot", "enable-tftp", "tftp-root", "enable-ra", "dhcp-range=fd77"];
        let kept = text.lines().filter(|line| !boots.iter().any(|word| line.starts_with(word)));
        text = kept.map(|line| format!("{line}\n")).collect();
    }
    for node in nodes {
        text.push_str(&format!("dhcp-host={},{}\n", node.mac, node.address));
    }
    for line in more {
        text.push_str(line);
        text.push('\n');
    }
    text
}
