//! A controller's end of a pull: another's map over a session.

use super::exchange::Exchange;
use super::fetch::{out_of_place, receive};
use crate::install::FetchError;
use crate::repo::entry::Entry;
use crate::store::{MapHead, MapSource};
use crate::wire::frame::Frame;

impl MapSource for Exchange {
    fn head(&mut self) -> Result<MapHead, FetchError> {
        self.send(&Frame::MapReq).map_err(FetchError::Session)?;
        match receive(self)? {
            Frame::MapHead { hostname, floor } => Ok(MapHead { hostname, floor }),
            _ => Err(out_of_place()),
        }
    }

    fn entry(&mut self) -> Result<Option<Entry>, FetchError> {
        match receive(self)? {
            Frame::MapEntry(entry) => Ok(Some(entry)),
            Frame::End => Ok(None),
            _ => Err(out_of_place()),
        }
    }
}
