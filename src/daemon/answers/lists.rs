//! Lists: replies that are continued as a connection takes them, and `status`.

use super::super::control::Doing;
use super::super::event_loop::Daemon;
use super::super::protocol::{BLOB_ROWS, Reply};
use super::super::rows;
use super::words;
use crate::time::Instant;
use crate::types::Text;

impl Daemon<'_> {
    /// Adds the next reply of a list, or its end.
    pub(super) fn continue_list(&mut self, now: Instant, at: usize) {
        let Some(connection) = self.control.get(at) else { return };
        let mut doing = std::mem::take(&mut connection.doing);
        let reply = self.node.controller.as_ref().and_then(|controller| match &mut doing {
            Doing::Patches(after) => {
                let row = rows::next_patch(controller, after.as_ref())?;
                *after = Some(row.id.clone());
                Some(Reply::Patch(row))
            }
            Doing::Hosts(from) => {
                let host = controller.hosts().at(*from)?;
                *from += 1;
                Some(Reply::Host(rows::host(now, controller, host)))
            }
            Doing::NamedHosts(nodes, from) => {
                // One that was dropped meanwhile is left out.
                let host = nodes.iter().skip(*from).find_map(|node| {
                    *from += 1;
                    controller.hosts().get(*node)
                })?;
                Some(Reply::Host(rows::host(now, controller, host)))
            }
            Doing::Nothing
            | Doing::WaitingForStore(_)
            | Doing::WaitingForWorker { .. }
            | Doing::WaitingForOthers { .. } => None,
        });
        match reply {
            Some(reply) => {
                self.control.reply(at, &reply);
                self.set_doing(at, doing);
            }
            None => self.control.end(at),
        }
    }

    /// What the node knows of itself, all at once.
    #[inline(never)]
    pub(super) fn status(&mut self, now: Instant, at: usize) {
        let row = rows::status(now, self);
        self.control.reply(at, &Reply::Status(row));
        self.status_of_controllers(now, at);
        let mut counts = rows::Counts::default();
        rows::counts(self, &mut counts);
        for (name, count) in counts {
            let name = Text::new(name);
            self.control.reply(at, &Reply::Counter { name, count });
        }
    }

    #[inline(never)]
    fn status_of_controllers(&mut self, now: Instant, at: usize) {
        let Self { control, node, replaced, .. } = self;
        let Some(controller) = &node.controller else { return };
        for neighbour in words::by_name(controller.sync().neighbours().iter()) {
            control.reply(at, &Reply::Neighbour(rows::neighbour(now, controller, neighbour)));
        }
        for row in rows::missing_blobs(controller).take(BLOB_ROWS) {
            control.reply(at, &Reply::Blob(row));
        }
        for line in replaced.lines() {
            control.reply(at, &Reply::Replaced(line.clone()));
        }
    }
}
