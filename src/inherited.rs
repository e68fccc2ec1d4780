//! Inherited from whoever started the process: secrets in its environment, and sockets of a service manager.
//!
//! The only file with unsafe code: the standard library leaves both to the caller's word that nobody else uses them.

use std::env;
use std::ffi::{CString, OsStr};
use std::io;
use std::net::TcpListener;
use std::os::fd::{FromRawFd, RawFd};
use std::ptr;

use rustix::net::sockopt::socket_acceptconn;

/// Listening sockets that a service manager bound (sd_listen_fds(3)).
#[derive(Debug, Default)]
pub struct Sockets {
    pub listen: Option<TcpListener>,
    pub admin: Option<TcpListener>,
}

/// Takes the sockets; call it once. One that is named `admin` (`FileDescriptorName=`) is for `admin.address`, another one
/// for `listen.address`.
pub(crate) fn sockets() -> io::Result<Sockets> {
    let (mut sockets, named) = (Sockets::default(), sd_notify::listen_fds_with_names()?);
    for (descriptor, name) in named {
        let place = match &mut sockets {
            Sockets { admin: admin @ None, .. } if name == ADMIN => admin,
            Sockets { listen: listen @ None, .. } if name != ADMIN => listen,
            _ => return Err(io::Error::other(TOO_MANY)),
        };
        *place = Some(take_socket(descriptor)?);
    }
    Ok(sockets)
}

fn take_socket(descriptor: RawFd) -> io::Result<TcpListener> {
    // SAFETY: the service manager handed the descriptor over to this process, and nothing else here takes it.
    #[allow(unsafe_code, reason = "a descriptor by its number has no owner yet")]
    let socket = unsafe { TcpListener::from_raw_fd(descriptor) };
    if !socket_acceptconn(&socket)? {
        return Err(io::Error::other(format!("descriptor {descriptor} is no listening socket")));
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Overwrites the values of these variables in the environment that the kernel shows as `/proc/PID/environ`, and removes
/// them. Call it before the first thread.
pub(crate) fn wipe_variables<'a>(names: impl IntoIterator<Item = &'a str>) {
    for name in names {
        let Ok(c_name) = CString::new(name) else { continue };
        // SAFETY: no other thread runs yet that could read or change the environment. `getenv` returns either null or the
        // value within the writable block that the kernel made, of which `strlen` bytes are the value.
        #[allow(unsafe_code, reason = "no safe function reaches the block that the kernel shows")]
        unsafe {
            let value = libc::getenv(c_name.as_ptr());
            if !value.is_null() {
                ptr::write_bytes(value, 0, libc::strlen(value));
                env::remove_var(name);
            }
        }
    }
}

/// Sets a variable that a library reads, unless whoever started the process did. Call it before the first thread.
pub(crate) fn set_variable_if_missing(name: &str, value: &OsStr) {
    if env::var_os(name).is_none() {
        // SAFETY: no other thread runs yet that could read or change the environment.
        #[allow(unsafe_code, reason = "the standard library can't know that there is one thread")]
        unsafe {
            env::set_var(name, value);
        }
    }
}

const TOO_MANY: &str = "there is more than one for `listen.address` or for `admin.address`; \
                        the latter's is named by FileDescriptorName=admin";
/// The name of the socket for `admin.address`.
const ADMIN: &str = "admin";
