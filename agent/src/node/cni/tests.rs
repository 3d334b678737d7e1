//! A plugin that writes down what it is asked, and lists of it.

use std::os::unix::fs::PermissionsExt;

use agent_core::bridge::Protocol;

use super::*;

/// Writes down what it was asked, and answers as the file `answer` says.
const PLUGIN: &str = r#"#!/bin/sh
here=$(dirname "$0")
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME ${CNI_NETNS:-gone} $(cat)" >> "$here/asked"
[ "$CNI_COMMAND" = ADD ] || { [ ! -e "$here/stuck" ]; exit; }
cat "$here/answer"
[ ! -e "$here/fails" ]
"#;
const ANSWER: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"br"},{"name":"eth0","sandbox":"/x"}],
    "ips":[{"address":"10.1.2.3/24","interface":1},{"address":"fd00::3/64","interface":1},{"address":"10.9.9.9/24","interface":0}]}"#;

struct World {
    directory: tempfile::TempDir,
    cni: Cni,
}

fn world(lists: &[(&str, &str)]) -> World {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    for name in ["lists", "plugins"] {
        fs::create_dir(path(name)).unwrap();
    }
    fs::write(path("plugins/fake"), PLUGIN).unwrap();
    fs::write(path("plugins/answer"), ANSWER).unwrap();
    fs::set_permissions(path("plugins/fake"), fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text) in lists {
        fs::write(path(&format!("lists/{name}")), text).unwrap();
    }
    let cni = Cni::open(&path("lists"), &path("plugins"), &path("state")).unwrap();
    World { directory, cni }
}

impl World {
    fn asked(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join("plugins/asked")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn recover(&self, known: &[&str]) {
        let recovery = self.cni.recover(&known.iter().map(ToString::to_string).collect());
        self.cni.go_on(recovery);
    }
}

const LAB: &str = r#"{"cniVersion":"1.0.0","name":"lab","plugins":[{"type":"fake","own":1},
    {"type":"fake","capabilities":{"portMappings":true}}]}"#;

fn wish(mappings: Vec<Mapping>) -> NamedNetwork {
    NamedNetwork { name: "lab".to_owned(), mappings, addresses: Vec::new() }
}

