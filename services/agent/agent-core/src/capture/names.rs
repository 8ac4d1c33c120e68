//! Users and groups of the system, from the text of its files.

use std::collections::BTreeMap;

use super::value::decimal;

/// Numbers of users and groups by name.
///
/// Source: `/etc/passwd` and `/etc/group`; a directory service is not asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Names {
    /// Reads both files; lines that are not understood are left out.
    pub fn parse(passwd: &str, group: &str) -> Names {
        Names {
            users: read(passwd),
            groups: read(group),
        }
    }

    /// A user by number or name; `None` for a name that is unknown, and for 4294967295, which means nobody.
    pub fn user(&self, text: &str) -> Option<u32> {
        number(text).or_else(|| self.users.get(text).copied())
    }

    /// A group by number or name; as [`Names::user`].
    pub fn group(&self, text: &str) -> Option<u32> {
        number(text).or_else(|| self.groups.get(text).copied())
    }
}

fn number(text: &str) -> Option<u32> {
    decimal(text).filter(|&n| n != u32::MAX)
}

/// `NAME:PASSWORD:NUMBER:...` of both files; the first line of a name counts.
fn read(text: &str) -> BTreeMap<String, u32> {
    let mut out = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(_), Some(id)) = (fields.next(), fields.next(), fields.next())
            && let Some(id) = number(id)
            && !name.is_empty()
        {
            out.entry(name.to_owned()).or_insert(id);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_for_themselves_and_names_are_looked_up() {
        let names = Names::parse(
            "root:x:0:0:root:/root:/bin/bash\nistio-proxy:x:1337:1337::/:/\nbroken\n:x:5\n",
            "java:x:202:a,b\njava:x:203:\n",
        );
        assert_eq!(names.user("istio-proxy"), Some(1337));
        assert_eq!(names.user("12"), Some(12));
        assert_eq!(names.group("java"), Some(202));
        for bad in ["", "nobody", "-1", "+1", "1 ", "4294967295", "4294967296"] {
            assert_eq!(names.user(bad), None, "{bad}");
        }
    }
}
