//! UDP sockets with batch receive and send, and ICMP errors through the error queue.

use super::transport::{Inbox, Transport, BATCH};
use crate::sip::stack::output::{Output, Packet};
use std::io;
use std::mem::{size_of, zeroed};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

#[derive(Debug)]
pub struct Udp {
    socket: UdpSocket,
    local: SocketAddr,
}

impl Udp {
    /// Opens and binds. `receive_buffer`: SO_RCVBUF wanted, in bytes.
    pub fn bind(address: SocketAddr, receive_buffer: usize) -> io::Result<Self> {
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: no memory arguments.
        let fd = unsafe { libc::socket(family, kind, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just opened, owned by nobody else.
        let socket = unsafe { UdpSocket::from_raw_fd(fd) };
        // No SO_REUSEADDR: a second program on the port must be refused, not share it silently.
        if address.is_ipv4() {
            option(fd, libc::IPPROTO_IP, libc::IP_RECVERR, 1)?;
        } else {
            option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVERR, 1)?;
            option(fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        }
        let bytes = i32::try_from(receive_buffer).unwrap_or(i32::MAX);
        option(fd, libc::SOL_SOCKET, libc::SO_RCVBUF, bytes)?;
        option(fd, libc::SOL_SOCKET, libc::SO_SNDBUF, bytes)?;
        let (raw, length) = raw_address(address);
        // SAFETY: `raw` is a valid address of `length` bytes.
        if unsafe { libc::bind(fd, (&raw as *const libc::sockaddr_storage).cast(), length) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let local = socket.local_addr()?;
        Ok(Self { socket, local })
    }

    fn fd_raw(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

fn option(fd: RawFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let size = size_of::<i32>() as libc::socklen_t;
    // SAFETY: `value` lives through the call and is of the given size.
    let result = unsafe { libc::setsockopt(fd, level, name, (&value as *const i32).cast(), size) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn raw_address(address: SocketAddr) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all-zero is a valid sockaddr_storage.
    let mut raw: libc::sockaddr_storage = unsafe { zeroed() };
    match address {
        SocketAddr::V4(v4) => {
            // SAFETY: sockaddr_storage is large and aligned enough for every address type.
            let inner =
                unsafe { &mut *(&mut raw as *mut libc::sockaddr_storage).cast::<libc::sockaddr_in>() };
            inner.sin_family = libc::AF_INET as libc::sa_family_t;
            inner.sin_port = v4.port().to_be();
            inner.sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            (raw, size_of::<libc::sockaddr_in>() as libc::socklen_t)
        }
        SocketAddr::V6(v6) => {
            // SAFETY: as above.
            let inner =
                unsafe { &mut *(&mut raw as *mut libc::sockaddr_storage).cast::<libc::sockaddr_in6>() };
            inner.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            inner.sin6_port = v6.port().to_be();
            inner.sin6_addr.s6_addr = v6.ip().octets();
            inner.sin6_scope_id = v6.scope_id();
            (raw, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

fn read_address(raw: &libc::sockaddr_storage) -> Option<SocketAddr> {
    match i32::from(raw.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is a sockaddr_in.
            let inner = unsafe { &*(raw as *const libc::sockaddr_storage).cast::<libc::sockaddr_in>() };
            let ip = IpAddr::from(inner.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddr::new(ip, u16::from_be(inner.sin_port)))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is a sockaddr_in6.
            let inner = unsafe { &*(raw as *const libc::sockaddr_storage).cast::<libc::sockaddr_in6>() };
            let ip = std::net::Ipv6Addr::from(inner.sin6_addr.s6_addr);
            let v6 = std::net::SocketAddrV6::new(ip, u16::from_be(inner.sin6_port), 0, inner.sin6_scope_id);
            Some(SocketAddr::V6(v6))
        }
        _ => None,
    }
}

impl Transport for Udp {
    fn fd(&self) -> RawFd {
        self.fd_raw()
    }

    fn local(&self) -> SocketAddr {
        self.local
    }

    fn receive(&self, inbox: &mut Inbox) -> io::Result<()> {
        inbox.datagrams.clear();
        // SAFETY: all-zero is valid for these C structures.
        let mut addresses: [libc::sockaddr_storage; BATCH] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
        // SAFETY: as above.
        let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
        for i in 0..BATCH {
            let slot = inbox.slot(i);
            vectors[i] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
            headers[i].msg_hdr.msg_name = (&mut addresses[i] as *mut libc::sockaddr_storage).cast();
            headers[i].msg_hdr.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            headers[i].msg_hdr.msg_iov = &mut vectors[i];
            headers[i].msg_hdr.msg_iovlen = 1;
        }
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: headers point at live addresses, vectors and buffers.
        let count = unsafe {
            libc::recvmmsg(
                self.fd_raw(),
                headers.as_mut_ptr(),
                BATCH as u32,
                flags as _,
                std::ptr::null_mut(),
            )
        };
        if count < 0 {
            return Err(io::Error::last_os_error());
        }
        for i in 0..count as usize {
            // A source that is no IP address cannot come from these sockets; keep the places in step all the same.
            let source = read_address(&addresses[i]).unwrap_or(self.local);
            inbox.datagrams.push((headers[i].msg_len as usize, source));
        }
        Ok(())
    }

    fn send(&self, output: &Output, packets: &[Packet], failed: &mut dyn FnMut(usize, io::Error)) {
        let mut done = 0;
        let mut retried = false;
        while done < packets.len() {
            let chunk = &packets[done..packets.len().min(done + BATCH)];
            let (sent, error) = send_chunk(self.fd_raw(), output, chunk);
            done += sent;
            let Some(error) = error else {
                retried = false;
                continue;
            };
            // An ICMP error of an earlier packet is reported by whatever call comes next; ours did not leave.
            if !retried && error.kind() != io::ErrorKind::WouldBlock {
                retried = true;
                continue;
            }
            failed(done, error);
            done += 1;
            retried = false;
        }
    }

    fn take_error(&self, quoted: &mut Vec<u8>) -> bool {
        quoted.resize(2_048, 0);
        let mut vector = libc::iovec { iov_base: quoted.as_mut_ptr().cast(), iov_len: quoted.len() };
        let mut control = [0u64; 64];
        // SAFETY: all-zero is a valid msghdr.
        let mut header: libc::msghdr = unsafe { zeroed() };
        header.msg_iov = &mut vector;
        header.msg_iovlen = 1;
        header.msg_control = control.as_mut_ptr().cast();
        header.msg_controllen = size_of::<[u64; 64]>() as _;
        let flags = libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT;
        // SAFETY: header points at live buffers.
        let length = unsafe { libc::recvmsg(self.fd_raw(), &mut header, flags) };
        quoted.truncate(usize::try_from(length).unwrap_or(0));
        length >= 0
    }
}

/// (how many left, error of the next one).
fn send_chunk(fd: RawFd, output: &Output, packets: &[Packet]) -> (usize, Option<io::Error>) {
    if let [packet] = packets {
        let data = output.data(packet);
        let (raw, length) = raw_address(packet.destination);
        let address = (&raw as *const libc::sockaddr_storage).cast();
        // SAFETY: data and address live through the call.
        let sent = unsafe {
            libc::sendto(fd, data.as_ptr().cast(), data.len(), libc::MSG_DONTWAIT, address, length)
        };
        return if sent < 0 { (0, Some(io::Error::last_os_error())) } else { (1, None) };
    }
    // SAFETY: all-zero is valid for these C structures.
    let mut addresses: [libc::sockaddr_storage; BATCH] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut vectors: [libc::iovec; BATCH] = unsafe { zeroed() };
    // SAFETY: as above.
    let mut headers: [libc::mmsghdr; BATCH] = unsafe { zeroed() };
    for (i, packet) in packets.iter().enumerate() {
        let data = output.data(packet);
        let (raw, length) = raw_address(packet.destination);
        addresses[i] = raw;
        vectors[i] = libc::iovec { iov_base: data.as_ptr() as *mut _, iov_len: data.len() };
        headers[i].msg_hdr.msg_name = (&mut addresses[i] as *mut libc::sockaddr_storage).cast();
        headers[i].msg_hdr.msg_namelen = length;
        headers[i].msg_hdr.msg_iov = &mut vectors[i];
        headers[i].msg_hdr.msg_iovlen = 1;
    }
    // SAFETY: headers point at live addresses, vectors and buffers.
    let sent =
        unsafe { libc::sendmmsg(fd, headers.as_mut_ptr(), packets.len() as u32, libc::MSG_DONTWAIT as _) };
    if sent < 0 {
        return (0, Some(io::Error::last_os_error()));
    }
    (sent as usize, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_goes_out_and_comes_in() {
        let a = Udp::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let b = Udp::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let mut output = Output::default();
        for i in 0..40u8 {
            output.push(&[i; 100], b.local(), 0);
        }
        a.send(&output, &output.packets, &mut |_, error| panic!("{error}"));
        let mut inbox = Inbox::new();
        b.receive(&mut inbox).unwrap();
        assert_eq!(inbox.datagrams.len(), BATCH);
        assert_eq!(inbox.datagram(31), (&[31u8; 100][..], a.local()));
        b.receive(&mut inbox).unwrap();
        assert_eq!(inbox.datagrams.len(), 8);
    }

    #[test]
    fn icmp_quotes_the_packet() {
        let a = Udp::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        let gone = Udp::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap().local();
        let mut output = Output::default();
        output.push(b"OPTIONS sip:x SIP/2.0", gone, 0);
        a.send(&output, &output.packets, &mut |_, error| panic!("{error}"));
        let mut quoted = Vec::new();
        assert!(a.take_error(&mut quoted));
        assert_eq!(quoted, b"OPTIONS sip:x SIP/2.0");
        assert!(!a.take_error(&mut quoted));
    }

    #[test]
    fn a_taken_port_is_refused() {
        let a = Udp::bind("127.0.0.1:0".parse().unwrap(), 1 << 20).unwrap();
        assert!(Udp::bind(a.local(), 1 << 20).is_err());
    }
}
