//! Where a URI leads, what the file is called, and what it has to be.

use std::path::{Component, Path, PathBuf};

use reqwest::Url;
use sha2::{Digest as _, Sha256, Sha512};

use super::Uri;
use super::ftp::Ftp;

/// Why a URI cannot be fetched.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the texts say it
pub enum AddressError {
    #[error("it is no URI, and no absolute path")]
    Malformed,
    #[error("it names no file")]
    NoName,
    #[error("this node cannot fetch over '{0}'; there are http, https, ftp, file, hdfs, webhdfs and swebhdfs")]
    Scheme(String),
    #[error("its output_file '{0}' is not a path below the sandbox")]
    Output(String),
    #[error("its checksum is not `#sha256=` or `#sha512=` with that many hexadecimal digits")]
    Checksum,
    #[error("a file of another host ('{0}') cannot be read")]
    Host(String),
}

/// One URI, read.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) source: Source,
    /// The file's own name, which says what kind of archive it is.
    pub(super) name: String,
    /// Where it goes, below the sandbox.
    pub(super) output: PathBuf,
    pub(super) checksum: Option<Checksum>,
    /// For people and logs.
    pub(super) shown: String,
}

#[derive(Clone, Debug)]
pub(super) enum Source {
    Http(Url),
    Ftp(Ftp),
    File(PathBuf),
}

/// What the bytes have to be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Checksum {
    Sha256([u8; 32]),
    Sha512(Box<[u8; 64]>),
}

/// The port of a namenode's web server, whatever its other one is.
const WEBHDFS_PORT: u16 = 9870;

impl Address {
    pub(super) fn parse(uri: &Uri) -> Result<Self, AddressError> {
        let value = uri.value.trim();
        let shown = shown(value);
        let (value, checksum) = match value.rsplit_once('#') {
            Some((value, fragment)) => (value, Checksum::parse(fragment)?),
            None => (value, None),
        };
        let (source, path) =
            if value.starts_with('/') { (Source::File(value.into()), value.to_owned()) } else { source(value)? };
        let name = path.rsplit('/').next().unwrap_or_default();
        let name = percent_decoded(name);
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0', '\\']) || name.len() > 255 {
            return Err(AddressError::NoName);
        }
        let output = match &uri.output_file {
            Some(output) => below(output).ok_or_else(|| AddressError::Output(output.clone()))?,
            None => name.clone().into(),
        };
        Ok(Self { source, name, output, checksum, shown })
    }
}

fn source(value: &str) -> Result<(Source, String), AddressError> {
    let url = Url::parse(value).map_err(|_| AddressError::Malformed)?;
    let path = url.path().to_owned();
    match url.scheme() {
        "http" | "https" => Ok((Source::Http(url), path)),
        "ftp" => Ok((Source::Ftp(Ftp::of(&url).ok_or(AddressError::Malformed)?), path)),
        "file" => match url.host_str() {
            None | Some("" | "localhost") => Ok((Source::File(percent_decoded(&path).into()), path)),
            Some(host) => Err(AddressError::Host(host.to_owned())),
        },
        "hdfs" | "webhdfs" | "swebhdfs" => Ok((Source::Http(webhdfs(&url)?), path)),
        other => Err(AddressError::Scheme(other.to_owned())),
    }
}

/// HDFS over its REST interface: the namenode redirects to where the data is.
fn webhdfs(url: &Url) -> Result<Url, AddressError> {
    let host = url.host_str().filter(|host| !host.is_empty()).ok_or(AddressError::Malformed)?;
    // An `hdfs:` address has the port of another protocol.
    let port = if url.scheme() == "hdfs" { WEBHDFS_PORT } else { url.port().unwrap_or(WEBHDFS_PORT) };
    let scheme = if url.scheme() == "swebhdfs" { "https" } else { "http" };
    let mut asked = Url::parse(&format!("{scheme}://{host}:{port}/webhdfs/v1{}", url.path()))
        .map_err(|_| AddressError::Malformed)?;
    asked.query_pairs_mut().append_pair("op", "OPEN");
    if !url.username().is_empty() {
        asked.query_pairs_mut().append_pair("user.name", url.username());
    }
    Ok(asked)
}

impl Checksum {
    /// `sha256=HEX`; any other fragment means nothing, as to every server.
    fn parse(fragment: &str) -> Result<Option<Self>, AddressError> {
        let (kind, digits) = match fragment.split_once('=') {
            Some((kind @ ("sha256" | "sha512"), digits)) => (kind, digits),
            _ => return Ok(None),
        };
        let bytes = hex(digits).ok_or(AddressError::Checksum)?;
        let wrong = |_| AddressError::Checksum;
        Ok(Some(match kind {
            "sha256" => Self::Sha256(bytes.try_into().map_err(wrong)?),
            _ => Self::Sha512(Box::new(bytes.try_into().map_err(wrong)?)),
        }))
    }
}

/// Sums up what comes.
#[derive(Debug)]
pub(super) enum Summing {
    Nothing,
    Sha256(Sha256, [u8; 32]),
    Sha512(Box<(Sha512, [u8; 64])>),
}

