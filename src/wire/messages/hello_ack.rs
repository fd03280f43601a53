//! 2, `HelloAck`: a controller has heard another.

use serde::{Deserialize, Serialize};

/// Controller to one controller, in answer to its `Hello`. A receiver records the neighbour and
/// the time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloAck {}
