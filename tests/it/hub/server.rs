//! A local model hub that answers like huggingface.co, or with one fault.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use sha1::Sha1;
use sha2::{Digest, Sha256};

pub const COMMIT: &str = "12f040a7b4f1c5d0e6a98b3c2d1e0f9a8b7c6d5e";
pub const WEIGHTS: &str = "model.safetensors";

/// The fault of the hub; wrong bytes affect only the weights.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fault {
    None,
    /// The first downloads, this many, are interrupted in the middle.
    Cut(usize),
    /// The first is interrupted; a request for the rest gets the whole file.
    CutThenWhole,
    /// The end of the file is missing, without an error.
    Short,
    /// One byte is wrong.
    Damaged,
    /// It ignores range requests.
    Whole,
    /// It accepts the request and never answers.
    Silent,
    /// It answers everything with this status.
    Status(u16),
    /// It requires the token `secret`.
    Private,
    /// It has large files on another host, and does not say their size itself.
    Elsewhere,
    /// It claims this checksum for every file.
    Etag(&'static str),
}

pub struct Hub {
    pub url: String,
    served: Arc<Served>,
}

struct Served {
    url: String,
    fault: Fault,
    files: BTreeMap<String, Vec<u8>>,
    downloads: AtomicUsize,
    asked: Mutex<Vec<String>>,
}

impl Hub {
    /// Serves `files` as the model `owner/tiny`, also under the name `tiny`, until the
    /// process ends.
    pub fn start(files: BTreeMap<String, Vec<u8>>, fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (downloads, asked) = (AtomicUsize::new(0), Mutex::default());
        let served = Arc::new(Served { url: url.clone(), fault, files, downloads, asked });
        thread::spawn({
            let served = served.clone();
            move || {
                for stream in listener.incoming() {
                    let served = served.clone();
                    // A client that disconnects is not an error.
                    thread::spawn(move || drop(served.answer(stream.unwrap())));
                }
            }
        });
        Self { url, served }
    }

    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.served.files
    }

    /// The checksum that the hub claims for a file.
    pub fn etag(&self, file: &str) -> String {
        self.served.etag(file, self.files().get(file).map_or(b"", Vec::as_slice))
    }

    /// Requests for files since the last call.
    pub fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.served.asked.lock().unwrap())
    }

    /// Downloads since the last call: files, with the requested byte ranges.
    pub fn downloads(&self) -> Vec<String> {
        self.asked().into_iter().filter(|line| !line.ends_with(" 0-0")).collect()
    }
}

