//! Which of its own directories a node shows to tasks.

/// One entry of `mesolith.host_paths`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HostPath {
    /// With everything below it.
    pub path: String,
    /// Nobody may write there.
    pub read_only: bool,
}

impl HostPath {
    /// Reads `/data,/opt:ro`.
    ///
    /// # Errors
    /// The entry that is no path.
    pub fn parse(text: &str) -> Result<Vec<Self>, String> {
        let one = |entry: &str| {
            let (path, mode) = entry.split_once(':').unwrap_or((entry, "rw"));
            let fine = path.starts_with('/') && !path.split('/').any(|part| part == ".." || part == ".");
            let trimmed = path.trim_end_matches('/');
            match (fine, mode) {
                (true, "rw" | "ro") => {
                    let path = if trimmed.is_empty() { "/".to_owned() } else { trimmed.to_owned() };
                    Ok(Self { path, read_only: mode == "ro" })
                }
                _ => Err(entry.to_owned()),
            }
        };
        text.split(',').filter(|entry| !entry.is_empty()).map(one).collect()
    }

    /// The entry that speaks of a path: the one that is nearest to it.
    #[must_use]
    pub fn of<'a>(all: &'a [Self], path: &str) -> Option<&'a Self> {
        let holds = |entry: &&Self| {
            let root = entry.path.trim_end_matches('/');
            path == entry.path || path.strip_prefix(root).is_some_and(|rest| rest.starts_with('/'))
        };
        all.iter().filter(holds).max_by_key(|entry| entry.path.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_entry_speaks_of_a_path() {
        let all = HostPath::parse("/data,/data/logs:ro,/").unwrap();
        let of = |path| HostPath::of(&all, path).map(|entry| entry.path.as_str());
        assert_eq!(of("/data/logs/x"), Some("/data/logs"));
        assert_eq!((of("/data"), of("/database"), of("/etc")), (Some("/data"), Some("/"), Some("/")));
        assert_eq!(HostPath::of(&all[..2], "/database"), None);
        assert_eq!(HostPath::parse(""), Ok(vec![]));
        for wrong in ["data", "/a/../b", "/a:rx"] {
            assert!(HostPath::parse(wrong).is_err(), "{wrong}");
        }
    }
}
