//! FTP as far as fetching a file takes it: RFC 959 with the extended passive mode of RFC 2428.

use std::net::SocketAddr;
use std::time::Duration;

use reqwest::Url;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::progress::Sink;
use super::{FetchPatience, Trouble};

/// A server's longest answer that is read.
const LONGEST_LINE: u64 = 4096;
/// An answer has no more lines.
const MOST_LINES: usize = 200;
const PIECE: usize = 64 * 1024;

/// A file on a server.
#[derive(Clone)]
pub(super) struct Ftp {
    host: String,
    port: u16,
    user: String,
    password: String,
    path: String,
}

impl std::fmt::Debug for Ftp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ftp").field("host", &self.host).field("path", &self.path).finish_non_exhaustive()
    }
}

impl Ftp {
    pub(super) fn of(url: &Url) -> Option<Self> {
        let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        let user = if url.username().is_empty() { "anonymous" } else { url.username() };
        let password = url.password().unwrap_or("mesolith@");
        let (user, password) = (super::address::percent_decoded(user), super::address::percent_decoded(password));
        let path = super::address::percent_decoded(url.path().trim_start_matches('/'));
        // A line's end would be another command.
        let plain = |text: &str| !text.contains(['\r', '\n', '\0']);
        let fine = plain(&user) && plain(&password) && plain(&path) && !path.is_empty();
        fine.then(|| Self { host, port: url.port().unwrap_or(21), user, password, path })
    }
}

/// Brings the whole file.
pub(super) async fn get(ftp: &Ftp, patience: FetchPatience, sink: &mut Sink) -> Result<(), Trouble> {
    sink.again()?;
    let connecting = TcpStream::connect((ftp.host.as_str(), ftp.port));
    let stream = timeout(patience.connect, connecting).await.map_err(|_| silent(patience.connect))?.map_err(broken)?;
    let server = stream.peer_addr().map_err(broken)?;
    let mut control = Control { stream: BufReader::new(stream), patience: patience.stall };
    control.expect(&[220]).await?;
    if control.ask(&format!("USER {}", ftp.user), &[230, 331]).await?.0 == 331 {
        control.ask(&format!("PASS {}", ftp.password), &[230, 202]).await?;
    }
    control.ask("TYPE I", &[200]).await?;
    let (_, passive) = control.ask("EPSV", &[229]).await?;
    let port =
        extended_port(&passive).ok_or_else(|| Trouble::Lasting("its passive mode is not understood".to_owned()))?;
    // Where it is asked from, never elsewhere: a server could point at anybody.
    let data = SocketAddr::new(server.ip(), port);
    let connecting = timeout(patience.connect, TcpStream::connect(data));
    let mut data = connecting.await.map_err(|_| silent(patience.connect))?.map_err(broken)?;
    control.ask(&format!("RETR {}", ftp.path), &[125, 150]).await?;
    let mut buffer = vec![0; PIECE];
    loop {
        let read = timeout(patience.stall, data.read(&mut buffer)).await.map_err(|_| silent(patience.stall))?;
        let length = read.map_err(broken)?;
        if length == 0 {
            break;
        }
        sink.take(&buffer[..length])?;
    }
    // Only this says that it was all.
    control.expect(&[226, 250]).await.map(drop)
}

struct Control {
    stream: BufReader<TcpStream>,
    patience: Duration,
}

impl Control {
    async fn ask(&mut self, command: &str, fine: &[u16]) -> Result<(u16, String), Trouble> {
        self.stream.write_all(format!("{command}\r\n").as_bytes()).await.map_err(broken)?;
        self.expect(fine).await
    }

    async fn expect(&mut self, fine: &[u16]) -> Result<(u16, String), Trouble> {
        let answer = timeout(self.patience, self.answer()).await.map_err(|_| silent(self.patience))??;
        if fine.contains(&answer.0) {
            return Ok(answer);
        }
        let reason = format!("the server says {} {}", answer.0, answer.1.escape_debug());
        Err(if (400..500).contains(&answer.0) { Trouble::Passing(reason) } else { Trouble::Lasting(reason) })
    }

    /// `123 text`; with `123-` more lines follow.
    async fn answer(&mut self) -> Result<(u16, String), Trouble> {
        let strange = || Trouble::Lasting("it is no FTP server".to_owned());
        let mut begun = None;
        for _ in 0..MOST_LINES {
            let mut line = Vec::new();
            let mut bounded = (&mut self.stream).take(LONGEST_LINE);
            let length = bounded.read_until(b'\n', &mut line).await.map_err(broken)?;
            if length == 0 {
                return Err(Trouble::Passing("the server has closed the connection".to_owned()));
            }
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            let code = line.get(..3).and_then(|digits| digits.parse::<u16>().ok());
            match (begun, code, line.as_bytes().get(3)) {
                (None, Some(code), Some(b'-')) => begun = Some(code),
                (None, Some(code), _) => return Ok((code, line.get(4..).unwrap_or_default().to_owned())),
                (Some(first), Some(code), Some(b' ') | None) if first == code => {
                    return Ok((code, line.get(4..).unwrap_or_default().to_owned()));
                }
                (Some(_), _, _) => {}
                (None, None, _) => return Err(strange()),
            }
        }
        Err(strange())
    }
}

/// `Entering Extended Passive Mode (|||6446|)`
fn extended_port(text: &str) -> Option<u16> {
    let inside = text.split_once('(')?.1.split_once(')')?.0;
    let mark = inside.chars().next()?;
    inside.split(mark).nth(3)?.parse().ok()
}

fn silent(patience: Duration) -> Trouble {
    Trouble::Passing(format!("the server has said nothing for {} s", patience.as_secs()))
}

fn broken(error: std::io::Error) -> Trouble {
    Trouble::Passing(format!("the connection broke: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_and_a_command_cannot_be_smuggled_in() {
        assert_eq!(extended_port("Entering Extended Passive Mode (|||6446|)"), Some(6446));
        assert_eq!(extended_port("(no)"), None);
        let of = |text: &str| Ftp::of(&Url::parse(text).unwrap());
        assert!(of("ftp://h/a%0d%0aDELE%20x").is_none() && of("ftp://u%0a@h/a").is_none() && of("ftp://h/").is_none());
        let ftp = of("ftp://me:pass@h:2121/pub/a%20b").unwrap();
        assert_eq!((ftp.user.as_str(), ftp.port, ftp.path.as_str()), ("me", 2121, "pub/a b"));
        assert!(!format!("{ftp:?}").contains("pass"));
    }
}
