//! Addresses of backends. Knows which nobody may reach unasked; knows no tenant.

use std::net::IpAddr;

use nave_manager_core::fuzz::backend;

/// What is let through is an address that the tenant may reach however it is written, and never one of the hub's own.
pub fn hold(input: &[u8]) {
    let Some(text) = super::text(input) else { return };
    let Some(address) = backend(text) else { return };
    assert_eq!(backend(&address.to_string()), Some(address), "{text:?} is let through, {address} is not");
    assert!(!address.is_loopback() && !address.is_unspecified() && !address.is_multicast(), "{text:?} is let through");
    assert_eq!(address.to_canonical(), address, "{text:?} wraps an IPv4 address");
    if let IpAddr::V4(v4) = address {
        assert!(!v4.is_private() && !v4.is_link_local() && !v4.is_broadcast(), "{text:?} is let through");
    }
}
