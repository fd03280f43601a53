//! Maps and sets that are sorted vectors.
//!
//! For what an install makes at once or in order, then looks up and walks. Why not std's
//! trees: each kind of tree is compiled by itself, and together these are 34 KB of ARM64,
//! more than its budget can spare. What comes in order is added at the end;
//! what does not moves all that is behind it.

use std::borrow::Borrow;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// A map: a slice of pairs, sorted by their keys, no two of which are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(K, V)>", bound(deserialize = "K: Ord + Deserialize<'de>, V: Deserialize<'de>"))]
pub struct FlatMap<K, V>(Vec<(K, V)>);

impl<K: Ord, V> FlatMap<K, V> {
    fn find<Q: Ord + ?Sized>(&self, key: &Q) -> Result<usize, usize>
    where
        K: Borrow<Q>,
    {
        self.0.binary_search_by(|(other, _)| other.borrow().cmp(key))
    }

    /// What is under a key.
    pub fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &self.0[at].1)
    }

    /// What is under a key, to change.
    pub fn get_mut<Q: Ord + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        self.find(key).ok().map(|at| &mut self.0[at].1)
    }

    /// Whether there is something under a key.
    pub fn contains_key<Q: Ord + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.find(key).is_ok()
    }

    /// What is under this key and all behind it.
    pub fn starting_at<Q: Ord + ?Sized>(&self, key: &Q) -> &[(K, V)]
    where
        K: Borrow<Q>,
    {
        let at = self.find(key).unwrap_or_else(|at| at);
        &self.0[at..]
    }

    /// Puts something under a key, in place of what is there.
    pub fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// What is under a key, which is put there where nothing is.
    pub fn get_or_insert_with(&mut self, key: K, value: impl FnOnce() -> V) -> &mut V {
        let at = self.find(&key).unwrap_or_else(|at| {
            self.0.insert(at, (key, value()));
            at
        });
        &mut self.0[at].1
    }

    /// The values, in the order of their keys.
    pub fn values(&self) -> impl Iterator<Item = &V> {
        self.0.iter().map(|(_, value)| value)
    }

    /// The values, in the order of their keys, to change.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut V> {
        self.0.iter_mut().map(|(_, value)| value)
    }
}

impl<K, V> Default for FlatMap<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K, V> Deref for FlatMap<K, V> {
    type Target = [(K, V)];

    fn deref(&self) -> &[(K, V)] {
        &self.0
    }
}

/// Of pairs with the same key one is kept, and it is not said which.
impl<K: Ord, V> From<Vec<(K, V)>> for FlatMap<K, V> {
    fn from(mut pairs: Vec<(K, V)>) -> Self {
        pairs.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        pairs.dedup_by(|(a, _), (b, _)| a == b);
        Self(pairs)
    }
}

/// As [`From`].
impl<K: Ord, V> FromIterator<(K, V)> for FlatMap<K, V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        pairs.into_iter().collect::<Vec<_>>().into()
    }
}

impl<K, V> IntoIterator for FlatMap<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A set: a sorted slice without equals.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<T>", bound(deserialize = "T: Ord + Deserialize<'de>"))]
pub struct FlatSet<T>(Vec<T>);

impl<T: Ord> FlatSet<T> {
    /// Whether this is in it.
    pub fn contains<Q: Ord + ?Sized>(&self, item: &Q) -> bool
    where
        T: Borrow<Q>,
    {
        self.0.binary_search_by(|other| other.borrow().cmp(item)).is_ok()
    }

    /// This, where it is in it, and all behind it.
    pub fn starting_at<Q: Ord + ?Sized>(&self, item: &Q) -> &[T]
    where
        T: Borrow<Q>,
    {
        let at = self.0.partition_point(|other| other.borrow() < item);
        &self.0[at..]
    }

    /// Adds this, if it is not in it.
    pub fn insert(&mut self, item: T) {
        if let Err(at) = self.0.binary_search(&item) {
            self.0.insert(at, item);
        }
    }
}

impl<T> Default for FlatSet<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Deref for FlatSet<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T: Ord> From<Vec<T>> for FlatSet<T> {
    fn from(mut items: Vec<T>) -> Self {
        items.sort_unstable();
        items.dedup();
        Self(items)
    }
}

impl<T: Ord> FromIterator<T> for FlatSet<T> {
    fn from_iter<I: IntoIterator<Item = T>>(items: I) -> Self {
        items.into_iter().collect::<Vec<_>>().into()
    }
}

impl<T> IntoIterator for FlatSet<T> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn a_map_holds_what_a_tree_would_and_is_written_as_one() {
        let (mut map, mut tree) = (FlatMap::default(), BTreeMap::new());
        for number in [5u8, 3, 9, 3, 0, 7, 5] {
            map.insert(number.to_string(), number * 2);
            tree.insert(number.to_string(), number * 2);
        }
        assert_eq!((map.get("9"), map.get("4"), map.contains_key("0")), (Some(&18), None, true));
        assert!(map.iter().map(|(key, value)| (key, value)).eq(&tree));
        assert_eq!(FlatMap::from_iter(tree.clone().into_iter().rev()), map);

        let (mut mine, mut its) = ([0; 64], [0; 64]);
        let mine = postcard::to_slice(&map, &mut mine).unwrap();
        assert_eq!(mine, postcard::to_slice(&tree, &mut its).unwrap());
        assert_eq!(postcard::from_bytes::<FlatMap<String, u8>>(mine).unwrap(), map);

        assert_eq!(map.starting_at("7"), [("7".to_owned(), 14), ("9".to_owned(), 18)]);
        assert_eq!(map.starting_at("71"), [("9".to_owned(), 18)]);
        *map.get_mut("7").unwrap() = 1;
        *map.get_or_insert_with("8".to_owned(), || 2) += 1;
        *map.get_or_insert_with("9".to_owned(), || 2) += 1;
        map.values_mut().for_each(|value| *value += 1);
        assert!(map.values().eq(&[1, 7, 11, 2, 4, 20]));
        assert!(map.into_iter().map(|(key, _)| key).eq(["0", "3", "5", "7", "8", "9"]));
    }

    #[test]
    fn a_set_holds_each_once_in_order_and_is_written_as_a_tree() {
        let items = ["b", "a", "c", "a"];
        let (mut set, tree) = (FlatSet::from_iter(items), BTreeSet::from(items));
        assert!(set.iter().eq(&tree) && set.contains("b") && !set.contains("d"));
        let (mut mine, mut its) = ([0; 64], [0; 64]);
        assert_eq!(
            postcard::to_slice(&set, &mut mine).unwrap(),
            postcard::to_slice(&tree, &mut its).unwrap()
        );
        set.insert("bb");
        set.insert("a");
        assert_eq!(Vec::from_iter(set), ["a", "b", "bb", "c"]);
        assert_eq!(FlatSet::from_iter([4, 2]).starting_at(&3), [4]);
        // Out of order and twice: sorted nevertheless.
        assert_eq!(*postcard::from_bytes::<FlatSet<u8>>(&[3, 9, 1, 9]).unwrap(), [1, 9]);
    }
}
