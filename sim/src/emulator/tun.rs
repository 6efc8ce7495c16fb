//! The emulator between two network namespaces: a TUN device in each, IP packets carried between them.
//!
//! Programs in the namespaces see an ordinary point-to-point interface and need not know. Multicast crosses
//! too, so that nodes find each other as on a LAN. The devices belong to this process: the kernel removes them
//! when it ends, however it ends.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::OpenOptionsExt as _,
    },
};

use bandmesh::device::monotonic_ns;

use crate::emulator::{
    drive::{BATCH, Carrier, Received},
    line::{Departure, Way},
    namespace::Namespace,
};

/// Longest name of a network device.
const NAME_BYTES: usize = 15;
/// The largest IP packet.
const LARGEST: usize = 65_535;

/// One end of the link.
#[derive(Clone, Debug)]
pub struct End {
    /// Where the device is made.
    pub namespace: Namespace,
    /// Its addresses with their prefix lengths, as `ip addr add` takes them.
    pub addresses: Vec<String>,
}

/// Two TUN devices.
#[derive(Debug)]
pub struct TunSides {
    devices: [File; 2],
}

/// As the kernel reads it (`struct ifreq` of `linux/if.h`): a name and, for TUNSETIFF, flags.
#[repr(C)]
struct TunRequest {
    name: [u8; NAME_BYTES + 1],
    flags: libc::c_short,
    rest: [u8; 22],
}

impl TunSides {
    /// Makes a device called `name` with this MTU in both namespaces, and brings them up.
    pub fn open(a: &End, b: &End, name: &str, mtu: u32) -> io::Result<Self> {
        Ok(Self { devices: [open_end(a, name, mtu)?, open_end(b, name, mtu)?] })
    }
}

impl Carrier for TunSides {
    type To = ();

    fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        self.devices.iter().map(File::as_fd).collect()
    }

    fn receive(&mut self, ready: &[usize], take: &mut dyn FnMut(Received<()>)) -> io::Result<()> {
        let mut bytes = vec![0; LARGEST];
        for &index in ready {
            let Some(device) = self.devices.get_mut(index) else { continue };
            let way = if index == 0 { Way::AToB } else { Way::BToA };
            for _ in 0..BATCH {
                match device.read(&mut bytes) {
                    Ok(length) => {
                        let bytes = bytes.get(..length).unwrap_or_default().to_vec();
                        take(Received { way, arrived_ns: monotonic_ns(), octets: length, to: (), bytes });
                    }
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    // Somebody set the device down, or deleted its namespace: nothing comes from there.
                    Err(e) if e.raw_os_error() == Some(libc::EIO) => break,
                    Err(e) => return Err(gone(e)),
                }
            }
        }
        Ok(())
    }

    fn send(&mut self, departure: &Departure<()>) -> bool {
        let [a, b] = &mut self.devices;
        let device = match departure.way {
            Way::AToB => b,
            Way::BToA => a,
        };
        match device.write(&departure.bytes) {
            Ok(written) => written == departure.bytes.len(),
            // A bit was flipped where it says which version of IP it is; any receiver would discard it too.
            Err(e) => e.raw_os_error() == Some(libc::EINVAL),
        }
    }
}

fn gone(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::EBADFD) {
        return io::Error::new(error.kind(), "a namespace of the link was removed");
    }
    error
}

fn open_end(end: &End, name: &str, mtu: u32) -> io::Result<File> {
    end.namespace.enter(|| {
        let device = create(name)?;
        // Addresses are usable at once, and the kernel adds none of its own that would talk by itself.
        let mut lines = format!("link set {name} mtu {mtu} addrgenmode none\n");
        for address in &end.addresses {
            let no_dad = if address.contains(':') { " nodad" } else { "" };
            lines += &format!("addr add {address} dev {name}{no_dad}\n");
        }
        lines += &format!("link set {name} up\n");
        if !end.addresses.iter().any(|address| address.contains(':')) {
            // Otherwise the kernel's multicast reports would be packets of the line, and shift the luck of all others.
            match end.namespace.sysctl(&format!("ipv6/conf/{name}/disable_ipv6"), "1") {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        end.namespace.ip(&lines)?;
        Ok(device)
    })
}

/// Makes a TUN device in the namespace of the calling thread. It lives as long as the file is open.
fn create(name: &str) -> io::Result<File> {
    if name.is_empty() || name.len() > NAME_BYTES || name.contains(['/', ' ']) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{name:?} cannot name a network device: 1 to {NAME_BYTES} bytes, no slash, no space"),
        ));
    }
    let file = OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun");
    let file = file.map_err(|e| explained(e, "/dev/net/tun"))?;
    let mut request = TunRequest {
        name: [0; NAME_BYTES + 1],
        flags: (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_TUN_EXCL) as libc::c_short,
        rest: [0; 22],
    };
    for (to, from) in request.name.iter_mut().zip(name.bytes()) {
        *to = from;
    }
    #[allow(unsafe_code, reason = "a TUN device is made by an ioctl")]
    // SAFETY: `request` has the size and layout of the kernel's `struct ifreq` and outlives the call; the kernel
    // writes the device's name back into it and keeps no pointer.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    if made < 0 {
        return Err(explained(io::Error::last_os_error(), name));
    }
    Ok(file)
}

fn explained(error: io::Error, what: &str) -> io::Error {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "the kernel has no TUN device; `modprobe tun` may load it",
        io::ErrorKind::PermissionDenied => "run this as root, or in `unshare --map-root-user --net`",
        io::ErrorKind::ResourceBusy => "a device of this name exists; give another by --device",
        _ => "no TUN device can be made",
    };
    io::Error::new(error.kind(), format!("{what}: {error}; {advice}"))
}
