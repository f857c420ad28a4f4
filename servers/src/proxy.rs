//! A TCP proxy that cuts, drops or delays connections, as networks do.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// The treatment of the traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Forward,
    /// Every connection is closed at once, new ones too.
    Cut,
    /// Connections stay open and all their bytes are dropped. Such a connection never works again.
    Blackhole,
    /// Every chunk of bytes waits for this time.
    Delay(Duration),
}

/// A proxy before one server, on a port of its own. It runs on its own threads, so a blocked runtime of the test does
/// not stop it.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    target: Mutex<SocketAddr>,
    mode: Mutex<Mode>,
    open: Mutex<Vec<Pair>>,
    closed: AtomicBool,
}

/// Both sides of a connection. It is dead once bytes of it were dropped.
#[derive(Debug)]
struct Pair {
    client: TcpStream,
    server: TcpStream,
    dead: Arc<AtomicBool>,
}

impl Proxy {
    /// Starts a proxy before `target`.
    ///
    /// # Panics
    /// If no port is free.
    pub fn before(target: SocketAddr) -> Proxy {
        Proxy::under(Ipv4Addr::LOCALHOST, target)
    }

    /// Starts a proxy on another address of this machine. The server's certificate does not contain that address.
    ///
    /// # Panics
    /// If `name` is not an address of this machine. On Linux every address in 127.0.0.0/8 is.
    pub fn under(name: Ipv4Addr, target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((name, 0)).expect("an address of this machine");
        let address = listener.local_addr().expect("an address");
        let state = State {
            target: Mutex::new(target),
            mode: Mutex::new(Mode::Forward),
            open: Mutex::default(),
            closed: AtomicBool::new(false),
        };
        let state = Arc::new(state);
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.closed.load(Ordering::SeqCst) {
                    return;
                }
                accepting.accept(client);
            }
        });
        Proxy { address, state }
    }

    /// Returns the address it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the port it listens on.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Closes every connection, and each new one, until it is [healed](Self::heal).
    pub fn cut(&self) {
        self.state.set(Mode::Cut);
        self.close_open();
    }

    /// Closes every open connection. New ones fare as they did.
    pub fn close_open(&self) {
        for pair in self.state.open().drain(..) {
            pair.close();
        }
    }

    /// Drops all bytes in both directions. New connections are accepted and get no answer. Connections of this time
    /// never work again after [`heal`](Self::heal), like those that a firewall has forgotten.
    pub fn blackhole(&self) {
        self.state.set(Mode::Blackhole);
        for pair in self.state.open().iter() {
            pair.dead.store(true, Ordering::SeqCst);
        }
    }

    /// Sends new connections to another server, as when an address changes its owner. Open connections stay with the
    /// old server until they are [cut](Self::cut).
    pub fn lead_to(&self, target: SocketAddr) {
        *self.state.target.lock().expect("no thread has panicked") = target;
    }

    /// Delays every chunk of bytes by `delay`, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.state.set(Mode::Delay(delay));
    }

    /// Forwards everything again.
    pub fn heal(&self) {
        self.state.set(Mode::Forward);
    }

    /// Returns the number of open connections, dead ones included.
    pub fn connections(&self) -> usize {
        self.state.open().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.closed.store(true, Ordering::SeqCst);
        self.cut();
        // A connection wakes the accepting thread, so that it sees the flag.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn set(&self, mode: Mode) {
        *self.mode.lock().expect("no thread has panicked") = mode;
    }

    fn mode(&self) -> Mode {
        *self.mode.lock().expect("no thread has panicked")
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Vec<Pair>> {
        self.open.lock().expect("no thread has panicked")
    }

    fn accept(self: &Arc<Self>, client: TcpStream) {
        if self.mode() == Mode::Cut {
            return;
        }
        let target = *self.target.lock().expect("no thread has panicked");
        let Ok(server) = TcpStream::connect(target) else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let dead = Arc::new(AtomicBool::new(self.mode() == Mode::Blackhole));
        let twin = |stream: &TcpStream| stream.try_clone().expect("a handle");
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (state, from, to, dead) = (Arc::clone(self), twin(from), twin(to), Arc::clone(&dead));
            thread::spawn(move || state.forward(from, to, &dead));
        }
        let mut open = self.open();
        open.push(Pair { client, server, dead });
        // The proxy may have been cut since the check above.
        if self.mode() == Mode::Cut {
            open.drain(..).for_each(|pair| pair.close());
        }
    }

    fn forward(&self, mut from: TcpStream, mut to: TcpStream, dead: &Arc<AtomicBool>) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if let Mode::Delay(delay) = self.mode() {
                thread::sleep(delay);
            }
            if !dead.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).is_err() {
                break;
            }
        }
        let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
        self.open().retain(|pair| !Arc::ptr_eq(&pair.dead, dead));
    }
}

impl Pair {
    fn close(&self) {
        let _ = (self.client.shutdown(Shutdown::Both), self.server.shutdown(Shutdown::Both));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Starts a server that sends every byte back.
    fn echo() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for mut stream in listener.incoming().flatten() {
                thread::spawn(move || std::io::copy(&mut stream.try_clone().unwrap(), &mut stream));
            }
        });
        address
    }

    fn client(proxy: &Proxy) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream
    }

    fn echoes(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 2];
        stream.write_all(b"hi").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"hi"
    }

    #[test]
    fn cut_connections_end_and_later_ones_work_after_heal() {
        let proxy = Proxy::before(echo());
        let mut before = client(&proxy);
        assert!(echoes(&mut before));
        proxy.cut();
        assert!(!echoes(&mut before) && !echoes(&mut client(&proxy)));
        proxy.heal();
        assert!(!echoes(&mut before));
        assert!(echoes(&mut client(&proxy)));
    }

    #[test]
    fn new_connections_go_to_the_new_target() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::before(echo());
        let mut before = client(&proxy);
        assert!(echoes(&mut before));
        proxy.lead_to(silent.local_addr().unwrap());
        assert!(echoes(&mut before) && !echoes(&mut client(&proxy)));
        proxy.cut();
        assert!(!echoes(&mut before));
    }

    #[test]
    fn a_blackholed_connection_never_works_again() {
        let proxy = Proxy::before(echo());
        let (mut before, mut idle) = (client(&proxy), client(&proxy));
        assert!(echoes(&mut before) && echoes(&mut idle));
        proxy.blackhole();
        let mut meanwhile = client(&proxy);
        assert!(!echoes(&mut before) && !echoes(&mut meanwhile));
        proxy.heal();
        assert!(!echoes(&mut before) && !echoes(&mut meanwhile) && !echoes(&mut idle));
        assert!(echoes(&mut client(&proxy)));
    }
}
