//! The server against the real Envoy, with traffic over real connections. Needs Envoy's path in ENVOY.

#[cfg(test)]
#[path = "../support/mod.rs"]
mod support;

#[cfg(test)]
mod changes;
#[cfg(test)]
mod destinations;
#[cfg(test)]
mod edits;
#[cfg(test)]
mod ejection;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod streams;
#[cfg(test)]
mod traffic;
#[cfg(test)]
mod validation;
