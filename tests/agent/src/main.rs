//! The agent: listens, and answers one request a line until the machine goes down.
#![forbid(unsafe_code)]

mod look;
mod run;

use anyhow::{Context, Result};
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use test_agent::{PORT, Reply, Request};

fn main() -> Result<()> {
    if std::env::args().nth(1).is_some_and(|argument| argument == "crash") {
        anyhow::bail!("crashing, as told to");
    }
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("listening")?;
    sys::activation::notify("READY=1").context("telling init")?;
    eprintln!("mobula: a test agent listens on port {PORT}: this is no appliance for real data");
    for stream in listener.incoming() {
        let stream = stream.context("accepting")?;
        // A client that goes away ends its thread and nothing else.
        std::thread::spawn(move || {
            if let Err(error) = serve(&stream) {
                eprintln!("agent: {error:#}");
            }
        });
    }
    Ok(())
}

fn serve(stream: &TcpStream) -> Result<()> {
    let mut writer = BufWriter::new(stream);
    for line in BufReader::new(stream).lines() {
        let answer = serde_json::from_str(&line?)
            .context("reading a request")
            .and_then(answer)
            .map_err(|error| format!("{error:#}"));
        serde_json::to_writer(&mut writer, &answer)?;
        writer.write_all(b"\n")?;
        writer.flush()?;
    }
    Ok(())
}

fn answer(request: Request) -> Result<Reply> {
    match request {
        Request::Ping => Ok(Reply::Done),
        Request::Processes => look::processes(),
        Request::Read { path } => look::read(&path),
        Request::List { path, deep } => look::list(&path, deep),
        Request::Blocks { path } => look::blocks(&path),
        Request::Frames { pid, address, pages } => look::frames(pid, address, pages),
        Request::Owners { frames } => look::owners(&frames),
        Request::Signal { pid, signal } => run::signal(pid, signal),
        Request::Reclaim => run::reclaim(),
        Request::Namespaces => look::namespaces(),
        Request::Networks { count } => run::networks(count),
        Request::Forget { path } => run::forget(Path::new(&path)),
        Request::Fill { path, leave } => run::fill(&path, leave),
        Request::Remove { path } => run::remove(&path),
        Request::Send { socket, messages } => run::send(&socket, &messages),
        Request::Speak { pid, messages } => run::speak(pid, &messages),
        Request::Partition { disk, number, start, length } => {
            run::partition(&disk, number, start, length)
        }
        Request::Mount { source, target, kind, options } => {
            run::mount(&source, &target, &kind, &options)
        }
        Request::Unmount { target } => run::unmount(&target),
        Request::Start { command, environment, user } => run::start(&command, &environment, user),
        Request::End { pid, signal } => run::end(pid, signal),
    }
}
