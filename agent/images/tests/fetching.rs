//! Fetching against servers on loopback that are as bad as servers get, and archives that mean harm.

#![allow(clippy::unwrap_used)] // a panic is how a test fails, in its parts too

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use agent_images::fetch::{FetchPatience, FetchSettings, Fetcher, Uri, Wish};

/// What a server gives for a path, and how: it may stop after so many bytes of the first answer.
#[derive(Clone)]
struct Page {
    body: Vec<u8>,
    breaks_after: Option<usize>,
    status: &'static str,
}

/// An HTTP server, and what it was asked.
struct Server {
    address: String,
    asked: Arc<Mutex<Vec<String>>>,
    pages: Arc<Mutex<Vec<(String, Page)>>>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (asked, pages) = (Arc::<Mutex<Vec<String>>>::default(), Arc::<Mutex<Vec<(String, Page)>>>::default());
        let (log, shelf) = (asked.clone(), pages.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (log, shelf) = (log.clone(), shelf.clone());
                std::thread::spawn(move || answer(stream, &log, &shelf));
            }
        });
        Self { address, asked, pages }
    }

    fn page(&self, path: &str, body: &[u8]) {
        self.put(path, Page { body: body.to_vec(), breaks_after: None, status: "200 OK" });
    }

    fn put(&self, path: &str, page: Page) {
        self.pages.lock().unwrap().push((path.to_owned(), page));
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn count(&self, path: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|line| line.starts_with(&format!("{path} "))).count()
    }
}

/// Each time it is asked for, a page's next version is given; the last one stays.
fn answer(mut stream: TcpStream, asked: &Mutex<Vec<String>>, pages: &Mutex<Vec<(String, Page)>>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 || line == "\r\n" {
            break;
        }
        lines.push(line.trim_end().to_owned());
    }
    let Some(path) = lines.first().and_then(|line| line.split(' ').nth(1)).map(str::to_owned) else { return };
    let from = lines.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=").map(str::to_owned));
    let from: Option<usize> = from.and_then(|range| range.trim_end_matches('-').parse().ok());
    asked.lock().unwrap().push(format!("{path} {}", from.unwrap_or(0)));
    let page = {
        let mut pages = pages.lock().unwrap();
        let places: Vec<usize> = (0..pages.len()).filter(|at| pages[*at].0 == path).collect();
        match places.as_slice() {
            [] => None,
            [only] => Some(pages[*only].1.clone()),
            [first, ..] => Some(pages.remove(*first).1),
        }
    };
    let Some(page) = page else {
        let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        return;
    };
    let rest = &page.body[from.unwrap_or(0).min(page.body.len())..];
    let status = if from.is_some() { "206 Partial Content" } else { page.status };
    let mut head =
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nETag: \"v1\"\r\nConnection: close\r\n", rest.len());
    if let Some(from) = from {
        head.push_str(&format!("Content-Range: bytes {from}-{}/{}\r\n", page.body.len() - 1, page.body.len()));
    }
    let _ = stream.write_all(format!("{head}\r\n").as_bytes());
    let _ = stream.write_all(&rest[..page.breaks_after.unwrap_or(rest.len()).min(rest.len())]);
}

struct Place {
    dir: tempfile::TempDir,
    fetcher: Fetcher,
}

impl Place {
    fn new() -> Self {
        Self::limited(64 << 20)
    }

    fn limited(file_bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let short = Duration::from_secs(5);
        let patience = FetchPatience {
            connect: short,
            stall: short,
            whole: Duration::from_secs(60),
            pause: Duration::from_millis(10),
            tries: 3,
        };
        let settings = FetchSettings {
            cache: dir.path().join("cache"),
            cache_bytes: 8 << 20,
            file_bytes,
            authorities: Vec::new(),
            host_authorities: None,
            patience,
        };
        Self { fetcher: Fetcher::open(settings).unwrap(), dir }
    }