#[test]
fn lists_that_make_no_sense_are_left_out() {
    let bad = |body: &str| format!(r#"{{"cniVersion":"1.0.0",{body}}}"#);
    let world = world(&[
        ("a.conflist", LAB),
        ("b.conflist", LAB),
        ("c.conflist", "nothing"),
        ("d.conflist", &bad(r#""name":"../up","plugins":[{"type":"fake"}]"#)),
        ("e.conflist", &bad(r#""name":"none","plugins":[]"#)),
        ("f.conflist", &bad(r#""name":"gone","plugins":[{"type":"missing"}]"#)),
        ("g.conflist", &bad(r#""name":"up","plugins":[{"type":"../plugins/fake"}]"#)),
        ("h.conflist", r#"{"cniVersion":"9.0.0","name":"new","plugins":[{"type":"fake"}]}"#),
        ("i.json", &LAB.replace("lab", "other")),
    ]);
    assert_eq!(world.cni.names().into_iter().collect::<Vec<_>>(), ["lab"]);
}

#[test]
fn plugins_are_told_what_came_before_and_undo_it_backwards() {
    let world = world(&[("a.conflist", LAB)]);
    let attachment = Attachment {
        network: world.cni.networks["lab"].clone(),
        mappings: vec![Mapping { protocol: Protocol::Tcp, host: 31000, container: 80 }],
        namespace: world.directory.path().join("none"),
        result: Value::Null,
    };
    let result = world.cni.connect("c1", &attachment).unwrap();
    assert_eq!(addresses(&result), ["10.1.2.3", "fd00::3"]);
    world.cni.write("c1", &Attachment { result, ..attachment }).unwrap();
    // The next agent knows of it, and nobody else does.
    world.recover(&["c1"]);
    world.recover(&[]);
    world.cni.remove("c1");
    let asked = world.asked();
    let commands: Vec<&str> = asked.iter().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(commands, ["ADD", "ADD", "CHECK", "CHECK", "DEL", "DEL"], "{asked:?}");
    assert!(asked[0].starts_with("ADD c1 eth0 gone {") && asked[0].contains(r#""own":1"#), "{}", asked[0]);
    assert!(!asked[0].contains("prevResult") && !asked[0].contains("hostPort"), "{}", asked[0]);
    assert!(asked[1].contains("prevResult") && asked[1].contains(r#""hostPort":31000"#), "{}", asked[1]);
    assert!(!asked[1].contains("capabilities"), "{}", asked[1]);
    assert!(asked[4].contains("hostPort") && asked[5].contains(r#""own":1"#), "backwards: {asked:?}");
    assert!(read(&world.cni.file("c1")).is_none());
}

#[test]
fn what_fails_says_why_and_leaves_nothing() {
    let world = world(&[("a.conflist", &LAB.replace(r#","capabilities":{"portMappings":true}"#, ""))]);
    let mapping = Mapping { protocol: Protocol::Udp, host: 31000, container: 80 };
    let error = world.cni.add("c1", 1, &wish(vec![mapping])).unwrap_err().to_string();
    assert!(error.contains("maps no ports"), "{error}");
    let other = NamedNetwork { name: "other".to_owned(), ..wish(Vec::new()) };
    assert!(world.cni.add("c1", 1, &other).unwrap_err().to_string().contains("no network 'other'"));
    let plugins = world.directory.path().join("plugins");
    fs::write(plugins.join("answer"), r#"{"code":7,"msg":"no address","details":"all gone"}"#).unwrap();
    fs::write(plugins.join("fails"), "").unwrap();
    let attachment = Attachment {
        network: world.cni.networks["lab"].clone(),
        mappings: Vec::new(),
        namespace: world.directory.path().join("none"),
        result: Value::Null,
    };
    let error = world.cni.connect("c1", &attachment).unwrap_err();
    let words = chain(&error);
    assert!(words.contains("network 'lab' cannot connect") && words.contains("no address: all gone"), "{words}");
    fs::write(plugins.join("answer"), "words").unwrap();
    fs::remove_file(plugins.join("fails")).unwrap();
    assert!(chain(&world.cni.connect("c1", &attachment).unwrap_err()).contains("no JSON"));
}

#[test]
fn what_was_not_undone_is_tried_again_after_a_restart_unless_it_would_undo_more() {
    let world = world(&[("a.conflist", LAB)]);
    let attachment = Attachment {
        network: world.cni.networks["lab"].clone(),
        mappings: Vec::new(),
        namespace: world.directory.path().join("none"),
        result: Value::Null,
    };
    let stuck = world.directory.path().join("plugins/stuck");
    fs::write(&stuck, "").unwrap();
    world.cni.write("c1", &attachment).unwrap();
    world.cni.remove("c1");
    assert_eq!((world.asked().len(), world.cni.written().len()), (2, 1), "both were asked, and it stays written down");
    assert!(world.cni.departures.wait("c1", Duration::ZERO).is_ok(), "nobody waits for what failed");
    fs::remove_file(&stuck).unwrap();
    // Connected anew: to undo the old one would undo this one.
    world.cni.write("c1", &attachment).unwrap();
    world.recover(&["c1"]);
    assert_eq!((world.asked().len(), world.cni.written().len()), (2, 2));
    fs::remove_file(world.cni.file("c1")).unwrap();
    let recovery = world.cni.recover(&BTreeSet::from(["c1".to_owned()]));
    assert!(world.cni.departures.wait("c1", Duration::ZERO).is_err(), "the next one waits from now on");
    world.cni.go_on(recovery);
    assert!(world.cni.departures.wait("c1", Duration::ZERO).is_ok());
    assert_eq!((world.asked().len(), world.cni.written().len()), (4, 0));
}
