//! placeholder while the library compiles
fn main() {}
