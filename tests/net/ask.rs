//! Queries a daemon over its control socket, without the command line.

use thimble::cli::client::Client;
use thimble::control::{BlobRow, NeighbourRow, PatchRow, Reply, Request, RolloutRow, StatusRow};
use thimble::repo::entry::EntryState;

use crate::node::Node;

/// All of `status`.
#[derive(Clone, Debug)]
pub struct Status {
    pub row: StatusRow,
    pub neighbours: Vec<NeighbourRow>,
    pub blobs: Vec<BlobRow>,
    pub replaced: Vec<String>,
}

impl Node {
    fn replies(&self, request: &Request) -> Vec<Reply> {
        let mut replies = Vec::new();
        let asked = Client::connect(&self.control_socket()).and_then(|mut client| {
            client.ask(request, |reply| {
                replies.push(reply);
                Ok(())
            })
        });
        asked.unwrap_or_else(|failure| panic!("{}: {}", self.name, failure.message));
        replies
    }

    /// Whether this controller has the files of all patches that it knows. A worker that
    /// merges a map reports an entry first and then that its file is missing, so the count
    /// of missing files is valid only when no worker runs.
    pub fn holds_all_files(&self) -> bool {
        let row = self.status().row;
        row.blobs_missing == 0 && row.workers == 0
    }

    /// The daemon's status.
    pub fn status(&self) -> Status {
        let (mut row, mut neighbours, mut blobs, mut replaced) = (None, Vec::new(), Vec::new(), Vec::new());
        for reply in self.replies(&Request::Status) {
            match reply {
                Reply::Status(status) => row = Some(status),
                Reply::Neighbour(neighbour) => neighbours.push(neighbour),
                Reply::Blob(blob) => blobs.push(blob),
                Reply::Replaced(line) => replaced.push(line.to_string()),
                _ => {}
            }
        }
        Status { row: row.expect("a row of the node"), neighbours, blobs, replaced }
    }

    /// The last rollout that this controller knows.
    pub fn rollout(&self) -> Option<RolloutRow> {
        let rollout = |reply| if let Reply::Rollout(row) = reply { Some(row) } else { None };
        self.replies(&Request::Rollout).into_iter().find_map(rollout)
    }

    /// The patches of the repository, sorted by id.
    pub fn patches(&self) -> Vec<PatchRow> {
        let patch = |reply| if let Reply::Patch(patch) = reply { Some(patch) } else { None };
        self.replies(&Request::Query).into_iter().filter_map(patch).collect()
    }

    /// A patch of the repository.
    pub fn patch(&self, id: &str) -> Option<PatchRow> {
        self.patches().into_iter().find(|patch| patch.id.as_str() == id)
    }

    /// The state of a patch of the repository.
    pub fn state_of(&self, id: &str) -> Option<EntryState> {
        Some(self.patch(id)?.repo_state)
    }
}
