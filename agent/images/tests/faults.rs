//! The store against a registry that does everything wrong a registry can do.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

#[path = "fake/registry.rs"]
mod registry;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use agent_core::image::{Cached, Credentials, ImageRequest};
use agent_images::unpack::Limits;
use agent_images::{Patience, Registries, Settings, Store};
use registry::{Fault, Layer, Registry};
use serde_json::json;
use tempfile::TempDir;

const MIB: usize = 1 << 20;

fn settings(directory: PathBuf) -> Settings {
    Settings {
        directory,
        limit_bytes: 1 << 30,
        layer: Limits { bytes: 64 << 20, entries: 1000 },
        registries: Registries::default(),
        host_authorities: None,
        patience: Patience {
            connect: Duration::from_secs(2),
            read: Duration::from_millis(400),
            manifest: Duration::from_millis(1500),
            blob: Duration::from_secs(2),
            pull: Duration::from_secs(30),
        },
    }
}

fn store() -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(settings(dir.path().join("store"))).unwrap();
    (dir, store)
}

fn request(name: &str) -> ImageRequest {
    ImageRequest { reference: name.parse().unwrap(), cached: Cached::Accepted, credentials: None }
}

async fn failure(store: &Store, request: &ImageRequest) -> String {
    let error = store.pull(request, "c").await.expect_err("it cannot be pulled");
    let text = error.to_string();
    assert!(text.starts_with(&format!("image '{}': ", request.reference)), "{text}");
    text
}

/// Threads enough that nothing waits for anything else.
macro_rules! tests {
    ($(async fn $name:ident() $body:block)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() $body
    )*};
}

