//! The pulling end of a session: reads another controller's map.

use super::exchange::Exchange;
use super::fetch::{receive, unexpected_frame};
use crate::job::FetchError;
use crate::store::{MapHead, MapPart, MapSource};
use crate::wire::frame::Frame;

impl MapSource for Exchange {
    fn head(&mut self) -> Result<MapHead, FetchError> {
        self.request(Frame::MapReq).map_err(FetchError::Session)?;
        match receive(self)? {
            Frame::MapHead { hostname, floor } if !hostname.is_empty() => Ok(MapHead { hostname, floor }),
            _ => Err(unexpected_frame()),
        }
    }

    fn next(&mut self) -> Result<Option<MapPart>, FetchError> {
        match receive(self)? {
            Frame::MapEntry(entry) => Ok(Some(MapPart::Entry(entry))),
            Frame::MapRollout(rollout) => Ok(Some(MapPart::Rollout(rollout))),
            Frame::End => Ok(None),
            _ => Err(unexpected_frame()),
        }
    }
}
