//! 2, `HelloAck`: a controller has heard another.

use serde::{Deserialize, Serialize};

/// Controller to controllers, in answer to `Hello`. A receiver notes the
/// neighbour and when it was heard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAck {}
