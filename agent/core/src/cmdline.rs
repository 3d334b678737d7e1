//! What the kernel command line tells a node. Every mistake is reported, not only the first.

use std::collections::BTreeMap;
use std::fmt;

use api::{Attribute, Resources};

use crate::bridge::Subnet;
use crate::garbage::{Policy, parse_headroom};
use crate::ids::UserNamespaces;
use crate::image::Reference;
use crate::launch::{DiskLimit, Gpu, HostPath, device_paths};

/// The `mesolith.*` keys, read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeConfig {
    /// `mesolith.master=host:port[,host:port]`: where agents connect to, in order of preference.
    pub masters: Vec<String>,
    /// `mesolith.boot=http://host:port`: the master's boot endpoints, for the time of day.
    pub boot_url: Option<String>,
    /// `mesolith.ca=sha256:HEX`: SHA-256 of the cluster CA's certificate in DER.
    pub ca_sha256: Option<[u8; 32]>,
    /// All of `mesolith.ca=sha256:HEX,sha256:HEX`: while one authority follows another there are two.
    pub authorities: Vec<[u8; 32]>,
    /// `mesolith.name=`: what the operator calls this machine.
    pub name: Option<String>,
    /// `mesolith.attributes=k:v;k:v`.
    pub attributes: Vec<Attribute>,
    /// `mesolith.resources=cpus:4;mem:1024`: instead of what was detected, by name.
    pub resources: Resources,
    /// `mesolith.image=REF`: what tasks that name no image run in.
    pub image: Option<Reference>,
    /// `mesolith.image_roles=ROLE=REF,…`: the same for tasks of single roles.
    pub image_roles: BTreeMap<String, Reference>,
    /// `mesolith.image_mirrors=docker.io=http://10.0.0.1:5000,…`: registry and URL, in order of preference.
    pub image_mirrors: Vec<(String, String)>,
    /// `mesolith.image_plain_http=host:port,…`: registries that are spoken to without TLS.
    pub image_plain_http: Vec<String>,
    /// `mesolith.image_limit_mib=N`: what unpacked images may take before those nobody uses go.
    pub image_limit_mib: Option<u64>,
    /// `mesolith.host_paths=/data,/opt:ro`: what tasks may see of the node's own files.
    pub host_paths: Vec<HostPath>,
    /// `mesolith.bridge=10.88.0.0/16`: addresses of containers with a network of their own.
    pub bridge: Subnet,
    /// `mesolith.disk_quota=watch`: what tasks write beyond their disk is told, and they are not ended.
    pub disk_quota: Option<Quota>,
    /// `mesolith.ports=enforce`: a task that listens on a port it was not given is ended.
    pub ports: Option<Quota>,
    /// `mesolith.ntp=10.0.0.1,time.example,[fd00::1]:1123`: time servers, before those of the DHCP server.
    pub ntp: Vec<String>,
    /// `mesolith.agent_api=5051`: the port of Mesos's agent is open to whoever the master knows.
    pub agent_api: Option<u16>,
    /// `mesolith.executor_registration_timeout=1mins`: how long an executor's process may take to subscribe.
    pub executor_registration_ms: Option<u64>,
    /// `mesolith.gc_delay=1weeks`, `mesolith.gc_disk_headroom=0.1`: how long sandboxes of ended tasks are kept.
    pub garbage: Policy,
    /// `mesolith.log_limit_mib=10`: what each of a task's stdout and stderr keeps.
    pub log_limit_mib: Option<u64>,
    /// `mesolith.io_max=sda:rbps=10m,wiops=200;sdb:…`: what every task may ask of disks.
    pub disk_limits: Vec<DiskLimit>,
    /// `mesolith.devices=/dev/fuse,/dev/vdb`: devices that tasks with the privilege may open.
    pub devices: Vec<String>,
    /// `mesolith.gpus=/dev/nvidia0,/dev/dri/renderD128+/dev/kfd`: instead of what was detected.
    pub gpus: Vec<Gpu>,
    /// `mesolith.gpu_files=/path`: what programs need to use them.
    pub gpu_files: Option<String>,
    /// `mesolith.user_namespaces=all` or roles: whose tasks have user namespaces without asking.
    pub user_namespaces: UserNamespaces,
    /// `mesolith.cni_config=/path`: lists of plugins, each a network for containers.
    pub cni_config: Option<String>,
    /// `mesolith.cni_plugins=/path`: the plugins.
    pub cni_plugins: Option<String>,
    /// `ip=`, `bond=`, `vlan=` and their like: see [`crate::network::dracut`].
    pub network: Option<api::network::Settings>,
    /// `mesolith.lldp=off`: whether we say who we are on every link, and hear others.
    pub lldp: Lldp,
    /// `mesolith.dns=direct`: programs ask the network's name servers themselves.
    pub dns: Dns,
    /// Keys under `mesolith.` that this version does not know: another part may.
    pub unknown: Vec<String>,
}

