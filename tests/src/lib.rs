//! The end-to-end harness: the real `pli` binary with a real PKI, on SQLite and a folder or on PostgreSQL and
//! S3, killed, cut off and started again; a thin HTTP client; a proxy that breaks connections.
//!
//! Owns how a test gets a gateway and speaks to it. Must never reach into Pli's code: what a test proves here
//! holds for the program as it is shipped. Nothing here waits for a fixed time: a wait has an event and a bound.
//!
//! | module | owns |
//! | --- | --- |
//! | `site` | one installation: folder, certificates, keys, database, store, accounts |
//! | `gateway` | one run of `pli serve`: start, readiness, `kill -9`, graceful stop |
//! | `api` | the HTTP API as a client sees it |
//! | `proxy` | faults between two parties of a TCP connection |
//! | `exchange` | one deposit under way: uploads that are fed, cut, resumed, and read back |
//! | `inspect` | the rows of the database, the findings of `pli check` |
//! | `content` | large contents that need no memory, and their digests |

pub mod api;
pub mod content;
pub mod exchange;
pub mod gateway;
pub mod inspect;
pub mod proxy;
pub mod site;

pub use api::{Answer, Api};
pub use exchange::{Exchange, Upload, until};
pub use gateway::Gateway;
pub use inspect::Findings;
pub use proxy::Proxy;
pub use site::{Backend, Member, Site, SiteOptions};