impl Summing {
    pub(super) fn new(checksum: Option<&Checksum>) -> Self {
        match checksum {
            None => Self::Nothing,
            Some(Checksum::Sha256(wanted)) => Self::Sha256(Sha256::new(), *wanted),
            Some(Checksum::Sha512(wanted)) => Self::Sha512(Box::new((Sha512::new(), **wanted))),
        }
    }

    pub(super) fn add(&mut self, bytes: &[u8]) {
        match self {
            Self::Nothing => {}
            Self::Sha256(hash, _) => hash.update(bytes),
            Self::Sha512(both) => both.0.update(bytes),
        }
    }

    /// Whether all of it was what it has to be.
    pub(super) fn finish(self) -> bool {
        match self {
            Self::Nothing => true,
            Self::Sha256(hash, wanted) => hash.finalize().as_slice() == wanted,
            Self::Sha512(both) => both.0.finalize().as_slice() == both.1,
        }
    }

    /// From the beginning.
    pub(super) fn again(&mut self) {
        match self {
            Self::Nothing => {}
            Self::Sha256(hash, _) => *hash = Sha256::new(),
            Self::Sha512(both) => both.0 = Sha512::new(),
        }
    }
}

/// An address without what may be a secret: users, passwords and everything after `?` or `#`.
pub(super) fn shown(value: &str) -> String {
    let value = value.split(['?', '#']).next().unwrap_or_default();
    let shown = match value.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => value.to_owned(),
    };
    shown.chars().take(300).collect::<String>().escape_debug().to_string()
}

/// A relative path that stays below where it starts.
fn below(path: &str) -> Option<PathBuf> {
    let path = Path::new(path);
    let normal = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    let has_name = path.components().any(|part| matches!(part, Component::Normal(_)));
    let text = path.to_str()?;
    (normal && has_name && !text.contains('\0') && !text.ends_with('/')).then(|| path.to_owned())
}

pub(super) fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let escape = if bytes[at] == b'%' {
            text.get(at + 1..at + 3).and_then(|digits| u8::from_str_radix(digits, 16).ok())
        } else {
            None
        };
        decoded.push(escape.unwrap_or(bytes[at]));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex(digits: &str) -> Option<Vec<u8>> {
    if !digits.len().is_multiple_of(2) || !digits.is_ascii() {
        return None;
    }
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str, output: Option<&str>) -> Result<Address, AddressError> {
        Address::parse(&Uri { value: value.to_owned(), output_file: output.map(str::to_owned), ..Uri::default() })
    }

    #[test]
    fn the_name_is_the_last_part_of_the_path() {
        for (value, name) in [
            ("http://h/a/b.tgz", "b.tgz"),
            ("https://s3.example/bucket/key%20x.zip?X-Amz-Signature=1%2F2&b=/c", "key x.zip"),
            ("/srv/files/c", "c"),
            ("file:///srv/d.tar.gz", "d.tar.gz"),
            ("ftp://h/pub/e.gz", "e.gz"),
            ("hdfs://namenode:8020/user/f.jar", "f.jar"),
        ] {
            let address = parse(value, None).unwrap();
            assert_eq!((address.name.as_str(), address.output.to_str().unwrap()), (name, name), "{value}");
        }
        let Source::Http(url) = parse("hdfs://me@namenode:8020/user/f.jar", None).unwrap().source else { panic!() };
        assert_eq!(url.as_str(), "http://namenode:9870/webhdfs/v1/user/f.jar?op=OPEN&user.name=me");
    }

    #[test]
    fn what_means_nothing_is_refused() {
        for (value, output, error) in [
            ("relative/path", None, AddressError::Malformed),
            ("http://h/", None, AddressError::NoName),
            ("http://h/%2e%2e", None, AddressError::NoName),
            ("gopher://h/x", None, AddressError::Scheme("gopher".to_owned())),
            ("http://h/x", Some("/etc/passwd"), AddressError::Output("/etc/passwd".to_owned())),
            ("http://h/x", Some("a/../../b"), AddressError::Output("a/../../b".to_owned())),
            ("http://h/x", Some("."), AddressError::Output(".".to_owned())),
            ("http://h/x#sha256=12", None, AddressError::Checksum),
            ("file://other/x", None, AddressError::Host("other".to_owned())),
        ] {
            assert_eq!(parse(value, output).unwrap_err(), error, "{value}");
        }
        assert_eq!(parse("http://h/x", Some("a/b")).unwrap().output, Path::new("a/b"));
    }

    #[test]
    fn secrets_are_not_shown() {
        assert_eq!(shown("https://me:secret@h:1/a/b?sig=secret#x"), "https://h:1/a/b");
        assert_eq!(shown("/a/b"), "/a/b");
    }

    #[test]
    fn a_checksum_is_of_all_bytes() {
        let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let address = parse(&format!("http://h/x#sha256={sum}"), None).unwrap();
        let mut summing = Summing::new(address.checksum.as_ref());
        summing.add(b"xyz");
        summing.again();
        summing.add(b"a");
        summing.add(b"bc");
        assert!(summing.finish());
        assert!(!Summing::new(address.checksum.as_ref()).finish());
        assert_eq!(parse("http://h/x#part", None).unwrap().checksum, None);
    }
}