/// What is done with LLDP.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Lldp {
    /// We hear, and say who we are.
    #[default]
    On,
    /// We only hear.
    Listen,
    /// Neither.
    Off,
}

/// Whom programs ask for names.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Dns {
    /// The node, which keeps answers.
    #[default]
    Cache,
    /// The network's servers.
    Direct,
}

/// What becomes of a task that takes more than it was given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Quota {
    /// It is ended.
    Enforce,
    /// It is told.
    Watch,
}

/// Everything wrong with a command line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigMistakes(pub Vec<String>);

impl fmt::Display for ConfigMistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("; "))
    }
}

impl std::error::Error for ConfigMistakes {}

impl NodeConfig {
    /// Reads `/proc/cmdline`.
    ///
    /// # Errors
    /// Every malformed value, and what a node cannot do without.
    pub fn parse(cmdline: &str) -> Result<Self, ConfigMistakes> {
        let mut config = Self::default();
        let mut mistakes = Vec::new();
        let all = words(cmdline);
        match crate::network::dracut::parse(all.iter().map(String::as_str)) {
            Ok(network) => config.network = network,
            Err(wrong) => mistakes.extend(wrong),
        }
        for word in all {
            let Some((key, value)) = word.split_once('=') else { continue };
            let Some(key) = key.strip_prefix("mesolith.") else { continue };
            config.set(key, value, &mut mistakes);
        }
        config.finish(mistakes)
    }

