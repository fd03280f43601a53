//! Arguments to one of: daemon, worker, client.

fn main() {}
