//! The log: JSON for collectors, or lines for a person.
//!
//! Owns the format and what of a client's address may appear. Must never let a log line carry a
//! name, a path with its query, a token or a panic's message.

use std::{net::IpAddr, net::SocketAddr};

use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, fmt::format::FmtSpan};

/// What of a client's address the request line shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ClientAddress {
    /// Nothing.
    #[default]
    None,
    /// The network: /24 of IPv4, /48 of IPv6.
    Network,
}

impl ClientAddress {
    pub(crate) fn show(self, address: SocketAddr) -> Option<String> {
        match (self, address.ip().to_canonical()) {
            (Self::None, _) => None,
            (Self::Network, IpAddr::V4(address)) => {
                let [a, b, c, _] = address.octets();
                Some(format!("{a}.{b}.{c}.0/24"))
            }
            (Self::Network, IpAddr::V6(address)) => {
                let [a, b, c, ..] = address.segments();
                Some(format!("{a:x}:{b:x}:{c:x}::/48"))
            }
        }
    }
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// For a terminal.
    Text,
}

/// Starts logging to standard error. `filter` is in the syntax of `RUST_LOG`.
pub(crate) fn start(format: LogFormat, filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(filter)?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    let started = match format {
        LogFormat::Json => {
            lines.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
        LogFormat::Text => lines.with_ansi(false).try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error))?;
    std::panic::set_hook(Box::new(|panic| {
        // Only the place: the message may hold whatever the code had in hand.
        let place = panic.location().map(ToString::to_string);
        tracing::error!(place, thread = std::thread::current().name(), "panic");
    }));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_its_network_or_not_at_all() {
        let show = |address: &str| {
            let address = SocketAddr::new(address.parse().expect("an address"), 1);
            (ClientAddress::None.show(address), ClientAddress::Network.show(address))
        };
        assert_eq!(show("192.0.2.77"), (None, Some("192.0.2.0/24".to_owned())));
        assert_eq!(show("::ffff:192.0.2.77"), (None, Some("192.0.2.0/24".to_owned())));
        assert_eq!(show("2001:db8:1:2::3"), (None, Some("2001:db8:1::/48".to_owned())));
    }
}