    /// Sets one key; says what is wrong with its value.
    pub fn set(&mut self, key: &str, value: &str, mistakes: &mut Vec<String>) {
        match key {
            "master" => match masters(value) {
                Ok(list) => self.masters = list,
                Err(entry) => mistakes.push(format!("mesolith.master: `{entry}` is not host:port")),
            },
            "boot" => match value.strip_prefix("http://") {
                Some(rest) if !rest.is_empty() => self.boot_url = Some(value.trim_end_matches('/').to_owned()),
                _ => mistakes.push(format!("mesolith.boot: `{value}` is not an http:// address")),
            },
            "ca" => match value.split(',').map(fingerprint).collect::<Option<Vec<_>>>() {
                Some(digests) => {
                    self.ca_sha256 = digests.first().copied();
                    self.authorities = digests;
                }
                None => mistakes.push(format!("mesolith.ca: `{value}` is not sha256: and 64 hexadecimal digits")),
            },
            "name" => match api::id::validate(value) {
                Ok(()) => self.name = Some(value.to_owned()),
                Err(error) => mistakes.push(format!("mesolith.name: {error}")),
            },
            "attributes" => match Attribute::parse_list(value) {
                Ok(list) => self.attributes = list,
                Err(error) => mistakes.push(format!("mesolith.attributes: {error}")),
            },
            "resources" => match Resources::parse(value) {
                Ok(resources) => self.resources = resources,
                Err(error) => mistakes.push(format!("mesolith.resources: {error}")),
            },
            "image" => match value.parse() {
                Ok(reference) => self.image = Some(reference),
                Err(error) => mistakes.push(format!("mesolith.image: {error}")),
            },
            "image_roles" => match roles(value) {
                Ok(roles) => self.image_roles = roles,
                Err(mistake) => mistakes.push(format!("mesolith.image_roles: {mistake}")),
            },
            "image_mirrors" => match mirrors(value) {
                Ok(list) => self.image_mirrors = list,
                Err(entry) => {
                    mistakes.push(format!("mesolith.image_mirrors: `{entry}` is not registry=http(s)://host:port"))
                }
            },
            "image_plain_http" => self.image_plain_http = value.split(',').map(str::to_owned).collect(),
            "image_limit_mib" => match value.parse() {
                Ok(limit) => self.image_limit_mib = Some(limit),
                Err(_) => mistakes.push(format!("mesolith.image_limit_mib: `{value}` is not a number")),
            },
            "bridge" => match value.parse() {
                Ok(subnet) => self.bridge = subnet,
                Err(mistake) => mistakes.push(format!("mesolith.bridge: {mistake}")),
            },
            "agent_api" => match value.parse() {
                Ok(port) if port > 0 => self.agent_api = Some(port),
                _ => mistakes.push(format!("mesolith.agent_api: `{value}` is not a port")),
            },
            "executor_registration_timeout" => match duration(value) {
                Some(ms) if ms > 0 => self.executor_registration_ms = Some(ms),
                _ => mistakes.push(format!("mesolith.{key}: `{value}` is no duration such as 90secs or 5mins")),
            },
            "log_limit_mib" => match value.parse() {
                Ok(limit @ 1..=1_048_576) => self.log_limit_mib = Some(limit),
                _ => mistakes.push(format!("mesolith.log_limit_mib: `{value}` is not a number from 1 to 1048576")),
            },
            "gc_delay" => match duration(value) {
                Some(ms) => self.garbage.delay_ms = ms,
                None => mistakes.push(format!("mesolith.gc_delay: `{value}` is no duration such as 12hrs or 1weeks")),
            },
            "gc_disk_headroom" => match parse_headroom(value) {
                Some(headroom) => self.garbage.headroom = headroom,
                None => mistakes.push(format!("mesolith.gc_disk_headroom: `{value}` is no part of one such as 0.1")),
            },
            "disk_quota" | "ports" => {
                let quota = match value {
                    "enforce" => Quota::Enforce,
                    "watch" => Quota::Watch,
                    _ => return mistakes.push(format!("mesolith.{key}: `{value}` is not enforce or watch")),
                };
                *(if key == "ports" { &mut self.ports } else { &mut self.disk_quota }) = Some(quota);
            }
            "host_paths" => match HostPath::parse(value) {
                Ok(paths) => self.host_paths = paths,
                Err(entry) => mistakes.push(format!("mesolith.host_paths: `{entry}` is not /path or /path:ro")),
            },
            "ntp" => {
                self.ntp = value.split(',').filter(|server| !server.is_empty()).map(str::to_owned).collect();
                if self.ntp.is_empty() || self.ntp.iter().any(|server| server.contains(['/', '@'])) {
                    mistakes.push(format!("mesolith.ntp: `{value}` is not a list of time servers"));
                }
            }
            "lldp" => match value {
                "on" => self.lldp = Lldp::On,
                "listen" => self.lldp = Lldp::Listen,
                "off" => self.lldp = Lldp::Off,
                _ => mistakes.push(format!("mesolith.lldp: `{value}` is not on, listen or off")),
            },
            "dns" => match value {
                "cache" => self.dns = Dns::Cache,
                "direct" => self.dns = Dns::Direct,
                _ => mistakes.push(format!("mesolith.dns: `{value}` is not cache or direct")),
            },
            "io_max" => match DiskLimit::parse(value) {
                Ok(limits) => self.disk_limits = limits,
                Err(entry) => {
                    mistakes.push(format!("mesolith.io_max: `{entry}` is not DISK:rbps=N,wbps=N,riops=N,wiops=N"))
                }
            },
            "devices" => match device_paths(value) {
                Ok(paths) => self.devices = paths,
                Err(entry) => mistakes.push(format!("mesolith.devices: `{entry}` is not /dev/NAME")),
            },
            "gpus" => match Gpu::parse(value) {
                Ok(gpus) => self.gpus = gpus,
                Err(entry) => mistakes.push(format!("mesolith.gpus: `{entry}` is not /dev/NAME")),
            },
            "gpu_files" => match value.starts_with('/') {
                true => self.gpu_files = Some(value.trim_end_matches('/').to_owned()),
                false => mistakes.push(format!("mesolith.gpu_files: `{value}` is not a path")),
            },
            "cni_config" | "cni_plugins" if !value.starts_with('/') => {
                mistakes.push(format!("mesolith.{key}: `{value}` is not a path"));
            }
            "cni_config" => self.cni_config = Some(value.to_owned()),
            "cni_plugins" => self.cni_plugins = Some(value.to_owned()),
            "user_namespaces" => match UserNamespaces::parse(value) {
                Ok(wanted) => self.user_namespaces = wanted,
                Err(entry) => mistakes.push(format!("mesolith.user_namespaces: `{entry}` is neither `all` nor a role")),
            },
            other => self.unknown.push(other.to_owned()),
        }
    }

    /// Checks that nothing indispensable is missing.
    ///
    /// # Errors
    /// The mistakes gathered so far and what is missing.
    pub fn finish(self, mut mistakes: Vec<String>) -> Result<Self, ConfigMistakes> {
        let said = |key: &str| mistakes.iter().any(|mistake: &String| mistake.starts_with(key));
        let no_master = self.masters.is_empty() && !said("mesolith.master");
        let no_ca = self.ca_sha256.is_none() && !said("mesolith.ca");
        if no_master {
            mistakes.push("mesolith.master is missing: host:port of the master's agent link".to_owned());
        }
        if no_ca {
            mistakes.push("mesolith.ca is missing: sha256: and the fingerprint of the cluster's CA".to_owned());
        }
        if mistakes.is_empty() { Ok(self) } else { Err(ConfigMistakes(mistakes)) }
    }
}

