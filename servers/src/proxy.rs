//! A TCP proxy that does to a connection what networks do: cut it, swallow what goes through, delay it.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// What happens to what goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Weather {
    Fine,
    /// Connections end at once, new ones too.
    Cut,
    /// Connections stay and carry nothing; what is sent is lost for ever, and so is the connection.
    Blackhole,
    /// Every piece waits.
    Delay(Duration),
}

/// A proxy before one server, on a port of its own. It has threads of its own, and so stands still with no runtime of the test.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    target: Mutex<SocketAddr>,
    weather: Mutex<Weather>,
    open: Mutex<Vec<Pair>>,
    over: AtomicBool,
}

/// Both sides of a connection; dead once it has carried something into the void.
#[derive(Debug)]
struct Pair {
    client: TcpStream,
    server: TcpStream,
    dead: Arc<AtomicBool>,
}

impl Proxy {
    /// A proxy before `target`.
    ///
    /// # Panics
    /// If there is no port for it.
    pub fn before(target: SocketAddr) -> Proxy {
        Proxy::under(Ipv4Addr::LOCALHOST, target)
    }

    /// A proxy on another address of this machine: the server behind `target` under a name that its certificate does not have.
    ///
    /// # Panics
    /// If `name` is no address of this machine; on Linux each of 127.0.0.0/8 is.
    pub fn under(name: Ipv4Addr, target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind((name, 0)).expect("an address of this machine");
        let address = listener.local_addr().expect("an address");
        let state = State {
            target: Mutex::new(target),
            weather: Mutex::new(Weather::Fine),
            open: Mutex::default(),
            over: AtomicBool::new(false),
        };
        let state = Arc::new(state);
        let accepting = Arc::clone(&state);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if accepting.over.load(Ordering::SeqCst) {
                    return;
                }
                accepting.accept(client);
            }
        });
        Proxy { address, state }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends every connection and every new one, until it is [healed](Self::heal).
    pub fn cut(&self) {
        self.state.turn(Weather::Cut);
        for pair in self.state.open().drain(..) {
            pair.end();
        }
    }

    /// Swallows what is sent, both ways. New connections are taken and get no answer either. Those that were there meanwhile stay
    /// dead when it is [healed](Self::heal), as they are behind a firewall that has forgotten them.
    pub fn blackhole(&self) {
        self.state.turn(Weather::Blackhole);
        for pair in self.state.open().iter() {
            pair.dead.store(true, Ordering::SeqCst);
        }
    }

    /// Leads new connections to another server, as an address does that now belongs to another. Those that are open stay where they are
    /// until they are [cut](Self::cut).
    pub fn lead_to(&self, target: SocketAddr) {
        *self.state.target.lock().expect("nobody has panicked") = target;
    }

    /// Holds every piece back for `delay`, both ways.
    pub fn delay(&self, delay: Duration) {
        self.state.turn(Weather::Delay(delay));
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.state.turn(Weather::Fine);
    }

    /// How many connections there are now, dead ones too.
    pub fn connections(&self) -> usize {
        self.state.open().len()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.state.over.store(true, Ordering::SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl State {
    fn turn(&self, weather: Weather) {
        *self.weather.lock().expect("nobody has panicked") = weather;
    }

    fn weather(&self) -> Weather {
        *self.weather.lock().expect("nobody has panicked")
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Vec<Pair>> {
        self.open.lock().expect("nobody has panicked")
    }

    fn accept(self: &Arc<Self>, client: TcpStream) {
        if self.weather() == Weather::Cut {
            return;
        }
        let target = *self.target.lock().expect("nobody has panicked");
        let Ok(server) = TcpStream::connect(target) else { return };
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let dead = Arc::new(AtomicBool::new(self.weather() == Weather::Blackhole));
        let twin = |stream: &TcpStream| stream.try_clone().expect("a handle");
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (state, from, to, dead) = (Arc::clone(self), twin(from), twin(to), Arc::clone(&dead));
            thread::spawn(move || state.carry(from, to, &dead));
        }
        let mut open = self.open();
        open.push(Pair { client, server, dead });
        // It may have been cut meanwhile.
        if self.weather() == Weather::Cut {
            open.drain(..).for_each(|pair| pair.end());
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream, dead: &Arc<AtomicBool>) {
        let mut buffer = [0; 16 * 1024];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            if let Weather::Delay(delay) = self.weather() {
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
    fn end(&self) {
        let _ = (self.client.shutdown(Shutdown::Both), self.server.shutdown(Shutdown::Both));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says everything back.
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

    fn says_back(stream: &mut TcpStream) -> bool {
        let mut answer = [0; 2];
        stream.write_all(b"hi").is_ok() && stream.read_exact(&mut answer).is_ok() && &answer == b"hi"
    }

    #[test]
    fn what_is_cut_is_over_and_what_comes_later_is_let_through() {
        let proxy = Proxy::before(echo());
        let mut before = client(&proxy);
        assert!(says_back(&mut before));
        proxy.cut();
        assert!(!says_back(&mut before) && !says_back(&mut client(&proxy)));
        proxy.heal();
        assert!(!says_back(&mut before));
        assert!(says_back(&mut client(&proxy)));
    }

    #[test]
    fn another_server_behind_the_address_gets_the_new_connections() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = Proxy::before(echo());
        let mut before = client(&proxy);
        assert!(says_back(&mut before));
        proxy.lead_to(silent.local_addr().unwrap());
        assert!(says_back(&mut before) && !says_back(&mut client(&proxy)));
        proxy.cut();
        assert!(!says_back(&mut before));
    }

    #[test]
    fn a_connection_that_fell_into_the_black_hole_stays_there() {
        let proxy = Proxy::before(echo());
        let (mut before, mut idle) = (client(&proxy), client(&proxy));
        assert!(says_back(&mut before) && says_back(&mut idle));
        proxy.blackhole();
        let mut meanwhile = client(&proxy);
        assert!(!says_back(&mut before) && !says_back(&mut meanwhile));
        proxy.heal();
        assert!(!says_back(&mut before) && !says_back(&mut meanwhile) && !says_back(&mut idle));
        assert!(says_back(&mut client(&proxy)));
    }
}