impl Served {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte)?;
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let path = head.split(' ').nth(1).unwrap();
        let header = |name: &str| {
            let lines = head.lines().filter_map(|line| line.split_once(": "));
            lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
        };
        if let Fault::Status(status) = self.fault {
            return respond(&mut stream, &format!("{status} No"), &[], b"");
        }
        let other_host = header("host").is_some_and(|host| host.starts_with("localhost"));
        if other_host && let Some(token) = header("authorization") {
            self.asked.lock().unwrap().push(format!("another host got {token}"));
        }
        let is_private = matches!(self.fault, Fault::Private | Fault::Elsewhere) && !other_host;
        if is_private && header("authorization") != Some("Bearer secret") {
            return respond(&mut stream, "401 Unauthorized", &[], b"");
        }
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let redirect = |stream: &mut TcpStream, to: String, more: &[(&str, String)]| {
            let mut headers = vec![("location", to)];
            headers.extend_from_slice(more);
            respond(stream, "307 Temporary Redirect", &headers, b"")
        };
        match parts[..] {
            ["tiny", "resolve", revision, file] => {
                redirect(&mut stream, format!("/owner/tiny/resolve/{revision}/{file}"), &[])
            }
            ["owner", "tiny", "resolve", "main" | COMMIT, file]
                if self.files.contains_key(file) =>
            {
                let content = &self.files[file];
                let mut headers = vec![
                    ("x-repo-commit", COMMIT.to_owned()),
                    ("x-linked-etag", format!("\"{}\"", self.etag(file, content))),
                ];
                if self.fault != Fault::Elsewhere {
                    headers.push(("x-linked-size", content.len().to_string()));
                }
                let to = if self.fault == Fault::Elsewhere {
                    format!("{}/cdn/{file}", self.url.replace("127.0.0.1", "localhost"))
                } else if file == WEIGHTS {
                    format!("{}/cdn/{file}", self.url)
                } else {
                    format!("/api/resolve-cache/models/owner/tiny/{COMMIT}/{file}")
                };
                redirect(&mut stream, to, &headers)
            }
            ["api", "resolve-cache", "models", "owner", "tiny", COMMIT, file] | ["cdn", file] => {
                let mut headers = vec![("x-repo-commit", COMMIT.to_owned())];
                headers.push(("etag", format!("\"{}\"", self.etag(file, &self.files[file]))));
                self.content(&mut stream, file, header("range"), headers)
            }
            _ => respond(&mut stream, "404 Not Found", &[], b""),
        }
    }

    /// SHA-256 of a large file, git's SHA-1 of a small one.
    fn etag(&self, file: &str, content: &[u8]) -> String {
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        match self.fault {
            Fault::Etag(etag) => etag.to_owned(),
            _ if file == WEIGHTS => hex(&Sha256::digest(content)),
            _ => {
                let blob = [format!("blob {}\0", content.len()).as_bytes(), content].concat();
                hex(&Sha1::digest(blob))
            }
        }
    }

    fn content(
        &self,
        stream: &mut TcpStream,
        file: &str,
        range: Option<&str>,
        mut headers: Vec<(&'static str, String)>,
    ) -> std::io::Result<()> {
        let mut content = self.files[file].clone();
        let all = content.len();
        let range = range.and_then(|range| range.strip_prefix("bytes=")).unwrap_or("all");
        self.asked.lock().unwrap().push(format!("{file} {range}"));
        let (from, to) = range.split_once('-').unwrap_or(("0", ""));
        let (from, to): (usize, usize) = (from.parse().unwrap(), to.parse().unwrap_or(all - 1));
        if from >= all {
            return respond(stream, "416 Range Not Satisfiable", &[], b"");
        }
        let fault = if file == WEIGHTS { self.fault } else { Fault::None };
        if fault == Fault::Whole {
            return respond(stream, "200 OK", &headers, &content);
        }
        let part = ("content-range", format!("bytes {from}-{to}/{all}"));
        if range == "0-0" {
            headers.push(part);
            return respond(stream, "206 Partial Content", &headers, &content[..1]);
        }
        let download = self.downloads.fetch_add(usize::from(file == WEIGHTS), Ordering::SeqCst);
        match fault {
            Fault::Silent => {
                thread::park();
                return Ok(());
            }
            Fault::CutThenWhole if from > 0 => {
                return respond(stream, "200 OK", &headers, &content);
            }
            Fault::Damaged => *content.last_mut().unwrap() ^= 1,
            _ => {}
        }
        headers.push(part);
        let body = &content[from..=to];
        let cut = match fault {
            Fault::Cut(count) => download < count,
            Fault::CutThenWhole => download == 0,
            _ => false,
        };
        match (cut, fault) {
            (true, _) => {
                headers.push(("content-length", body.len().to_string()));
                respond_with(stream, "206 Partial Content", &headers, &body[..body.len() / 2])
            }
            (false, Fault::Short) => {
                respond_with(stream, "206 Partial Content", &headers, &body[..body.len() / 2])
            }
            _ => respond(stream, "206 Partial Content", &headers, body),
        }
    }
}

fn respond(
    stream: &mut TcpStream,
    status: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> std::io::Result<()> {
    let mut headers = headers.to_vec();
    headers.push(("content-length", body.len().to_string()));
    respond_with(stream, status, &headers, body)
}

fn respond_with(
    stream: &mut TcpStream,
    status: &str,
    headers: &[(&str, String)],
    body: &[u8],
) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes())?;
    stream.write_all(body)
}