/// A duration as Mesos's flags have it, in milliseconds.
fn duration(text: &str) -> Option<u64> {
    let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "ms" => 1,
        "secs" => 1_000,
        "mins" => 60_000,
        "hrs" => 3_600_000,
        "days" => 86_400_000,
        "weeks" => 604_800_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit)
}

/// Splits at blanks outside double quotes, as the kernel does.
fn words(cmdline: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in cmdline.chars() {
        match c {
            '"' => quoted = !quoted,
            c if c.is_ascii_whitespace() && !quoted => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
            }
            c => word.push(c),
        }
    }
    if !word.is_empty() {
        words.push(word);
    }
    words
}

fn masters(value: &str) -> Result<Vec<String>, String> {
    value
        .split(',')
        .map(|entry| {
            let fine = entry.rsplit_once(':').is_some_and(|(host, port)| {
                !host.is_empty() && !host.contains(['/', '@', ' ']) && port.parse::<u16>().is_ok_and(|port| port != 0)
            });
            if fine { Ok(entry.to_owned()) } else { Err(entry.to_owned()) }
        })
        .collect()
}

fn roles(value: &str) -> Result<BTreeMap<String, Reference>, String> {
    let pair = |entry: &str| {
        let (role, image) = entry.split_once('=').ok_or_else(|| format!("`{entry}` is not role=image"))?;
        let image = image.parse().map_err(|error: crate::image::ReferenceError| error.to_string())?;
        Ok((role.to_owned(), image))
    };
    value.split(',').map(pair).collect()
}

fn mirrors(value: &str) -> Result<Vec<(String, String)>, String> {
    let pair = |entry: &str| {
        let (registry, url) = entry.split_once('=')?;
        let is_url = url.starts_with("http://") || url.starts_with("https://");
        (is_url && !registry.is_empty()).then(|| (registry.to_owned(), url.to_owned()))
    };
    value.split(',').map(|entry| pair(entry).ok_or_else(|| entry.to_owned())).collect()
}

/// The 32 bytes of `sha256:HEX`.
#[must_use]
pub fn fingerprint(value: &str) -> Option<[u8; 32]> {
    let hex = value.strip_prefix("sha256:")?;
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CA: &str = "sha256:00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF";

    #[test]
    fn a_nodes_command_line_is_read() {
        let line = format!(
            "initrd=initramfs.img console=ttyS0 mesolith.master=10.0.0.1:5052,[::1]:5052 mesolith.ca={CA} \
             mesolith.boot=http://10.0.0.1:5051/ mesolith.name=node-1 \"mesolith.attributes=rack:r1 a;level:3\" \
             mesolith.resources=cpus:2 mesolith.debug=1 mesolith.image=base:1 mesolith.image_roles=web=web:2,a/b=c mesolith.image_limit_mib=64 \
             mesolith.image_mirrors=docker.io=http://10.0.0.1:5000,quay.io=https://m mesolith.image_plain_http=a:1,b:2 quiet"
        );
        let config = NodeConfig::parse(&line).unwrap();
        assert_eq!(config.masters, ["10.0.0.1:5052", "[::1]:5052"]);
        assert_eq!(config.ca_sha256.unwrap()[..3], [0x00, 0x11, 0x22]);
        assert_eq!(config.boot_url.as_deref(), Some("http://10.0.0.1:5051"));
        assert_eq!(config.attributes[0], Attribute::text("rack", "r1 a"));
        assert_eq!(config.resources.to_string(), "cpus:2");
        assert_eq!(config.unknown, ["debug"]);
        assert_eq!(config.image.unwrap().to_string(), "docker.io/library/base:1");
        assert_eq!(config.image_roles["a/b"].to_string(), "docker.io/library/c:latest");
        assert_eq!(
            (config.image_plain_http, config.image_limit_mib),
            (vec!["a:1".to_owned(), "b:2".to_owned()], Some(64))
        );
        assert_eq!(config.image_mirrors[1], ("quay.io".to_owned(), "https://m".to_owned()));
    }

    #[test]
    fn every_mistake_is_reported() {
        let line = "mesolith.master=10.0.0.1 mesolith.ca=sha256:12 mesolith.name=a/b mesolith.attributes=rack mesolith.boot=ftp://x \
                    mesolith.image=A mesolith.image_roles=web mesolith.image_mirrors=docker.io mesolith.image_limit_mib=x";
        let mistakes = NodeConfig::parse(line).unwrap_err();
        assert_eq!(mistakes.0.len(), 9, "{mistakes}");
        let missing = NodeConfig::parse("quiet").unwrap_err();
        assert_eq!(missing.0.len(), 2, "{missing}");
        assert!(missing.to_string().contains("mesolith.master is missing"));
    }
}
