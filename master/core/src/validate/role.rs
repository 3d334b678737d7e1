//! Role names are paths.

/// What a role's name must not hold: white space and DEL. Other control characters are Mesos's to allow.
const FORBIDDEN: [char; 7] = ['\t', '\n', '\x0b', '\x0c', '\r', ' ', '\x7f'];

/// Is it the name of a role?
pub(crate) fn role(name: &str) -> Result<(), String> {
    if name == "*" {
        return Ok(());
    }
    let cannot = |what: &str| Err(format!("Role '{name}' cannot {what}"));
    if name.starts_with('/') {
        return cannot("start with a slash");
    }
    if name.ends_with('/') {
        return cannot("end with a slash");
    }
    if name.contains("//") {
        return cannot("contain two adjacent slashes");
    }
    if name.is_empty() {
        return Err("Role names cannot be the empty string".to_owned());
    }
    for component in name.split('/') {
        if matches!(component, "." | ".." | "*") {
            return cannot(&format!("include '{component}' as a component"));
        }
        let because = |why: &str| Err(format!("Role component '{component}' is invalid because it {why}"));
        if component.starts_with('-') {
            return because("starts with a dash");
        }
        if component.contains(FORBIDDEN) {
            return because("contains backspace or whitespace");
        }
    }
    Ok(())
}

/// Is `role` somewhere below `ancestor`?
pub(super) fn is_below(role: &str, ancestor: &str) -> bool {
    role.strip_prefix(ancestor).is_some_and(|rest| rest.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_paths_without_tricks() {
        for good in ["*", "a", "a/b", "a-b", "a.b", "...", "a*", "a/b/c", "\u{e9}"] {
            assert_eq!(role(good), Ok(()), "{good}");
        }
        for bad in ["", "/a", "a/", "a//b", ".", "..", "a/./b", "a/*", "-a", "a/-b", "a b", "a\tb", "a\x7f"] {
            assert!(role(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn below_is_not_beside() {
        assert!(is_below("a/b", "a") && is_below("a/b/c", "a"));
        assert!(!is_below("a", "a") && !is_below("ab", "a") && !is_below("a", "a/b"));
    }
}
