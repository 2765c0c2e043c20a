//! Free ports that no other lab takes: outside the kernel's ephemeral range and the node ports, held by a file lock as long as the lab lives.
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::net::{TcpListener, UdpSocket};

use crate::error::{Act, Error, Result};

/// The kernel gives outgoing connections ports from 32768, Kubernetes gives node ports from 30000: ours lie below both.
const FIRST: u16 = 20_000;
const COUNT: u16 = 9_900;

/// A port that is ours until this value is dropped.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// Finds a port that nothing listens on and no other lab holds.
    pub fn free() -> Result<Self> {
        let dir = std::env::temp_dir().join(format!("nave-ports-{}", nix::unistd::getuid()));
        fs::create_dir_all(&dir).act(|| "make the directory of port locks")?;
        let start = u16::try_from(RandomState::new().hash_one(0) % u64::from(COUNT)).unwrap_or(0);
        for step in 0..COUNT {
            let number = FIRST + (start + step) % COUNT;
            let lock = File::create(dir.join(number.to_string())).act(|| format!("open the lock of port {number}"))?;
            if lock.try_lock().is_ok() && is_unbound(number) {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(Error::new("find a free port: all are taken"))
    }

    /// Its number.
    pub fn number(&self) -> u16 {
        self.number
    }
}

fn is_unbound(number: u16) -> bool {
    TcpListener::bind(("0.0.0.0", number)).is_ok() && UdpSocket::bind(("0.0.0.0", number)).is_ok()
}
