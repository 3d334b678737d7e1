//! Values of `docker run` options that frameworks send as parameters.

use api::v1::volume::Mode;

use super::LaunchError;
use super::volumes::Parameter;

/// `/path:/inside[:ro]`.
pub(super) fn volume(value: &str) -> Result<Parameter, LaunchError> {
    let wrong = || LaunchError::Image(format!("docker parameter volume: `{value}` is not /PATH:/INSIDE[:ro]"));
    let mut parts = value.split(':');
    let (path, inside) = (parts.next().unwrap_or_default(), parts.next().ok_or_else(wrong)?);
    let mode = match (parts.next(), parts.next()) {
        (None | Some("rw" | "z" | "Z"), None) => Mode::Rw,
        (Some("ro"), None) => Mode::Ro,
        _ => return Err(wrong()),
    };
    if !path.starts_with('/') || !inside.starts_with('/') {
        return Err(wrong());
    }
    Ok(Parameter::Host { path: path.to_owned(), inside: inside.to_owned(), mode })
}

/// `/inside[:size=64m,mode=700]`; what else Docker knows of a tmpfs is the default here.
pub(super) fn tmpfs(value: &str) -> Parameter {
    let (inside, options) = value.split_once(':').unwrap_or((value, ""));
    let option = |name: &str| {
        let found = options.split(',').find_map(|option| option.strip_prefix(name)?.strip_prefix('='));
        found.map(str::to_owned)
    };
    Parameter::Tmpfs { inside: inside.to_owned(), size: option("size"), mode: option("mode") }
}

/// `64m`, `1g`, or bytes.
pub(super) fn mebibytes(key: &str, value: &str) -> Result<u64, LaunchError> {
    let wrong = || LaunchError::Image(format!("docker parameter {key}: `{value}` is not a size such as 64m"));
    let lower = value.to_ascii_lowercase();
    let digits = lower.trim_end_matches('b').trim_end_matches(['k', 'm', 'g']);
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let bytes = match lower[digits.len()..].trim_end_matches('b') {
        "" => Some(number),
        "k" => number.checked_mul(1 << 10),
        "m" => number.checked_mul(1 << 20),
        "g" => number.checked_mul(1 << 30),
        _ => None,
    };
    Ok(bytes.ok_or_else(wrong)?.div_ceil(1 << 20).max(1))
}

/// An IP address.
pub(super) fn address(key: &str, value: &str) -> Result<String, LaunchError> {
    let wrong = |_| LaunchError::Image(format!("docker parameter {key}: `{value}` is no IP address"));
    value.parse::<std::net::IpAddr>().map(|address| address.to_string()).map_err(wrong)
}

/// A name: nothing that could end a line.
pub(super) fn word(key: &str, value: &str) -> Result<String, LaunchError> {
    let fine = !value.is_empty() && value.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    let wrong = || LaunchError::Image(format!("docker parameter {key}: `{value}` is no name"));
    fine.then(|| value.to_owned()).ok_or_else(wrong)
}

/// `name:address`.
pub(super) fn host(value: &str) -> Result<(String, String), LaunchError> {
    let (name, ip) = value.split_once(':').unwrap_or((value, ""));
    Ok((word("add-host", name)?, address("add-host", ip)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_dockers() {
        let host = |path: &str, inside: &str, mode| {
            let (path, inside) = (path.to_owned(), inside.to_owned());
            Parameter::Host { path, inside, mode }
        };
        assert_eq!(volume("/a:/b"), Ok(host("/a", "/b", Mode::Rw)));
        assert_eq!(volume("/a:/b:ro"), Ok(host("/a", "/b", Mode::Ro)));
        for wrong in ["/a", "name:/b", "/a:b", "/a:/b:ro:x", "/a:/b:exec"] {
            assert!(volume(wrong).is_err(), "{wrong}");
        }
        let Parameter::Tmpfs { inside, size, mode } = tmpfs("/t:rw,size=64m") else { panic!("it is one") };
        assert_eq!((inside.as_str(), size.as_deref(), mode), ("/t", Some("64m"), None));
        for (text, mib) in [("64m", 64), ("1g", 1024), ("1048577", 2), ("1k", 1), ("2GB", 2048)] {
            assert_eq!(mebibytes("shm-size", text), Ok(mib), "{text}");
        }
        assert!(mebibytes("shm-size", "much").is_err());
        assert_eq!(super::host("db:10.0.0.9"), Ok(("db".to_owned(), "10.0.0.9".to_owned())));
        assert!(
            super::host("db").is_err() && super::host("a b:1.2.3.4").is_err() && super::host("db:1.2.3.4\n5").is_err()
        );
    }
}
