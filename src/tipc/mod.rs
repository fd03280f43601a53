//! The TIPC transport: service ranges, multicast to them, SOCK_STREAM sessions, and the
//! topology service that tells who is there.
