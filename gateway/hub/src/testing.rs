//! What the hub's tests stand on: a hub with a database, a store, people and a clock of its own.