tests! {
    async fn an_image_is_pulled_unpacked_and_its_accounts_are_read() {
        let (registry, (dir, store)) = (Registry::start(), store());
        let base = Layer::of(&[("etc/passwd", b"app:x:7:8::/h:/bin/sh\n"), ("bin/tool", b"tool")]);
        let top = Layer::of(&[("bin/.wh.tool", b""), ("etc/group", b"g:x:9:app\n")]);
        registry.image("lab/app", "1", &[base, top], json!({"Entrypoint": ["/run"], "User": "app"}));
        let request = request(&registry.name("lab/app:1"));
        let pulled = store.pull(&request, "c1").await.unwrap();
        assert_eq!(pulled.image.config.entrypoint, ["/run"]);
        assert_eq!(pulled.accounts.find("app").unwrap().groups, [9]);
        assert_eq!((store.content().images, store.content().layers), (1, 2));
        let loose = std::fs::read_dir(dir.path().join("store/partial")).unwrap().count();
        assert_eq!(loose, 0, "nothing is left of the downloads");
        // Again, and after a restart: from here.
        let asked = registry.requests().len();
        assert_eq!(store.pull(&request, "c2").await.unwrap(), pulled);
        drop(store);
        let store = Store::open(settings(dir.path().join("store"))).unwrap();
        assert_eq!(store.pull(&request, "c3").await.unwrap(), pulled);
        assert_eq!(registry.requests().len(), asked, "what is here is not asked for");
        let again = ImageRequest { cached: Cached::Refused, ..request.clone() };
        assert_eq!(store.pull(&again, "c4").await.unwrap(), pulled);
        assert!(registry.requests().len() > asked, "unless the task wants it");
        assert_eq!(registry.asked("/blobs/"), 3, "layers and configuration once: {:?}", registry.requests());
    }

    async fn twenty_pulls_of_shared_layers_download_each_once() {
        let (registry, (_dir, store)) = (Registry::start(), store());
        registry.pause(Duration::from_millis(20));
        let shared = [Layer::large(1, MIB), Layer::large(2, MIB), Layer::of(&[("a", b"a")])];
        for number in 0..20 {
            let own = Layer::of(&[("number", number.to_string().as_bytes())]);
            let layers = [shared[0].clone(), own, shared[1].clone(), shared[2].clone()];
            registry.image("lab/many", &format!("n{number}"), &layers, json!({"Labels": {"n": number.to_string()}}));
        }
        let pulls = (0..20).map(|number| {
            let (store, request) = (store.clone(), request(&registry.name(&format!("lab/many:n{number}"))));
            tokio::spawn(async move { store.pull(&request, &format!("c{number}")).await.map(|pulled| pulled.image.layers.len()) })
        });
        for pull in pulls.collect::<Vec<_>>() {
            assert_eq!(pull.await.unwrap().unwrap(), 4);
        }
        for layer in &shared {
            assert_eq!(registry.asked(&registry::digest(&layer.packed)), 1);
        }
        assert_eq!(registry.asked("/blobs/"), 3 + 20 + 20);
        assert_eq!(store.content().layers, 23);
    }

    async fn a_download_that_breaks_off_goes_on_where_it_was() {
        let (registry, (_dir, store)) = (Registry::start(), store());
        let layers = registry.image("lab/cut", "1", &[Layer::large(3, 2 * MIB)], json!({}));
        let path = format!("/v2/lab/cut/blobs/{}", layers[0]);
        registry.fault(&path, &[Fault::Cut(700_000), Fault::Status(503), Fault::Cut(600_000), Fault::Silent]);
        store.pull(&request(&registry.name("lab/cut:1")), "c").await.unwrap();
        let offsets: Vec<u64> = registry
            .requests()
            .iter()
            .filter(|request| request.contains(&layers[0]))
            .map(|request| request.rsplit(' ').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(offsets.len(), 5, "{offsets:?}");
        assert_eq!(offsets[0], 0);
        assert!(offsets[1] > 0 && offsets[2] == offsets[1] && offsets[3] > offsets[2], "{offsets:?}");
    }

    async fn a_registry_without_ranges_begins_again_and_is_believed_only_whole() {
        let (registry, (_dir, store)) = (Registry::start(), store());
        let layers = registry.image("lab/norange", "1", &[Layer::large(4, MIB)], json!({}));
        let path = format!("/v2/lab/norange/blobs/{}", layers[0]);
        registry.fault(&path, &[Fault::Cut(500_000), Fault::NoRange]);
        store.pull(&request(&registry.name("lab/norange:1")), "c").await.unwrap();
        assert_eq!(registry.asked(&layers[0]), 2);
    }

    async fn a_download_is_gone_on_with_after_a_restart() {
        let (registry, (dir, store)) = (Registry::start(), store());
        let layers = registry.image("lab/restart", "1", &[Layer::large(5, 2 * MIB)], json!({}));
        let path = format!("/v2/lab/restart/blobs/{}", layers[0]);
        registry.fault(&path, &[Fault::Cut(MIB), Fault::Silent, Fault::Silent]);
        let asked = request(&registry.name("lab/restart:1"));
        let pull = tokio::spawn({
            let (store, request) = (store.clone(), asked.clone());
            async move { store.pull(&request, "c").await }
        });
        let partial = dir.path().join("store/partial").join(&layers[0]["sha256:".len()..]);
        let since = Instant::now();
        while partial.metadata().map_or(0, |metadata| metadata.len()) < 500_000 {
            assert!(since.elapsed() < Duration::from_secs(10), "nothing comes");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        pull.abort();
        let _ = pull.await;
        drop(store);
        registry.fault(&path, &[]);
        let store = Store::open(settings(dir.path().join("store"))).unwrap();
        store.pull(&asked, "c").await.unwrap();
        let last = registry.requests().iter().rfind(|request| request.contains(&layers[0])).unwrap().clone();
        assert!(!last.ends_with(" 0"), "it began again: {last}");
    }

    async fn a_partial_file_that_was_spoilt_is_thrown_away() {
        let (registry, (dir, store)) = (Registry::start(), store());
        let layers = registry.image("lab/spoilt", "1", &[Layer::large(6, MIB)], json!({}));
        std::fs::write(dir.path().join("store/partial").join(&layers[0]["sha256:".len()..]), vec![0; 1000]).unwrap();
        store.pull(&request(&registry.name("lab/spoilt:1")), "c").await.unwrap();
        assert_eq!(registry.asked(&layers[0]), 2, "the rest, and then all of it");
    }

    async fn a_corrupted_layer_is_refused_and_named() {
        let (registry, (dir, store)) = (Registry::start(), store());
        let layer = Layer::of(&[("file", b"good")]);
        let layers = registry.image("lab/bad", "1", std::slice::from_ref(&layer), json!({}));
        let mut bad = layer.packed;
        let last = bad.len() - 1;
        bad[last] ^= 1;
        registry.replace(&format!("/v2/lab/bad/blobs/{}", layers[0]), bad);
        let text = failure(&store, &request(&registry.name("lab/bad:1"))).await;
        assert!(text.contains(&layers[0]) && text.contains("is corrupt") && text.contains(&registry.address.to_string()), "{text}");
        assert_eq!((store.content().images, store.content().layers), (0, 0));
        assert_eq!(std::fs::read_dir(dir.path().join("store/unpacking")).unwrap().count(), 0);
    }

    async fn a_layer_of_the_wrong_size_or_content_is_refused() {
        let (registry, (_dir, store)) = (Registry::start(), store());
        let layer = Layer::of(&[("file", b"content")]);
        let layers = registry.image("lab/long", "1", std::slice::from_ref(&layer), json!({}));
        registry.replace(&format!("/v2/lab/long/blobs/{}", layers[0]), [layer.packed.clone(), vec![0; 100]].concat());
        let text = failure(&store, &request(&registry.name("lab/long:1"))).await;
        assert!(text.contains("longer than the"), "{text}");
        // Shorter than it says is not the same as broken off, but nobody can tell.
        let layers = registry.image("lab/short", "1", &[Layer::large(7, MIB)], json!({}));
        registry.replace(&format!("/v2/lab/short/blobs/{}", layers[0]), vec![0; 1000]);
        let text = failure(&store, &request(&registry.name("lab/short:1"))).await;
        assert!(text.contains("stopped at byte 1000 of"), "{text}");
        // The manifest names a blob that is what it is called, but unpacks to something else than the configuration says.
        let lying = Layer { diff_id: Layer::of(&[("other", b"")]).diff_id, packed: layer.packed };
        registry.image("lab/lie", "1", &[lying], json!({}));
        let text = failure(&store, &request(&registry.name("lab/lie:1"))).await;
        assert!(text.contains("configuration names"), "{text}");
        assert_eq!(store.content().layers, 0);
    }

    async fn a_layer_that_leads_outside_is_refused() {
        let (registry, (_dir, store)) = (Registry::start(), store());
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "out", "/").unwrap();
        header.set_entry_type(tar::EntryType::Regular);
        header.set_size(4);
        tar.append_data(&mut header, "out/escaped", &b"evil"[..]).unwrap();
        let plain = tar.into_inner().unwrap();
        let layer = Layer { diff_id: registry::digest(&plain), packed: plain };
        registry.image("lab/evil", "1", &[layer], json!({}));
        let text = failure(&store, &request(&registry.name("lab/evil:1"))).await;
        assert!(text.contains("cannot be unpacked") && text.contains("out/escaped"), "{text}");
        assert!(!std::path::Path::new("/escaped").exists());
    }

    async fn tokens_and_passwords_are_fetched_and_sent() {
        let registry = Registry::start();
        registry.image("lab/secret", "1", &[Layer::of(&[("a", b"")])], json!({}));
        let name = registry.name("lab/secret:1");
        let config = |user: &str, password: &str| {
            let text = json!({"auths": {registry.address.to_string(): {"username": user, "password": password}}}).to_string();
            ImageRequest { credentials: Some(Credentials(text.into_bytes())), ..request(&name) }
        };
        registry.require_token(None);
        store().1.pull(&request(&name), "c").await.unwrap();
        assert!(registry.asked("/token?scope=repository") >= 1 && registry.asked("service=lab") >= 1, "{:?}", registry.requests());
        registry.require_token(Some(("me", "secret")));
        let (_dir, store_of_two) = store();
        let text = failure(&store_of_two, &config("me", "wrong-word")).await;
        assert!(text.contains("refuses access") && text.contains("docker.config") && !text.contains("wrong-word"), "{text}");
        store_of_two.pull(&config("me", "secret"), "c").await.unwrap();
        // What one task could open with its password is not opened to the next one without.
        let asked = registry.requests().len();
        store_of_two.pull(&config("me", "secret"), "c").await.unwrap();
        assert_eq!(registry.requests().len(), asked, "the same password opens it again");
        assert!(failure(&store_of_two, &request(&name)).await.contains("refuses access"));
        registry.require_basic("me", "secret");
        let (_dir, store_of_basic) = store();
        assert!(failure(&store_of_basic, &request(&name)).await.contains("refuses access"));
        store_of_basic.pull(&config("me", "secret"), "c").await.unwrap();
        let broken = ImageRequest { credentials: Some(Credentials(b"password".to_vec())), ..request(&name) };
        let text = failure(&store_of_basic, &broken).await;
        assert!(text.contains("Docker configuration") && !text.contains("password"), "{text}");
    }

    async fn what_is_not_there_is_said_at_once_and_who_is_silent_is_waited_for() {
        let (registry, (_dir, store)) = (Registry::start(), store());
        let since = Instant::now();
        let text = failure(&store, &request(&registry.name("lab/nothing:1"))).await;
        assert!(text.contains("does not have it") && text.contains("manifest unknown"), "{text}");
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        registry.image("lab/slow", "1", &[Layer::of(&[("a", b"")])], json!({}));
        registry.fault("/v2/lab/slow/manifests/1", &[Fault::Silent; 20]);
        let since = Instant::now();
        let text = failure(&store, &request(&registry.name("lab/slow:1"))).await;
        assert!(text.contains("does not answer"), "{text}");
        assert!(since.elapsed() < Duration::from_secs(5), "{:?}", since.elapsed());
        registry.fault("/v2/lab/slow/manifests/1", &[Fault::Status(500), Fault::Status(429)]);
        store.pull(&request(&registry.name("lab/slow:1")), "c").await.unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let text = failure(&store, &request(&format!("{nobody}/lab/app:1"))).await;
        assert!(text.contains("does not answer") && text.contains("refused"), "{text}");
    }

    async fn a_pull_nobody_waits_for_ends() {
        let (registry, (_dir, store)) = (Registry::start(), store());
        let layers = registry.image("lab/hang", "1", &[Layer::large(8, MIB)], json!({}));
        registry.fault(&format!("/v2/lab/hang/blobs/{}", layers[0]), &[Fault::Silent; 50]);
        let pull = tokio::spawn({
            let (store, request) = (store.clone(), request(&registry.name("lab/hang:1")));
            async move { store.pull(&request, "c").await }
        });
        while registry.asked(&layers[0]) == 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        pull.abort();
        let _ = pull.await;
        tokio::time::sleep(Duration::from_millis(600)).await;
        let asked = registry.asked(&layers[0]);
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(registry.asked(&layers[0]), asked, "nobody asks any more");
    }

    async fn an_index_leads_to_this_machines_image_and_a_mirror_goes_first() {
        let (registry, mirror) = (Registry::start(), Registry::start());
        let (ours, _) = registry.manifest("library/multi", &[Layer::of(&[("ours", b"")])], json!({"Cmd": ["ours"]}));
        let (theirs, _) = registry.manifest("library/multi", &[Layer::of(&[("theirs", b"")])], json!({"Cmd": ["theirs"]}));
        for manifest in [&ours, &theirs] {
            registry.tag("library/multi", "unused", manifest);
        }
        let entry = |manifest: &str, architecture: &str| json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": registry::digest(manifest.as_bytes()), "size": manifest.len(), "platform": {"os": "linux", "architecture": architecture}});
        let index = json!({"schemaVersion": 2, "manifests": [entry(&theirs, "s390x"), entry(&ours, "amd64")]}).to_string();
        registry.tag("library/multi", "latest", &index);
        let dir = tempfile::tempdir().unwrap();
        let mut settings = settings(dir.path().join("store"));
        for address in [mirror.address, registry.address] {
            settings.registries.add_mirror("registry.example", &format!("http://{address}")).unwrap();
        }
        let store = Store::open(settings).unwrap();
        let pulled = store.pull(&request("registry.example/library/multi"), "c").await.unwrap();
        assert_eq!(pulled.image.config.cmd, ["ours"]);
        assert!(mirror.asked("/manifests/latest") >= 1, "it was asked first and did not have it");
        let only = json!({"schemaVersion": 2, "manifests": [entry(&theirs, "s390x")]}).to_string();
        registry.tag("library/multi", "foreign", &only);
        let text = failure(&store, &request("registry.example/library/multi:foreign")).await;
        assert!(text.contains("no image for linux/amd64, only for linux/s390x"), "{text}");
    }

    async fn a_full_store_forgets_what_nobody_uses_and_keeps_what_runs() {
        let registry = Registry::start();
        for number in 1..=4 {
            registry.image("lab/gc", &number.to_string(), &[Layer::large(10 + number, MIB)], json!({}));
        }
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(Settings { limit_bytes: (2 * MIB + 100_000) as u64, ..settings(dir.path().join("store")) }).unwrap();
        for number in 1..=4 {
            let container = format!("c{number}");
            store.pull(&request(&registry.name(&format!("lab/gc:{number}"))), &container).await.unwrap();
            if number != 1 {
                store.release(&container);
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        store.collect().unwrap();
        assert_eq!(store.content().layers, 2, "the one that is in use and the newest");
        let asked = registry.requests().len();
        store.pull(&request(&registry.name("lab/gc:1")), "d").await.unwrap();
        assert_eq!(registry.requests().len(), asked, "what runs was kept");
        assert_eq!(store.prune(&[]).unwrap(), 1);
        assert_eq!(store.content().layers, 1);
        store.release("c1");
        store.release("d");
        assert_eq!(store.prune(&[registry.name("lab/gc:1").parse().unwrap()]).unwrap(), 0);
        assert_eq!(store.prune(&[]).unwrap(), 1);
        assert_eq!(store.content().bytes, 0);
    }
}