    fn sandbox(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    fn wish(&self, name: &str, uris: Vec<Uri>) -> Wish {
        let own = fs::metadata(self.dir.path()).unwrap();
        let uid = if is_root() { 1234 } else { std::os::unix::fs::MetadataExt::uid(&own) };
        let gid = if is_root() { 1235 } else { std::os::unix::fs::MetadataExt::gid(&own) };
        Wish { sandbox: self.sandbox(name), uid, gid, most_bytes: None, uris }
    }

    async fn fetch(&self, name: &str, uris: Vec<Uri>) -> Result<PathBuf, String> {
        let wish = self.wish(name, uris);
        self.fetcher.fetch(&wish).await.map(|()| wish.sandbox).map_err(|error| error.to_string())
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn uri(value: &str) -> Uri {
    Uri { value: value.to_owned(), extract: true, ..Uri::default() }
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Packs with the host's own programs: what users have made their archives with.
fn packed(dir: &Path, name: &str) -> Vec<u8> {
    let tree = dir.join("tree");
    fs::create_dir_all(tree.join("bin")).unwrap();
    fs::write(tree.join("bin/run"), "#!/bin/sh\necho ran\n").unwrap();
    fs::set_permissions(tree.join("bin/run"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(tree.join("a file"), "content\n".repeat(1000)).unwrap();
    let _ = std::os::unix::fs::symlink("bin/run", tree.join("link"));
    let out = dir.join(name);
    let program = "import sys, tarfile, zipfile, os, stat\n\
        name, tree = sys.argv[1:]\n\
        if name.endswith('.zip'):\n\
        \x20   z = zipfile.ZipFile(name, 'w', zipfile.ZIP_DEFLATED)\n\
        \x20   for path in ['bin/', 'bin/run', 'a file', 'link']:\n\
        \x20       full = os.path.join(tree, path)\n\
        \x20       info = zipfile.ZipInfo(path)\n\
        \x20       info.create_system, info.external_attr = 3, os.lstat(full.rstrip('/')).st_mode << 16\n\
        \x20       data = os.readlink(full) if os.path.islink(full) else b'' if path.endswith('/') else open(full, 'rb').read()\n\
        \x20       z.writestr(info, data, zipfile.ZIP_DEFLATED)\n\
        \x20   z.close()\n\
        else:\n\
        \x20   mode = {'z': 'w:gz', '2': 'w:bz2', 'x': 'w:xz'}.get({'gz': 'z', 'tgz': 'z', 'bz2': '2', 'tbz2': '2', 'xz': 'x', 'txz': 'x'}.get(name.rsplit('.', 1)[1], ''), 'w')\n\
        \x20   t = tarfile.open(name, mode)\n\
        \x20   for path in ['bin', 'a file', 'link']: t.add(os.path.join(tree, path), path)\n\
        \x20   t.close()\n";
    let made =
        Command::new("python3").args(["-c", program]).arg(&out).arg(&tree).status().expect("python3 is installed");
    assert!(made.success());
    fs::read(out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_every_format_are_unpacked_for_the_tasks_user() {
    let (place, server) = (Place::new(), Server::start());
    let scratch = tempfile::tempdir().unwrap();
    let names =
        ["a.tar", "a.tar.gz", "a.tgz", "a.tar.bz2", "a.tbz2", "a.tar.xz", "a.txz", "a.zip", "a.tar.zst", "a.tzst"];
    for name in names {
        let bytes = if name.contains("zst") {
            zstd::encode_all(packed(scratch.path(), "plain.tar").as_slice(), 3).unwrap()
        } else {
            packed(scratch.path(), name)
        };
        server.page(&format!("/{name}"), &bytes);
        // With what a signed address has behind it.
        let sandbox = place.fetch(name, vec![uri(&server.url(&format!("/{name}#x")))]).await.unwrap();
        assert_eq!(read(&sandbox.join("a file")), "content\n".repeat(1000), "{name}");
        assert_eq!(fs::read_link(sandbox.join("link")).unwrap(), Path::new("bin/run"), "{name}");
        assert!(sandbox.join(name).exists(), "as with Mesos the archive stays");
        for (path, mode) in [("bin/run", 0o755), ("a file", 0o644), ("bin", 0o755)] {
            let about = fs::metadata(sandbox.join(path)).unwrap();
            assert_eq!(about.permissions().mode() & 0o777, mode, "{name}: {path}");
            if is_root() {
                let owner = (std::os::unix::fs::MetadataExt::uid(&about), std::os::unix::fs::MetadataExt::gid(&about));
                assert_eq!(owner, (1234, 1235), "{name}: {path}");
            }
        }
    }
    let single = {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        encoder.write_all(b"one").unwrap();
        encoder.finish().unwrap()
    };
    server.page("/one.txt.gz", &single);
    let sandbox = place.fetch("single", vec![uri(&server.url("/one.txt.gz"))]).await.unwrap();
    assert_eq!(read(&sandbox.join("one.txt")), "one");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_uri_asks_for_is_done() {
    let (place, server) = (Place::new(), Server::start());
    server.page("/run.tar", b"#!/bin/sh\n");
    server.page("/plain", b"abc");
    let sum = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let executable = Uri { executable: true, ..uri(&server.url("/run.tar")) };
    let kept = Uri { extract: false, output_file: Some("in/a/way.tar".to_owned()), ..uri(&server.url("/run.tar")) };
    let summed = uri(&server.url(&format!("/plain#sha256={sum}")));
    let sandbox = place.fetch("s", vec![executable, kept, summed]).await.unwrap();
    assert_eq!(fs::metadata(sandbox.join("run.tar")).unwrap().permissions().mode() & 0o777, 0o755);
    assert_eq!(read(&sandbox.join("in/a/way.tar")), "#!/bin/sh\n");
    assert_eq!(read(&sandbox.join("plain")), "abc");
    let wrong = uri(&server.url(&format!("/plain#sha256={}", sum.replace('b', "c"))));
    let error = place.fetch("t", vec![wrong]).await.unwrap_err();
    assert!(error.contains("checksum") && error.contains("/plain'"), "{error}");
    let error = place.fetch("u", vec![uri(&server.url("/missing?secret=1"))]).await.unwrap_err();
    assert!(error.contains("404") && !error.contains("secret"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_off_is_gone_on_with_and_what_passes_is_tried_again() {
    let (place, server) = (Place::new(), Server::start());
    let body: Vec<u8> = (0..200_000u32).map(|number| (number % 251) as u8).collect();
    let page = Page { body: body.clone(), breaks_after: Some(70_000), status: "200 OK" };
    server.put("/long", page.clone());
    server.put("/long", Page { breaks_after: None, ..page.clone() });
    let sandbox = place.fetch("s", vec![uri(&server.url("/long"))]).await.unwrap();
    assert!(fs::read(sandbox.join("long")).unwrap() == body);
    let asked = server.asked.lock().unwrap().clone();
    assert_eq!(asked, ["/long 0", "/long 70000"]);
    server.put("/busy", Page { status: "503 Service Unavailable", breaks_after: None, body: Vec::new() });
    server.page("/busy", b"now");
    let sandbox = place.fetch("t", vec![uri(&server.url("/busy"))]).await.unwrap();
    assert_eq!(read(&sandbox.join("busy")), "now");
    server.put("/never", Page { status: "503 Service Unavailable", breaks_after: None, body: Vec::new() });
    assert!(place.fetch("u", vec![uri(&server.url("/never"))]).await.unwrap_err().contains("503"));
    assert_eq!(server.count("/never"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_tasks_with_one_cached_uri_download_it_once() {
    let (place, server) = (Arc::new(Place::new()), Server::start());
    let scratch = tempfile::tempdir().unwrap();
    server.page("/shared.tgz", &packed(scratch.path(), "shared.tgz"));
    let url = server.url("/shared.tgz");
    let tasks: Vec<_> = (0..10)
        .map(|number| {
            let (place, url) = (place.clone(), url.clone());
            tokio::spawn(async move {
                let cached = Uri { cache: true, ..uri(&url) };
                place.fetch(&format!("task-{number}"), vec![cached]).await.unwrap()
            })
        })
        .collect();
    for task in tasks {
        let sandbox = task.await.unwrap();
        assert!(sandbox.join("bin/run").exists() && !sandbox.join("shared.tgz").exists());
    }
    assert_eq!(server.count("/shared.tgz"), 1);
}

/// An archive by hand, for no program makes such.
fn tar(entries: &[(&str, tar::EntryType, &str, &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, kind, link, data) in entries {
        let mut header = tar::Header::new_ustar();
        let old = header.as_old_mut();
        old.name[..path.len()].copy_from_slice(path.as_bytes());
        old.linkname[..link.len()].copy_from_slice(link.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o4755);
        header.set_size(data.len() as u64);
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(data);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_that_mean_harm_reach_nothing_outside() {
    use tar::EntryType::{Block, Char, Link, Regular, Symlink};
    let (place, server) = (Place::new(), Server::start());
    let outside = place.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("victim"), "whole").unwrap();
    let absolute = outside.join("new").display().to_string();
    let target = outside.display().to_string();
    let victim = outside.join("victim").display().to_string();
    let hostile: Vec<(&str, Vec<u8>)> = vec![
        ("parent.tar", tar(&[("../outside/new", Regular, "", b"x")])),
        ("absolute.tar", tar(&[(&absolute, Regular, "", b"x")])),
        ("through.tar", tar(&[("out", Symlink, &target, b""), ("out/new", Regular, "", b"x")])),
        ("up.tar", tar(&[("out", Symlink, "../outside", b""), ("out/new", Regular, "", b"x")])),
        ("hard.tar", tar(&[("mine", Link, "../outside/victim", b"")])),
        ("hard2.tar", tar(&[("out", Symlink, &target, b""), ("mine", Link, "out/victim", b"")])),
        ("block.tar", tar(&[("disk", Block, "", b"")])),
        ("char.tar", tar(&[("null", Char, "", b"")])),
        ("short.tar", tar(&[("a", Regular, "", b"x")])[..700].to_vec()),
        ("none.tgz", b"no archive at all".to_vec()),
        ("none.zip", b"no archive at all".to_vec()),
        ("none.tar.xz", b"no archive at all".to_vec()),
    ];
    for (name, bytes) in &hostile {
        server.page(&format!("/{name}"), bytes);
        let error = place.fetch(name, vec![uri(&server.url(&format!("/{name}")))]).await;
        let error = error.err().unwrap_or_else(|| panic!("{name} was unpacked"));
        assert!(error.contains("cannot unpack it"), "{name}: {error}");
    }
    // A link is only a link; what is written over it later does not go through it.
    let replaced = tar(&[("link", Symlink, &victim, b""), ("link", Regular, "", b"mine")]);
    server.page("/replaced.tar", &replaced);
    let sandbox = place.fetch("replaced", vec![uri(&server.url("/replaced.tar"))]).await.unwrap();
    assert_eq!(read(&sandbox.join("link")), "mine");
    assert_eq!(fs::metadata(sandbox.join("link")).unwrap().permissions().mode() & 0o7777, 0o755, "no set-user-id");
    // A file fetched over a link that was planted before.
    let planted = tar(&[("plain", Symlink, &victim, b""), ("dir", Symlink, &target, b"")]);
    server.page("/planted.tar", &planted);
    server.page("/plain", b"mine");
    let uris = vec![uri(&server.url("/planted.tar")), uri(&server.url("/plain"))];
    let sandbox = place.fetch("planted", uris).await.unwrap();
    assert_eq!(read(&sandbox.join("plain")), "mine");
    let through = Uri { output_file: Some("dir/new".to_owned()), ..uri(&server.url("/plain")) };
    let uris = vec![uri(&server.url("/planted.tar")), through];
    assert!(place.fetch("through-output", uris).await.is_err());
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "nothing came there");
    assert_eq!(read(&outside.join("victim")), "whole");

    let zips = "import sys, zipfile\n\
        z = zipfile.ZipFile(sys.argv[1], 'w')\n\
        for entry in sys.argv[2:]:\n\
        \x20   name, mode, data = entry.split('|')\n\
        \x20   info = zipfile.ZipInfo(name)\n\
        \x20   info.create_system, info.external_attr = 3, int(mode, 8) << 16\n\
        \x20   z.writestr(info, data)\n\
        z.close()\n";
    let through = [format!("out|120777|{target}"), "out/new|100644|x".to_owned()];
    for (name, entries) in [
        ("parent.zip", vec!["../outside/new|100644|x".to_owned()]),
        ("through.zip", through.to_vec()),
        ("device.zip", vec!["disk|060666|".to_owned()]),
    ] {
        let path = place.dir.path().join(format!("made-{name}"));
        assert!(Command::new("python3").args(["-c", zips]).arg(&path).args(entries).status().unwrap().success());
        let mut bytes = Vec::new();
        fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
        server.page(&format!("/{name}"), &bytes);
        let error = place.fetch(name, vec![uri(&server.url(&format!("/{name}")))]).await.unwrap_err();
        assert!(error.contains("cannot unpack it"), "{name}: {error}");
    }
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1, "nothing came there");
}

#[tokio::test(flavor = "multi_thread")]
async fn bombs_end_at_the_limit() {
    let (place, server) = (Place::limited(1 << 20), Server::start());
    let zeros = vec![0; 32 << 20];
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(&tar(&[("zeros", tar::EntryType::Regular, "", &zeros)])).unwrap();
    server.page("/bomb.tgz", &encoder.finish().unwrap());
    let error = place.fetch("a", vec![uri(&server.url("/bomb.tgz"))]).await.unwrap_err();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
    server.page("/large", &zeros);
    let error = place.fetch("b", vec![uri(&server.url("/large"))]).await.unwrap_err();
    assert!(error.contains("more than 1048576 bytes"), "{error}");
    assert!(fs::metadata(place.dir.path().join("a/zeros")).unwrap().len() <= 1 << 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_of_the_node_and_of_an_ftp_server_are_fetched() {
    let place = Place::new();
    let path = place.dir.path().join("local");
    fs::write(&path, "local\n").unwrap();
    let sandbox = place.fetch("s", vec![uri(path.to_str().unwrap())]).await.unwrap();
    assert_eq!(read(&sandbox.join("local")), "local\n");
    let sandbox = place.fetch("t", vec![uri(&format!("file://{}", path.display()))]).await.unwrap();
    assert_eq!(read(&sandbox.join("local")), "local\n");
    if is_root() {
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = place.fetch("u", vec![uri(path.to_str().unwrap())]).await.unwrap_err();
        assert!(error.contains("cannot read it"), "{error}");
    }

    let control = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = control.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let (stream, _) = control.accept().unwrap();
        let mut out = stream.try_clone().unwrap();
        out.write_all(b"220-hello\r\n220 ready\r\n").unwrap();
        let data = TcpListener::bind("127.0.0.1:0").unwrap();
        for line in BufReader::new(stream).lines() {
            let line = line.unwrap();
            let answer = match line.split(' ').next().unwrap() {
                "USER" => "331 password\r\n".to_owned(),
                "PASS" => "230 in\r\n".to_owned(),
                "TYPE" => "200 binary\r\n".to_owned(),
                "EPSV" => format!("229 passive (|||{}|)\r\n", data.local_addr().unwrap().port()),
                "RETR" => {
                    assert_eq!(line, "RETR pub/a file");
                    out.write_all(b"150 here\r\n").unwrap();
                    data.accept().unwrap().0.write_all(b"over ftp\n").unwrap();
                    "226 done\r\n".to_owned()
                }
                other => panic!("{other}"),
            };
            out.write_all(answer.as_bytes()).unwrap();
        }
    });
    let sandbox = place.fetch("v", vec![uri(&format!("ftp://{address}/pub/a%20file"))]).await.unwrap();
    assert_eq!(read(&sandbox.join("a file")), "over ftp\n");
    server.join().unwrap();
}
