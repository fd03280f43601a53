//! `tipc matrix`: the links between nodes, as each node's topology service reports them.
//!
//! A link has two ends, and a node knows only its own. So every node is queried, and links
//! that their ends report differently are marked.

use std::fmt::Write;

use super::net::{Names, all_there, refused};
use crate::cli::command::Invocation;
use crate::cli::exit::Failure;
use crate::cli::out::Out;
use crate::json::Value;
use crate::tipc::address::{LINK_STATE, NODE_STATE, NodeAddress};
use crate::tipc::socket::SocketError;

/// `thimble tipc matrix`
pub fn matrix(_: &Invocation, out: &mut Out) -> Result<(), Failure> {
    let names = Names::new()?;
    let nodes = all_there(0, NODE_STATE)?;
    if nodes.is_empty() {
        // The list would contain this node.
        return Err(refused(SocketError::NoBearer));
    }
    let nodes = nodes.into_iter().map(|node| node.found_lower).map(|address| {
        // A node that is cut off does not answer and is shown with `?`.
        let links = all_there(address, LINK_STATE).ok();
        (address, links.map(|links| links.iter().map(|link| link.found_lower).collect()))
    });
    let mut matrix = Matrix::new(nodes);
    matrix.name(|address| names.identity(address));
    out.text(matrix.text())?;
    out.json(|| matrix.json())?;
    Ok(())
}

/// A node and the links that it reports.
struct MatrixRow {
    address: u32,
    identity: String,
    /// The nodes at the other ends of its links, one entry for each link; `None` if the
    /// node does not answer.
    links: Option<Vec<u32>>,
}

/// All nodes, by identity.
struct Matrix {
    nodes: Vec<MatrixRow>,
}

impl Matrix {
    /// Makes the matrix from the nodes' reports. A node that is only named by others has
    /// a row too.
    fn new(said: impl Iterator<Item = (u32, Option<Vec<u32>>)>) -> Self {
        let node = |(address, links)| MatrixRow { address, identity: String::new(), links };
        let mut nodes: Vec<MatrixRow> = said.map(node).collect();
        let named: Vec<u32> = nodes.iter().flat_map(|node| node.links.iter().flatten().copied()).collect();
        for address in named {
            if !nodes.iter().any(|node| node.address == address) {
                nodes.push(node((address, None)));
            }
        }
        Self { nodes }
    }

    /// Sets the nodes' identities, and sorts by them.
    fn name(&mut self, identity: impl Fn(u32) -> String) {
        for node in &mut self.nodes {
            node.identity = identity(node.address);
        }
        self.nodes.sort_unstable_by(|a, b| (&a.identity, a.address).cmp(&(&b.identity, b.address)));
    }

    /// The cell for a node's links to another: their number.
    fn cell(&self, node: &MatrixRow, of: &MatrixRow) -> String {
        match &node.links {
            _ if node.address == of.address => ".".to_owned(),
            None => "?".to_owned(),
            Some(links) => match links.iter().filter(|link| **link == of.address).count() {
                0 => "-".to_owned(),
                1 => "x".to_owned(),
                several => several.to_string(),
            },
        }
    }

    /// Links that one end reports and the other end, which has answered, does not.
    fn one_sided(&self) -> impl Iterator<Item = (&MatrixRow, &MatrixRow)> {
        let pairs = self.nodes.iter().flat_map(|from| self.nodes.iter().map(move |to| (from, to)));
        pairs.filter(|(from, to)| {
            let names = |one: &MatrixRow, other: &MatrixRow| {
                one.links.as_ref().map(|links| links.contains(&other.address))
            };
            names(from, to) == Some(true) && names(to, from) == Some(false)
        })
    }

    fn text(&self) -> String {
        let wide = self.nodes.len().to_string().len();
        let mut text = " ".repeat(wide + 1);
        for number in 1..=self.nodes.len() {
            let _ = write!(text, " {number:>wide$}");
        }
        text.push('\n');
        for (index, node) in self.nodes.iter().enumerate() {
            let _ = write!(text, "{:>wide$} ", index + 1);
            for other in &self.nodes {
                let _ = write!(text, " {:>wide$}", self.cell(node, other));
            }
            let line = format!("  {} {}", NodeAddress(node.address), node.identity);
            let _ = writeln!(text, "{}", line.trim_end());
        }
        text.push_str("\nx one link (2: two), - none, ? unknown: that node does not answer\n");
        for (from, to) in self.one_sided() {
            let (from, to) = (called(from), called(to));
            let _ = writeln!(text, "{to} has no link to {from}, which has one to it");
        }
        text
    }

    fn json(&self) -> Value {
        let address = |node: u32| Value::text(NodeAddress(node));
        let links = |links: &Vec<u32>| Value::list(links.iter().map(|node| address(*node)));
        let nodes = self.nodes.iter().map(|node| {
            Value::object([
                ("node", address(node.address)),
                ("identity", Value::text(&node.identity)),
                ("links", Value::or_null(node.links.as_ref().map(links))),
            ])
        });
        let one_sided = self
            .one_sided()
            .map(|(from, to)| Value::object([("from", address(from.address)), ("to", address(to.address))]));
        Value::object([("nodes", Value::list(nodes)), ("one_sided", Value::list(one_sided))])
    }
}

/// A node's identity, or its address without one.
fn called(node: &MatrixRow) -> String {
    match node.identity.as_str() {
        "" => NodeAddress(node.address).to_string(),
        identity => identity.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matrix(said: &[(u32, Option<&[u32]>)]) -> Matrix {
        let said = said.iter().map(|(node, links)| (*node, links.map(<[u32]>::to_vec)));
        let mut matrix = Matrix::new(said);
        matrix.name(|node| ["", "c", "b", "a"].get(node as usize).unwrap_or(&"").to_string());
        matrix
    }

    #[test]
    fn a_full_mesh_is_drawn_in_the_order_of_its_names() {
        let full = matrix(&[(1, Some(&[2, 3])), (2, Some(&[1, 3])), (3, Some(&[1, 2]))]);
        let expected = "   1 2 3
1  . x x  00000003 a
2  x . x  00000002 b
3  x x .  00000001 c

x one link (2: two), - none, ? unknown: that node does not answer
";
        assert_eq!(full.text(), expected);
    }

    #[test]
    fn one_sided_links_are_marked_and_nodes_only_named_have_a_row() {
        let torn = matrix(&[(1, Some(&[2, 2, 9])), (2, Some(&[])), (3, None)]);
        let expected = "   1 2 3 4
1  . ? ? ?  00000009
2  ? . ? ?  00000003 a
3  - - . -  00000002 b
4  x - 2 .  00000001 c

x one link (2: two), - none, ? unknown: that node does not answer
b has no link to c, which has one to it
";
        assert_eq!(torn.text(), expected);
        assert_eq!(
            torn.json().to_string(),
            r#"{"nodes":[{"node":"00000009","identity":"","links":null},{"node":"00000003","identity":"a","links":null},{"node":"00000002","identity":"b","links":[]},{"node":"00000001","identity":"c","links":["00000002","00000002","00000009"]}],"one_sided":[{"from":"00000001","to":"00000002"}]}"#
        );
    }

    #[test]
    fn ten_nodes_keep_their_columns_apart() {
        let links: Vec<u32> = (1..=10).collect();
        let all: Vec<_> = links.iter().map(|node| (*node, Some(links.as_slice()))).collect();
        let text = matrix(&all).text();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "     1  2  3  4  5  6  7  8  9 10");
        assert!(lines[10].starts_with("10   x  x  x  x  x  x  x  x  x  .  "), "{}", lines[10]);
    }
}
